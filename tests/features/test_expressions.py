"""Expressions: exact against fractions, the same bits in stream and batch, hostile definitions
refused, units wanted and converted."""

from __future__ import annotations

import math
import operator
import random
from fractions import Fraction
from typing import Any

import cbor2
import pytest

import edgecore as ec
from edgecore._core import features as core
from edgecore.errors import Corrupt, EdgecoreError, Incompatible, Invalid
from edgecore.expressions import Expression, col, expression, where
from edgecore.feature_kinds import Histogram, Ratio, TimeIn
from edgecore.features import MISSING, Feature, FeatureStore, prepare
from edgecore.fs import MemoryFs

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
UNDEFINED = "undefined"
FIELDS = [
    ec.Field("a", "decimal(2)", range=(-50, 50)),
    ec.Field("b", "i16", range=(-9, 9)),
    ec.Field("c", "f64", resolution=0.3, range=(-30, 30)),
    ec.Field("d", "u64"),
    ec.Field("on", "bool"),
    ec.Field("mode", "category"),
    ec.Field("was", "category"),
    ec.Field("free", "f64"),
]
SCHEMA = ec.Schema("s", tier="bulk", fields=FIELDS)
COMPARISONS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
               ">": operator.gt, ">=": operator.ge}  # fmt: skip
# Said where bounds can't be proven, or constants alone are given.
REFUSALS = ("may be", "no field", "constant 0")


def view_of(made: Expression, op: str = "last", window: str = "1h") -> ec.FeatureView:
    return ec.FeatureView("v", entity="", source="s", features=[Feature("x", op, made, window)])


def answers(made: Expression, rows: list[dict[str, Any]], schema: ec.Schema = SCHEMA) -> list[Any]:
    """The value of each row by itself, None where it has none; stream and batch are the same."""
    view = view_of(made)
    apart = [{**row, "time": START + i * 7200 * SECOND} for i, row in enumerate(rows)]
    batch = ec.backfill(view, apart, schema=schema)
    store = FeatureStore.open("f", views=[view], schemas=[schema], fs=MemoryFs())
    for i, row in enumerate(apart):
        store.update("s", row)
        read = store.read(view, "", row["time"])
        assert bytes(read.values.cast("B")) == bytes(batch.values[i : i + 1].cast("B"))
        assert read.states[0] == batch.states[i]
    return [
        None if state == MISSING else value
        for value, state in zip(batch.values, batch.states, strict=True)
    ]


# ---------------------------------------------------------------- the oracle


def exact(row: dict[str, Any], name: str) -> Any:
    value = row.get(name)
    if value is None or isinstance(value, str | bool):
        return value if not isinstance(value, bool) else Fraction(int(value))
    if name == "c":  # on a grid of 3/10
        return Fraction(round(value / 0.3)) * 3 / 10
    return Fraction(str(value))


def half_even(value: Fraction, step: Fraction) -> Fraction:
    return round(value / step) * step


def evaluate(tree: Any, row: dict[str, Any]) -> Any:
    """A Fraction or a text; None for null, UNDEFINED behind a division by zero."""
    if isinstance(tree, bool):
        return Fraction(int(tree))
    op, *parts = tree
    if op == "col":
        return exact(row, parts[0])
    if op == "num":
        return Fraction(parts[0], parts[1])
    if op == "text":
        return parts[0]
    if op == "where":
        condition = evaluate(parts[0], row)
        if condition is None or condition is UNDEFINED:
            return condition
        return evaluate(parts[1] if condition else parts[2], row)
    width = {"clip": 3, "bucket": 1, "round": 1}.get(op, 2)
    values = [evaluate(part, row) for part in parts[:width]]
    for missing in (UNDEFINED, None):
        if any(value is missing for value in values):
            return missing
    return applied(op, values, parts[width:])


