"""State in two copies: any byte of either may rot, and a cut leaves the old or the new."""

from __future__ import annotations

import random

import pytest

from edgecore.device.twofold import Twofold
from edgecore.errors import Corrupt, EdgecoreError
from edgecore.fs import MemoryFs

DATA = b"what is to be kept"


def saved(*states: bytes) -> MemoryFs:
    fs = MemoryFs()
    slots = Twofold(fs, "state")
    for data in states:
        slots.save(data)
    return fs


@pytest.mark.parametrize("copy", ["state.a", "state.b"])
def test_twofold_any_flipped_byte_or_cut_of_one_copy_costs_nothing(copy: str, seed: int) -> None:
    rng = random.Random(seed)
    fs = saved(b"before", DATA)
    whole = fs.read_file(copy, 1000)
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << rng.randrange(8)
        for damaged in (bytes(flipped), whole[:at]):
            fs.write_atomic(copy, damaged)
            assert Twofold(fs, "state").load() == DATA
            assert fs.read_file(copy, 1000)[-len(DATA) :] == DATA  # repaired


def test_twofold_both_copies_damaged_is_corrupt() -> None:
    fs = saved(DATA)
    for copy in ("state.a", "state.b"):
        fs.write_atomic(copy, fs.read_file(copy, 1000)[:-1])
    with pytest.raises(Corrupt, match="both copies are damaged"):
        Twofold(fs, "state").load()


@pytest.mark.parametrize("model", ["posix", "ext4"])
def test_twofold_power_cut_leaves_old_or_new_and_never_goes_back(model: str, seed: int) -> None:
    met = set()
    for operation in range(1, 40):
        fs = MemoryFs(model=model)
        slots = Twofold(fs, "state")
        slots.save(b"old")
        fs.cut_power_at(operation)
        try:
            slots.save(b"new")
        except EdgecoreError:
            assert fs.power_is_cut()
        if not fs.power_is_cut():
            break
        for image in fs.crash_states(8, seed + operation):
            first = Twofold(image, "state").load()
            assert first in (b"old", b"new")
            met.add(first)
            assert Twofold(image, "state").load() == first
    assert met == {b"old", b"new"}


def test_twofold_nothing_saved_is_nothing() -> None:
    assert Twofold(MemoryFs(), "state").load() is None
