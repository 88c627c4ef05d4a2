"""Features from Python: against an oracle in exact fractions, through batch, stream and restart."""

from __future__ import annotations

import math
import random
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest

import edgecore as ec
from edgecore.errors import Corrupt, EdgecoreError, Incompatible, Invalid, Stale
from edgecore.features import (
    FRESH,
    MISSING,
    REASONS,
    STALE,
    Feature,
    FeatureStore,
    duration_ns,
    prepare,
)
from edgecore.fs import MemoryFs

SECOND = 10**9
START = 1_700_000_000 * SECOND
OPS = ["count", "sum", "mean", "std", "min", "max"]


def telemetry(dtype: str = "decimal(3)", **field: Any) -> ec.Schema:
    field.setdefault("range", (-40, 150))
    fields = [ec.Field("pump", "category"), ec.Field("temp", dtype, **field)]
    return ec.Schema("telemetry", tier="bulk", fields=fields)


def pump_health(lateness: str = "30s", ops: list[str] = OPS, **judged: Any) -> ec.FeatureView:
    return ec.FeatureView(
        "pump_health",
        entity="pump",
        source="telemetry",
        lateness=lateness,
        features=[
            ec.Agg("temp", ops, window=["1m", "10m"], **judged),
            ec.Last("temp", **judged),
            ec.Recency(**judged),
        ],
    )


def random_rows(seed: int, count: int, late_s: int = 25) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    time = START
    rows = []
    for i in range(count):
        time += chance.choice([0, 1, 7, 7, 30, 700]) * SECOND + chance.randrange(3)
        row: dict[str, Any] = {
            "time": time - (chance.randrange(late_s * SECOND) if chance.random() < 0.2 else 0),
            "pump": chance.choice("ab"),
            "temp": chance.randrange(-40_000, 150_001) / 1000,
            "source_seq": i + 1,
        }
        if chance.random() < 0.1:
            del row["temp"]
        rows.append(row)
    return rows


# ---------------------------------------------------------------- the oracle


def nearest(value: Fraction) -> float:
    """The double nearest to a rational: Python's own division of integers is correctly rounded."""
    return value.numerator / value.denominator


def oracle(values: list[Fraction], op: str, places: int = 3) -> float | None:
    """The definition, in exact fractions; None is MISSING."""
    n = len(values)
    if op == "count":
        return float(n)
    if n == 0 or (op == "std" and n < 2):
        return None
    if op == "std":
        grid = 10**places
        steps = [int(value * grid) for value in values]
        spread = n * sum(s * s for s in steps) - sum(steps) ** 2
        return math.sqrt(float(spread) / float(n * (n - 1))) / float(grid)
    total = {"sum": sum, "min": min, "max": max, "mean": lambda v: sum(v) / n}[op]
    return nearest(Fraction(total(values)))


# What a window of so many events makes of each operator: the one table of semantics.
SEMANTICS = {
    #         no event in the window   one event: value 20.5
    "count": (0.0, 1.0),
    "sum": (None, 20.5),
    "mean": (None, 20.5),
    "std": (None, None),
    "min": (None, 20.5),
    "max": (None, 20.5),
}