def applied(op: str, values: list[Any], rest: list[Any]) -> Any:
    left, right = values[0], values[-1]
    if op == "round":
        return half_even(left, Fraction(*rest))
    if op == "bucket":
        return Fraction(sum(Fraction(*edge) <= left for edge in rest[0]))
    if op == "clip":
        return max(min(left, values[2]), values[1])
    if op == "/":
        if right == 0:
            return UNDEFINED
        return half_even(left / right, Fraction(*rest)) if rest else left / right
    if op in ("+", "-", "*"):
        return {"+": left + right, "-": left - right, "*": left * right}[op]
    if op in ("min", "max"):
        return min(left, right) if op == "min" else max(left, right)
    return Fraction(int(COMPARISONS[op](left, right)))


def random_tree(chance: random.Random, depth: int) -> Expression:
    """A number; now and then it holds texts and comparisons."""
    if depth == 0 or chance.random() < 0.1:
        if chance.random() < 0.7:
            return col(chance.choice(["a", "b", "c", "d", "on"]))
        return Expression(["num", chance.choice([-3, 0, 1, 2, 7]), 1]) / chance.choice([1, 2, 10])
    make = chance.randrange(9)
    left, right = random_tree(chance, depth - 1), random_tree(chance, depth - 1)
    if make < 3:
        return (left + right, left - right, left * right)[make]
    if make == 3:
        return (left / right).round(chance.choice([0.01, "1/8", 0.5, 3]))
    if make == 4:
        return left.min(right) if chance.random() < 0.5 else left.max(right)
    if make == 5:
        return left.clip(-5, chance.choice([0.5, 7]))
    if make == 6:
        return where(random_truth(chance, left, right), left, right)
    if make == 7:
        return left.bucket([-1.5, 0, "1/3", 8])
    return left.round(chance.choice([0.1, 0.25, 2, "2/7"]))


def random_truth(chance: random.Random, left: Expression, right: Expression) -> Expression:
    texts = [col("mode") == "run", col("was") != col("mode"), col("on") == True]  # noqa: E712
    numbers = [left < right, left <= right, left == right, left > right, left >= right]
    one, two = chance.choice(texts + numbers), chance.choice(texts + numbers)
    return chance.choice([one, one & two, one | two])


def random_rows(chance: random.Random, count: int) -> list[dict[str, Any]]:
    rows = []
    for _ in range(count):
        row = {
            "a": chance.randint(-5000, 5000) / 100, "b": chance.randint(-9, 9),
            "c": chance.randint(-100, 100) * 0.3, "d": chance.choice([0, 1, 2**64 - 1, 5]),
            "on": chance.random() < 0.5, "mode": chance.choice(["run", "idle", ""]),
            "was": chance.choice(["run", "idle"]),
        }  # fmt: skip
        if chance.random() < 0.3:  # the ends of what bounds are proven from
            row |= {"a": chance.choice([-50, 50]), "b": chance.choice([-9, 9]),
                    "c": chance.choice([-30, 30]), "d": 2**64 - 1}  # fmt: skip
        rows.append({key: value for key, value in row.items() if chance.random() < 0.9})
    return rows


def answers_or_refused(made: Expression, rows: list[dict[str, Any]]) -> list[Any] | None:
    try:
        return answers(made, rows)
    except (Incompatible, Invalid) as error:
        if not any(word in str(error) for word in REFUSALS):
            raise
        return None


@pytest.mark.parametrize("seed", range(60))
def test_expressions_are_exact_against_fractions(seed: int) -> None:
    chance = random.Random(seed)
    rows = random_rows(chance, 12)
    served = 0
    for _ in range(12):
        made = random_tree(chance, chance.randint(1, 4))
        if (found := answers_or_refused(made, rows)) is None:
            continue
        served += 1
        for row, value in zip(rows, found, strict=True):
            wanted = evaluate(made.tree, row)
            if wanted is None or wanted is UNDEFINED:
                assert value is None, (seed, str(made), row)
            else:
                right = wanted.numerator / wanted.denominator
                assert value == right, (seed, str(made), row)
    assert served >= 2


