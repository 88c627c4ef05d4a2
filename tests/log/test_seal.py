"""Sealing through the Python face: what moves into packs is read, sent and accounted for as
before."""

from __future__ import annotations

import random
from typing import Any

import pytest

import edgecore as ec
from edgecore.clock import ManualClock
from edgecore.errors import Corrupt, Exhausted, Invalid
from edgecore.fs import MemoryFs
from edgecore.log import LOSSES, Log

TELEMETRY = ec.Schema(
    "telemetry",
    tier="bulk",
    fields=[
        ec.Field("pump", "category"),
        ec.Field("temp", "decimal(3)", unit="degC", range=(-40, 150)),
        ec.Field("load", "f64"),
        ec.Field("note", "utf8"),
    ],
)
ALARMS = ec.Schema("alarms", tier="critical", fields=[ec.Field("code", "i32", required=True)])
START = 1_700_000_000_000_000_000


def open_log(fs: MemoryFs, clock: ManualClock, **settings: Any) -> Log:
    return Log.open(
        "log", schemas=[TELEMETRY, ALARMS], fs=fs, flusher="manual", clock=clock,
        segment_bytes=32768, **settings,
    )  # fmt: skip


def fill(log: Log, clock: ManualClock, dice: random.Random, appends: int) -> None:
    for i in range(appends):
        rows = [
            {
                "pump": dice.choice(["p1", "p2", None]),
                "temp": round(dice.gauss(40, 5), 3),
                "load": dice.random() if dice.random() < 0.9 else None,
                "note": dice.choice(["", "läuft", "x" * 40]),
                "source": "test",
                "source_seq": i,
            }
            for _ in range(dice.randint(1, 30))
        ]
        log.append("telemetry", rows)
        if dice.random() < 0.1:
            log.append("alarms", {"code": dice.randint(-5, 5)})
        clock.advance(10_000_000)
        log.poll(clock.monotonic_ns())
    log.sync()


def everything(log: Log) -> list[Any]:
    found = [
        (scanned.partition, scanned.first + i, scanned.position + i, row)
        for scanned in log.scan()
        for i, row in enumerate(scanned.rows(exact=True))
    ]
    assert [item[2] for item in found] == sorted(item[2] for item in found)
    return found


def column(log: Log, name: str) -> list[str]:
    return [repr(value) for scanned in log.scan("telemetry") for value in scanned.column(name)]


def test_seal_moves_rows_that_are_read_and_sent_as_before(seed: int) -> None:
    fs, clock, dice = MemoryFs(), ManualClock(START), random.Random(seed)
    with open_log(fs, clock) as log:
        fill(log, clock, dice, 400)
        before, size = everything(log), log.data_bytes
        runs = [(r.first, r.count, r.digest) for r in log.runs(2, 0, 1 << 30)]
        temps = column(log, "temp")
        assert log.seal() > len(before) / 2
        assert log.data_bytes < size / 2
        assert everything(log) == before
        assert [(r.first, r.count, r.digest) for r in log.runs(2, 0, 1 << 30)] == runs
        assert column(log, "temp") == temps
        assert log.seal() == 0
        fill(log, clock, dice, 100)
        assert log.seal(dense=True) > 0
        after = everything(log)
        assert after[: len(before)] == before
    with open_log(fs, clock) as log:
        assert everything(log) == after
        assert log.verify()[3] == []


def test_seal_on_a_full_disk_is_refused_and_leaves_everything(seed: int) -> None:
    fs, clock, dice = MemoryFs(), ManualClock(START), random.Random(seed)
    with open_log(fs, clock) as log:
        fill(log, clock, dice, 200)
        before = everything(log)
        fault = fs.inject("no_space", path_contains="pack-", skip=1, sticky=True)
        with pytest.raises(Exhausted):
            log.seal()
        assert fs.fired(fault) > 0
        fs.clear_faults()
        assert [name for name in fs.list("log") if name.startswith("pack-")] == []
        assert everything(log) == before
        assert log.seal() > 0
        assert everything(log) == before


