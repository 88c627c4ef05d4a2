"""The log's Python face over the disk in memory: rows in and out, crashes, damage, full disks."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

import edgecore as ec
from edgecore import cursor
from edgecore._core.base import crc32c
from edgecore.cli import main
from edgecore.clock import ManualClock
from edgecore.digest import blake3
from edgecore.errors import (
    Corrupt,
    EdgecoreError,
    Exhausted,
    Incompatible,
    Invalid,
    Unavailable,
)
from edgecore.fs import MemoryFs
from edgecore.log import LOSSES, SCHEMAS, Log, parse_durability
from edgecore.wire import catalogue, rowbatch

PUMP = ec.Schema(
    "pump",
    tier="bulk",
    fields=[
        ec.Field("name", "category"),
        ec.Field("temp", "decimal(3)", range=(-40, 150)),
        ec.Field("rpm", "i32", required=True),
        ec.Field("flow", "f64"),
        ec.Field("raw", "bytes"),
        ec.Field("on", "bool"),
    ],
)
ALARM = ec.Schema("alarm", tier="critical", fields=[ec.Field("code", "u8", required=True)])


def open_log(fs: MemoryFs, **options: object) -> Log:
    settings: dict[str, object] = {"schemas": [PUMP, ALARM], "flusher": "manual"}
    return Log.open("log", fs=fs, **{**settings, **options})  # type: ignore[arg-type]


def pump_rows(rng: random.Random, count: int) -> list[dict[str, object]]:
    return [
        {
            "time": rng.randrange(10**18),
            "source": rng.choice(["", "a", "Grüße"]),
            "source_seq": rng.choice([0, 1, 2**64 - 1]),
            "name": rng.choice([None, "", "p1", "Pümpe"]),
            "temp": rng.choice([None, rng.randrange(-40000, 150000) / 1000]),
            "rpm": rng.choice([0, -(2**31), 2**31 - 1]),
            "flow": rng.choice([None, 0.1, -0.0, math.inf, 5e-324]),
            "raw": rng.choice([None, b"", b"\x00\xff"]),
            "on": rng.choice([None, True, False]),
        }
        for _ in range(count)
    ]


def test_log_rows_come_back_as_they_were_appended() -> None:
    seed = 11
    rng = random.Random(seed)
    fs = MemoryFs()
    rows = pump_rows(rng, 300)
    with open_log(fs, segment_bytes=8192) as log:
        at = 0
        while at < len(rows):
            size = rng.randrange(1, 30)
            log.append("pump", rows[at : at + size])
            at += size
    with open_log(fs, read_only=True) as log:
        found = [row for scanned in log.scan("pump") for row in scanned.rows()]
        assert log.recovery.clean
    assert found == rows, f"seed {seed}"


def test_log_scan_between_positions_gives_exactly_those_rows() -> None:
    seed = 12
    rng = random.Random(seed)
    with open_log(MemoryFs(), segment_bytes=8192) as log:
        done = [log.append("pump", [{"rpm": i}, {"rpm": i}]) for i in range(60)]
        first, last = done[0].position, log.position
        for _ in range(40):
            after, until = sorted(rng.sample(range(last + 3), 2))
            seen = [
                scanned.position + i
                for scanned in log.scan("pump", after=after, until=until)
                for i in range(len(scanned.rows()))
            ]
            expected = [p for p in range(first, last + 1) if after < p <= until]
            assert seen == expected, f"seed {seed}"
        found = [s.first for s in log.scan("pump", after=(done[0].partition, 7))]
        assert found[0] == 8


def test_log_bad_rows_are_named_and_the_others_kept() -> None:
    with open_log(MemoryFs()) as log:
        before = log.position
        with pytest.raises(Invalid, match="row 1: field 'temp': 200 "):
            log.append("pump", [{"rpm": 1}, {"rpm": 2, "temp": 200.0}])
        assert log.position == before
        done = log.append(
            "pump",
            [{"rpm": 1}, {"rpm": "x"}, {}, {"rpm": 2, "speed": 1}, {"rpm": 3}],
            on_invalid="skip",
        )
        assert done.count == 2
        assert [index for index, _ in done.rejected] == [1, 2, 3]
        assert "speed" in done.rejected[2][1]
        with pytest.raises(Invalid, match="no stream"):
            log.append("attic", {"rpm": 1})


def test_log_a_store_carries_its_schemas() -> None:
    with open_log(MemoryFs()) as log:
        assert log.partitions()[0] == (catalogue.PARTITION, catalogue.STREAM, "critical")
        named = {
            row["partition"]: catalogue.read_schema(row["schema"])
            for scanned in log.scan(SCHEMAS.stream)
            for row in scanned.rows()
        }
        for partition, stream, tier in log.partitions():
            assert (named[partition].stream, named[partition].tier) == (stream, tier)
        assert log.schema("pump").fingerprint == PUMP.fingerprint
        wider = ec.Schema("pump", tier="bulk", version=2, fields=[ec.Field("rpm", "i64")])
        assert log.register(wider) == 2
        log.append("pump", {"rpm": 2**40})
        assert log.schema("pump").version == 2
        assert [s.schema.version for s in log.scan("pump") if s.schema] == [2]


def test_log_schema_changed_between_runs_reads_each_row_by_its_own(seed: int) -> None:
    """Fields come, go and change their type; each run of the program knows only its own version."""
    fs, chance, written = MemoryFs(), random.Random(seed), []
    fields = [ec.Field("rpm", "i32"), ec.Field("temp", "decimal(3)"), ec.Field("mode", "category")]
    versions = []
    for version in range(1, 6):
        kept = chance.sample(fields, chance.randrange(1, 4))
        if version == 5:
            kept = [ec.Field("rpm", "f64")]
        versions.append(ec.Schema("pump", tier="bulk", version=version, fields=kept))
        log = Log.open("log", schemas=[versions[-1]], fs=fs, flusher="manual", segment_bytes=8192)
        row = {"rpm": version, "temp": version / 8, "mode": f"mode {version}"}
        row = {field.name: row[field.name] for field in kept}
        written += [row] * 9
        log.append("pump", [row] * 9)
        assert log.partitions()[-1][1] == "pump"
        assert len(log.partitions()) == 3
        if version % 2:
            log.close()
        else:
            log.sync()
            fs = fs.crash(seed)
    with Log.open("log", fs=fs, read_only=True) as log:
        assert {s.fingerprint for s in log.schemas()} >= {s.fingerprint for s in versions}
        found = [
            {name: row[name] for name in row if not name.startswith(("time", "source"))}
            for scanned in log.scan("pump")
            for row in scanned
        ]
        assert found == written
        firsts = [(s.schema.version, s.first) for s in log.scan("pump") if s.schema]
        assert [version for version, _ in firsts] == sorted(version for version, _ in firsts)


def test_log_runs_leave_only_when_durable_and_carry_their_digest() -> None:
    seed = 13
    rng = random.Random(seed)
    with open_log(MemoryFs(), segment_bytes=8192) as log:
        partition = log.append("pump", {"rpm": 0}).partition
        assert log.runs(partition, 0, 10**6) == []
        log.sync()
        for i in range(1, 200):
            log.append("pump", {"rpm": i, "name": "x" * rng.randrange(40)})
            if i % 9 == 0:
                log.append("alarm", {"code": 1})
        log.sync()
        after = 0
        values = []
        while runs := log.runs(partition, after, rng.randrange(1, 900)):
            for run in runs:
                assert run.first == after + 1
                assert run.digest == rowbatch.run_digest(
                    log.store_id, partition, run.first, run.count, PUMP.fingerprint, run.payload
                )
                assert sum(arrival[0] for arrival in run.arrivals) == run.count
                values += [row["rpm"] for _, row in rowbatch.read_rows(PUMP, run.payload)]
                after = run.first + run.count - 1
        assert values == list(range(200)), f"seed {seed}"


def test_log_crash_burns_numbers_and_says_so_once() -> None:
    fs = MemoryFs()
    log = open_log(fs)
    log.append("pump", {"rpm": 1})
    log.append("alarm", {"code": 7})  # critical: durable, and what stands before it with it
    lost = log.append("pump", {"rpm": 2})
    image = fs.crash(1)
    log = open_log(image)
    assert not log.recovery.clean
    burnt = [item for item in log.recovery.ranges if item[0] == lost.partition]
    assert burnt[0][1] <= lost.first <= burnt[0][2]
    assert log.append("pump", {"rpm": 3}).first == burnt[0][2] + 1
    log.sync()
    log = open_log(image.crash(2))
    rows = [row for scanned in log.scan(LOSSES.stream) for row in scanned.rows()]
    spans = [(row["partition"], row["first"], row["last"]) for row in rows]
    assert (burnt[0][0], burnt[0][1], burnt[0][2]) in spans
    assert len(spans) == len(set(spans))
    assert [row["rpm"] for s in log.scan("pump") for row in s.rows()] == [1, 3]


def test_log_full_disk_refuses_rows_but_takes_acks() -> None:
    fs = MemoryFs()
    log = open_log(fs, segment_bytes=8192, durability={"bulk": "sync"})
    partition = log.append("pump", {"rpm": 0}).partition
    log.acknowledge(partition, 1)
    fs.set_capacity(60_000)
    kept = 1
    for _ in range(3000):
        try:
            log.append("pump", {"rpm": kept, "name": "x" * 100})
        except Exhausted:
            break
        kept += 1
    assert kept < 3000
    log.acknowledge(partition, kept)
    assert log.cursor("sync").acked(partition) == kept
    fs.set_capacity(1 << 30)
    log.append("pump", {"rpm": kept})
    log.close()
    with open_log(fs, read_only=True) as reader:
        values = [row["rpm"] for s in reader.scan("pump") for row in s.rows()]
        assert values == list(range(kept + 1))
        assert reader.cursor("sync").acked(partition) == kept


def test_log_failed_sync_seals_the_segment_and_keeps_every_row() -> None:
    fs = MemoryFs()
    log = open_log(fs)
    log.append("pump", {"rpm": 0})
    log.sync()
    log.append("pump", {"rpm": 1})
    fault = fs.inject("io_error", on="sync", path_contains="wal-")
    log.append("alarm", {"code": 1})
    assert fs.fired(fault) == 1
    assert len([name for name in fs.list("log") if name.startswith("wal-")]) == 2
    image = fs.crash(3)
    with open_log(image) as after:
        assert [row["rpm"] for s in after.scan("pump") for row in s.rows()] == [0, 1]


def test_log_wait_durable_and_poll_follow_the_tiers() -> None:
    clock = ManualClock(10**18)
    with open_log(MemoryFs(), clock=clock) as log:
        assert log.append("alarm", {"code": 1}).position == log.durable_position
        done = log.append("pump", {"rpm": 1})
        due = log.poll(clock.monotonic_ns())
        assert due == 50_000_000
        assert log.durable_position < done.position
        clock.advance(due)
        log.poll(due)
        assert log.durable_position == done.position
        last = log.append("pump", {"rpm": 2}).position
        log.wait_durable(last)
        assert log.durable_position == last
        with pytest.raises(Invalid):
            log.wait_durable(last + 1)


def test_log_second_writer_is_unavailable_and_a_reader_is_not(tmp_path: Path) -> None:
    with Log.open(tmp_path / "log", schemas=[PUMP]) as log:
        log.wait_durable(log.append("pump", {"rpm": 5}).position)
        with pytest.raises(Unavailable):
            Log.open(tmp_path / "log")
        names = sorted(path.name for path in (tmp_path / "log").iterdir())
        with Log.open(tmp_path / "log", read_only=True) as reader:
            assert [row["rpm"] for s in reader.scan("pump") for row in s.rows()] == [5]
            with pytest.raises(Invalid):
                reader.append("pump", {"rpm": 6})
        assert sorted(path.name for path in (tmp_path / "log").iterdir()) == names
    with pytest.raises(Invalid):
        log.append("pump", {"rpm": 1})
    with pytest.raises(Unavailable):
        Log.open(tmp_path / "none", read_only=True)


def test_log_closed_in_order_burns_nothing() -> None:
    fs = MemoryFs()
    for i in range(5):
        with open_log(fs) as log:
            assert log.recovery.clean
            assert log.append("pump", {"rpm": i}).first == i + 1


def small_log() -> tuple[MemoryFs, str, bytes]:
    fs = MemoryFs()
    with open_log(fs, segment_bytes=8192) as log:
        for i in range(6):
            log.append("pump", {"rpm": i, "name": f"row {i}"})
            log.sync()
    name = "log/" + next(n for n in fs.list("log") if n.endswith(".seg"))
    return fs, name, fs.read_file(name, 1 << 20)


def read_values(fs: MemoryFs) -> tuple[list[int], bool]:
    """Values read, and whether something was reported."""
    with open_log(fs, read_only=True) as log:
        values = [row["rpm"] for s in log.scan("pump") for row in s.rows()]
        lost = log.verify()[3]
        recovery = log.recovery
        return values, bool(lost or recovery.ranges or recovery.tail_uncertain)


def test_log_any_flipped_byte_is_reported_or_harmless() -> None:
    fs, name, good = small_log()
    used = len(good.rstrip(b"\0"))
    for at in range(0, used + 600, 13):
        bad = bytearray(good)
        bad[at] ^= 0x41
        fs.write_atomic(name, bytes(bad))
        try:
            values, reported = read_values(fs)
        except EdgecoreError:
            continue
        assert set(values) <= set(range(6)), at
        assert values == list(range(6)) or reported, at


def test_log_truncated_at_any_length_is_reported_or_harmless() -> None:
    fs, name, good = small_log()
    for size in range(0, len(good), 97):
        fs.write_atomic(name, good[:size])
        try:
            values, reported = read_values(fs)
        except EdgecoreError:
            continue
        assert values == list(range(len(values))), size
        assert len(values) == 6 or reported or size < 4096, size


def test_log_damaged_catalogue_is_corrupt_and_changes_nothing() -> None:
    fs, _, _ = small_log()
    data = bytearray(fs.read_file("log/catalogue", 1 << 20))
    data[20] ^= 1
    fs.write_atomic("log/catalogue", bytes(data))
    with pytest.raises(Corrupt, match="catalogue"):
        open_log(fs)


def test_cursor_slots_survive_cuts_and_damage() -> None:
    for model in ("posix", "ext4"):
        base = MemoryFs(model=model)
        base.make_directories("d")
        mover = cursor.Cursor(base, "d", "sync")
        promised = 0
        for upto in range(1, 12):
            mover.ack(3, upto)
            promised = upto
            for image in base.crash_states(8, upto):
                assert cursor.Cursor(image, "d", "sync").acked(3) == promised
        mover.ack(3, 5)  # never back
        assert mover.acked(3) == promised
        data = base.read_file("d/cursor-sync", 2 * cursor.SLOT_BYTES)
        used = len(cursor.encode(1, {3: 1}))
        for at in (*range(used + 16), *range(used, cursor.SLOT_BYTES, 512)):
            for slot in (0, cursor.SLOT_BYTES):
                bad = bytearray(data)
                bad[slot + at] ^= 0x10
                base.write_atomic("d/cursor-sync", bytes(bad))
                moved = cursor.Cursor(base, "d", "sync")
                assert moved.acked(3) in (promised - 1, promised)
                moved.ack(3, promised + 1)
                again = cursor.Cursor(base, "d", "sync", read_only=True)
                assert again.acked(3) == promised + 1
        for size in (*range(used + 2), 512, cursor.SLOT_BYTES, cursor.SLOT_BYTES + used - 1):
            base.write_atomic("d/cursor-sync", data[:size])
            moved = cursor.Cursor(base, "d", "sync")
            assert moved.acked(3) in (0, promised - 1, promised)
            moved.ack(3, promised + 1)
            assert cursor.Cursor(base, "d", "sync", read_only=True).acked(3) == promised + 1


def test_cursor_of_a_later_version_is_incompatible_and_left() -> None:
    fs = MemoryFs()
    fs.make_directories("d")
    cursor.Cursor(fs, "d", "sync").ack(1, 5)
    data = bytearray(fs.read_file("d/cursor-sync", 1 << 20))
    slot = memoryview(data)[cursor.SLOT_BYTES :]
    slot[4] = 2
    slot[20:24] = bytes(4)
    slot[20:24] = crc32c(slot[:40]).to_bytes(4, "little")
    fs.write_atomic("d/cursor-sync", data)
    with pytest.raises(Incompatible, match="version 2"):
        cursor.Cursor(fs, "d", "sync")
    assert fs.read_file("d/cursor-sync", 1 << 20) == data


@pytest.mark.parametrize("effect", ["io_error", "no_space", "short_write"])
@pytest.mark.parametrize("sticky", [False, True])
def test_cursor_error_at_every_call_keeps_what_was_acked(effect: str, sticky: bool) -> None:
    met = 0
    for skip in range(100):
        fs = MemoryFs()
        fs.make_directories("d")
        fault = fs.inject(effect, "all", "", skip, sticky)
        promised, mover = 0, None
        for upto in range(1, 6):
            try:
                mover = mover or cursor.Cursor(fs, "d", "sync")
                mover.ack(3, upto)
                promised = upto
            except (Unavailable, Exhausted):
                pass
        fired = fs.fired(fault)
        fs.clear_faults()
        for image in fs.crash_states(12, skip):
            assert cursor.Cursor(image, "d", "sync").acked(3) >= promised
        mover = mover or cursor.Cursor(fs, "d", "sync")
        mover.ack(3, 9)
        for image in fs.crash_states(12, skip):
            assert cursor.Cursor(image, "d", "sync").acked(3) == 9
        met += fired > 0
        if not fired:
            break
    assert met > 15


def test_cursor_acks_a_stream_by_position() -> None:
    seed = 15
    rng = random.Random(seed)
    with open_log(MemoryFs(), segment_bytes=8192) as log:
        positions = []
        for i in range(150):
            done = log.append("pump", [{"rpm": i}] * rng.randrange(1, 5))
            positions += range(done.position, done.position + done.count)
            if i % 9 == 0:
                log.append("alarm", {"code": 1})
        for _ in range(20):
            upto = rng.randrange(log.position + 1)
            wanted = sum(position <= upto for position in positions)
            log.core.flush()
            assert log.core.sequence_at(2, upto) == wanted, f"seed {seed}"
        log.cursor("reader").ack("pump", positions[99])
        assert log.cursor("reader").acked(2) == 100
        log.cursor("reader").ack("pump", positions[9])
        assert log.cursor("reader").acked(2) == 100


def test_log_durability_words() -> None:
    assert parse_durability("sync")[0] == 3
    assert parse_durability("group(5ms,4KiB)") == (2, 5_000_000, 4096)
    for bad in ("", "group", "sync(1)", "group(5,4", "group(x,4KiB)", "group(-1ms,4KiB)"):
        with pytest.raises(Invalid):
            parse_durability(bad)


def test_log_command_exports_what_was_appended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(tmp_path / "log")
    with Log.open(directory, schemas=[PUMP], flusher="manual") as log:
        log.append("pump", {"rpm": 1, "temp": 20.1, "flow": math.nan, "raw": b"\x01", "time": 9})
        store = log.store_id.hex()
    assert main.main(["log", "export", directory, "--stream", "pump"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["store"] == store
    assert (line["sequence"], line["stream"], line["tier"]) == (1, "pump", "bulk")
    assert line["values"] == {
        "name": None, "temp": "20.100", "rpm": 1, "flow": "nan", "raw": "01", "on": None,
    }  # fmt: skip
    assert main.main(["log", "inspect", directory, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clean"] is True
    assert main.main(["log", "verify", directory]) == 0
    assert main.main(["log", "inspect", str(tmp_path / "none")]) == 15


def test_log_command_verify_names_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "log"
    with Log.open(directory, schemas=[PUMP], flusher="manual") as log:
        for i in range(4):
            log.append("pump", {"rpm": i, "name": f"unit {i}"})
            log.sync()
    path = next(directory.glob("*.seg"))
    data = bytearray(path.read_bytes())
    data[data.index(b"unit 1")] ^= 1
    path.write_bytes(data)
    assert main.main(["log", "verify", str(directory), "--json"]) == 12
    captured = capsys.readouterr()
    lost = json.loads(captured.out)["lost"]
    assert [(r["first"], r["last"], r["reason"]) for r in lost] == [(2, 2, "lost")]
    assert captured.err.startswith("Corrupt: ")


def test_log_digest_of_a_schema_is_its_fingerprint() -> None:
    assert blake3(PUMP.canonical_bytes) == PUMP.fingerprint
