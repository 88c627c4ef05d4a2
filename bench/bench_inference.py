"""int8 inference beside the field's runtimes, one row a call: native and LiteRT both from C++
through one interface (bench/cpp/inference_bench.cpp), and from Python native through edgecore,
LiteRT's Interpreter (`/python`) and tflite-runtime in an environment of its own
(`/python/tflite`). `/avx2`: both sides without anything newer than AVX2.

Ours must give the bytes of the reference kernels of the runtime whose profile it serves; a peer
must stay within the codes that its row states (inference_models.py), or the row is refused.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from inference_models import (
    DRIVER,
    HERE,
    LITERT,
    MODELS,
    TFLITE,
    Subject,
    apart,
    checksum,
    library,
    outputs_of,
    runtime_outputs,
    subjects,
    tflite_python,
)
from pair import Case, row
from tree_models import tree_rows

RSS_RUNS = 5
RSS_OF = ("ad01", "vww", "ic01")
BATCHES = ("mlp/64-64-64-8", "ad01")


def peer_version() -> str:
    try:
        return version("ai-edge-litert")
    except PackageNotFoundError:
        return ""


class Side:
    """One side from Python, one row a call, as a user would write it."""

    within = 0

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.data = Path(settings["model_file"]).read_bytes()
        self.open()
        inputs = Path(settings["inputs"]).read_bytes()
        size = self.input_size
        self.rows = [inputs[at : at + size] for at in range(0, len(inputs), size)]
        self.expected = Path(settings["expected"]).read_bytes()

    input_size = 0

    def open(self) -> None:
        raise NotImplementedError

    def one(self, input: bytes) -> bytes:
        raise NotImplementedError

    def run(self, count: int) -> None:
        one, rows, known = self.one, self.rows, len(self.rows)
        for i in range(count):
            one(rows[i % known])

    def untimed_checksum(self) -> str:
        found = b"".join(self.one(input) for input in self.rows)
        return checksum(found, self.expected, self.within)


class Ours(Side):
    def open(self) -> None:
        import edgecore as ec

        self.version = ec.__version__
        profile = self.settings["profile"]
        self.model = ec.Model.load(self.data, backend="native", profile=profile)
        self.input_size = self.model.input_size

    def one(self, input: bytes) -> bytes:
        return self.model.run(input)


class Runtime(Side):
    """The Interpreter of LiteRT, or of tflite-runtime, with the kernels it chooses itself."""

    module, package = LITERT, "ai-edge-litert"

    def open(self) -> None:
        from importlib import import_module

        import numpy

        self.within = self.settings["peer_within"]
        self.version = version(self.package)
        self.frombuffer, self.int8 = numpy.frombuffer, numpy.int8
        runtime = import_module(self.module)
        self.interpreter = runtime.Interpreter(model_content=self.data, num_threads=1)
        self.interpreter.allocate_tensors()
        source = self.interpreter.get_input_details()[0]
        self.source, self.shape = source["index"], source["shape"]
        self.target = self.interpreter.get_output_details()[0]["index"]
        self.input_size = int(self.shape.prod())

    def one(self, input: bytes) -> bytes:
        values = self.frombuffer(input, self.int8).reshape(self.shape)
        self.interpreter.set_tensor(self.source, values)
        self.interpreter.invoke()
        out: bytes = self.interpreter.get_tensor(self.target).tobytes()
        return out


class Tflite(Runtime):
    module, package = TFLITE, "tflite-runtime"


CASES = {"python": Case({"ours": Ours, "litert": Runtime, "tflite": Tflite})}


# ------------------------------------------------------------------ figures


@cache
def peak() -> dict[str, float]:
    """GMAC/s that this core reaches out of registers, by instructions."""
    found: dict[str, float] = json.loads(outputs_of([str(DRIVER), "peak"]))
    return {name: rate / 1e9 for name, rate in found.items()}


def rates(found: dict[str, Any], subject: Subject, instructions: str) -> dict[str, Any]:
    """What both sides multiply a nanosecond, and the share of the peak that is."""
    if found.get("ratio") is None or not peak()[instructions]:
        return {}
    top = peak()[instructions]
    out: dict[str, Any] = {"peak": instructions, "peak_gmacs": round(top, 1)}
    for side in ("ours", "theirs"):
        rate = subject.known.products / found[side]
        out |= {f"{side}_gmacs": round(rate, 2), f"{side}_share": round(rate / top, 3)}
    return out


def settings_of(subject: Subject, profile: str, within: int) -> dict[str, Any]:
    return {
        "model": subject.name, "input_sha256": subject.digest(), "profile": profile,
        "products": subject.known.products, "peer_within": within,
        "check": "ours equals the reference kernels; the peer lies within peer_within codes of it",
    }  # fmt: skip


# ------------------------------------------------------------------ rows


def driver(side: str, subject: Subject, *rest: object) -> list[str]:
    words = [side, subject.model, library(), subject.inputs, *rest]
    return [str(DRIVER), *map(str, words)]


def compiled(subject: Subject, variant: str, rounds: int) -> dict[str, Any]:
    """Both sides from C++; `variant` is "" or "-avx2"."""
    profile, within = "litert-single", subject.known.litert_within
    expected = subject.expected[profile]
    shown = settings_of(subject, profile, within)
    commands = {
        "ours": driver(f"native{variant}", subject, expected, 0),
        "litert": driver(f"litert{variant}", subject, expected, within),
    }
    identity = f"inference.{subject.name}" + variant.replace("-", "/")
    case = Case({}, settings=shown, commands=commands)
    found = row(identity, "inference", "compiled", case, "litert", rounds)
    if found["ratio"] is not None:
        peer = outputs_of(driver(f"litert{variant}", subject, "outputs"))
        shown |= {"peer_apart": apart(peer, expected.read_bytes())}
        shown |= rates(found, subject, "avx2" if variant else "vnni")
        found |= {"peer_version": peer_version()}
    goal = {} if variant else {"goal": subject.known.goal}
    return found | goal | {"settings": shown}


def interpreted(subject: Subject, peer: str, rounds: int) -> dict[str, Any]:
    """Both sides from Python."""
    foreign = peer == "tflite"
    profile = "tflite-double" if foreign else "litert-single"
    known = subject.known
    shown = settings_of(subject, profile, known.tflite_within if foreign else known.litert_within)
    identity = f"inference.{subject.name}/python" + ("/tflite" if foreign else "")
    base = {"id": identity, "unit": "ns", "peer": None, "ratio": None, "settings": shown}
    if foreign and not tflite_python():
        return base | {"skipped": "tflite-runtime: no environment (Python 3.11 only)"}
    files = {"model_file": str(subject.model), "inputs": str(subject.inputs),
             "expected": str(subject.expected[profile])}  # fmt: skip
    settings = shown | files
    python = tflite_python() if foreign else sys.executable
    words = [python, str(HERE / "worker.py"), "bench_inference", "python", peer]
    case = Case(CASES["python"].sides, settings=settings)
    case.commands[peer] = [*words, json.dumps(settings)]
    found = row(identity, "inference", "python", case, peer, rounds)
    if found["ratio"] is not None:
        module = TFLITE if foreign else LITERT
        theirs = runtime_outputs(python, module, "AUTO", subject.model, subject.inputs)
        shown |= {"peer_apart": apart(theirs, subject.expected[profile].read_bytes())}
    return found | {"settings": shown}


def batched(subject: Subject, rounds: int) -> dict[str, Any]:
    """256 rows a call, beside one row a call, both native: time of one row."""
    shown = settings_of(subject, "litert-single", 0) | {"rows": 256}
    expected = subject.expected["litert-single"]
    commands = {"ours": driver("native-batch", subject, expected, 0),
                "row by row": driver("native", subject, expected, 0)}  # fmt: skip
    case = Case({}, settings=shown, commands=commands)
    identity = f"inference.batch/{subject.name}"
    found = row(identity, "inference", "compiled", case, "row by row", rounds)
    return found | {"settings": shown | rates(found, subject, "vnni")}


def rss(side: str, subject: Subject) -> float:
    """MB that a model adds to a process: the median of fresh ones."""
    command = driver(side, subject, "rss")
    return statistics.median(int(outputs_of(command)) for _ in range(RSS_RUNS)) / 1e6


def rss_row(subject: Subject) -> dict[str, Any]:
    identity = "inference.rss" + ("" if subject.name == "ad01" else f"/{subject.name}")
    base = {"id": identity, "unit": "MB", "better": "lower", "goal": "<= 1 MB",
            "settings": {"model": subject.name}, "rounds": RSS_RUNS, "peer": None, "ratio": None,
            "input_sha256": subject.digest()}  # fmt: skip
    try:
        ours, theirs = rss("native", subject), rss("litert", subject)
    except (OSError, RuntimeError) as error:
        return base | {"ours": None, "reason": str(error)}
    found = {"peer": "litert", "peer_version": peer_version(), "ours": ours, "theirs": theirs}
    return base | found | {"ratio": theirs / max(ours, 1e-3)}


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as home:
        found = {subject.name: subject for subject in subjects(Path(home))}
        for name in MODELS:
            if name not in found:
                why = "no real data: EDGECORE_DATA"
                yield {"id": f"inference.{name}", "unit": "ns", "skipped": why}
                continue
            yield compiled(found[name], "", rounds)
            yield compiled(found[name], "-avx2", rounds)
            yield interpreted(found[name], "litert", rounds)
            yield interpreted(found[name], "tflite", rounds)
        for name in (one for one in BATCHES if one in found):
            yield batched(found[name], rounds)
        for name in (one for one in RSS_OF if one in found):
            yield rss_row(found[name])
    yield from tree_rows(rounds)
