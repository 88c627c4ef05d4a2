"""What is not exact, or exact at a price that is asked for: estimates of distinct values, quantiles
of ratio scales, and the spread of floats without a grid. All are held to exact oracles."""

from __future__ import annotations

import json
import math
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore.cli.main import main
from edgecore.device import infer, schema_file
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.features import FRESH, MISSING, REASONS, Feature, FeatureStore, category_code
from edgecore.fs import MemoryFs

SECOND = 10**9
START = 1_700_000_000 * SECOND
LATENCY = ec.Field("latency", "decimal(6)", unit="s", range=(0, 10_000), ratio=True)


def schema_of(*fields: ec.Field) -> ec.Schema:
    return ec.Schema("telemetry", tier="bulk", fields=[ec.Field("pump", "category"), *fields])


def view_of(*features: Any) -> ec.FeatureView:
    return ec.FeatureView("v", entity="pump", source="telemetry", lateness="30s", features=features)


def store_of(view: ec.FeatureView, schema: ec.Schema) -> FeatureStore:
    return FeatureStore.open("f", views=[view], schemas=[schema], fs=MemoryFs())


def row_of(number: int, time: int, **values: Any) -> dict[str, Any]:
    return {"time": time, "pump": "a", "source_seq": number + 1, **values}


# ---------------------------------------------------------------- floats without a grid

LOAD = schema_of(ec.Field("load", "f64"))


def exact_variance(values: list[float]) -> float | None:
    n = len(values)
    if n < 2:
        return None
    total, squares = sum(map(Fraction, values)), sum(Fraction(one) ** 2 for one in values)
    spread = n * squares - total**2
    return spread.numerator / spread.denominator / float(n * (n - 1))


