"""A field with max_error= is rounded once, when its rows come in, and never by more than that:
judged in exact arithmetic, of every dtype, up to the ends of its range."""

from __future__ import annotations

import math
import random
import struct
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

import edgecore as ec
from edgecore import columns
from edgecore._core.rows import Batch
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.fs import MemoryFs
from edgecore.log import Log

SEED = 20260731
BOUNDS = (0.01, 0.05, 0.5, 1.0, 0.1, 0.03, 1e-9, 7.3e-4, 1234.5, 1e18)


def schema_of(dtype: str, bound: float, **more: Any) -> ec.Schema:
    return ec.Schema("s", tier="bulk", fields=[ec.Field("x", dtype, max_error=bound, **more)])


def stored(schema: ec.Schema, values: list[Any]) -> tuple[list[Any], int]:
    """What the field holds, exact texts of decimals, and how many were rounded."""
    batch = Batch(schema)
    batch.extend([{"time": 1, "x": value} for value in values])
    return [row["x"] for row in batch.rows(exact=True)], batch.off_grid


def as_f32(value: float) -> float:
    narrow: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return narrow


def step_of(bound: float) -> Fraction:
    """The largest of 1, 2 and 5 times 10^n that is at most twice the bound, as numbers are read."""
    twice = 2 * Fraction(repr(bound))
    steps = (digit * Fraction(10) ** n for n in range(18, -19, -1) for digit in (5, 2, 1))
    return next(step for step in steps if step <= twice)


def hard_floats(chance: random.Random, bound: float, count: int) -> list[float]:
    """Any bits, any size about the bound's, and the middles between two multiples and what is next
    to them."""
    step = float(step_of(bound))
    out = [0.0, -0.0, 5e-324, -5e-324, 2.3e-308, bound, -bound, step, step / 2, 1.7e308, -1.7e308]
    for _ in range(count):
        out.append(struct.unpack("<d", chance.randbytes(8))[0])
        out.append(chance.uniform(-1, 1) * bound * 10.0 ** chance.randint(-3, 17))
        middle = (chance.randint(-10_000, 10_000) + 0.5) * step
        out += [middle, math.nextafter(middle, math.inf), math.nextafter(middle, -math.inf)]
        out.append(float(chance.randint(-5000, 5000) * step_of(bound) / 2))
    return [value for value in out if math.isfinite(value)]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_floats_are_never_further_than_the_bound(dtype: str, bound: float) -> None:
    print(f"seed {SEED}")
    values = hard_floats(random.Random(SEED), bound, 400)
    if dtype == "f32":
        values = [as_f32(value) for value in values if abs(value) < 3.4e38]
    schema = schema_of(dtype, bound)
    found, rounded = stored(schema, values)
    assert rounded == sum(a != b for a, b in zip(found, values, strict=True))
    for value, kept in zip(values, found, strict=True):
        assert abs(Fraction(kept) - Fraction(value)) <= Fraction(bound), value
        assert kept != 0 or math.copysign(1, kept) == 1
        if kept != value:  # then it is the double nearest to a multiple of the step
            multiple = float(round(Fraction(kept) / step_of(bound)) * step_of(bound))
            assert kept == (as_f32(multiple) if dtype == "f32" else multiple)
    again, rounded = stored(schema, found)
    assert (again, rounded) == (found, 0)


def test_floats_of_an_ordinary_size_are_nearly_all_on_the_step() -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    values = [chance.uniform(-100, 100) for _ in range(2000)]
    found, _ = stored(schema_of("f64", 0.01), values)
    assert all(
        kept == round(value / 0.02) * 2 / 100 for kept, value in zip(found, values, strict=True)
    )


def test_what_is_not_finite_stays_what_it_is() -> None:
    found, rounded = stored(schema_of("f64", 0.01), [math.nan, math.inf, -math.inf, 1e300])
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, -math.inf, 1e300]
    assert rounded == 0


