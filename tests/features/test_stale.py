"""What a stale value is: `recompute` against the same window read as of the newest event, `refuse`,
and the definitions that make no sense; over random rows with disorder, ties, silences, restarts."""

from __future__ import annotations

import importlib
import math
import random
import sys
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore.errors import Incompatible, Invalid
from edgecore.feature_backfill import warm_from
from edgecore.features import FRESH, MISSING, NEVER, REASONS, STALE, FeatureStore
from edgecore.fs import MemoryFs

sys.path.insert(0, str(Path(__file__).parent))
windows: Any = importlib.import_module("test_windows")
LATENESS, OPS, SECOND, START = windows.LATENESS, windows.OPS, windows.SECOND, windows.START
random_rows, readings = windows.random_rows, windows.readings
telemetry, view_of = windows.telemetry, windows.view_of


def aggregates(window: str, **judged: Any) -> list[Any]:
    return [
        ec.Agg("temp", OPS, window=window, **judged),
        ec.TimeIn("on", window=window, **judged),
        ec.TimeIn("on", window=window, hold="9s", **judged),
        ec.Agg("temp", ["count", "sum", "p50"], window=window, gap="8s", **judged),
        ec.Agg(
            "temp", ["mean", "max"], window=window, name="known", **{**judged, "min_coverage": 0.7}
        ),
        ec.Agg("temp", ["sum", "std"], window=window, name="many", **{**judged, "min_count": 3}),
    ]


def same_bits(one: Any, two: Any, at: int) -> bool:
    return bytes(one[at : at + 1].cast("B")) == bytes(two[at : at + 1].cast("B"))


@pytest.mark.parametrize(("window_s", "ttl_s"), [(60, 20), (600, 90), (9, 3)])
def test_stale_recompute_is_the_answer_as_of_the_newest_event_in_the_window(
    seed: int, window_s: int, ttl_s: int
) -> None:
    chance = random.Random(seed)
    rows = random_rows(chance, 120)
    window, ttl = window_s * SECOND, ttl_s * SECOND
    judged = {"ttl": f"{ttl_s}s", "on_stale": "recompute"}
    view = view_of(*aggregates(f"{window_s}s", **judged))
    # A longer lateness keeps what reads of the past ask for.
    plain = view_of(*aggregates(f"{window_s}s"), lateness=LATENESS + window)
    store = FeatureStore.open("s", views=[plain], schemas=[telemetry()], fs=MemoryFs())
    fields = {name: "on" if name.startswith("on") else "temp" for name in view.names}
    fed = stale = none = 0
    for seen, as_of, got in readings(view, rows, chance):
        for row in rows[fed : len(seen)]:
            store.update("telemetry", row)
        fed = len(seen)
        now = store.read(plain, "a", as_of)
        for at, name in enumerate(view.names):
            times = [r["time"] for r in seen if fields[name] in r and r["time"] <= as_of]
            n = max(times, default=-(10**18))
            if as_of - n <= ttl:  # as if there were no ttl
                assert got.states[at] == now.states[at]
                assert same_bits(got.values, now.values, at)
                continue
            if n <= as_of - window:
                none += 1
                assert got.states[at] == MISSING
                assert math.isnan(got.values[at])
                continue
            then = store.read(plain, "a", n)
            stale += 1
            assert got.ages[at] == as_of - n
            assert got.states[at] == (STALE if then.states[at] == FRESH else MISSING), name
            assert same_bits(got.values, then.values, at), name
            assert same_bits(got.coverage, then.coverage, at), name
            said = "ttl" if then.states[at] == FRESH else REASONS[then.reasons[at]]
            assert REASONS[got.reasons[at]] == said
    assert stale > 100
    assert none > 100


