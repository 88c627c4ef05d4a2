"""Bindings as bytes, and the face of the quantiser (its bits are tested in C++)."""

from __future__ import annotations

import math
import random
from array import array

import cbor2
import pytest

from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.inference import Binding, Slot, score

FEATURE = blake3(b"a feature")


def sample() -> Binding:
    return Binding(
        [
            Slot(FEATURE, centre=20.5, scale=2.0, clip=(-4, 4)),
            Slot(FEATURE, "state", centre=0.1, scale=0.3),
            Slot(FEATURE, "category", vocabulary=[3, 7], unknown=2.0, missing=3.0),
            Slot(FEATURE, centre=1e-3, scale=0.0, scale_floor=0.5, substitute=7.0),
        ]
    )


def test_binding_round_trips_through_its_bytes() -> None:
    data = sample().to_bytes()
    again = Binding.from_bytes(data)
    assert again.to_bytes() == data
    assert [slot.canonical() for slot in again.slots] == [s.canonical() for s in sample().slots]


def test_binding_quantises_each_kind() -> None:
    values = array("d", [22.5, math.nan, 7, math.nan])
    states = bytes([0, 2, 0, 2])
    codes, clipped, substituted = sample().quantise(values, states, (0.5, 1))
    assert array("b", codes).tolist() == [3, 14, 3, 17]
    assert (clipped, substituted) == (1, 1)
    assert array("d", sample().normalise(values, states))[0] == 1.0


def test_binding_wrong_numbers_or_sizes_then_invalid() -> None:
    for wrong in (
        lambda: Slot(b"short"),
        lambda: Slot(FEATURE, "guess"),
        lambda: Binding([]),
        lambda: Binding([Slot(FEATURE, centre=math.nan)]),
        lambda: Binding([Slot(FEATURE, clip=(1, 1))]),
        lambda: Binding([Slot(FEATURE, "category", vocabulary=[2, 1])]),
        lambda: Binding([Slot(FEATURE, "category", vocabulary=[1 << 70])]),
        lambda: sample().quantise(array("d", [1.0]), b"\0", (1.0, 0)),
        lambda: score("guess", b"", b"", (1.0, 0)),
    ):
        with pytest.raises(Invalid):
            wrong()


def test_binding_contract_is_part_of_its_bytes_and_absent_where_nothing_is_asked() -> None:
    slots = sample().slots
    assert cbor2.loads(sample().to_bytes()).keys() == {"slots", "version"}
    held = Binding([*slots, Slot(FEATURE, max_age="250ms")], max_age="5m", min_full=0.8)
    assert len({blake3(one.to_bytes()) for one in (sample(), Binding(slots, max_age=1), held)}) == 3
    again = Binding.from_bytes(held.to_bytes())
    assert (again.max_age, again.min_full) == (300 * 10**9, 0.8)
    assert [slot.max_age for slot in again.slots] == [0, 0, 0, 0, 250_000_000]
    values, states = array("d", [1, 1, 3, 1, 1]), bytes(5)
    assert held.refusal(values, states, array("q", [0, 10**18, 0, 0, 250_000_000])) == ""
    assert held.refusal(values, states, array("q", [0, 0, 0, 0, 250_000_001])) == "old"
    assert held.refusal(values, bytes([1, 1, 0, 0, 0]), array("q", [0] * 5)) == "sparse"
    with pytest.raises(Invalid, match="ages are needed"):
        held.refusal(values, states)
    assert sample().refusal(values[:4], bytes([2, 2, 2, 2])) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_age", -1), ("max_age", 0), ("max_age", 2**63 - 1), ("max_age", 2**63),
        ("max_age", 2**64 - 1), ("max_age", 2**70), ("max_age", 1.5), ("max_age", "5m"),
        ("max_age", True), ("max_age", None), ("max_age", []),
        ("min_full", math.nan), ("min_full", math.inf), ("min_full", -0.5), ("min_full", -0.0),
        ("min_full", 0.0), ("min_full", 1.25), ("min_full", 1), ("min_full", "1"),
        ("min_full", None), ("min_slots", 3),
    ],
)  # fmt: skip
def test_binding_hostile_contract_then_corrupt(key: str, value: object) -> None:
    body = cbor2.loads(sample().to_bytes())
    with pytest.raises(Corrupt):
        Binding.from_bytes(cbor2.dumps(body | {key: value}, canonical=True))
    if key == "max_age":
        body["slots"][0][key] = value
        with pytest.raises(Corrupt):
            Binding.from_bytes(cbor2.dumps(body, canonical=True))


def test_binding_contract_without_meaning_then_invalid() -> None:
    for wrong in (
        lambda: Binding([Slot(FEATURE)], max_age=-1),
        lambda: Binding([Slot(FEATURE)], max_age="soon"),
        lambda: Binding([Slot(FEATURE)], max_age=1 << 70),
        lambda: Binding([Slot(FEATURE)], min_full=math.nan),
        lambda: Binding([Slot(FEATURE)], min_full=1.01),
        lambda: Binding([Slot(FEATURE, "state", max_age="1s")]),
        lambda: Binding([Slot(FEATURE, max_age=-1)]),
    ):
        with pytest.raises(Invalid):
            wrong()


@pytest.mark.parametrize("held", [False, True])
def test_binding_mutated_bytes_then_corrupt_or_another_binding(seed: int, held: bool) -> None:
    chance = random.Random(seed)
    slots = [*sample().slots, Slot(FEATURE, max_age="3s")]
    good = Binding(slots, max_age="5m", min_full=0.3).to_bytes() if held else sample().to_bytes()
    refused = 0
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        cut = bytes(data[: chance.randrange(len(data))]) if chance.random() < 0.2 else bytes(data)
        try:
            assert Binding.from_bytes(cut).to_bytes() == cut
        except (Corrupt, Incompatible):
            refused += 1
    assert refused > 500


def test_score_is_in_millionths() -> None:
    normalised = array("d", [1.0, -0.5])
    assert score("reconstruction", normalised, bytes([1, 2]), (0.5, 0)) == 1_250_000
    assert score("argmax", b"", bytes([1, 2]), (1.0, 0)) == 1_000_000
