"""Rows to learn from, and the decisions of a bundle over rows; needs nothing but edgecore."""

from __future__ import annotations

import random
from array import array
from typing import Any

from edgecore import learning
from edgecore._core.rows import Batch
from edgecore._core.verdict import Verdict, VerdictSpec
from edgecore.features import FeatureView, backfill
from edgecore.inference import Binding, Model, score
from edgecore.release import Bundle
from edgecore.schema import Field, Schema

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
TEMP = Schema("pump", tier="bulk", fields=[Field("temp", "decimal(2)", range=(-1000, 1000))])


def readings(count: int, seed: int, shift_at: int = 1 << 30) -> list[dict[str, Any]]:
    """A slow wave with noise, one row a second; from `shift_at` on 15 degrees higher."""
    chance = random.Random(seed)
    rows = []
    for i in range(count):
        wave = 40 + 3 * (i % 600 - 300) / 300 * (1 if i // 600 % 2 else -1)
        value = wave + chance.gauss(0, 0.3) + (15 if shift_at <= i < shift_at + 200 else 0)
        rows.append({"time": START + i * SECOND, "temp": round(value, 2)})
    return rows


def batch(rows: list[dict[str, Any]], schema: Schema = TEMP) -> Batch:
    out = Batch(schema)
    out.extend(rows)
    return out


def judged(bundle: Bundle, rows: Batch, first: int, schema: Schema = TEMP) -> list[Any]:
    """The decisions of the bundle's parts over rows [first, end), as a pipeline makes them."""
    model = Model.load(bundle.objects["model"], backend="native")
    binding = Binding.from_bytes(bundle.objects["binding"])
    view = FeatureView.from_bytes(bundle.objects["view"])
    found = backfill(view, rows, schema=schema)
    width = len(found.names)
    prints = view.fingerprints_for(schema)
    at = [prints.index(slot.feature) for slot in binding.slots]
    values, states = memoryview(found.values).cast("B").cast("d"), memoryview(found.states)
    scores = array("q")
    for row in range(first, len(found.times)):
        mine = array("d", [values[row * width + c] for c in at])
        how = bytes([states[row * width + c] for c in at])
        codes = binding.quantise(mine, how, model.input_quantisation)[0]
        normalised = binding.normalise(mine, how)
        output = model.run(codes)
        scores.append(score("reconstruction", normalised, output, model.output_quantisation))
    verdict = Verdict(VerdictSpec.from_bytes(bundle.objects["verdict"]))
    return verdict.decide_all(scores, array("q", list(found.times)[first:]))


def fitted(rows: list[dict[str, Any]], **options: Any) -> Bundle:
    view = learning.detection_view(TEMP, SECOND)
    return learning.fit(view, TEMP, batch(rows), **options)
