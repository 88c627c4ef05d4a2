"""Any byte of a pack flipped, as readers in Python meet it: rows, whole columns and the runs that
leave the device are right, or missing and reported. (Every file kind: hostile_test.cpp.)"""

from __future__ import annotations

import pytest

import edgecore as ec
from edgecore.clock import ManualClock
from edgecore.fs import MemoryFs
from edgecore.log import Log

PUMP = ec.Schema(
    "pump",
    tier="bulk",
    fields=[
        ec.Field("rpm", "i32", required=True),
        ec.Field("temp", "decimal(3)"),
        ec.Field("load", "f64"),
        ec.Field("mode", "category"),
    ],
)
ROWS = [
    {"rpm": i, "temp": i * 1.125 if i % 5 else None, "load": i / 7, "mode": f"m{i % 3}"}
    for i in range(240)
]


def sealed_log(dense: bool) -> MemoryFs:
    fs = MemoryFs()
    clock = ManualClock(1_700_000_000_000_000_000)
    with Log.open("log", schemas=[PUMP], fs=fs, flusher="manual", clock=clock,
                  segment_bytes=8192) as log:  # fmt: skip
        for at in range(0, len(ROWS), 2):
            log.append("pump", ROWS[at : at + 2])
            log.sync()
        assert log.seal(dense=dense) > 100
    fs.sync_directory("log")
    assert fs.pending_units() == 0  # so that a crash image is a copy
    return fs


def lost_of_pump(lost: list[tuple[int, int, int, str]]) -> int:
    return sum(last - first + 1 for partition, first, last, _ in lost if partition == 2)


def payloads(log: Log, bytes_max: int) -> dict[int, bytes]:
    """First sequence -> canonical rows, of each run."""
    found, after = {}, 0
    while runs := log.runs(2, after, bytes_max):
        for run in runs:
            found[run.first] = run.payload
            after = run.first + run.count - 1
    return found


@pytest.mark.parametrize("dense", [False, True])
def test_log_flipped_byte_of_a_pack_never_gives_another_value(dense: bool) -> None:
    fs = sealed_log(dense)
    with Log.open("log", fs=fs, read_only=True) as log:
        by_sequence = payloads(log, 1)
        assert len(by_sequence) == len(ROWS)
    packs = [name for name in fs.list("log") if name.startswith("pack-")]
    assert packs
    flips = damaged = 0
    for name in packs:
        good = fs.read_file(f"log/{name}", 1 << 20)
        for at in range(len(good)):
            bad = bytearray(good)
            bad[at] ^= 1 << (at * 5 % 8)
            image = fs.crash(1)
            with image.open(f"log/{name}", "read_write") as file:
                file.write_at(0, bad)
            flips += 1
            with Log.open("log", fs=image, read_only=True) as log:
                rows = [row for scanned in log.scan("pump") for row in scanned.rows()]
                for row in rows:
                    assert {name: row[name] for name in ROWS[0]} == ROWS[row["rpm"]]
                assert [row["rpm"] for row in rows] == sorted({row["rpm"] for row in rows})
                rpm, load = log.columns("pump", "rpm", "load").values()
                assert [row["rpm"] for row in rows] == list(rpm)
                assert [ROWS[i]["load"] for i in rpm] == list(load)
                for first, payload in payloads(log, 1 << 20).items():
                    want, sequence = b"", first
                    while len(want) < len(payload):
                        want += by_sequence[sequence]
                        sequence += 1
                    assert payload == want
                lost = log.verify()[3]
                assert lost_of_pump(lost) == len(ROWS) - len(rows)
                damaged += bool(lost)
    print(f"{flips} flips, {damaged} of them cost a block")
    assert damaged > flips // 3


def test_log_both_copies_of_a_packs_index_damaged_loses_the_pack_alone() -> None:
    fs = sealed_log(False)
    name = [name for name in fs.list("log") if name.startswith("pack-")][-1]
    data = bytearray(fs.read_file(f"log/{name}", 1 << 20))
    data[30] ^= 1
    data[-30] ^= 1
    with fs.open(f"log/{name}", "read_write") as file:
        file.write_at(0, data)
    with Log.open("log", schemas=[PUMP], fs=fs, flusher="manual") as log:
        rows = [row["rpm"] for scanned in log.scan("pump") for row in scanned]
        assert 0 < len(rows) < len(ROWS)
        assert log.append("pump", {"rpm": 1}).first == len(ROWS) + 1
        assert lost_of_pump(log.verify()[3]) == len(ROWS) - len(rows)
