"""A small pump station: readings, a view, a written model and its binding."""

from __future__ import annotations

import random
from array import array
from itertools import pairwise
from typing import Any

import edgecore as ec
from edgecore._core.verdict import VerdictSpec
from edgecore.fs import Fs, MemoryFs
from edgecore.inference import Binding, Model, Slot
from edgecore.pipeline import LocalModel, Pipeline
from edgecore.streams import PREDICTION

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000

TELEMETRY = ec.Schema(
    "telemetry",
    tier="bulk",
    fields=[ec.Field("pump", "category"), ec.Field("temp", "decimal(3)", range=(-40, 150))],
)


def view() -> ec.FeatureView:
    return ec.FeatureView(
        "pump_health",
        entity="pump",
        source="telemetry",
        lateness="5s",
        features=[
            ec.Agg("temp", ["mean", "std", "min", "max"], window=["1m", "10m"]),
            ec.Last("temp"),
            ec.Recency(),
        ],
    )


def autoencoder(seed: int = 20) -> bytes:
    from edgecore.tflite_writer import Activation, Layer, f32, write_tflite

    chance = random.Random(seed)
    widths = [10, 6, 10]
    tensors = [Activation(f32(0.05), chance.randint(-20, 20)) for _ in widths]
    layers = []
    for index, (width_in, width_out) in enumerate(pairwise(widths)):
        weights = array("b", [chance.randint(-127, 127) for _ in range(width_in * width_out)])
        biases = array("i", [chance.randint(-500, 500) for _ in range(width_out)])
        scale = f32(60 / (4000 * width_in**0.5))
        layers.append(Layer(weights, biases, scale, (width_out, width_in), index == 0))
    return write_tflite(layers, tensors, "test")


def binding(centre: float = 20.0) -> Binding:
    return Binding(
        [Slot(one, centre=centre, scale=2.0) for one in view().fingerprints_for(TELEMETRY)]
    )


def verdict(**changes: int) -> bytes:
    numbers = {"window": 64, "warmup": 8, "factor_permille": 1100, "enter_count": 1}
    return VerdictSpec(exit_count=2, **{**numbers, **changes}).to_bytes()


def release(seed: int = 20, **changes: int) -> LocalModel:
    return LocalModel(Model.load(autoencoder(seed)), binding(), verdict(**changes))


def objects(seed: int = 20, **changes: int) -> dict[bytes, bytes]:
    """What an artifact store would hold of :func:`release`, by digest."""
    from edgecore.digest import blake3

    parts = (
        autoencoder(seed),
        binding().to_bytes(),
        verdict(**changes),
        view().to_bytes(),
        TELEMETRY.canonical_bytes,
    )
    return {blake3(part): part for part in parts}


def readings(count: int, seed: int) -> list[dict[str, Any]]:
    """Two pumps; some readings late, some missing, one spike in forty."""
    chance = random.Random(seed)
    rows = []
    for i in range(count):
        time = START + i * SECOND
        if chance.randrange(20) == 0:
            time -= chance.randrange(15) * SECOND
        value: float | None = (19_000 + chance.randrange(2_000)) / 1000
        if chance.randrange(40) == 0:
            value = 31.5
        if chance.randrange(30) == 0:
            value = None
        pump = "b" if chance.randrange(3) == 0 else "a"
        row = {"time": time, "source": "sim", "source_seq": i + 1, "pump": pump, "temp": value}
        rows.append(row)
    return rows


class Device:
    """One open of a device's log, with its pipeline."""

    def __init__(self, fs: Fs | None = None, *, path: str = "log", **options: Any) -> None:
        self.fs = fs or MemoryFs()
        self.log = ec.Log.open(path, fs=self.fs, flusher="manual", **options)
        self.pipeline = Pipeline(self.log, view(), schema=TELEMETRY)

    def answers(self) -> list[dict[str, Any]]:
        """Every prediction of the log with the source sequence of the row it answers."""
        rows: dict[int, int] = {}
        for scanned in self.log.scan("telemetry"):
            for i, row in enumerate(scanned.rows()):
                rows[scanned.position + i] = row["source_seq"]
        found = []
        for scanned in self.log.scan(PREDICTION.stream):
            for i, row in enumerate(scanned.rows()):
                assert scanned.position + i > row["position"]
                found.append(row | {"row": rows[row["position"]], "sequence": scanned.first + i})
        return sorted(found, key=lambda one: one["row"])


SAID = (
    "row", "entity", "as_of", "score", "threshold", "verdict", "episode", "clipped",
    "substituted", "input_hash", "output_hash",
)  # fmt: skip


def said(answers: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What was answered, without the numbers of contexts, positions and sequences."""
    return [tuple(one[name] for name in SAID) for one in answers]