def close_to_true_std(values: list[Fraction], got: float) -> bool:
    """Within 2 ulp of the sample standard deviation (ddof = 1) in 60 digits."""
    n = len(values)
    variance = (sum(v * v for v in values) - sum(values) ** 2 / n) / (n - 1)
    with localcontext() as context:
        context.prec = 60
        true = (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt()
        return abs(Decimal(got) - true) <= 2 * Decimal(math.ulp(float(true)))


@pytest.mark.parametrize(
    ("dtype", "field", "places"),
    [
        ("decimal(3)", {"range": (-40, 150)}, 3),
        ("decimal(9)", {"range": (-4_000_000, 4_000_000)}, 9),
        ("i32", {"range": None}, 0),
        ("f64", {"range": (-1000, 1000), "resolution": 0.001}, 3),
    ],
)
def test_features_equal_exact_fractions_to_the_bit(
    seed: int, dtype: str, field: dict[str, Any], places: int
) -> None:
    schema = telemetry(dtype, **field)
    view = pump_health()
    chance = random.Random(seed)
    low, high = field["range"] or (-(2**31), 2**31 - 1)
    rows = random_rows(seed, 300)
    steps = {}
    for row in rows:
        if "temp" not in row:
            continue
        step = chance.randrange(low * 10**places, high * 10**places + 1)
        row["temp"] = step if places == 0 else step / 10**places
        steps[row["source_seq"]] = Fraction(step, 10**places)
    found = ec.backfill(view, rows, schema=schema)
    rows.sort(key=lambda row: (row["time"], row["source_seq"]))
    names = list(found.names)
    spreads = 0
    for at, row in enumerate(rows):
        for label, window in (("1m", 60 * SECOND), ("10m", 600 * SECOND)):
            inside = [
                steps[other["source_seq"]]
                for other in rows[: at + 1]
                if other["pump"] == row["pump"]
                and "temp" in other
                and row["time"] - window < other["time"] <= row["time"]
            ]
            known = any(
                other["pump"] == row["pump"]
                and "temp" in other
                and row["time"] - 2 * window < other["time"]
                for other in rows[: at + 1]
            )
            for op in OPS:
                cell = at * found.width + names.index(f"temp_{op}_{label}")
                want = oracle(inside, op, places) if known else None
                if want is None:
                    assert found.states[cell] == MISSING
                    assert math.isnan(found.values[cell])
                else:
                    assert found.states[cell] == FRESH
                    assert found.values[cell] == want, (op, label, at)
                if op == "std" and want is not None:
                    spreads += 1
                    assert close_to_true_std(inside, found.values[cell])
    assert spreads > 100


def test_features_of_ungridded_floats_have_the_exact_sum_of_doubles(seed: int) -> None:
    schema = telemetry("f64", range=None)
    view = pump_health(ops=["count", "sum", "mean", "min", "max"])
    chance = random.Random(seed)
    rows = [
        {"time": START + i * SECOND, "pump": "a", "temp": chance.choice([1e16, -1e16, 0.1, 1e-300])}
        for i in range(500)
    ]
    found = ec.backfill(view, rows, schema=schema)
    for at in range(500):
        inside = [row["temp"] for row in rows[max(0, at - 59) : at + 1]]
        assert found.values[at * found.width + 1] == math.fsum(inside)
        assert found.values[at * found.width + 2] == math.fsum(inside) / len(inside)
    with pytest.raises(Incompatible, match="decimal"):
        ec.backfill(pump_health(), rows, schema=schema)


@pytest.mark.parametrize("op", OPS)
def test_features_semantics_of_empty_and_single(op: str) -> None:
    store = open_store(MemoryFs(), pump_health())
    store.update("telemetry", {"time": START, "pump": "a", "temp": 20.5})
    for at, as_of in ((1, START), (0, START + 60 * SECOND)):
        got = store.read("pump_health", "a", as_of).to_dict()[f"temp_{op}_1m"]
        assert got == SEMANTICS[op][at]


# ---------------------------------------------------------------- stream, batch, restart


def open_store(fs: Any, view: ec.FeatureView, schema: ec.Schema | None = None) -> FeatureStore:
    return FeatureStore.open("features", views=[view], schemas=[schema or telemetry()], fs=fs)


def bits(reading: Any) -> tuple[bytes, ...]:
    return tuple(bytes(getattr(reading, name).cast("B")) for name in
                 ("values", "states", "ages", "coverage", "reasons"))  # fmt: skip


def test_features_stream_equals_batch_to_the_bit(seed: int) -> None:
    view, schema = pump_health(), telemetry()
    rows = sorted(random_rows(seed, 400), key=lambda row: (row["time"], row["source_seq"]))
    found = ec.backfill(view, rows, schema=schema)
    store = open_store(MemoryFs(), view)
    for at, row in enumerate(rows):
        store.update("telemetry", row)
        reading = store.read(view, row["pump"], row["time"])
        cells = slice(at * found.width, (at + 1) * found.width)
        assert bytes(reading.values.cast("B")) == bytes(found.values[cells].tobytes())
        assert reading.states == found.states[cells]
    assert found.entities == [row["pump"] for row in rows]
    assert list(found.times) == [row["time"] for row in rows]


def test_features_restart_at_any_cut_changes_nothing(seed: int) -> None:
    view = pump_health()
    rows = random_rows(seed, 120)
    whole = open_store(MemoryFs(), view)
    whole.update_batch("telemetry", rows)
    newest = max(row["time"] for row in rows)
    want = bits(whole.read(view, ["a", "b", "c"], newest))
    for cut in range(0, len(rows), 7):
        fs = MemoryFs()
        first = open_store(fs, view)
        first.update_batch("telemetry", rows[:cut])
        first.snapshot()
        second = open_store(fs, view)
        assert second.position == cut
        assert not second.rebuilt
        # Replaying from too early is harmless: positions say what was seen.
        start = max(0, cut - 5)
        second.update_batch("telemetry", rows[start:], position=start + 1)
        assert bits(second.read(view, ["a", "b", "c"], newest)) == want
        assert second.late_rows == whole.late_rows


def test_features_arrival_order_within_lateness_leaves_no_trace(seed: int) -> None:
    view = pump_health()
    chance = random.Random(seed)
    rows = [
        {"time": START + i // 2 * SECOND, "pump": "a", "temp": float(i % 90), "source_seq": i}
        for i in range(600)
    ]
    shuffled = sorted(rows, key=lambda row: row["time"] + chance.randrange(30) * SECOND)
    assert shuffled != rows
    readings = []
    for order in (rows, shuffled):
        store = open_store(MemoryFs(), view)
        store.update_batch("telemetry", order)
        assert store.late_rows == 0
        readings.append(
            [bits(store.read(view, "a", START + at * SECOND)) for at in (270, 299, 400)]
        )
    assert readings[0] == readings[1]


def test_features_late_beyond_lateness_are_counted_and_early_reads_stale() -> None:
    store = open_store(MemoryFs(), pump_health())
    store.update("telemetry", {"time": START, "pump": "a", "temp": 1})
    store.update("telemetry", {"time": START - 31 * SECOND, "pump": "a", "temp": 9})
    store.update("telemetry", {"time": START - 30 * SECOND, "pump": "a", "temp": 2})
    assert store.late_rows == 1
    assert store.position == 3
    assert store.read("pump_health", "a", START).to_dict()["temp_sum_1m"] == 3.0
    with pytest.raises(Stale):
        store.read("pump_health", "a", START - 31 * SECOND)


def test_features_ttl_makes_values_stale_visibly() -> None:
    view = ec.FeatureView(
        "pump_health", entity="pump", source="telemetry",
        features=[
            Feature("use", "mean", "temp", "1h", ttl="5m"),
            Feature("default", "mean", "temp", "1h", ttl="5m", on_stale="default", default=7),
            Feature("binding", "mean", "temp", "1h", ttl="5m", on_stale="default"),
            Feature("missing", "mean", "temp", "1h", ttl="5m", on_stale="missing"),
            Feature("warming", "mean", "temp", "1h", min_count=2),
            Feature("covered", "mean", "temp", "1h", min_coverage=0.5),
        ],
    )  # fmt: skip
    store = open_store(MemoryFs(), view)
    store.update("telemetry", {"time": START, "pump": "a", "temp": 3})
    fresh = store.read(view, "a", START + 300 * SECOND)
    assert list(fresh.states) == [FRESH, FRESH, FRESH, FRESH, MISSING, MISSING]
    assert [REASONS[r] for r in fresh.reasons[4:]] == ["warming", "warming"]
    stale = store.read(view, "a", START + 300 * SECOND + 1)
    assert list(stale.states[:4]) == [STALE, STALE, STALE, MISSING]
    assert list(stale.values[:2]) == [3.0, 7.0]
    assert math.isnan(stale.values[2])
    assert math.isnan(stale.values[3])
    assert REASONS[stale.reasons[0]] == "ttl"
    covered = store.read(view, "a", START + 1800 * SECOND)
    assert covered.states[5] == FRESH
    assert covered.coverage[5] == 0.5
    unknown = store.read(view, "nobody", START)
    assert set(unknown.states) == {MISSING}
    assert set(unknown.ages) == {-1}


# ---------------------------------------------------------------- definitions and damage


def test_features_view_bytes_are_canonical() -> None:
    view = pump_health(ttl="5m", min_coverage=0.8)
    again = ec.FeatureView.from_bytes(view.to_bytes())
    assert again == view
    assert again.fingerprints_for(telemetry()) == view.fingerprints_for(telemetry())
    assert view.names[:2] == ("temp_count_1m", "temp_sum_1m")
    assert view.names[-2:] == ("temp_last", "recency")
    for cut in range(0, len(view.to_bytes()), 3):
        with pytest.raises(Corrupt):
            ec.FeatureView.from_bytes(view.to_bytes()[:cut])


def test_features_definitions_that_cannot_be_are_refused() -> None:
    with pytest.raises(Invalid, match="median"):
        ec.Agg("temp", "median", window="1m")
    with pytest.raises(Invalid, match="duration"):
        duration_ns("1 fortnight")
    absent = ec.FeatureView(
        "v", entity="pump", source="telemetry", features=[ec.Agg("rpm", "mean", window="1m")]
    )
    with pytest.raises(Incompatible, match="no field 'rpm'"):
        absent.plan(telemetry())
    with pytest.raises(Incompatible, match="range="):
        pump_health().plan(telemetry(range=None))
    later = pump_health().to_bytes().replace(b"dmean", b"dmeen")
    with pytest.raises(Incompatible, match="meen@1"):
        ec.FeatureView.from_bytes(later)


def test_features_bad_row_is_named_and_changes_nothing() -> None:
    store = open_store(MemoryFs(), pump_health())
    store.update("telemetry", {"time": START, "pump": "a", "temp": 1})
    before = bits(store.read("pump_health", "a", START))
    with pytest.raises(Invalid, match="temp"):
        store.update("telemetry", {"time": START, "pump": "a", "temp": 151})
    assert bits(store.read("pump_health", "a", START)) == before
    assert store.position == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "another view"])
