"""Summaries: figures against a naive oracle of fractions, merges in any order, state at any row."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest

from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.rules import exact
from edgecore.rules.panes import Panes
from edgecore.rules.summary import (
    Measure,
    Pane,
    Rule,
    define,
    merge,
    pane_of_row,
    rule_of,
)
from edgecore.schema import Field, Schema
from edgecore.wire import catalogue, cbor, rowbatch

MINUTE = 60 * 10**9
SOURCE = Schema(
    "pump",
    tier="bulk",
    fields=[
        Field("id", "category"),
        Field("temp", "decimal(3)", unit="degC", range=(-40, 150)),
        Field("flow", "f64"),
        Field("small", "f32"),
        Field("level", "f64", resolution=0.1, range=(0, 10)),
        Field("big", "i64"),
        Field("on", "bool"),
        Field("mode", "utf8"),
        Field("a_name_of_22_byte_long", "u16"),
    ],
)
COUNTS = {"mode": 3, "on": 2, "a_name_of_22_byte_long": 5}
HISTOGRAMS = {"temp": (-40.0, 150.0, 19), "flow": (-1.0, 1.0, 7), "big": (0.0, 100.0, 3)}


def rule_for(period: int = MINUTE, lateness: int = 0) -> Rule:
    names = [field.name for field in SOURCE.fields if field.name != "id"]
    measures = [
        Measure(name, histogram=HISTOGRAMS.get(name), counts=COUNTS.get(name, 0)) for name in names
    ]
    return define(SOURCE, period_ns=period, lateness_ns=lateness, entity="id", fields=measures)


def some(rng: random.Random, value: Any) -> Any:
    return None if rng.random() < 0.1 else value


def rows_of(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """As a reader of canonical rows gives them: decimals on their grid."""
    floats = [0.0, -0.0, math.inf, math.nan, 5e-324, -1.7e308, 1e300, -1.0, 1.0]
    return [
        {
            "time": 10**18 + n * MINUTE // 7 + rng.randrange(-MINUTE, MINUTE),
            "source": "s", "source_seq": n,
            "id": some(rng, rng.choice("ab")),
            "temp": some(rng, rng.choice([-40_000, 150_000, rng.randrange(-40_000, 150_001)])),
            "flow": some(rng, rng.choice([*floats, rng.uniform(-2, 2), rng.gauss(0, 1e9)])),
            "small": some(rng, rng.randrange(-1000, 1000) / 4),
            "level": some(rng, rng.randrange(0, 101) / 10),
            "big": some(rng, rng.choice([-(2**63), 2**63 - 1, 50, 0, 100, rng.randrange(-9, 9)])),
            "on": some(rng, rng.random() < 0.5),
            "mode": some(rng, rng.choice(["x", "y", "ÿ"])),
            "a_name_of_22_byte_long": some(rng, rng.randrange(6)),
        }
        for n in range(count)
    ]  # fmt: skip


def panes_of(rule: Rule, rows: list[dict[str, Any]], first: int = 1) -> list[Pane]:
    out: dict[tuple[int, str], Pane] = {}
    for position, row in enumerate(rows, first):
        key = rule.pane_of(row["time"]), rule.entity_of(row)
        out.setdefault(key, Pane(rule, key[1], key[0])).add(position, row)
    return [out[key] for key in sorted(out)]


def stored(rule: Rule, pane: Pane) -> dict[str, Any]:
    """The row as it comes back from a log's canonical rows."""
    from edgecore._core.rows import Batch
    from edgecore.fs import MemoryFs
    from edgecore.log import Log

    schema = rule.schema()
    with Log.open("log", schemas=[schema], fs=MemoryFs(), flusher="manual") as log:
        batch = Batch(schema)
        batch.append(pane.row())
        log.append(rule.name, batch)
        fields = catalogue.read_schema(schema.canonical_bytes)
        (scanned,) = list(log.scan(rule.name))
        ((_, row),) = list(rowbatch.read_rows(fields, scanned.payload))
    return dict(row)


