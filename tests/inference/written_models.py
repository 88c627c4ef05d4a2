"""Written models for the tests, and a plain integer reference of both rounding profiles."""

from __future__ import annotations

import random
from array import array
from fractions import Fraction
from itertools import pairwise

from edgecore.tflite_writer import Activation, Layer, f32, write_tflite


def random_layers(widths: list[int], chance: random.Random) -> tuple[list[Layer], list[Activation]]:
    """Layers whose outputs use most of int8 and whose clamps are reached."""
    tensors = [
        Activation(f32(chance.uniform(0.01, 0.1)), chance.randint(-128, 127)) for _ in widths
    ]
    layers = []
    for index, (width_in, width_out) in enumerate(pairwise(widths)):
        largest = chance.choice((2, 16, 127))  # small weights: large multipliers
        reach = 32 * largest * width_in**0.5  # a typical sum
        scale = tensors[index + 1].scale / tensors[index].scale * 60 / reach
        layers.append(
            Layer(
                array(
                    "b", [chance.randint(-largest, largest) for _ in range(width_in * width_out)]
                ),
                array("i", [chance.randint(-40 * largest, 40 * largest) for _ in range(width_out)]),
                f32(scale * chance.uniform(0.5, 2)),
                (width_out, width_in),
                relu=index + 2 < len(widths),
            )
        )
    return layers, tensors


def write(widths: list[int], seed: int) -> bytes:
    return write_tflite(*random_layers(widths, random.Random(seed)), name="written")


def random_rows(width: int, rows: int, seed: int) -> bytes:
    chance = random.Random(seed)
    return bytes(chance.randrange(256) for _ in range(width * rows))


def signed(code: int) -> int:
    return code - 256 if code > 127 else code


def multiplier(real: Fraction) -> tuple[int, int]:
    """Value in [2^30, 2^31) and shift, exact up to the one rounding."""
    shift = 0
    while real >= 1:
        real, shift = real / 2, shift + 1
    while real < Fraction(1, 2):
        real, shift = real * 2, shift - 1
    value = int(real * 2**31 + Fraction(1, 2))
    return (value // 2, shift + 1) if value == 2**31 else (value, shift)


def rounded(real: float) -> int:
    """The nearest integer, halves away from zero."""
    whole = int(abs(Fraction(real)) + Fraction(1, 2))
    return whole if real >= 0 else -whole


def requantise(profile: str, total: int, real: float) -> int:
    if profile == "litert-single":
        return rounded(total * real)
    value, shift = multiplier(Fraction(real))
    # The doubling high multiply truncates toward zero after its nudge, as the reference is written.
    product = total * (1 << max(shift, 0)) * value
    nudged = product + (1 << 30 if product >= 0 else 1 - (1 << 30))
    high = abs(nudged) // (1 << 31) * (1 if nudged >= 0 else -1)
    right = max(-shift, 0)
    mask = (1 << right) - 1
    threshold = (mask >> 1) + (1 if high < 0 else 0)
    return (high >> right) + (1 if (high & mask) > threshold else 0)


def reference(
    layers: list[Layer], tensors: list[Activation], row: bytes, profile: str
) -> list[int]:
    """One row, one output at a time, in Python's integers."""
    values = [signed(code) for code in row]
    for index, layer in enumerate(layers):
        source, target = tensors[index], tensors[index + 1]
        product = source.scale * layer.scale
        real = (product if profile == "litert-single" else f32(product)) / target.scale
        low = max(-128, target.zero_point) if layer.relu else -128
        outputs = []
        for out in range(layer.width_out):
            weights = layer.weights[out * layer.width_in : (out + 1) * layer.width_in]
            total = layer.biases[out] + sum(
                (code - source.zero_point) * weight
                for code, weight in zip(values, weights, strict=True)
            )
            code = requantise(profile, total, real) + target.zero_point
            outputs.append(min(127, max(low, code)))
        values = outputs
    return values
