"""A reader of column blocks in the fast coding with code of its own: what
docs/formats/column-block.md says, as plainly as it can be said. Trusts its input."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, ClassVar

HEAD = struct.Struct("<4sHBBII16sIQII32s32sHII")
MASK = (1 << 64) - 1


def signed(value: int) -> int:
    value &= MASK
    return value - (1 << 64) if value >> 63 else value


OPERATIONS = ("constant", "packed", "delta", "runs", "sparse", "scaled")


class Reader:
    """A cursor over one column. ``seen`` gathers the operations that were met."""

    seen: ClassVar[set[str]] = set()

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def zigzag(self) -> int:
        raw = self.varint()
        return (raw >> 1) ^ -(raw & 1)

    def stream(self, count: int) -> list[int]:
        if count == 0:
            return []
        name = OPERATIONS[self.take(1)[0]]
        self.seen.add(name)
        values: list[int] = getattr(self, name)(count)
        return values

    def constant(self, count: int) -> list[int]:
        return [self.zigzag()] * count

    def packed(self, count: int) -> list[int]:
        frame = 1 << self.take(1)[0]
        out: list[int] = []
        base = 0
        while len(out) < count:
            size = min(frame, count - len(out))
            base = signed(base + self.zigzag())
            width = self.take(1)[0]
            bits = int.from_bytes(self.take((size * width + 7) // 8), "little")
            for i in range(size):
                out.append(signed(base + ((bits >> (i * width)) & ((1 << width) - 1))))
        return out

    def delta(self, count: int) -> list[int]:
        out = [self.zigzag()]
        for step in self.stream(count - 1):
            out.append(signed(out[-1] + step))
        return out

    def runs(self, count: int) -> list[int]:
        number = self.varint()
        heads, lengths = self.stream(number), self.stream(number)
        out = [v for v, n in zip(heads, lengths, strict=True) for _ in range(n)]
        assert len(out) == count
        return out

    def sparse(self, count: int) -> list[int]:
        usual, number = self.zigzag(), self.varint()
        gaps, others = self.stream(number), self.stream(number)
        return spread([usual] * count, gaps, others)

    def scaled(self, count: int) -> list[int]:
        base, step = self.zigzag(), self.varint()
        return [signed(base + step * value) for value in self.stream(count)]


def spread(out: list[int], gaps: Sequence[int], others: Sequence[int]) -> list[int]:
    at = 0
    for gap, other in zip(gaps, others, strict=True):
        out[at + gap] = other
        at += gap + 1
    return out


def numbers(reader: Reader, dtype: str, count: int) -> list[bytes]:
    """The values' own bytes (canonical rows)."""
    code = {"i8": "b", "i16": "h", "i32": "i", "i64": "q", "decimal": "q", "u8": "B", "u16": "H",
            "u32": "I", "u64": "Q", "bool": "B"}.get(dtype)  # fmt: skip
    kind = reader.varint()
    if code is not None:
        assert kind == 0
        unsigned = code.isupper()
        return [struct.pack("<" + code, v & MASK if unsigned else v) for v in reader.stream(count)]
    size, real, whole = (4, "<f", "<I") if dtype == "f32" else (8, "<d", "<Q")
    if kind == 2:
        return [(v & MASK).to_bytes(size, "little") for v in reader.stream(count)]
    assert kind == 1
    scale = reader.varint()
    integers, ulps = reader.stream(count), reader.stream(count)
    patches = reader.varint()
    gaps, raw = reader.stream(patches), reader.stream(patches)
    bits = []
    for integer, ulp in zip(integers, ulps, strict=True):
        near = struct.unpack(whole, struct.pack(real, integer / 10**scale))[0]
        bits.append(near + ulp)
    return [(v & MASK).to_bytes(size, "little") for v in spread(bits, gaps, raw)]


def texts(reader: Reader, count: int) -> list[bytes]:
    return [reader.take(length) for length in reader.stream(count)]


def variable(reader: Reader, count: int) -> tuple[list[bytes], list[int] | None]:
    kind = reader.varint()
    if kind == 4:
        return texts(reader, count), None
    assert kind == 3
    entries = texts(reader, reader.varint())
    indices = reader.stream(count)
    return [entries[i] for i in indices], [*indices, len(entries)]


def blob(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


class Block:
    """``rows``: canonical rows; ``arrivals``: (rows, position, HLC, clock trust)."""

    def __init__(self, data: bytes, fields: list[Any]) -> None:
        (magic, version, coding, _, required, _, self.store, self.partition, self.first,
         self.count, row_bytes, self.schema, self.digest, columns, body, self.checksum,
         ) = HEAD.unpack_from(data)  # fmt: skip
        assert (magic, version, coding) == (b"ECCB", 1, 1)
        assert required in (0, 1)
        assert body == len(data) - HEAD.size
        assert columns == 4 + len(fields)
        self.fields = fields
        reader = Reader(data[HEAD.size :])
        self.max_errors: dict[int, float] = {}
        if required == 1:
            (count,) = struct.unpack("<H", reader.take(2))
            self.max_errors = dict(struct.iter_unpack("<Hd", reader.take(10 * count)))
        directory = [(reader.take(1)[0], reader.varint()) for _ in range(columns)]
        self.columns = [(flags, reader.take(length)) for flags, length in directory]
        self.arrivals = self.read_arrivals(Reader(self.columns[3][1]))
        times = self.column(0, "i64")
        sources = self.column(1, "utf8")
        sequences = self.column(2, "u64")
        values = [self.column(4 + i, field.dtype) for i, field in enumerate(fields)]
        rows = []
        for i in range(self.count):
            rows += [times[i], sources[i], sequences[i]]
            for column in values:
                value = column[i]
                rows += [b"\0"] if value is None else [b"\1", value]
        self.rows = b"".join(part for part in rows if part is not None)
        assert len(self.rows) == row_bytes

    def read_arrivals(self, reader: Reader) -> list[tuple[int, int, int, int]]:
        count = reader.varint()
        rows, steps, clocks, trusts = (reader.stream(count) for _ in range(4))
        out, expected = [], 0
        for size, step, clock, trust in zip(rows, steps, clocks, trusts, strict=True):
            position = (expected + step) & MASK
            out.append((size, position, clock & MASK, trust))
            expected = position + size
        return out

    def presence(self, reader: Reader, flags: int) -> list[int]:
        return reader.stream(self.count) if flags & 1 else [1] * self.count

    def groups(self, field: int) -> list[int]:
        flags, data = self.columns[4 + field]
        reader = Reader(data)
        present = self.presence(reader, flags)
        _, indices = variable(reader, sum(present))
        assert indices is not None
        null = indices.pop()
        found = iter(indices)
        return [next(found) if here else null for here in present]

    def column(self, index: int, dtype: str) -> list[bytes | None]:
        flags, data = self.columns[index]
        reader = Reader(data)
        of_row = self.groups(reader.varint()) if flags & 2 else [0] * self.count
        present = self.presence(reader, flags)
        out: list[bytes | None] = [None] * self.count
        for group in sorted(set(of_row)):
            rows = [i for i in range(self.count) if present[i] and of_row[i] == group]
            if not rows and flags & 2:
                continue
            if dtype in ("category", "utf8", "bytes"):
                found = [blob(text) for text in variable(reader, len(rows))[0]]
            else:
                found = numbers(reader, dtype, len(rows))
            for row, value in zip(rows, found, strict=True):
                out[row] = value
        assert reader.at == len(data)
        return out
