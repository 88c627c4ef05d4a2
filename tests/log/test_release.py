"""Releasing acknowledged rows: what goes, what stays, and that every number stays accounted for."""

from __future__ import annotations

import random

import pytest

import edgecore as ec
from edgecore.clock import ManualClock
from edgecore.errors import Invalid
from edgecore.fs import MemoryFs
from edgecore.log import SCHEMAS, Log

PUMP = ec.Schema("pump", tier="bulk", fields=[ec.Field("rpm", "i32", required=True)])
ALARM = ec.Schema("alarm", tier="critical", fields=[ec.Field("code", "u8", required=True)])
SEGMENT = 20 * 1024


def open_log(fs: MemoryFs, **options: object) -> Log:
    settings: dict[str, object] = {
        "schemas": [PUMP, ALARM], "flusher": "manual", "segment_bytes": SEGMENT,
    }  # fmt: skip
    return Log.open("log", fs=fs, **{**settings, **options})  # type: ignore[arg-type]


def fill(log: Log, rows: int) -> None:
    for i in range(rows):
        log.append("alarm" if i % 10 == 9 else "pump", {"code": 1} if i % 10 == 9 else {"rpm": i})
        log.sync()


def acknowledge_all(log: Log) -> None:
    for partition, _, _ in log.partitions():
        log.acknowledge(partition, log.next_sequence(partition) - 1)


def accounted(log: Log) -> None:
    """Every sequence below a partition's head is released or read, but for burnt ones."""
    read = {partition: set() for partition, _, _ in log.partitions()}
    for scanned in log.scan():
        read[scanned.partition] |= set(range(scanned.first, scanned.first + scanned.count))
    ranges = log.recovery.ranges + log.recovery.burnt
    for partition, found in read.items():
        known = set(found)
        for one, first, last, _ in ranges:
            if one == partition:
                known |= set(range(first, last + 1))
        released = log.released.get(partition, 0)
        assert set(range(released + 1, log.next_sequence(partition))) <= known
        assert not found & set(range(released + 1))


def test_release_without_a_limit_keeps_everything() -> None:
    with open_log(MemoryFs()) as log:
        fill(log, 150)
        acknowledge_all(log)
        assert log.release() == 0
        assert (log.first_position, log.released) == (1, {})


def test_release_happens_as_the_cursor_moves_and_reopens_the_same() -> None:
    seed = 31
    rng = random.Random(seed)
    fs = MemoryFs()
    for life in range(6):
        log = open_log(fs, retain_rows=40)
        accounted(log)
        fill(log, rng.randrange(80, 160))
        acknowledge_all(log)
        accounted(log)
        assert log.verify()[3] == []
        assert log.first_position > life * 60, f"seed {seed}"
        assert log.position - log.first_position >= 40
        assert len(fs.list("log")) < 16
        if rng.random() < 0.5:
            log.close()
        else:
            fs = fs.crash(life)
    with open_log(fs, retain_rows=40) as log:
        accounted(log)
    with open_log(fs, read_only=True) as log:
        accounted(log)
        partition = next(p for p, stream, _ in log.partitions() if stream == "pump")
        assert next(iter(log.scan("pump", after=0))).position >= log.first_position
        assert log.runs(partition, 0, 10**6)[0].first == log.released[partition] + 1


def test_release_waits_for_every_cursor() -> None:
    with open_log(MemoryFs(), retain_bytes=0) as log:
        slow = log.cursor("slow")
        fill(log, 200)
        acknowledge_all(log)
        assert log.first_position == 1
        slow.ack("pump", 60)
        assert log.first_position == 1  # the other partitions are not acknowledged
        for partition, _, _ in log.partitions():
            slow.ack(partition, log.next_sequence(partition) - 1)
        assert log.first_position > 100


def test_release_waits_for_a_cursor_of_an_earlier_life() -> None:
    fs = MemoryFs()
    with open_log(fs) as log:
        log.cursor("slow").ack("pump", 0)
        log.cursor("slow")
    with open_log(fs, retain_bytes=0) as log:
        fill(log, 200)
        acknowledge_all(log)
        assert log.first_position == 1


def test_release_keeps_by_age() -> None:
    clock = ManualClock(1_700_000_000_000_000_000)
    with open_log(MemoryFs(), retain_ns=3_600_000_000_000, clock=clock) as log:
        fill(log, 150)
        acknowledge_all(log)
        assert log.first_position == 1
        clock.advance(3_601_000_000_000)
        assert log.release() > 0


def test_release_up_to_a_position_only() -> None:
    with open_log(MemoryFs(), retain_bytes=10**9) as log:
        fill(log, 10)
    fs = MemoryFs()
    with open_log(fs) as log:
        fill(log, 200)
        acknowledge_all(log)
    with open_log(fs, retain_bytes=0) as log:
        assert log.release(upto=90) > 0
        assert log.first_position <= 91


def test_release_schemas_are_not_announced_again_after_their_rows_went() -> None:
    fs = MemoryFs()
    log = open_log(fs, retain_bytes=0)
    announced = log.next_sequence(0) - 1
    fill(log, 200)
    acknowledge_all(log)
    assert log.released[0] == announced
    fs = fs.crash(1)  # what is announced is looked up
    with open_log(fs, retain_bytes=0) as log:
        assert [s.count for s in log.scan(SCHEMAS.stream)] == []
        assert {schema.stream for schema in log.schemas()} >= {"pump", "alarm"}


def test_release_limits_are_checked() -> None:
    with pytest.raises(Invalid, match="retain_bytes"):
        open_log(MemoryFs(), retain_rows=-1)
