"""Constants and vectors of a view: passed through as they are."""

from __future__ import annotations

import math
from typing import Any

import pytest

import edgecore as ec
from edgecore.errors import Incompatible, Invalid
from edgecore.features import FRESH, MISSING, Feature, FeatureStore
from edgecore.fs import MemoryFs

SECOND = 10**9
START = 1_700_000_000 * SECOND


def telemetry() -> ec.Schema:
    numbers = [ec.Field(f"e{i}", "f32") for i in range(3)]
    return ec.Schema("telemetry", tier="bulk", fields=[ec.Field("pump", "category"), *numbers])


def view(*more: Any) -> ec.FeatureView:
    return ec.FeatureView("v", entity="pump", source="telemetry", features=[
        ec.Constant("bias", 0.1), ec.Constant("site", [1, -0.0, 1e300]),
        ec.Vector("sound", ["e0", "e1", "e2"], within="1m"), *more])  # fmt: skip


def rows() -> list[dict[str, Any]]:
    return [
        {"time": START + i * SECOND, "pump": "ab"[i % 2], "e0": i / 8, "e1": -i, "e2": 0.5}
        for i in range(9)
    ]


def test_constants_are_fresh_and_of_age_0_for_every_entity_and_vectors_are_the_newest() -> None:
    store = FeatureStore.open("f", views=[view()], schemas=[telemetry()], fs=MemoryFs())
    store.update_batch("telemetry", rows())
    as_of = START + 8 * SECOND
    found = store.read("v", ["a", "never", "b"], as_of)
    assert found.names == ("bias", "site_0", "site_1", "site_2", "sound_e0", "sound_e1", "sound_e2")
    for at in range(3):
        cells = slice(at * 7, at * 7 + 4)
        assert found.values[cells].tolist() == [0.1, 1.0, 0.0, 1e300]
        assert math.copysign(1, found.values[at * 7 + 2]) == 1
        assert bytes(found.states[cells]) == bytes([FRESH] * 4)
        assert found.ages[cells].tolist() == [0] * 4
        assert found.coverage[cells].tolist() == [1.0] * 4
    assert found.values[4:7].tolist() == [1.0, -8.0, 0.5]
    assert found.values[18:21].tolist() == [7 / 8, -7.0, 0.5]
    assert found.ages[18] == SECOND
    assert bytes(found.states[11:14]) == bytes([MISSING] * 3)


@pytest.mark.parametrize("more", [(), (ec.Agg("e0", "first", window="5s"),)])
def test_constants_in_a_backfill_are_those_of_the_stream(more: tuple[Any, ...]) -> None:
    """In columns, and with an operator that has to be streamed."""
    whole = view(*more)
    store = FeatureStore.open("f", views=[whole], schemas=[telemetry()], fs=MemoryFs())
    found = ec.backfill(whole, rows(), schema=telemetry())
    for at, row in enumerate(rows()):
        store.update("telemetry", row)
        reading = store.read("v", row["pump"], row["time"])
        cells = slice(at * found.width, (at + 1) * found.width)
        assert reading.values.tobytes() == found.values[cells].tobytes()
        assert reading.states.tobytes() == found.states[cells].tobytes()


def test_constants_alone_make_a_view() -> None:
    alone = ec.FeatureView("v", entity="pump", source="telemetry", features=[ec.Constant("c", 2)])
    assert ec.FeatureView.from_bytes(alone.to_bytes()) == alone
    found = ec.backfill(alone, rows(), schema=telemetry())
    assert found.values.tolist() == [2.0] * 9
    store = FeatureStore.open("f", views=[alone], schemas=[telemetry()], fs=MemoryFs())
    store.update_batch("telemetry", rows())
    store.snapshot()
    assert store.read("v", "a", START + 9 * SECOND).values.tolist() == [2.0]


def test_constants_value_is_part_of_what_they_are() -> None:
    one, two = (
        ec.FeatureView("v", entity="", source="telemetry", features=[ec.Constant("c", value)])
        for value in (1, 2)
    )
    assert one.fingerprints_for(telemetry()) != two.fingerprints_for(telemetry())


@pytest.mark.parametrize(
    "feature",
    [Feature("c", "constant", "", 0), Feature("c", "constant", "", 0, value=float("nan")),
     Feature("c", "constant", "", 0, value=float("inf")),
     Feature("c", "constant", "", "1m", value=1),
     Feature("c", "constant", "", 0, value=1, ttl="1s"),
     Feature("c", "mean", "e0", "1m", value=1)],
)  # fmt: skip
def test_constants_that_make_no_sense_are_refused(feature: Feature) -> None:
    with pytest.raises((Invalid, Incompatible), match="feature 'c'"):
        ec.FeatureView("v", entity="", source="telemetry", features=[feature]).plan(telemetry())
