"""The encrypted log from Python: the `cryptography` package behind the core's seam, threads, what
an operator is told, and vectors read by what the pages say."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import aead

import edgecore as ec
from edgecore._core.base import crc32c
from edgecore.cli import main
from edgecore.clock import ManualClock
from edgecore.columns import Block
from edgecore.digest import blake3
from edgecore.errors import EdgecoreError, Invalid, Stale, Unavailable, Untrusted
from edgecore.fs import MemoryFs, PosixFs
from edgecore.log import Log
from edgecore.log_keeping import DAY_NS
from edgecore.trust.at_rest import AES_256_GCM, CHACHA20_POLY1305, Cipher, device_key_file

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"
NOTE = ec.Schema(
    "note", tier="bulk", fields=[ec.Field("x", "i64", required=True), ec.Field("text", "utf8")]
)
ALARM = ec.Schema("alarm", tier="critical", fields=[ec.Field("code", "u8", required=True)])


def entropy_of(seed: int) -> Callable[[int], bytes]:
    count = iter(range(1 << 30))
    return lambda size: hashlib.shake_128(b"%d/%d" % (seed, next(count))).digest(size)


def cipher_of(device: int = 1, cipher: int = CHACHA20_POLY1305, seed: int = 1) -> Cipher:
    return Cipher(bytes([device]) * 32, entropy=entropy_of(seed), cipher=cipher)


def open_log(fs: MemoryFs | None, cipher: object, path: str = "log", **options: object) -> Log:
    settings: dict[str, object] = {"flusher": "manual", "segment_bytes": 1 << 16, **options}
    if not settings.get("read_only"):
        settings["schemas"] = [NOTE, ALARM]
    settings.setdefault("fs", fs or PosixFs())
    return Log.open(path, cipher=cipher, **settings)  # type: ignore[arg-type]


def texts(log: Log) -> list[object]:
    return [row["text"] for scanned in log.scan("note") for row in scanned]


def test_encrypted_log_rows_come_back_and_the_disk_has_none_in_the_clear(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with open_log(None, cipher_of(), path) as log:
        for i in range(300):
            log.append("note", {"x": i, "text": f"secret {i}"})
            if i % 20 == 0:
                log.append("alarm", {"code": i % 200})
        log.core.flush()
    data = [file.read_bytes() for file in (tmp_path / "log").glob("wal-*")]
    assert data
    assert not any(b"secret" in one for one in data)
    with open_log(None, cipher_of(seed=2), path, read_only=True) as log:
        assert texts(log) == [f"secret {i}" for i in range(300)]
        assert log.verify()[3:] == ([], (0, 0))
    assert (tmp_path / "log" / "keys").stat().st_mode & 0o777 == 0o600


def test_encrypted_log_of_both_ciphers_is_read_by_either() -> None:
    fs = MemoryFs()
    for seed, cipher in enumerate((CHACHA20_POLY1305, AES_256_GCM, CHACHA20_POLY1305), 1):
        with open_log(fs, cipher_of(cipher=cipher, seed=seed)) as log:
            log.append("note", {"x": seed, "text": str(cipher)})
    with open_log(fs, cipher_of(cipher=AES_256_GCM, seed=9), read_only=True) as log:
        assert texts(log) == ["1", "2", "1"]
        assert {number for _, number, _ in log.core.encryption()[0]} == {1, 2}


def test_encrypted_log_is_sealed_into_packs_that_tell_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log(None, cipher_of(), str(path)) as log:
        for i in range(3000):
            log.append("note", {"x": i, "text": f"secret {i}" * 5})
            if i % 50 == 0:
                log.core.flush()
        assert log.seal() > 1000
        assert texts(log) == [f"secret {i}" * 5 for i in range(3000)]
        packs = [file.read_bytes() for file in path.glob("pack-*")]
        assert packs
        assert not any(b"secret" in data for data in packs)
        assert log.encryption().keys > log.encryption().segments
    with open_log(None, cipher_of(seed=2), str(path), read_only=True) as log:
        assert texts(log) == [f"secret {i}" * 5 for i in range(3000)]
        assert log.verify()[3:] == ([], (0, 0))
    with open_log(None, None, str(path), read_only=True) as log:
        assert log.verify()[4] == (log.position, 0)


def test_encrypted_log_purges_a_tier_up_to_a_day_and_says_what_went() -> None:
    fs, clock = MemoryFs(), ManualClock(20_000 * DAY_NS + 5)
    with open_log(fs, cipher_of(), clock=clock) as log:
        for day in range(4):
            for i in range(40):
                log.append("note", {"x": day * 100 + i, "text": f"day {day}"})
                log.append("alarm", {"code": i})
            log.sync()
            clock.advance(DAY_NS)
        assert log.purge("bulk", before_ns=20_000 * DAY_NS) == 0
        assert log.purge("bulk", before_ns=20_002 * DAY_NS + 7) == 80
        for blocks in (False, True):
            assert set(texts(log)) == {"day 2", "day 3"}
            runs = log.runs(partition_of(log, "note"), 0, 1 << 20, blocks=blocks)
            assert (runs[0].first, sum(run.count for run in runs)) == (81, 80)
            cleartext = [Block(run.block) for run in runs if run.block]
            assert [block.first for block in cleartext] == ([81, 121] if blocks else [])
            assert len(log.columns("note", "x")["x"]) == 80
            assert log.verify()[3] == [(partition_of(log, "note"), 1, 80, "purged")]
            assert sum(len(scanned) for scanned in log.scan("alarm")) == 160
        told = [row for scanned in log.scan("edgecore.losses") for row in scanned]
        assert [(row["first"], row["last"], row["reason"]) for row in told] == [
            (1, 40, "purged"), (41, 80, "purged"),
        ]  # fmt: skip
        assert log.purge("bulk", before_ns=20_002 * DAY_NS) == 0
        assert log.encryption().destroyed == 2
        for _ in range(2):
            log.append("note", {"x": 900, "text": "after"})
        assert log.purge("bulk", before_ns=20_005 * DAY_NS) == 82
        assert texts(log) == []
        log.append("note", {"x": 901, "text": "and on"})
        log.seal()
        assert texts(log) == ["and on"]
    with open_log(fs, cipher_of(seed=2)) as log:
        assert texts(log) == ["and on"]
        losses = [row for scanned in log.scan("edgecore.losses") for row in scanned]
        assert sum(row["last"] - row["first"] + 1 for row in losses) == 162
    with (
        open_log(MemoryFs(), None) as log,
        pytest.raises(Invalid, match="of an encrypted log"),
    ):
        log.purge("bulk", before_ns=1)


def test_encrypted_log_commands_tell_the_purged_from_the_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, key = str(tmp_path / "log"), tmp_path / "device.key"
    key.write_bytes(device_key_file(bytes([1]) * 32))
    key.chmod(0o600)
    with open_log(None, cipher_of(), path) as log:
        log.append("note", [{"x": i, "text": "t"} for i in range(30)])
        assert log.purge("bulk", before_ns=2**62) == 30
    store = ["--key", f"file:{key}"]
    assert main.main(["log", "verify", path, *store]) == 0
    assert "30 rows are purged: their keys were destroyed" in capsys.readouterr().out
    assert main.main(["log", "verify", path]) == 0
    assert "30 rows are purged" in capsys.readouterr().out
    assert main.main(["log", "inspect", path, *store]) == 0
    assert "keys, 1 destroyed" in capsys.readouterr().out
    assert main.main(["log", "repair", "--report", path, *store]) == 0
    said = capsys.readouterr().out
    assert "purged, their keys destroyed:" in said
    assert "nothing is lost" in said


def test_encrypted_log_does_not_purge_what_is_stored_in_the_clear() -> None:
    fs = MemoryFs()
    with open_log(fs, None) as log:
        log.append("note", [{"x": i, "text": "clear"} for i in range(10)])
        for _ in range(2):
            log.core.rotate()
        assert log.seal() > 0
    with open_log(fs, cipher_of()) as log:
        log.append("note", {"x": 11, "text": "encrypted"})
        with pytest.raises(Invalid, match="was stored in the clear"):
            log.purge("bulk", before_ns=30_000 * DAY_NS)
        assert len(texts(log)) == 11
        with pytest.raises(Invalid, match="a tier"):
            log.purge("secret", before_ns=1)


def partition_of(log: Log, stream: str) -> int:
    return next(partition for partition, name, _ in log.partitions() if name == stream)


def test_encrypted_log_without_its_key_says_so_in_one_line_and_keeps_everything() -> None:
    fs = MemoryFs()
    with open_log(fs, cipher_of()) as log:
        log.append("note", [{"x": i, "text": "t"} for i in range(50)])
    with pytest.raises(Unavailable, match="rows are encrypted; open the log with its cipher"):
        open_log(fs, None)
    with pytest.raises(Untrusted, match=r"wrapped by device key .* and this one is"):
        open_log(fs, cipher_of(device=2))
    with open_log(fs, None, read_only=True) as log:
        assert log.position == 54  # four schemas, and the rows
        rows, _, _, lost, sealed = log.verify()
        assert (rows, lost, sealed) == (54, [], (54, 0))
        with pytest.raises(Unavailable, match="encrypted"):
            texts(log)
    with open_log(fs, cipher_of(seed=3)) as log:
        assert len(texts(log)) == 50


class Failing(Cipher):
    """Fails as it is told to, in the middle of a commit."""

    __slots__ = ("answer",)

    def open_key(  # type: ignore[override]
        self, cipher: int, wrapped: bytes, context: bytes
    ) -> object:
        outer, key = self, super().open_key(cipher, wrapped, context)

        class Key:
            def seal(self, nonce: bytes, data: memoryview, associated: bytes) -> object:
                if outer.answer is None:
                    return key.seal(nonce, data, associated)
                if isinstance(outer.answer, Exception):
                    raise outer.answer
                return outer.answer

        return Key()


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (Stale("the key is too old"), Stale),
        (ValueError("no"), Unavailable),
        (b"short", Unavailable),
        (7, Unavailable),
    ],
)
def test_encrypted_log_rows_wait_while_the_cipher_fails(
    answer: object, raised: type[EdgecoreError]
) -> None:
    fs = MemoryFs()
    cipher = Failing(bytes(32), entropy=entropy_of(5))
    cipher.answer = None
    log = open_log(fs, cipher)
    log.append("note", {"x": 1, "text": "before"})
    log.sync()
    cipher.answer = answer
    log.append("note", {"x": 2, "text": "waits"})
    with pytest.raises(raised):
        log.sync()
    cipher.answer = None
    log.sync()
    log.close()
    plain = Cipher(bytes(32), entropy=entropy_of(6))
    with open_log(fs, plain, read_only=True) as log:
        assert texts(log) == ["before", "waits"]


def test_encrypted_log_with_threads_neither_waits_for_itself_nor_loses_rows() -> None:
    fs = MemoryFs()
    log = open_log(fs, cipher_of(), flusher="thread", durability={"bulk": "group(1ms,1KiB)"})
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(150):
                done = log.append("note", {"x": number * 1000 + i, "text": "t" * (i % 50)})
                if i % 10 == number:
                    log.append("alarm", {"code": number})
                if i % 25 == 0:
                    log.wait_durable(done.position)
                if i % 40 == 0:
                    log.register(ec.Schema(f"s{number}", tier="bulk", fields=[ec.Field("y", "i8")]))
                    log.release()
                    log.seal()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert sum(len(scanned) for scanned in log.scan("note")) <= 600
        for thread in threads:
            thread.join(0.01)
    assert not failures
    log.close()
    with open_log(fs, cipher_of(seed=2), read_only=True) as log:
        xs = [row["x"] for scanned in log.scan("note") for row in scanned]
    assert sorted(xs) == sorted(n * 1000 + i for n in range(4) for i in range(150))


LEFT_OPEN = """
import os, sys, time
import edgecore as ec
from edgecore.fs import MemoryFs
from edgecore.trust.at_rest import Cipher
S = ec.Schema("note", tier="bulk", fields=[ec.Field("x", "i64")])
log = ec.Log.open("log", fs=MemoryFs(), schemas=[S], cipher=Cipher(bytes(32), entropy=os.urandom),
                  durability={"bulk": "group(0ms,0KiB)"})
