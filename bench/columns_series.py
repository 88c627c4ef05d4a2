"""The series of the `columns` rows: every NAB file where EDGECORE_DATA has them, else a generated
twin; six of the files interleaved; and this machine's own telemetry, recorded while the bench runs.

    python bench/columns_series.py EVENTS INTERVAL_MS

records that telemetry through the device's host source and prints it as JSON.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NAB = Path(os.environ.get("EDGECORE_DATA", "../shared/data")) / "nab" / "data"
MACHINE = "machine_temperature_system_failure"
SIX = {
    "ambient": "ambient_temperature_system_failure",
    "latency": "ec2_request_latency_system_failure",
    "ec2_cpu": "ec2_cpu_utilization_5f5533",
    "rds_cpu": "rds_cpu_utilization_cc0c53",
    "network": "ec2_network_in_257a54",
    "speed": "speed_6005",
}
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000


class Series:
    """Events of one schema: ``times`` (ns) and ``columns``, one value or None per event.

    ``single``: each event is an append call of its own at its own time, as a device logs what it
    samples; else one call brings all of them, as a file is read."""

    def __init__(
        self, times: list[int], columns: dict[str, list[Any]], dtypes: dict[str, str],
        single: bool = False,
    ) -> None:  # fmt: skip
        self.times, self.columns, self.dtypes, self.single = times, columns, dtypes, single

    def head(self, count: int) -> Series:
        columns = {name: values[:count] for name, values in self.columns.items()}
        return Series(self.times[:count], columns, self.dtypes, self.single)

    def __len__(self) -> int:
        return len(self.times)

    def category(self) -> str | None:
        """The column that names one of several interleaved series."""
        return next((name for name, dtype in self.dtypes.items() if dtype == "category"), None)

    def rows(self) -> list[dict[str, Any]]:
        values = zip(*self.columns.values(), strict=True)
        rows = [dict(zip(self.columns, row, strict=True)) for row in values]
        return [{"time": at} | row for at, row in zip(self.times, rows, strict=True)]


def paths() -> dict[str, Path]:
    return {path.stem: path for path in sorted(NAB.glob("*/*.csv"))}


def read(name: str) -> list[tuple[int, float]]:
    """(time ns, value), in order of the file."""
    with paths()[name].open(newline="") as file:
        return [
            (
                int(datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp())
                * 1_000_000_000,
                float(row["value"]),
            )
            for row in csv.DictReader(file)
        ]


def alone(points: list[tuple[int, float]]) -> Series:
    times, values = (list(column) for column in zip(*points, strict=True))
    return Series(times, {"value": values}, {"value": "f64"})


def six(by_time: bool) -> Series:
    """Six files with their starts moved to one instant: row i of each in turn, or all in order of
    time, as one gateway would log them."""
    series = {name: read(path) for name, path in SIX.items()}
    events = [
        (points[i][0] - points[0][0] + START_NS, name, points[i][1])
        for i in range(min(map(len, series.values())))
        for name, points in series.items()
    ]
    if by_time:
        events.sort(key=lambda event: event[0])
    times, names, values = (list(column) for column in zip(*events, strict=True))
    return Series(times, {"sensor": names, "value": values}, {"sensor": "category", "value": "f64"})


def twin() -> Series:
    """A walk of three decimals on a regular grid."""
    chance, value, points = random.Random(7), 70.0, []
    for i in range(10_000):
        value += chance.gauss(0, 0.5)
        points.append((START_NS + i * 300_000_000_000, round(value, 3)))
    return alone(points)


def stored() -> dict[str, Callable[[], Series]]:
    """name -> how it is made; the first has the goals of a lone sensor."""
    if not paths():
        return {"twin": twin}
    files = {name: (lambda name=name: alone(read(name))) for name in paths() if name != MACHINE}
    return {
        "nab1": lambda: alone(read(MACHINE)),
        "nab6": lambda: six(False),
        "nab6_by_time": lambda: six(True),
        **files,
    }


# ---------------------------------------------------------------- this machine


class Recording:
    """This machine's telemetry, gathered by a process of its own meanwhile."""

    def __init__(self, events: int, interval_ms: int) -> None:
        self.interval_ms = interval_ms
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(events), str(interval_ms)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def series(self) -> Series:
        text, _ = self.process.communicate()
        if self.process.returncode:
            raise RuntimeError("the host source could not be read")
        return Series(**json.loads(text), single=True)


def record(events: int, interval_ms: int) -> dict[str, Any]:
    """Rows of the host source; times to the millisecond, as the peers have them."""
    from edgecore._core.rows import Batch
    from edgecore.clock import SystemClock
    from edgecore.device.host import HostSource

    clock = SystemClock()
    source = HostSource(clock, interval_ns=interval_ms * MS)
    batch = Batch(source.schema.core)
    while source.counts.accepted < events:
        due = source.take(clock.monotonic_ns(), batch)
        time.sleep(max(0, due - clock.monotonic_ns()) / 1e9)
    rows = batch.rows(False)
    fields = [f for f in source.schema.fields if any(row[f.name] is not None for row in rows)]
    return {
        "times": [row["time"] // MS * MS for row in rows],
        "columns": {f.name: [row[f.name] for row in rows] for f in fields},
        "dtypes": {f.name: f.dtype_text for f in fields},
    }


if __name__ == "__main__":
    print(json.dumps(record(int(sys.argv[1]), int(sys.argv[2]))))
