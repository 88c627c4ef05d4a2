"""The values of a window as a set, from Python: quantiles, distinct values, the most frequent one,
bins; texts as categories. The page and every path are held to exact oracles."""

from __future__ import annotations

import csv
import json
import math
import random
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore.errors import Incompatible, Invalid
from edgecore.features import FRESH, REASONS, Feature, FeatureStore, category_code
from edgecore.fs import MemoryFs

SECOND = 10**9
START = 1_700_000_000 * SECOND
VECTOR = Path(__file__).parents[2] / "docs/formats/vectors/feature-values.json"
NAB = (
    "nab/data/realKnownCause/machine_temperature_system_failure.csv",
    "nab/data/realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv",
    "nab/data/realKnownCause/ec2_request_latency_system_failure.csv",
)
PERMILLES = {"p5": 50, "p50": 500, "p95": 950, "p99.9": 999}


def schema_of(*fields: ec.Field) -> ec.Schema:
    return ec.Schema("telemetry", tier="bulk", fields=[ec.Field("pump", "category"), *fields])


TELEMETRY = schema_of(
    ec.Field("temp", "decimal(3)", range=(-40, 150)), ec.Field("load", "f64"),
    ec.Field("mode", "category"), ec.Field("on", "bool"), ec.Field("count", "i64"),
)  # fmt: skip


def view_of(*features: Any) -> ec.FeatureView:
    return ec.FeatureView("v", entity="pump", source="telemetry", lateness="30s", features=features)


def store_of(view: ec.FeatureView, schema: ec.Schema = TELEMETRY) -> FeatureStore:
    return FeatureStore.open("f", views=[view], schemas=[schema], fs=MemoryFs())


