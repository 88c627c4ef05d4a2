"""What holds for a view's stream as a whole: FINAL and PROVISIONAL, clocks that jump, gaps, a flood
of entities; and that every path still gives the same bits."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from edgecore.errors import Invalid
from edgecore.feature_parity import parity
from edgecore.features import (
    AHEAD,
    FRESH,
    LATE,
    MISSING,
    REASONS,
    Agg,
    FeatureStore,
    FeatureView,
    Last,
    backfill,
    prepare,
)
from edgecore.schema import Field, Schema

SECOND = 10**9
START = 1_700_000_000 * SECOND
SCHEMA = Schema(
    "telemetry",
    tier="bulk",
    fields=[Field("pump", "category"), Field("temp", "decimal(3)", range=(-40, 150))],
)


def view_of(**rules: Any) -> FeatureView:
    return FeatureView(
        "pump_health", entity="pump", source="telemetry", lateness="10s",
        features=[Agg("temp", ["count", "mean"], window="1m", ttl="30s"), Last("temp")], **rules,
    )  # fmt: skip


def store_of(path: Path, view: FeatureView) -> FeatureStore:
    return FeatureStore.open(str(path), views=[view], schemas=[SCHEMA])


def row(second: int, pump: str = "a", source: str = "", temp: float = 20.0) -> dict[str, Any]:
    return {"time": START + second * SECOND, "pump": pump, "temp": temp, "source": source}


def test_rules_are_in_the_definition_and_change_no_other_fingerprint() -> None:
    plain = view_of()
    assert FeatureView.from_bytes(plain.to_bytes()) == plain
    for rules in ({"max_ahead": "5m"}, {"idle": "1m"}, {"max_entities": 5}, {"max_bytes": 4096}):
        view = view_of(**rules)
        again = FeatureView.from_bytes(view.to_bytes())
        assert again == view
        assert again.rules.core() == view.rules.core() != plain.rules.core()
        same = view.fingerprints_for(SCHEMA) == plain.fingerprints_for(SCHEMA)
        assert same == (not view.rules.of_time())
    with pytest.raises(Invalid):
        view_of(max_entities=-1)


def test_a_reading_is_final_when_all_sources_that_are_heard_have_passed_it(tmp_path: Path) -> None:
    view = view_of(idle="1m")
    store = store_of(tmp_path, view)
    assert store.final_before(view) is None
    store.update("telemetry", row(0, source="left"))
    store.update("telemetry", row(50, source="right"))
    assert store.final_before(view) == START - 10 * SECOND
    assert not store.read(view, "a", as_of=START + 39 * SECOND).final
    store.update("telemetry", row(55, source="left"))
    reading = store.read(view, "a", as_of=START + 39 * SECOND)
    assert reading.final
    assert reading.to_dict()["temp_count_1m"] == 1
    store.update("telemetry", row(35, "b"))  # an entity of its own, and yet too late
    assert store.late_rows == 1
    assert [one[3:] for one in store.take_set_aside()] == [(5 * SECOND, LATE)]
    assert not store_of(tmp_path / "other", view_of()).read(view, "a", as_of=START).final


def test_a_clock_that_jumps_ahead_makes_no_stale_value_fresh(tmp_path: Path) -> None:
    view = view_of(max_ahead="5m")
    store = store_of(tmp_path, view)
    for second in range(0, 20, 5):
        store.update("telemetry", row(second))
    store.update("telemetry", row(86_400))
    assert store.ahead_rows == 1
    assert [(one[0], one[1], one[4]) for one in store.take_set_aside()] == [(view.name, 5, AHEAD)]
    later = store.read(view, "a", as_of=START + 86_400 * SECOND)
    assert FRESH not in later.states.tolist()[:2]
    store.update("telemetry", row(20))
    assert store.late_rows == 0
    assert store.read(view, "a", as_of=START + 20 * SECOND).to_dict()["temp_count_1m"] == 5


def test_a_gap_is_not_covered_and_a_restart_remembers_it(tmp_path: Path) -> None:
    view = view_of()
    store = store_of(tmp_path, view)
    for second in range(0, 130, 5):
        store.update("telemetry", row(second))
    now = START + 125 * SECOND
    assert store.read(view, "a", as_of=now).coverage[0] == 1
    store.gap("telemetry", START + 90 * SECOND, START + 105 * SECOND)
    assert store.read(view, "a", as_of=now).coverage[0] == 0.75
    store.snapshot()
    again = store_of(tmp_path, view)
    assert again.position == store.position
    assert again.read(view, "a", as_of=now).coverage[0] == 0.75
    with pytest.raises(Invalid):
        store.gap("telemetry", 2, 1)


def test_a_flood_of_entities_stays_within_the_bound(tmp_path: Path) -> None:
    view = view_of(max_entities=50)
    store = store_of(tmp_path, view)
    for i in range(2000):
        store.update("telemetry", row(i // 20, f"p{i}"))
    assert store.evicted == 1950
    assert store.memory_bytes < 100_000
    reading = store.read(view, ["p1999", "p3"], as_of=START + 99 * SECOND)
    assert reading.states[0] == FRESH
    assert reading.states[3] == MISSING
    assert REASONS[reading.reasons[3]] == "evicted"
    store.snapshot()
    assert store_of(tmp_path, view).evicted == 1950


@pytest.mark.parametrize("rules", [
    {"max_ahead": "2m"}, {"idle": "30s"}, {"max_entities": 6}, {"max_bytes": 1500},
    {"max_ahead": "2m", "idle": "30s", "max_entities": 6},
], ids=str)  # fmt: skip
def test_stream_batch_and_restore_agree_under_every_rule(rules: dict[str, Any], seed: int) -> None:
    chance = random.Random(seed)
    time, rows = 0, []
    for _ in range(900):
        time += chance.randrange(4)
        at = time + (9000 if chance.random() < 0.01 else 0) - chance.choice([0, 0, 0, 9, 14])
        name = chance.choice("abcdefghij")
        rows.append(row(at, name, chance.choice("xy"), chance.randrange(-40, 150)))
    view = view_of(**rules)
    report = parity(view, prepare(SCHEMA, rows), SCHEMA)
    assert report.differing["batch"] == report.differing["restore"] == [0] * len(view.names)
    assert report.late > 0


def test_a_backfill_says_what_is_final(seed: int) -> None:
    chance = random.Random(seed)
    rows = [row(5 * i, chance.choice("ab")) for i in range(100)]
    for view in (view_of(), view_of(idle="1m")):
        found = backfill(view, rows, schema=SCHEMA)
        end = {name: max(one["time"] for one in rows if one["pump"] == name) for name in "ab"}
        last = {name: max(end.values()) if view.rules.idle else end[name] for name in end}
        for entity, time, final in zip(found.entities, found.times, found.final, strict=True):
            assert final == (time < last[entity] - 10 * SECOND)
        assert not any(backfill(view, rows, schema=SCHEMA, known="ingest").final)
