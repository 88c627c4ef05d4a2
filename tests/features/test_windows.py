"""Windows that hop, sessions, time in a state, and ratios: against their definitions over random
rows with disorder, ties, silences and restarts, read at any legal time."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

import edgecore as ec
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.features import FRESH, MISSING, NEVER, REASONS, STALE, Feature, FeatureStore, Reading
from edgecore.fs import MemoryFs

SECOND = 10**9
START = 1_700_000_000 * SECOND
LATENESS = 30 * SECOND
IsSo = Callable[[dict[str, Any]], "bool | None"]
OPS = ["count", "sum", "mean", "std", "min", "max", "range", "first", "delta", "rate",
       "p50", "p99", "distinct", "most_frequent"]  # fmt: skip


def telemetry() -> ec.Schema:
    return ec.Schema("telemetry", tier="bulk", fields=[
        ec.Field("pump", "category"), ec.Field("temp", "decimal(3)", range=(-40, 150)),
        ec.Field("on", "bool"), ec.Field("flag", "i8", range=(0, 1)),
        ec.Field("mode", "category")])  # fmt: skip


def view_of(*features: Any, **rules: Any) -> ec.FeatureView:
    return ec.FeatureView(
        "v", entity="pump", source="telemetry", features=features,
        **{"lateness": LATENESS, **rules},
    )  # fmt: skip


def random_rows(chance: random.Random, count: int) -> list[dict[str, Any]]:
    """In order of arrival; late by less than the lateness."""
    time = START
    rows = []
    for i in range(count):
        time += chance.choice([0, 1, 3, 3, 9, 9, 400]) * SECOND + chance.randrange(3)
        row: dict[str, Any] = {
            "time": time - (chance.randrange(25 * SECOND) if chance.random() < 0.3 else 0),
            "pump": "a", "source_seq": i + 1, "temp": chance.randrange(-40_000, 150_001) / 1000,
            "on": chance.random() < 0.5, "flag": chance.randrange(2),
            "mode": chance.choice(["run", "idle", "off"]),
        }  # fmt: skip
        for name in ("temp", "on", "flag", "mode"):
            if chance.random() < 0.1:
                del row[name]
        rows.append(row)
    return rows


def readings(
    view: ec.FeatureView, rows: list[dict[str, Any]], chance: random.Random, every: int = 7
) -> Iterator[tuple[list[dict[str, Any]], int, Reading]]:
    """The rows so far, in total order, with a time and what is read as of it; restarted often."""
    fs = MemoryFs()
    store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=fs)
    seen: list[dict[str, Any]] = []
    for at, row in enumerate(rows):
        store.update("telemetry", row)
        seen.append(row)
        seen.sort(key=lambda one: (one["time"], one["source_seq"]))
        if at % every == every - 1:
            store.snapshot()
            store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=fs)
            assert not store.rebuilt
        newest = seen[-1]["time"]
        later = chance.choice([1, 8, 60, 700, 3000]) * chance.randrange(SECOND)
        for as_of in (newest, newest - chance.randrange(LATENESS + 1), newest + later):
            yield seen, as_of, store.read(view, "a", as_of)


# ---------------------------------------------------------------- windows that hop


@pytest.mark.parametrize(("window", "hop"), [("1m", "1m"), ("10m", "37s"), ("20s", "3m")])
def test_windows_that_hop_answer_as_the_sliding_one_of_the_last_hop(
    seed: int, window: str, hop: str
) -> None:
    chance = random.Random(seed)
    rows = random_rows(chance, 120)
    hopping = view_of(ec.Agg("temp", OPS, window=window, hop=hop))
    assert hopping.names[0] == f"temp_count_{window}_hop_{hop}"
    width = ec.features.duration_ns(hop)
    # A longer lateness keeps what reads of the last hop ask the sliding window for.
    sliding = view_of(ec.Agg("temp", OPS, window=window), lateness=LATENESS + width)
    store = FeatureStore.open("s", views=[sliding], schemas=[telemetry()], fs=MemoryFs())
    fed = 0
    for seen, as_of, got in readings(hopping, rows, chance):
        for row in rows[fed : len(seen)]:
            store.update("telemetry", row)
        fed = len(seen)
        last = as_of - as_of % width
        want = store.read(sliding, "a", last)
        assert bytes(got.values.cast("B")) == bytes(want.values.cast("B"))
        assert bytes(got.states) == bytes(want.states)
        assert bytes(got.reasons) == bytes(want.reasons)
        assert bytes(got.coverage.cast("B")) == bytes(want.coverage.cast("B"))
        assert list(got.ages) == [
            NEVER if age == NEVER else age + as_of - last for age in want.ages
        ]


def test_windows_that_hop_go_stale_by_the_time_that_is_asked_for() -> None:
    view = view_of(ec.Agg("temp", "mean", window="1m", hop="1m", ttl="50s"))
    store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=MemoryFs())
    hop = START - START % (60 * SECOND)
    store.update("telemetry", {"time": hop - 20 * SECOND, "pump": "a", "temp": 20})
    store.update("telemetry", {"time": hop + 10 * SECOND, "pump": "a", "temp": 30})
    for after, state in ((0, FRESH), (30, FRESH), (31, STALE), (59, STALE)):
        reading = store.read(view, "a", hop + after * SECOND)
        assert (reading.values[0], reading.states[0]) == (20.0, state)
        assert reading.ages[0] == (20 + after) * SECOND
    assert store.read(view, "a", hop + 60 * SECOND).values[0] == 30.0


def test_windows_that_hop_take_gaps_of_the_window_that_is_answered() -> None:
    view = view_of(ec.Agg("temp", "count", window="1m", hop="1m"))
    store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=MemoryFs())
    hop = START - START % (60 * SECOND)
    for second in range(-100, 11, 10):
        store.update("telemetry", {"time": hop + second * SECOND, "pump": "a", "temp": 20})
    store.gap("telemetry", hop - 15 * SECOND, hop + 30 * SECOND)
    assert store.read(view, "a", hop + 50 * SECOND).coverage[0] == 0.75


# ---------------------------------------------------------------- sessions


def session(seen: list[dict[str, Any]], as_of: int, window: int, gap: int) -> list[tuple[int, int]]:
    """(time, thousandths) of the session that goes on as of a time."""
    events = [
        (row["time"], round(row["temp"] * 1000))
        for row in seen
        if "temp" in row and as_of - window < row["time"] <= as_of
    ]
    out: list[tuple[int, int]] = []
    next_time = as_of
    while events and next_time - events[-1][0] <= gap:
        next_time = events[-1][0]
        out.insert(0, events.pop())
    return out


@pytest.mark.parametrize(("window_s", "gap_s"), [(60, 4), (600, 10), (30, 30), (3600, 500)])
def test_sessions_are_those_of_their_definition(seed: int, window_s: int, gap_s: int) -> None:
    chance = random.Random(seed)
    rows = random_rows(chance, 120)
    view = view_of(ec.Agg("temp", OPS, window=window_s * SECOND, gap=gap_s * SECOND))
    window, gap = window_s * SECOND, gap_s * SECOND
    sizes = set()
    for seen, as_of, got in readings(view, rows, chance):
        inside = session(seen, as_of, window, gap)
        known = [r["time"] for r in seen if "temp" in r and as_of - 2 * window < r["time"] <= as_of]
        sizes.add(len(inside))
        if not known:
            assert set(got.reasons) == {REASONS.index("never")}
            continue
        assert got.values[0] == len(inside)
        before = len(known) > len(inside)
        assert got.coverage[0] == (1 if before else (as_of - known[0]) / window)
        values = sorted(value for _, value in inside)
        assert got.values[12] == len(set(values))
        if not inside:
            reasons = {reason for i, reason in enumerate(got.reasons) if i not in (0, 12)}
            assert reasons == {REASONS.index("empty_window")}
            continue
        assert got.values[10] == values[-(-len(values) // 2) - 1] / 1000
        assert got.values[13] == max(values, key=lambda one: (values.count(one), -one)) / 1000
        assert got.values[1] == sum(values) / 1000
        assert list(got.values[4:8]) == [
            min(values) / 1000, max(values) / 1000, (max(values) - min(values)) / 1000,
            inside[0][1] / 1000,
        ]  # fmt: skip
    assert 0 in sizes
    assert len(sizes) > 3


def test_sessions_end_one_gap_after_their_newest_event() -> None:
    view = view_of(ec.Agg("temp", ["count", "mean"], window="1h", gap="30s"))
    store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=MemoryFs())
    for second in (0, 20, 45, 100, 110):
        store.update("telemetry", {"time": START + second * SECOND, "pump": "a", "temp": second})
    for after, want in ((110, (2, 105.0)), (140, (2, 105.0)), (141, (0, None))):
        reading = store.read(view, "a", START + after * SECOND)
        assert tuple(reading.to_dict().values()) == want
        assert reading.coverage[0] == 1.0
    # A late event joins two sessions, and the one that it makes goes back to the first event.
    store.update("telemetry", {"time": START + 80 * SECOND, "pump": "a", "temp": 80})
    assert store.read(view, "a", START + 110 * SECOND).to_dict()["temp_count_1h_gap_30s"] == 3
    assert store.late_rows == 0


def test_sessions_whose_begin_was_not_seen_are_known_from_their_first_event() -> None:
    view = view_of(ec.Agg("temp", "count", window="100s", gap="30s", min_coverage=0.5))
    store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=MemoryFs())
    for second in range(0, 61, 10):
        store.update("telemetry", {"time": START + second * SECOND, "pump": "a", "temp": 1})
        reading = store.read(view, "a", START + second * SECOND)
        assert reading.coverage[0] == second / 100
        assert reading.states[0] == (FRESH if second >= 50 else MISSING)
    # After a pause a session has a begin that was seen; what may be missing since then counts.
    store.update("telemetry", {"time": START + 95 * SECOND, "pump": "a", "temp": 1})
    assert store.read(view, "a", START + 95 * SECOND).coverage[0] == 1
    store.gap("telemetry", START + 40 * SECOND, START + 70 * SECOND)
    assert store.read(view, "a", START + 95 * SECOND).coverage[0] == 0.9


# ---------------------------------------------------------------- time in a state


def held(
    seen: list[dict[str, Any]], is_so: IsSo, as_of: int, window: int, hold: int | None
) -> tuple[int, int] | None:
    """(true, known) nanoseconds, from the definition; None where no value is known."""
    events = [
        (row["time"], is_so(row))
        for row in seen
        if is_so(row) is not None and as_of - 2 * window < row["time"] <= as_of
    ]
    if not events:
        return None
    true = known = 0
    for at, (time, value) in enumerate(events):
        until = events[at + 1][0] if at + 1 < len(events) else as_of
        if hold is not None:
            until = min(until, time + hold)
        ns = max(0, until - max(time, as_of - window))
        known += ns
        true += ns if value else 0
    return true, known


def runs_hot(row: dict[str, Any]) -> bool | None:
    return row["mode"] == "run" and row["temp"] > 20 if {"mode", "temp"} <= row.keys() else None


TRUTHS: dict[str, tuple[Any, IsSo]] = {
    "bool": ("on", lambda row: row.get("on")),
    "integer": ("flag", lambda row: row.get("flag")),
    "text": (ec.col("mode") == "run", lambda row: row["mode"] == "run" if "mode" in row else None),
    "expression": ((ec.col("mode") == "run") & (ec.col("temp") > 20), runs_hot),
}


@pytest.mark.parametrize("kind", TRUTHS)
@pytest.mark.parametrize("hold_s", [None, 5])
def test_time_in_is_the_exact_time_that_values_held(
    seed: int, kind: str, hold_s: int | None
) -> None:
    field, is_so = TRUTHS[kind]
    chance = random.Random(seed)
    rows = random_rows(chance, 120)
    hold = None if hold_s is None else hold_s * SECOND
    parameters: dict[str, Any] = {"name": "so"} | ({} if hold is None else {"hold": hold})
    windows = (7, 60, 900)
    view = view_of(*(ec.TimeIn(field, window=s * SECOND, **parameters) for s in windows),
                   ec.TimeIn(field, window="1m", hop="25s", **parameters))  # fmt: skip
    partly = 0
    for seen, as_of, got in readings(view, rows, chance):
        asked = [(s * SECOND, as_of) for s in windows]
        asked.append((60 * SECOND, as_of - as_of % (25 * SECOND)))
        for i, (window, at) in enumerate(asked):
            want = held(seen, is_so, at, window, hold)
            if want is None:
                assert REASONS[got.reasons[i]] == "never"
                continue
            exact = Fraction(want[0], SECOND)
            assert got.values[i] == exact.numerator / exact.denominator
            assert got.coverage[i] == want[1] / window
            assert got.states[i] == FRESH
            partly += 0 < want[0] < window
    assert partly > 30


def test_time_in_holds_what_came_before_the_window_for_one_window_more() -> None:
    view = view_of(ec.TimeIn("on", window="1m"), ec.TimeIn("on", window="1m", hold="90s"))
    assert view.names == ("on_time_in_1m", "on_time_in_1m_hold_90s")
    store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=MemoryFs())
    store.update("telemetry", {"time": START, "pump": "a", "on": True})
    for after, want in ((0, (0.0, 0.0)), (40, (40.0, 40.0)), (90, (60.0, 60.0)),
                        (100, (60.0, 50.0)), (119, (60.0, 31.0)), (120, (None, None))):  # fmt: skip
        reading = store.read(view, "a", START + after * SECOND)
        assert tuple(reading.to_dict().values()) == want, after
    store.gap("telemetry", START + 70 * SECOND, START + 85 * SECOND)
    reading = store.read(view, "a", START + 100 * SECOND)
    assert list(reading.coverage) == [0.75, 35 / 60]


def test_time_in_refuses_what_is_not_true_or_false() -> None:
    number = ec.col("temp") + 1
    for field, match in (("temp", "needs a bool"), ("pump", "is text"), (number, "needs a bool")):
        with pytest.raises(Incompatible, match=match):
            view_of(ec.TimeIn(field, window="1m", name="so")).plan(telemetry())


# ---------------------------------------------------------------- ratios


def ratio_view(**judged: Any) -> ec.FeatureView:
    return view_of(
        ec.Ratio("share", "temp_sum_1m", "temp_count_10m"),
        ec.Agg("temp", "sum", window="1m", **judged),
        ec.Agg("temp", "count", window="10m"),
        ec.Ratio("back", "temp_count_10m", "temp_sum_1m"),
    )


def test_ratios_divide_the_two_answers_once_and_are_judged_as_the_worse(seed: int) -> None:
    chance = random.Random(seed)
    view = ratio_view(ttl="8s", on_stale=chance.choice(["use", "default", "missing"]))
    states = set()
    for _, _, got in readings(view, random_rows(chance, 100), chance):
        above, below = got.values[1], got.values[2]
        states.add((got.states[1], got.states[2]))
        age = NEVER if NEVER in got.ages[1:3] else max(got.ages[1:3])
        assert got.ages[0] == got.ages[3] == age
        assert got.coverage[0] == got.coverage[3] == min(got.coverage[1], got.coverage[2])
        for at, over, under in ((0, above, below), (3, below, above)):
            if MISSING in (got.states[1], got.states[2]):
                assert got.states[at] == MISSING
                assert got.reasons[at] in (got.reasons[1], got.reasons[2])
            elif under == 0:
                assert REASONS[got.reasons[at]] == "too_few"
                assert got.states[at] == MISSING
            else:
                assert got.states[at] == max(got.states[1], got.states[2])
                if over == over and under == under:  # a default that is NaN stays NaN
                    assert got.values[at] == over / under
                else:
                    assert got.values[at] != got.values[at]
    assert len(states) > 1


def test_ratios_by_zero_are_missing() -> None:
    view = view_of(ec.Agg("temp", ["sum", "count"], window="1m"),
                   ec.Ratio("mean", "temp_sum_1m", "temp_count_1m"),
                   ec.Ratio("back", "temp_count_1m", "temp_sum_1m"))  # fmt: skip
    rows = [{"time": START + i * SECOND, "pump": "a", "temp": t} for i, t in enumerate((5, -5, 3))]
    found = ec.backfill(view, rows, schema=telemetry())
    assert list(found.column("mean")) == [5.0, 0.0, 1.0]
    back = list(found.column("back"))
    assert (back[0], back[2]) == (1 / 5, 1.0)
    assert list(found.states[3::4]) == [FRESH, MISSING, FRESH]


def test_ratios_fingerprints_cover_what_they_divide() -> None:
    schema = telemetry()
    before = ratio_view().fingerprints_for(schema)
    other = ratio_view(ttl="1m").fingerprints_for(schema)
    assert before[0] != other[0]
    assert before[2] == other[2]
    assert before[0] != before[3]
    assert ratio_view().plan(schema).horizon_ns == 1200 * SECOND
    renamed = view_of(
        Feature("s", "sum", "temp", "1m"), Feature("n", "count", "temp", "10m"),
        ec.Ratio("r", "s", "n"),
    )  # fmt: skip
    assert renamed.fingerprints_for(schema)[2] == before[0]
    temp = ec.Field("temp", "decimal(2)", range=(-40, 150))
    narrow = ec.Schema("telemetry", tier="bulk", fields=[ec.Field("pump", "category"), temp])
    with pytest.raises(Incompatible, match=r"dtype of field 'temp'.*'share'"):
        ratio_view().require_same(schema, narrow, [before[0]])


# ---------------------------------------------------------------- all of them


def every_kind() -> ec.FeatureView:
    return view_of(
        ec.Agg("temp", OPS, window="2m", hop="30s"), ec.Agg("temp", OPS, window="2m", gap="8s"),
        ec.TimeIn("on", window="2m", hold="9s", hop="7s"), ec.Agg("temp", "sum", window="1m"),
        ec.Ratio("share", "temp_sum_1m", "temp_sum_2m_hop_30s"),
    )  # fmt: skip


def test_windows_restored_after_every_row_and_in_a_batch_give_the_same_bits(seed: int) -> None:
    chance = random.Random(seed)
    rows = random_rows(chance, 150)
    view = every_kind()
    found = ec.backfill(view, rows, schema=telemetry(), known="ingest")
    fs = MemoryFs()
    plain = FeatureStore.open("p", views=[view], schemas=[telemetry()], fs=fs)
    for at, row in enumerate(rows):
        plain.update("telemetry", row)
        again = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=fs)
        again.update("telemetry", row)
        again.snapshot()
        one, two = (store.read(view, "a", row["time"]) for store in (plain, again))
        assert bytes(one.values.cast("B")) == bytes(two.values.cast("B"))
        assert bytes(one.coverage.cast("B")) == bytes(two.coverage.cast("B"))
        cells = slice(at * found.width, (at + 1) * found.width)
        assert bytes(one.values.cast("B")) == bytes(found.values[cells].tobytes())
        assert bytes(one.states) == bytes(found.states[cells])


@pytest.mark.parametrize("ties", [False, True])
def test_windows_swept_in_a_batch_are_those_of_the_stream(seed: int, ties: bool) -> None:
    rows = random_rows(random.Random(seed), 300)
    if not ties:
        rows = list({row["time"]: row for row in rows}.values())
    rows.sort(key=lambda row: (row["time"], row["source_seq"]))
    some = [op for op in OPS if op not in ("range", "first", "delta", "rate")]  # ties: all swept
    view = view_of(
        ec.Agg("temp", some if ties else OPS, window="2m", hop="30s"),
        ec.Agg("temp", some if ties else OPS, window="2m", gap="8s"),
        ec.Histogram("temp", edges=[0, 20], window="2m", gap="20s", min_coverage=0.5),
        ec.Agg("mode", ["count", "distinct"], window="90s", hop="1m", ttl="40s"),
        *([] if ties else [ec.TimeIn("on", window="2m", hold="9s", hop="7s")]),
    )
    found = ec.backfill(view, rows, schema=telemetry())
    store = FeatureStore.open("f", views=[view], schemas=[telemetry()], fs=MemoryFs())
    for at, row in enumerate(rows):
        store.update("telemetry", row)
        reading = store.read(view, "a", row["time"])
        cells = slice(at * found.width, (at + 1) * found.width)
        assert bytes(reading.values.cast("B")) == bytes(found.values[cells].tobytes()), at
        assert bytes(reading.states) == bytes(found.states[cells])


def test_windows_are_the_same_from_any_cut_one_horizon_before(seed: int) -> None:
    rows = random_rows(random.Random(seed), 200)
    view = every_kind()
    whole = ec.backfill(view, rows, schema=telemetry())
    cut = rows[100]["time"]
    part = ec.backfill(view, rows, schema=telemetry(), since=cut)
    first = bisect_right(list(whole.times), cut - 1)
    assert bytes(part.values.cast("B")) == bytes(whole.values.cast("B")[first * whole.width * 8 :])


def test_windows_travel_in_definitions_and_foreign_ones_are_refused() -> None:
    view = every_kind()
    again = ec.FeatureView.from_bytes(view.to_bytes())
    assert again == view
    assert again.specs[0].hop == 30 * SECOND
    for bad, match in (
        (Feature("x", "mean", "temp", "1m", hop=-1), "183 days"),
        (Feature("x", "last", "temp", "1m", hop="1m"), "no window that hops"),
        (Feature("x", "mean", "temp", "1m", gap="61s"), "at most its window"),
        (Feature("x", "mean", "temp", "1m", gap="1s", hop="1s"), "without hops"),
        (Feature("x", "mean", "temp", "1m", hold="1s"), "only a time_in"),
        (Feature("x", "mean", "temp", "1m", numerator="y"), "only a ratio"),
        (Feature("x", "ratio", "", 0), "divides ''"),
        (Feature("x", "time_in", "on", 0), "window is above 0"),
    ):
        with pytest.raises(Invalid, match=match):
            view_of(bad).plan(telemetry())
    with pytest.raises(Invalid, match="judged"):
        view_of(Feature("n", "count", "temp", "1m"),
                Feature("x", "ratio", "", 0, numerator="n", denominator="n", ttl="1m"),
                ).plan(telemetry())  # fmt: skip
    for other in ("y", "x"):
        with pytest.raises(Invalid, match="no feature of view"):
            view_of(Feature("n", "count", "temp", "1m"), ec.Ratio("x", "n", other))
    from cbor2 import dumps, loads

    body = loads(view.to_bytes())
    body["features"][-1]["numerator"] = "nobody"
    with pytest.raises(Corrupt, match="nobody"):
        ec.FeatureView.from_bytes(dumps(body, canonical=True))