def test_summary_figures_are_those_of_a_naive_oracle() -> None:
    seed = 5
    rule = rule_for()
    rows = rows_of(random.Random(seed), 400)
    for pane in panes_of(rule, rows):
        mine = [r for r in rows if rule.pane_of(r["time"]) == pane.k and (r["id"] or "") ==
                pane.entity]  # fmt: skip
        assert pane.rows == len(mine), seed
        start = (pane.k - 1) * MINUTE
        assert all(start < row["time"] <= start + MINUTE for row in mine)
        for name, step in (("temp", Fraction(1, 1000)), ("flow", Fraction(1)),
                           ("big", Fraction(1)), ("small", Fraction(1))):  # fmt: skip
            values = [
                Fraction(row[name]) * step
                for row in mine
                if row[name] is not None and math.isfinite(row[name])
            ]
            at = next(i for i, c in enumerate(rule.columns) if c.field.name == name)
            grid, found = rule.columns[at].grid, pane.figures[at]
            assert found.n == len(values), seed
            assert found.sum * grid.step == sum(values)
            assert found.squares * grid.step**2 == sum(value * value for value in values)
            if values:
                assert (found.min or 0) * grid.step == min(values)
                assert (found.max or 0) * grid.step == max(values)
            if name in HISTOGRAMS:
                low, high, count = HISTOGRAMS[name]
                width = (Fraction(high) - Fraction(low)) / count
                expected = [0] * (count + 2)
                for value in values:
                    inside = min(int((value - Fraction(low)) // width), count - 1)
                    expected[0 if value < low else count + 1 if value > high else inside + 1] += 1
                assert found.hist == expected, (seed, name)


def test_summary_counts_of_values_are_exact_or_not_there() -> None:
    seed = 25
    rule = rule_for(10 * MINUTE)
    rows = rows_of(random.Random(seed), 300)
    seen = set()
    for pane in panes_of(rule, rows):
        mine = [r for r in rows if rule.pane_of(r["time"]) == pane.k and (r["id"] or "") ==
                pane.entity]  # fmt: skip
        for name, most in COUNTS.items():
            texts = [r[name] for r in mine if r[name] is not None]
            expected = Counter(str(text).lower() if name == "on" else str(text) for text in texts)
            seen.add((name, len(expected) > most))
            assert pane.values(name) == (expected if len(expected) <= most else None), seed
        assert pane.values("temp") is None
    assert ("a_name_of_22_byte_long", True) in seen
    assert ("mode", False) in seen


def test_summary_quantiles_lie_in_the_bucket_that_is_named() -> None:
    seed = 15
    rule = rule_for(10 * MINUTE)
    rows = rows_of(random.Random(seed), 400)
    for pane in panes_of(rule, rows):
        mine = [r for r in rows if rule.pane_of(r["time"]) == pane.k and (r["id"] or "") ==
                pane.entity]  # fmt: skip
        values = sorted(row["temp"] / 1000 for row in mine if row["temp"] is not None)
        for share in (0.01, 0.5, 0.95, 1.0):
            found = pane.quantile("temp", share)
            if not values:
                assert found is None
                continue
            assert found is not None
            true = values[math.ceil(Fraction(share) * len(values)) - 1]
            assert found[0] <= true <= found[1], seed
            assert found[1] - found[0] <= 10.0 + 1e-9
        flow = pane.quantile("flow", 0.5)
        assert flow is None or flow[0] < flow[1] or math.isinf(flow[0])
    with pytest.raises(Invalid, match="quantile"):
        pane.quantile("temp", 0)
    with pytest.raises(Invalid, match="no field"):
        pane.stats("none")


def test_summary_row_comes_back_from_the_log_as_the_same_pane() -> None:
    seed = 6
    rule = rule_for()
    for pane in panes_of(rule, rows_of(random.Random(seed), 120))[:6]:
        again = pane_of_row(rule, stored(rule, pane))
        assert again.row() == pane.row(), seed
        assert again.stats("temp") == pane.stats("temp")


def test_summary_panes_merge_to_the_summary_of_all_their_rows_in_any_order() -> None:
    for seed in range(12):
        rng = random.Random(seed)
        fine, coarse = rule_for(MINUTE), rule_for(60 * MINUTE)
        rows = rows_of(rng, 300)
        parts = []  # of parts of panes: the rows came in pieces
        for low in range(0, 300, 50):
            parts += panes_of(fine, rows[low : low + 50], low + 1)
        rng.shuffle(parts)
        merged = merge(parts, 60 * MINUTE)
        whole = panes_of(coarse, rows)
        assert [pane.row() for pane in merged] == [pane.row() for pane in whole], seed
        halves = merge(parts[: len(parts) // 2], 10 * MINUTE) + merge(
            parts[len(parts) // 2 :], 10 * MINUTE
        )
        assert [pane.row() for pane in merge(halves, 60 * MINUTE)] == [p.row() for p in whole]


def test_summary_periods_that_are_no_multiple_do_not_merge() -> None:
    with pytest.raises(Invalid, match="multiple"):
        merge(panes_of(rule_for(), rows_of(random.Random(1), 5)), 90 * 10**9)


def fed(panes: Panes, rows: list[dict[str, Any]], first: int) -> list[Pane]:
    out: list[Pane] = []
    for position, row in enumerate(rows, first):
        out += panes.add(position, (1_700_000_000_000 + position * 900) << 16, row)
    return out


def test_summary_state_kept_at_any_row_goes_on_as_if_never_kept() -> None:
    seed = 9
    rule = rule_for(MINUTE, MINUTE // 3)
    rows = rows_of(random.Random(seed), 150)
    whole = Panes(rule)
    expected = [pane.row() for pane in fed(whole, rows, 1) + whole.flush()]
    assert sum(row["rows"] for row in expected) == len(rows)
    for cut in range(len(rows) + 1):
        first = Panes(rule)
        found = fed(first, rows[:cut], 1)
        again = Panes.from_bytes(first.to_bytes(), rule)
        assert again.to_bytes() == first.to_bytes()
        found += fed(again, rows[cut:], cut + 1) + again.flush()
        assert [pane.row() for pane in found] == expected, (seed, cut)


def test_summary_parts_that_a_crash_left_are_not_counted_again() -> None:
    """State from any row, and any number of the parts that were made after it."""
    seed = 10
    rng = random.Random(seed)
    rule = rule_for(MINUTE, MINUTE // 3)
    rows = rows_of(rng, 120)
    whole = Panes(rule)
    expected = fed(whole, rows, 1)
    for cut in range(0, len(rows), 7):
        first = Panes(rule)
        before = len(fed(first, rows[:cut], 1))
        for kept in range(before, len(expected) + 1):
            again = Panes.from_bytes(first.to_bytes(), rule)
            for part in expected[before:kept]:
                again.covered(part)
            made = fed(again, rows[cut:], cut + 1)
            assert [p.row() for p in made] == [p.row() for p in expected[kept:]], (seed, cut)
            assert again.to_bytes() == whole.to_bytes()


def test_summary_late_rows_make_another_part_and_none_is_lost() -> None:
    rule = rule_for(MINUTE, 0)
    panes = Panes(rule)
    row = rows_of(random.Random(2), 1)[0] | {"id": "a"}
    at = [10, 70, 20, 130, 30, 190]
    made = fed(panes, [row | {"time": second * 10**9} for second in at], 1)
    found = [(p.k, p.first, p.last, p.rows) for p in made + panes.flush()]
    assert found == [(1, 1, 1, 1), (1, 3, 3, 1), (2, 2, 2, 1), (1, 5, 5, 1), (3, 4, 4, 1),
                     (4, 6, 6, 1)]  # fmt: skip


def test_summary_one_clock_that_ran_ahead_is_forgotten_a_period_later() -> None:
    rule = rule_for(MINUTE, 0)
    panes = Panes(rule)
    row = rows_of(random.Random(2), 1)[0] | {"id": "a"}
    base = 1_700_000_040 * 10**9
    late: list[Pane] = []
    for second in range(600):
        time = base + second * 10**9 if second != 30 else 4 * 10**18
        late += panes.add(second + 1, (base // 10**6 + second * 1000) << 16, row | {"time": time})
    parts = [p.k for p in late if p.k < 4 * 10**18 // MINUTE]
    assert len(parts) - len(set(parts)) <= 2  # panes in more than one part
    assert sum(p.rows for p in late) >= 600 - 61


def test_summary_rule_is_data_and_has_one_form() -> None:
    rule = rule_for()
    again = rule_of(rule.body, SOURCE)
    assert (again.body, again.id) == (rule.body, rule.id)
    assert again.schema().canonical_bytes == rule.schema().canonical_bytes
    with pytest.raises(Incompatible, match="schema"):
        rule_of(rule.body, Schema("pump", tier="bulk", fields=[Field("temp", "f64")]))
    with pytest.raises(Corrupt):
        rule_of(rule.body[:-1] + b"\xff", SOURCE)


def test_summary_rules_that_cannot_be_are_refused() -> None:
    for words, measure in (
        ("no field", Measure("none")),
        ("not on the field's grid", Measure("temp", histogram=(0.0, 0.0005, 2))),
        ("is empty", Measure("temp", histogram=(5.0, 5.0, 2))),
        ("buckets", Measure("temp", histogram=(5.0, 6.0, 0))),
        ("has none", Measure("mode", histogram=(5.0, 6.0, 2))),
        ("too many values", Measure("temp", counts=4)),
        ("at most", Measure("mode", counts=5000)),
    ):
        with pytest.raises(Invalid, match=words):
            define(SOURCE, period_ns=MINUTE, fields=[measure])
    with pytest.raises(Invalid, match="none of"):
        Measure("temp", ["median"])
    with pytest.raises(Invalid, match="period"):
        define(SOURCE, period_ns=0)
    with pytest.raises(Invalid, match="entity"):
        define(SOURCE, period_ns=MINUTE, entity="flow")
    wide = Schema("w", tier="bulk", fields=[Field(f"f{n}", "f64") for n in range(64)])
    with pytest.raises(Invalid, match="fewer fields"):
        define(wide, period_ns=MINUTE)


def test_summary_hostile_rules_and_rows_are_corrupt() -> None:
    rule = rule_for()
    body = cbor.decode(rule.body)
    temp = next(field for field in body["fields"] if field["name"] == "temp")
    mode = next(field for field in body["fields"] if field["name"] == "mode")
    for change, value in (
        ("buckets", 1 << 40), ("buckets", 0), ("low", 10**9), ("low", "x"), ("what", ["median"]),
        ("what", 3), ("name", "none"), ("counts", 1),
    ):  # fmt: skip
        bad = {**body, "fields": [{**temp, change: value}]}
        with pytest.raises(Corrupt):
            rule_of(cbor.encode(bad), SOURCE)
    for bad in (
        {**body, "period": 0}, {**body, "entity": "flow"}, {**body, "entity": 5},
        {**body, "fields": [{**mode, "counts": 1 << 40}]}, {**body, "fields": 7},
        {**body, "tier": "gold"}, {**body, "fields": [5]},
    ):  # fmt: skip
        with pytest.raises(Corrupt):
            rule_of(cbor.encode(bad), SOURCE)
    row = stored(rule, panes_of(rule, rows_of(random.Random(1), 9))[0])
    assert pane_of_row(rule, row).rows
    for key in row:
        if key in ("source", "source_seq", "start") or row[key] is None:
            continue
        with pytest.raises(Corrupt):
            pane_of_row(rule, {name: value for name, value in row.items() if name != key})
        if not key.endswith((".min", ".max")):
            with pytest.raises(Corrupt):
                pane_of_row(rule, {**row, key: 1.5})


def test_summary_hostile_figures_are_corrupt() -> None:
    for data in (b"", b"\0\0\0", b"\0\0\1\0", b"\0\0\1\0\2", b"\0\0\2\0\1\0", b"\1\0\0\0"):
        with pytest.raises(Corrupt):
            exact.number_of(data, 0)
    for data in (b"", b"\1", b"\1\2\3", b"\x80\0\1", b"\x80"):
        with pytest.raises(Corrupt):
            exact.read_varints(data, 2)
    for data in (b"", b"\1", b"\1\1a", b"\2\1a\1\1a\1", b"\2\1b\1\1a\1", b"\1\1\xff\1", b"\0\0",
                 b"\5", b"\4\1a\1\1b\1\1c\1\1d\1"):  # fmt: skip
        with pytest.raises(Corrupt):
            exact.read_counts(data, 3)
    assert exact.read_counts(exact.counts_bytes({"ÿ": 300, "a": 1}), 2) == {"a": 1, "ÿ": 300}
    rng = random.Random(4)
    for _ in range(500):
        number = rng.choice([-1, 1]) * rng.getrandbits(rng.randrange(1, 3000))
        assert exact.number_of(exact.bytes_of(number, -2148), -2148) == number
        counts = [rng.getrandbits(rng.randrange(1, 50)) for _ in range(5)]
        assert exact.read_varints(exact.varints(counts), 5) == counts
