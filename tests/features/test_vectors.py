"""The golden vectors of features, read by what their pages say alone: CBOR by `cbor2`, arithmetic
by Python's own doubles and fractions. make_vectors.py beside this writes some of them."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cbor2
import pytest
from tests.features.page_features import Page, value_of

import edgecore as ec
from edgecore.device.view_summaries import view_summary_of
from edgecore.digest import blake3
from edgecore.expressions import expression
from edgecore.feature_rules import KEYS
from edgecore.feature_spec import ON_STALE, OPERATORS, PARAMETERS
from edgecore.features import REASONS, FeatureStore
from edgecore.fs import MemoryFs

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"
MINUTE = 60 * 10**9


def vector(name: str) -> dict[str, Any]:
    return dict(json.loads((VECTORS / name).read_text()))


def doubles(texts: list[str]) -> list[float]:
    return [float.fromhex(text) for text in texts]


def same(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right))


# ---------------------------------------------------------------- feature definition


def exact(values: list[Fraction], op: str) -> float:
    """The page's table for n of 1 or more; the nearest double of an exact fraction."""
    n, total = len(values), sum(values, Fraction(0))
    found = {
        "count": Fraction(n), "sum": total, "mean": total / n, "min": min(values),
        "max": max(values), "last": values[-1],
    }  # fmt: skip
    if op != "std":
        return found[op].numerator / found[op].denominator
    if n == 1:
        return math.nan
    steps = [int(value * 10) for value in values]
    spread = n * sum(step * step for step in steps) - sum(steps) ** 2
    return math.sqrt(float(spread) / float(n * (n - 1))) / 10


def columns(tree: Any) -> list[str]:
    if not isinstance(tree, list) or not tree or tree[0] in ("num", "text"):
        return []
    return [tree[1]] if tree[0] == "col" else [name for part in tree for name in columns(part)]


def fields_read(feature: dict[str, Any]) -> list[str]:
    """In the order of their first use."""
    if "field" in feature:
        return [feature["field"]]
    return list(dict.fromkeys(columns(feature["expr"][1]))) if "expr" in feature else []


def digest(value: Any) -> bytes:
    return blake3(cbor2.dumps(value, canonical=True))


def fingerprints_in(
    features: list[dict[str, Any]], rules: dict[str, Any], schema: dict[str, Any], entity: str
) -> dict[str, bytes]:
    """As the page says, of features of one stream, by name."""
    fields = {field["name"]: digest(field) for field in schema["fields"]}
    rules = {**rules, "entity": fields[entity] if entity else b""}
    apart = ("name", "op", "version", "field", "numerator", "denominator", "join")
    made: dict[str, bytes] = {}
    for feature in sorted(features, key=lambda one: one["op"] == "ratio"):
        operands = [feature[key] for key in ("numerator", "denominator") if key in feature]
        definition = {
            "op": f"{feature['op']}@{feature['version']}",
            "params": {key: value for key, value in feature.items() if key not in apart},
            "fields": [fields[name] for name in fields_read(feature)]
            + [made[name] for name in operands],
            "rules": rules,
        }
        made[feature["name"]] = digest(definition)
    return made


def feature_fingerprints(
    view: dict[str, Any], schemas: dict[str, dict[str, Any]]
) -> list[dict[str, str]]:
    time = {key: view[key] for key in ("max_ahead", "idle") if key in view}
    rules = {"source": view["source"], "lateness": view["lateness"], **time}
    own = [feature for feature in view["features"] if "join" not in feature]
    schema = schemas[view["source"]]
    made = fingerprints_in(own, rules, schema, view["entity"])
    for feature in view["features"]:
        if "join" in feature:
            join = feature["join"]
            rules = {"source": join["stream"], "lateness": join["lateness"], **time}
            there = fingerprints_in([feature], rules, schemas[join["stream"]], join["entity"])
            key = {field["name"]: digest(field) for field in schema["fields"]}.get(view["entity"])
            made[feature["name"]] = digest({
                "as_of": view["source"], "entity": key if join["entity"] and key else b"",
                "feature": there[feature["name"]],
            })  # fmt: skip
    names = [feature["name"] for feature in view["features"]]
    return [{"name": name, "fingerprint": made[name].hex()} for name in names]