def test_expressions_of_floats_without_a_grid_are_doubles_in_the_written_order() -> None:
    chance = random.Random(7)
    rows = [{"free": chance.uniform(-1e6, 1e6), "a": chance.randint(-5000, 5000) / 100}
            for _ in range(200)]  # fmt: skip
    rows += [{"free": math.inf, "a": 1}, {"free": math.nan, "a": 1}, {"free": 1e308, "a": 50},
             {"free": -0.0, "a": 0}]  # fmt: skip
    made = expression("(free * a - 0.1) * a + free / a")
    for row, value in zip(rows, answers(made, rows), strict=True):
        free, a = row["free"], row["a"]
        if not math.isfinite(free) or a == 0 or not math.isfinite(free * a):
            assert value is None
        else:
            assert value == (free * a - 0.1) * a + free / a
    rounded = expression("round(clip(free, -10, 10), 0.25)")
    assert answers(rounded, [{"free": 3.3}, {"free": -99.0}, {"free": 0.125}]) == [3.25, -10, 0]
    with pytest.raises(Incompatible, match="clip"):
        view_of(expression("round(free, 0.25)")).plan(SCHEMA)


def test_expressions_nulls_and_divisions_by_zero_have_no_value_and_are_counted() -> None:
    made = expression("round(a / b, 0.01)")
    guarded = expression("where(b == 0, -1, round(a / b, 0.01))")
    rows = [{"a": 1, "b": 3}, {"a": 1, "b": 0}, {"a": 1}, {"b": 0}, {"a": 2, "b": 0}]
    assert answers(made, rows) == [0.33, None, None, None, None]
    assert answers(guarded, rows) == [0.33, -1, None, -1, -1]
    view = view_of(made)
    store = FeatureStore.open("f", views=[view], schemas=[SCHEMA], fs=MemoryFs())
    for i, row in enumerate(rows):
        store.update("s", {**row, "time": START + i})
    assert store.undefined_values == 2
    again = FeatureStore.open("g", views=[view_of(guarded)], schemas=[SCHEMA], fs=MemoryFs())
    again.update_batch("s", prepare(SCHEMA, [{**row, "time": START} for row in rows]))
    assert again.undefined_values == 0


def test_expressions_are_read_by_aggregates_and_restored_with_them() -> None:
    power = col("a") * col("b")
    view = ec.FeatureView("p", entity="mode", source="s", lateness="1s", features=[
        ec.Agg(power, ["mean", "std", "max", "count"], window="1m", name="power"),
        ec.Last(power, name="power"), ec.Agg("a", "mean", window="1m")])  # fmt: skip
    assert view.names[0] == "power_mean_1m"
    assert view.names[4] == "power_last"
    rows = [{"time": START + i * SECOND, "mode": "m", "a": i / 4, "b": i % 5} for i in range(90)]
    found = ec.backfill(view, rows, schema=SCHEMA)
    products = [Fraction(i, 4) * (i % 5) for i in range(30, 90)]
    total = sum(products, Fraction(0)) / 60
    assert found.values[89 * found.width] == total.numerator / total.denominator
    fs = MemoryFs()
    store = FeatureStore.open("f", views=[view], schemas=[SCHEMA], fs=fs)
    for row in rows[:50]:
        store.update("s", row)
    store.snapshot()
    again = FeatureStore.open("f", views=[view], schemas=[SCHEMA], fs=fs)
    assert not again.rebuilt
    for row in rows[50:]:
        again.update("s", row)
    read = again.read("p", "m", rows[-1]["time"])
    assert list(read.values) == list(found.values[-found.width :])


# ---------------------------------------------------------------- definitions