@pytest.mark.parametrize("bound", [0.01, 0.02, 0.03, 0.5, 7.0, 1e6])
def test_decimals_are_never_further_than_the_bound(bound: float) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    ends = [-(2**63), 2**63 - 1, 0, 1, -1]
    counts = ends + [chance.randint(-(10 ** chance.randint(1, 18)), 10**18) for _ in range(500)]
    values = [str(Fraction(count, 100)) if count % 100 == 0 else f"{count}e-2" for count in counts]
    found, _ = stored(schema_of("decimal(2)", bound), values)
    for count, text in zip(counts, found, strict=True):
        kept = Fraction(text)
        assert abs(kept - Fraction(count, 100)) <= Fraction(repr(bound))
        assert kept % step_of(bound) == 0 or kept == Fraction(count, 100)
    assert sum(Fraction(text) % step_of(bound) == 0 for text in found) > 0.99 * len(found)


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"])
@pytest.mark.parametrize("bound", [1.0, 2.5, 30.0])
def test_integers_are_never_further_than_the_bound_and_stay_in_their_dtype(
    dtype: str, bound: float
) -> None:
    print(f"seed {SEED}")
    bits = int(dtype[1:])
    low, high = (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    chance = random.Random(SEED)
    values = [low, low + 1, high, high - 1, 0, *(chance.randint(low, high) for _ in range(300))]
    found, _ = stored(schema_of(dtype, bound), values)
    step = step_of(bound)
    for value, kept in zip(values, found, strict=True):
        assert abs(kept - value) <= bound
        assert low <= kept <= high
        assert kept % step == 0 or kept == value


def test_rounding_never_leaves_the_declared_range() -> None:
    schema = schema_of("f64", 0.05, range=(0.03, 0.97))
    found, _ = stored(schema, [0.03, 0.04, 0.26, 0.96, 0.97])
    assert found == [0.03, 0.1 if found[1] == 0.1 else 0.04, 0.3, 0.96, 0.97]
    found, _ = stored(schema_of("i32", 5.0, range=(-7, 18)), [-7, -5, 4, 14, 16, 18])
    assert found == [-7, 0, 0, 10, 16, 18]


def test_a_number_and_an_array_give_the_same_value() -> None:
    numpy = pytest.importorskip("numpy")
    schema = schema_of("f64", 0.01)
    values = [20.013, -3.14159, 1e-3, 7.01]
    found, _ = stored(schema, values)
    table = numpy.array([(value,) for value in values], dtype=[("x", "f8")])
    batch = Batch(schema)
    batch.extend(table)
    assert list(batch.column("x")) == found


@pytest.mark.parametrize(
    ("dtype", "bound", "why"),
    [
        ("bool", 1.0, "for numbers"),
        ("utf8", 1.0, "for numbers"),
        ("f64", -1.0, "positive"),
        ("f64", math.nan, "positive"),
        ("f64", math.inf, "positive"),
        ("f64", 1e-19, "at least 5e-19"),
        ("i32", 0.5, "one step of its own"),
        ("decimal(2)", 0.005, "one step of its own"),
    ],
)
def test_a_bound_that_means_nothing_is_refused(dtype: str, bound: float, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        schema_of(dtype, bound)


def test_the_schema_carries_the_bound() -> None:
    schema = schema_of("f32", 0.25)
    again = ec.Schema.from_bytes(schema.canonical_bytes)
    assert again == schema
    assert again.fields[0].max_error == 0.25
    assert schema.fingerprint != schema_of("f32", 0.0).fingerprint


# ---------------------------------------------------------------- in blocks


def sealed(schema: ec.Schema, rows: list[dict[str, Any]]) -> tuple[bytes, bytes, bytes]:
    """(run digest before sealing, after it, the sealed block)."""
    with Log.open("log", schemas=[schema], flusher="manual", fs=MemoryFs()) as log:
        done = log.append(schema.stream, rows)
        log.sync()
        (before,) = log.runs(done.partition, 0, 1 << 24)
        log.core.rotate()
        log.core.rotate()
        log.seal()
        (after,) = log.runs(done.partition, 0, 1 << 24, blocks=True)
        assert after.block
        return before.digest, after.digest, after.block


def test_a_run_is_the_same_before_and_after_it_is_sealed() -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    schema = ec.Schema(
        "s",
        tier="bulk",
        fields=[ec.Field("plain", "f64"), ec.Field("x", "f64", max_error=0.01),
                ec.Field("n", "i32", max_error=2)],
    )  # fmt: skip
    rows = [
        {"time": i, "plain": chance.gauss(0, 1), "x": chance.gauss(20, 5), "n": i * 7}
        for i in range(500)
    ]
    before, after, block = sealed(schema, rows)
    assert before == after
    head = columns.Block(block)
    assert head.digest == before
    assert head.max_errors == {1: 0.01, 2: 2.0}
    kept = columns.column(block, schema, "x")
    assert all(abs(Fraction(a) - Fraction(row["x"])) <= Fraction(0.01)
               for a, row in zip(kept, rows, strict=True))  # fmt: skip
    assert list(columns.column(block, schema, "plain")) == [row["plain"] for row in rows]


def test_a_bound_makes_a_block_smaller() -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    rows = [{"time": i, "x": chance.gauss(20, 5)} for i in range(1000)]
    sizes = [len(sealed(schema_of("f64", bound), rows)[2]) for bound in (0.0, 0.001, 0.01, 0.1)]
    assert all(a > b + 300 for a, b in pairwise(sizes)), sizes


def test_a_block_with_other_bounds_than_its_schema_is_refused() -> None:
    schema = schema_of("f64", 0.01)
    _, _, block = sealed(schema, [{"time": 1, "x": 1.0}])
    head = struct.pack("<HHd", 1, 0, 0.01)
    at = block.index(head)
    assert at == 126
    for other in [(1, 0, 0.02), (1, 1, 0.01), (0, 0, 0.01), (1, 0, math.nan), (1, 0, -0.01)]:
        with pytest.raises(Corrupt):
            columns.decode(rewritten(block, at, struct.pack("<HHd", *other)), schema)
    with pytest.raises(Incompatible, match="feature"):
        columns.decode(rewritten(block, 8, struct.pack("<I", 2)), schema)


def rewritten(block: bytes, at: int, what: bytes) -> bytes:
    """The block with other bytes at a place, and the checksum of that."""
    from edgecore._core.base import crc32c

    made = block[:at] + what + block[at + len(what) :]
    return made[:122] + struct.pack("<I", crc32c(made[126:], crc32c(made[:122]))) + made[126:]