def checked_view(
    golden: dict[str, Any],
) -> tuple[dict[str, Any], list[ec.Schema], ec.FeatureView]:
    """The vector's view, as a map too, and its schemas; fingerprints are computed anew."""
    data = bytes.fromhex(golden["bytes"])
    body = cbor2.loads(data)
    assert cbor2.dumps(body, canonical=True) == data
    assert blake3(data).hex() == golden["fingerprint"]
    hexes = golden["schemas"] if "schemas" in golden else [golden["schema"]]
    schemas = [ec.Schema.from_bytes(bytes.fromhex(one)) for one in hexes]
    bodies = {one.stream: cbor2.loads(one.canonical_bytes) for one in schemas}
    prints = feature_fingerprints(body, bodies)
    assert prints == golden["features"]
    view = ec.FeatureView.from_bytes(data)
    assert view.to_bytes() == data
    made = [item.hex() for item in view.fingerprints_for(schemas[0], joined=schemas[1:])]
    assert made == [one["fingerprint"] for one in prints]
    if len(schemas) == 1:
        assert [item.hex() for item in view.plan(schemas[0]).fingerprints] == made
    return body, schemas, view


def test_vectors_feature_definition_is_read_and_answers_as_its_page_says() -> None:
    golden = vector("feature-definition.json")
    body, schemas, view = checked_view(golden)
    store = FeatureStore("features", [view], schemas, MemoryFs())
    for position, event in enumerate(golden["events"], 1):
        row = {name: value for name, value in event.items() if value is not None}
        if "temp" in row:
            row["temp"] = float(row["temp"])
        store.update("telemetry", {**row, "source_seq": position}, position)
    for read in golden["reads"]:
        made = store.read(view, [read["entity"]], read["as_of"])
        values = doubles(read["values"])
        assert list(made.states) == read["states"]
        assert all(map(same, made.values, values))
        window = [
            Fraction(event["temp"])
            for event in golden["events"]
            if event["pump"] == read["entity"] and event["temp"] is not None
            and read["as_of"] - MINUTE < event["time"] <= read["as_of"]
        ]  # fmt: skip
        for feature, value in zip(body["features"], values, strict=True):
            if feature["op"] not in ("last", "recency"):
                assert same(value, exact(window, feature["op"]) if window else math.nan)


def test_vectors_feature_expression_is_read_and_answers_as_its_page_says() -> None:
    golden = vector("feature-expression.json")
    body, schemas, view = checked_view(golden)
    for feature, text in zip(body["features"], golden["expressions"], strict=True):
        assert (text is None) == ("expr" not in feature)
        if text is not None:
            assert expression(text).canonical() == feature["expr"]
    rows = []
    store = FeatureStore("features", [view], schemas, MemoryFs())
    for position, event in enumerate(golden["events"], 1):
        row = {name: value for name, value in event.items() if value is not None}
        numbers = {name: Fraction(row[name]) for name in ("temp", "volt", "amp") if name in row}
        rows.append({**dict.fromkeys(event), **row, **numbers})
        store.update("telemetry", {**row, **{n: float(v) for n, v in numbers.items()}}, position)
    assert store.undefined_values == 1
    for read in golden["reads"]:
        reading = store.read(view, [read["entity"]], read["as_of"])
        values = doubles(read["values"])
        assert list(reading.states) == read["states"]
        assert all(map(same, reading.values, values))
        inside = sorted(
            (row for row in rows if row["pump"] == read["entity"]
             and read["as_of"] - MINUTE < row["time"] <= read["as_of"]),
            key=lambda row: row["time"])  # fmt: skip
        for feature, value in zip(body["features"], values, strict=True):
            if feature["op"] == "time_in":
                continue
            if "expr" in feature:
                told = [value_of(feature["expr"][1], row) for row in inside]
            else:
                told = [None if row["temp"] is None else (row["temp"] - 32) * Fraction(5, 9)
                        for row in inside]  # fmt: skip
            window = [one for one in told if one is not None]
            wanted = exact(window, feature["op"]) if window else math.nan
            assert same(value, wanted), (feature["name"], value, wanted)


# ---------------------------------------------------------------- every parameter


