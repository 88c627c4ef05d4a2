"""What appends leave behind, each measured in processes of their own: memory, the way back after a
crash, bytes written for a lone durable record.

    python bench/log_facts.py FACT SIDE DIRECTORY

prints one line of JSON, ``{"figure", "cpu_us"}``. A fact that needs a state before it (a log of
1,000,000 records) makes it with ``fill``, which ends without closing ours, as a crash would.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loop_disk

NAMES = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"]
ROWS = [{name: i * 0.001 + j * 1.5 for j, name in enumerate(NAMES)} for i in range(1000)]
PAYLOAD = 64
RECORDS = 1_000_000
DURABLE = 6000
MAP_BYTES = 1 << 30


def ours(home: Path, durability: str, **options: Any) -> Any:
    import edgecore as ec

    schema = ec.Schema("bench", tier="bulk", fields=[ec.Field(n, "f64") for n in NAMES])
    levels = {"bulk": durability}
    return ec.Log.open(home, schemas=[schema], flusher="manual", durability=levels, **options)


def values(record: dict[str, float]) -> bytes:
    import struct

    return struct.pack("<8d", *record.values())


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("no VmRSS")


def rss(warm_up: int) -> Callable[[Path], float]:
    """Growth in MiB over RECORDS appends that come after `warm_up` others."""

    def measured(home: Path) -> float:
        log = ours(home, "process")
        for i in range(warm_up):
            log.append("bench", ROWS[i % 1000])
        before = resident()
        for i in range(RECORDS):
            log.append("bench", ROWS[i % 1000])
        return (resident() - before) / (1 << 20)

    return measured


def fill_ours(home: Path) -> float:
    log = ours(home, "kernel")
    for _ in range(RECORDS // len(ROWS)):
        log.append("bench", ROWS)
    os._exit(0)


def fill_sealed(home: Path) -> float:
    """As a device that maintains its log leaves it, when it crashes."""
    log = ours(home, "kernel")
    for start in range(0, RECORDS, len(ROWS)):
        log.append("bench", ROWS)
        if start % (RECORDS // 20) == 0:
            log.maintain()
    log.maintain()
    os._exit(0)


def fill_lmdb(home: Path) -> float:
    import lmdb

    with lmdb.open(str(home), map_size=MAP_BYTES) as base:
        for start in range(0, RECORDS, len(ROWS)):
            with base.begin(write=True) as transaction:
                for i, record in enumerate(ROWS):
                    key = (start + i + 1).to_bytes(8, "big")
                    transaction.put(key, values(record), append=True)
    return 0


def reopen_ours(home: Path) -> int:
    return int(ours(home, "kernel").position)


def reopen_lmdb(home: Path) -> int:
    import lmdb

    with lmdb.open(str(home), map_size=MAP_BYTES).begin() as transaction:
        cursor = transaction.cursor()
        cursor.last()
        return int.from_bytes(cursor.key(), "big")


def reopen(open_it: Callable[[Path], int]) -> Callable[[Path], float]:
    def measured(home: Path) -> float:
        import lmdb  # noqa: F401

        import edgecore  # noqa: F401
        from edgecore import log  # noqa: F401

        start = time.process_time_ns()
        last = open_it(home)
        spent = time.process_time_ns() - start
        if last < RECORDS:
            raise RuntimeError(f"only {last} records came back")
        return spent / 1e6

    return measured


def per_payload(home: Path, append: Callable[[dict[str, float]], Any]) -> tuple[float, float]:
    """Bytes the device wrote per byte of payload, and CPU microseconds per record."""
    append(ROWS[0])
    before, spent = loop_disk.written(home), time.process_time_ns()
    for i in range(DURABLE):
        append(ROWS[i % 1000])
    spent = time.process_time_ns() - spent
    return (loop_disk.written(home) - before) / (DURABLE * PAYLOAD), spent / DURABLE / 1e3


def device_bytes_ours(home: Path) -> tuple[float, float]:
    """Within one segment: its zeros, written once for all its uses, are left out."""
    log = ours(home, "sync", segment_bytes=8 << 20)
    return per_payload(home, lambda record: log.append("bench", record))


def device_bytes_new(home: Path) -> tuple[float, float]:
    """In segments of the usual size, each of them new: zeros included."""
    log = ours(home, "sync")
    return per_payload(home, lambda record: log.append("bench", record))


def device_bytes_sqlite(home: Path) -> tuple[float, float]:
    import sqlite3

    home.mkdir(exist_ok=True)
    base = sqlite3.connect(home / "db", isolation_level=None)
    base.execute("pragma journal_mode=wal")
    base.execute("pragma synchronous=full")
    base.execute(f"create table log (id integer primary key, {' real, '.join(NAMES)} real)")
    marks = ", ".join(f":{name}" for name in NAMES)
    insert = f"insert into log ({', '.join(NAMES)}) values ({marks})"
    return per_payload(home, lambda record: base.execute(insert, record))


def device_bytes_lmdb(home: Path) -> tuple[float, float]:
    import lmdb

    base = lmdb.open(str(home), map_size=MAP_BYTES)
    keys = iter(range(1, 1 << 30))

    def append(record: dict[str, float]) -> None:
        with base.begin(write=True) as transaction:
            transaction.put(next(keys).to_bytes(8, "big"), values(record), append=True)

    return per_payload(home, append)


def device_bytes_rocksdict(home: Path) -> tuple[float, float]:
    import rocksdict

    base = rocksdict.Rdict(str(home / "db"), options=rocksdict.Options(raw_mode=True))
    durable = rocksdict.WriteOptions()
    durable.sync = True
    base.set_write_options(durable)
    keys = iter(range(1, 1 << 30))

    def append(record: dict[str, float]) -> None:
        base[next(keys).to_bytes(8, "big")] = values(record)

    return per_payload(home, append)


FACTS: dict[tuple[str, str], Callable[[Path], float | tuple[float, float]]] = {
    ("rss_cold", "ours"): rss(1),
    ("rss_warm", "ours"): rss(20_000),  # the buffers are made by then
    ("fill", "ours"): fill_ours,
    ("fill", "sealed"): fill_sealed,
    ("fill", "lmdb"): fill_lmdb,
    ("reopen", "ours"): reopen(reopen_ours),
    ("reopen", "lmdb"): reopen(reopen_lmdb),
    ("device_bytes", "ours"): device_bytes_ours,
    ("device_bytes_new", "ours"): device_bytes_new,
    ("device_bytes", "sqlite"): device_bytes_sqlite,
    ("device_bytes", "lmdb"): device_bytes_lmdb,
    ("device_bytes", "rocksdict"): device_bytes_rocksdict,
}


# ---------------------------------------------------------------- the rows


def ask(fact: str, side: str, home: Path) -> dict[str, float]:
    words = [sys.executable, __file__, fact, side, str(home)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    found: dict[str, float] = json.loads(done.stdout or '{"figure": 0}')
    return found


def measure(fact: str, side: str, home: Path) -> float:
    return ask(fact, side, home)["figure"]


def linked(state: Path, home: Path) -> Path:
    """The state under other names: segments and packs are never written again, small files are."""
    home.mkdir()
    for path in state.iterdir():
        if path.suffix in (".seg", ".blk"):
            os.link(path, home / path.name)
        else:
            shutil.copyfile(path, home / path.name)
    return home


def row(identity: str, unit: str, goal: str, found: dict[str, float], peer: str) -> dict[str, Any]:
    mine, theirs = found["ours"], found.get(peer)
    return {
        "id": identity, "ours": mine, "peer": peer or None, "theirs": theirs,
        "ratio": theirs / mine if theirs is not None and mine > 0 else None, "unit": unit,
        "better": "lower", "goal": goal, "settings": {"records": RECORDS, "durable": DURABLE},
        "input_sha256": None,
    }  # fmt: skip


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    runs = max(1, min(rounds, 5))
    with tempfile.TemporaryDirectory(prefix="edgecore-bench-") as name:
        home = Path(name)
        for state in ("warm", "cold"):
            grown = measure(f"rss_{state}", "ours", home / state)
            yield row(f"log.rss/{state}", "MiB", "<= 1", {"ours": grown}, "")
        spent: dict[str, list[float]] = {"ours": [], "sealed": [], "lmdb": []}
        for side in spent:
            measure("fill", side, home / side)
        for i in range(runs):
            for side in ("ours", "sealed"):
                crashed = linked(home / side, home / f"{side}{i}")
                spent[side].append(measure("reopen", "ours", crashed))
            spent["lmdb"].append(measure("reopen", "lmdb", home / "lmdb"))
        found = {side: statistics.median(times) for side, times in spent.items()}
        yield row("log.reopen", "ms", ">= 1", found, "lmdb")
        yield row("log.reopen/sealed", "ms", ">= 1", {**found, "ours": found["sealed"]}, "lmdb")
    yield from device_bytes_rows()


def device_bytes_rows() -> Iterator[dict[str, Any]]:
    """A device of 512-byte sectors, where ours writes past the page cache, and one of 4,096, where
    it can't and syncs."""
    for sector, variant, goal in ((512, "", "<= 9"), (4096, "/4096", "<= 66")):
        identity = f"log.device_bytes.b1{variant}"
        try:
            with loop_disk.LoopDisk(sector) as mount:
                sides = ("ours", "sqlite", "lmdb", "rocksdict")
                found = {side: asked("device_bytes", side, mount / side) for side in sides}
                new = asked("device_bytes_new", "ours", mount / "new")
        except OSError as error:
            empty = {"id": identity, "ours": None, "unit": "B/B", "goal": goal}
            yield empty | {"skipped": str(error)}
            continue
        figures = {side: facts["figure"] for side, facts in found.items()}
        for peer in sides[1:]:
            cpu = {"ours_cpu_us": found["ours"]["cpu_us"], "theirs_cpu_us": found[peer]["cpu_us"]}
            yield row(identity, "B/B", goal, figures, peer) | cpu
        yield row(f"{identity}/new", "B/B", "", {"ours": new["figure"]}, "")


def asked(fact: str, side: str, home: Path) -> dict[str, float]:
    home.mkdir()
    return ask(fact, side, home)


if __name__ == "__main__":
    fact, side, directory = sys.argv[1:]
    answer = FACTS[fact, side](Path(directory))
    figure, cpu_us = answer if isinstance(answer, tuple) else (answer, 0)
    print(json.dumps({"figure": figure, "cpu_us": cpu_us}))
