"""Texts from an event to a model's input: a field's values are codes, the binding's vocabulary
knows them, and what it has not heard of is unknown, not missing."""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest

import edgecore as ec
from edgecore import learning
from edgecore.digest import blake3
from edgecore.errors import Invalid
from edgecore.features import FeatureStore, FeatureView, category_code
from edgecore.fs import MemoryFs
from edgecore.inference import Binding, Model, Slot
from edgecore.pipeline import LocalModel, Pipeline
from edgecore.streams import PREDICTION

pytest.importorskip("flatbuffers")

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
MODES = ("off", "idle", "run")

SCHEMA = ec.Schema("telemetry", tier="bulk", fields=[
    ec.Field("pump", "category"), ec.Field("temp", "decimal(2)", range=(-40, 150)),
    ec.Field("mode", "category"), ec.Field("on", "bool")])  # fmt: skip


def view() -> FeatureView:
    return FeatureView("pumps", entity="pump", source="telemetry", features=[
        ec.Agg("temp", ["mean", "p95"], window="1m"), ec.Last("mode"),
        ec.MostFrequent("mode", window="1m"), ec.Distinct("mode", window="1m"),
        ec.Last("on")])  # fmt: skip


def rows(count: int, seed: int, modes: tuple[str | None, ...] = MODES) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    out = []
    for i in range(count):
        mode = chance.choice(modes)
        temp = {"off": 20, "idle": 40, "run": 80}.get(mode or "", 60) + chance.random()
        row = {"time": START + i * SECOND, "source": "sim", "source_seq": i + 1, "pump": "a",
               "temp": round(temp, 2), "mode": mode, "on": mode == "run"}  # fmt: skip
        out.append(row)
    return out


def answers(log: ec.Log) -> list[dict[str, Any]]:
    return [row for scanned in log.scan(PREDICTION.stream) for row in scanned.rows()]


def test_categories_reach_the_model_by_the_vocabulary_that_was_learned(seed: int) -> None:
    bundle = learning.fit(view(), SCHEMA, rows(300, seed), steps=20)
    binding = Binding.from_bytes(bundle.objects["binding"])
    prints = dict(zip(view().fingerprints_for(SCHEMA), view().names, strict=True))
    slots = {prints[slot.feature]: slot for slot in binding.slots}
    codes = tuple(sorted(category_code(mode) for mode in MODES))
    assert {name for name, slot in slots.items() if slot.kind == "category"} == {
        "mode_last", "mode_most_frequent_1m",
    }  # fmt: skip
    assert slots["mode_last"].vocabulary == codes
    assert slots["on_last"].kind == "value"

    model = Model.load(bundle.objects["model"], backend="native")
    log = ec.Log.open("log", fs=MemoryFs(), flusher="manual")
    pipeline = Pipeline(log, view(), schema=SCHEMA)
    pipeline.set_role("active", LocalModel(model, binding, bundle.objects["verdict"]))
    # A mode that was never seen, and rows without one before any.
    fresh = rows(5, seed, (None,)) + rows(200, seed + 1, (*MODES, "jammed"))[5:]
    pipeline.process(fresh)

    store = FeatureStore.open("f", views=[view()], schemas=[SCHEMA], fs=MemoryFs())
    names = list(view().names)
    at = [names.index(prints[slot.feature]) for slot in binding.slots]
    place = [prints[slot.feature] for slot in binding.slots].index("mode_last")
    last = binding.slots[place]
    seen = set()
    for row, answer in zip(fresh, answers(log), strict=True):
        store.update("telemetry", row)
        reading = store.read("pumps", "a", row["time"])
        values = array("d", [reading.values[i] for i in at])
        states = bytes([reading.states[i] for i in at])
        wanted, clipped, substituted = binding.quantise(values, states, model.input_quantisation)
        assert answer["input_hash"] == blake3(wanted)
        assert (answer["clipped"], answer["substituted"]) == (clipped, substituted)
        # By hand: what the slot of the last mode makes of the row's.
        mode = row["mode"]
        index = {None: last.missing, "jammed": last.unknown}.get(mode)
        if index is None:
            index = float(codes.index(category_code(mode)))
        normalised = memoryview(binding.normalise(values, states)).cast("d")[place]
        assert normalised == (index - last.centre) / max(last.scale, last.scale_floor)
        assert (substituted > 0) == (mode is None)
        seen.add(mode)
    assert seen == {None, "jammed", *MODES}


def test_categories_vocabulary_may_be_given_as_texts() -> None:
    slot = Slot(bytes(32), "category", vocabulary=["run", "off", "idle"])
    assert slot.vocabulary == tuple(sorted(category_code(mode) for mode in MODES))
    again = Binding.from_bytes(Binding([slot]).to_bytes()).slots[0]
    assert again.vocabulary == slot.vocabulary
    with pytest.raises(Invalid):
        Binding([Slot(bytes(32), "category", vocabulary=["run", "run"])])


def test_categories_beyond_the_vocabulary_are_the_rare_ones(seed: int) -> None:
    chance = random.Random(seed)
    texts = [f"mode {i}" for i in range(100)]
    given = rows(600, seed)
    for row in given:
        row["mode"] = texts[chance.randrange(3)] if chance.random() < 0.5 else chance.choice(texts)
    bundle = learning.fit(view(), SCHEMA, given, steps=5)
    slots = Binding.from_bytes(bundle.objects["binding"]).slots
    known = next(slot.vocabulary for slot in slots if slot.kind == "category")
    assert len(known) == learning.VOCABULARY_MAX
    assert {category_code(text) for text in texts[:3]} <= set(known)
