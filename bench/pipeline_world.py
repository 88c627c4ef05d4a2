"""The one event stream, model and binding that both sides of the pipeline's rows work on.

E1: one entity, one event per second, decimal(3); F20 = {count, sum, mean, std, min, max} x {1 min,
10 min, 1 h}, last, recency; an int8 autoencoder 20-16-8-16-20; score = reconstruction error;
threshold = 12 x the running median of the last 256 scores. Windows are warm before the clock runs.
"""

from __future__ import annotations

import random
from array import array
from functools import cache
from itertools import pairwise
from typing import Any

START_NS = 1_700_000_000_000_000_000
WINDOWS = {"1m": 60, "10m": 600, "1h": 3600}
OPS = ("count", "sum", "mean", "std", "min", "max")
WIDTHS = [20, 16, 8, 16, 20]
DAY = 3700  # events before the clock runs: the longest window is full
BATCH = 1000
COMMIT_EVENTS = 1000  # rows between two commits, on every side
VERDICT: dict[str, int] = {
    "window": 256,
    "warmup": 32,
    "quantile_permille": 500,
    "factor_permille": 12_000,
    "enter_count": 6,
    "exit_count": 12,
    "floor": 50_000,
}


@cache
def readings() -> list[dict[str, Any]]:
    chance = random.Random(20)
    return [{"pump": "p0", "temp": chance.randrange(20_000, 25_000) / 1000} for _ in range(10_000)]


def centres() -> tuple[list[float], list[float]]:
    """Centre and scale of each feature, in the order of the view."""
    centre: list[float] = []
    scale: list[float] = []
    for seconds in WINDOWS.values():
        centre += [seconds, seconds * 22.5, 22.5, 1.44, 20.1, 24.9]
        scale += [seconds / 10, seconds * 0.1, 0.2, 0.1, 0.1, 0.1]
    return [*centre, 22.5, 0.0], [*scale, 1.44, 1.0]


@cache
def model_bytes() -> bytes:
    from edgecore.tflite_writer import Activation, Layer, f32, write_tflite

    chance = random.Random(20)
    tensors = [Activation(f32(0.05), chance.randint(-20, 20)) for _ in WIDTHS]
    layers = []
    for index, (width_in, width_out) in enumerate(pairwise(WIDTHS)):
        weights = array("b", [chance.randint(-127, 127) for _ in range(width_in * width_out)])
        biases = array("i", [chance.randint(-3000, 3000) for _ in range(width_out)])
        scale = f32(60 / (4000 * width_in**0.5))
        last = index + 2 == len(WIDTHS)
        layers.append(Layer(weights, biases, scale, (width_out, width_in), not last))
    return write_tflite(layers, tensors, "bench")


@cache
def golden_sum() -> int:
    """Both sides run this model: the sum of its outputs for one input, from the peer's runtime."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    codes = np.arange(WIDTHS[0], dtype=np.int8).reshape(1, -1)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], codes)
    interpreter.invoke()
    return int(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).sum())
