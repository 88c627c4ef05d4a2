"""Quotas: what gives way when there is too much, in which order, and that nothing goes untold."""

from __future__ import annotations

import random
from typing import Any

import pytest

import edgecore as ec
from edgecore.clock import ManualClock
from edgecore.errors import Exhausted, Invalid
from edgecore.fs import MemoryFs
from edgecore.log import LOSSES, Log, Retention

BULK = ec.Schema("bulk", tier="bulk", fields=[ec.Field("value", "f64"), ec.Field("n", "i64")])
HEALTH = ec.Schema("health", tier="diagnostic", fields=[ec.Field("load", "f64")])
ALARMS = ec.Schema("alarms", tier="critical", fields=[ec.Field("code", "i32", required=True)])
START = 1_700_000_000_000_000_000
SEGMENT = 65536
DAY = 86_400 * 10**9


class Device:
    def __init__(self, seed: int, **settings: Any) -> None:
        self.fs = MemoryFs()
        self.clock = ManualClock(START)
        self.dice = random.Random(seed)
        self.settings = settings
        self.appended: dict[tuple[int, int], Any] = {}
        self.open()

    def open(self) -> Log:
        self.log = Log.open(
            "log", schemas=[BULK, HEALTH, ALARMS], fs=self.fs, flusher="manual", clock=self.clock,
            segment_bytes=SEGMENT, **self.settings,
        )  # fmt: skip
        return self.log

    def append(self, stream: str, rows: list[dict[str, Any]]) -> None:
        done = self.log.append(stream, rows)
        for i, row in enumerate(rows):
            self.appended[done.partition, done.first + i] = row

    def work(self, appends: int) -> None:
        """Random values, which no coding makes smaller: a pack is about what its rows are."""
        for i in range(appends):
            rows = [{"value": self.dice.random(), "n": i} for _ in range(self.dice.randint(1, 300))]
            self.append("bulk", rows)
            if i % 5 == 0:
                self.append("health", [{"load": self.dice.random()} for _ in range(10)])
            if i % 20 == 0:
                self.append("alarms", [{"code": i}])
            self.clock.advance(10_000_000)
            self.log.poll(self.clock.monotonic_ns())
        self.log.sync()

    def partition(self, stream: str) -> int:
        return next(p for p, name, _ in self.log.partitions() if name == stream)

    def stored(self) -> dict[tuple[int, int], Any]:
        return {
            (scanned.partition, scanned.first + i): row
            for scanned in self.log.scan()
            for i, row in enumerate(scanned.rows())
        }

    def told(self) -> list[dict[str, Any]]:
        return [row for scanned in self.log.scan(LOSSES.stream) for row in scanned.rows()]

    def check(self) -> dict[str, int]:
        """Every sequence is stored with its values, released, or told of; by stream, how many are
        stored."""
        stored, released = self.stored(), self.log.released
        gone = {
            (row["partition"], s)
            for row in self.told()
            for s in range(row["first"], row["last"] + 1)
        }
        for key, row in self.appended.items():
            if key in stored:
                assert {name: stored[key][name] for name in row} == row
                assert key not in gone
            else:
                acked = self.log.cursor("sync").acked(key[0])
                assert key in gone or key[1] <= min(acked, released.get(key[0], 0)), key
        return {
            stream: sum(1 for p, _ in stored if p == partition)
            for partition, stream, _ in self.log.partitions()
        }


def test_retention_whole_log_stays_within_its_bytes_and_every_row_is_accounted_for(
    seed: int,
) -> None:
    limit = 16 * SEGMENT
    device = Device(
        seed, max_bytes=limit,
        retention={"bulk": Retention(on_full="drop oldest")},
    )  # fmt: skip
    dropped = 0
    for _ in range(12):
        device.work(100)
        dropped += device.log.maintain(segments_kept=2).dropped
        assert device.log.disk_bytes <= limit
        device.check()
    assert dropped > 5000
    assert {row["reason"] for row in device.told()} == {"dropped"}
    kept = device.check()
    assert kept["alarms"] == sum(1 for p, _ in device.appended if p == device.partition("alarms"))
    assert kept["health"] == sum(1 for p, _ in device.appended if p == device.partition("health"))
    device.log.close()
    device.open()
    assert device.check() == kept
    assert device.log.verify()[3] == []


