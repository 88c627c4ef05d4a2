"""The golden vectors of format pages in their first form, read by what the pages say alone: CBOR by
`cbor2`, arithmetic by Python's own doubles and fractions. The final pages have theirs in
tests/log/test_vectors.py and tests/wire."""

from __future__ import annotations

import json
import math
import struct
from array import array
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import cbor2

import edgecore as ec
from edgecore.digest import blake3
from edgecore.features import FeatureStore, FeatureView
from edgecore.fs import MemoryFs
from edgecore.inference import Binding, Model
from edgecore.log import Log
from edgecore.pipeline import LocalModel, Pipeline
from edgecore.release import Manifest
from edgecore.schema import Schema
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


def refused(body: dict[str, Any], values: list[float], states: list[int], ages: list[int]) -> str:
    """The page's decision window, but for what a view refuses."""
    full = 0
    for slot, value, state, age in zip(body["slots"], values, states, ages, strict=True):
        bound = slot.get("max_age", body.get("max_age"))
        if slot["kind"] != "state" and bound is not None and not 0 <= age <= bound:
            return "old"
        full += state == 0 and not quantised(slot, value, state)[3]
    return "sparse" if full / len(body["slots"]) < body.get("min_full", 0) else ""


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
        assert refused(body, values, row["states"], row["ages"]) == row["refusal"]
        assert binding.refusal(*given, array("q", row["ages"])) == row["refusal"]
    assert {row["refusal"] for row in golden["rows"]} == {"", "old", "sparse"}


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


# ---------------------------------------------------------------- golden streams


def test_vectors_golden_streams_are_read_and_answered_as_their_page_says() -> None:
    golden = vector("golden-streams.json")
    data, schema = bytes.fromhex(golden["bytes"]), bytes.fromhex(golden["schema"])
    body = cbor2.loads(data)
    assert cbor2.dumps(body, canonical=True) == data
    assert (set(body), body["version"]) == ({"version", "schemas", "streams"}, 1)
    assert body["schemas"] == [blake3(schema)]
    for (name, events), told in zip(body["streams"], golden["streams"], strict=True):
        times = accumulate(step for _, step, *_ in events)
        read = [[n, time, *cells] for (n, _, *cells), time in zip(events, times, strict=True)]
        assert (name, read) == (told["name"], told["events"])
        made = answered(golden, told["events"])
        answers = bytes.fromhex(told["answers"])
        assert [answers[at : at + 16] for at in range(0, 80, 16)] == made


def answered(golden: dict[str, Any], events: list[list[Any]]) -> list[bytes]:
    """The five digests of the page's table, of a pipeline and a feature store fed row by row."""
    parts = {name: bytes.fromhex(golden[name]) for name in ("model", "binding", "verdict", "view")}
    schema = Schema.from_bytes(bytes.fromhex(golden["schema"]))
    view = FeatureView.from_bytes(parts["view"])
    store = FeatureStore.open("store", views=[view], schemas=[schema], fs=MemoryFs())
    stages: list[bytes] = [b"", b"", b"", b"", b""]
    states = b""
    with Log.open("log", fs=MemoryFs(), flusher="manual") as log:
        pipeline = Pipeline(log, view, schema=schema)
        model = Model.load(parts["model"], backend="native")
        binding = Binding.from_bytes(parts["binding"])
        pipeline.set_role("active", LocalModel(model, binding, parts["verdict"]))
        for order, (_, time, pump, temp) in enumerate(events, 1):
            row = {"time": time, "source": "golden", "source_seq": order, "pump": pump}
            row["temp"] = temp
            late = store.late_rows
            store.update("pump", row)
            counted = store.late_rows == late
            reading = store.read(view, pump if counted else "nobody", time if counted else 1 << 62)
            pairs = zip(reading.values, reading.states, strict=True)
            values = [0.0 if state == 2 else value for value, state in pairs]
            states += bytes(reading.states)
            one = pipeline.process(row)[0]
            said = f"{one.role} {one.reason or ''}\n".encode()
            for at, more in enumerate((
                struct.pack(f"<{len(values)}d", *values),
                one.input_hash + struct.pack("<qII", one.as_of, one.clipped, one.substituted),
                one.output_hash + said,
                struct.pack("<?d", one.score is not None, one.score or 0.0),
                struct.pack("<?dBQ", one.threshold is not None, one.threshold or 0.0, one.verdict,
                            one.episode),
            )):  # fmt: skip
                stages[at] += more
    return [blake3(stage)[:16] for stage in (stages[0] + states, *stages[1:])]


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
