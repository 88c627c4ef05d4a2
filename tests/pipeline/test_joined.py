"""The fused path of a view that reads other streams: an answer depends on the rows at positions
before it, however they came to be taken in."""

from __future__ import annotations

import importlib
import random
import sys
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore import lineage
from edgecore.digest import blake3
from edgecore.errors import Incompatible, Invalid
from edgecore.features import FeatureStore
from edgecore.fs import MemoryFs
from edgecore.inference import Binding, Model, Slot
from edgecore.pipeline import LocalModel, Pipeline
from edgecore.streams import PREDICTION

pytest.importorskip("flatbuffers")
sys.path.insert(0, str(Path(__file__).parent))
world: Any = importlib.import_module("pipeline_world")
SECOND, START, TELEMETRY, verdict = world.SECOND, world.START, world.TELEMETRY, world.verdict

WEATHER = ec.Schema(
    "weather", tier="bulk", fields=[ec.Field("outside", "decimal(1)", range=(-50, 60))]
)
ORDERS = ec.Schema(
    "orders", tier="diagnostic",
    fields=[ec.Field("line", "category"), ec.Field("units", "i32", range=(0, 1000))],
)  # fmt: skip
SCHEMAS = {one.stream: one for one in (TELEMETRY, WEATHER, ORDERS)}
OTHERS = [ORDERS, WEATHER]

Step = tuple[str, dict[str, Any]]


def view() -> ec.FeatureView:
    return ec.FeatureView("pump", entity="pump", source="telemetry", lateness="5s", features=[
        ec.AsOf("weather", ec.Last("outside", within="10m"), lateness="20s"),
        ec.Agg("temp", ["mean", "max"], window="1m", min_coverage=0.2),
        ec.AsOf("orders", ec.Agg("units", ["sum", "count"], window="5m", ttl="2m"), entity="line",
                lateness="30s"),
        ec.AsOf("weather", ec.Agg("outside", "mean", window="2m")),
        ec.Last("temp"),
    ])  # fmt: skip


WIDTH = len(view().specs)


def network() -> bytes:
    from edgecore.tflite_writer import Activation, Layer, f32, write_tflite

    chance = random.Random(7)
    widths = [WIDTH, 4, WIDTH]
    tensors = [Activation(f32(0.05), chance.randint(-20, 20)) for _ in widths]
    layers = []
    for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
        weights = array("b", [chance.randint(-127, 127) for _ in range(fan_in * fan_out)])
        biases = array("i", [chance.randint(-500, 500) for _ in range(fan_out)])
        scale = f32(60 / (4000 * fan_in**0.5))
        layers.append(Layer(weights, biases, scale, (fan_out, fan_in), index == 0))
    return write_tflite(layers, tensors, "joined")


def model() -> Model:
    return Model.load(network())


def binding() -> Binding:
    prints = view().fingerprints_for(TELEMETRY, OTHERS)
    return Binding([Slot(one, centre=20.0, scale=8.0) for one in prints])


def release() -> LocalModel:
    return LocalModel(model(), binding(), verdict())


def objects() -> dict[bytes, bytes]:
    parts = (
        network(), binding().to_bytes(), verdict(), view().to_bytes(),
        *(one.canonical_bytes for one in SCHEMAS.values()),
    )  # fmt: skip
    return {blake3(part): part for part in parts}


def steps(seed: int, count: int) -> list[Step]:
    """In order of arrival: streams that are ahead of each other, late and too late rows."""
    chance = random.Random(seed)
    out: list[Step] = []
    time = START
    for number in range(count):
        time += chance.choice([0, 0, 1, 1, 4, 30]) * SECOND
        stream = chance.choice(["telemetry", "telemetry", "weather", "orders"])
        row: dict[str, Any] = {"time": time, "source": "sim", "source_seq": number + 1}
        if stream == "telemetry":
            row |= {"pump": chance.choice("ab"), "temp": chance.randrange(150, 300) / 8}
        elif stream == "weather":
            row |= {"outside": chance.randrange(-100, 400) / 10}
        else:
            row |= {"line": chance.choice("abc"), "units": chance.randrange(60)}
        if chance.random() < 0.3:
            row["time"] += chance.randrange(-40, 40 if stream != "telemetry" else 1) * SECOND
        out.append((stream, row))
    return out


