"""Rows that features did not count are told once in ``edgecore.late``, whatever comes between."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from edgecore.device.late import ROWS_MAX, LateRows
from edgecore.errors import Exhausted
from edgecore.features import AHEAD, LATE, FeatureView
from edgecore.log import Log
from edgecore.streams import LATE as LATE_STREAM

pytest.importorskip("flatbuffers")
sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
world: Any = importlib.import_module("pipeline_world")

SECOND = 10**9
START = 1_700_000_000 * SECOND


class Told:
    """In the place of what serves: gives what it is given."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int, str]] = []

    def take_set_aside(self) -> tuple[str, list[tuple[int, int, int, int, str]]]:
        rows, self.rows = self.rows, []
        return "health", rows


def late_log(tmp_path: Path) -> Log:
    return Log.open(str(tmp_path / "log"), schemas=[LATE_STREAM], flusher="manual")


def rows_of(log: Log) -> list[dict[str, Any]]:
    return [row for scanned in log.scan(LATE_STREAM.stream) for row in scanned]


def test_late_rows_are_told_once_also_after_a_restart(tmp_path: Path) -> None:
    served = Told()
    with late_log(tmp_path) as log:
        late: Any = LateRows(log, served, "d1")  # type: ignore[arg-type]
        served.rows = [(5, START, 7, LATE, "telemetry"), (9, START + 1, 8, AHEAD, "weather")]
        late.tell()
        late.tell()
    with late_log(tmp_path) as log:
        late = LateRows(log, served, "d1")  # type: ignore[arg-type]
        served.rows = [
            (5, START, 7, LATE, "telemetry"), (9, START + 1, 8, AHEAD, "weather"),
            (12, START, 9, LATE, "telemetry"),
        ]  # fmt: skip
        late.tell()
        told = rows_of(log)
    assert [(row["position"], row["kind"], row["by"]) for row in told] == [
        (5, "late", 7), (9, "ahead", 8), (12, "late", 9),
    ]  # fmt: skip
    assert told[0]["event_time"] == START
    assert told[1]["stream"] == "weather"
    assert (told[0]["stream"], told[0]["view"], told[0]["source"]) == ("telemetry", "health", "d1")


def test_a_flood_of_late_rows_is_counted_and_not_written_one_by_one(tmp_path: Path) -> None:
    served = Told()
    with late_log(tmp_path) as log:
        late = LateRows(log, served, "d1")  # type: ignore[arg-type]
        served.rows = [(i + 1, START, 1, 1 + i % 2, "telemetry") for i in range(ROWS_MAX + 1000)]
        late.tell()
        told = rows_of(log)
    assert len(told) == ROWS_MAX + 2
    assert sum(row["count"] or 1 for row in told) == ROWS_MAX + 1000


def test_late_rows_wait_for_a_log_that_is_full(tmp_path: Path, monkeypatch: Any) -> None:
    served = Told()
    with late_log(tmp_path) as log:
        late = LateRows(log, served, "d1")  # type: ignore[arg-type]
        served.rows = [(5, START, 7, LATE, "telemetry")]
        append = log.append

        def full(*_: Any) -> Any:
            raise Exhausted("no room")

        monkeypatch.setattr(log, "append", full)
        with pytest.raises(Exhausted):
            late.tell()
        monkeypatch.setattr(log, "append", append)
        late.tell()
        assert [row["position"] for row in rows_of(log)] == [5]


def test_a_row_of_a_clock_that_jumps_is_not_judged_and_makes_no_good_one_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = world.view()
    view = FeatureView(
        "guarded", entity="pump", source="telemetry", lateness="5s", max_ahead="5m",
        features=plain.specs,
    )  # fmt: skip
    monkeypatch.setattr(world, "view", lambda: view)
    device = world.Device()
    device.pipeline.set_role("active", world.release())
    rows = [{**row, "time": START + i * SECOND} for i, row in enumerate(world.readings(60, 1))]
    jumped = {**rows[49], "time": rows[49]["time"] + 86_400 * SECOND}
    found = device.pipeline.process([*rows[:50], jumped, *rows[50:]])
    assert found.verdict[50] == 2  # not judged
    assert 2 not in list(found.verdict)[51:]
    aside = device.pipeline.take_set_aside()
    assert [(one[1], one[2], one[3]) for one in aside] == [
        (jumped["time"], 86_400 * SECOND, AHEAD)
    ]  # fmt: skip
    assert device.pipeline.take_set_aside() == []
    assert device.pipeline.counters["late"] == 1
