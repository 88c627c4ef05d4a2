"""Columns of a scan: rows that stand at even places are read without decoding the others, and give
what decoded rows give."""

from __future__ import annotations

import random
from typing import Any

import pytest

import edgecore as ec
from edgecore.clock import ManualClock
from edgecore.errors import Invalid
from edgecore.fs import MemoryFs
from edgecore.log import Log

INTEGERS = {f"{sign}{bits}": (sign, bits) for sign in "iu" for bits in (8, 16, 32, 64)}
FIXED = ec.Schema(
    "fixed",
    tier="bulk",
    fields=[
        *(ec.Field(name, name) for name in INTEGERS),
        ec.Field("f32", "f32"),
        ec.Field("f64", "f64"),
        ec.Field("decimal", "decimal(3)"),
    ],
)
NAMES = [*INTEGERS, "f32", "f64", "decimal", "time", "source", "source_seq"]


def fixed_row(rng: random.Random) -> dict[str, Any]:
    row: dict[str, Any] = {"time": rng.randrange(-(2**63), 2**63), "source_seq": rng.randrange(9)}
    for name, (sign, bits) in INTEGERS.items():
        row[name] = rng.randrange(2**bits) - (2 ** (bits - 1) if sign == "i" else 0)
    row["f32"] = rng.choice([0.5, -0.0, float("inf"), 1.5e-45])
    row["f64"] = rng.uniform(-1e9, 1e9)
    row["decimal"] = rng.randrange(-(10**9), 10**9) / 1000
    return row


def open_log(clock: ManualClock | None = None) -> Log:
    return Log.open("log", fs=MemoryFs(), schemas=[FIXED], flusher="manual", clock=clock)


def assert_columns_are_rows(log: Log, after: int = 0) -> int:
    count = 0
    for scanned in log.scan("fixed", after=after):
        before = {name: scanned.column(name) for name in NAMES}  # nothing is decoded yet
        rows = scanned.rows()
        for name in NAMES:
            again = scanned.column(name)
            assert type(before[name]) is type(again), name
            assert before[name] == again, name
            assert list(again) == [row[name] for row in rows], name
        count += len(rows)
    return count


def test_columns_of_even_rows_are_those_of_decoded_ones() -> None:
    seed = 31
    rng = random.Random(seed)
    with open_log() as log:
        for size in (1, 1, 7, 300):
            log.append("fixed", [fixed_row(rng) for _ in range(size)])
        assert_columns_are_rows(log)
        total = log.position
        for after in (total - 300, total - 299, total - 1):
            assert assert_columns_are_rows(log, after) == total - after, f"seed {seed}"


def test_columns_of_rows_with_a_null_or_a_source_are_decoded() -> None:
    seed = 32
    rng = random.Random(seed)
    for odd in ({"source": "north"}, {"u8": None}, {"f64": None, "source": "12345678"}):
        with open_log() as log:
            rows = [fixed_row(rng) for _ in range(50)]
            rows[rng.randrange(50)] |= odd
            log.append("fixed", rows)
            for scanned in log.scan("fixed"):
                shown = scanned.rows()
                assert list(scanned.column("time")) == [row["time"] for row in rows]
                assert scanned.column("source") == [row["source"] for row in shown]
                if "u8" in odd:
                    assert scanned.column("u8") == [row["u8"] for row in shown], f"seed {seed}"


def test_columns_unknown_name_is_invalid() -> None:
    with open_log() as log:
        log.append("fixed", fixed_row(random.Random(33)))
        with pytest.raises(Invalid, match="no field 'speed'"):
            next(iter(log.scan("fixed"))).column("speed")


def test_log_columns_of_rows_at_even_places_are_cut_as_a_scan_is(seed: int) -> None:
    rng = random.Random(seed)
    names = [name for name in NAMES if name != "source"]
    with open_log() as log:
        for _ in range(30):
            log.append("fixed", [fixed_row(rng) for _ in range(rng.randint(1, 20))])
        last = log.position
        for after, until in ((0, last), (7, last - 9), (last // 2, last // 2 + 1), (last, last)):
            rows = [
                row for part in log.scan("fixed", after=after, until=until) for row in part.rows()
            ]
            found = log.columns("fixed", *names, after=after, until=until)
            for name in names:
                assert list(map(repr, found[name])) == [repr(row[name]) for row in rows], name


def test_append_rows_without_a_time_share_that_of_their_call() -> None:
    clock = ManualClock(5)
    with open_log(clock) as log:
        log.append("fixed", [{"u8": 1}, {"u8": 2, "time": 3}, {"u8": 4}])
        clock.advance(1)
        log.append("fixed", {"u8": 5})
        times = [row["time"] for scanned in log.scan("fixed") for row in scanned.rows()]
    assert times == [5, 3, 5, 6]


def test_append_arguments_go_by_place_or_name_and_wrong_ones_are_named() -> None:
    with open_log() as log:
        done = log.append(rows={"u8": 1}, stream="fixed", on_invalid="skip")
        assert (done.count, done.rejected) == (1, [])
        assert log.append("fixed", {"u8": 2}).position == done.position + 1
        assert Log.append(log, "fixed", {"u8": 3}).first == done.first + 2
        with pytest.raises(TypeError, match="stream"):
            log.append({"u8": 1})  # type: ignore[call-arg, arg-type]
        with pytest.raises(TypeError, match="when"):
            log.append("fixed", {"u8": 1}, when=3)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="twice"):
            log.append("fixed", {"u8": 1}, stream="fixed")  # type: ignore[misc]
        with pytest.raises(Invalid, match="raise or skip"):
            log.append("fixed", {"u8": 1}, on_invalid="drop")
        with pytest.raises(TypeError):
            type(done)()
        assert log.position == done.position + 2
    with pytest.raises(Invalid, match="closed"):
        log.append("fixed", {"u8": 1})