def test_seal_says_what_damage_took_as_an_event(seed: int) -> None:
    fs, clock, dice = MemoryFs(), ManualClock(START), random.Random(seed)
    with open_log(fs, clock) as log:
        fill(log, clock, dice, 200)
        before = everything(log)
        with fs.open("log/wal-0000000000000001.seg", "read_write") as file:
            byte = file.read_at(4096 + 512 + 150, 1)
            file.write_at(4096 + 512 + 150, bytes([byte[0] ^ 1]))
        left = everything(log)
        assert len(left) < len(before)
        log.seal()
        told = [row for scanned in log.scan(LOSSES.stream) for row in scanned.rows()]
        gone = {(p, s) for p, s, _, _ in before} - {(p, s) for p, s, _, _ in left}
        assert {
            (row["partition"], s) for row in told for s in range(row["first"], row["last"] + 1)
        } == gone
        assert {row["reason"] for row in told} == {"lost"}


def test_seal_then_release_frees_packs_of_what_is_acknowledged(seed: int) -> None:
    fs, clock, dice = MemoryFs(), ManualClock(START), random.Random(seed)
    with open_log(fs, clock, retain_rows=0) as log:
        fill(log, clock, dice, 400)
        log.seal()
        before = everything(log)
        bulk = next(p for p, stream, _ in log.partitions() if stream == "telemetry")
        log.acknowledge(bulk, log.next_sequence(bulk) - 1)
        left = everything(log)
        assert {item[0] for item in before} == {item[0] for item in left}
        gone = log.released[bulk]
        assert gone > 0
        assert [i for i in before if i[0] != bulk or i[1] > gone] == left
        for partition, _, _ in log.partitions():
            log.acknowledge(partition, log.next_sequence(partition) - 1)
        assert [name for name in fs.list("log") if name.startswith("pack-")] == []


def test_columns_of_blocks_and_of_segments_are_those_of_a_scan(seed: int) -> None:
    fs, clock, dice = MemoryFs(), ManualClock(START), random.Random(seed)
    names = ("time", "source_seq", "temp", "load")
    with open_log(fs, clock) as log:
        fill(log, clock, dice, 300)

        def scanned(after: int, until: int) -> list[str]:
            batches = list(log.scan("telemetry", after=after, until=until))
            return [repr([x for b in batches for x in b.column(name)]) for name in names]

        def columns(after: int, until: int) -> list[str]:
            found = log.columns("telemetry", *names, after=after, until=until)
            assert list(found) == list(names)
            assert [view.format for view in found.values()] == ["q", "Q", "d", "d"]
            return [repr(list(view)) for view in found.values()]

        last = log.position
        cuts = [(0, last), (5, 5)]
        cuts += [(dice.randrange(last), dice.randrange(last)) for _ in range(8)]
        before = [columns(*cut) for cut in cuts]
        assert before == [scanned(*cut) for cut in cuts]
        log.seal()
        assert [columns(*cut) for cut in cuts] == before
        assert [scanned(*cut) for cut in cuts] == before
        fill(log, clock, dice, 50)
        log.seal(dense=True)
        whole = columns(0, log.position)
        assert whole == scanned(0, log.position)
        assert [columns(*cut) for cut in cuts] == before


def test_columns_of_texts_or_of_no_field_are_invalid(seed: int) -> None:
    fs, clock, dice = MemoryFs(), ManualClock(START), random.Random(seed)
    with open_log(fs, clock) as log:
        fill(log, clock, dice, 300)
        for _ in range(2):
            for wrong in ("note", "pump", "source", "speed"):
                with pytest.raises(Invalid):
                    log.columns("telemetry", "temp", wrong)
            log.seal()
        with pytest.raises(Invalid, match="no stream"):
            log.columns("nothing", "temp")


