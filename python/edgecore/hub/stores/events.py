"""Event bytes: append-only pack files, and a RocksDB index of the blocks in them.

The packs are the truth: a block is written and synced there before it is indexed, and indexed
before it is acknowledged. After a crash the packs are read on from the index's mark, the tail
behind the last whole block is cut, and the index follows.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from pathlib import Path

from edgecore.digest import blake3
from edgecore.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PACK_BYTES_MAX = 256 << 20
BLOCK_BYTES_MAX = 2 << 20
FRAME = struct.Struct("<4sI8s")  # magic, length of the body, first bytes of its BLAKE3
BLOCK_HEAD = struct.Struct("<16sIQQ32s")  # store, partition, first, count, run digest
_KEY = struct.Struct(">c16sIQ")
_VALUE = struct.Struct("<IQIQ32s")  # pack, offset of the payload, length, count, run digest
_MARK = struct.Struct("<IQ")
MAGIC = b"ECPK"


class Block:
    """A stored run: where its payload lies."""

    __slots__ = ("count", "digest", "first", "length", "offset", "pack", "partition")

    def __init__(self, partition: int, first: int, value: bytes) -> None:
        self.partition = partition
        self.first = first
        self.pack, self.offset, self.length, self.count, self.digest = _VALUE.unpack(value)

    @property
    def last(self) -> int:
        return int(self.first + self.count - 1)

    @property
    def tombstone(self) -> bool:
        """Whether it stands for sequences that hold nothing."""
        return bool(self.length == 0)


class EventStore:
    """Single-threaded. Nothing of :meth:`append` counts before :meth:`commit` has returned."""

    def __init__(self, directory: Path) -> None:
        from rocksdict import Options, Rdict

        self._packs = directory / "packs"
        self._packs.mkdir(parents=True, exist_ok=True)
        self._index: Any = Rdict(str(directory / "index"), Options(raw_mode=True))
        self._ranges: dict[tuple[bytes, int], list[tuple[int, int]]] = {}
        self._pending: list[tuple[bytes, bytes]] = []
        self._broken = False
        for key, value in self._scan(b"b"):
            _, store, partition, first = _KEY.unpack(key)
            block = Block(partition, first, value)
            self._extend((store, partition), first, block.last)
        self._recover()

    def close(self) -> None:
        os.close(self._file)
        self._index.close()

    def _scan(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._index.items(from_key=start):
            if key[:1] != start[:1]:
                return
            yield key, value

    def _pack_path(self, number: int) -> Path:
        return self._packs / f"{number:08}.pack"

    def _recover(self) -> None:
        mark = self._index.get(b"m")
        number, at = _MARK.unpack(mark) if mark else (1, 0)
        numbers = [int(path.stem) for path in self._packs.glob("*.pack")]
        for pack in sorted(pack for pack in numbers if pack >= number):
            start = at if pack == number else 0
            number, at = pack, self._read_on(pack, start)
        self._number, self._end = number, at
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._pack_path(number), flags, 0o600)
        os.ftruncate(self._file, at)
        os.fsync(self._file)
        self._sync_directory()
        self._write_index()

    def _read_on(self, pack: int, at: int) -> int:
        """Indexes whole blocks from `at`; returns where the last of them ends."""
        with self._pack_path(pack).open("rb") as file:
            file.seek(at)
            while len(head := file.read(FRAME.size)) == FRAME.size:
                magic, length, check = FRAME.unpack(head)
                if magic != MAGIC or not BLOCK_HEAD.size <= length <= BLOCK_BYTES_MAX:
                    break
                body = file.read(length)
                if len(body) != length or blake3(body)[:8] != check:
                    break
                self._note(pack, at + FRAME.size, body)
                at += FRAME.size + length
        return at

    def _note(self, pack: int, at: int, body: bytes) -> None:
        store, partition, first, count, digest = BLOCK_HEAD.unpack_from(body)
        size = len(body) - BLOCK_HEAD.size
        value = _VALUE.pack(pack, at + BLOCK_HEAD.size, size, count, digest)
        self._pending.append((_KEY.pack(b"b", store, partition, first), value))
        self._extend((store, partition), first, first + count - 1)

    def _extend(self, where: tuple[bytes, int], first: int, last: int) -> None:
        ranges = self._ranges.setdefault(where, [])
        low = bisect_right(ranges, (first, last))
        if low and ranges[low - 1][1] >= first - 1:
            low -= 1
            first = ranges[low][0]
            last = max(last, ranges[low][1])
        high = low
        while high < len(ranges) and ranges[high][0] <= last + 1:
            last = max(last, ranges[high][1])
            high += 1
        ranges[low:high] = [(first, last)]

    def append(
        self, store: bytes, partition: int, first: int, count: int, digest: bytes, data: bytes
    ) -> None:
        """Writes one block of rows that are not stored yet. Durable after :meth:`commit`."""
        if self._broken:
            raise Unavailable("the event store failed to write; reopen it")
        if self._end >= PACK_BYTES_MAX:
            self._rotate()
        body = BLOCK_HEAD.pack(store, partition, first, count, digest) + data
        frame = FRAME.pack(MAGIC, len(body), blake3(body)[:8]) + body
        try:
            done = 0
            while done < len(frame):
                done += os.pwrite(self._file, frame[done:], self._end + done)
        except OSError as error:
            raise Unavailable(f"event pack: {error.strerror}") from None
        self._note(self._number, self._end + FRAME.size, body)
        self._end += len(frame)

    def cover(self, store: bytes, partition: int, first: int, last: int) -> None:
        """Accounts for sequences that were declared burnt or lost: held, and empty."""
        self.append(store, partition, first, last - first + 1, bytes(32), b"")

    def _rotate(self) -> None:
        self.commit()
        os.close(self._file)
        self._number, self._end = self._number + 1, 0
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._pack_path(self._number), flags, 0o600)
        self._sync_directory()

    def _sync_directory(self) -> None:
        handle = os.open(self._packs, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def commit(self) -> None:
        """One sync for all that was appended. After a failure the store must be reopened."""
        if not self._pending:
            return
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self._broken = True
            raise Unavailable(f"event pack: {error.strerror}") from None
        self._write_index()

    def _write_index(self) -> None:
        from rocksdict import WriteBatch

        batch: Any = WriteBatch(raw_mode=True)
        for key, value in self._pending:
            batch.put(key, value)
        batch.put(b"m", _MARK.pack(self._number, self._end))
        self._index.write(batch)
        self._pending.clear()

    def ranges(self, store: bytes) -> dict[int, list[tuple[int, int]]]:
        """What is held, appended blocks included: partition -> inclusive ranges."""
        return {
            partition: list(ranges)
            for (owner, partition), ranges in self._ranges.items()
            if owner == store
        }

    def held(self, store: bytes, partition: int) -> list[tuple[int, int]]:
        return self._ranges.get((store, partition), [])

    def stores(self) -> list[bytes]:
        return sorted({store for store, _ in self._ranges})

    def blocks(self, store: bytes, partition: int, first: int = 1) -> Iterator[Block]:
        """Committed blocks that end at `first` or later, by sequence."""
        self.commit()
        start = _KEY.pack(b"b", store, partition, 0)
        at = self._index.iter()
        at.seek_for_prev(_KEY.pack(b"b", store, partition, first))
        if not at.valid() or not at.key().startswith(start[:21]):
            at.seek(start)
        while at.valid() and (key := at.key()).startswith(start[:21]):
            block = Block(partition, _KEY.unpack(key)[3], at.value())
            if block.last >= first:
                yield block
            at.next()

    def read(self, block: Block) -> bytes:
        """The payload as it was accepted."""
        with self._pack_path(block.pack).open("rb") as file:
            file.seek(block.offset)
            return file.read(block.length)


__all__ = ["BLOCK_BYTES_MAX", "BLOCK_HEAD", "FRAME", "MAGIC", "Block", "EventStore"]