@pytest.mark.parametrize("name", ["parameters", "rules", "as_of"])
def test_vectors_feature_parameters_are_read_and_answer_as_their_page_says(name: str) -> None:
    golden = vector("feature-parameters.json")[name]
    _, schemas, view = checked_view(golden)
    page = Page(golden)
    store = FeatureStore("features", [view], schemas, MemoryFs())
    for position, event in enumerate(golden["events"], 1):
        row = {name: value for name, value in event["row"].items() if value is not None}
        numbers = {name: float(row[name]) for name in ("temp", "outside") if name in row}
        store.update(event["stream"], {**row, **numbers, "source_seq": position}, position)
    assert (store.late_rows, store.ahead_rows) == (golden["late"], golden["ahead"])
    assert (page.late, page.ahead) == (golden["late"], golden["ahead"])
    reasons = set()
    for read in golden["reads"]:
        found = store.read(view, read["entity"], read["as_of"])
        assert found.final == read["final"] == (read["as_of"] < page.watermark)
        said = zip(
            doubles(read["values"].split()), map(int, read["states"].split()),
            read["reasons"].split(), map(int, read["ages"].split()),
            doubles(read["coverage"].split()), strict=True,
        )  # fmt: skip
        wanted = page.read(read["entity"], read["as_of"])
        for at, (feature, told) in enumerate(zip(view.names, said, strict=True)):
            what = (read["entity"], read["as_of"], feature, told, wanted[feature])
            made = (found.values[at], found.states[at], REASONS[found.reasons[at]] or "-",
                    found.ages[at], found.coverage[at])  # fmt: skip
            for one in (wanted[feature], made):
                assert same(one[0], told[0]), what
                assert one[1:] == told[1:], what
            reasons.add(told[2])
    assert reasons >= REASONS_OF[name]


REASONS_OF = {
    "parameters": {"-", "never", "empty_window", "too_few", "warming", "ttl"},
    "rules": {"-", "evicted"},
    "as_of": {"-", "never", "behind"},
}


def test_vectors_have_every_parameter_operator_and_rule_that_a_definition_may_have() -> None:
    views = [
        cbor2.loads(bytes.fromhex(one["bytes"]))
        for one in [
            vector(f"feature-{name}.json") for name in ("definition", "expression", "values")
        ]
        + list(vector("feature-parameters.json").values())
    ]
    features = [feature for view in views for feature in view["features"]]
    hint = "give it a feature in tests/features/make_vectors.py and run that"
    missing = PARAMETERS.keys() - {key for feature in features for key in feature}
    assert not missing, hint
    assert not set(KEYS) - {key for view in views for key in view}, hint
    operators = {(row[0], row[1]) for row in OPERATORS}
    assert operators == {(feature["op"], feature["version"]) for feature in features}, hint
    stale = {feature.get("on_stale", "use") for feature in features}
    assert stale == set(ON_STALE), hint


# ---------------------------------------------------------------- snapshot

NS = 10**9
LOWEST = -(2**63)
# Of the vector's view, in the page's order of series: what is read, its window, the integer that a
# value is, and how that is stored: its struct, and above what.
KEPT: list[tuple[str, int, Callable[[Any], int], str, int]] = [
    ("temp", 60 * NS, lambda text: int(Fraction(text) * 10), "I", -400),
    ("load", 30 * NS, lambda value: ordered(value), "q", 0),
    ("", 1, lambda value: 0, "", 0),
    ("flow", 1, lambda value: int(value * 2), "I", 0),
]


