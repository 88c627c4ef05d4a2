"""The table of operators: what the core has is what the page says, and what the kernel does,
against exact fractions over random streams with disorder, ties, gaps and restarts."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore.errors import Incompatible
from edgecore.feature_spec import AGGREGATES, OPERATORS, VERSIONS
from edgecore.features import FRESH, MISSING, REASONS, Feature, FeatureStore
from edgecore.fs import MemoryFs

SECOND = 10**9
START = 1_700_000_000 * SECOND
PAGE = Path(__file__).parents[2] / "docs/formats/feature-definition.md"
ROW = re.compile(
    r"^\| (?P<ops>[a-z_0-9@, ]+) \| (?P<value>.+) \| (?P<empty>[^|]*) \| (?P<one>[^|]*) \|$"
)

Event = tuple[int, Fraction]  # (time, value), in total order
Oracle = Callable[[list[Event], int], "float | None"]  # of those inside, as of a time


def telemetry() -> ec.Schema:
    fields = [ec.Field("pump", "category"), ec.Field("temp", "decimal(3)", range=(-40, 150))]
    return ec.Schema("telemetry", tier="bulk", fields=fields)


def view_of(*features: Any, lateness: str = "30s") -> ec.FeatureView:
    return ec.FeatureView(
        "v", entity="pump", source="telemetry", lateness=lateness, features=features
    )


def nearest(value: Fraction) -> float:
    return value.numerator / value.denominator


# ---------------------------------------------------------------- the page and the table


def page_rows() -> dict[str, tuple[str, str]]:
    found = {}
    for line in PAGE.read_text().splitlines():
        if (match := ROW.match(line)) and match["ops"] != "op":
            for op in match["ops"].split(", "):
                found[op] = (match["empty"].strip(), match["one"].strip())
    return found


def test_operators_page_has_the_rows_of_the_core() -> None:
    page = page_rows()
    several = {op for op, versions in VERSIONS.items() if len(versions) > 1}
    told = [f"{row[0]}@{row[1]}" if row[0] in several else row[0] for row in OPERATORS]
    assert set(page) == set(told)
    for name, (op, version, _, ddof, empty, single) in zip(told, OPERATORS, strict=True):
        assert version == 1 or op in several
        assert page[name][0] == empty, name
        said = {"v / D": "v"}.get(page[name][1], page[name][1])
        assert said == single, name
        if ddof is not None:
            assert f"ddof = {ddof}" in PAGE.read_text()


@pytest.mark.parametrize("op", AGGREGATES)
def test_operators_say_what_the_table_says_of_empty_and_single_windows(op: str) -> None:
    row = [row for row in OPERATORS if row[0] == op][-1]
    store = FeatureStore.open(
        "f", views=[view_of(ec.Agg("temp", op, window="1m"))], schemas=[telemetry()], fs=MemoryFs()
    )
    store.update("telemetry", {"time": START, "pump": "a", "temp": 20.5})
    for said, as_of in ((row[5], START), (row[4], START + 60 * SECOND)):
        reading = store.read("v", "a", as_of)
        if said == "MISSING":
            assert reading.states[0] == MISSING
            assert REASONS[reading.reasons[0]] in ("empty_window", "too_few")
        else:
            assert reading.states[0] == FRESH
            assert reading.values[0] == {"v": 20.5, "0": 0.0, "1": 1.0}[said]


# ---------------------------------------------------------------- oracles


def variance(events: list[Event], as_of: int) -> float | None:
    steps = [int(value * 1000) for _, value in events]
    n = len(steps)
    if n < 2:
        return None
    spread = n * sum(s * s for s in steps) - sum(steps) ** 2
    return float(spread) / float(n * (n - 1)) / 1000.0 / 1000.0


def rate(events: list[Event], as_of: int) -> float | None:
    span = events[-1][0] - events[0][0]
    return nearest((events[-1][1] - events[0][1]) * SECOND / span) if span else None


def rate_rounded_twice(events: list[Event], as_of: int) -> float | None:
    """rate@1."""
    span = events[-1][0] - events[0][0]
    steps = (events[-1][1] - events[0][1]) * 1000
    return nearest(steps * SECOND / span) / 1000.0 if span else None


ENDS: dict[str, Oracle] = {
    "variance": variance,
    "range": lambda e, t: nearest(max(v for _, v in e) - min(v for _, v in e)),
    "first": lambda e, t: nearest(e[0][1]),
    "delta": lambda e, t: nearest(e[-1][1] - e[0][1]) if len(e) > 1 else None,
    "rate": rate,
}


EIGHTHS = (65536, 60097, 55109, 50535, 46341, 42495, 38968, 35734)


def test_operators_weights_of_ewma_are_the_nearest_integers() -> None:
    for r, weight in enumerate(EIGHTHS):
        # weight - 1/2 < 2^(16 - r/8) < weight + 1/2, in integers.
        assert (2 * weight - 1) ** 8 < 2 ** (8 * 17 - r) < (2 * weight + 1) ** 8


def ewma(events: list[Event], as_of: int, half_life: int) -> float | None:
    """As of a time, of all events of an entity up to it."""
    pane = half_life // 8
    values = weights = 0
    for time, value in events:
        old = as_of // pane - time // pane
        if old < 128:
            weight = EIGHTHS[old % 8] << (15 - old // 8)
            values += weight * int(value * 1000)
            weights += weight
    return values / weights / 1000.0 if weights else None


def random_rows(seed: int, count: int, late_s: int = 25) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    time = START
    rows = []
    for i in range(count):
        time += chance.choice([0, 1, 7, 7, 30, 700]) * SECOND + chance.randrange(3)
        few = chance.random() < 0.5
        row: dict[str, Any] = {
            "time": time - (chance.randrange(late_s * SECOND) if chance.random() < 0.2 else 0),
            "pump": chance.choice("ab"),
            "temp": chance.randrange(20, 24) if few else chance.randrange(-40_000, 150_001) / 1000,
            "source_seq": i + 1,
        }
        if chance.random() < 0.1:
            del row["temp"]
        rows.append(row)
    return rows


def events_of(rows: list[dict[str, Any]], pump: str, after: int, upto: int) -> list[Event]:
    inside = [
        row for row in rows if row["pump"] == pump and "temp" in row and after < row["time"] <= upto
    ]
    inside.sort(key=lambda row: (row["time"], row["source_seq"]))
    return [(row["time"], Fraction(round(row["temp"] * 1000), 1000)) for row in inside]


def expect(got: float, state: int, want: float | None, what: object) -> None:
    if want is None:
        assert state == MISSING, what
        assert math.isnan(got), what
    else:
        assert state == FRESH, what
        assert got == want, what


def check_every_row(view: ec.FeatureView, rows: list[dict[str, Any]],
                    oracles: list[tuple[int, Oracle]]) -> None:  # fmt: skip
    """Batch, stream and a stream that is restarted on its way, row by row, against `oracles`: per
    feature its width in ns and what the events inside make of it."""
    schema = telemetry()
    found = ec.backfill(view, rows, schema=schema)
    ordered = sorted(rows, key=lambda row: (row["time"], row["source_seq"]))
    fs = MemoryFs()
    store = FeatureStore.open("f", views=[view], schemas=[schema], fs=fs)
    values = 0
    for at, row in enumerate(ordered):
        store.update("telemetry", row)
        if at % 37 == 11:
            store.snapshot()
            store = FeatureStore.open("f", views=[view], schemas=[schema], fs=fs)
            assert not store.rebuilt
        reading = store.read(view, row["pump"], row["time"])
        cells = slice(at * found.width, (at + 1) * found.width)
        assert bytes(reading.values.cast("B")) == bytes(found.values[cells].tobytes())
        assert bytes(reading.states) == bytes(found.states[cells])
        for i, (window, oracle) in enumerate(oracles):
            inside = events_of(ordered[: at + 1], row["pump"], row["time"] - window, row["time"])
            want = oracle(inside, row["time"]) if inside else None
            expect(reading.values[i], reading.states[i], want, (view.names[i], at))
            values += want is not None
    assert values > len(rows)
    check_any_arrival(view, rows, ordered)


def check_any_arrival(view: ec.FeatureView, rows: list[dict[str, Any]],
                      ordered: list[dict[str, Any]]) -> None:  # fmt: skip
    answers = []
    for order in (rows, ordered):
        store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=MemoryFs())
        for row in order:
            store.update("telemetry", row)
            if row["source_seq"] % 3 == 0:
                newest = max(r["time"] for r in order[: order.index(row) + 1])
                store.read(view, "ab"[row["source_seq"] % 2], newest + 100 * SECOND)
        assert store.late_rows == 0
        newest = max(row["time"] for row in rows)
        answers.append(
            [
                bytes(store.read(view, ["a", "b"], newest + shift * SECOND).values.cast("B"))
                for shift in (-20, 0, 45, -1)
            ]
        )
    assert answers[0] == answers[1]


def test_operators_of_window_ends_equal_exact_fractions(seed: int) -> None:
    view = view_of(ec.Agg("temp", list(ENDS), window=["40s", "10m"]))
    oracles = [(window * SECOND, one) for window in (40, 600) for one in ENDS.values()]
    check_every_row(view, random_rows(seed, 150), oracles)


def test_operators_of_two_versions_stand_in_one_view_each_with_its_bits(seed: int) -> None:
    older = [
        Feature(f"older_{window}", "rate", "temp", window, version=1) for window in ("40s", "10m")
    ]
    view = view_of(*older, ec.Agg("temp", "rate", window=["40s", "10m"]))
    assert [spec.version for spec in view.specs] == [1, 1, 2, 2]
    oracles = [(w * SECOND, one) for one in (rate_rounded_twice, rate) for w in (40, 600)]
    rows = random_rows(seed, 150)
    check_every_row(view, rows, oracles)
    found = ec.backfill(view, rows, schema=telemetry())
    both = zip(found.column("older_10m"), found.column("temp_rate_10m"), strict=True)
    assert any(one != other for one, other in both if one == one)


def test_operators_ewma_equals_exact_integers_over_panes(seed: int) -> None:
    half_lives = {"2s": 2, "15s": 15, "4m": 240}
    view = view_of(*(ec.Ewma("temp", half_life=one) for one in half_lives))
    assert view.names == ("temp_ewma_2s", "temp_ewma_15s", "temp_ewma_4m")
    oracles: list[tuple[int, Oracle]] = [
        (32 * s * SECOND, lambda events, t, s=s: ewma(events, t, s * SECOND))  # type: ignore[misc]
        for s in half_lives.values()
    ]
    check_every_row(view, random_rows(seed, 150), oracles)


def test_operators_ewma_follows_a_step_by_its_half_life() -> None:
    rows = [
        {"time": START + i * SECOND, "pump": "a", "temp": 0 if i < 600 else 100}
        for i in range(1260)
    ]
    found = ec.backfill(view_of(ec.Ewma("temp", half_life="60s")), rows, schema=telemetry())
    assert found.values[599] == 0.0
    assert found.values[659] == pytest.approx(50, abs=4)
    assert found.values[719] == pytest.approx(75, abs=2)
    assert found.values[1259] == pytest.approx(100, abs=0.1)


def test_operators_that_subtract_refuse_floats_without_a_grid() -> None:
    schema = ec.Schema("telemetry", tier="bulk", fields=[
        ec.Field("pump", "category"), ec.Field("temp", "f64")])  # fmt: skip
    for op in ("variance", "range", "delta", "rate", "ewma"):
        with pytest.raises(Incompatible, match=f"exact {op} needs a grid"):
            view_of(Feature("x", op, "temp", "1m")).plan(schema)