def test_expressions_text_and_operators_give_the_same_bytes_and_come_back() -> None:
    a, b = col("a"), col("b")
    for text, made in (
        ("a * 2 - b", a * 2 - b),
        ("0.1 * a", a.__rmul__(0.1)),
        ("where(mode == 'run' and on, a, -b)",
         where((col("mode") == "run") & col("on"), a, -b)),
        ("(a < 1 or b < 2) and (a < 3 and min(b < 4, true)) and b",
         ((a < 1) | (b < 2)) & ((a < 3) & (b < 4).min(True)) & b),
        ("min(a, b < 1) and (b < 1 or (b < 2 or on))",
         a.min(b < 1) & ((b < 1) | ((b < 2) | col("on")))),
        ("round(a / b, 0.001)", (a / b).round(0.001)),
        ("bucket(clip(a, -1, 1), 0, 1/2)", None),
        ("col('a', 'degC') >= 1e-3 or not on",
         (col("a", "degC") >= "0.001") | (col("on") == False)),  # noqa: E712
    ):  # fmt: skip
        if made is None:
            with pytest.raises(Invalid, match="not a number"):
                expression(text)
            continue
        read = expression(text)
        assert read.to_bytes() == made.to_bytes()
        assert expression(str(made)).to_bytes() == made.to_bytes()
        view = view_of(made)
        assert ec.FeatureView.from_bytes(view.to_bytes()) == view


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a +", "column"), ("a.b", "not part of the language at column 1"),
        ("__import__('os')", "a function that is none of"), ("a < b < 1", "between two values"),
        ("a ** 2", "none of"), ("where(on, 'x', 1)", "'x' is not a number"),
        ("min(a)", "min"), ("a + None", "no number"), ("(" * 300 + "a" + ")" * 300, "paren"),
        ("a" * 5000, "4096"), ("-" * 4000 + "a", "can't be read"), ("clip(a, x=1)", "function"),
        ("a + 1e999999999", "beyond any number"), ("a * 1e-999999999", "beyond any number"),
    ],
)  # fmt: skip
def test_expressions_text_that_is_none_is_refused_with_its_column(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        expression(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nope + 1", "no field 'nope'"), ("mode + 1", "takes numbers"),
        ("mode < was", "== and != alone"), ("where(a, 1, 2)", "chooses by a comparison"),
        ("a / b", "resolution"), ("d * d * d", "may be larger"), ("d * 4", "beyond 2"),
        ("a / 0", "constant 0"), ("mode", "gives a text"), ("clip(a, 1, 0)", "higher to a lower"),
        ("'x' == 'y' and on", "constant texts"), ("round(free, 0.1)", "clip"),
    ],
)  # fmt: skip
def test_expressions_that_a_schema_cannot_serve_say_why(text: str, said: str) -> None:
    with pytest.raises(Incompatible, match=said):
        view_of(expression(text)).plan(SCHEMA)


def nested(depth: int) -> list[Any]:
    tree: list[Any] = ["col", "a"]
    for _ in range(depth):
        tree = ["+", tree, ["num", 1, 1]]
    return tree


def test_expressions_hostile_definitions_are_refused_before_anything_is_made_of_them() -> None:
    wide: list[Any] = ["col", "a"]
    leaves = [wide] * 256
    while len(leaves) > 1:
        leaves = [["+", one, two] for one, two in zip(leaves[::2], leaves[1::2], strict=True)]
    for body, error in (
        ([2, ["col", "a"]], Incompatible), ([1, ["sqrt", ["col", "a"]]], Incompatible),
        ([1, nested(40)], Invalid), ([1, leaves[0]], Invalid), ([1], Invalid), ([], Invalid),
        ([1, ["col"]], Invalid), ([1, ["col", 3]], Invalid), ([1, ["col", "x" * 256]], Invalid),
        ([1, ["num", 2, 4]], Invalid), ([1, ["num", 1, 0]], Invalid),
        ([1, ["num", 1.5, 1]], Invalid),
        ([1, ["+", ["col", "a"]]], Invalid), ([1, {"+": 1}], Invalid), ([1, None], Invalid),
        ([1, ["bucket", ["col", "a"], [[2, 1], [1, 1]]]], Invalid),
        ([1, ["bucket", ["col", "a"], [[i, 1] for i in range(65)]]], Invalid),
        ([1, ["round", ["col", "a"], -1, 2]], Invalid), ([1, ["col", "a"], 1], Invalid),
        ([1, ["num", 2**63, 1]], Invalid), (["1", ["col", "a"]], Invalid),
    ):  # fmt: skip
        with pytest.raises(error):
            core.expression_fields(cbor2.dumps(body, canonical=True))
        definition = cbor2.loads(view_of(col("a")).to_bytes())
        definition["features"][0]["expr"] = body
        with pytest.raises((Corrupt, Incompatible)):
            ec.FeatureView.from_bytes(cbor2.dumps(definition, canonical=True))
    for data in (b"", b"\x82", b"\x82\x01", b"\x9f\x01\xff", b"\x82\x18\x01\x82\x63col\x61a",
                 b"\x82\x01\x9b" + b"\xff" * 8, b"\x82\x01\x82\x63col\x61a\x00"):  # fmt: skip
        with pytest.raises(Invalid):
            core.expression_fields(data)
    assert core.expression_fields(cbor2.dumps([1, nested(31)])) == ["a"]


