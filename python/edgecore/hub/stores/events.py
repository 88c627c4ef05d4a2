"""Event bytes: append-only pack files, and a RocksDB index of the blocks in them.

The packs are the truth: a block is written and synced there before it is indexed, and indexed
before it is acknowledged. After a crash the packs are read on from the index's mark, the tail
behind the last whole block is cut, and the index follows. Every read checks its block; a damaged
one is ``Corrupt`` and never served. A lost index is made again from the packs.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from pathlib import Path

from edgecore.digest import blake3
from edgecore.errors import Corrupt, Unavailable, from_os

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
    """Single-threaded. Nothing of :meth:`append` counts before :meth:`commit` has returned.

    Opening raises ``Unavailable`` while another process has it, ``Corrupt`` when the packs hold
    less than the index has seen. After a failed sync (``broken``) every call is ``Unavailable``
    until the store is opened again: only the disk knows what it holds."""

    def __init__(self, directory: Path) -> None:
        self._packs = directory / "packs"
        self._packs.mkdir(parents=True, exist_ok=True)
        self._index = _open_index(directory / "index")
        self._file = -1
        self._ranges: dict[tuple[bytes, int], list[tuple[int, int]]] = {}
        self._pending: list[tuple[bytes, bytes]] = []
        self.broken = False
        try:
            for key, value in self._scan(b"b"):
                _, store, partition, first = _KEY.unpack(key)
                block = Block(partition, first, value)
                self._extend((store, partition), first, block.last)
            self._recover()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
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
        path = self._pack_path(number)
        if at and (not path.exists() or path.stat().st_size < at):
            raise Corrupt(
                f"{path}: holds less than was acknowledged; restore the packs, or move "
                f"{self._packs.parent / 'index'} away to go on without what is lost"
            )
        names = [path.stem for path in self._packs.glob("*.pack")]
        start = at
        for pack in sorted(int(name) for name in names if name.isdecimal()):
            if pack >= number:
                start = at if pack == number else 0
                number, at = pack, self._read_on(pack, start)
        self._number, self._end = number, at
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._pack_path(number), flags, 0o600)
        os.ftruncate(self._file, at)
        self._write_again(start, at)
        os.fsync(self._file)
        self._sync_directory()
        self._write_index()

    def _write_again(self, start: int, end: int) -> None:
        """The bytes of [start, end), which no sync has vouched for: after one that failed, what is
        read may be in the page cache alone, and only new writes make the next sync mean them."""
        while start < end:
            part = os.pread(self._file, min(1 << 20, end - start), start)
            start += os.pwrite(self._file, part, start)

    def _read_on(self, pack: int, at: int) -> int:
        """Indexes whole blocks from `at`; returns where the last of them ends. What is damaged
        between whole blocks is passed over: it is not held, and is sent again."""
        for start, body in whole_blocks(self._pack_path(pack), at):
            self._note(pack, start + FRAME.size, body)
            at = start + FRAME.size + len(body)
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
        self._check_usable()
        if self._end >= PACK_BYTES_MAX:
            self._rotate()
        body = BLOCK_HEAD.pack(store, partition, first, count, digest) + data
        frame = FRAME.pack(MAGIC, len(body), blake3(body)[:8]) + body
        try:
            done = 0
            while done < len(frame):
                done += os.pwrite(self._file, frame[done:], self._end + done)
        except OSError as error:
            raise from_os(error, "event pack") from None
        self._note(self._number, self._end + FRAME.size, body)
        self._end += len(frame)

    def cover(self, store: bytes, partition: int, first: int, last: int) -> None:
        """Accounts for sequences that were declared burnt or lost: held, and empty."""
        self.append(store, partition, first, last - first + 1, bytes(32), b"")

    def _rotate(self) -> None:
        self.commit()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:  # the full pack stays in use until its successor is there
            opened = os.open(self._pack_path(self._number + 1), flags, 0o600)
            try:
                self._sync_directory()
            except OSError:
                os.close(opened)
                raise
        except OSError as error:
            raise from_os(error, "event pack") from None
        os.close(self._file)
        self._file, self._number, self._end = opened, self._number + 1, 0

    def _sync_directory(self) -> None:
        handle = os.open(self._packs, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def commit(self) -> None:
        """One sync for all that was appended. After a failure the store must be reopened."""
        self._check_usable()
        if not self._pending:
            return
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self.broken = True
            raise from_os(error, "event pack") from None
        self._write_index()

    def _check_usable(self) -> None:
        if self.broken:
            raise Unavailable("the event store failed to write; reopen it")

    def _write_index(self) -> None:
        from rocksdict import WriteBatch

        batch: Any = WriteBatch(raw_mode=True)
        for key, value in self._pending:
            batch.put(key, value)
        batch.put(b"m", _MARK.pack(self._number, self._end))
        try:
            self._index.write(batch)
        except Exception as error:  # the bindings know no narrower type
            self.broken = True
            raise Unavailable(f"event index: {error}") from None
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
        """The payload as it was accepted. Raises ``Corrupt`` for a block that is damaged."""
        path = self._pack_path(block.pack)
        start = block.offset - BLOCK_HEAD.size - FRAME.size
        try:
            with path.open("rb") as file:
                file.seek(start)
                body = _whole(file.read(block.offset - start + block.length), 0)
        except OSError as error:
            raise Corrupt(f"{path}: {error.strerror}; restore the packs") from None
        if body is None or len(body) != BLOCK_HEAD.size + block.length:
            raise Corrupt(
                f"{path}: the block at {start} (partition {block.partition}, sequences "
                f"{block.first} to {block.last}) is damaged; restore the packs"
            )
        return body[BLOCK_HEAD.size :]


def whole_blocks(pack: Path, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """(offset of its frame, body) of every whole block of a pack file from `at` on; what is damaged
    is passed over."""
    import mmap

    if pack.stat().st_size <= at:
        return
    with pack.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while at >= 0:
            body = _whole(data, at)
            if body is None:
                at = data.find(MAGIC, at + 1)
                continue
            yield at, body
            at += FRAME.size + len(body)


def _whole(data: Any, at: int) -> bytes | None:
    """The body of the frame at `at`; None where there is no whole one."""
    if len(data) - at < FRAME.size:
        return None
    magic, length, check = FRAME.unpack_from(data, at)
    if magic != MAGIC or not BLOCK_HEAD.size <= length <= BLOCK_BYTES_MAX:
        return None
    body = bytes(data[at + FRAME.size : at + FRAME.size + length])
    return body if len(body) == length and blake3(body)[:8] == check else None


def _open_index(path: Path) -> Any:
    from rocksdict import Options, Rdict

    try:
        return Rdict(str(path), Options(raw_mode=True))
    except Exception as error:  # the bindings know no narrower type
        if "lock" in str(error).lower():
            raise Unavailable(f"{path.parent}: another process has this hub open") from None
        raise Corrupt(f"{path}: {error}; move it away: it is made again from the packs") from None


__all__ = ["BLOCK_BYTES_MAX", "BLOCK_HEAD", "FRAME", "Block", "EventStore", "whole_blocks"]