def test_retention_acknowledged_packs_go_before_any_other(seed: int) -> None:
    device = Device(
        seed, max_bytes=16 * SEGMENT, retention={"bulk": Retention(on_full="drop oldest")}
    )
    for _ in range(12):
        device.work(100)
        device.log.sync()
        for partition, _, _ in device.log.partitions():
            device.log.acknowledge(partition, device.log.next_sequence(partition) - 1)
        assert device.log.maintain(segments_kept=2).dropped == 0
        assert device.log.disk_bytes <= 16 * SEGMENT
    assert device.told() == []
    device.check()


def test_retention_lowest_tier_gives_way_first(seed: int) -> None:
    policy = Retention(on_full="drop oldest")
    device = Device(seed, max_bytes=16 * SEGMENT, retention={"bulk": policy, "diagnostic": policy})
    for _ in range(12):
        device.work(100)
        device.log.maintain(segments_kept=2)
    assert {row["partition"] for row in device.told()} == {device.partition("bulk")}


def test_retention_the_tier_that_its_owner_puts_last_gives_way_first(seed: int) -> None:
    policy = Retention(on_full="drop oldest")
    device = Device(
        seed, max_bytes=16 * SEGMENT, priority=["bulk"],
        retention={"bulk": policy, "diagnostic": policy},
    )  # fmt: skip
    for _ in range(12):
        device.work(100)
        device.log.maintain(segments_kept=2)
    told = [row["partition"] for row in device.told()]
    bulk, health = device.partition("bulk"), device.partition("health")
    assert (told[0], told.index(bulk) > 0) == (health, True)
    device.check()


@pytest.mark.parametrize("wrong", [["bluk"], ["bulk", "bulk"], ["bulk", "critical"]])
def test_retention_priority_that_is_none_is_invalid(seed: int, wrong: list[str]) -> None:
    with pytest.raises(Invalid, match="priority"):
        Device(seed, priority=wrong)


def test_retention_expires_by_age_but_not_rows_of_a_clock_that_was_not_set(seed: int) -> None:
    device = Device(seed, retention={"bulk": Retention(ttl_ns=DAY)})
    device.work(300)
    device.log.maintain(segments_kept=2)
    device.clock.advance(2 * DAY)
    device.work(300)
    assert device.log.maintain(segments_kept=2, expire=False).dropped == 0
    done = device.log.maintain(segments_kept=2)
    assert done.dropped > 0
    assert {row["reason"] for row in device.told()} == {"expired"}
    device.check()
    unset = Device(seed, retention={"bulk": Retention(ttl_ns=DAY)})
    unset.clock = ManualClock(0)
    unset.log.close()
    unset.open()
    unset.work(300)
    unset.clock.jump_wall(START)
    unset.work(300)
    assert unset.log.maintain(segments_kept=2).dropped == 0


def test_retention_drop_newest_keeps_the_oldest(seed: int) -> None:
    device = Device(
        seed, retention={"bulk": Retention(max_bytes=3 * SEGMENT, on_full="drop newest")}
    )
    for _ in range(8):
        device.work(100)
        device.log.maintain(segments_kept=2)
        device.check()
    bulk = device.partition("bulk")
    stored = sorted(s for p, s in device.stored() if p == bulk)
    assert stored[0] == 1
    assert {row["reason"] for row in device.told()} == {"dropped"}
    assert min(row["first"] for row in device.told()) > 100


