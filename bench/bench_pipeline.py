"""Event to prediction with lineage, from Python: one event per call, and batches of a thousand.

Every side appends the event, computes F20, quantises, runs the model, scores, judges, and stores a
prediction with hashes of the model's input and output; every side commits to the
operating system once per thousand events (a killed process loses less than that; nobody waits for
the disk). tflite-runtime cannot be installed beside a current numpy, so the peer's runtime
is ai-edge-litert.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import pipeline_peers
from pair import Case, row
from pipeline_world import (
    BATCH,
    COMMIT_EVENTS,
    DAY,
    OPS,
    START_NS,
    VERDICT,
    WIDTHS,
    WINDOWS,
    centres,
    model_bytes,
    readings,
)


class Ours:
    def __init__(self, settings: dict[str, Any]) -> None:
        import edgecore as ec
        from edgecore._core.verdict import VerdictSpec
        from edgecore.inference import Binding, Slot
        from edgecore.pipeline import LocalModel, Pipeline

        self.version = ec.__version__
        self.directory = tempfile.TemporaryDirectory(prefix="edgecore-bench-")
        fields = [ec.Field("pump", "category"), ec.Field("temp", "decimal(3)", range=(0, 100))]
        schema = ec.Schema("telemetry", tier="bulk", fields=fields)
        features = [
            *(ec.Agg("temp", list(OPS), window=[window]) for window in WINDOWS),
            ec.Last("temp"),
            ec.Recency(),
        ]
        view = ec.FeatureView(
            "bench", entity="pump", source="telemetry", lateness="30s", features=features
        )
        self.model = ec.Model.load(model_bytes())
        prints = view.fingerprints_for(schema)
        slots = [
            Slot(fingerprint, centre=centre, scale=scale)
            for fingerprint, centre, scale in zip(prints, *centres(), strict=True)
        ]
        self.log = ec.Log.open(
            self.directory.name,
            flusher="manual",
            segment_bytes=16 << 20,
        )
        self.pipeline = Pipeline(self.log, view, schema=schema)
        verdict = VerdictSpec(**VERDICT).to_bytes()
        self.pipeline.set_role("active", LocalModel(self.model, Binding(slots), verdict))
        self.events = readings()
        self.at = 0
        self.warm()

    def warm(self) -> None:
        self.run(DAY)

    def checksum(self) -> int:
        out = self.model.run(bytes(range(WIDTHS[0])))
        return sum(memoryview(out).cast("b"))

    def run(self, count: int) -> int:
        process, events, commit = self.pipeline.process, self.events, self.log.core.flush
        for i in range(self.at, self.at + count):
            event = events[i % len(events)]
            event["time"] = START_NS + i * 1_000_000_000
            process(event)
            if i % COMMIT_EVENTS == 0:
                commit()
        self.at += count
        return self.checksum()


class OursBatch(Ours):
    def warm(self) -> None:
        import numpy as np

        self.rows = np.zeros(BATCH, dtype=[("time", "i8"), ("pump", "U2"), ("temp", "f8")])
        self.rows["pump"] = "p0"
        self.temps = np.array([event["temp"] for event in self.events])
        self.np = np
        self.run(-(-DAY // BATCH))

    def run(self, count: int) -> int:
        for _ in range(count):
            index = self.np.arange(self.at, self.at + BATCH)
            self.rows["time"] = START_NS + index * 1_000_000_000
            self.rows["temp"] = self.temps[index % len(self.temps)]
            self.pipeline.process(self.rows)
            self.log.core.flush()
            self.at += BATCH
        return self.checksum()


RUNTIME = "ai-edge-litert (tflite-runtime needs numpy < 2)"
EVENT = Case(
    {"ours": Ours, "sqlite+river+litert": pipeline_peers.RiverEvent},
    settings={"features": "F20", "model": WIDTHS, "commit": COMMIT_EVENTS, "runtime": RUNTIME},
)
SIDES = {"polars": pipeline_peers.Polars, "pandas": pipeline_peers.Pandas}
CASES = {"event": EVENT}
for _log in ("sqlite", "lmdb"):
    CASES[f"batch-{_log}"] = Case(
        {"ours": OursBatch} | {f"{name}+{_log}+litert": side for name, side in SIDES.items()},
        settings={"features": "F20", "model": WIDTHS, "rows": BATCH, "log": _log},
        scale=BATCH,
    )


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    event = row("pipeline.event/F20", "pipeline", "event", EVENT, "sqlite+river+litert", rounds)
    yield event | {"goal": ">= 40"}
    for log in ("sqlite", "lmdb"):
        case = CASES[f"batch-{log}"]
        for peer in case.sides:
            if peer != "ours":
                name = f"batch-{log}"
                found = row("pipeline.batch/E1/F20", "pipeline", name, case, peer, rounds)
                yield found | {"goal": ">= 15 of the best"}
