"""Fingerprints of features: what changes one, what does not, and what is said where they differ."""

from __future__ import annotations

from typing import Any

import pytest

import edgecore as ec
from edgecore.errors import Incompatible
from edgecore.features import Feature, FeatureStore
from edgecore.fs import MemoryFs

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def telemetry(*more: ec.Field, **temp: Any) -> ec.Schema:
    fields = [
        ec.Field("pump", "category"),
        ec.Field("temp", **{"dtype": "decimal(3)", "unit": "degC", "range": (-40, 150), **temp}),
        ec.Field("rpm", "i32", unit="1/min"),
        *more,
    ]
    return ec.Schema("telemetry", tier="bulk", fields=fields)


def features() -> list[Any]:
    return [
        ec.Agg("temp", ["mean", "max"], window="1m", ttl="5m"),
        ec.Agg("rpm", "mean", window="1m"),
        ec.Recency(),
    ]


def pump(lateness: str = "30s", entity: str = "pump", more: tuple[Any, ...] = ()) -> ec.FeatureView:
    return ec.FeatureView("pump", entity=entity, source="telemetry", lateness=lateness,
                          features=[*features(), *more])  # fmt: skip


def test_fingerprints_stay_when_a_feature_or_a_field_is_added_or_another_name_given() -> None:
    before = pump().fingerprints_for(telemetry())
    assert len(set(before)) == 4
    more = pump(more=(Feature("n", "count", "", "1m"),))
    assert more.fingerprints_for(telemetry())[:-1] == before
    wider = telemetry(ec.Field("volt", "f32"))
    assert pump().fingerprints_for(wider) == before
    assert pump().plan(wider).fingerprints == before
    renamed = Feature("warmth", "mean", "temp", "1m", ttl="5m")
    assert pump(more=(renamed,)).fingerprints_for(telemetry())[-1] == before[0]


@pytest.mark.parametrize(
    "change",
    [{"unit": "degF"}, {"dtype": "decimal(2)"}, {"dtype": "f64", "resolution": 0.001},
     {"range": (-40, 151)}, {"required": True}, {"max_error": 0.05}],
)  # fmt: skip
def test_fingerprints_change_exactly_where_a_feature_reads_the_changed_field(
    change: dict[str, Any],
) -> None:
    before = pump().fingerprints_for(telemetry())
    after = pump().fingerprints_for(telemetry(**change))
    assert [old != new for old, new in zip(before, after, strict=True)] == [True, True, False,
                                                                            False]  # fmt: skip


def test_fingerprints_change_with_parameters_entity_and_time_rules() -> None:
    before = pump().fingerprints_for(telemetry())
    assert not set(pump("31s").fingerprints_for(telemetry())) & set(before)
    assert not set(pump(entity="rpm").fingerprints_for(telemetry())) & set(before)
    first = Feature("t", "mean", "temp", "1m", ttl="5m")
    for change in (
        {"op": "min"}, {"window": "2m"}, {"ttl": "6m"}, {"on_stale": "default"},
        {"default": 0.0}, {"min_coverage": 0.5}, {"min_count": 2}, {"version": 2},
    ):  # fmt: skip
        parts: dict[str, Any] = {"name": "t", "op": "mean", "field": "temp", "window": "1m",
                                 "ttl": "5m"}  # fmt: skip
        other = Feature(**{**parts, **change})
        one, two = (pump(more=(spec,)).fingerprints_for(telemetry())[-1] for spec in (first, other))
        assert one == before[0]
        assert two != one, change


# Of a view as an earlier build wrote it, with operators of its time.
OLDER = bytes.fromhex(
    "a5646e616d6564666c6f7766656e746974796470756d7066736f757263656974656c656d65747279686665617475"
    "72657381a5626f706472617465646e616d656472617465656669656c646474656d706677696e646f771b0000000d"
    "f84758006776657273696f6e01686c6174656e6573731b00000006fc23ac00"
)


def test_fingerprints_of_an_older_operator_stay_beside_the_newer_one() -> None:
    older = ec.FeatureView.from_bytes(OLDER)
    (before,) = older.fingerprints_for(telemetry())
    assert before.hex() == "8741dd1eb522004dff290aa4ef57e164b0b7dc3fa3650ccb3706b01d2319d0bd"
    newer = Feature("newer", "rate", "temp", "1m")
    assert newer.version == 2
    both = ec.FeatureView(
        "flow", entity="pump", source="telemetry", lateness="30s", features=[*older.specs, newer]
    )
    prints = both.fingerprints_for(telemetry())
    assert prints[0] == before
    assert prints[1] != before
    assert both.plan(telemetry()).fingerprints == prints
    assert ec.FeatureView.from_bytes(both.to_bytes()) == both


def test_fingerprints_an_operator_of_a_later_build_is_refused_by_name_and_version() -> None:
    later = ec.FeatureView("flow", entity="pump", source="telemetry",
                           features=[Feature("r", "rate", "temp", "1m", version=3)])  # fmt: skip
    said = "feature 'r': rate@3 is not in this build, which has rate@1, rate@2"
    with pytest.raises(Incompatible, match=said):
        later.plan(telemetry())
    with pytest.raises(Incompatible, match=said):
        ec.FeatureView.from_bytes(later.to_bytes())
    with pytest.raises(Incompatible, match="median@1 is not in this build, which has no median"):
        ec.FeatureView.from_bytes(OLDER.replace(b"drate", b"fmedian", 1))


def test_fingerprints_refusal_names_the_features_and_what_differs() -> None:
    view, trained = pump(), telemetry()
    needed = view.fingerprints_for(trained)
    view.require_same(trained, telemetry(ec.Field("volt", "f32")), needed)
    fahrenheit = telemetry(unit="degF", dtype="decimal(2)")
    with pytest.raises(Incompatible, match="'temp_mean_1m', 'temp_max_1m' of 'pump'") as said:
        view.require_same(trained, fahrenheit, needed)
    assert "unit of field 'temp' was 'degC' and is 'degF' here" in str(said.value)
    assert "dtype of field 'temp' was 'decimal(3)' and is 'decimal(2)' here" in str(said.value)
    # A model that reads nothing of the changed field is not concerned.
    view.require_same(trained, fahrenheit, needed[2:])
    with pytest.raises(Incompatible, match=r"range of field 'temp' was .* and is not given here"):
        view.require_same(trained, telemetry(range=None), needed)
    with pytest.raises(Incompatible, match="is none of view 'pump'"):
        view.require_same(trained, trained, [bytes(32)])
    with pytest.raises(Incompatible, match="has no field 'temp'"):
        view.fingerprints_for(ec.Schema("telemetry", tier="bulk",
                                        fields=[ec.Field("pump", "category")]))  # fmt: skip


def test_fingerprints_state_of_another_unit_is_not_taken_over() -> None:
    fs = MemoryFs()
    store = FeatureStore.open("features", views=[pump()], schemas=[telemetry()], fs=fs)
    store.update("telemetry", {"time": START, "pump": "a", "temp": 20, "rpm": 3})
    store.snapshot()
    wider = telemetry(ec.Field("volt", "f32"))
    again = FeatureStore.open("features", views=[pump()], schemas=[wider], fs=fs)
    assert not again.rebuilt
    assert again.position == 1
    other = FeatureStore.open("features", views=[pump()], schemas=[telemetry(unit="degF")], fs=fs)
    assert other.rebuilt["pump"].startswith("Incompatible")
    assert other.position == 0