def random_rows(seed: int, count: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    time = START
    rows = []
    for i in range(count):
        time += chance.choice([0, 1, 1, 5, 30]) * SECOND
        few = chance.random() < 0.5
        rows.append({
            "time": time - (chance.randrange(25 * SECOND) if chance.random() < 0.2 else 0),
            "pump": "a",
            "temp": chance.randrange(20, 24) if few else chance.randrange(-40_000, 150_001) / 1000,
            "load": chance.randrange(9) / 8,
            "mode": chance.choice(["run", "run", "idle", "off"]),
            "on": chance.random() < 0.3,
            "source_seq": i + 1,
        })  # fmt: skip
    return rows


def rank(values: list[Any], permille: int) -> Any:
    return sorted(values)[math.ceil(permille * len(values) / 1000) - 1]


def most_frequent(values: list[Any]) -> Any:
    counts = Counter(values)
    return min(value for value in counts if counts[value] == max(counts.values()))


def test_values_equal_sorted_ones_in_stream_and_backfill(seed: int) -> None:
    view = view_of(
        ec.Agg("temp", [*PERMILLES, "distinct", "most_frequent"], window="10m"),
        ec.Histogram("temp", edges=[-10, 20.5, 21, 140], window="10m"),
        ec.Distinct("load", window="10m"), ec.MostFrequent("load", window="10m"),
        ec.Distinct("mode", window="10m"), ec.MostFrequent("mode", window="10m"),
        ec.Distinct("on", window="10m"), ec.MostFrequent("on", window="10m"),
    )  # fmt: skip
    assert view.names[:5] == (
        "temp_p5_10m", "temp_p50_10m", "temp_p95_10m", "temp_p99.9_10m", "temp_distinct_10m",
    )  # fmt: skip
    assert ec.FeatureView.from_bytes(view.to_bytes()) == view
    rows = random_rows(seed, 300)
    arrival = ec.backfill(view, rows, schema=TELEMETRY, known="ingest")
    store = store_of(view)
    for at, row in enumerate(rows):
        store.update("telemetry", row)
        after, upto = row["time"] - 600 * SECOND, row["time"]
        seen = [one for one in rows[: at + 1] if after < one["time"] <= upto]
        temps = [one["temp"] for one in seen]
        modes = [category_code(one["mode"]) for one in seen]
        bins = [
            sum(low <= temp < high for temp in temps)
            for low, high in ((-99, -10), (-10, 20.5), (20.5, 21), (21, 140), (140, 999))
        ]
        want = [
            *(rank(temps, one) for one in PERMILLES.values()),
            len(set(temps)), most_frequent(temps), *bins,
            len({one["load"] for one in seen}), most_frequent([one["load"] for one in seen]),
            len(set(modes)), most_frequent(modes),
            len({one["on"] for one in seen}), most_frequent([one["on"] for one in seen]),
        ]  # fmt: skip
        reading = store.read(view, "a", upto)
        assert list(reading.values) == want
        assert set(reading.states) == {FRESH}
        cells = arrival.values[at * arrival.width : (at + 1) * arrival.width]
        assert bytes(reading.values.cast("B")) == cells.tobytes()


# ---------------------------------------------------------------- the error of a quantile


def quantile_error(schema: ec.Schema, rows: list[tuple[int, float]], window_s: int) -> float:
    """The largest error of p5 to p99.9 over a series, in the field's unit, at 500 times where the
    window holds more values than are kept in order. It is never above what the plan states."""
    view = view_of(ec.Agg("value", list(PERMILLES), window=window_s * SECOND))
    stated = view.plan(schema).errors
    store = store_of(view, schema)
    store.update_batch("telemetry", [{"time": t, "pump": "a", "value": v} for t, v in rows[:-500]])
    worst = 0.0
    for at in range(len(rows) - 500, len(rows)):
        time, value = rows[at]
        store.update("telemetry", {"time": time, "pump": "a", "value": value})
        inside = [v for t, v in rows[: at + 1] if t > time - window_s * SECOND]
        assert len(inside) > 1024
        reading = store.read(view, "a", time)
        for i, permille in enumerate(PERMILLES.values()):
            assert REASONS[reading.reasons[i]] == "approximate"
            error = abs(Decimal(repr(reading.values[i])) - Decimal(repr(rank(inside, permille))))
            assert error <= Decimal(repr(stated[i]))
            worst = max(worst, float(error))
    return worst


def test_values_quantile_of_a_190_wide_range_is_off_by_at_most_a_tenth(seed: int) -> None:
    schema = schema_of(ec.Field("value", "decimal(3)", range=(-40, 150)))
    chance = random.Random(seed)
    rows = [(START + i * SECOND, chance.randrange(-40_000, 150_001) / 1000) for i in range(4000)]
    worst = quantile_error(schema, rows, 3600)
    assert 0 < worst <= 0.1


@pytest.mark.parametrize("name", NAB)
def test_values_quantile_of_a_real_series_is_within_half_a_bucket(
    name: str, data_file: Any
) -> None:
    with Path(data_file(name)).open() as file:
        read = [(row["timestamp"], row["value"]) for row in csv.DictReader(file)]
    values = sorted(float(value) for _, value in read)
    low, high = math.floor(values[0]), math.ceil(values[-1])
    schema = schema_of(ec.Field("value", "decimal(3)", range=(low, high)))
    rows = sorted(
        (int(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()) * SECOND,
         float(round(Decimal(value), 3)))
        for time, value in read
    )  # fmt: skip
    worst = quantile_error(schema, rows, 7 * 86_400)
    assert worst <= (high - low) / 2048 + 0.001


# ---------------------------------------------------------------- categories and definitions


def test_values_of_a_text_are_the_codes_of_the_page() -> None:
    def by_the_page(text: str) -> int:
        code, whole = 0xCBF29CE484222325, 2**64 - 1
        for byte in text.encode():
            code = ((code ^ byte) * 0x100000001B3) & whole
        code = ((code ^ code >> 33) * 0xFF51AFD7ED558CCD) & whole
        code = ((code ^ code >> 33) * 0xC4CEB9FE1A85EC53) & whole
        return (code ^ code >> 33) >> 12

    texts = ["", "run", "läuft", "x" * 1000]
    assert [category_code(text) for text in texts] == [by_the_page(text) for text in texts]
    assert category_code("run") == category_code(b"run") == 349583140399742

    view = view_of(ec.Last("mode"), ec.Agg("mode", ["first", "count"], window="1m"), ec.Last("on"))
    store = store_of(view)
    for i, mode in enumerate(texts):
        row = {"time": START + i * SECOND, "pump": "a", "mode": mode, "on": True}
        store.update("telemetry", row)
    # None is no value, and so not the newest.
    store.update("telemetry", {"time": START + 9 * SECOND, "pump": "a", "mode": None, "on": False})
    reading = store.read(view, "a", START + 9 * SECOND)
    assert list(reading.values) == [category_code(texts[-1]), category_code(""), 4, 0]


def test_values_vector_is_read_and_answers_as_the_page_says() -> None:
    golden = json.loads(VECTOR.read_text())
    assert {text: category_code(text) for text in golden["codes"]} == golden["codes"]
    schema = ec.Schema.from_bytes(bytes.fromhex(golden["schema"]))
    view = ec.FeatureView.from_bytes(bytes.fromhex(golden["bytes"]))
    prints = [one.hex() for one in view.fingerprints_for(schema)]
    assert prints == [one["fingerprint"] for one in golden["features"]]
    assert view.plan(schema).errors == golden["errors"]
    store = store_of(view, schema)
    for number, event in enumerate(golden["events"], 1):
        row = {name: value for name, value in event.items() if value is not None}
        store.update("telemetry", {**row, "source_seq": number}, number)
    for read in golden["reads"]:
        reading = store.read(view, read["entity"], read["as_of"])
        values = [None if value != value else value for value in reading.values]
        assert (values, list(reading.states)) == (read["values"], read["states"])
        # By hand, of what lies in the minute.
        inside = [
            event for event in golden["events"]
            if event["pump"] == read["entity"]
            and read["as_of"] - 60 * SECOND < event["time"] <= read["as_of"]
        ]  # fmt: skip
        temps = [float(event["temp"]) for event in inside if event["temp"]]
        modes = [golden["codes"][event["mode"]] for event in inside if event["mode"]]
        if temps:
            assert values[:4] == [
                rank(temps, 500), rank(temps, 950), len(set(temps)), most_frequent(temps),
            ]  # fmt: skip
            assert sum(values[4:7]) == len(temps)
        if modes:
            assert values[8:] == [most_frequent(modes), len(set(modes))]


def test_values_definitions_that_cannot_be_served_say_why() -> None:
    def refused(error: type[Exception], match: str, feature: Any) -> None:
        with pytest.raises(error, match=match):
            view_of(feature).plan(TELEMETRY)

    refused(Incompatible, "needs a grid", ec.Agg("load", "p95", window="1m"))
    refused(Incompatible, r"declare the range= of field 'count'", ec.Agg("count", "p50", window=1))
    refused(Incompatible, "field 'mode' is text", ec.Agg("mode", "p50", window="1m"))
    refused(Incompatible, "field 'mode' is text", ec.Agg("mode", "mean", window="1m"))
    refused(Invalid, "not on the grid", ec.Histogram("temp", edges=[0.12345], window="1m"))
    refused(Invalid, "less than its below", ec.Histogram("temp", edges=[2, 1], window="1m"))
    refused(Invalid, "has a permille", Feature("x", "quantile", "temp", "1m"))
    for op in ("p0", "p100", "p", "p9.99", "p-1", "median", "bin", "quantile", ""):
        with pytest.raises(Invalid, match="is none of"):
            ec.Agg("temp", op, window="1m")
    with pytest.raises(Invalid, match="permille 1000"):
        Feature("x", "quantile", "temp", "1m", permille=1000)
    with pytest.raises(Invalid, match="at least one edge"):
        ec.Histogram("temp", edges=[], window="1m")


def test_values_plan_states_the_error_of_each_feature() -> None:
    view = view_of(
        ec.Agg("temp", ["mean", "p50", "p95"], window="1m"), ec.Agg("on", "distinct", window="1m"),
        ec.Ratio("a", "temp_p50_1m", "temp_mean_1m"),
        ec.Ratio("b", "temp_mean_1m", "on_distinct_1m"),
    )  # fmt: skip
    errors = view.plan(TELEMETRY).errors
    assert errors[:4] == [0.0, 0.093, 0.093, 0.0]
    assert math.isnan(errors[4])
    assert errors[5] == 0.0


def test_values_parameters_change_the_fingerprint() -> None:
    views = [
        view_of(ec.Agg("temp", op, window=window))
        for op in ("p50", "p95")
        for window in ("1m", "2m")
    ]
    views += [view_of(ec.Histogram("temp", edges=[edge], window="1m")) for edge in (1, 2)]
    prints = [one for view in views for one in view.fingerprints_for(TELEMETRY)]
    assert len(set(prints)) == len(prints) == 8