def ordered(value: float) -> int:
    """A float's bits, whose order is that of the numbers; -0 is 0."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value + 0.0))
    return bits if bits >= 0 else bits ^ (2**63 - 1)


class Kept:
    """What the page says that the vector's events leave behind."""

    def __init__(self, events: list[dict[str, Any]], view: dict[str, Any]) -> None:
        self.lateness, self.hold = view["lateness"], view["idle"] + 1
        self.late = self.gone = 0
        self.ahead: list[int] = []  # times of rows ahead that nobody has spoken against
        self.ahead_rows = 0
        self.newest = self.gone_newest = self.watermark = LOWEST
        self.sources: dict[str, int] = {}
        self.entities: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            if "row" in event:
                self._take(event["row"], view)

    def _take(self, row: dict[str, Any], view: dict[str, Any]) -> None:
        time, name = row["time"], row["pump"]
        if self.newest != LOWEST and time > self.newest + view["max_ahead"]:
            self.ahead_rows += 1
            self.ahead.append(time)
            return
        if time >= self.newest - view["max_ahead"]:
            self.ahead = []
        rows = self.entities.get(name, [])
        own = max((one["time"] for one in rows), default=time) - self.lateness
        if time < max(own, self.watermark):
            self.late += 1
            return
        self.newest = max(self.newest, time)
        self.sources[row["source"]] = max(time, self.sources.get(row["source"], time))
        heard = [one for one in self.sources.values() if one >= self.newest - self.hold + 1]
        self.watermark = max(self.watermark, min(heard) - self.lateness)
        self.entities[name] = [*rows, row]
        if len(self.entities) > view["max_entities"]:
            found = {one: self.newest_of(one) for one in self.entities}
            oldest = min(found, key=lambda one: (found[one], one))
            self.gone_newest = max(self.gone_newest, found[oldest])
            self.gone += 1
            del self.entities[oldest]

    def newest_of(self, name: str) -> int:
        return max(row["time"] for row in self.entities[name])

    def series(
        self, name: str, at: int
    ) -> tuple[tuple[int, int] | None, list[tuple[int, int, str, int]]]:
        """The settled event, and (time, stored, source, sequence) of the others, in order."""
        field, window, stored, *_ = KEPT[at]
        pruned = self.newest_of(name) - self.lateness - self.hold - window
        found = sorted(
            (row["time"], row["source"].encode(), row["source_seq"], stored(row.get(field)))
            for row in self.entities[name]
            if not field or row.get(field) is not None
        )
        before = [(time, value) for time, _, _, value in found if time <= pruned]
        rest = [(time, value, source.decode(), number) for time, source, number, value in found
                if time > pruned]  # fmt: skip
        return (before[-1] if before else None), rest