def test_stale_recompute_holds_in_batch_restore_and_every_cut(seed: int) -> None:
    chance = random.Random(seed)
    rows = random_rows(chance, 150)
    for row in rows:  # long silences of a field within the rows
        if chance.random() < 0.7:
            row.pop("temp", None)
    view = view_of(
        *aggregates("40s", ttl="7s", on_stale="recompute"),
        ec.Ewma("temp", half_life="10s", ttl="7s", on_stale="recompute"),
    )
    plan = view.plan(telemetry())
    assert plan.horizons[0] == 3 * 40 * SECOND
    assert plan.horizons[-1] == 3 * 160 * SECOND
    found = ec.backfill(view, rows, schema=telemetry(), known="ingest")
    assert STALE in list(found.states)
    fs = MemoryFs()
    for at, row in enumerate(rows):
        store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=fs)
        store.update("telemetry", row)
        store.snapshot()
        reading = store.read(view, "a", row["time"])
        cells = slice(at * found.width, (at + 1) * found.width)
        assert bytes(reading.values.cast("B")) == bytes(found.values[cells].cast("B"))
        assert bytes(reading.states) == bytes(found.states[cells])
    since = rows[75]["time"]
    whole = ec.backfill(view, rows, schema=telemetry(), since=since)
    warm = warm_from(view, telemetry(), since)
    part = ec.backfill(view, [row for row in rows if row["time"] >= warm], schema=telemetry(),
                       since=since)  # fmt: skip
    assert bytes(whole.values.cast("B")) == bytes(part.values.cast("B"))
    assert bytes(whole.states) == bytes(part.states)


def test_stale_refuse_is_nan_and_stale_and_ratios_of_it_too() -> None:
    view = view_of(
        ec.Agg("temp", ["sum", "count"], window="1m", ttl="5s", on_stale="refuse"),
        ec.Last("temp", ttl="5s", on_stale="refuse"),
        ec.Ratio("mean", "temp_sum_1m", "temp_count_1m"),
    )
    store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=MemoryFs())
    store.update("telemetry", {"time": START, "pump": "a", "temp": 20})
    fresh = store.read(view, "a", START + 5 * SECOND)
    assert list(fresh.values) == [20.0, 1.0, 20.0, 20.0]
    stale = store.read(view, "a", START + 5 * SECOND + 1)
    assert list(stale.states) == [STALE] * 4
    assert all(math.isnan(value) for value in stale.values)
    assert {REASONS[reason] for reason in stale.reasons} == {"ttl"}
    assert set(store.read(view, "a", START + 130 * SECOND).ages) == {NEVER, 130 * SECOND}


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (ec.Agg("temp", "mean", window="1m", on_stale="refuse"), "without a ttl"),
        (ec.Agg("temp", "mean", window="1m", on_stale="recompute"), "without a ttl"),
        (ec.Agg("temp", "mean", window="1m", ttl="1m", on_stale="recompute"), "no shorter"),
        (ec.Ewma("temp", half_life="1m", ttl="16m", on_stale="recompute"), "no shorter"),
        (ec.Agg("temp", "sum", window="1m", hop="9s", ttl="9s", on_stale="recompute"), "hops"),
        (
            ec.features.Feature("c", "constant", "", 0, value=1.0, on_stale="refuse"),
            "without a ttl",
        ),
    ],
)
def test_stale_policies_that_make_no_sense_are_refused(feature: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        view_of(feature).plan(telemetry())


def test_stale_policies_are_parameters_of_the_fingerprint() -> None:
    def one(**judged: Any) -> bytes:
        view = view_of(ec.Agg("temp", "mean", window="1m", ttl="5s", **judged))
        return bytes(view.fingerprints_for(telemetry())[0])

    assert len({one(), one(on_stale="recompute"), one(on_stale="refuse")}) == 3
    assert one() == one(on_stale="use")
    view = view_of(ec.Agg("temp", "mean", window="1m", ttl="5s", on_stale="recompute"))
    assert ec.FeatureView.from_bytes(view.to_bytes()) == view
    with pytest.raises((Incompatible, Invalid), match="on_stale is one of"):
        ec.Agg("temp", "mean", window="1m", ttl="5s", on_stale="repeat")
