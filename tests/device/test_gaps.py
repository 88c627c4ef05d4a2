"""Gaps of a device: what is known to be missing is told before the row that came behind it, lowers
coverage by exactly that, and comes out the same in every replay. Nothing sleeps."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.device.test_agent import Site

import edgecore as ec
from edgecore.clock import ManualClock
from edgecore.device.gaps import HOLES_MAX, Gaps
from edgecore.device.timekeeper import SETS_MAX, Timekeeper
from edgecore.errors import Exhausted, Invalid
from edgecore.feature_backfill import backfill
from edgecore.feature_gaps import gaps_of_log
from edgecore.feature_parity import parity, read_log
from edgecore.features import FeatureStore
from edgecore.fs import MemoryFs
from edgecore.log import Log
from edgecore.schema import Field, Schema
from edgecore.streams import CLOCK, GAP, LOSSES

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
NOW = 1_760_000_000 * SECOND
PUMP = Schema("pump", tier="bulk", fields=[Field("temp", "decimal(1)", range=(-40, 150))])
VIEW = ec.FeatureView("health", entity="", source="pump", lateness="10s", features=[
    ec.Agg("temp", ["count", "mean"], window=["1m", "10m"]),
    ec.Agg("temp", "max", window="10m", min_coverage=0.8)])  # fmt: skip


class Desk:
    """One open of a device's log, and its gaps."""

    def __init__(self, fs: MemoryFs | None = None, **how: Any) -> None:
        self.fs = fs or MemoryFs()
        self.clock = ManualClock(NOW)
        self.log = Log.open("log", fs=self.fs, clock=self.clock, flusher="manual",
                            schemas=[PUMP, GAP, LOSSES, CLOCK])  # fmt: skip
        self.jumps: list[tuple[int, int]] = []
        self.gaps = Gaps(self.log, PUMP, "d1", self.clock, jumps=self._jumped, **how)

    def _jumped(self) -> list[tuple[int, int]]:
        out, self.jumps = self.jumps, []
        return out

    def take(self, rows: Any) -> None:
        self.log.append("pump", self.gaps.before(rows))
        self.gaps.taken()

    def told(self) -> list[dict[str, Any]]:
        return [row for scanned in self.log.scan(GAP.stream) for row in scanned]

    def spans(self) -> list[tuple[str, float, float]]:
        """(kind, begin, end), seconds from NOW."""
        return [(row["kind"], (row["begin"] - NOW) / SECOND, (row["end"] - NOW) / SECOND)
                for row in self.told()]  # fmt: skip

    def coverage(self, view: ec.FeatureView, seconds: float) -> dict[str, float]:
        """As a store says it that has followed the log."""
        store = FeatureStore.open("features", views=[view], schemas=[PUMP], fs=MemoryFs())
        follow(store, self.log)
        reading = store.read(view, "", as_of=at(seconds))
        return dict(zip(view.names, reading.coverage, strict=True))


def follow(store: FeatureStore, log: Log) -> None:
    """Rows and gaps of a log in order of position."""
    steps: list[tuple[int, dict[str, Any]]] = []
    for stream in ("pump", GAP.stream):
        for scanned in log.scan(stream):
            steps += enumerate(scanned.rows(), scanned.position)
    for position, row in sorted(steps, key=lambda step: step[0]):
        if "temp" in row:
            store.update("pump", row, position)
        elif row["begin"] < row["end"]:
            store.gap("pump", row["begin"], row["end"], position)


def at(seconds: float) -> int:
    return NOW + int(seconds * SECOND)


def row(seconds: float, sequence: int = 0, source: str = "s") -> dict[str, Any]:
    return {"time": at(seconds), "source": source, "source_seq": sequence, "temp": 20.5}


def test_gaps_a_device_that_was_off_for_an_hour_knows_that_much_less() -> None:
    desk = Desk()
    for second in range(0, 1201, 5):
        desk.take(row(second))
    assert desk.told() == []
    before = desk.coverage(VIEW, 1200)
    assert set(before.values()) == {1.0}
    desk.log.close()
    again = Desk(desk.fs)
    for second in range(1200 + 3600, 1200 + 3600 + 301, 5):
        again.take(row(second))
        if second == 5000:
            assert again.coverage(VIEW, 5000)["temp_mean_10m"] == 200 / 600
    assert again.spans() == [("off", 1200, 4800)]
    assert (again.told()[0]["stream"], again.told()[0]["source"]) == ("pump", "d1")
    found = again.coverage(VIEW, 5100)
    assert found["temp_count_1m"] == 1.0  # the window has left it
    assert found["temp_count_10m"] == found["temp_max_10m"] == 0.5  # 300 of 600 s


