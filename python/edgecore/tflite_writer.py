"""Writes a small int8 network as a standard ``.tflite`` file that the field's runtimes load.

Post-training quantisation as TensorFlow Lite specifies it (Jacob et al., 2018; the "8-bit
quantization specification"): weights symmetric per tensor, biases int32 at scale_in * scale_w,
activations affine with ranges taken from mergeable histograms. The file is built with the
``flatbuffers`` package from the field numbers of the public schema; the same parameters always
give the same bytes.
"""

from __future__ import annotations

import struct
from array import array
from itertools import pairwise

from edgecore.errors import Invalid, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from edgecore._core.learning import RangeHistogram

FULLY_CONNECTED = 9
FULLY_CONNECTED_VERSION = 4  # the first version with int8
FULLY_CONNECTED_OPTIONS = 8
INT32, INT8 = 2, 9
RELU = 1
OUTSIDE = 1e-4  # the share of calibration values that a range may leave out
# The least step of activations and of weights, for networks over normalised inputs: a layer that
# is always 0 would otherwise ask for biases and multipliers beyond 32 bits.
ACTIVATION_STEP_MIN = 1e-4
WEIGHT_STEP_MIN = 1e-5
BIAS_CODES_MAX = 1 << 24


def f32(value: float) -> float:
    """The nearest f32, as a double."""
    out: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return out


class Layer:
    """One quantised FULLY_CONNECTED layer; weights are [out][in]."""

    __slots__ = ("biases", "relu", "scale", "weights", "width_in", "width_out")

    def __init__(
        self,
        weights: array[int],
        biases: array[int],
        scale: float,
        shape: tuple[int, int],
        relu: bool,
    ) -> None:
        self.weights = weights
        self.biases = biases
        self.scale = scale
        self.width_out, self.width_in = shape
        self.relu = relu


class Activation:
    """Scale and zero point of an activation tensor."""

    __slots__ = ("scale", "zero_point")

    def __init__(self, scale: float, zero_point: int) -> None:
        self.scale = scale
        self.zero_point = zero_point


def activation(low: float, high: float) -> Activation:
    """The affine int8 parameters that cover [low, high] and represent 0 exactly."""
    scale = f32(max((high - low) / 255.0, ACTIVATION_STEP_MIN))
    zero_point = max(-128, min(127, round(-128 - low / scale)))
    return Activation(scale, zero_point)


def quantise(
    widths: Sequence[int], parameters: bytes, ranges: Sequence[RangeHistogram]
) -> tuple[list[Layer], list[Activation]]:
    """Quantises f32 parameters (layer by layer: weights [out][in], biases [out]).

    :param ranges: one histogram per activation tensor, the input's first.
    :raises Invalid: when the parameters do not fit the widths.
    """
    values = array("f")
    values.frombytes(parameters)
    if len(values) != sum((a + 1) * b for a, b in pairwise(widths)):
        raise Invalid("quantise: parameters do not fit the widths")
    tensors = [activation(*histogram.range(OUTSIDE)) for histogram in ranges]
    layers, at = [], 0
    for index, (width_in, width_out) in enumerate(pairwise(widths)):
        count = width_in * width_out
        weights = values[at : at + count]
        biases = values[at + count : at + count + width_out]
        at += count + width_out
        largest = max(abs(b) for b in biases)
        scale = f32(
            max(
                max(abs(w) for w in weights) / 127.0,
                largest / (BIAS_CODES_MAX * tensors[index].scale),
                WEIGHT_STEP_MIN,
            )
        )
        bias_scale = tensors[index].scale * scale
        layers.append(
            Layer(
                array("b", [max(-127, min(127, round(w / scale))) for w in weights]),
                array("i", [max(-(2**30), min(2**30, round(b / bias_scale))) for b in biases]),
                scale,
                (width_out, width_in),
                relu=index + 2 < len(widths),
            )
        )
    return layers, tensors


