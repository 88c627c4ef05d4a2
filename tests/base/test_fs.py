"""The storage seam from Python: one contract on both implementations, and its outcome words."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecore import errors
from edgecore.fs import Fs, MemoryFs, PosixFs


@pytest.fixture(params=["posix", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Fs, str]:
    fs = PosixFs() if request.param == "posix" else MemoryFs()
    directory = str(tmp_path / "d")
    fs.make_directories(directory)
    return fs, directory


def test_fs_written_is_read_listed_and_removed(place: tuple[Fs, str]) -> None:
    fs, directory = place
    path = f"{directory}/f"
    fs.write_atomic(path, b"one")
    fs.write_atomic(path, memoryview(b"two"))
    assert fs.read_file(path, 3) == b"two"
    with fs.open(path, "read_write") as file:
        file.write_at(4, b"x")
        file.sync()
        assert (file.size(), file.read_at(2, 100), file.read_at(99, 1)) == (5, b"o\0x", b"")
        file.truncate(1)
        file.fill_zeros(3)
    assert fs.read_file(path, 9) == b"t\0\0"
    fs.rename(path, f"{directory}/g")
    assert fs.list(directory) == ["g"]
    fs.sync_directory(directory)
    fs.remove(f"{directory}/g")
    assert not fs.exists(f"{directory}/g")
    assert fs.free_bytes(directory) > 0


def test_fs_failures_have_their_outcome_words_and_the_path(place: tuple[Fs, str]) -> None:
    fs, directory = place
    with pytest.raises(errors.Unavailable, match="gone"):
        fs.read_file(f"{directory}/gone", 9)
    with fs.lock(f"{directory}/lock"), pytest.raises(errors.Unavailable):
        fs.lock(f"{directory}/lock")
    fs.lock(f"{directory}/lock").release()
    fs.write_atomic(f"{directory}/f", b"12345")
    with pytest.raises(errors.Corrupt):
        fs.read_file(f"{directory}/f", 4)
    with pytest.raises(errors.Invalid):
        fs.open(f"{directory}/f", "create_new")
    with pytest.raises(errors.Invalid, match="mode"):
        fs.open(f"{directory}/f", "w")
    file = fs.open(f"{directory}/f")
    file.close()
    with pytest.raises(errors.Invalid, match="close"):
        file.size()


@pytest.mark.parametrize("model", ["posix", "ext4"])
def test_fs_atomic_write_survives_every_cut(model: str) -> None:
    for cut in range(1, 99):
        fs = MemoryFs(model=model)
        fs.write_atomic("f", b"old")
        fs.cut_power_at(cut)
        try:
            fs.write_atomic("f", b"new" * 500)
            done = True
        except errors.Unavailable:
            done = False
        for image in fs.crash_states(500, cut):
            assert image.read_file("f", 9999) in (b"old", b"new" * 500)
        if done:
            assert fs.crash(1).read_file("f", 9999) == b"new" * 500
            return
    pytest.fail("the write never ended")


def test_fs_injected_fault_fires_and_is_counted() -> None:
    fs = MemoryFs()
    fault = fs.inject("no_space", on="write", path_contains="f", sticky=True)
    for _ in range(2):
        with pytest.raises(errors.Exhausted):
            fs.write_atomic("f", b"x")
    assert fs.fired(fault) == 2
    fs.clear_faults()
    fs.write_atomic("f", b"x")
