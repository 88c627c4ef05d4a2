"""The golden vectors of format pages in their first form, read by what the pages say alone: CBOR by
`cbor2`, arithmetic by Python's own doubles and fractions. The final pages have theirs in
tests/log/test_vectors.py and tests/wire."""

from __future__ import annotations

import json
import math
import operator
from array import array
from fractions import Fraction
from pathlib import Path
from typing import Any

import cbor2

import edgecore as ec
from edgecore.digest import blake3
from edgecore.expressions import expression
from edgecore.features import FeatureStore
from edgecore.fs import MemoryFs
from edgecore.inference import Binding
from edgecore.release import Manifest
from edgecore.wire import export, rowbatch

VECTORS = Path(__file__).resolve().parents[1] / "docs" / "formats" / "vectors"
MINUTE = 60 * 10**9


def vector(name: str) -> dict[str, Any]:
    return dict(json.loads((VECTORS / name).read_text()))


def doubles(texts: list[str]) -> list[float]:
    return [float.fromhex(text) for text in texts]


def same(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right))


# ---------------------------------------------------------------- binding


def quantised(slot: dict[str, Any], value: float, state: int) -> tuple[float, float, bool, bool]:
    """(x, x clipped, whether clipped, whether substituted): the page's steps 1 to 3."""
    missing = state == 2 or not math.isfinite(value)
    kind = slot["kind"]
    if kind == "state":
        value, missing = float(state), False
    elif missing:
        value = slot["missing"] if kind == "category" else slot["substitute"]
    elif kind == "category":
        known = slot["vocabulary"]
        value = float(known.index(value)) if value in known else slot["unknown"]
    x = (value - slot["centre"]) / max(slot["scale"], slot["scale_floor"])
    low, high = slot["clip"]
    clipped = min(max(x, low), high)
    return x, clipped, clipped != x, missing


def test_vectors_binding_is_read_and_quantises_as_its_page_says() -> None:
    golden = vector("binding.json")
    data = bytes.fromhex(golden["bytes"])
    body = cbor2.loads(data)
    assert cbor2.dumps(body, canonical=True) == data
    assert [slot["feature"].hex() for slot in body["slots"]] == golden["features"]
    binding = Binding.from_bytes(data)
    assert binding.to_bytes() == data
    scale, zero = float.fromhex(golden["input_scale"]), golden["input_zero_point"]
    scale = array("f", [scale])[0]
    for row in golden["rows"]:
        values = doubles(row["values"])
        steps = [
            quantised(slot, value, state)
            for slot, value, state in zip(body["slots"], values, row["states"], strict=True)
        ]
        codes = [
            min(max(round(min(max(clipped / scale, -1024), 1024)) + zero, -128), 127)
            for _, clipped, _, _ in steps
        ]
        assert codes == row["codes"]
        assert [x for x, *_ in steps] == doubles(row["normalised"])
        assert sum(step[2] for step in steps) == row["clipped"]
        assert sum(step[3] for step in steps) == row["substituted"]
        given = array("d", values), bytes(row["states"])
        made, clipped, substituted = binding.quantise(*given, (scale, zero))
        assert array("b", made).tolist() == codes
        assert (clipped, substituted) == (row["clipped"], row["substituted"])
        assert array("d", binding.normalise(*given)).tolist() == doubles(row["normalised"])


# ---------------------------------------------------------------- release manifest


def test_vectors_release_manifest_is_read_and_written() -> None:
    golden = vector("release-manifest.json")
    data = bytes.fromhex(golden["bytes"])
    body = cbor2.loads(data)
    assert cbor2.dumps(body, canonical=True) == data
    assert f"{body['name']}/{body['release']}" == golden["path"]
    assert set(body) == {
        "version", "family", "name", "release", "objects", "golden_output", "profile", "ops",
        "arena_bytes", "features", "score", "minimum", "rollback", "observation", "trust",
    }  # fmt: skip
    assert blake3(data).hex() == golden["digest"]
    manifest = Manifest.decode(data)
    assert manifest.encode() == data
    assert manifest.path == golden["path"]
    assert manifest.objects == {name: tuple(item) for name, item in body["objects"].items()}


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


def feature_fingerprints(view: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, str]]:
    """As the page says."""

    def digest(value: Any) -> bytes:
        return blake3(cbor2.dumps(value, canonical=True))

    fields = {field["name"]: digest(field) for field in schema["fields"]}
    rules = {
        "entity": fields[view["entity"]] if view["entity"] else b"",
        "source": view["source"],
        "lateness": view["lateness"],
    }
    out = []
    for feature in view["features"]:
        apart = ("name", "op", "version", "field")
        definition = {
            "op": f"{feature['op']}@{feature['version']}",
            "params": {key: value for key, value in feature.items() if key not in apart},
            "fields": [fields[name] for name in fields_read(feature)],
            "rules": rules,
        }
        out.append({"name": feature["name"], "fingerprint": digest(definition).hex()})
    return out


