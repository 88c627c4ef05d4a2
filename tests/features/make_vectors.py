"""Writes the vectors of features whose definitions stand here, after a format or an answer changed:

    python tests/features/make_vectors.py

What is written is what the code says; tests/features/test_vectors.py holds it against the pages.
A parameter that is new gets a feature here.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import edgecore as ec
from edgecore.device.view_summaries import Teller, ViewSummary
from edgecore.expressions import col
from edgecore.features import REASONS, AsOf, Constant, Feature, FeatureStore, TimeIn
from edgecore.fs import MemoryFs

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"
SECOND = 10**9
START = 1_700_000_040 * SECOND  # a whole minute

TELEMETRY = ec.Schema("telemetry", tier="bulk", fields=[
    ec.Field("pump", "category"), ec.Field("temp", "decimal(1)", unit="degC", range=(-40, 150)),
    ec.Field("flow", "f64", resolution=0.5, range=(0, 1000)), ec.Field("load", "f64"),
    ec.Field("on", "bool"), ec.Field("mode", "category")])  # fmt: skip
WEATHER = ec.Schema("weather", tier="bulk", fields=[
    ec.Field("outside", "decimal(2)", range=(-60, 60))])  # fmt: skip
OPS = ["count", "sum", "mean", "variance", "std", "min", "max", "range", "first", "delta", "rate",
       "p90", "distinct", "most_frequent"]  # fmt: skip


def parameters() -> ec.FeatureView:
    """Every parameter of features of one stream."""
    whose = {"entity": "pump", "source": "telemetry", "lateness": "20s"}
    return ec.FeatureView("parameters", **whose, features=[
        ec.Agg("temp", OPS, window="1m"),
        Feature("temp_rate_as_it_was", "rate", "temp", "1m", version=1),
        ec.Agg("load", ["sum", "mean", "min", "max"], window="1m"),
        ec.Agg("load", ["variance", "std"], window="1m", approx=True),
        ec.Agg("mode", "distinct", window="1m", approx=True, name="about"),
        ec.Agg("flow", ["mean", "rate", "p50"], window="1m", hop="20s"),
        ec.Agg("temp", ["count", "max", "delta"], window="2m", gap="12s"),
        ec.Histogram("temp", edges=[20, 25.5], window="1m"),
        ec.Ewma("temp", half_life="8s"),
        TimeIn("on", window="1m"),
        TimeIn("on", window="1m", hold="8s"),
        TimeIn("on", window="1m", hop="30s"),
        TimeIn(col("temp") > 20, name="hot", window="1m"),
        ec.Agg("temp", "max", window="30s", unit="degC", convert="degF", name="celsius"),
        ec.Agg("temp", "mean", window="1m", ttl="15s", name="as_it_is"),
        ec.Agg("temp", "mean", window="1m", ttl="15s", on_stale="default", default=-1.5,
               name="instead"),
        ec.Agg("temp", "mean", window="1m", ttl="15s", on_stale="default", name="nothing"),
        ec.Agg("temp", "mean", window="1m", ttl="15s", on_stale="missing", name="away"),
        ec.Agg("temp", ["count", "mean", "std"], window="1m", ttl="15s", on_stale="recompute",
               name="again"),
        ec.Agg("temp", "mean", window="1m", ttl="15s", on_stale="refuse", name="never_old"),
        ec.Agg("temp", "mean", window="1m", min_coverage=0.75, name="covered"),
        ec.Agg("temp", "mean", window="1m", min_count=5, name="counted"),
        ec.Ratio("mean_by_hand", "temp_sum_1m", "temp_count_1m"),
        Constant("bias", 0.1),
        ec.Vector("sound", ["flow", "load"]),
        ec.Last("mode"), ec.Last("on", within="30s", name="lately"),
        ec.Agg("mode", ["first", "distinct", "most_frequent"], window="1m"),
        ec.Recency(within="90s"),
    ])  # fmt: skip


def rules() -> ec.FeatureView:
    """Every rule of a stream."""
    return ec.FeatureView(
        "rules", entity="pump", source="telemetry", lateness="20s", max_ahead="5m", idle="1m",
        max_entities=2, max_bytes=100_000, features=[ec.Agg("temp", ["count", "max"], window="1m")],
    )  # fmt: skip


def as_of() -> ec.FeatureView:
    """Of two streams."""
    return ec.FeatureView("as_of", entity="pump", source="telemetry", lateness="20s", features=[
        ec.Agg("temp", "mean", window="1m"),
        AsOf("weather", ec.Last("outside"), ec.Agg("outside", "max", window="10m"),
             lateness="2m"),
    ])  # fmt: skip


def event(second: float, pump: str, **values: object) -> dict[str, Any]:
    row = {"time": START + round(second * SECOND), "pump": pump, **values}
    return {"stream": "telemetry", "row": row}


def events() -> list[dict[str, Any]]:
    """Ties, nulls, disorder within the lateness and beyond it, and silences."""
    return [
        event(0, "a", temp="20.1", flow=10.0, load=0.1, on=True, mode="run"),
        event(4, "a", temp="25.5", flow=10.5, load=1e16, on=True, mode="run"),
        event(11, "a", temp="19.9", flow=12.0, load=-1e16, on=False, mode="idle"),
        event(11, "a", temp="25.5", flow=0.0, load=0.2, on=True, mode="off"),
        event(13.5, "b", temp="-40.0", load=5e-324, on=False),
        event(9, "a", temp="150.0", flow=999.5, load=3.5, mode="run"),
        event(33, "a", temp=None, flow=10.0, on=False, mode="läuft"),
        event(41, "a", temp="20.0", flow=None, load=None, on=None, mode=None),
        event(20, "a", temp="1.0", mode="run"),  # late
        event(44, "a", temp="20.2", flow=11.0, load=2.0, on=True, mode="run"),
        event(70, "b", temp="7.5", flow=1.0, load=1.0, on=True, mode="idle"),
    ]


def case(
    view: ec.FeatureView,
    events: list[dict[str, Any]],
    reads: list[tuple[str, float]],
    schemas: tuple[ec.Schema, ...] = (TELEMETRY,),
) -> dict[str, Any]:
    store = FeatureStore("features", [view], list(schemas), MemoryFs())
    for position, one in enumerate(events, 1):
        row = {name: value for name, value in one["row"].items() if value is not None}
        numbers = {n: float(v) for n, v in row.items() if n in ("temp", "outside")}
        store.update(one["stream"], {**row, **numbers, "source_seq": position}, position)
    said = []
    for entity, second in reads:
        at = START + round(second * SECOND)
        found = store.read(view, entity, at)
        columns = {
            "values": ["nan" if math.isnan(value) else value.hex() for value in found.values],
            "states": found.states, "reasons": [REASONS[one] or "-" for one in found.reasons],
            "ages": found.ages, "coverage": [one.hex() for one in found.coverage],
        }  # fmt: skip
        said.append({
            "entity": entity, "as_of": at, "final": found.final,
            **{name: " ".join(map(str, column)) for name, column in columns.items()},
        })  # fmt: skip
    prints = view.fingerprints_for(schemas[0], joined=schemas[1:])
    return {
        "bytes": view.to_bytes().hex(), "fingerprint": view.fingerprint.hex(),
        "schemas": [schema.canonical_bytes.hex() for schema in schemas],
        "features": [
            {"name": name, "fingerprint": one.hex()}
            for name, one in zip(view.names, prints, strict=True)
        ],
        "events": events, "late": store.late_rows, "ahead": store.ahead_rows, "reads": said,
    }  # fmt: skip


def cases() -> dict[str, Any]:
    ahead = [event(10**6, "a", temp="30.0"), event(72, "c", temp="1.5"), event(46, "b", temp="2.0")]
    outside = [
        {"stream": "weather", "row": {"time": START + second * SECOND, "outside": text}}
        for second, text in ((-100, "3.25"), (20, "-7.50"), (40, None), (300, "11.11"))
    ]
    mixed = [*outside[:1], *events()[:6], *outside[1:3], *events()[6:], *outside[3:]]
    often = [("a", second) for second in (44, 44.5, 52, 60, 65, 101, 110, 170)]
    return {
        "parameters": case(parameters(), events(), [*often, ("b", 70), ("b", 75), ("c", 70)]),
        "rules": case(rules(), events() + ahead,
                      [("a", 52), ("b", 75), ("c", 75), ("b", 52), ("b", 51)]),
        "as_of": case(as_of(), mixed, [("a", 44), ("a", 181), ("b", 70), ("b", 300), ("c", 180)],
                      (TELEMETRY, WEATHER)),
    }  # fmt: skip


def kept() -> ec.FeatureView:
    """What a snapshot has parts for: values of 4 and of 8 bytes, rows, keys, and every rule."""
    return ec.FeatureView(
        "kept", entity="pump", source="telemetry", lateness="20s", max_ahead="5m", idle="1m",
        max_entities=2, features=[
            ec.Agg("temp", "max", window="1m"), ec.Agg("load", "sum", window="30s"),
            ec.Recency(within="40s"), ec.Last("flow", within="2m"),
        ],
    )  # fmt: skip


def snapshot() -> dict[str, Any]:
    more = [
        event(-100, "b", temp="-1.5", load=-2.0, flow=4.5), event(10**6, "a", temp="30.0"),
        event(72, "c", flow=7.0), event(70, "b", flow=8.0, load=-0.0), event(20, "c", temp="2.0"),
        event(10**6 + 1, "b", load=1.0),
    ]  # fmt: skip
    told = [more[0], *events(), *more[1:]]
    for number, one in enumerate(told, 1):
        one["row"] |= {"source": ("left", "", "right")[number % 3], "source_seq": number}
    told.append({"gap": [START + 30 * SECOND, START + 35 * SECOND]})
    view, fs = kept(), MemoryFs()
    store = FeatureStore("features", [view], [TELEMETRY], fs)
    for position, one in enumerate(told, 1):
        if "gap" in one:
            store.gap("telemetry", *one["gap"], position)
            continue
        row = {name: value for name, value in one["row"].items() if value is not None}
        numbers = {"temp": float(row["temp"])} if "temp" in row else {}
        store.update("telemetry", {**row, **numbers}, position)
    store.snapshot()
    (file,) = fs.list("features")
    return {
        "view": view.to_bytes().hex(), "schema": TELEMETRY.canonical_bytes.hex(),
        "events": told, "bytes": fs.read_file(f"features/{file}", 1 << 20).hex(),
    }  # fmt: skip


def told() -> dict[str, Any]:
    view = ec.FeatureView("told", entity="pump", source="telemetry", lateness="20s", features=[
        ec.Agg("temp", ["count", "mean"], window="30s"),
        ec.Agg("temp", "max", window="1m", ttl="15s", name="a_name_that_is_too_long"),
        Constant("start", 0.1),
    ])  # fmt: skip
    summary = ViewSummary(view, TELEMETRY, period_ns=30 * SECOND)
    more = [event(101, "b", temp="7.0"), event(95, "a", temp="-3.5"), event(400, "a", temp="4.0")]
    given = [*events(), *more]
    fs = MemoryFs()
    log = ec.Log.open("log", schemas=[TELEMETRY, summary.schema()], flusher="manual", fs=fs)
    for one in given:
        row = {name: value for name, value in one["row"].items() if value is not None}
        log.append("telemetry", row | ({"temp": float(row["temp"])} if "temp" in row else {}))
    Teller(log, fs, "told", summary).follow()
    rows = [row for scanned in log.scan(summary.name) for row in scanned.rows(exact=True)]
    return {
        "body": summary.body.hex(), "rule": summary.id, "bytes": view.to_bytes().hex(),
        "schemas": [TELEMETRY.canonical_bytes.hex()], "period": summary.period,
        "stream": summary.schema().canonical_bytes.hex(), "events": given,
        "rows": [
            {key: value.hex() if isinstance(value, float) else value for key, value in row.items()
             if key not in ("source", "source_seq")}
            for row in rows
        ],
    }  # fmt: skip


def main() -> None:
    for name, made in (("feature-parameters", cases()), ("feature-snapshot", snapshot()),
                       ("view-summary", told())):  # fmt: skip
        text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
        (VECTORS / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
