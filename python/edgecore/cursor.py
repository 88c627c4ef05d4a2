"""Cursors: how far a consumer of the log has come, per partition. docs/formats/cursor.md.

A cursor is a file of two slots written in turn, each checksummed, made whole when the cursor is
first used: moving it takes no space, so it works on a full disk, and a torn write costs the newer
slot only.
"""

from __future__ import annotations

import struct

from edgecore._core.base import crc32c
from edgecore.errors import EdgecoreError, Exhausted, Incompatible, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecore.fs import File, Fs

MAGIC = 0x55434345  # "ECCU"
VERSION = 1
SLOT_BYTES = 8192
_HEAD = struct.Struct("<IHHQII")  # magic, version, 0, generation, entries, CRC-32C of the rest
_ENTRY = struct.Struct("<IIQ")  # partition, 0, sequence
ENTRIES_MAX = (SLOT_BYTES - _HEAD.size) // _ENTRY.size


def encode(generation: int, acked: dict[int, int]) -> bytes:
    """One slot's used bytes."""
    body = b"".join(_ENTRY.pack(partition, 0, acked[partition]) for partition in sorted(acked))
    head = _HEAD.pack(MAGIC, VERSION, 0, generation, len(acked), 0)
    return _HEAD.pack(MAGIC, VERSION, 0, generation, len(acked), crc32c(head + body)) + body


def decode(slot: bytes) -> tuple[int, dict[int, int]] | None:
    """(generation, acked) of a slot, or None when it is not intact. Raises ``Incompatible`` for an
    intact one of another version."""
    if len(slot) < _HEAD.size:
        return None
    magic, version, zero, generation, entries, crc = _HEAD.unpack_from(slot)
    if magic != MAGIC or zero or entries > ENTRIES_MAX:
        return None
    end = _HEAD.size + entries * _ENTRY.size
    head = _HEAD.pack(magic, version, zero, generation, entries, 0)
    if len(slot) < end or crc32c(head + slot[_HEAD.size : end]) != crc:
        return None
    if version != VERSION:
        raise Incompatible(f"cursor: version {version}, known is {VERSION}")
    found = _ENTRY.iter_unpack(slot[_HEAD.size : end])
    return generation, {partition: sequence for partition, _, sequence in found}


class Cursor:
    """Acknowledged sequences by partition. Not thread-safe.

    :param resolve: (stream, position) -> sequence by partition, for :meth:`ack` by stream.
    :param moved: called when an acknowledgement has moved the cursor."""

    def __init__(
        self,
        fs: Fs,
        directory: str,
        name: str,
        read_only: bool = False,
        resolve: Callable[[str, int], dict[int, int]] | None = None,
        moved: Callable[[], None] | None = None,
    ) -> None:
        if not name.isidentifier():
            raise Invalid(f"cursor {name!r}: letters, digits and _ only")
        self._resolve = resolve
        self._moved = moved
        self._generation = 0
        self._acked: dict[int, int] = {}
        self._file: File | None = None
        self._fs = fs
        self._path = path = f"{directory}/cursor-{name}"
        self._open = not read_only
        data = b""
        if fs.exists(path):
            with fs.open(path, "read") as file:
                data = file.read_at(0, 2 * SLOT_BYTES)
        whole = data.ljust(2 * SLOT_BYTES, b"\0")
        for at in (0, SLOT_BYTES):
            found = decode(whole[at : at + SLOT_BYTES])
            if found and found[0] > self._generation:
                self._generation, self._acked = found
        # Also a whole file without a slot: the sync of its size may have failed, and then it may
        # never become durable.
        if self._open and (self._generation == 0 or len(data) < len(whole)):
            fs.write_atomic(path, whole)

    def acked(self, partition: int) -> int:
        """The highest sequence acknowledged; 0 when there is none."""
        return self._acked.get(partition, 0)

    def ack(self, what: int | str, upto: int) -> None:
        """Acknowledges a partition up to sequence `upto`, or all partitions of a stream up to
        position `upto`. Durable when it returns; never moves back. Raises ``Unavailable`` on a
        disk error; needs no free space."""
        if not self._open:
            raise Invalid("the cursor is open for reading, or closed")
        if isinstance(what, int):
            moved = {what: upto}
        elif self._resolve is not None:
            moved = self._resolve(what, upto)
        else:
            raise Invalid(f"cursor: stream {what!r} without a log; give a partition")
        ahead = {p: sequence for p, sequence in moved.items() if sequence > self.acked(p)}
        if not ahead:
            return
        acked = {**self._acked, **ahead}
        if len(acked) > ENTRIES_MAX:
            raise Exhausted(f"a cursor holds at most {ENTRIES_MAX} partitions")
        self._write(encode(self._generation + 1, acked), (self._generation + 1) % 2 * SLOT_BYTES)
        self._generation += 1
        self._acked = acked
        if self._moved is not None:
            self._moved()

    def _write(self, slot: bytes, at: int) -> None:
        """A descriptor with an error is left: its next sync would not speak of this write."""
        if self._file is None:
            self._file = self._fs.open(self._path, "read_write")
        try:
            self._file.write_at(at, slot)
            self._file.sync()
        except EdgecoreError:
            self._file.close()
            self._file = None
            raise

    def close(self) -> None:
        self._open = False
        if self._file is not None:
            self._file.close()
            self._file = None


__all__ = ["Cursor", "decode", "encode"]