def test_scan_of_event_times_gives_those_rows_and_opens_no_other_pack(seed: int) -> None:
    fs, clock, dice = MemoryFs(), ManualClock(START), random.Random(seed)
    with open_log(fs, clock) as log:
        for n in range(400):  # out of order by up to a minute, in a day
            at = START + n * 200 * 10**9
            rows = [
                {"temp": 20.0, "load": dice.random(), "time": at + dice.randrange(60 * 10**9)}
                for _ in range(dice.randint(1, 40))
            ]
            log.append("telemetry", rows)
            log.append("alarms", {"code": n, "time": at})
        everything_ = [(p, s, row) for p, s, _, row in everything(log)]

        def wanted(first: int, last: int, stream: str | None) -> list[Any]:
            partitions = {p for p, name, _ in log.partitions() if stream in (None, name)}
            return [
                (p, s, row) for p, s, row in everything_
                if p in partitions and first <= row["time"] <= last
            ]  # fmt: skip

        def found(first: int, last: int, stream: str | None) -> list[Any]:
            return [
                (scanned.partition, scanned.first + i, row)
                for scanned in log.scan(stream, times=(first, last))
                for i, row in enumerate(scanned.rows(exact=True))
            ]

        spans = [(START, START + 86_400 * 10**9), (5, 10)]
        for _ in range(10):
            first = START + dice.randrange(80_000) * 10**9
            spans.append((first, first + dice.randrange(20_000) * 10**9))
        for sealed in (False, True):
            for span in spans:
                for stream in (None, "telemetry", "alarms"):
                    assert found(*span, stream) == wanted(*span, stream)
            if not sealed:
                log.seal()
        packs = [name for name in fs.list("log") if name.startswith("pack-")]
        fault = fs.inject("io_error", on="read", path_contains=packs[0], sticky=True)
        late = (START + 70_000 * 10**9, START + 80_000 * 10**9)
        assert found(*late, "telemetry") == wanted(*late, "telemetry")
        assert fs.fired(fault) == 0
        assert list(log.scan("alarms", times=(5, 10))) == []


def test_seal_reopened_after_a_crash_reads_no_pack(seed: int) -> None:
    fs, clock, dice = MemoryFs(), ManualClock(START), random.Random(seed)
    for _ in range(2):  # the second life finds what the first has burnt
        log = open_log(fs, clock)
        fill(log, clock, dice, 300)
        log.seal()
        before = everything(log)
        fs = fs.crash(seed)
    fault = fs.inject("io_error", on="read", path_contains="pack-", sticky=True)
    with open_log(fs, clock) as log:
        assert not log.recovery.clean
        assert fs.fired(fault) == 0
        fs.clear_faults()
        assert [item for item in everything(log) if item[0] != 1] == [
            item for item in before if item[0] != 1
        ]
        told = [row for scanned in log.scan(LOSSES.stream) for row in scanned.rows()]
        ranges = [(row["partition"], row["first"], row["last"]) for row in told]
        assert len(set(ranges)) == len(ranges) > 0


def test_seal_log_with_rows_of_a_later_build_opens_is_sealed_and_sends_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a way back to an older build, which can't read a stream's schema."""
    fs = MemoryFs()
    later = ec.Schema("later", tier="bulk", fields=[ec.Field("x", "f64")])
    known = ec.Schema("known", tier="bulk", fields=[ec.Field("x", "f64")])

    def open_log(*schemas: ec.Schema) -> ec.Log:
        return ec.Log.open("log", schemas=schemas, fs=fs, flusher="manual", segment_bytes=65536)

    def runs_of(log: ec.Log, stream: str) -> dict[int, bytes]:
        partition = next(p for p, name, _ in log.partitions() if name == stream)
        return {run.first: run.digest for run in log.runs(partition, 0, 1 << 24, blocks=True)}

    with open_log(known, later) as log:
        for i in range(3000):
            log.append("later" if i % 2 else "known", [{"x": float(i)}, {"x": i / 7}])
        before = [(s.partition, s.first, bytes(s.payload)) for s in log.scan()]
        log.sync()
        whole = runs_of(log, "later")
    read = ec.Schema.from_bytes

    def from_bytes(data: bytes) -> ec.Schema:
        if b"later" in data:
            raise Corrupt("schema: a dtype of a later build")
        return read(data)

    monkeypatch.setattr(ec.Schema, "from_bytes", from_bytes)
    with open_log(known) as log:
        assert "later" not in {schema.stream for schema in log.schemas()}
        for _ in range(2):
            log.core.rotate()
        assert log.seal() >= 6000
        assert runs_of(log, "later") == whole
        assert log.verify()[3] == []
        log.append("known", {"x": 1.0})
    monkeypatch.undo()
    with open_log(known, later) as log:
        rows = {(s.partition, s.first + i): row for s in log.scan() for i, row in enumerate(s)}
        assert sum(1 for row in rows.values() if "x" in row) == 6001
        assert runs_of(log, "later") == whole
        assert list(log.columns("later", "x")["x"])[:2] == [1.0, 1 / 7]
        assert {(p, first) for p, first, _ in before} <= set(rows)
