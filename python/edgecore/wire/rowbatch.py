"""Payload kind 1: canonical rows of one run, with their schema's fingerprint and their arrival.

docs/formats/envelope.md. Arrival (position, hybrid clock, clock trust) is run-length coded and
outside the digest. The row reader is independent of the core's, so that a hub or a checker can
read what a device sent with nothing but the schema that came with it.
"""

from __future__ import annotations

import struct

from edgecore.digest import blake3
from edgecore.errors import Corrupt
from edgecore.schema import Field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Protocol

    class HasFields(Protocol):
        @property
        def fields(self) -> Sequence[Field]: ...

    Arrival = tuple[int, int, int, int]  # rows, first position, HLC, clock trust

_HEAD = struct.Struct("<32sII")  # schema fingerprint, bytes of rows, arrival runs
_ARRIVAL = struct.Struct("<IQQB")
_RUN = struct.Struct("<16sIQQ32s")
_FIXED = {
    "bool": "<?", "i8": "<b", "i16": "<h", "i32": "<i", "i64": "<q", "u8": "<B", "u16": "<H",
    "u32": "<I", "u64": "<Q", "f32": "<f", "f64": "<d", "decimal": "<q",
}  # fmt: skip
_CODES = {name: struct.Struct(code) for name, code in _FIXED.items()}


def run_digest(
    store: bytes, partition: int, first: int, count: int, fingerprint: bytes, rows: bytes
) -> bytes:
    """Identity of content, the same for every coding of the same rows."""
    return blake3(_RUN.pack(store, partition, first, count, fingerprint) + rows)


class RowBatch:
    """A decoded payload: schema fingerprint, canonical rows, arrival runs."""

    __slots__ = ("arrivals", "fingerprint", "rows")

    def __init__(self, fingerprint: bytes, rows: bytes, arrivals: list[Arrival]) -> None:
        self.fingerprint = fingerprint
        self.rows = rows
        self.arrivals = arrivals

    def encode(self) -> bytes:
        return b"".join(
            [
                _HEAD.pack(self.fingerprint, len(self.rows), len(self.arrivals)),
                self.rows,
                *(_ARRIVAL.pack(*arrival) for arrival in self.arrivals),
            ]
        )

    def cut(self, bounds: list[int], start: int, stop: int) -> RowBatch:
        """Rows [start, stop) of it; `bounds` are its row boundaries (:func:`boundaries`)."""
        arrivals = []
        at = 0
        for rows, position, hlc, trust in self.arrivals:
            low, high = max(start, at), min(stop, at + rows)
            if low < high:
                arrivals.append((high - low, position + low - at, hlc, trust))
            at += rows
        return RowBatch(self.fingerprint, self.rows[bounds[start] : bounds[stop]], arrivals)


def decode(data: bytes) -> RowBatch:
    """Raises ``Corrupt`` unless lengths add up; the rows themselves are not looked at."""
    if len(data) < _HEAD.size:
        raise Corrupt("row batch: ends in its header")
    fingerprint, size, runs = _HEAD.unpack_from(data)
    at = _HEAD.size + size
    if at + runs * _ARRIVAL.size != len(data):
        raise Corrupt("row batch: lengths do not add up")
    arrivals = [_ARRIVAL.unpack_from(data, at + i * _ARRIVAL.size) for i in range(runs)]
    return RowBatch(fingerprint, data[_HEAD.size : at], arrivals)


def _text(rows: bytes, at: int) -> tuple[bytes, int]:
    size = int.from_bytes(rows[at : at + 4], "little")
    end = at + 4 + size
    if end > len(rows) or at + 4 > len(rows):
        raise Corrupt("canonical rows: a text runs past the end")
    return rows[at + 4 : end], end


def _value(field: Field, rows: bytes, at: int) -> tuple[object, int]:
    if at >= len(rows) or rows[at] > 1:
        raise Corrupt(f"canonical rows: presence of {field.name}")
    if rows[at] == 0:
        return None, at + 1
    code = _CODES.get(field.dtype)
    if code is None:
        raw, at = _text(rows, at + 1)
        return (raw if field.dtype == "bytes" else raw.decode()), at
    return code.unpack_from(rows, at + 1)[0], at + 1 + code.size


def read_rows(schema: HasFields, rows: bytes) -> Iterator[tuple[int, dict[str, object]]]:
    """(end offset, row) of each row: ``time``, ``source``, ``source_seq``, then the fields.

    Decimals are grid integers, absent values None. Raises ``Corrupt``."""
    at = 0
    try:
        while at < len(rows):
            (time,) = struct.unpack_from("<q", rows, at)
            source, at = _text(rows, at + 8)
            (source_seq,) = struct.unpack_from("<Q", rows, at)
            at += 8
            row: dict[str, object] = {
                "time": time, "source": source.decode(), "source_seq": source_seq,
            }  # fmt: skip
            for field in schema.fields:
                row[field.name], at = _value(field, rows, at)
            yield at, row
    except (struct.error, UnicodeDecodeError) as error:
        raise Corrupt(f"canonical rows: {error}") from None


def boundaries(schema: HasFields, rows: bytes, count: int) -> list[int]:
    """Offsets of the rows and of their end: count + 1 of them. Raises ``Corrupt``."""
    bounds = [0, *(end for end, _ in read_rows(schema, rows))]
    if len(bounds) != count + 1:
        raise Corrupt(f"canonical rows: {len(bounds) - 1} rows instead of {count}")
    return bounds


__all__ = ["RowBatch", "boundaries", "decode", "read_rows", "run_digest"]
