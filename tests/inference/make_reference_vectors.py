"""Writes what the field's reference kernels answer, for processors on which they can't run.

    .venv/main/bin/python tests/inference/make_reference_vectors.py TFLR_PYTHON

TFLR_PYTHON is a Python with tflite-runtime 2.14 and numpy < 2; this one has ai-edge-litert 2.3.
EDGECORE_DATA names the MLPerf Tiny models. Two files of docs/formats/vectors, which
cpp/tests/inference/reference_vectors_test.cpp reads on every kernel of a processor:
inference-operators.txt (small graphs of every operator, their inputs, what both runtimes answer)
and inference-tiny.txt (BLAKE3 of what they answer for the MLPerf Tiny models).
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "docs" / "formats" / "vectors"
MODELS = (
    "ad01_int8.tflite", "ic01_resnet8_int8.tflite", "kws_ref_model_int8.tflite",
    "sww_ref_model.tflite", "vww_96_int8.tflite",
)  # fmt: skip
ROWS = 1000
FIRST = 50  # rows that have a digest of their own
PROFILES = {"ai_edge_litert": "litert-single", "tflite_runtime": "tflite-double"}
LARGEST = {"CONV_2D": 4500, "DEPTHWISE_CONV_2D": 4500, "FULLY_CONNECTED": 4500}  # bytes of a case
USUAL = 2300
EACH = 3  # graphs of an operator, and of those above
MORE = 7


def generated(first: int, count: int) -> bytes:
    """Codes `first`.. of the generator: counters, mixed. `generated` of the C++ test is the same"""
    import numpy

    x = numpy.arange(first + 1, first + 1 + count, dtype=numpy.uint64)
    x *= numpy.uint64(0x9E3779B97F4A7C15)
    x ^= x >> numpy.uint64(32)
    x *= numpy.uint64(0xD6E8FEB86659FD93)
    return bytes((x >> numpy.uint64(56)).astype(numpy.uint8).tobytes())


def answers(runtime: str, model: bytes, rows: bytes | int) -> list[bytes]:
    """Of the reference kernels, row by row; `rows` as a number: as many generated ones."""
    sys.path.insert(0, str(Path(__file__).parent))
    runtimes: Any = importlib.import_module("runtimes")
    interpreter = runtimes.opened(runtime, model)
    size = runtimes.row_bytes(interpreter)
    count = rows if isinstance(rows, int) else len(rows) // size
    found: list[bytes] = runtimes.answers(
        interpreter,
        (
            generated(at * size, size)
            if isinstance(rows, int)
            else rows[at * size : (at + 1) * size]
            for at in range(count)
        ),
    )
    return found


def asked(tflr: str, questions: list[tuple[bytes, bytes | int]]) -> list[dict[str, list[bytes]]]:
    """Both runtimes' answers, by profile; the older runtime's from a process of its own."""
    child = subprocess.Popen(
        [tflr, __file__, "--answer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.write(pickle.dumps(questions))
    child.stdin.close()
    ours = [answers("ai_edge_litert", *question) for question in questions]
    assert child.stdout is not None
    theirs = pickle.loads(child.stdout.read())
    assert child.wait() == 0
    return [
        {"litert-single": one, "tflite-double": other}
        for one, other in zip(ours, theirs, strict=True)
    ]


def of_reals(graphs: Any, cases: Any) -> tuple[bytes, bytes]:
    """Reals to codes, to other codes, under another shape, and back."""
    graph = graphs.Graph()
    source = graph.tensor([1, 40], graphs.FLOAT32)
    first = graph.tensor([1, 40], scale=0.0373, zero=-11)
    second = graph.tensor([1, 40], scale=0.05, zero=3)
    flat = graph.tensor([40], scale=0.05, zero=3)
    target = graph.tensor([40], graphs.FLOAT32)
    graph.add("QUANTIZE", [source], first)
    graph.add("QUANTIZE", [first], second)
    graph.add("RESHAPE", [second, graph.tensor([1], graphs.INT32, data=cases.ints([40]))], flat)
    graph.add("DEQUANTIZE", [flat], target)
    chance = cases.Chance("reals")
    import struct

    rows = struct.pack("<120f", *(chance.real(-6, 6) for _ in range(120)))
    return graph.build(source, target), rows


def operators(tflr: str) -> list[str]:
    sys.path.insert(0, str(Path(__file__).parent))
    cases: Any = importlib.import_module("operator_cases")
    graphs: Any = importlib.import_module("graphs")
    chosen: list[tuple[str, bytes, bytes]] = [("REALS", *of_reals(graphs, cases))]
    for name in sorted(cases.MAKERS):
        found, seed = 0, 0
        while found < (MORE if name in LARGEST else EACH):
            data, rows, _ = cases.case(name, seed)
            seed += 1
            if len(data) + len(rows) <= LARGEST.get(name, USUAL):
                chosen.append((f"{name}-{seed - 1}", data, rows))
                found += 1
    lines = [
        "# graph NAME FILE; in: its rows, one after another; out PROFILE: the reference kernels'",
        "# answers, of LiteRT 2.3 (litert-single) and tflite-runtime 2.14 (tflite-double).",
    ]
    found_all = asked(tflr, [(data, rows) for _, data, rows in chosen])
    for (name, data, rows), found_one in zip(chosen, found_all, strict=True):
        lines += [f"graph {name} {data.hex()}", f"in {rows.hex()}"]
        lines += [f"out {profile} {b''.join(out).hex()}" for profile, out in found_one.items()]
    return lines


def tiny(tflr: str) -> list[str]:
    from blake3 import blake3

    folder = Path(os.environ["EDGECORE_DATA"]) / "mlperf_tiny"
    lines = [
        "# model FILE, then PROFILE ROWS DIGEST: BLAKE3 of the reference kernels' answers to the",
        "# first ROWS generated rows. Code i of a model's rows, i from 1:",
        "# x = i * 9e3779b97f4a7c15; x ^= x >> 32; x *= d6e8feb86659fd93 (modulo 2^64); x >> 56.",
    ]
    for name in MODELS:
        model = (folder / name).read_bytes()
        lines.append(f"model {name} {blake3(model).hexdigest()}")
        for profile, out in asked(tflr, [(model, ROWS)])[0].items():
            for rows in (FIRST, ROWS):
                lines.append(f"{profile} {rows} {blake3(b''.join(out[:rows])).hexdigest()}")
        print(name, flush=True)
    return lines


def main() -> None:
    if sys.argv[1] == "--answer":
        questions = pickle.loads(sys.stdin.buffer.read())
        found = [answers("tflite_runtime", *question) for question in questions]
        sys.stdout.buffer.write(pickle.dumps(found))
        return
    for name, made in (("operators", operators), ("tiny", tiny)):
        (VECTORS / f"inference-{name}.txt").write_text("\n".join(made(sys.argv[1])) + "\n")


if __name__ == "__main__":
    main()
