"""The acceptance of the detection method on real data: a machine's temperature before it failed,
and the other series of the Numenta Anomaly Benchmark under the same settings."""

from __future__ import annotations

import csv
import statistics
import time as clock
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fitting import judged

from edgecore import learning
from edgecore._core.rows import Batch
from edgecore.cli.evaluate import evaluate, load_windows, nanoseconds
from edgecore.schema import Field, Schema

MACHINE = "nab/data/realKnownCause/machine_temperature_system_failure.csv"
LABELS = "nab/labels/combined_windows.json"
OTHERS = (
    "nab/data/realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv",
    "nab/data/realAWSCloudwatch/ec2_cpu_utilization_825cc2.csv",
    "nab/data/realAWSCloudwatch/ec2_disk_write_bytes_1ef3de.csv",
    "nab/data/realAWSCloudwatch/ec2_network_in_257a54.csv",
    "nab/data/realKnownCause/ec2_request_latency_system_failure.csv",
)
SHARE = 0.15


def schema_of(rows: list[tuple[int, str]]) -> Schema:
    """As many digits as the file has, at most 8; as wide a range as leaves std exact."""
    digits = min(8, max(len(text.partition(".")[2]) for _, text in rows))
    bound = float(4 * 10 ** (15 - digits))
    field = Field("value", f"decimal({digits})", range=(-bound, bound))
    return Schema("nab", tier="bulk", fields=[field])


def series(path: Path) -> list[tuple[int, str]]:
    with path.open(newline="") as handle:
        rows = [(nanoseconds(row["timestamp"]), row["value"]) for row in csv.DictReader(handle)]
    return sorted(rows, key=lambda row: row[0])


def batch(rows: list[tuple[int, str]], schema: Schema) -> Batch:
    out = Batch(schema)
    for line, (time, value) in enumerate(rows, 2):
        out.append_text([value], time, "csv", line)
    return out


def detected(path: Path, labels: Path) -> dict[str, Any]:
    """Fit on the first 15 % without labelled windows, judge the rest causally, evaluate."""
    rows = series(path)
    schema = schema_of(rows)
    first = int(len(rows) * SHARE)
    windows = load_windows(str(labels), path.name)
    view = learning.detection_view(schema, learning.median_interval(t for t, _ in rows[:first]))
    bundle = learning.fit(view, schema, batch(rows[:first], schema), exclude=windows)
    decisions = judged(bundle, batch(rows, schema), first, schema)
    return evaluate(
        [time for time, _ in rows],
        [float(value) for _, value in rows],
        [2] * first + [verdict for _, verdict, _ in decisions],
        [0] * first + [episode for _, _, episode in decisions],
        windows,
    )


def test_real_machine_temperature_meets_the_acceptance(data_file: Callable[[str], Path]) -> None:
    found = detected(data_file(MACHINE), data_file(LABELS))
    ours = found["ours"]
    assert found["windows"] == 3
    assert ours.hit >= 2
    assert ours.precision >= 3 * found["random"].precision
    assert ours.precision > found["z_score"].precision
    assert ours.false_episodes <= found["days"] / 5


def test_real_other_series_beat_chance_under_the_same_settings(
    data_file: Callable[[str], Path],
) -> None:
    found = [detected(data_file(name), data_file(LABELS)) for name in OTHERS]
    gains = [one["ours"].precision / one["base_rate"] for one in found]
    assert statistics.median(gains) >= 2, gains
    assert sum(one["ours"].hit for one in found) >= len(found)


def test_real_fit_is_quick_enough(data_file: Callable[[str], Path]) -> None:
    rows = series(data_file(MACHINE))[:3404]
    schema = schema_of(rows)
    data = batch(rows, schema)
    view = learning.detection_view(schema, 300 * 10**9)
    start = clock.process_time()
    learning.fit(view, schema, data)
    spent = clock.process_time() - start
    assert spent < 5.0, f"{spent:.2f} s"