class Taken:
    """Bytes, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def one(self, kind: str) -> Any:
        return self.some(kind)[0]

    def some(self, kinds: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{kinds}", self.data, self.at)
        self.at += struct.calcsize(f"<{kinds}")
        return found

    def text(self) -> str:
        size = self.one("I")
        self.at += size
        return self.data[self.at - size : self.at].decode()


def test_vectors_feature_snapshot_has_the_parts_that_its_page_says() -> None:
    golden = vector("feature-snapshot.json")
    kept = Kept(golden["events"], cbor2.loads(bytes.fromhex(golden["view"])))
    data = bytes.fromhex(golden["bytes"])
    taken = Taken(data[:-4])
    assert taken.some("8sHII") == (b"ECFEATUR", 2, 0, 0)
    taken.some("32s")
    assert taken.some("QQQQq") == (
        len(golden["events"]), kept.late, kept.ahead_rows, kept.gone, kept.gone_newest,
    )  # fmt: skip
    ahead = len(kept.ahead), max(kept.ahead)
    assert taken.some("BqIq") == (1, kept.newest, *ahead)
    assert taken.some("Bq") == (1, kept.watermark)
    heard = {taken.text(): taken.one("q") for _ in range(taken.one("I"))}
    assert list(heard.items()) == sorted(kept.sources.items())
    (gap,) = [tuple(event["gap"]) for event in golden["events"] if "gap" in event]
    assert [taken.some("qq") for _ in range(taken.one("I"))] == [gap]
    sources = [taken.text() for _ in range(taken.one("I"))]
    names, used, sizes = [], set(), []
    for _ in range(taken.one("I")):
        names.append(name := taken.text())
        newest = taken.one("q")
        assert newest == kept.newest_of(name)
        for at, (field, _, _, kind, low) in enumerate(KEPT):
            settled, events = kept.series(name, at)
            assert (taken.some("qq") if taken.one("B") else None) == settled, (name, field)
            n, k = taken.some("II")
            assert list(taken.some(f"{n}q")) == [event[0] for event in events], (name, field)
            if kind:
                stored = [above + low for above in taken.some(f"{n}{kind}")]
                assert stored == [event[1] for event in events]
            keys = [taken.some("IQ") for _ in range(k)]
            open_ = [event[2:] for event in events if event[0] >= newest - kept.lateness]
            assert [(sources[number], seq) for number, seq in keys] == (
                open_ if field == "flow" else []
            )
            used |= {number for number, _ in keys}
            sizes.append((settled is not None, n, k))
    assert names == sorted(kept.entities)
    assert (sources, used) == (sorted(sources), set(range(len(sources))))
    assert taken.at == len(data) - 4
    assert {bool(n) for n, _, _ in sizes} == {True, False}
    assert max(k for _, _, k in sizes) > 1


def test_vectors_feature_snapshot_is_what_its_events_leave_and_restores_to_itself() -> None:
    golden = vector("feature-snapshot.json")
    data = bytes.fromhex(golden["bytes"])
    view = ec.FeatureView.from_bytes(bytes.fromhex(golden["view"]))
    schema = ec.Schema.from_bytes(bytes.fromhex(golden["schema"]))
    fs = MemoryFs()
    store = FeatureStore("features", [view], [schema], fs)
    for position, event in enumerate(golden["events"], 1):
        if "gap" in event:
            store.gap("telemetry", *event["gap"], position)
            continue
        row = {name: value for name, value in event["row"].items() if value is not None}
        numbers = {"temp": float(row["temp"])} if "temp" in row else {}
        store.update("telemetry", {**row, **numbers}, position)
    for _ in range(2):
        store.snapshot()
        (file,) = fs.list("features")
        assert fs.read_file(f"features/{file}", 1 << 20) == data
        store = FeatureStore("features", [view], [schema], fs)
        assert not store.rebuilt


# ---------------------------------------------------------------- told views


def test_vectors_view_summary_is_what_its_page_tells_of_its_events() -> None:
    golden = vector("view-summary.json")
    body, schema = bytes.fromhex(golden["body"]), bytes.fromhex(golden["schemas"][0])
    view, stream = bytes.fromhex(golden["bytes"]), cbor2.loads(bytes.fromhex(golden["stream"]))
    assert cbor2.dumps(cbor2.loads(body), canonical=True) == body
    assert cbor2.loads(body) == {
        "version": 1, "name": "telemetry.view", "stream": "telemetry", "schema": blake3(schema),
        "tier": "diagnostic", "period": golden["period"], "view": view,
    }  # fmt: skip
    assert golden["rule"] == int.from_bytes(blake3(body)[:6], "little")
    assert view_summary_of(body, [ec.Schema.from_bytes(schema)]).id == golden["rule"]
    features = cbor2.loads(view)["features"]
    bases = ["temp_count_30s", "temp_mean_30s", "#2", "#3"]
    fields = [("rule", "u64"), ("entity", "category"), ("start", "i64")]
    fields += [one for base in bases for one in ((base, "f64"), (f"{base}.st", "u8"))]
    assert [(field["name"], field["dtype"]) for field in stream["fields"]] == fields
    period, lateness, horizon = golden["period"], 20 * NS, 120 * NS
    told: list[dict[str, Any]] = []
    k = None
    for at in range(len(golden["events"])):
        before, after = (Page({**golden, "events": golden["events"][:n]}) for n in (at, at + 1))
        if after.late != before.late:
            continue
        closed = (int(after.last) - lateness - 1) // period
        for end in range(
            ((closed if k is None else k) + 1) * period, (closed + 1) * period, period
        ):
            for entity in sorted(before.newest):
                if before.newest[entity] <= end - horizon:
                    continue
                said = before.read(entity, end)
                if all(said[one["name"]].age < 0 for one in features if one["op"] != "constant"):
                    continue
                row = {
                    "time": end,
                    "rule": golden["rule"],
                    "entity": entity,
                    "start": end - horizon,
                }
                for base, feature in zip(bases, features, strict=True):
                    value, state, *_ = said[feature["name"]]
                    row[base] = None if math.isnan(value) else value.hex()
                    row[f"{base}.st"] = state
                told.append(row)
        k = closed
    assert len(told) > 8
    assert {row["#2.st"] for row in told} == {0, 1, 2}
    assert golden["rows"] == told
