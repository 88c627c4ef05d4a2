"""Hostile rows, floods and definitions: a clear outcome by name, and the state as it was."""

from __future__ import annotations

import json
import math
import random
from contextlib import suppress
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import cbor2
import pytest

import edgecore as ec
from edgecore.errors import Corrupt, Exhausted, Incompatible, Invalid
from edgecore.features import Feature, FeatureStore, prepare
from edgecore.fs import MemoryFs

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"
# The view with every parameter that a feature of one stream may have.
GOLDEN = json.loads((VECTORS / "feature-parameters.json").read_text())["parameters"]
SCHEMA = ec.Schema.from_bytes(bytes.fromhex(GOLDEN["schemas"][0]))
VIEW = ec.FeatureView.from_bytes(bytes.fromhex(GOLDEN["bytes"]))
WIDE = ec.Schema("wide", tier="bulk", fields=[ec.Field("i", "i64"), ec.Field("u", "u64")])
SECOND = 10**9
START = 1_700_000_040 * SECOND
DENORMAL = 5e-324


def opened(view: ec.FeatureView = VIEW, schema: ec.Schema = SCHEMA) -> tuple[FeatureStore, Any]:
    fs = MemoryFs()
    return FeatureStore.open("f", views=[view], schemas=[schema], fs=fs), fs


def state(store: FeatureStore, fs: Any) -> bytes:
    store.snapshot()
    (file,) = fs.list("f")
    return bytes(fs.read_file(f"f/{file}", 1 << 30))


def good(second: float, **values: Any) -> dict[str, Any]:
    row = {"time": START + round(second * SECOND), "pump": "a", "temp": 20.0, "flow": 1.0,
           "load": 1.0, "on": True, "mode": "run"}  # fmt: skip
    return {**row, **values}


HUGE = (math.inf, -math.inf, math.nan, 1.7976931348623157e308, -DENORMAL, 2**80, 10**400, "x", True)


@pytest.mark.parametrize(("field", "value"), [
    *product(["flow"], HUGE),
    *((("temp", value)) for value in (*HUGE, 150.1, -40.1, 1e30) if value != -DENORMAL),
    *((("load", value)) for value in (10**400, "x", True)),
    ("on", 2), ("mode", 7), ("time", 1.5), ("time", 2**63), ("pump", b"\xff"), ("source_seq", -1),
    ("source_seq", 2**64), ("rpm", 3),
])  # fmt: skip
def test_bad_input_a_value_that_is_none_of_its_field_is_invalid_and_changes_nothing(
    field: str, value: Any
) -> None:
    store, fs = opened()
    store.update("telemetry", good(0))
    before = state(store, fs)
    with pytest.raises(Invalid, match=field):
        store.update("telemetry", good(1, **{field: value}))
    with pytest.raises(Invalid, match=field):  # one such row refuses its batch
        store.update_batch("telemetry", [good(1), good(2, **{field: value})])
    assert state(store, fs) == before
    assert store.position == 1
    store.update("telemetry", good(1))
    assert store.read(VIEW, "a", START + SECOND).to_dict()["temp_count_1m"] == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_bad_input_a_float_that_is_not_finite_is_no_event_of_its_field(value: float) -> None:
    store, fs = opened()
    other, other_fs = opened()
    for second in range(5):
        store.update("telemetry", good(second, load=value if second % 2 else second))
        other.update("telemetry", good(second, load=None if second % 2 else second))
    assert state(store, fs) == state(other, other_fs)
    assert store.read(VIEW, "a", START + 4 * SECOND).to_dict()["load_sum_1m"] == 6


def test_bad_input_denormals_and_both_zeros_are_numbers_like_others() -> None:
    store, _ = opened()
    numbers = [DENORMAL, -3 * DENORMAL, -0.0, 2.2250738585072014e-308, 1e300, -1e300]
    for second, load in enumerate(numbers):
        store.update("telemetry", good(second, load=load, flow=DENORMAL))
    found = store.read(VIEW, "a", START + 9 * SECOND).to_dict()
    assert found["load_sum_1m"] == float(sum(map(Fraction, numbers)))
    assert found["sound_flow"] == 0
    only, _ = opened()
    only.update("telemetry", good(0, load=-0.0))
    zero = only.read(VIEW, "a", START).to_dict()["load_sum_1m"]
    assert zero == 0
    assert math.copysign(1, zero or 0.0) == 1


