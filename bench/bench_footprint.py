"""What edgecore costs a small board: memory and time of the import, and of using the core without
numpy (open a log, append, compute features, run a model, predict).

Each figure is the median growth of the resident set over fresh processes, after the interpreter is
up, with modules compiled as an installed wheel's are. numpy, asyncio and flatbuffers must be
absent; their import is made to fail.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

MEASURE = """
import json, sys, time
for name in ("numpy", "asyncio", "flatbuffers"):
    sys.modules[name] = None

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

resident()
before, start = resident(), time.perf_counter_ns()
"""
IMPORT = "import edgecore\n"
USE = """
import os
import edgecore as ec
from edgecore.inference import Binding, Slot
from edgecore.pipeline import LocalModel, Pipeline
from edgecore._core.verdict import VerdictSpec

schema = ec.Schema("telemetry", tier="bulk", fields=[
    ec.Field("pump", "category"), ec.Field("temp", "decimal(3)", range=(0, 100))])
view = ec.FeatureView("bench", entity="pump", source="telemetry", lateness="30s", features=[
    *(ec.Agg("temp", list(OPS), window=[window]) for window in WINDOWS),
    ec.Last("temp"), ec.Recency()])
slots = [Slot(one, centre=c, scale=s)
         for one, c, s in zip(view.fingerprints_for(schema), *CENTRES, strict=True)]
with open("model.tflite", "rb") as file:
    model = ec.Model.load(file.read(), backend="native")
log = ec.Log.open(f"log-{os.getpid()}", flusher="manual")
pipeline = Pipeline(log, view, schema=schema)
verdict = VerdictSpec(**VERDICT).to_bytes()
pipeline.set_role("active", LocalModel(model, Binding(slots), verdict))
for i in range(1000):
    row = {"time": START_NS + i * 10**9, "pump": "p0", "temp": 20 + i % 50 / 10}
    assert len(pipeline.process(row)) == 1
log.sync()
"""
REPORT = """
spent = time.perf_counter_ns() - start
loaded = [n for n in ("numpy", "asyncio", "flatbuffers") if sys.modules.get(n)]
print(json.dumps({"bytes": resident() - before, "ns": spent, "loaded": loaded}))
"""


def measured(script: str, runs: int, home: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = f"{home}/cache"
    for attempt in range(runs + 1):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE + script + REPORT],
            capture_output=True, text=True, check=False, env=environment,
            cwd=home,
        )  # fmt: skip
        if done.returncode != 0:
            return {"reason": (done.stderr.strip().splitlines() or ["no output"])[-1]}
        if attempt > 0:  # the first one compiles
            found.append(json.loads(done.stdout))
    if any(one["loaded"] for one in found):
        return {"reason": f"loaded: {', '.join(found[0]['loaded'])}"}
    return {
        "bytes": statistics.median(one["bytes"] for one in found),
        "ns": statistics.median(one["ns"] for one in found),
    }


def figure(identity: str, unit: str, value: float | None, goal: str, runs: int) -> dict[str, Any]:
    return {
        "id": identity, "ours": value, "peer": None, "theirs": None, "ratio": None, "unit": unit,
        "better": "lower", "rounds": runs, "goal": goal, "settings": {"numpy": "absent"},
        "input_sha256": None,
    }  # fmt: skip


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    runs = max(3, rounds)
    sys.path.insert(0, str(HERE))
    from pipeline_world import model_bytes

    with tempfile.TemporaryDirectory(prefix="edgecore-bench-") as home:
        yield from _rows(runs, home, model_bytes())


def _rows(runs: int, home: str, model: bytes) -> Iterator[dict[str, Any]]:
    import pipeline_world as world

    mib = 1 << 20
    found = measured(IMPORT, runs, home)
    size, ns = found.get("bytes"), found.get("ns")
    reason = {"reason": found["reason"]} if "reason" in found else {}
    yield figure("footprint.import", "MiB", size and size / mib, "<= 4", runs) | reason
    yield figure("footprint.import/time", "ms", ns and ns / 1e6, "<= 30", runs) | reason
    (Path(home) / "model.tflite").write_bytes(model)
    given = {"WINDOWS": list(world.WINDOWS), "OPS": world.OPS, "VERDICT": world.VERDICT,
             "CENTRES": world.centres(), "START_NS": world.START_NS}  # fmt: skip
    script = "".join(f"{name} = {value!r}\n" for name, value in given.items()) + USE
    found = measured(script, runs, home)
    size = found.get("bytes")
    reason = {"reason": found["reason"]} if "reason" in found else {}
    yield figure("footprint.use", "MiB", size and size / mib, "<= 8", runs) | reason