def checked_view(golden: dict[str, Any]) -> tuple[dict[str, Any], ec.Schema, ec.FeatureView]:
    """The vector's view, as a map too, and its schema; fingerprints are computed anew."""
    data = bytes.fromhex(golden["bytes"])
    body = cbor2.loads(data)
    assert cbor2.dumps(body, canonical=True) == data
    assert blake3(data).hex() == golden["fingerprint"]
    schema = ec.Schema.from_bytes(bytes.fromhex(golden["schema"]))
    prints = feature_fingerprints(body, cbor2.loads(schema.canonical_bytes))
    assert prints == golden["features"]
    view = ec.FeatureView.from_bytes(data)
    assert view.to_bytes() == data
    made = [item.hex() for item in view.fingerprints_for(schema)]
    assert made == [one["fingerprint"] for one in prints]
    assert [item.hex() for item in view.plan(schema).fingerprints] == made
    return body, schema, view


def test_vectors_feature_definition_is_read_and_answers_as_its_page_says() -> None:
    golden = vector("feature-definition.json")
    body, schema, view = checked_view(golden)
    store = FeatureStore("features", [view], [schema], MemoryFs())
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


TWO = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "min": min, "max": max, ">": operator.gt, "==": operator.eq,
}  # fmt: skip


def value_of(tree: Any, row: dict[str, Any]) -> Any:
    """The expressions of the vector, as the page says; None: no value."""
    op, *parts = tree
    if op in ("col", "num", "text"):
        return Fraction(*parts) if op == "num" else parts[0] if op == "text" else row[parts[0]]
    if op == "where":
        chosen = value_of(parts[0], row)
        return None if chosen is None else value_of(parts[1 if chosen else 2], row)
    if op == "bucket":
        value = value_of(parts[0], row)
        return None if value is None else sum(Fraction(*edge) <= value for edge in parts[1])
    values = [value_of(part, row) for part in parts[: 3 if op == "clip" else 2]]
    if None in values or (op == "/" and values[1] == 0):
        return None
    if op == "clip":
        return max(min(values[0], values[2]), values[1])
    found = TWO[op](*values)
    steps = Fraction(*parts[2:]) if len(parts) == 4 else None
    return found if steps is None else round(found / steps) * steps


def test_vectors_feature_expression_is_read_and_answers_as_its_page_says() -> None:
    golden = vector("feature-expression.json")
    body, schema, view = checked_view(golden)
    for feature, text in zip(body["features"], golden["expressions"], strict=True):
        assert (text is None) == ("expr" not in feature)
        if text is not None:
            assert expression(text).canonical() == feature["expr"]
    rows = []
    store = FeatureStore("features", [view], [schema], MemoryFs())
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


# ---------------------------------------------------------------- export


def test_vectors_export_lines_are_those_of_the_canonical_rows() -> None:
    text = (VECTORS / "canonical-rows.txt").read_text().splitlines()
    one = {word: rest for word, _, rest in (line.partition(" ") for line in text)}
    lines = (VECTORS / "export.jsonl").read_text().splitlines()
    schema = ec.Schema.from_bytes(bytes.fromhex(one["schema"]))
    rows = [row for _, row in rowbatch.read_rows(schema, bytes.fromhex(one["bytes"]))]
    assert lines == [
        export.line(
            bytes.fromhex(one["store"]), int(one["partition"]), int(one["first"]) + at, 101 + at,
            schema, row,
        )
        for at, row in enumerate(rows)
    ]  # fmt: skip
    cells = [line.removeprefix("row ").split("\t") for line in text if line.startswith("row ")]
    for line, (time, source, source_seq, *texts) in zip(lines, cells, strict=True):
        event = json.loads(line)
        assert (event["time"], event["source"], event["source_seq"]) == (
            int(time), source, int(source_seq),
        )  # fmt: skip
        assert list(event["values"]) == [field.name for field in schema.fields]
        for (name, value), cell in zip(event["values"].items(), texts, strict=True):
            assert (value is None) == (cell == ""), name
            if name == "decimal" and value is not None:
                assert (Fraction(value), value[-4]) == (Fraction(cell), ".")
            if name.startswith(("i", "u")) and name != "utf8" and value is not None:
                assert value == int(cell)