def test_bad_input_sums_of_the_ends_of_64_bits_do_not_wrap(seed: int) -> None:
    chance = random.Random(seed)
    ops = ["sum", "mean", "min", "max", "range", "delta", "rate", "distinct"]
    view = ec.FeatureView("v", entity="", source="wide", lateness="1m", features=[
        ec.Agg("i", ops, window="1h"), ec.Agg("u", ops, window="1h"),
        ec.Agg("i", ops, window="1h", hop="1s"),
        ec.Agg("u", ops, window="1h", gap="1m")])  # fmt: skip
    store, _ = opened(view, WIDE)
    ends = {"i": [-(2**63), 2**63 - 1, -(2**63) + 1, 0], "u": [0, 2**64 - 1, 2**63, 2**64 - 2]}
    rows = [{name: chance.choice(some) for name, some in ends.items()} for _ in range(300)]
    for second, row in enumerate(rows):
        store.update("wide", {"time": START + second * SECOND, **row})
    found = store.read(view, "", START + 299 * SECOND).to_dict()
    for name, suffix in (("i", ""), ("u", ""), ("i", "_hop_1s"), ("u", "_gap_1m")):
        values = [row[name] for row in rows]
        rise = values[-1] - values[0]
        wanted = [sum(values), Fraction(sum(values), 300), min(values), max(values),
                  max(values) - min(values), rise, Fraction(rise, 299),
                  len(set(values))]  # fmt: skip
        for op, want in zip(ops, wanted, strict=True):
            assert found[f"{name}_{op}_1h{suffix}"] == float(want), (name, op)
    for op in ("std", "variance"):
        squares = ec.FeatureView(
            "v", entity="", source="wide", features=[ec.Agg("i", op, window=1)]
        )
        with pytest.raises(Incompatible, match="range="):
            squares.plan(WIDE)


def test_bad_input_a_thousand_rows_of_one_time_all_count_in_any_order(seed: int) -> None:
    chance = random.Random(seed)
    rows = [good(0, temp=chance.randrange(-400, 1500) / 10, on=chance.random() < 0.5,
                 source_seq=chance.randrange(5)) for _ in range(1000)]  # fmt: skip
    states = []
    for _ in range(2):
        store, fs = opened()
        store.update_batch("telemetry", rows)
        states.append(state(store, fs))
        chance.shuffle(rows)
    assert states[0] == states[1]
    found = store.read(VIEW, "a", START).to_dict()
    assert found["temp_count_1m"] == 1000
    assert found["temp_rate_1m"] is None  # no time has passed


def test_bad_input_time_that_runs_backwards_counts_what_lateness_allows() -> None:
    store, fs = opened()
    for second in range(100, -1, -1):
        store.update("telemetry", good(second, temp=second))
    assert store.late_rows == 80
    straight, straight_fs = opened()
    for second in range(80, 101):
        straight.update("telemetry", good(second, temp=second))
    newest = START + 100 * SECOND
    for as_of in (newest, newest - 20 * SECOND, newest + 30 * SECOND):
        one, other = store.read(VIEW, "a", as_of), straight.read(VIEW, "a", as_of)
        assert bytes(one.values.cast("B")) == bytes(other.values.cast("B"))
    counts = 8 * 2  # of position and late rows, which the heads differ in
    head = 50
    assert state(store, fs)[head + counts : -4] == state(straight, straight_fs)[head + counts : -4]


def test_bad_input_a_flood_of_events_is_exhausted_where_sums_are_proven_no_further() -> None:
    view = ec.FeatureView("v", entity="", source="wide", lateness=0, features=[
        ec.Agg("i", ["count", "sum", "max"], window="1m")])  # fmt: skip
    store, fs = opened(view, WIDE)
    batch = prepare(WIDE, [{"time": START, "i": 2**63 - 1}] * (1 << 17))
    for _ in range(32):
        store.update_batch("wide", batch)
    before = state(store, fs)
    with pytest.raises(Exhausted, match="more than 4194304 events"):
        store.update("wide", {"time": START, "i": 1})
    assert state(store, fs) == before
    found = store.read(view, "", START).to_dict()
    assert found == {
        "i_count_1m": 1 << 22, "i_sum_1m": float((2**63 - 1) << 22), "i_max_1m": 2.0**63,
    }  # fmt: skip
    again = FeatureStore.open("f", views=[view], schemas=[WIDE], fs=fs)
    assert not again.rebuilt
    # When the window has left them there is room again.
    again.update("wide", {"time": START + 60 * SECOND, "i": 1})
    assert again.read(view, "", START + 60 * SECOND).to_dict()["i_sum_1m"] == 1


