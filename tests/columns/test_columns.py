"""Column blocks from Python: the golden vectors by a reader of its own, real series, the face."""

from __future__ import annotations

import csv
import importlib
import math
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore import columns
from edgecore._core.base import crc32c
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.fs import MemoryFs
from edgecore.log import Log, Run
from edgecore.wire import rowbatch

sys.path.insert(0, str(Path(__file__).parent))
reader: Any = importlib.import_module("fast_reader")

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"
CODINGS = ("fast", "dense")
STORE = bytes(range(16))


def run_of(schema: ec.Schema, rows: list[dict[str, object]]) -> tuple[bytes, Run]:
    """(store, run) as a log gives it."""
    with Log.open("log", schemas=[schema], flusher="manual", fs=MemoryFs()) as log:
        done = log.append(schema.stream, rows)
        log.sync()
        return log.store_id, log.runs(done.partition, 0, 1 << 24)[0]


def vectors() -> list[dict[str, list[str]]]:
    cases: list[dict[str, list[str]]] = []
    for line in (VECTORS / "column-block.txt").read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "case":
            cases.append({})
        if word != "#":
            cases[-1].setdefault(word, []).append(rest)
    return cases


@pytest.mark.parametrize("case", vectors(), ids=lambda case: case["case"][0])
def test_vectors_are_read_and_written(case: dict[str, list[str]]) -> None:
    schema = ec.Schema.from_bytes(bytes.fromhex(case["schema"][0]))
    rows = bytes.fromhex(case["rows"][0])
    arrivals = [tuple(map(int, line.split())) for line in case["arrival"]]
    store, partition, first = bytes.fromhex(case["store"][0]), *map(int, case["run"][0].split())
    count = sum(arrival[0] for arrival in arrivals)
    digest = rowbatch.run_digest(store, partition, first, count, schema.fingerprint, rows)
    for coding in CODINGS:
        block = bytes.fromhex(case[coding][0])
        assert columns.decode_to_rows(block, schema) == (rows, arrivals)
        head = columns.Block(block)
        assert (head.store, head.partition, head.first) == (store, partition, first)
        assert (head.count, head.digest, head.coding) == (count, digest, coding)
        run = Run(partition, first, count, schema.fingerprint, digest, rows, arrivals)
        assert columns.encode(run, store, schema, coding) == block
    block = bytes.fromhex(case["fast"][0])
    apart = reader.Block(block, list(schema.fields))
    assert (apart.rows, apart.arrivals) == (rows, arrivals)
    assert (apart.store, apart.schema, apart.digest) == (store, schema.fingerprint, digest)
    bounds = {i: field.max_error for i, field in enumerate(schema.fields) if field.max_error}
    assert apart.max_errors == columns.Block(block).max_errors == bounds
    assert apart.checksum == crc32c(block[126:], crc32c(block[:122]))


def test_vectors_use_every_operation_of_the_fast_coding() -> None:
    reader.Reader.seen.clear()
    for case in vectors():
        schema = ec.Schema.from_bytes(bytes.fromhex(case["schema"][0]))
        reader.Block(bytes.fromhex(case["fast"][0]), list(schema.fields))
    assert set(reader.OPERATIONS) == reader.Reader.seen


def series_twin(seed: int) -> list[float]:
    """Like a temperature: two decimals' walk, some values with the noise of arithmetic."""
    chance = random.Random(seed)
    out, value = [], 70.0
    for _ in range(1000):
        value += chance.gauss(0, 0.5)
        exact = round(value, 6)
        out.append(exact * 1.1 / 1.1 if chance.random() < 0.2 else exact)
    return [*out, math.inf, -0.0, 1e300, 5e-324]


def check_series(values: list[float], bytes_max: float) -> None:
    schema = ec.Schema("one", tier="bulk", fields=[ec.Field("value", "f64")])
    rows: list[dict[str, object]] = [
        {"time": i * 300_000_000_000, "value": value} for i, value in enumerate(values)
    ]
    store, run = run_of(schema, rows)
    for coding in CODINGS:
        block = columns.encode(run, store, schema, coding)
        batch, arrivals = columns.decode(block, schema)
        want = struct.pack(f"{len(values)}d", *values)
        assert struct.pack(f"{len(values)}d", *batch.column("value")) == want
        assert struct.pack(f"{len(values)}d", *columns.column(block, schema, "value")) == want
        assert list(columns.column(block, schema, "time")) == [row["time"] for row in rows]
        assert arrivals == run.arrivals
        assert len(block) <= bytes_max * len(values)


def test_series_twin_comes_back_bit_for_bit_in_few_bytes(seed: int) -> None:
    check_series(series_twin(seed), 4.0)


def test_series_machine_temperature_meets_its_size(data_file: Callable[[str], Path]) -> None:
    name = "nab/data/realKnownCause/machine_temperature_system_failure.csv"
    with data_file(name).open(newline="") as file:
        values = [float(row["value"]) for row in csv.DictReader(file)][:1000]
    check_series(values, 4.0)


def test_face_gives_columns_of_every_kind() -> None:
    schema = ec.Schema(
        "mixed", tier="bulk",
        fields=[ec.Field("pump", "category"), ec.Field("temp", "decimal(3)"),
                ec.Field("code", "u16", required=True), ec.Field("on", "bool"),
                ec.Field("raw", "bytes"), ec.Field("small", "f32"), ec.Field("turns", "i32")],
    )  # fmt: skip
    rows: list[dict[str, object]] = [
        {"time": i, "source": "gate", "source_seq": i + 1, "pump": "p", "temp": 20.5, "code": 7,
         "on": i % 2 == 0, "raw": b"\1\2", "small": 0.5, "turns": None}
        for i in range(5)
    ]  # fmt: skip
    store, run = run_of(schema, rows)
    block = columns.encode(run, store, schema)
    read = {name: list(columns.column(block, schema, name)) for name in rows[0]}
    assert read == {name: [row[name] for row in rows] for name in rows[0]}
    with pytest.raises(Invalid, match="no field 'none'"):
        columns.column(block, schema, "none")
    rows[2]["temp"] = None
    store, run = run_of(schema, rows)
    assert math.isnan(columns.column(columns.encode(run, store, schema), schema, "temp")[2])


def test_bad_input_is_refused_with_its_word() -> None:
    schema = ec.Schema("one", tier="bulk", fields=[ec.Field("value", "f64")])
    other = ec.Schema("two", tier="bulk", fields=[ec.Field("value", "f64")])
    store, run = run_of(schema, [{"time": 1, "value": 1.5}])
    block = columns.encode(run, store, schema)
    with pytest.raises(Corrupt, match="checksum"):
        columns.decode(block[:-1] + bytes([block[-1] ^ 1]), schema)
    with pytest.raises(Corrupt):
        columns.decode(b"", schema)
    with pytest.raises(Incompatible, match="schema"):
        columns.decode(block, other)
    with pytest.raises(Invalid, match="fast or dense"):
        columns.encode(run, store, schema, "thin")  # type: ignore[arg-type]
    with pytest.raises(Corrupt):
        columns.encode(
            Run(run.partition, 1, 2, b"", b"", run.payload, [(2, 1, 1, 1)]), store, schema
        )
    run.arrivals = [(2, 1, 1, 1)]
    with pytest.raises(Invalid, match="arrivals"):
        columns.encode(run, store, schema)
