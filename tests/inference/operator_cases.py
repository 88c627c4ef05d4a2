"""One operator as a graph of random shape and quantisation, for every operator that is served."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from math import prod

from graphs import INT32, NONE, RELU, RELU6, RELU_N1_TO_1, SAME, VALID, Graph

Case = tuple[bytes, int]  # the file, and how many int8 values a row of its input has


def f32(value: float) -> float:
    out: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return out


class Chance:
    """Random parts of a graph."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self.pick = self._random.choice
        self.between = self._random.randint

    def real(self, low: float, high: float) -> float:
        return f32(self._random.uniform(low, high))

    def codes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def scale(self) -> float:
        return self.real(0.005, 0.2)

    def zero(self) -> int:
        return self.between(-128, 127)

    def activation(self, *kinds: int) -> bytes:
        return bytes([self.pick(kinds or (NONE, RELU, RELU_N1_TO_1, RELU6))])

    def often(self, share: float) -> bool:
        return self._random.random() < share


def ints(values: list[int]) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def _values(name: str, chance: Chance) -> Case:
    """All 256 codes through an operator of one value."""
    graph = Graph()
    scale, zero = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}.get(
        name, (chance.scale(), chance.zero())
    )
    source = graph.tensor([1, 256], scale=chance.scale(), zero=chance.zero())
    target = graph.tensor([1, 256], scale=scale, zero=zero)
    options = {0: chance.real(0, 0.5)} if name == "LEAKY_RELU" else {}
    graph.add(name, [source], target, options)
    return graph.build(source, target), 256


def _softmax(name: str, chance: Chance) -> Case:
    graph = Graph()
    shape = [1, chance.pick([2, 3, 10, 12, 100])]
    source = graph.tensor(shape, scale=chance.scale(), zero=chance.zero())
    target = graph.tensor(shape, scale=1 / 256, zero=-128)
    graph.add(name, [source], target, {0: chance.pick([1.0, 1.0, 0.5, 2.0])})
    return graph.build(source, target), shape[1]


def _pair(name: str, chance: Chance) -> Case:
    """With itself, a constant, one value per channel, or one value."""
    graph = Graph()
    shape = [1, 4, 5, chance.pick([3, 16, 17])]
    source = graph.tensor(shape, scale=chance.scale(), zero=chance.zero())
    other = chance.pick([None, shape, shape[3:], [1]])
    second = source
    if other is not None:
        second = graph.tensor(
            other, scale=chance.scale(), zero=chance.zero(), data=chance.codes(prod(other))
        )
    target = graph.tensor(shape, scale=chance.scale(), zero=chance.zero())
    sides = [source, second] if chance.often(0.5) else [second, source]
    graph.add(name, sides, target, {0: chance.activation(NONE, RELU, RELU6)})
    return graph.build(source, target), prod(shape)


