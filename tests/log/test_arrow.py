"""Rows of a log as Arrow data: what pyarrow, polars, pandas, DuckDB and another log take is what
was appended, wherever the rows are kept."""

from __future__ import annotations

import gc
import math
import random
import subprocess
import sys
import threading
from decimal import Decimal
from typing import Any

import pytest

import edgecore as ec
from edgecore.errors import Incompatible, Invalid
from edgecore.fs import MemoryFs
from edgecore.log import Log

INTEGERS = {f"{sign}{bits}": (sign, bits) for sign in "iu" for bits in (8, 16, 32, 64)}
FIELDS = [
    ec.Field("on", "bool"),
    *(ec.Field(name, name) for name in INTEGERS),
    ec.Field("f32", "f32", unit="m/s"),
    ec.Field("f64", "f64"),
    ec.Field("decimal", "decimal(4)", unit="degC"),
    ec.Field("category", "category"),
    ec.Field("utf8", "utf8"),
    ec.Field("bytes", "bytes"),
]
ALL = ec.Schema("all", tier="bulk", fields=FIELDS)
OTHER = ec.Schema("other", tier="critical", fields=[ec.Field("code", "i32")])
KEYS = ["time", "source", "source_seq"]
IDENTITY = ["partition", "sequence", "position"]
VALUES = [field.name for field in FIELDS]


def value_of(dice: random.Random, name: str) -> Any:
    if name in INTEGERS:
        sign, bits = INTEGERS[name]
        return dice.randrange(2**bits) - (2 ** (bits - 1) if sign == "i" else 0)
    return dice.choice(
        {
            "on": [True, False],
            "f32": [0.5, -0.0, math.inf, 1.5e-45],
            "f64": [dice.uniform(-1e9, 1e9), round(dice.random(), 3), math.nan, -math.inf],
            "decimal": [dice.randrange(-(10**9), 10**9) / 10_000],
            "category": ["p1", "p2", "grün", ""],
            "utf8": ["", "läuft", "x" * dice.randrange(60)],
            "bytes": [b"", dice.randbytes(9)],
        }[name]
    )


def row_of(dice: random.Random) -> dict[str, Any]:
    row: dict[str, Any] = {
        "time": dice.randrange(1000), "source": dice.choice(["", "s1", "s2"]),
        "source_seq": dice.randrange(3),
    }  # fmt: skip
    return row | {name: value_of(dice, name) for name in VALUES if dice.random() < 0.8}


def open_log(fs: MemoryFs | None = None, **settings: Any) -> Log:
    return Log.open(
        "log", schemas=[ALL, OTHER], fs=fs or MemoryFs(), flusher="manual",
        segment_bytes=32768, **settings,
    )  # fmt: skip


def fill(log: Log, dice: random.Random, appends: int) -> None:
    for _ in range(appends):
        log.append("all", [row_of(dice) for _ in range(dice.randint(1, 30))])
        if dice.random() < 0.2:
            log.append("other", {"code": dice.randint(-5, 5)})
    log.sync()


def scanned(log: Log, **limits: Any) -> list[dict[str, Any]]:
    """The rows as a scan gives them, in the values of Arrow."""
    out = []
    for part in log.scan("all", **limits):
        for i, row in enumerate(part.rows(exact=True)):
            row["source"] = row["source"] or None
            row["source_seq"] = row["source_seq"] or None
            row["decimal"] = None if row["decimal"] is None else Decimal(row["decimal"])
            place = {"partition": part.partition, "sequence": part.first + i}
            out.append(place | {"position": part.position + i} | row)
    return out


def listed(table: Any) -> list[dict[str, Any]]:
    import pyarrow

    at = table.schema.get_field_index("time")
    times = table["time"].cast(pyarrow.int64())
    return list(table.set_column(at, "time", times).to_pylist())


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(map(repr, one.values())) == [repr(other[name]) for name in one]  # NaN is NaN