@pytest.mark.parametrize("seed", range(8))
def test_expressions_mutated_bytes_are_refused_or_answer_exactly(seed: int) -> None:
    chance = random.Random(seed)
    rows = random_rows(chance, 3)
    for _ in range(300):
        data = bytearray(random_tree(chance, 3).to_bytes())
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data))
            kind = chance.randrange(3)
            if kind == 0:
                data[at] = chance.randrange(256)
            elif kind == 1:
                del data[at]
            else:
                data[at:at] = bytes([chance.randrange(256)])
        try:
            core.expression_fields(bytes(data))
            made = Expression.from_canonical(cbor2.loads(data))
            found = answers(made, rows)
        except EdgecoreError:
            continue
        for row, value in zip(rows, found, strict=True):
            if "free" in made.fields:
                continue
            wanted = evaluate(made.tree, row)
            none = wanted is None or wanted is UNDEFINED
            assert value == (None if none else wanted.numerator / wanted.denominator), str(made)


# ---------------------------------------------------------------- units


def temperature(unit: str, **more: Any) -> ec.Schema:
    field = ec.Field("t", **{"dtype": "decimal(1)", "range": (-400, 400), **more}, unit=unit)
    return ec.Schema("s", tier="bulk", fields=[field, ec.Field("free", "f64", unit="%")])


def test_units_another_one_is_refused_by_both_names_and_converted_only_when_declared() -> None:
    plain = ec.FeatureView("v", entity="", source="s",
                           features=[ec.Agg("t", "mean", window="1h", unit="degC")])  # fmt: skip
    plain.plan(temperature("degC"))
    with pytest.raises(Incompatible, match="wants field 't' in 'degC', stream 's' has it in 'deg"):
        plain.plan(temperature("degF"))
    with pytest.raises(Incompatible, match="has it in 'no unit'"):
        plain.plan(temperature(""))
    asked = [ec.Agg("t", ["mean", "std"], window="1h", unit="degC", convert="degF")]
    view = ec.FeatureView("v", entity="", source="s", features=asked)
    assert ec.FeatureView.from_bytes(view.to_bytes()) == view
    rows = [{"time": START + i, "t": t} for i, t in enumerate((212, 32, 98.6, -40))]
    found = ec.backfill(view, rows, schema=temperature("degF"))
    exact_rows = [(Fraction(str(row["t"])) - 32) * Fraction(5, 9) for row in rows]
    assert exact_rows == [100, 0, 37, -40]
    for i in range(4):
        mean = sum(exact_rows[: i + 1], Fraction(0)) / (i + 1)
        assert found.values[2 * i] == mean.numerator / mean.denominator
    same = ec.backfill(view, rows, schema=temperature("degC"))
    assert same.values[0] == 212
    with pytest.raises(Incompatible, match="has it in 'K'"):
        view.plan(temperature("K"))
    assert view.fingerprints_for(temperature("degF")) != plain.fingerprints_for(temperature("degC"))


