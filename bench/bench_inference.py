"""int8 inference beside LiteRT: both from C++ through one interface, one row a call
(bench/cpp/inference_bench.cpp), and both again from Python (`/python`).

Models: two written MLPs with random weights and the MLPerf Tiny anomaly model. Both sides must give
the same output bits for the same inputs, or the row is refused.
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import subprocess
import tempfile
from array import array
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from pair import Case, row

ROOT = Path(__file__).resolve().parent.parent
DRIVER = ROOT / "build" / "bench" / "inference_bench"
MODELS = {"mlp/16-32-16-1": [16, 32, 16, 1], "mlp/64-64-64-8": [64, 64, 64, 8]}
GOALS = {"mlp/16-32-16-1": ">= 5", "mlp/64-64-64-8": ">= 5", "ad01": ">= 1.05"}
RSS_RUNS = 5


def library() -> str:
    """Path of LiteRT's C library in the installed package; empty when it is not there."""
    spec = find_spec("ai_edge_litert")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return f"{places[0]}/libLiteRt.so" if places else ""


def peer_version() -> str:
    try:
        return version("ai-edge-litert")
    except PackageNotFoundError:
        return ""


def written(widths: list[int]) -> bytes:
    """An MLP with random weights whose activations use most of int8."""
    from edgecore.tflite_writer import Activation, Layer, f32, write_tflite

    chance = random.Random(20)
    tensors = [Activation(f32(0.05), chance.randint(-40, 40)) for _ in widths]
    layers = []
    for index, (width_in, width_out) in enumerate(pairwise(widths)):
        weights = array("b", [chance.randint(-127, 127) for _ in range(width_in * width_out)])
        biases = array("i", [chance.randint(-5000, 5000) for _ in range(width_out)])
        scale = f32(60 / (4000 * width_in**0.5))
        layers.append(Layer(weights, biases, scale, (width_out, width_in), index + 2 < len(widths)))
    return write_tflite(layers, tensors, "bench")


def models(home: Path) -> Iterator[tuple[str, Path]]:
    for name, widths in MODELS.items():
        path = home / f"{name.replace('/', '-')}.tflite"
        path.write_bytes(written(widths))
        yield name, path
    real = Path(os.environ.get("EDGECORE_DATA", "")) / "mlperf_tiny" / "ad01_int8.tflite"
    if real.is_file():
        yield "ad01", real


class Side:
    """One side from Python, one row a call, as a user would write it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.data = Path(settings["model"]).read_bytes()
        self.open()
        chance = random.Random(20)
        self.rows = [
            bytes(chance.randrange(256) for _ in range(self.input_size)) for _ in range(16)
        ]

    input_size = 0

    def open(self) -> None:
        raise NotImplementedError

    def one(self, input: bytes) -> bytes:
        raise NotImplementedError

    def run(self, count: int) -> str:
        one, rows = self.one, self.rows
        for i in range(count):
            one(rows[i & 15])
        return hashlib.sha256(b"".join(one(input) for input in rows)).hexdigest()


class Ours(Side):
    def open(self) -> None:
        import edgecore as ec

        self.version = ec.__version__
        self.model = ec.Model.load(self.data)
        self.input_size = self.model.input_size

    def one(self, input: bytes) -> bytes:
        return self.model.run(input)


class Litert(Side):
    def open(self) -> None:
        import numpy
        from ai_edge_litert.interpreter import Interpreter

        self.version = peer_version()
        self.frombuffer, self.int8 = numpy.frombuffer, numpy.int8
        self.interpreter = Interpreter(model_content=self.data, num_threads=1)
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


CASES = {"python": Case({"ours": Ours, "litert": Litert})}


def rss(side: str, path: Path) -> float:
    command = [str(DRIVER), side, str(path), library(), "rss"]
    taken = [
        int(subprocess.run(command, text=True, check=True, capture_output=True).stdout)
        for _ in range(RSS_RUNS)
    ]
    return statistics.median(taken) / 1e6


def rss_row(path: Path) -> dict[str, Any]:
    base = {"id": "inference.rss", "unit": "MB", "better": "lower", "goal": "<= 1 MB"}
    base |= {"settings": {"model": path.name}, "rounds": RSS_RUNS, "peer": None, "ratio": None}
    base["input_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        ours = rss("native", path)
        theirs = rss("litert", path)
    except (OSError, subprocess.CalledProcessError) as error:
        return base | {"ours": None, "reason": str(error)}
    found = {"peer": "litert", "peer_version": peer_version(), "ours": ours, "theirs": theirs}
    return base | found | {"ratio": theirs / max(ours, 1e-3)}


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as home:
        found = list(models(Path(home)))
        for name, path in found:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            settings = {"model": str(path), "input_sha256": digest}
            commands = {
                "ours": [str(DRIVER), "native", str(path), library()],
                "litert": [str(DRIVER), "litert", str(path), library()],
            }
            case = Case({}, settings=settings, commands=commands)
            compiled = row(f"inference.{name}", "inference", "compiled", case, "litert", rounds)
            shown = {"model": name, "input_sha256": digest}
            yield compiled | {
                "goal": GOALS[name], "peer_version": peer_version(), "settings": shown,
            }  # fmt: skip
            case = Case(CASES["python"].sides, settings=settings)
            found_row = row(
                f"inference.{name}/python", "inference", "python", case, "litert", rounds
            )
            yield found_row | {"settings": shown}
        if "ad01" not in dict(found):
            yield {"id": "inference.ad01", "unit": "ns", "skipped": "no real data: EDGECORE_DATA"}
        yield rss_row(found[-1][1])