def test_gaps_a_sequence_that_goes_on_over_a_restart_is_none() -> None:
    desk = Desk()
    desk.take([row(second, second + 1) for second in range(10)])
    desk.log.close()
    again = Desk(desk.fs)
    again.take(row(4000, 11))
    again.log.close()
    third = Desk(desk.fs)
    third.take([row(8000, 13), row(8001, 14)])  # one is missing
    assert third.spans() == [("off", 4000, 8000)]


def test_gaps_a_sequence_says_nothing_where_there_are_several_sources() -> None:
    desk = Desk()
    desk.take([row(0, 1, "a"), row(1, 1, "b")])
    desk.log.close()
    again = Desk(desk.fs)
    again.take(row(100, 2, "b"))
    assert again.spans() == [("off", 1, 100)]


def test_gaps_a_source_silent_beyond_its_heartbeat_is_told_once_it_speaks() -> None:
    desk = Desk(heartbeat_ns=30 * SECOND)
    desk.take([row(0), row(30), row(61), row(62)])
    desk.take({"temp": 1.0, "time": at(200)})
    desk.take([row(150), row(210)])  # late: nothing is new of it
    assert desk.spans() == [("silent", 30, 61), ("silent", 62, 200)]
    quiet = Desk()
    quiet.take([row(0), row(5000)])
    assert quiet.told() == []  # nothing is declared


def test_gaps_a_clock_set_forward_leaves_a_span_that_no_row_has() -> None:
    desk = Desk()
    keeper = Timekeeper(desk.log, desk.clock, "d1", (0, 0, 0), lambda: None, lambda: 0)
    keeper.poll()
    desk.take({"temp": 1.0})
    desk.clock.advance(10 * SECOND)
    desk.clock.jump_wall(desk.clock.wall_ns() + HOUR)
    keeper.poll()
    desk.jumps = keeper.take_jumps()
    desk.take({"temp": 2.0})
    assert desk.spans() == [("clock", 10, 3610)]
    assert keeper.take_jumps() == []
    desk.clock.jump_wall(desk.clock.wall_ns() - HOUR)  # back: every time may have been seen
    keeper.poll()
    assert keeper.take_jumps() == []
    for jump in range(100):  # more than are written down
        desk.clock.advance(SECOND)
        desk.clock.jump_wall(desk.clock.wall_ns() + HOUR)
        keeper.poll()
        del jump
    jumps = keeper.take_jumps()
    assert len(jumps) == SETS_MAX
    assert jumps[-1][1] == desk.clock.wall_ns()
    assert jumps[0][0] == at(11)


@pytest.mark.parametrize("reason", ["lost", "dropped", "expired", "purged", "thinned"])
def test_gaps_rows_that_went_between_others_are_told_and_those_at_an_end_not(reason: str) -> None:
    desk = Desk()
    for second in range(30):
        desk.take(row(second))
    partition = desk.log.register(PUMP)
    behind = next(desk.log.scan("pump", after=(partition, 16))).position

    def went(first: int, last: int) -> None:
        desk.log.append(LOSSES.stream, {"partition": partition, "first": first, "last": last,
                                        "reason": reason})  # fmt: skip

    went(1, 4)  # from the front
    went(11, 15)
    went(16, 16)  # goes on
    went(29, 40)  # at the end
    hide = [*range(1, 5), *range(11, 17), *range(29, 41)]
    desk.log.scan = without(desk.log.scan, hide)  # type: ignore[method-assign]
    desk.gaps.tell_losses()
    desk.gaps.tell_losses()
    assert desk.spans() == [(reason, 9, 16)]
    told = desk.told()[0]
    assert told["through"] == behind - 1
    assert told["told"] == desk.log.position - 2
    again = Gaps(desk.log, PUMP, "d1", desk.clock)
    again.tell_losses()
    assert len(desk.told()) == 1