class Device:
    def __init__(self, fs: MemoryFs) -> None:
        self.log = ec.Log.open("log", fs=fs, flusher="manual")
        self.pipeline = Pipeline(self.log, view(), schema=TELEMETRY, joined=OTHERS)
        self.pipeline.set_role("active", release())

    def take(self, step: Step, how: random.Random) -> ec.pipeline.Predictions | None:
        stream, row = step
        if stream == "telemetry":
            return self.pipeline.process(row)
        if how.random() < 0.5:
            self.pipeline.observe(stream, row)
        else:
            self.log.append(stream, row)
        return None


def expected(rows: list[Step], positions: list[int]) -> list[bytes | None]:
    """Hashes of the model inputs of the source's rows, by the store; None: not counted."""
    store = FeatureStore.open("f", views=[view()], schemas=SCHEMAS.values(), fs=MemoryFs())
    slots, to = binding(), model().input_quantisation
    out: list[bytes | None] = []
    for (stream, row), position in zip(rows, positions, strict=True):
        late = store.late_rows
        store.update(stream, row, position=position)
        if stream != "telemetry":
            continue
        if store.late_rows > late:
            out.append(None)
            continue
        found = store.read("pump", row["pump"], row["time"])
        codes = slots.quantise(found.values, bytes(found.states), to)[0]
        out.append(blake3(bytes(codes)))
    return out


def recorded(log: ec.Log) -> list[dict[str, Any]]:
    return [row for scanned in log.scan(PREDICTION.stream) for row in scanned.rows()]


def positions_of(log: ec.Log) -> dict[str, list[int]]:
    return {
        stream: [
            scanned.position + at for scanned in log.scan(stream) for at in range(scanned.count)
        ]
        for stream in SCHEMAS
    }


def test_pipeline_joined_live_is_the_store_the_replay_the_backfill_and_the_lineage(
    seed: int,
) -> None:
    rows, how, fs = steps(seed, 150), random.Random(seed), MemoryFs()
    device = Device(fs)
    for step in rows:
        device.take(step, how)
    at = {stream: iter(found) for stream, found in positions_of(device.log).items()}
    want = expected(rows, [next(at[stream]) for stream, _ in rows])
    device.log.sync()
    live = recorded(device.log)
    counted = [one["score"] is not None for one in live]
    assert counted == [one is not None for one in want]
    assert [one["input_hash"] for one in live if one["score"] is not None] == [
        one for one in want if one is not None
    ]
    assert len(set(want)) > len(want) // 2
    # As history that knew what the device did.
    tables = {stream: [row for one, row in rows if one == stream] for stream in SCHEMAS}
    found = ec.backfill(
        view(), tables["telemetry"], schema=TELEMETRY, known="ingest",
        joined=[(one, tables[one.stream]) for one in OTHERS], positions=positions_of(device.log),
    )  # fmt: skip
    slots, to = binding(), model().input_quantisation
    for number, one in enumerate(want):
        cells = slice(number * WIDTH, (number + 1) * WIDTH)
        states = bytes(found.states[cells])
        codes = slots.quantise(found.values[cells], states, to)[0]
        assert one is None or blake3(bytes(codes)) == one
    # From nothing but the log.
    state = device.pipeline.snapshot()
    device.log.close()
    again = Device(fs)
    assert again.pipeline.replay() == 0
    assert again.pipeline.snapshot() == state
    assert again.pipeline.counters["late"] == want.count(None)
    kept = objects()
    for row in range(0, len(live), 9):
        made = lineage.rebuild(again.log, f"{_partition(again.log)}:{row + 1}", kept.__getitem__)
        assert made.holds, made.differences


def _partition(log: ec.Log) -> int:
    return next(one for one, name, _ in log.partitions() if name == PREDICTION.stream)