def test_features_unusable_snapshot_is_reported_and_rebuilt(damage: str) -> None:
    fs = MemoryFs()
    store = open_store(fs, pump_health())
    store.update("telemetry", {"time": START, "pump": "a", "temp": 1})
    store.snapshot()
    (name,) = fs.list("features")
    data = bytearray(fs.read_file(f"features/{name}", 1 << 20))
    if damage == "flip":
        data[60] ^= 1
    elif damage == "cut":
        del data[-9:]
    fs.write_atomic(f"features/{name}", bytes(data))
    view = pump_health("29s") if damage == "another view" else pump_health()
    again = open_store(fs, view)
    assert again.position == 0
    word = "Incompatible" if damage == "another view" else "Corrupt"
    assert again.rebuilt["pump_health"].startswith(word)


def test_features_snapshot_survives_a_power_cut_at_every_operation() -> None:
    for operation in range(1, 200):
        fs = MemoryFs()
        store = open_store(fs, pump_health())
        store.update("telemetry", {"time": START, "pump": "a", "temp": 1})
        store.snapshot()
        store.update("telemetry", {"time": START + 1, "pump": "a", "temp": 2})
        fs.cut_power_at(operation)
        try:
            store.snapshot()
            finished = True
        except EdgecoreError:
            finished = False
        for image in fs.crash_states(8, operation):
            again = open_store(image, pump_health())
            assert again.position in ((2,) if finished else (1, 2))
            assert not again.rebuilt
        if finished:
            assert operation > 2
            return
    pytest.fail("the snapshot never finished")