class Without:
    """Scanned rows less those with some sequences, which stand at its edges."""

    def __init__(self, real: Any, first: int, count: int) -> None:
        self.real, self.first, self.count = real, first, count
        self.partition = real.partition
        self.position = real.position + first - real.first
        self.batch = self

    def column(self, name: str) -> Any:
        begin = self.first - self.real.first
        return self.real.batch.column(name)[begin : begin + self.count]


def without(scan: Any, hide: list[int]) -> Any:
    def hidden(stream: str, **how: Any) -> Any:
        for real in scan(stream, **how):
            if stream != "pump":
                yield real
                continue
            for first in range(real.first, real.first + real.count):
                if first not in hide:
                    yield Without(real, first, 1)

    return hidden


def test_gaps_many_holes_become_one_rather_than_many_rows() -> None:
    desk = Desk()
    count = 2 * HOLES_MAX + 40
    desk.take([row(second) for second in range(count)])
    partition = desk.log.register(PUMP)
    losses = [{"partition": partition, "first": at, "last": at, "reason": "thinned"}
              for at in range(2, count, 2)]  # fmt: skip
    desk.log.append(LOSSES.stream, losses)
    desk.log.scan = without(desk.log.scan, list(range(2, count, 2)))  # type: ignore[method-assign]
    desk.gaps.tell_losses()
    spans = desk.spans()
    assert len(spans) == HOLES_MAX
    assert (spans[0][1], spans[-1][2]) == (0, count - 2)


def test_gaps_burnt_numbers_are_no_rows_that_went() -> None:
    desk = Desk()
    desk.take([row(second) for second in range(10)])
    partition = desk.log.register(PUMP)
    for reason in ("burnt", "uncertain"):
        desk.log.append(LOSSES.stream, {"partition": partition, "first": 4, "last": 5,
                                        "reason": reason})  # fmt: skip
    desk.gaps.tell_losses()
    assert desk.told() == []


def test_gaps_that_a_log_does_not_take_are_owed_and_told_once(monkeypatch: Any) -> None:
    desk = Desk(heartbeat_ns=30 * SECOND)
    desk.take(row(0))
    append = desk.log.append
    full = {GAP.stream, "pump"}

    def refuse(stream: str, rows: Any) -> Any:
        if stream in full:
            raise Exhausted("no room")
        return append(stream, rows)

    monkeypatch.setattr(desk.log, "append", refuse)
    desk.jumps = [(at(10), at(20))]
    for _ in range(3):
        with pytest.raises(Exhausted):
            desk.take(row(100))
    full.discard(GAP.stream)  # another tier has room again
    for _ in range(3):
        with pytest.raises(Exhausted):
            desk.take(row(100))
    assert desk.spans() == [("clock", 10, 20), ("silent", 0, 100)]
    full.clear()
    desk.take(row(100))
    desk.take(row(140))
    assert desk.spans()[2:] == [("silent", 100, 140)]
    with pytest.raises(Invalid):
        desk.take({"temp": "warm", "time": at(500)})
    assert len(desk.told()) == 3


def test_gaps_a_crash_between_a_gap_and_its_row_tells_the_longer_span_once_more() -> None:
    desk = Desk()
    desk.take([row(second) for second in range(0, 1201, 5)])
    desk.log.close()
    again = Desk(desk.fs)
    again.gaps.before(row(2000))  # and the power goes
    again.log.close()
    third = Desk(desk.fs)
    third.take(row(2100))
    assert third.spans() == [("off", 1200, 2000), ("off", 1200, 2100)]
    # Up to the last row the two count once.
    assert third.coverage(VIEW, 2100)["temp_count_10m"] == 0
    third.take([row(second) for second in range(2105, 2401, 5)])
    assert third.coverage(VIEW, 2400)["temp_count_10m"] == 0.5


