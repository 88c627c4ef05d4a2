"""Append and scan of the log beside SQLite, LMDB and RocksDB.

A record is a dict of 8 f64 fields (64 B). Key-value peers pack its values with `struct` under an
8-byte big-endian key, SQLite keeps them as columns: what their users would write. Every run starts
again at the first record and ends by reading its last one back, which is the checksum.
"""

from __future__ import annotations

import random
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import log_facts
from pair import Case, row

NAMES = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"]
ROWS = [{name: i * 0.001 + j * 1.5 for j, name in enumerate(NAMES)} for i in range(1000)]
PACK = struct.Struct("<8d")
F3 = struct.Struct("<24xd32x")  # one field of a packed record
BATCH = 1000
SCAN_ROWS = 200_000


class Scratch:
    """A directory that goes with the process; `batch` rows per durable or buffered step."""

    version = ""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.mode = settings["mode"]
        self.batch = settings["batch"]
        self.segment_bytes = settings.get("segment_bytes", 1 << 20)
        self.directory = Path(tempfile.mkdtemp(prefix="edgecore-bench-"))
        self.key = 0
        self.open()

    def open(self) -> None:
        raise NotImplementedError

    def __del__(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def run(self, count: int) -> list[float]:
        if self.batch == 1:
            for i in range(count):
                self.append(ROWS[i % 1000])
        else:
            for _ in range(count):
                self.append_batch(ROWS)
        return self.last()

    def append(self, record: dict[str, float]) -> None:
        raise NotImplementedError

    def append_batch(self, records: list[dict[str, float]]) -> None:
        raise NotImplementedError

    def last(self) -> list[float]:
        raise NotImplementedError


class Ours(Scratch):
    def open(self) -> None:
        import edgecore as ec

        self.version = ec.__version__
        schema = ec.Schema("bench", tier="bulk", fields=[ec.Field(n, "f64") for n in NAMES])
        level = "kernel" if self.mode == "kernel" else "process"
        self.log = ec.Log.open(
            str(self.directory / "log"),
            schemas=[schema],
            flusher="manual",
            durability={"bulk": level},
            segment_bytes=self.segment_bytes,
        )

    def append(self, record: dict[str, float]) -> None:
        self.done = self.log.append("bench", record)

    def append_batch(self, records: list[dict[str, float]]) -> None:
        self.done = self.log.append("bench", records)

    def last(self) -> list[float]:
        key = self.done.position + self.done.count - 1
        for batch in self.log.scan("bench", after=key - 1):
            for found in batch:
                last = found
        return [last[name] for name in NAMES]


class Sqlite(Scratch):
    def open(self) -> None:
        import sqlite3

        self.version = sqlite3.sqlite_version
        self.base = sqlite3.connect(self.directory / "db", isolation_level=None)
        self.base.execute("pragma journal_mode=wal")
        self.base.execute("pragma synchronous=off")
        columns = ", ".join(f"{name} real" for name in NAMES)
        self.base.execute(f"create table log (id integer primary key, {columns})")
        marks = ", ".join(f":{name}" for name in NAMES)
        self.insert = f"insert into log ({', '.join(NAMES)}) values ({marks})"
        if self.mode == "process":
            self.base.execute("begin")

    def append(self, record: dict[str, float]) -> None:
        self.base.execute(self.insert, record)

    def append_batch(self, records: list[dict[str, float]]) -> None:
        if self.mode == "process":
            self.base.executemany(self.insert, records)
        else:
            self.base.execute("begin")
            self.base.executemany(self.insert, records)
            self.base.execute("commit")

    def last(self) -> list[float]:
        query = f"select {', '.join(NAMES)} from log order by id desc limit 1"
        return list(self.base.execute(query).fetchone())


class Lmdb(Scratch):
    def open(self) -> None:
        import lmdb

        self.version = (
            lmdb.version_string() if hasattr(lmdb, "version_string") else str(lmdb.version())
        )
        self.base = lmdb.open(str(self.directory), map_size=8 << 30, sync=False, writemap=False)
        self.transaction = self.base.begin(write=True) if self.mode == "process" else None

    def put(self, transaction: Any, record: dict[str, float]) -> None:
        self.key += 1
        key = self.key.to_bytes(8, "big")
        transaction.put(key, PACK.pack(*record.values()), append=True)

    def append(self, record: dict[str, float]) -> None:
        if self.transaction is not None:
            self.put(self.transaction, record)
        else:
            with self.base.begin(write=True) as transaction:
                self.put(transaction, record)

    def append_batch(self, records: list[dict[str, float]]) -> None:
        if self.transaction is not None:
            for record in records:
                self.put(self.transaction, record)
        else:
            with self.base.begin(write=True) as transaction:
                for record in records:
                    self.put(transaction, record)

    def last(self) -> list[float]:
        transaction = self.transaction or self.base.begin()
        return list(PACK.unpack(transaction.get(self.key.to_bytes(8, "big"))))


class Rocks(Scratch):
    def open(self) -> None:
        import rocksdict

        self.version = getattr(rocksdict, "__version__", "")
        self.base = rocksdict.Rdict(
            str(self.directory / "db"), options=rocksdict.Options(raw_mode=True)
        )
        self.make_batch = rocksdict.WriteBatch
        if self.mode == "process":
            options = rocksdict.WriteOptions()
            options.disable_wal(True) if callable(
                getattr(options, "disable_wal", None)
            ) else setattr(options, "disable_wal", True)
            self.base.set_write_options(options)

    def append(self, record: dict[str, float]) -> None:
        self.key += 1
        self.base[self.key.to_bytes(8, "big")] = PACK.pack(*record.values())

    def append_batch(self, records: list[dict[str, float]]) -> None:
        batch = self.make_batch(raw_mode=True)
        for record in records:
            self.key += 1
            batch.put(self.key.to_bytes(8, "big"), PACK.pack(*record.values()))
        self.base.write(batch)

    def last(self) -> list[float]:
        return list(PACK.unpack(self.base[self.key.to_bytes(8, "big")]))


class Scan:
    """Wraps a side: filled once, a run reads one field of everything into Python numbers."""

    def __init__(self, make: type[Scratch], settings: dict[str, Any]) -> None:
        self.side = make(settings)
        for _ in range(SCAN_ROWS // BATCH):
            self.side.append_batch(ROWS)
        self.side.last()
        self.version = self.side.version

    def run(self, count: int) -> float:
        for _ in range(count):
            total = self.total()
        return round(total, 3)

    def total(self) -> float:
        raise NotImplementedError


class ScanOurs(Scan):
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(Ours, settings)

    def total(self) -> float:
        side = self.side
        assert isinstance(side, Ours)
        return sum(sum(batch.column("f3")) for batch in side.log.scan("bench", after=0))


class ScanLmdb(Scan):
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(Lmdb, settings)

    def total(self) -> float:
        side = self.side
        assert isinstance(side, Lmdb)
        cursor = (side.transaction or side.base.begin()).cursor()
        return sum(F3.unpack(value)[0] for value in cursor.iternext(keys=False))


class Columns(Scan):
    """A run reads columns of everything into numpy: all of them, or one. `settings["random"]`:
    doubles that no coding makes smaller, instead of decimals."""

    def __init__(self, make: type[Scratch], settings: dict[str, Any]) -> None:
        self.names = NAMES[: settings["columns"]]
        self.side = make(settings)
        dice = random.Random(5)
        for _ in range(SCAN_ROWS // BATCH):
            rows = ROWS
            if settings["random"]:
                rows = [{name: dice.random() for name in NAMES} for _ in range(BATCH)]
            self.side.append_batch(rows)
        self.side.last()
        self.version = self.side.version


class ColumnsOurs(Columns):
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(Ours, settings)
        assert isinstance(self.side, Ours)
        self.side.log.sync()
        self.side.log.seal()

    def total(self) -> float:
        import numpy as np

        side = self.side
        assert isinstance(side, Ours)
        found = side.log.columns("bench", *self.names)
        return float(sum(np.asarray(found[name]).sum() for name in self.names))


class ColumnsLmdb(Columns):
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(Lmdb, settings)

    def total(self) -> float:
        import numpy as np

        side = self.side
        assert isinstance(side, Lmdb)
        cursor = (side.transaction or side.base.begin()).cursor()
        data = b"".join(cursor.iternext(keys=False))
        table = np.frombuffer(data, "<f8").reshape(-1, len(NAMES))
        columns = [np.ascontiguousarray(table[:, i]) for i in range(len(self.names))]
        return float(sum(column.sum() for column in columns))


def table_total(table: Any, names: list[str]) -> float:
    import pyarrow.compute

    return float(sum(pyarrow.compute.sum(table[name]).as_py() for name in names))


class TableOurs(Columns):
    """A run reads columns of everything into a pyarrow table, by one thread."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(Ours, settings)
        assert isinstance(self.side, Ours)
        self.side.log.sync()
        self.side.log.seal()

    def total(self) -> float:
        import pyarrow

        assert isinstance(self.side, Ours)
        return table_total(pyarrow.table(self.side.log.arrow("bench", self.names)), self.names)


class TableParquet(Columns):
    """The same rows, from our log, in a Parquet file: lz4 without dictionaries, of all that its
    writer offers what is read fastest."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import pyarrow
        from pyarrow import parquet

        super().__init__(Ours, settings)
        assert isinstance(self.side, Ours)
        self.path = self.side.directory / "rows.parquet"
        table = pyarrow.table(self.side.log.arrow("bench", self.names))
        parquet.write_table(table, self.path, compression="lz4", use_dictionary=False)
        self.version = pyarrow.__version__

    def total(self) -> float:
        from pyarrow import parquet

        table = parquet.read_table(self.path, use_threads=False, memory_map=True)
        return table_total(table, self.names)


LARGE = {"segment_bytes": 8 << 20}  # ours: as a gateway sets it; scans have the default
SIDES = {"ours": Ours, "sqlite": Sqlite, "lmdb": Lmdb, "rocksdict": Rocks}
CASES = {
    "b1_process": Case(dict(SIDES), settings={"mode": "process", "batch": 1, **LARGE}),
    "b1_kernel": Case(dict(SIDES), settings={"mode": "kernel", "batch": 1, **LARGE}),
    "b1000": Case(dict(SIDES), settings={"mode": "kernel", "batch": BATCH, **LARGE}, scale=BATCH),
    "scan_hot": Case(
        {"ours": ScanOurs, "lmdb": ScanLmdb},
        settings={"mode": "kernel", "batch": BATCH},
        scale=SCAN_ROWS,
    ),
}
for variant, columns, randomly in (("", 8, False), ("_random", 8, True), ("_one", 1, False)):
    CASES[f"scan_sealed{variant}"] = Case(
        {"ours": ColumnsOurs, "lmdb": ColumnsLmdb},
        settings={"mode": "kernel", "batch": BATCH, "columns": columns, "random": randomly},
        scale=SCAN_ROWS,
    )
for variant, randomly in (("", False), ("_random", True)):
    CASES[f"scan_arrow{variant}"] = Case(
        {"ours": TableOurs, "parquet": TableParquet},
        settings={"mode": "kernel", "batch": BATCH, "columns": 8, "random": randomly},
        scale=SCAN_ROWS,
    )


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    for identity, name, peers in (
        ("log.append.b1/process", "b1_process", ("rocksdict", "sqlite", "lmdb")),
        ("log.append.b1/kernel", "b1_kernel", ("rocksdict", "sqlite")),
        ("log.append.b1000", "b1000", ("lmdb", "rocksdict", "sqlite")),
        ("log.scan/hot", "scan_hot", ("lmdb",)),
        ("log.scan/sealed", "scan_sealed", ("lmdb",)),
        ("log.scan/sealed/random", "scan_sealed_random", ("lmdb",)),
        ("log.scan/sealed/one_column", "scan_sealed_one", ("lmdb",)),
        ("log.scan/arrow", "scan_arrow", ("parquet",)),
        ("log.scan/arrow/random", "scan_arrow_random", ("parquet",)),
    ):
        for peer in peers:
            yield row(identity, "log", name, CASES[name], peer, rounds)
    yield from log_facts.rows(rounds)