def test_features_integer_entities_and_whole_stream() -> None:
    fields = [ec.Field("unit", "u16"), ec.Field("temp", "decimal(1)", range=(0, 9))]
    schema = ec.Schema("s", tier="bulk", fields=fields)
    by_unit = ec.FeatureView("u", entity="unit", source="s",
                             features=[ec.Agg("temp", "sum", window="1m")])  # fmt: skip
    whole = ec.FeatureView("w", entity="", source="s",
                           features=[ec.Agg("temp", "sum", window="1m")])  # fmt: skip
    rows = prepare(schema, [{"time": START + i, "unit": i % 2, "temp": 0.1} for i in range(5)])
    assert list(ec.backfill(by_unit, rows, schema=schema).values) == [0.1, 0.1, 0.2, 0.2, 0.3]
    assert list(ec.backfill(whole, rows, schema=schema).values) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert ec.backfill(by_unit, rows, schema=schema).entities == ["0", "1", "0", "1", "0"]


def test_features_take_numpy_and_arrow_rows() -> None:
    np = pytest.importorskip("numpy")
    schema, view = telemetry(), pump_health()
    rows = [{"time": START + i * SECOND, "pump": "a", "temp": i / 8} for i in range(50)]
    want = bytes(ec.backfill(view, rows, schema=schema).values.cast("B"))
    array = np.zeros(50, dtype=[("time", "i8"), ("pump", "U4"), ("temp", "f8")])
    for i, row in enumerate(rows):
        array[i] = (row["time"], row["pump"], row["temp"])
    assert bytes(ec.backfill(view, array, schema=schema).values.cast("B")) == want
    pa = pytest.importorskip("pyarrow")
    table = pa.table({key: [row[key] for row in rows] for key in rows[0]})
    assert bytes(ec.backfill(view, table, schema=schema).values.cast("B")) == want