@pytest.mark.parametrize("round", range(8))
def test_gaps_every_path_over_a_log_with_gaps_gives_the_same_bits(round: int, seed: int) -> None:
    """Stream, batch, restores and cuts; and a store that follows rows and gaps as they stand."""
    chance = random.Random(seed + round)
    fs = MemoryFs()
    second = 0.0
    for _ in range(chance.randint(2, 5)):  # each open of the device
        desk = Desk(fs, heartbeat_ns=chance.choice((0, 40 * SECOND)))
        for _ in range(chance.randint(1, 60)):
            second += chance.choice((1, 5, 5, 5, 20, 90, 700))
            late = chance.choice((0, 0, 0, 3, 15))
            desk.take([{**row(second - late), "temp": chance.randint(0, 500) / 10}])
            if chance.randrange(15) == 0:
                desk.log.append(GAP.stream, hostile(chance))
        second += chance.choice((0.1, 50, 4000))
        desk.log.close()
    log = Desk(fs).log
    rows = read_log(log, PUMP, "pump")
    gaps = gaps_of_log(log, "pump")
    assert gaps
    report = parity(VIEW, rows, PUMP, points=max(1, min(12, len(rows) - 1)), gaps=gaps)
    assert report.bits == 0
    found = backfill(VIEW, rows, schema=PUMP, known="ingest", gaps=gaps)
    store = FeatureStore.open("features", views=[VIEW], schemas=[PUMP], fs=MemoryFs())
    steps: list[tuple[int, str, dict[str, Any]]] = []
    for stream in ("pump", GAP.stream):
        for scanned in log.scan(stream):
            steps += ((scanned.position + i, stream, one) for i, one in enumerate(scanned.rows()))
    number = 0
    for position, stream, one in sorted(steps, key=lambda step: step[0]):
        if stream == GAP.stream:
            if one["stream"] == "pump" and one["begin"] < one["end"]:
                store.gap("pump", one["begin"], one["end"], position)
            continue
        aside = store.late_rows
        store.update("pump", one, position)
        if store.late_rows == aside:
            want = store.read(VIEW, "", as_of=one["time"])
            width = len(VIEW.names)
            part = slice(number * width, (number + 1) * width)
            assert found.values[part].tobytes() == want.values.tobytes()
            assert found.states[part] == want.states
        number += 1
        if chance.randrange(5) == 0:  # a restart
            store.snapshot()


def hostile(chance: random.Random) -> dict[str, Any]:
    """Rows that say nothing, or something impossible."""
    low, high = -(1 << 63), (1 << 63) - 1
    begin, end = chance.choice([(at(5), at(1)), (high, low), (low, low), (high, high), (low, 1),
                                (high - 1, high), (0, 0)])  # fmt: skip
    return {"stream": chance.choice(["pump", "", "other"]), "begin": begin, "end": end,
            "kind": chance.choice(["off", "", "?"])}  # fmt: skip


def test_gaps_of_a_whole_device_that_was_set_forward_crashed_and_stayed_off(
    tmp_path: Path, seed: int
) -> None:
    site = Site(tmp_path)
    (tmp_path / "edge.toml").write_text(
        '[device]\nname = "pump-7"\n[source]\nkind = "host"\ninterval = "1s"\nheartbeat = "30s"\n'
    )

    def spans() -> list[tuple[str, int]]:
        """(kind, whole seconds) of all gaps."""
        assert site.device is not None
        rows = [row for scanned in site.device.log.scan(GAP.stream) for row in scanned]
        return [(row["kind"], (row["end"] - row["begin"]) // SECOND) for row in rows]

    site.run(20.0)
    assert spans() == []
    site.clock.jump_wall(site.clock.wall_ns() + HOUR)
    site.run(20.0)
    assert spans()[0] == ("clock", 3600)
    assert spans()[1:] == [("silent", 3601)]  # the same span, from the last row on
    assert site.device is not None
    site.device.log.sync()
    site.crash(seed)
    site.clock.advance(2 * HOUR)
    site.run(10.0)
    assert [(kind, seconds // 10) for kind, seconds in spans()[2:]] == [("off", 720)]
    assert site.device.status()["errors"] == {}
    site.close()


def test_gaps_before_rows_that_others_append_are_told_too(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "edge.toml").write_text(
        '[device]\nname = "pump-7"\n[source]\nkind = "none"\nschema = "pump.toml"\n'
        'heartbeat = "1m"\n'
    )
    with site.open() as device:
        device.append("pump", {"time": NOW, "temp": 1.0})
        device.append("pump", [{"time": NOW + 600 * SECOND, "temp": 2.0}])
        rows = [row for scanned in device.log.scan(GAP.stream) for row in scanned]
        assert [(row["kind"], row["begin"], row["end"]) for row in rows] == [
            ("silent", NOW, NOW + 600 * SECOND)
        ]
        with pytest.raises(Invalid):
            device.append("pump", {"time": NOW, "temp": 900.0})
    site.close()