def test_approx_spread_of_floats_is_that_of_the_doubles_as_they_are(seed: int) -> None:
    view = view_of(
        ec.Agg("load", ["mean", "std", "variance"], window="1m", approx=True),
        ec.Agg("load", "std", window="1m", hop="10s", approx=True),
    )
    assert [spec.approx for spec in view.specs] == [False, True, True, True]
    assert view.plan(LOAD).errors == [0.0] * 4
    chance = random.Random(seed)
    rows, time = [], START
    for i in range(250):
        time += chance.choice([0, 1, 1, 7]) * SECOND
        load = chance.choice([
            1e9 + chance.random(), 1e9 + chance.random(), -0.0, chance.gauss(0, 1e-200), math.inf,
            chance.uniform(-1e150, 1e150) if chance.random() < 0.1 else 1e9,
        ])  # fmt: skip
        late = chance.randrange(25 * SECOND) if chance.random() < 0.2 else 0
        rows.append(row_of(i, time - late, load=load))
    found = ec.backfill(view, rows, schema=LOAD, known="ingest")
    store = store_of(view, LOAD)
    for at, row in enumerate(rows):
        store.update("telemetry", row)
        if at % 31 == 0:
            store.snapshot()
            store = FeatureStore("f", [view], [LOAD], store._fs)
            assert not store.rebuilt
        reading = store.read(view, "a", row["time"])
        cells = found.values[at * found.width : (at + 1) * found.width]
        assert bytes(reading.values.cast("B")) == cells.tobytes()
        for upto, which in ((row["time"], 1), (row["time"] // (10 * SECOND) * 10 * SECOND, 3)):
            inside = [
                one["load"] for one in rows[: at + 1]
                if upto - 60 * SECOND < one["time"] <= upto and math.isfinite(one["load"])
            ]  # fmt: skip
            want = exact_variance(inside)
            if want is None:
                assert reading.states[which] == MISSING
                continue
            assert reading.values[which] == pytest.approx(math.sqrt(want), rel=1e-15, abs=5e-324)
            if which == 1 and want > 1e-290:
                assert reading.values[2] == want
            assert reading.values[which] >= 0
            assert reading.states[which] == FRESH


def test_approx_is_asked_for_and_part_of_the_fingerprint() -> None:
    with pytest.raises(Incompatible, match="or say approx=True"):
        view_of(ec.Agg("load", "std", window="1m")).plan(LOAD)
    with pytest.raises(Invalid, match="approx is of std, variance, distinct"):
        ec.Agg("load", "mean", window="1m", approx=True)
    with pytest.raises(Invalid, match="approx is of a std, a variance or distinct values"):
        view_of(Feature("x", "mean", "load", "1m", approx=True)).plan(LOAD)
    plain, asked = (
        view_of(ec.Distinct("load", window="1m", approx=approx)) for approx in (False, True)
    )
    assert plain.fingerprints_for(LOAD) != asked.fingerprints_for(LOAD)
    assert "approx" not in plain.specs[0].canonical()
    assert plain == view_of(ec.Distinct("load", window="1m"))
    assert ec.FeatureView.from_bytes(asked.to_bytes()) == asked
    text = 'name = "v"\nentity = "pump"\nsource = "telemetry"\nlateness = "30s"\n[[features]]\n'
    table = text + 'kind = "distinct"\nfield = "load"\nwindow = "1m"\napprox = '
    assert ec.FeatureView.from_toml(table + "true") == asked
    with pytest.raises(Invalid, match="line 9, key 'approx': true or false is needed"):
        ec.FeatureView.from_toml(table + "1")


# ---------------------------------------------------------------- distinct values


def estimate(values: set[int]) -> int:
    """As the page says, of the values as they are stored."""
    whole, ranks = 2**64 - 1, [0] * 1024
    for value in values:
        x = (value + 0x9E3779B97F4A7C15) & whole
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & whole
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) & whole
        x ^= x >> 31
        rest = x & (1 << 54) - 1
        ranks[x >> 54] = max(ranks[x >> 54], min(54 - rest.bit_length(), 23) + 1)
    having = [ranks.count(rank) for rank in range(25)]

    def tau(x: float) -> float:
        weight, total = 1.0, 1 - x
        while x not in (0, 1):
            x, weight, before = math.sqrt(x), weight / 2, total
            total -= (1 - x) ** 2 * weight
            if total == before:
                return total / 3
        return 0.0

    def sigma(x: float) -> float:
        weight, total, before = 1.0, x, -1.0
        while total != before:
            x, before = x * x, total
            total += x * weight
            weight *= 2
        return total

    z = 1024 * tau(1 - having[24] / 1024)
    for rank in range(23, 0, -1):
        z = (z + having[rank]) / 2
    z += 1024 * sigma(having[0] / 1024)
    return int(1 / (2 * math.log(2)) * 1024 * 1024 / z + 0.5)


def test_approx_distinct_is_exact_to_1024_then_flagged_and_near(seed: int) -> None:
    schema = schema_of(ec.Field("code", "i64"), ec.Field("name", "category"))
    view = view_of(
        ec.Distinct("code", window="1h", approx=True), ec.Distinct("name", window="1h", approx=True)
    )
    plan = view.plan(schema)
    assert all(math.isnan(one) for one in plan.errors)
    assert plan.relative_errors == [0.0325, 0.0325]
    chance = random.Random(seed)
    rows = [
        row_of(i, START + i * SECOND, code=code, name=f"n{code}")
        for i, code in enumerate(
            chance.randrange(40 if i < 3000 or i > 10_000 else 10**9) for i in range(14_000)
        )
    ]
    found = ec.backfill(view, rows, schema=schema)
    store = store_of(view, schema)
    store.update_batch("telemetry", rows[:9000])
    estimates = 0
    for at in range(9000, 14_000, 250):
        store.update_batch("telemetry", rows[max(9000, at - 249) : at + 1])
        reading = store.read(view, "a", rows[at]["time"])
        cells = found.values[at * found.width : (at + 1) * found.width]
        assert bytes(reading.values.cast("B")) == cells.tobytes()
        codes = {row["code"] for row in rows[at - 3599 : at + 1]}
        exact = len(codes)
        if exact > 1024:
            names = {category_code(f"n{code}") for code in codes}
            assert list(reading.values) == [min(3600, estimate(one)) for one in (codes, names)]
        for value, reason in zip(reading.values, reading.reasons, strict=True):
            if exact <= 1024:
                assert (value, REASONS[reason]) == (exact, "")
            else:
                estimates += 1
                assert REASONS[reason] == "approximate"
                assert value == pytest.approx(exact, rel=6 * 0.0325)
    assert estimates > 10


# ---------------------------------------------------------------- ratio scales


def middle(steps: int) -> int:
    """Of the bucket that a number of steps lies in, as the page says; no range cuts it."""
    drop = max(0, steps.bit_length() - 6)
    first = steps >> drop << drop
    return first + ((1 << drop) - 1) // 2


def test_approx_quantiles_of_a_ratio_scale_hold_over_seven_decades(seed: int) -> None:
    linear = ec.Field("latency", "decimal(6)", unit="s", range=(0, 10_000))
    real = ec.Field("real", "f64", unit="s", range=(0, 10_000), ratio=True)
    ops = ["p1", "p50", "p95", "p99.9"]
    chance = random.Random(seed)
    values = [round(10 ** chance.uniform(-3, 3), 6) for _ in range(4000)]
    rows = [
        row_of(i, START + i * SECOND, latency=one, real=one / 3) for i, one in enumerate(values)
    ]
    worst = {}
    for field in (linear, LATENCY):
        schema = schema_of(field, real)
        view = view_of(ec.Agg("latency", ops, window="1h"), ec.Agg("real", ops, window="1h"))
        plan = view.plan(schema)
        store = store_of(view, schema)
        store.update_batch("telemetry", rows)
        reading = store.read(view, "a", rows[-1]["time"])
        ordered = sorted(values[-3600:])
        off = []
        for at, permille in enumerate((10, 500, 950, 999)):
            exact = ordered[math.ceil(permille * 3.6) - 1]
            assert {REASONS[reading.reasons[i]] for i in (at, at + 4)} == {"approximate"}
            assert reading.values[at + 4] == pytest.approx(exact / 3, rel=1 / 64)
            assert abs(reading.values[at] - exact) <= plan.errors[at]
            if field.ratio:
                assert reading.values[at] == middle(round(exact * 10**6)) / 10**6
            off.append(abs(reading.values[at] / exact - 1))
        worst[field.ratio] = max(off)
        assert plan.relative_errors[4:] == [1 / 64] * 4
        assert plan.relative_errors[:4] == [1 / 64 if field.ratio else 0] * 4
    assert worst[True] <= 1 / 64
    assert worst[False] > 100  # p1 is some milliseconds, a linear bucket ten seconds


def test_approx_ratio_scale_is_declared_and_never_below_zero() -> None:
    for dtype, bounds in (("decimal(2)", None), ("f64", None), ("i32", (-1, 9)), ("f32", (-1, 1))):
        with pytest.raises(Invalid, match="nothing is below 0"):
            ec.Field("x", dtype, range=bounds, ratio=True)
    for dtype in ("category", "bool", "bytes"):
        with pytest.raises(Invalid, match="ratio is for numbers"):
            ec.Field("x", dtype, ratio=True)
    assert ec.Field("x", "u16", ratio=True).canonical()["ratio"] is True
    schema = schema_of(LATENCY)
    assert ec.Schema.from_bytes(schema.canonical_bytes) == schema
    assert LATENCY.fingerprint != ec.Field("latency", "decimal(6)", unit="s",
                                           range=(0, 10_000)).fingerprint  # fmt: skip
    with pytest.raises(Corrupt):
        ec.Schema.from_bytes(schema.canonical_bytes.replace(b"eratio\xf5", b"eratio\xf4"))
    store = store_of(view_of(ec.Agg("latency", "p50", window="1m")), schema)
    with pytest.raises(Invalid, match="latency"):
        store.update("telemetry", row_of(0, START, latency=-0.001))
    with pytest.raises(Incompatible, match=r"needs a grid; .* or with range= and ratio=True"):
        view_of(ec.Agg("load", "p50", window="1m")).plan(LOAD)


def test_approx_ratio_scale_is_in_schema_files_and_infer_speaks_of_it(tmp_path: Path) -> None:
    text = """
stream = "web"
[[field]]
name = "latency"
dtype = "decimal(3)"
range = [0, 1000]
ratio = true
"""
    assert schema_file.parse("web.toml", text).schema.fields[0].ratio is True
    with pytest.raises(Invalid, match="ratio is a int, not a bool"):
        schema_file.parse("web.toml", text.replace("true", "1"))
    file = tmp_path / "web.csv"
    file.write_text("time,latency,temp\n" + "".join(
        f"2024-01-01T00:00:{i:02}Z,{10 ** (i - 3)},{20 + i / 10}\n" for i in range(7)
    ))  # fmt: skip
    proposal = infer.infer(str(file), "web")
    assert not any(field.ratio for field in proposal.how.schema.fields)
    assert "from 0.001 to 1000 and nothing below 0" in proposal.notes["latency"]
    assert "ratio = true makes" not in proposal.notes.get("temp", "")


def test_approx_features_show_says_what_each_answer_is_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = schema_of(LATENCY)
    view = view_of(ec.Agg("latency", "p95", window="1h"),
                   ec.Distinct("latency", window="1h", approx=True))  # fmt: skip
    (tmp_path / "view.cbor").write_bytes(view.to_bytes())
    (tmp_path / "schema.cbor").write_bytes(schema.canonical_bytes)
    command = ["features", "show", str(tmp_path / "view.cbor"), "--schema",
               str(tmp_path / "schema.cbor")]  # fmt: skip
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "±1.56%" in said
    assert "±3.25% (1 sigma)" in said
    assert "distinct@1 approx" in said
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["features"]
    assert [(one["error"], one["relative_error"]) for one in told] == [
        (156.25, 0.015625), (None, 0.0325),
    ]  # fmt: skip