end = time.monotonic() + 0.2
while time.monotonic() < end:
    log.append("note", {"x": 1})
if sys.argv[1] == "dropped":
    del log  # its flusher is at work
print("ends")
"""


@pytest.mark.parametrize("how", ["left", "dropped"])
def test_encrypted_log_left_open_does_not_hold_up_the_end_of_the_process(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN, how], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ends\n", "", 0)


def test_encrypted_log_command_says_how_and_checks_without_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, key = tmp_path / "log", tmp_path / "device.key"
    key.write_bytes(device_key_file(bytes([1]) * 32))
    key.chmod(0o600)
    with open_log(None, cipher_of(), str(path)) as log:
        for i in range(40):
            log.append("note", {"x": i, "text": "t"})
            log.core.flush()
    store = ["--key", f"file:{key}"]
    assert main.main(["log", "inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "at rest: encrypted, 1 of 1 segments, 1 keys; device key: not given" in said
    assert main.main(["log", "inspect", str(path), *store]) == 0
    assert "on the same file system as the log: no protection" in capsys.readouterr().out
    assert main.main(["log", "verify", str(path)]) == 0
    assert "44 of them are encrypted: their checksums hold" in capsys.readouterr().out
    assert main.main(["log", "export", str(path)]) == Unavailable.exit_code
    assert "encrypted" in capsys.readouterr().err
    assert main.main(["log", "export", str(path), *store]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 44
    segment = next(path.glob("wal-*"))
    data = bytearray(segment.read_bytes())
    data[4096 + 12 * 512 + 120] ^= 1  # in one of the spans
    segment.write_bytes(data)
    for extra in ([], store):
        assert main.main(["log", "verify", str(path), "--json", *extra]) == 12
        told = json.loads(capsys.readouterr().out)
        assert sum(item["last"] - item["first"] + 1 for item in told["lost"]) == 1
        assert told["unopened"] == (0 if extra else 43)


# ---------------------------------------------------------------- vectors, by the pages alone

_HEADER = struct.Struct("<IHHII16sQII16sQQQQQQ")
_BLOCK = struct.Struct("<IIIHHQQIIQQqQQ")
_RECORD = struct.Struct("<IIQIIII")
_PAGE = struct.Struct("<IHH16sIHHHQH")


def lines(name: str) -> list[tuple[str, str]]:
    text = (VECTORS / name).read_text().splitlines()
    return [(w, r) for w, _, r in (line.partition(" ") for line in text if line[0] != "#")]


def keys_of(
    device: bytes, store: bytes, name: str, kind: int
) -> Iterator[tuple[int, int, int, bytes]]:
    """(key id, cipher, segment or period, key) of each page."""
    for copy in (bytes.fromhex(rest) for word, rest in lines(name) if word == "copy"):
        magic, version, state, of, number, cipher, kind_, tier, sort, length = _PAGE.unpack_from(
            copy
        )
        assert (magic, version, state, of, kind_) == (0x594B4345, 1, 1, store, kind)
        assert tier in ((0,) if kind == 1 else (0, 4))
        assert copy[44 + length :] == crc32c(copy[: 44 + length]).to_bytes(4, "little")
        wrapped = copy[44 : 44 + length]
        assert wrapped[:8] == blake3(b"edgecore device key id 1" + device)[:8]
        context = b"edgecore log key 1" + store + copy[24:42]
        wrapping = aead.ChaCha20Poly1305(device)
        yield number, cipher, sort, wrapping.decrypt(wrapped[8:20], wrapped[20:], context)


def records_of(data: bytes, keys: dict[int, tuple[int, int, bytes]]) -> Iterator[str]:
    (magic, version, cipher, required, _, store, _, key_id, sector, _, number, salt, *_,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    assert (magic, version, required) == (0x4C574345, 1, 1)
    assert keys[key_id][:2] == (cipher, number)
    key = {1: aead.ChaCha20Poly1305, 2: aead.AESGCM}[cipher](keys[key_id][2])
    seed = crc32c(salt.to_bytes(8, "little"))
    at = 4096
    while at < len(data) and data[at : at + 4] == b"ECCB":
        _, _, length, entries, _, _, position, _, count, _, hlc, _, trust, _ = _BLOCK.unpack_from(
            data, at
        )
        head = data[at : at + _BLOCK.size + 24 * entries]
        assert crc32c(head[8:], seed) == int.from_bytes(head[4:8], "little")
        span = data[at + len(head) : at + length]
        if count == 0:
            assert span == b""
        else:
            assert crc32c(span[4:], seed) == int.from_bytes(span[:4], "little")
            place = struct.pack("<QQIQ", number, salt, key_id, at)
            body = key.decrypt(
                at.to_bytes(12, "little"), span[4:], b"edgecore wal block 1" + store + place + head
            )
            while body:
                crc, partition, first, schema, rows, size, _ = _RECORD.unpack_from(body)
                assert crc32c(body[4 : 32 + size], seed) == crc
                payload, body = body[32 : 32 + size], body[32 + size :]
                stands = f"{partition} {first} {rows} {schema} {position} {hlc} {trust}"
                yield f"{stands} {payload.hex()}"
                position += rows
        at += -(-length // sector) * sector


_INDEX = struct.Struct("<IHHII16sQHHI16sQQQIIII")
_ENTRY = struct.Struct("<IIQIIIQQQQqq")


def blocks_of(data: bytes, keys: dict[int, tuple[int, int, bytes]]) -> Iterator[bytes]:
    """The column blocks of a pack."""
    (
        magic,
        version,
        tier,
        required,
        _,
        store,
        _,
        cipher,
        _,
        key_id,
        _,
        number,
        *_,
        count,
        _,
        _,
        _,
    ) = _INDEX.unpack_from(data)
    assert (magic, version, required) == (0x4B504345, 1, 1)
    assert keys[key_id][0] == cipher == 1
    key = aead.ChaCha20Poly1305(keys[key_id][2])
    for place in range(count):
        at = _INDEX.size + place * _ENTRY.size
        entry = _ENTRY.unpack_from(data, at)
        offset, length, hlc = entry[4], entry[5], entry[9]
        assert (hlc >> 16) // 86_400_000 == keys[key_id][1]
        span = data[offset : offset + length]
        assert crc32c(span[4:]) == int.from_bytes(span[:4], "little")
        said = data[at : at + 20] + data[at + 28 : at + _ENTRY.size]
        bound = store + struct.pack("<QHII", number, tier, key_id, place) + said
        nonce = struct.pack("<QI", number, place)
        yield key.decrypt(nonce, span[4:], b"edgecore pack block 1" + bound)


def test_vectors_encrypted_packs_are_read_by_the_pages_alone() -> None:
    name = "encrypted-pack.txt"
    one = dict(lines(name))
    device, store = bytes.fromhex(one["device"]), bytes.fromhex(one["store"])
    keys = {
        number: (cipher, of, key) for number, cipher, of, key in keys_of(device, store, name, 2)
    }
    files = [bytes.fromhex(rest) for word, rest in lines(name) if word == "file"]
    found = [block for file in files for block in blocks_of(file, keys)]
    assert [block.hex() for block in found] == [r for word, r in lines(name) if word == "block"]
    said = [Block(block) for block in found]
    assert {block.store for block in said} == {store}
    assert sum(block.count for block in said if block.partition == 2) == 6


def test_vectors_encrypted_segments_and_keys_are_read_by_the_pages_alone() -> None:
    name = "encrypted-segment.txt"
    one = dict(lines(name))
    device, store = bytes.fromhex(one["device"]), bytes.fromhex(one["store"])
    keys = {
        number: (cipher, of, key) for number, cipher, of, key in keys_of(device, store, name, 1)
    }
    files = [bytes.fromhex(rest) for word, rest in lines(name) if word == "file"]
    found = [
        record
        for file in files
        for record in records_of(file.ljust(-(-len(file) // 512) * 512, b"\0"), keys)
    ]
    wanted = [rest for word, rest in lines(name) if word == "record"]
    assert len(wanted) > 4
    assert found == wanted


def test_vectors_encrypted_log_opens_with_the_device_key(tmp_path: Path) -> None:
    name = "encrypted-segment.txt"
    one = dict(lines(name))
    pages = [bytes.fromhex(rest) for word, rest in lines(name) if word == "copy"]
    (tmp_path / "keys").write_bytes(b"".join(page.ljust(2048, b"\0") * 2 for page in pages))
    for number, data in enumerate((rest for word, rest in lines(name) if word == "file"), 1):
        file = tmp_path / f"wal-{number:016x}.seg"
        file.write_bytes(bytes.fromhex(data).ljust(65536, b"\0"))
    cipher = Cipher(bytes.fromhex(one["device"]), entropy=os.urandom)
    with Log.open(tmp_path, read_only=True, cipher=cipher) as log:
        found = [s.payload for s in log.scan()] if log.schemas() else []
        records = log.verify()
    assert found == []  # there is no catalogue beside it; but everything opens
    assert records[3:] == ([], (0, 0))
    assert records[0] == 9
