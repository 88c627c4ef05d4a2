"""Rows from Python: whichever way a number comes (dict, CSV text, numpy, Arrow), one cell."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

import edgecore as ec
from edgecore._core.rows import Batch
from edgecore.clock import ManualClock
from edgecore.errors import Invalid

SCHEMA = ec.Schema(
    "mixed",
    tier="bulk",
    fields=[
        ec.Field("name", "category"),
        ec.Field("temp", "decimal(3)", range=(-40, 150)),
        ec.Field("rpm", "i32", required=True),
        ec.Field("flow", "f64"),
        ec.Field("small", "f32"),
        ec.Field("count", "u64"),
        ec.Field("on", "bool"),
        ec.Field("raw", "bytes"),
    ],
)


def rows_of(rng: random.Random, count: int) -> list[dict[str, Any]]:
    return [
        {
            "time": rng.randrange(-(10**18), 10**18),
            "source": rng.choice(["", "north", "süd"]),
            "source_seq": rng.randrange(2**64),
            "name": rng.choice(["p1", "Pümpe", "x" * 30]),
            "temp": rng.randrange(-40_000, 150_001) / 1000,
            "rpm": rng.randrange(-(2**31), 2**31),
            "flow": rng.uniform(-1e9, 1e9),
            "small": float(rng.randrange(-1000, 1000)) / 4,
            "count": rng.randrange(2**64),
            "on": rng.random() < 0.5,
            "raw": rng.randbytes(rng.randrange(1, 9)).replace(b"\0", b"1"),
        }
        for _ in range(count)
    ]


def batch_of(rows: Any, on_invalid: str = "raise") -> Batch:
    batch = Batch(SCHEMA, ManualClock(77))
    batch.extend(rows, on_invalid)
    return batch


def test_rows_text_gives_the_same_cells_as_numbers() -> None:
    seed = 3
    rows = rows_of(random.Random(seed), 200)
    batch = Batch(SCHEMA)
    fields = [field.name for field in SCHEMA.fields if field.name != "raw"]
    for row in rows:
        cells = [None if n == "raw" else str(row[n]) for n in [*fields, "raw"]]
        batch.append_text(cells, row["time"], row["source"], row["source_seq"])
    expected = [{**row, "raw": None} for row in rows]
    assert batch.rows() == batch_of(expected).rows() == expected, f"seed {seed}"
    assert batch_of(batch.rows(exact=True)).rows() == expected


def test_rows_defaults_nulls_and_order_of_keys() -> None:
    row = batch_of({"flow": None, "rpm": 4}).rows()[0]
    assert (row["time"], row["source"], row["source_seq"], row["rpm"]) == (77, "", 0, 4)
    assert all(row[name] is None for name in ("name", "temp", "flow", "on", "raw"))


def test_rows_off_grid_values_are_rounded_once_and_counted() -> None:
    batch = batch_of([{"rpm": 1, "temp": value} for value in (20.1, 0.0005, 0.0015, "1.00049")])
    assert [row["temp"] for row in batch.rows(exact=True)] == ["20.100", "0.000", "0.002", "1.000"]
    assert batch.off_grid == 3
    assert batch_of({"rpm": 1, "temp": Decimal("2.345")}).rows(exact=True)[0]["temp"] == "2.345"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"rpm": None}, "'rpm': null, but required"),
        ({}, "'rpm': null, but required"),
        ({"rpm": 1.5}, "'rpm': 1.5"),
        ({"rpm": 2**31}, "'rpm': 2147483648"),
        ({"rpm": 10**30}, "'rpm': an integer beyond 64 bits"),
        ({"rpm": True}, "'rpm': true"),
        ({"rpm": 1, "temp": 150.001}, "'temp': 150.001"),
        ({"rpm": 1, "temp": float("nan")}, "'temp': nan"),
        ({"rpm": 1, "temp": "warm"}, "'temp': 'warm'"),
        ({"rpm": 1, "name": 3}, "'name': 3"),
        ({"rpm": 1, "name": b"p"}, "'name': a bytes"),
        ({"rpm": 1, "name": "\ud800"}, "'name'"),
        ({"rpm": 1, "raw": "text"}, "'raw': a str"),
        ({"rpm": 1, "on": 1}, "'on': 1"),
        ({"rpm": 1, "count": -1}, "'count': -1"),
        ({"rpm": 1, "flow": "1.0"}, "'flow'"),
        ({"rpm": 1, "flow": [1.0]}, "'flow': a list"),
        ({"rpm": 1, "speed": 2}, "unknown field 'speed'"),
        ({"rpm": 1, 5: 2}, "a key of type int"),
        ({"rpm": 1, "time": 1.5}, "'time': 1.5"),
        ({"rpm": 1, "source_seq": -1}, "'source_seq': -1"),
        ({"rpm": 1, "source": 5}, "'source': 5"),
        (7, "a row is a dict"),
    ],
)
def test_rows_bad_value_is_named_and_leaves_no_trace(row: Any, says: str) -> None:
    batch = batch_of({"rpm": 9})
    with pytest.raises(Invalid) as caught:
        batch.append(row)
    assert says in str(caught.value)
    assert len(batch) == 1
    assert batch.off_grid == 0


def test_rows_extend_refuses_all_or_names_what_it_skipped() -> None:
    rows = [{"rpm": 1, "temp": 0.00001}, {"rpm": "x"}, {"rpm": 3}]
    batch = batch_of({"rpm": 9})
    with pytest.raises(Invalid, match="row 1: field 'rpm'"):
        batch.extend(rows)
    assert (len(batch), batch.off_grid) == (1, 0)
    rejected = batch.extend(rows, "skip")
    assert [index for index, _ in rejected] == [1]
    assert (len(batch), batch.off_grid) == (3, 1)


def test_rows_column_is_an_array_where_it_can_be() -> None:
    batch = batch_of([{"rpm": 1, "temp": 20.1, "name": "a"}, {"rpm": 2, "count": 5}])
    assert batch.column("rpm").typecode == "q"  # type: ignore[union-attr]
    assert list(batch.column("rpm")) == [1, 2]
    temp = batch.column("temp")
    assert temp[0] == 20.1
    assert temp[1] != temp[1]
    assert batch.column("count") == [None, 5]
    assert batch.column("name") == ["a", None]
    with pytest.raises(Invalid, match="no field 'speed'"):
        batch.column("speed")


def test_rows_numpy_structured_array_gives_the_same_cells() -> None:
    numpy = pytest.importorskip("numpy")
    rows = rows_of(random.Random(5), 100)
    dtype = [
        ("time", "i8"), ("source", "U8"), ("source_seq", "u8"), ("name", "U30"), ("temp", "f8"),
        ("rpm", "i4"), ("flow", "f8"), ("small", "f4"), ("count", "u8"), ("on", "?"), ("raw", "S8"),
    ]  # fmt: skip
    names = [name for name, _ in dtype]
    for align in (False, True):
        table = numpy.array(
            [tuple(row[name] for name in names) for row in rows],
            dtype=numpy.dtype(dtype, align=align),
        )
        assert batch_of(table).rows() == rows
        assert batch_of(table[::-3]).rows() == rows[::-3]
    bad = table.copy()
    bad["temp"][4] = 999
    assert [index for index, _ in batch_of(table[:0]).extend(bad, "skip")] == [4]


def test_rows_numpy_scalars_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    row = {
        "rpm": numpy.int64(3), "temp": numpy.float32(1.5), "flow": numpy.float64(2.5),
        "on": numpy.bool_(True), "count": numpy.uint64(2**63),
    }  # fmt: skip
    found = batch_of(row).rows()[0]
    assert [found[n] for n in row] == [3, 1.5, 2.5, True, 2**63]


@pytest.mark.parametrize("code", [">i4", "c16", "M8[ns]", "(2,)i4", "O"])
def test_rows_numpy_type_that_is_not_taken_is_named(code: str) -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(Invalid, match="structured array"):
        batch_of(numpy.zeros(2, dtype=[("rpm", code)]))


def test_rows_arrow_tables_give_the_same_cells() -> None:
    arrow = pytest.importorskip("pyarrow")
    rows = rows_of(random.Random(6), 90)
    for row in rows[::7]:
        row["name"] = row["flow"] = row["on"] = row["raw"] = None
    schema = arrow.schema(
        [
            ("time", arrow.timestamp("ns")), ("source", arrow.string()),
            ("source_seq", arrow.uint64()),
            ("name", arrow.dictionary(arrow.int8(), arrow.string())),
            ("temp", arrow.decimal128(9, 4)), ("rpm", arrow.int32()), ("flow", arrow.float64()),
            ("small", arrow.float32()), ("count", arrow.uint64()), ("on", arrow.bool_()),
            ("raw", arrow.large_binary()),
        ]
    )  # fmt: skip
    typed = [{**row, "temp": Decimal(str(row["temp"]))} for row in rows]
    table = arrow.Table.from_pylist(typed, schema=schema)
    assert batch_of(table).rows() == rows
    assert batch_of(table.slice(11, 50)).rows() == rows[11:61]
    assert batch_of(arrow.concat_tables([table, table])).rows() == rows * 2
    assert batch_of(table.to_batches()[0].slice(3)).rows() == rows[3:]
    views = table.set_column(1, "source", table["source"].cast(arrow.string_view()))
    assert batch_of(views).rows() == rows
    with pytest.raises(Invalid, match="unknown field 'speed'"):
        batch_of(table.rename_columns([*table.column_names[:-1], "speed"]))
    with pytest.raises(Invalid, match="type"):
        batch_of(arrow.table({"rpm": [[1], [2]]}))