def test_units_of_expressions_and_of_what_has_none() -> None:
    wants = ec.FeatureView("v", entity="", source="s",
                           features=[ec.Last(col("t", "degC") + 1, name="x")])  # fmt: skip
    wants.plan(temperature("degC"))
    with pytest.raises(Incompatible, match="wants field 't' in 'degC'"):
        wants.plan(temperature("degF"))
    with pytest.raises(Invalid, match="col"):
        ec.Last(col("t"), name="x", unit="degC")
    with pytest.raises(Incompatible, match="no exact conversion from 'psi' to 'Pa'"):
        ec.Last("t", unit="Pa", convert="psi")
    floats = ec.FeatureView("v", entity="", source="s",
                            features=[ec.Last("free", unit="1", convert="%")])  # fmt: skip
    rows = [{"time": START, "free": 12.5}]
    assert ec.backfill(floats, rows, schema=temperature("")).values[0] == 0.125


def test_expressions_serve_every_kind_of_operator() -> None:
    running, tenth = col("mode") == "run", col("a") / 10
    view = ec.FeatureView("v", entity="", source="s", features=[
        TimeIn(running, name="running", window="1m"),
        ec.Agg(tenth, ["p50", "distinct", "most_frequent"], window="1m", name="tenth"),
        ec.Agg(tenth, "mean", window="1m", hop="30s", name="tenth"),
        Histogram(tenth, edges=[0.025, 1], window="1m", name="tenth"),
        ec.Agg(running, "count", window="1m", name="told"),
        Ratio("share", "tenth_bin1_1m", "told_count_1m")])  # fmt: skip
    rows = [{"time": START + i * 10 * SECOND, "a": a, "mode": mode} for i, (a, mode) in
            enumerate([(0.25, "run"), (-0.5, "idle"), (0.25, "run"), (10, "run")])]  # fmt: skip
    found = ec.backfill(view, rows, schema=SCHEMA)
    width = found.width
    last = dict(zip(view.names, found.values[-width:], strict=True))
    assert last["running_time_in_1m"] == 20
    assert (last["tenth_distinct_1m"], last["tenth_most_frequent_1m"]) == (3, 0.025)
    assert [last[f"tenth_bin{i}_1m"] for i in range(3)] == [1, 2, 1]
    assert (last["told_count_1m"], last["share"]) == (4, 0.5)
    assert abs(last["tenth_p50_1m"] - 0.025) <= 0.01
    store = FeatureStore.open("f", views=[view], schemas=[SCHEMA], fs=MemoryFs())
    for row in rows:
        store.update("s", row)
    read = store.read("v", "", int(rows[-1]["time"]))  # type: ignore[call-overload]
    assert bytes(read.values) == bytes(found.values[-width:])
    no_truth = TimeIn(tenth, name="x", window="1m")
    off_grid = Histogram(tenth, edges=[0.0001], window="1m", name="x")
    with pytest.raises(Incompatible, match="comparison"):
        ec.FeatureView("v", entity="", source="s", features=[no_truth]).plan(SCHEMA)
    with pytest.raises(Invalid, match="not on the grid"):
        ec.FeatureView("v", entity="", source="s", features=[off_grid]).plan(SCHEMA)


def test_units_and_operators_of_a_later_build_are_incompatible_and_not_corrupt() -> None:
    view = ec.FeatureView("v", entity="", source="s", features=[
        ec.Last("t", unit="degC", convert="degF"), ec.Last(col("t") * 2, name="x")])  # fmt: skip
    for feature, key, value in (
        (0, "convert", "degRa"), (1, "expr", [1, ["cbrt", ["col", "t"]]]),
        (1, "expr", [2, ["col", "t"]]), (0, "op", "newest"), (0, "version", 9), (0, "until", 1),
    ):  # fmt: skip
        definition = cbor2.loads(view.to_bytes())
        definition["features"][feature][key] = value
        with pytest.raises(Incompatible):
            ec.FeatureView.from_bytes(cbor2.dumps(definition, canonical=True))
