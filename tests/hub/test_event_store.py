"""Event packs and their index: kills between the two, disks that fail to sync, bytes that rot."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecore.errors import Corrupt, Exhausted, Unavailable
from edgecore.hub.stores import events
from edgecore.hub.stores.events import EventStore

STORE = bytes([2]) * 16


def fill(store: EventStore, first: int, blocks: int, partition: int = 1) -> None:
    for number in range(first, first + blocks):
        data = f"block {number}".encode() * 20
        store.append(STORE, partition, number, 1, bytes([number]) * 32, data)


def contents(store: EventStore, partition: int = 1) -> dict[int, bytes]:
    return {block.first: store.read(block) for block in store.blocks(STORE, partition)}


def expected(*numbers: int) -> dict[int, bytes]:
    return {number: f"block {number}".encode() * 20 for number in numbers}


def pack_of(directory: Path) -> Path:
    return directory / "packs" / "00000001.pack"


def test_event_store_killed_between_pack_and_index_finds_its_blocks(tmp_path: Path) -> None:
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from test_event_store import *\n"
        "store = EventStore(Path(sys.argv[1])); fill(store, 1, 3); store.commit()\n"
        "fill(store, 4, 2); store._write_index = lambda: os.kill(os.getpid(), 9)\n"
        "store.commit()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)]
    assert subprocess.run(command, check=False).returncode == -9
    store = EventStore(tmp_path)
    assert store.ranges(STORE) == {1: [(1, 5)]}
    assert contents(store) == expected(1, 2, 3, 4, 5)
    store.close()


def test_event_store_failed_sync_promises_nothing_and_is_not_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EventStore(tmp_path)
    fill(store, 1, 1)
    store.commit()
    fill(store, 2, 1)

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(Unavailable):
        store.commit()
    monkeypatch.undo()
    for call in (store.commit, lambda: fill(store, 3, 1), lambda: contents(store)):
        with pytest.raises(Unavailable, match="reopen"):
            call()
    store.close()
    store = EventStore(tmp_path)  # what the disk holds counts again, written anew and synced
    assert contents(store) == expected(1, 2)
    store.close()


def test_event_store_full_disk_is_exhausted_and_the_store_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EventStore(tmp_path)
    fill(store, 1, 1)
    real = os.pwrite

    def half(handle: int, data: bytes, offset: int) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[: len(data) // 2], offset)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(Exhausted, match="No space"):
        fill(store, 2, 1)
    monkeypatch.undo()
    fill(store, 2, 2)
    store.commit()
    store.close()
    store = EventStore(tmp_path)
    assert contents(store) == expected(1, 2, 3)
    store.close()


@pytest.mark.parametrize("byte", [0, 4, 9, 20, 60, 90, 150])
def test_event_store_flipped_byte_is_corrupt_and_never_served(tmp_path: Path, byte: int) -> None:
    store = EventStore(tmp_path)
    fill(store, 1, 3)
    store.commit()
    blocks = list(store.blocks(STORE, 1))
    data = bytearray(pack_of(tmp_path).read_bytes())
    data[len(data) // 3 + byte] ^= 0x40
    pack_of(tmp_path).write_bytes(bytes(data))
    assert store.read(blocks[0]) == expected(1)[1]
    with pytest.raises(Corrupt, match="damaged"):
        store.read(blocks[1])
    assert store.read(blocks[2]) == expected(3)[3]
    store.close()


def test_event_store_lost_index_is_made_again_around_a_damaged_block(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    fill(store, 1, 3)
    store.commit()
    store.close()
    data = bytearray(pack_of(tmp_path).read_bytes())
    data[len(data) // 2] ^= 1
    pack_of(tmp_path).write_bytes(bytes(data))
    (tmp_path / "index").rename(tmp_path / "lost")
    store = EventStore(tmp_path)
    assert store.ranges(STORE) == {1: [(1, 1), (3, 3)]}
    assert contents(store) == expected(1, 3)
    fill(store, 2, 1)  # what a device sends again
    store.commit()
    store.close()
    store = EventStore(tmp_path)
    assert contents(store) == expected(1, 2, 3)
    store.close()


@pytest.mark.parametrize("harm", ["shorter", "gone"])
def test_event_store_pack_behind_its_index_is_corrupt(tmp_path: Path, harm: str) -> None:
    store = EventStore(tmp_path)
    fill(store, 1, 3)
    store.commit()
    store.close()
    if harm == "gone":
        pack_of(tmp_path).unlink()
    else:
        os.truncate(pack_of(tmp_path), 300)
    for _ in range(2):
        with pytest.raises(Corrupt, match="restore"):
            EventStore(tmp_path)


def test_event_store_is_one_process(tmp_path: Path) -> None:
    store = EventStore(tmp_path)
    script = (
        "import sys; from pathlib import Path\n"
        "from edgecore.hub.stores.events import EventStore\n"
        "from edgecore.errors import Unavailable\n"
        "try: EventStore(Path(sys.argv[1]))\n"
        "except Unavailable as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "another process" in done.stdout
    store.close()


def test_event_store_packs_rotate_and_all_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PACK_BYTES_MAX", 500)
    store = EventStore(tmp_path)
    fill(store, 1, 9)
    store.commit()
    store.close()
    (tmp_path / "packs" / "notes.pack").write_text("not ours")
    store = EventStore(tmp_path)
    assert len(list((tmp_path / "packs").glob("0*.pack"))) > 2
    assert contents(store) == expected(*range(1, 10))
    store.close()


def test_event_store_that_can_not_rotate_keeps_its_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PACK_BYTES_MAX", 500)
    store = EventStore(tmp_path)
    fill(store, 1, 3)
    opened = os.open

    def full(path, flags, mode=0o777, **more):  # type: ignore[no-untyped-def]
        if str(path).endswith(".pack"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", full)
    for _ in range(2):
        with pytest.raises(Exhausted):
            fill(store, 4, 3)
    monkeypatch.setattr(os, "open", opened)
    fill(store, 4, 3)
    store.commit()
    store.close()
    store = EventStore(tmp_path)
    assert contents(store) == expected(*range(1, 7))
    store.close()
