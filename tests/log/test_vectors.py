"""The golden vectors of docs/formats, read by a reader of its own: what the pages say, in Python.
The core reads the same in cpp/tests/log/vectors_test.cpp."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import edgecore as ec
from edgecore import cursor
from edgecore._core.base import crc32c
from edgecore._core.rows import Batch
from edgecore.digest import blake3
from edgecore.fs import MemoryFs
from edgecore.log import Log
from edgecore.wire import export, rowbatch

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"


def lines(name: str) -> list[tuple[str, str]]:
    text = (VECTORS / name).read_text().splitlines()
    return [(w, r) for w, _, r in (line.partition(" ") for line in text if line[0] != "#")]


def values(name: str, word: str) -> list[str]:
    return [rest for first, rest in lines(name) if first == word]


def test_vectors_canonical_rows_are_read_and_written() -> None:
    name = "canonical-rows.txt"
    one = dict(lines(name))
    schema = ec.Schema.from_bytes(bytes.fromhex(one["schema"]))
    data = bytes.fromhex(one["bytes"])
    assert schema.fingerprint.hex() == one["fingerprint"] == blake3(schema.canonical_bytes).hex()
    read = [row for _, row in rowbatch.read_rows(schema, data)]
    cells = [row.split("\t") for row in values(name, "row")]
    assert len(read) == len(cells)
    for row, (time, source, source_seq, *texts) in zip(read, cells, strict=True):
        assert (row["time"], row["source"], row["source_seq"]) == (
            int(time), source, int(source_seq),
        )  # fmt: skip
        for field, text in zip(schema.fields, texts, strict=True):
            check_cell(field, text, row[field.name])
    assert one["digest"] == rowbatch.run_digest(
        bytes.fromhex(one["store"]), int(one["partition"]), int(one["first"]), len(read),
        schema.fingerprint, data,
    ).hex()  # fmt: skip
    with Log.open("log", schemas=[schema], flusher="manual", fs=MemoryFs()) as log:
        batch = Batch(schema)
        for time, source, source_seq, *texts in cells:
            batch.append_text(texts, int(time), source, int(source_seq))
        done = log.append("vector", batch)
        log.sync()
        assert log.runs(done.partition, 0, 1 << 20)[0].payload == data


def check_cell(field: ec.Field, text: str, value: object) -> None:
    if not text:
        assert value is None
    elif field.dtype == "bool":
        assert value is (text == "true")
    elif field.dtype == "decimal":
        assert isinstance(value, int)
        assert float(export.decimal_text(value, field.scale)) == float(text)
    elif field.dtype in ("f32", "f64"):
        assert repr(value) == repr(float(text))
    elif field.dtype == "bytes":
        assert value == text.encode()
    else:
        assert str(value) == text


# ---------------------------------------------------------------- docs/formats/segment.md

_HEADER = struct.Struct("<IHHII16sQII16sQQQQQQ")
_BLOCK = struct.Struct("<IIIHHQQIIQQqQQ")
_ENTRY = struct.Struct("<QQQ")
_RECORD = struct.Struct("<IIQIIII")


class Segment:
    def __init__(self, data: bytes) -> None:
        self.data = data
        copies = [data[:2048], data[2048:4096]]
        for copy in copies:
            assert crc32c(copy[:132]) == int.from_bytes(copy[132:136], "little")
        assert copies[0] == copies[1]
        (magic, version, cipher, required, _, self.store, self.epoch, _, self.sector, _,
         self.number, salt, self.base, self.previous, self.previous_end, self.capacity,
        ) = _HEADER.unpack_from(data)  # fmt: skip
        assert (magic, version, cipher, required) == (0x4C574345, 1, 0, 0)
        self.seed = crc32c(salt.to_bytes(8, "little"))

    def blocks(self, end: int) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...]], bytes]]:
        at = max(4096, self.sector)
        while at < end:
            head = _BLOCK.unpack_from(self.data, at)
            magic, crc, length, entries = head[:4]
            if magic != 0x42434345:
                return
            start = at + _BLOCK.size
            stop = start + entries * _ENTRY.size
            assert crc32c(self.data[at + 8 : stop], self.seed) == crc
            table = [_ENTRY.unpack_from(self.data, p) for p in range(start, stop, _ENTRY.size)]
            yield head, table, self.data[stop : at + length]
            at += -(-length // self.sector) * self.sector


def read_segment(segment: Segment, end: int) -> tuple[list[str], list[str]]:
    records, burnt = [], []
    for head, table, body in segment.blocks(end):
        _, _, _, _, flags, epoch, position, _, count, _, hlc, _, trust, _ = head
        assert epoch == segment.epoch
        at = 0
        for _ in range(count):
            crc, partition, first, schema, rows_here, length, _ = _RECORD.unpack_from(body, at)
            payload = body[at + _RECORD.size : at + _RECORD.size + length]
            assert crc32c(body[at + 4 : at + _RECORD.size] + payload, segment.seed) == crc
            records.append(
                f"{partition} {first} {rows_here} {schema} {position} {hlc} {trust} {payload.hex()}"
            )
            position += rows_here
            at += _RECORD.size + length
        if flags & 4:
            for (partition, next_, through), (after, _, _) in itertools.pairwise(table):
                if partition == after:
                    burnt.append(f"{partition} {next_} {through}")
    return records, burnt


def test_vectors_segments_are_read_by_the_page_alone() -> None:
    name = "segment.txt"
    files = [bytes.fromhex(text).ljust(32768, b"\0") for text in values(name, "file")]
    segments = [Segment(data) for data in files]
    assert [segment.store.hex() for segment in segments] == values(name, "store") * 2
    assert segments[1].previous == segments[0].number
    found = [
        read_segment(segments[0], segments[1].previous_end),
        read_segment(segments[1], len(files[1])),
    ]
    assert [record for records, _ in found for record in records] == values(name, "record")
    assert [item for _, burnt in found for item in burnt] == values(name, "burnt")


def test_vectors_cursor_slot_is_read_and_written() -> None:
    one = dict(lines("log-side-files.txt"))
    acked = {int(p): int(s) for p, s in map(str.split, values("log-side-files.txt", "acked"))}
    slot = bytes.fromhex(one["cursor"])
    assert cursor.decode(slot) == (int(one["generation"]), acked)
    assert cursor.encode(int(one["generation"]), acked) == slot


def test_vectors_catalogue_and_mark_checksums() -> None:
    one = dict(lines("log-side-files.txt"))
    data = bytes.fromhex(one["catalogue"])
    assert crc32c(data[:-4]) == int.from_bytes(data[-4:], "little")
    for text in values("log-side-files.txt", "mark"):
        slot = bytes.fromhex(text).ljust(44, b"\0")
        assert crc32c(slot[:40]) == int.from_bytes(slot[40:44], "little")


def test_vectors_pack_is_as_its_page_says() -> None:
    data = bytes.fromhex(dict(lines("pack.txt"))["pack"])
    (length,) = struct.unpack_from("<I", data, len(data) - 8)
    assert data[-4:] == b"ECPE"
    index = data[:length]
    assert data[-8 - length : -8] == index
    assert crc32c(index[:-4]) == int.from_bytes(index[-4:], "little")
    magic, version, tier = struct.unpack_from("<4sHH", index)
    assert (magic, version, tier) == (b"ECPK", 1, 4)
    number, base, end, blocks, ranges, gaps = struct.unpack_from("<QQQIII", index, 64)
    assert (number, base, end, blocks, ranges, gaps) == (5, 1000, 1 << 33, 2, 2, 1)
    found = list(struct.iter_unpack("<IIQIIIQQQQqq", index[104 : 104 + 76 * blocks]))
    assert [data[b[4] : b[4] + b[5]] for b in found] == [bytes(range(1, 8)), bytes(range(200, 205))]
    at = 104 + 76 * blocks
    assert list(struct.iter_unpack("<IQQ", index[at : at + 20 * ranges])) == [
        (1, 55, 60),
        (3, 1, 3),
    ]
    assert struct.unpack_from("<IQQI", index, at + 20 * ranges) == (1, 58, 59, 1)
    assert len(index) == at + 20 * ranges + 24 * gaps + 4


def test_vectors_block_of_rows_is_as_its_page_says() -> None:
    data = bytes.fromhex(dict(lines("pack.txt"))["rows-block"])
    assert struct.unpack_from("<4sHHIQII", data) == (b"ECRW", 1, 0, 7, 41, 5, 2)
    records = list(struct.iter_unpack("<IIQQB", data[28:78]))
    assert records == [(2, 10, 100, 9000, 0), (3, 4, 107, 9500, 1)]
    assert data[78:-4] == bytes(range(14))
    assert struct.unpack("<I", data[-4:])[0] == crc32c(data[:-4])