def test_bad_input_a_flood_of_sources_is_exhausted_and_changes_nothing() -> None:
    watched = ec.FeatureView("v", entity="", source="wide", lateness=0, idle="1m",
                             features=[ec.Agg("i", "count", window="1m")])  # fmt: skip
    store, fs = opened(watched, WIDE)
    for number in range(1024):
        store.update("wide", {"time": START, "i": 1, "source": f"s{number}"})
    before = state(store, fs)
    with pytest.raises(Exhausted, match="more than 1024 sources"):
        store.update("wide", {"time": START, "i": 1, "source": "one more"})
    assert state(store, fs) == before
    last = ec.FeatureView("v", entity="", source="wide", features=[ec.Last("i")])
    store, _ = opened(last, WIDE)
    with pytest.raises(Exhausted, match="more than 65536 sources"):
        store.update_batch(
            "wide", [{"time": START + n, "i": 1, "source": f"s{n}"} for n in range(65537)]
        )
    assert store.position == 65536


# ---------------------------------------------------------------- definitions

YEAR = 366 * 86_400 * SECOND


@pytest.mark.parametrize(("feature", "said"), [
    (Feature("x", "mean", "temp", 0), "window"),
    (Feature("x", "mean", "temp", -1), "window"),
    (Feature("x", "mean", "temp", YEAR // 2 + 1), "window"),
    (Feature("x", "mean", "temp", "1m", ttl=YEAR + 1), "ttl"),
    (Feature("x", "mean", "temp", "1m", hop=YEAR // 2 + 1), "hop"),
    (Feature("x", "mean", "temp", "1m", hop=-1), "hop"),
    (Feature("x", "mean", "temp", "1m", gap="2m"), "gap"),
    (Feature("x", "mean", "temp", "1m", gap="1s", hop="1s"), "hops"),
    (Feature("x", "time_in", "on", "1m", hold=YEAR), "hold"),
    (Feature("x", "ewma", "temp", YEAR), "half-life"),
    (Feature("x", "mean", "temp", "1m", min_coverage=math.nan), "min_coverage"),
    (Feature("x", "mean", "temp", "1m", min_coverage=1.5), "min_coverage"),
    (Feature("x", "last", "temp", "1m", hop="1s"), "hops"),
    (Feature("x", "bin", "temp", "1m", below=math.nan), "below|grid|bin"),
    (Feature("x", "bin", "temp", "1m", below=1e300), "below|grid|bin"),
], ids=lambda item: item.op if isinstance(item, Feature) else item)  # fmt: skip
def test_bad_input_a_feature_that_makes_no_sense_has_no_plan(feature: Feature, said: str) -> None:
    view = ec.FeatureView("v", entity="pump", source="telemetry", features=[feature])
    with pytest.raises(Invalid, match=said):
        view.plan(SCHEMA)


def test_bad_input_giant_windows_and_hops_within_the_bounds_are_answered_at_the_ends_of_time() -> (
    None
):
    half = YEAR // 2
    view = ec.FeatureView("v", entity="pump", source="telemetry", lateness=YEAR, features=[
        ec.Agg("temp", ["count", "mean"], window=half, hop=half),
        ec.Agg("temp", ["count", "mean"], window=half, gap=half),
        ec.Agg("temp", ["count", "mean"], window=half, ttl=YEAR),
        ec.TimeIn("on", window=half, hop=half)])  # fmt: skip
    for time in (-(2**63), -(2**63) + YEAR, 0, 2**63 - 1 - YEAR, 2**63 - 1):
        store, _ = opened(view)
        store.update("telemetry", good(0, time=time))
        for as_of in (time, 2**63 - 1):
            found = store.read(view, "a", as_of)
            assert all(0 <= share <= 1 for share in found.coverage)


def test_bad_input_a_view_has_at_most_1024_features() -> None:
    def of(count: int) -> ec.FeatureView:
        features = [Feature(f"f{n}", "mean", "temp", n + 1) for n in range(count)]
        return ec.FeatureView("v", entity="pump", source="telemetry", features=features)

    store, _ = opened(of(1024))
    store.update("telemetry", good(0))
    assert set(store.read("v", "a", START).values) == {20.0}
    with pytest.raises(Invalid, match="1 to 1024 features"):
        of(1025).plan(SCHEMA)


def nested(depth: int) -> Any:
    tree: Any = ["col", "temp"]
    for _ in range(depth):
        tree = ["+", tree, ["num", 1, 1]]
    return tree


@pytest.mark.parametrize("change", [
    lambda view: view.update(lateness=2**63),
    lambda view: view.update(lateness=-1),
    lambda view: view.update(lateness=1.5),
    lambda view: view.update(features=[]),
    lambda view: view.update(features={}),
    lambda view: view.update(features=view["features"] * 2),
    lambda view: view.update(features=[nested(2000)]),
    lambda view: view.update(name=None),
    lambda view: view.update(max_entities=-1),
    lambda view: view["features"][0].update(window=2**64 - 1),
    lambda view: view["features"][0].update(window=2**400),
    lambda view: view["features"][0].update(window="1m"),
    lambda view: view["features"][0].update(hop=0),
    lambda view: view["features"][0].update(permille=1000),
    lambda view: view["features"][0].update(min_count=1 << 32),
    lambda view: view["features"][0].update(on_stale="guess"),
    lambda view: view["features"][0].update(min_coverage=math.nan),
    lambda view: view["features"][0].update(op="mean" * 1000),
    lambda view: view["features"][0].update(expr=[1, nested(33)]),
    lambda view: view["features"][0].update(expr=[1, nested(2000)]),
    lambda view: view["features"][0].update(expr=[1, ["num", 1, 0]]),
    lambda view: view["features"][0].update(numerator="x"),
    lambda view: view["features"][0].update(name=7),
    lambda view: view["features"][0].update(default=10**400),
    lambda view: view.update(idle=2**63),
    lambda view: view.update(max_ahead=2**70),
    lambda view: view.update(max_bytes=2**70),
    lambda view: view["features"][0].update(name="x" * (1 << 20)),
])  # fmt: skip
def test_bad_input_a_hostile_definition_is_refused_by_name(change: Any) -> None:
    body = cbor2.loads(VIEW.to_bytes())
    change(body)
    with pytest.raises((Corrupt, Incompatible, Invalid)):
        ec.FeatureView.from_bytes(cbor2.dumps(body, canonical=True)).plan(SCHEMA)


@pytest.mark.parametrize("data", [
    b"", b"\x00", b"\xff", b"\x5b" + b"\xff" * 8, b"\x9b" + b"\xff" * 8, b"\xbb" + b"\xff" * 8,
    b"\x81" * 100_000, b"\xd8\x1c" * 50_000 + b"\x00", b"\xc2\x5a\x00\x0f\xff\xff" + b"\x01" * 99,
    b"\xa1" * 5000, bytes(1 << 20), bytes((1 << 20) + 1), b"\xa0", b"\xf6",
], ids=lambda data: f"{len(data)} bytes of {data[:2].hex()}")  # fmt: skip
def test_bad_input_bytes_that_are_no_definition_are_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        ec.FeatureView.from_bytes(data)


def test_bad_input_a_mutated_definition_is_refused_or_serves(seed: int) -> None:
    chance = random.Random(seed)
    whole = VIEW.to_bytes()
    served = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(data))
            data[at] ^= chance.choice([1, 1 << chance.randrange(8), chance.randrange(1, 256)])
        with suppress(Corrupt, Incompatible, Invalid):
            view = ec.FeatureView.from_bytes(bytes(data))
            store, _ = opened(view)
            served += 1
            for second in range(3):
                store.update("telemetry", good(second))
            for share in store.read(view, "a", START + 2 * SECOND).coverage:
                assert 0 <= share <= 1
    assert served > 10