class _Writer:
    """Tables of the public schema by field number; children are written before parents."""

    def __init__(self) -> None:
        try:
            import flatbuffers
        except ImportError:
            raise Unavailable("writing .tflite needs the extra edgecore[train]") from None
        self.builder: Any = flatbuffers.Builder(1024)

    def vector(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def numbers(self, values: Sequence[float], kind: str) -> int:
        size = {"i": 4, "f": 4, "q": 8}[kind]
        put = {
            "i": self.builder.PrependInt32,
            "f": self.builder.PrependFloat32,
            "q": self.builder.PrependInt64,
        }[kind]
        self.builder.StartVector(size, len(values), size)
        for value in reversed(values):
            put(value)
        return int(self.builder.EndVector())

    def blob(self, data: bytes) -> int:
        # Tensor data is aligned to 16 bytes, as runtimes map it in place.
        self.builder.StartVector(1, len(data), 16)
        self.builder.head = self.builder.head - len(data)
        self.builder.Bytes[self.builder.head : self.builder.head + len(data)] = data
        return int(self.builder.EndVector())

    def table(self, fields: dict[int, tuple[str, int]], width: int) -> int:
        """`fields`: number -> (kind, value); kinds: o(ffset), B(yte), I(nt32), U(int32)."""
        self.builder.StartObject(width)
        for number, (kind, value) in sorted(fields.items(), reverse=True):
            if kind == "o":
                self.builder.PrependUOffsetTRelativeSlot(number, value, 0)
            elif kind == "B":
                self.builder.PrependInt8Slot(number, value, 0)
            elif kind == "I":
                self.builder.PrependInt32Slot(number, value, 0)
            else:
                self.builder.PrependUint32Slot(number, value, 0)
        return int(self.builder.EndObject())

    def tensor(
        self, name: str, shape: Sequence[int], kind: int, buffer: int, scale: float, zero: int
    ) -> int:
        text = self.builder.CreateString(name)
        dims = self.numbers(shape, "i")
        scales, zeros = self.numbers([scale], "f"), self.numbers([zero], "q")
        quantisation = self.table({2: ("o", scales), 3: ("o", zeros)}, 7)
        return self.table(
            {
                0: ("o", dims),
                1: ("B", kind),
                2: ("U", buffer),
                3: ("o", text),
                4: ("o", quantisation),
            },
            9,
        )


def write_tflite(layers: Sequence[Layer], tensors: Sequence[Activation], name: str) -> bytes:
    """The file: a chain of FULLY_CONNECTED layers, [1, in] int8 to [1, out] int8."""
    writer = _Writer()
    buffers = [b""]
    table: list[int] = []
    operators: list[int] = []

    def add(
        title: str, shape: Sequence[int], kind: int, data: bytes, scale: float, zero: int
    ) -> int:
        buffers.append(data)
        buffer = len(buffers) - 1 if data else 0
        table.append(writer.tensor(title, shape, kind, buffer, scale, zero))
        return len(table) - 1

    first = tensors[0]
    current = add("input", [1, layers[0].width_in], INT8, b"", first.scale, first.zero_point)
    start = current
    for index, layer in enumerate(layers):
        shape = [layer.width_out, layer.width_in]
        weights = add(f"w{index}", shape, INT8, layer.weights.tobytes(), layer.scale, 0)
        bias_scale = f32(tensors[index].scale * layer.scale)
        biases = add(f"b{index}", [layer.width_out], INT32, layer.biases.tobytes(), bias_scale, 0)
        out = tensors[index + 1]
        result = add(f"a{index}", [1, layer.width_out], INT8, b"", out.scale, out.zero_point)
        options = writer.table({0: ("B", RELU if layer.relu else 0)}, 4)
        inputs = writer.numbers([current, weights, biases], "i")
        outputs = writer.numbers([result], "i")
        operators.append(
            writer.table(
                {
                    1: ("o", inputs),
                    2: ("o", outputs),
                    3: ("B", FULLY_CONNECTED_OPTIONS),
                    4: ("o", options),
                },
                9,
            )
        )
        current = result
    return _finish(writer, table, operators, buffers, (start, current), name)


def _finish(
    writer: _Writer,
    table: Sequence[int],
    operators: Sequence[int],
    buffers: Sequence[bytes],
    ends: tuple[int, int],
    name: str,
) -> bytes:
    builder = writer.builder
    tensor_list, operator_list = writer.vector(table), writer.vector(operators)
    inputs, outputs = writer.numbers([ends[0]], "i"), writer.numbers([ends[1]], "i")
    subgraph = writer.table(
        {0: ("o", tensor_list), 1: ("o", inputs), 2: ("o", outputs), 3: ("o", operator_list)}, 5
    )
    code = writer.table(
        {0: ("B", FULLY_CONNECTED), 2: ("I", FULLY_CONNECTED_VERSION), 3: ("I", FULLY_CONNECTED)}, 4
    )
    blobs = [writer.table({0: ("o", writer.blob(data))} if data else {}, 3) for data in buffers]
    subgraphs, codes = writer.vector([subgraph]), writer.vector([code])
    buffer_list, text = writer.vector(blobs), builder.CreateString(name)
    model = writer.table(
        {
            0: ("U", 3),
            1: ("o", codes),
            2: ("o", subgraphs),
            3: ("o", text),
            4: ("o", buffer_list),
        },
        8,
    )
    builder.Finish(model, file_identifier=b"TFL3")
    return bytes(builder.Output())


__all__ = ["Activation", "Layer", "quantise", "write_tflite"]