def _out(size: int, filter_: int, stride: int, dilation: int, padding: int) -> int:
    reach = (filter_ - 1) * dilation + 1
    return -(-size // stride) if padding == SAME else (size - reach) // stride + 1


class _Window:
    """Of a filter or a pool over an image of [height, width]."""

    def __init__(self, chance: Chance, *, dilates: bool) -> None:
        self.size = [chance.between(3, 12), chance.between(3, 12)]
        self.filter = [chance.between(1, min(n, 5)) for n in self.size]
        self.stride = [chance.between(1, 3), chance.between(1, 3)]
        self.padding = chance.pick([SAME, VALID])
        self.dilation = 1
        if dilates and chance.often(0.3) and all(
            2 * k - 1 <= n for n, k in zip(self.size, self.filter, strict=True)
        ):  # fmt: skip
            self.dilation, self.stride = 2, [1, 1]
        self.out = [
            _out(n, k, s, self.dilation, self.padding)
            for n, k, s in zip(self.size, self.filter, self.stride, strict=True)
        ]


def _pool(name: str, chance: Chance) -> Case:
    graph = Graph()
    window = _Window(chance, dilates=False)
    channels = chance.pick([1, 3, 8, 17, 64])
    like = {"scale": chance.scale(), "zero": chance.zero()}
    source = graph.tensor([1, *window.size, channels], **like)
    target = graph.tensor([1, *window.out, channels], **like)
    options = {
        0: bytes([window.padding]), 1: window.stride[1], 2: window.stride[0],
        3: window.filter[1], 4: window.filter[0], 5: chance.activation(NONE, RELU, RELU6),
    }  # fmt: skip
    graph.add(name, [source], target, options)
    return graph.build(source, target), prod([*window.size, channels])


def _filter(name: str, chance: Chance) -> Case:
    graph = Graph()
    window = _Window(chance, dilates=True)
    deep = name == "CONV_2D"
    channels = chance.pick([1, 2, 3, 4, 8, 16, 20, 32])
    multiplier = 1 if deep else chance.pick([1, 1, 1, 2, 3])
    outputs = chance.pick([1, 3, 8, 16, 17, 32, 64, 130]) if deep else channels * multiplier
    shape = [outputs, *window.filter, channels] if deep else [1, *window.filter, outputs]
    depth = prod(window.filter) * (channels if deep else 1)
    before, after = chance.scale(), chance.scale()
    base = after / before * 60 / (4000 * depth**0.5)
    count = outputs if chance.often(0.8) else 1
    scales = [f32(base * chance.real(0.2, 20)) for _ in range(count)]
    source = graph.tensor([1, *window.size, channels], scale=before, zero=chance.zero())
    weights = graph.tensor(
        shape, scale=scales, axis=0 if deep else 3, data=chance.codes(prod(shape))
    )
    bias = graph.tensor(
        [outputs], INT32, scale=[before * scale for scale in scales],
        data=ints([chance.between(-20000, 20000) for _ in range(outputs)]),
    )  # fmt: skip
    target = graph.tensor([1, *window.out, outputs], scale=after, zero=chance.zero())
    high, wide = window.stride
    tail = [chance.activation(NONE, RELU, RELU6), window.dilation, window.dilation]
    head = [bytes([window.padding]), wide, high]
    options = dict(enumerate([*head, *tail] if deep else [*head, multiplier, *tail]))
    graph.add(name, [source, weights, bias], target, options)
    return graph.build(source, target), prod([*window.size, channels])


def _connected(name: str, chance: Chance) -> Case:
    graph = Graph()
    depth, width = chance.between(1, 70), chance.between(1, 70)
    rows = chance.pick([1, 1, 1, 5, 40])
    before, after = chance.scale(), chance.scale()
    base = after / before * 60 / (4000 * depth**0.5)
    source = graph.tensor([rows, depth], scale=before, zero=chance.zero())
    scale = f32(base * chance.real(0.2, 20))
    weights = graph.tensor([width, depth], scale=scale, data=chance.codes(width * depth))
    bias = graph.tensor(
        [width], INT32, scale=before * scale,
        data=ints([chance.between(-20000, 20000) for _ in range(width)]),
    )  # fmt: skip
    target = graph.tensor([rows, width], scale=after, zero=chance.zero())
    graph.add(name, [source, weights, bias], target, {0: chance.activation(NONE, RELU, RELU6)})
    return graph.build(source, target), rows * depth


def _concatenation(name: str, chance: Chance) -> Case:
    graph = Graph()
    like = {"scale": chance.scale(), "zero": chance.zero()}
    shape = [1, chance.between(1, 5), chance.between(1, 5), chance.between(1, 20)]
    axis = chance.pick([1, 2, 3, -1])
    source = graph.tensor(shape, **like)
    other, whole = list(shape), list(shape)
    other[axis] = chance.between(1, 6)
    whole[axis] = 2 * shape[axis] + other[axis]
    constant = graph.tensor(other, **like, data=chance.codes(prod(other)))
    target = graph.tensor(whole, **like)
    graph.add(name, [source, constant, source], target, {0: axis})
    return graph.build(source, target), prod(shape)


def _pad(name: str, chance: Chance) -> Case:
    graph = Graph()
    like = {"scale": chance.scale(), "zero": chance.zero()}
    shape = [1, chance.between(1, 5), chance.between(1, 5), chance.between(1, 9)]
    pads = [[0, 0], *([chance.between(0, 3), chance.between(0, 3)] for _ in range(3))]
    source = graph.tensor(shape, **like)
    padding = graph.tensor([4, 2], INT32, data=ints([n for pad in pads for n in pad]))
    target = graph.tensor([n + sum(pad) for n, pad in zip(shape, pads, strict=True)], **like)
    graph.add(name, [source, padding], target)
    return graph.build(source, target), prod(shape)


def _mean(name: str, chance: Chance) -> Case:
    graph = Graph()
    shape = [1, chance.between(1, 9), chance.between(1, 9), chance.between(1, 33)]
    axes = chance.pick([[1, 2], [1, 2], [2, 1], [1], [2], [3], [1, 2, 3], [-1]])
    keep = chance.often(0.5)
    like = {"scale": chance.scale(), "zero": chance.zero()}
    source = graph.tensor(shape, **like)
    where = graph.tensor([len(axes)], INT32, data=ints(axes))
    gone = {axis % 4 for axis in axes}
    out = [1 if at in gone else n for at, n in enumerate(shape) if keep or at not in gone]
    if chance.often(0.7):
        like = {"scale": chance.scale(), "zero": chance.zero()}
    target = graph.tensor(out, **like)
    graph.add(name, [source, where], target, {0: keep})
    return graph.build(source, target), prod(shape)


MAKERS: dict[str, Callable[[str, Chance], Case]] = {
    "ADD": _pair, "AVERAGE_POOL_2D": _pool, "CONCATENATION": _concatenation, "CONV_2D": _filter,
    "DEPTHWISE_CONV_2D": _filter, "FULLY_CONNECTED": _connected, "LEAKY_RELU": _values,
    "LOGISTIC": _values, "MAX_POOL_2D": _pool, "MEAN": _mean, "MUL": _pair, "PAD": _pad,
    "QUANTIZE": _values, "RELU": _values, "RELU6": _values, "RELU_N1_TO_1": _values,
    "SOFTMAX": _softmax, "TANH": _values,
}  # fmt: skip


def case(name: str, seed: int) -> tuple[bytes, bytes, int]:
    """The file, input rows one after another, and how many there are."""
    chance = Chance(f"{name} {seed}")
    data, size = MAKERS[name](name, chance)
    if size == 256 and MAKERS[name] is _values:
        return data, bytes(range(256)), 1
    return data, chance.codes(3 * size), 3
