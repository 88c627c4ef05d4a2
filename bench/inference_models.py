"""The models that inference is measured with, their inputs, and what they must give.

Runtimes round differently (docs/numerics.md), so the sides of a row need not give the same bytes.
Instead each side is held against the reference kernels of the runtime whose profile it serves:
ours must equal them, a peer must lie within a number of codes of them that the row states.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from array import array
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
DRIVER = HERE.parent / "build" / "bench" / "inference_bench"
INPUTS = 16
LITERT, TFLITE = "ai_edge_litert.interpreter", "tflite_runtime.interpreter"


class Known(NamedTuple):
    """A model: where it comes from, its multiply-adds, the goal, and how far peers may be off."""

    source: str | list[int]  # a file of MLPerf Tiny, or the widths of a written MLP
    products: int
    goal: str
    litert_within: int  # codes, of the outputs of the inputs used here
    tflite_within: int


MODELS = {
    "mlp/16-32-16-1": Known([16, 32, 16, 1], 1_040, ">= 5", 1, 1),
    "mlp/64-64-64-8": Known([64, 64, 64, 8], 8_704, ">= 5", 1, 1),
    "ad01": Known("ad01_int8.tflite", 264_192, ">= 1.05", 0, 2),
    "kws": Known("kws_ref_model_int8.tflite", 2_656_768, ">= 1", 20, 2),
    "sww": Known("sww_ref_model.tflite", 826_368, ">= 1", 2, 2),
    "ic01": Known("ic01_resnet8_int8.tflite", 12_501_632, ">= 0.9", 40, 24),
    "vww": Known("vww_96_int8.tflite", 7_489_664, ">= 1", 2, 2),
}


class Subject(NamedTuple):
    """A model ready to be run: files of its bytes, of input rows, and of expected output rows."""

    name: str
    model: Path
    inputs: Path
    expected: dict[str, Path]  # by profile

    @property
    def known(self) -> Known:
        return MODELS[self.name]

    def digest(self) -> str:
        return hashlib.sha256(self.model.read_bytes() + self.inputs.read_bytes()).hexdigest()


def library() -> str:
    """Path of LiteRT's C library in the installed package; empty when it is not there."""
    spec = find_spec("ai_edge_litert")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return f"{places[0]}/libLiteRt.so" if places else ""


def tflite_python() -> str:
    """The interpreter of the environment that holds tflite-runtime (`./dev` makes it), or ""."""
    return os.environ.get("EDGECORE_TFLITE_PYTHON", "")


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


def outputs_of(command: list[str]) -> bytes:
    """Standard output of a program; what it says beside is shown when it fails."""
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(said[-1] if said else f"{command[0]} ended with {done.returncode}")
    return done.stdout


def runtime_outputs(python: str, module: str, resolver: str, model: Path, inputs: Path) -> bytes:
    script = str(HERE / "runtime_outputs.py")
    return outputs_of([python, script, module, resolver, str(model), str(inputs)])


def subjects(home: Path) -> Iterator[Subject]:
    """All that can be had: files of MLPerf Tiny are found through EDGECORE_DATA."""
    import edgecore as ec

    data = Path(os.environ.get("EDGECORE_DATA", "")) / "mlperf_tiny"
    for name, known in MODELS.items():
        file = name.replace("/", "-")
        if isinstance(known.source, str):
            model = data / known.source
            if not model.is_file():
                continue
        else:
            model = home / f"{file}.tflite"
            model.write_bytes(written(known.source))
        inputs = home / f"{file}.inputs"
        size = ec.Model.load(model.read_bytes(), backend="native").input_size
        inputs.write_bytes(random.Random(20).randbytes(INPUTS * size))
        expected = {}
        runtimes = [("litert-single", sys.executable, LITERT)]
        if tflite_python():
            runtimes.append(("tflite-double", tflite_python(), TFLITE))
        for profile, python, module in runtimes:
            expected[profile] = home / f"{file}.{profile}"
            found = runtime_outputs(python, module, "BUILTIN_REF", model, inputs)
            expected[profile].write_bytes(found)
        yield Subject(name, model, inputs, expected)


def signed(codes: bytes) -> list[int]:
    return array("b", codes).tolist()


def apart(found: bytes, expected: bytes) -> dict[str, Any]:
    """How far outputs are from what is expected."""
    steps = [abs(a - b) for a, b in zip(signed(found), signed(expected), strict=True)]
    return {"differing": sum(map(bool, steps)), "of": len(steps), "largest": max(steps)}


def checksum(found: bytes, expected: bytes, within: int) -> str:
    """The digest of what is expected when every output lies within codes of it."""
    near = len(found) == len(expected) and apart(found, expected)["largest"] <= within
    return hashlib.sha256(expected if near else found).hexdigest()