def test_pipeline_joined_restored_at_every_position_goes_on_as_if_nothing_had_been(
    seed: int,
) -> None:
    rows, how, fs = steps(seed, 60), random.Random(seed), MemoryFs()
    device = Device(fs)
    kept = []
    for step in rows:
        kept.append((device.pipeline.snapshot(), device.pipeline.met))
        device.take(step, how)
    state, met = device.pipeline.snapshot(), device.pipeline.met
    device.log.close()
    for data, before in kept:
        again = Device(fs)
        again.pipeline.restore(data)
        assert again.pipeline.met == before
        again.pipeline.replay()
        assert again.pipeline.met == met
        assert again.pipeline.snapshot() == state
        again.log.close()


def test_pipeline_joined_row_by_row_in_batches_and_completed_are_one(seed: int) -> None:
    rows, how = steps(seed, 120), random.Random(seed)
    one, other, third = Device(MemoryFs()), Device(MemoryFs()), Device(MemoryFs())
    batch: list[dict[str, Any]] = []
    for step in rows:
        one.take(step, how)
        if step[0] != "telemetry":  # those of the source that came before it go first
            if batch:
                other.pipeline.process(batch)
            batch = []
            other.take(step, how)
        else:
            batch.append(step[1])
        third.log.append(*step)  # answered by the replay alone
    if batch:
        other.pipeline.process(batch)
    names = ("entity", "as_of", "score", "verdict", "episode", "input_hash", "output_hash")
    # Of the rows of a log that was not begun with a role none is owed.
    assert third.pipeline.replay() == sum(stream == "telemetry" for stream, _ in rows)
    said = [
        [tuple(row[name] for name in names) for row in recorded(device.log)]
        for device in (one, other, third)
    ]
    assert said[0] == said[1] == said[2]


def test_pipeline_joined_a_role_set_later_has_seen_what_the_log_has(seed: int) -> None:
    fs, how = MemoryFs(), random.Random(seed)
    device = Device(fs)
    for step in steps(seed, 80):
        device.take(step, how)
    device.pipeline.set_role("shadow", release(), warm_after=0)
    state = device.pipeline.snapshot()
    device.log.close()
    again = Device(fs)
    again.pipeline.set_role("shadow", release(), warm_after=0)
    again.pipeline.replay()
    assert again.pipeline.snapshot() == state


def test_pipeline_joined_a_gap_of_another_stream_lowers_what_is_read_of_it() -> None:
    from edgecore.streams import GAP

    device = Device(MemoryFs())
    device.log.append("weather", {"time": START, "outside": 3})
    device.pipeline.process({"time": START, "pump": "a", "temp": 20})
    before = device.pipeline.snapshot()
    device.log.append(
        GAP.stream,
        {"stream": "nobody", "begin": START, "end": START + SECOND, "kind": "lost"},
    )
    assert device.pipeline.snapshot() == before
    device.log.append(
        GAP.stream,
        {"stream": "weather", "begin": START, "end": START + SECOND, "kind": "lost"},
    )
    assert device.pipeline.snapshot() != before


def test_pipeline_joined_rows_that_do_not_count_say_their_stream() -> None:
    device = Device(MemoryFs())
    device.pipeline.observe("weather", {"time": START + 300 * SECOND, "outside": 3})
    device.log.append("weather", {"time": START, "outside": 3})
    device.pipeline.process({"time": START + 300 * SECOND, "pump": "a", "temp": 20})
    device.pipeline.process({"time": START, "pump": "a", "temp": 20})
    aside = device.pipeline.take_set_aside()
    assert sorted({one[4] for one in aside}) == ["telemetry", "weather"]


def test_pipeline_joined_is_refused_without_a_streams_schema() -> None:
    log = ec.Log.open("log", schemas=[TELEMETRY, WEATHER], flusher="manual", fs=MemoryFs())
    with pytest.raises(Incompatible, match="also reads stream 'orders': give its schema"):
        Pipeline(log, view(), schema=TELEMETRY)
    device = Device(MemoryFs())
    with pytest.raises(Invalid, match="joins no stream 'telemetry'"):
        device.pipeline.observe("telemetry", {"time": START, "pump": "a", "temp": 20})
