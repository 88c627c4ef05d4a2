"""Any graph as a ``.tflite`` file, for tests: what a runtime is asked, operator by operator."""

from __future__ import annotations

import struct
from typing import Any

import flatbuffers

FLOAT32, INT32, INT64, INT8 = 0, 2, 4, 9

# Operator codes of the public schema, each with the member of the options union that it takes.
CODES = {
    "ADD": (0, 11), "AVERAGE_POOL_2D": (1, 5), "CONCATENATION": (2, 10), "CONV_2D": (3, 1),
    "DEPTHWISE_CONV_2D": (4, 2), "DEQUANTIZE": (6, 38), "FULLY_CONNECTED": (9, 8),
    "LOGISTIC": (14, 0), "MAX_POOL_2D": (17, 5), "MUL": (18, 21), "RELU": (19, 0),
    "RELU_N1_TO_1": (20, 0), "RELU6": (21, 0), "RESHAPE": (22, 17), "SOFTMAX": (25, 9),
    "TANH": (28, 0), "PAD": (34, 22), "MEAN": (40, 27), "LEAKY_RELU": (98, 75),
    "QUANTIZE": (114, 89), "TRANSPOSE": (39, 26),
}  # fmt: skip
VERSIONS = {
    "ADD": 2, "AVERAGE_POOL_2D": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2, "FULLY_CONNECTED": 4, "LOGISTIC": 2, "MAX_POOL_2D": 2, "MUL": 2, "RELU": 2,
    "RELU6": 2, "SOFTMAX": 2, "TANH": 2, "PAD": 2, "MEAN": 2, "LEAKY_RELU": 2, "QUANTIZE": 2,
}  # fmt: skip
SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)


class Graph:
    """Tensors and operators in the order in which they are added; `build` gives the file.

    Options are {field number: value}; a float is an f32, a bool a byte, an int an int32."""

    def __init__(self) -> None:
        self._tensors: list[dict[str, Any]] = []
        self._operators: list[tuple[str, list[int], list[int], dict[int, Any], int]] = []
        self._buffers: list[bytes] = [b""]

    def tensor(
        self, shape: list[int], kind: int = INT8, *, scale: float | list[float] | None = None,
        zero: int = 0, axis: int = 0, data: bytes = b"", any_batch: bool = False,
    ) -> int:  # fmt: skip
        scales = [] if scale is None else scale if isinstance(scale, list) else [scale]
        if data:
            self._buffers.append(data)
        self._tensors.append(
            {"shape": shape, "kind": kind, "scales": scales, "zeros": [zero] * len(scales),
             "axis": axis, "buffer": len(self._buffers) - 1 if data else 0,
             "signature": [-1, *shape[1:]] if any_batch else []}
        )  # fmt: skip
        return len(self._tensors) - 1

    def add(
        self, name: str, inputs: list[int], output: int, options: dict[int, Any] | None = None,
        version: int | None = None,
    ) -> int:  # fmt: skip
        version = VERSIONS.get(name, 1) if version is None else version
        self._operators.append((name, inputs, [output], options or {}, version))
        return output

    def build(self, source: int, target: int) -> bytes:
        builder = flatbuffers.Builder(1024)
        codes = sorted({(name, version) for name, _, _, _, version in self._operators})
        subgraph = _table(builder, {
            0: _vector(builder, [_tensor(builder, one) for one in self._tensors]),
            1: _numbers(builder, "i", [source]),
            2: _numbers(builder, "i", [target]),
            3: _vector(builder, [_operator(builder, one, codes) for one in self._operators]),
        })  # fmt: skip
        model = _table(builder, {
            0: 3,
            1: _vector(builder, [_code(builder, *one) for one in codes]),
            2: _vector(builder, [subgraph]),
            4: _vector(builder, [
                _table(builder, {0: _blob(builder, data)} if data else {})
                for data in self._buffers
            ]),
        })  # fmt: skip
        builder.Finish(model, file_identifier=b"TFL3")
        return bytes(builder.Output())


class _Offset(int):
    pass


def _table(builder: Any, fields: dict[int, Any]) -> _Offset:
    builder.StartObject(max(fields, default=0) + 1)
    for number, value in sorted(fields.items(), reverse=True):
        if isinstance(value, _Offset):
            builder.PrependUOffsetTRelativeSlot(number, value, 0)
        elif isinstance(value, bool):
            builder.PrependBoolSlot(number, value, None)
        elif isinstance(value, float):
            builder.PrependFloat32Slot(number, value, None)
        elif isinstance(value, bytes):  # one byte
            builder.PrependUint8Slot(number, value[0], None)
        else:
            builder.PrependInt32Slot(number, value, None)
    return _Offset(builder.EndObject())


def _vector(builder: Any, offsets: list[_Offset]) -> _Offset:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return _Offset(builder.EndVector())


def _blob(builder: Any, data: bytes) -> _Offset:
    builder.StartVector(1, len(data), 16)
    builder.head = builder.head - len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return _Offset(builder.EndVector())


def _numbers(builder: Any, kind: str, values: list[Any]) -> _Offset:
    size = struct.calcsize(kind)
    data = struct.pack(f"<{len(values)}{kind}", *values)
    builder.StartVector(size, len(values), size)
    builder.head = builder.head - len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return _Offset(builder.EndVector())


def _tensor(builder: Any, one: dict[str, Any]) -> _Offset:
    fields = {0: _numbers(builder, "i", one["shape"]), 1: bytes([one["kind"]]), 2: one["buffer"]}
    if one["scales"]:
        fields[4] = _table(builder, {
            2: _numbers(builder, "f", one["scales"]),
            3: _numbers(builder, "q", one["zeros"]),
            6: one["axis"],
        })  # fmt: skip
    if one["signature"]:
        fields[7] = _numbers(builder, "i", one["signature"])
    return _table(builder, fields)


def _operator(builder: Any, one: Any, codes: list[tuple[str, int]]) -> _Offset:
    name, inputs, outputs, options, version = one
    member = CODES[name][1]
    fields: dict[int, Any] = {
        0: codes.index((name, version)),
        1: _numbers(builder, "i", inputs),
        2: _numbers(builder, "i", outputs),
    }
    if member:
        fields |= {3: bytes([member]), 4: _table(builder, options)}
    return _table(builder, fields)


def _code(builder: Any, name: str, version: int) -> _Offset:
    code = CODES[name][0]
    return _table(builder, {0: bytes([code]), 2: version, 3: code})