def test_retention_thins_to_one_block_in_k_then_drops_the_oldest(seed: int) -> None:
    device = Device(
        seed, retention={"bulk": Retention(max_bytes=6 * SEGMENT, on_full="thin 1-in-4")}
    )
    for _ in range(12):
        device.work(100)
        device.log.maintain(segments_kept=2)
        device.check()
    reasons = {row["reason"] for row in device.told()}
    assert "thinned" in reasons
    bulk = device.partition("bulk")
    thinned = sum(
        row["last"] - row["first"] + 1 for row in device.told() if row["reason"] == "thinned"
    )
    sealed = device.log.next_sequence(bulk)
    assert 0.3 * sealed < thinned < 0.8 * sealed


def test_retention_refusing_tier_stops_and_the_critical_one_goes_on(seed: int) -> None:
    device = Device(seed, max_bytes=16 * SEGMENT)

    def work() -> None:
        for _ in range(30):
            device.work(100)
            device.log.maintain(segments_kept=2)

    with pytest.raises(Exhausted, match="quota"):
        work()
    with pytest.raises(Exhausted, match="health"):
        device.append("health", [{"load": 1.0}])
    device.append("alarms", [{"code": 1}])
    device.check()
    assert device.told() == []
    for partition, _, _ in device.log.partitions():
        device.log.acknowledge(partition, device.log.next_sequence(partition) - 1)
    device.log.maintain(segments_kept=2)
    device.work(10)
    device.check()


@pytest.mark.parametrize("on_full", ["refuse", "drop newest"])
def test_retention_acknowledged_packs_make_room_in_a_tier_that_does_not_drop_others(
    seed: int, on_full: str
) -> None:
    device = Device(seed, retention={"bulk": Retention(max_bytes=4 * SEGMENT, on_full=on_full)})
    bulk = device.partition("bulk")
    try:
        for _ in range(20):
            device.work(100)
            device.log.maintain(segments_kept=2)
    except Exhausted:
        assert on_full == "refuse"
    told = len(device.told())
    assert (told > 0) == (on_full == "drop newest")
    device.log.acknowledge(bulk, device.log.next_sequence(bulk) - 1)
    assert device.log.maintain(segments_kept=2).dropped == 0
    device.work(20)
    device.log.maintain(segments_kept=2)
    assert len(device.told()) == told
    device.check()


def test_retention_full_disk_makes_room_for_its_own_packs(seed: int) -> None:
    device = Device(seed, retention={"bulk": Retention(on_full="drop oldest")})
    device.work(300)
    device.log.maintain(segments_kept=2)
    device.work(300)
    fault = device.fs.inject("no_space", path_contains="pack-", sticky=False)
    done = device.log.maintain(segments_kept=2)
    assert device.fs.fired(fault) == 1
    assert done.sealed > 0
    assert done.dropped > 0
    device.check()


def test_retention_drop_that_a_crash_cut_off_from_its_event_is_told_at_the_next_open(
    seed: int,
) -> None:
    device = Device(
        seed, retention={"bulk": Retention(max_bytes=2 * SEGMENT, on_full="drop oldest")}
    )
    device.work(300)
    device.log.seal(segments_kept=2)
    device.log.core.make_room({}, 0, True)  # as maintain() does, and then the power goes
    untold = device.log.core.untold()
    assert untold
    device.log.sync()
    device.fs = device.fs.crash(seed)
    device.open()
    told = [(r["partition"], r["first"], r["last"], r["reason"]) for r in device.told()]
    assert [row for row in told if row[3] == "dropped"] == untold
    assert device.log.core.untold() == []
    device.check()


@pytest.mark.parametrize("wrong", ["drop", "thin", "thin 1-in-1", "thin 1-in-x", "refuse 1-in-4"])
def test_retention_policy_that_is_no_policy_is_invalid(wrong: str) -> None:
    with pytest.raises(Invalid, match="on_full"):
        Retention(on_full=wrong)


def test_retention_of_no_tier_or_of_too_few_bytes_is_invalid(seed: int) -> None:
    with pytest.raises(Invalid, match="no tier"):
        Device(seed, retention={"huge": Retention()})
    with pytest.raises(Invalid, match="max_bytes"):
        Device(seed, max_bytes=SEGMENT)
    with pytest.raises(Invalid, match="ttl_ns"):
        Retention(ttl_ns=-1)