@pytest.mark.parametrize("encrypted", [False, True])
def test_arrow_has_what_a_scan_has_wherever_rows_are_kept(seed: int, encrypted: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    dice = random.Random(seed)
    cipher = None
    if encrypted:
        from edgecore.trust.at_rest import Cipher

        cipher = Cipher(bytes(32), entropy=dice.randbytes)
    with open_log(cipher=cipher) as log:
        for state in ("empty", "appended", "fast", "dense"):
            if state != "empty":
                fill(log, dice, 120)
            if state in ("fast", "dense"):
                assert log.seal(dense=state == "dense") > 0
            limits = [
                {}, {"times": (300, 600)}, {"times": (2000, 3000)}, {"after": (2, 55)},
                {"after": dice.randrange(log.position), "until": max(log.position - 9, 0)},
            ]  # fmt: skip
            for limit in limits:
                table = pyarrow.table(log.arrow("all", **limit))
                table.validate(full=True)
                assert table.column_names == IDENTITY + KEYS + VALUES
                assert_same(listed(table), scanned(log, **limit))


def test_arrow_appended_to_another_log_is_the_same_table(seed: int) -> None:
    dice = random.Random(seed)
    with open_log() as first, open_log() as second:
        fill(first, dice, 60)
        first.seal()
        second.append("all", first.arrow("all", KEYS + VALUES))
        again, before = [
            [row for part in log.scan("all") for row in part.rows(exact=True)]
            for log in (second, first)
        ]
        assert list(map(repr, again)) == list(map(repr, before))
        pyarrow = pytest.importorskip("pyarrow")
        tables = [pyarrow.table(log.arrow("all", KEYS + VALUES)) for log in (first, second)]
        assert_same(listed(tables[1]), listed(tables[0]))
        second.append("all", tables[0])  # and by way of pyarrow
        assert second.core.next_sequence(2) == 2 * tables[0].num_rows + 1


def test_arrow_types_units_and_names_are_the_schemas() -> None:
    pa = pytest.importorskip("pyarrow")
    with open_log() as log:
        schema = pa.schema(log.arrow("all"))
        texts = pa.dictionary(pa.int32(), pa.string())
        assert schema.types == [
            pa.uint32(), pa.uint64(), pa.uint64(), pa.timestamp("ns", tz="UTC"), texts, pa.uint64(),
            pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(),
            pa.uint32(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(19, 4), texts,
            pa.string(), pa.binary(),
        ]  # fmt: skip
        assert schema.field("decimal").metadata == {b"unit": b"degC"}
        assert schema.field("f64").metadata is None
        assert schema.metadata[b"edgecore.store"].decode() == log.store_id.hex()
        assert bytes.fromhex(schema.metadata[b"edgecore.schema"].decode()) == ALL.canonical_bytes
        empty = pa.table(log.arrow("all", ["time", "f64"]))
        assert (empty.num_rows, empty.column_names) == (0, ["time", "f64"])
        assert list(log.arrow("all")) == []
        with pytest.raises(Invalid, match="no column 'speed'"):
            log.arrow("all", ["speed"])
        with pytest.raises(Invalid, match="no stream 'none'"):
            log.arrow("none")


def test_arrow_of_two_schemas_is_one_table_or_the_field_is_named() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    second = ec.Schema(
        "all", tier="bulk", version=2,
        fields=[ec.Field("decimal", "decimal(6)"), ec.Field("position", "i32")],
    )  # fmt: skip
    with open_log() as log:
        log.append("all", {"decimal": 1.25, "f64": 2.5})
        log.register(second)
        log.append("all", {"decimal": -0.000001, "position": 7})
        table = pyarrow.table(log.arrow("all", ["decimal", "values.position", "f64"]))
        assert table["decimal"].to_pylist() == [Decimal("1.250000"), Decimal("-0.000001")]
        assert table["values.position"].to_pylist() == [None, 7]
        assert table["f64"].to_pylist() == [2.5, None]
        other = ec.Schema("all", tier="bulk", version=3, fields=[ec.Field("f64", "i64")])
        log.register(other)
        with pytest.raises(Incompatible, match="field f64: f64 and i64"):
            log.arrow("all")
        assert pyarrow.table(log.arrow("all", ["decimal"])).num_rows == 2


def test_arrow_batches_come_when_asked_for_and_end_with_the_log() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    log = open_log()
    rows = [{"u8": i % 200} for i in range(1000)]
    for _ in range(150):
        log.append("all", rows)
    table = log.arrow("all", ["u8", "sequence"])
    whole = pyarrow.RecordBatchReader.from_stream(table).read_all()
    assert [len(batch) for batch in whole.to_batches()] == [65000, 65000, 20000]
    assert whole["sequence"].to_pylist() == list(range(1, 150_001))
    stream, batches = pyarrow.RecordBatchReader.from_stream(table), iter(table)
    kept, own = stream.read_next_batch(), next(batches)
    log.close()
    with pytest.raises(Invalid, match="the log is closed"):
        next(batches)
    with pytest.raises(pyarrow.ArrowInvalid, match="Invalid: the log is closed"):
        stream.read_next_batch()
    with pytest.raises(Invalid, match="closed"):
        log.arrow("all")
    del stream, batches, table, log
    gc.collect()
    assert kept["u8"].to_pylist() == whole["u8"].to_pylist()[:65000]  # buffers are its own
    assert pyarrow.record_batch(own).equals(kept)
    assert pyarrow.record_batch(own).equals(kept)  # may be given away twice
    assert len(own) == 65000


def test_arrow_batches_asked_for_by_several_threads_are_each_given_once() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with open_log() as log:
        for _ in range(300):
            log.append("all", [{"u16": 1}] * 1000)
        log.seal()
        batches, found = iter(log.arrow("all", ["sequence"])), []

        def take() -> None:
            found.extend(pyarrow.record_batch(batch) for batch in batches)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sequences = [number for batch in found for number in batch["sequence"].to_pylist()]
        assert sorted(sequences) == list(range(1, 300_001))


def test_arrow_of_a_scanned_batch_is_its_rows() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with open_log() as log:
        fill(log, random.Random(3), 10)
        found = [row for part in log.scan("all") for row in
                 listed(pyarrow.Table.from_batches([pyarrow.record_batch(part)]))]  # fmt: skip
        assert_same(found, scanned(log))
        (part, *_) = log.scan("all")
        assert pyarrow.record_batch(part).schema.field("f32").metadata == {b"unit": b"m/s"}


def test_arrow_is_what_polars_reads() -> None:
    polars = pytest.importorskip("polars")
    with open_log() as log:
        fill(log, random.Random(4), 30)
        frame = polars.DataFrame(log.arrow("all"))
        rows = scanned(log)
        assert frame["utf8"].to_list() == [row["utf8"] for row in rows]
        assert frame["category"].to_list() == [row["category"] for row in rows]
        assert frame["time"].cast(polars.Int64).to_list() == [row["time"] for row in rows]
        assert frame["decimal"].to_list() == [row["decimal"] for row in rows]


def test_arrow_is_what_pandas_reads() -> None:
    pandas = pytest.importorskip("pandas", minversion="3.0")
    pytest.importorskip("pyarrow")
    with open_log() as log:
        fill(log, random.Random(5), 30)
        frame = pandas.DataFrame.from_arrow(log.arrow("all", ["time", "i32", "category"]))
        rows = scanned(log)
        assert [int(time.value) for time in frame["time"]] == [row["time"] for row in rows]
        texts = [None if pandas.isna(text) else text for text in frame["category"]]
        assert texts == [row["category"] for row in rows]


def test_arrow_is_what_duckdb_reads() -> None:
    duckdb = pytest.importorskip("duckdb")
    with open_log() as log:
        fill(log, random.Random(6), 30)
        table = log.arrow("all")
        base = duckdb.connect()
        base.register("events", table)
        found = base.sql("select category, count(*) from events group by 1")
        counts = dict(found.fetchall())
        rows = scanned(log)
        assert counts == {key: sum(row["category"] == key for row in rows) for key in counts}


def test_arrow_needs_neither_numpy_nor_pyarrow() -> None:
    code = (
        "import sys, edgecore as ec\n"
        "from edgecore.fs import MemoryFs\n"
        "fields = [ec.Field('x', 'f64'), ec.Field('c', 'category')]\n"
        "s = ec.Schema('s', tier='bulk', fields=fields)\n"
        "with ec.Log.open('log', fs=MemoryFs(), schemas=[s], flusher='manual') as log:\n"
        "    log.append('s', [{'x': 1.5, 'c': 'a'}, {'x': None}])\n"
        "    log.append('s', log.arrow('s', ['time', 'x', 'c']))\n"
        "    rows = [(row['x'], row['c']) for part in log.scan('s') for row in part]\n"
        "    capsule = log.arrow('s').__arrow_c_stream__()\n"
        "    del capsule\n"
        "assert rows == [(1.5, 'a'), (None, None)] * 2, rows\n"
        "assert not {'numpy', 'pyarrow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
