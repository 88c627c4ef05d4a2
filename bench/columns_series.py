"""The series of the `columns` rows: NAB's where EDGECORE_DATA has them, else a generated twin."""

from __future__ import annotations

import csv
import os
import random
from datetime import UTC, datetime
from pathlib import Path

NAB = Path(os.environ.get("EDGECORE_DATA", "../shared/data")) / "nab" / "data"
MACHINE = "realKnownCause/machine_temperature_system_failure.csv"
SIX = {
    "ambient": "realKnownCause/ambient_temperature_system_failure.csv",
    "latency": "realKnownCause/ec2_request_latency_system_failure.csv",
    "ec2_cpu": "realAWSCloudwatch/ec2_cpu_utilization_5f5533.csv",
    "rds_cpu": "realAWSCloudwatch/rds_cpu_utilization_cc0c53.csv",
    "network": "realAWSCloudwatch/ec2_network_in_257a54.csv",
    "speed": "realTraffic/speed_6005.csv",
}
START_NS = 1_700_000_000_000_000_000

Row = tuple[int, str, float]  # time ns, sensor ("" where there is one alone), value


def read(name: str) -> list[tuple[int, float]]:
    """(time ns, value), in order of the file."""
    with (NAB / name).open(newline="") as file:
        return [
            (
                int(datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp())
                * 1_000_000_000,
                float(row["value"]),
            )
            for row in csv.DictReader(file)
        ]


def nab1() -> list[Row]:
    """Machine temperature."""
    return [(time, "", value) for time, value in read(MACHINE)]


def nab6() -> list[Row]:
    """Six series with their starts moved to one instant, row i of each in turn."""
    series = {name: read(path) for name, path in SIX.items()}
    return [
        (points[i][0] - points[0][0] + START_NS, name, points[i][1])
        for i in range(min(map(len, series.values())))
        for name, points in series.items()
    ]


def nab6_by_time() -> list[Row]:
    """The same in order of time, as one gateway would log them."""
    return sorted(nab6(), key=lambda row: row[0])


def twin() -> list[Row]:
    """A walk of three decimals on a regular grid."""
    chance, value, out = random.Random(7), 70.0, []
    for i in range(10_000):
        value += chance.gauss(0, 0.5)
        out.append((START_NS + i * 300_000_000_000, "", round(value, 3)))
    return out


SERIES = {"nab1": nab1, "nab6": nab6, "nab6_by_time": nab6_by_time}
if not NAB.is_dir():
    SERIES = {"twin": twin}
