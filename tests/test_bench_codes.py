"""The XOR codes that benchmarks count the bits of decode to what was put in, bit for bit."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import xor_codes as codes


def series(kind: str, chance: random.Random, count: int) -> list[float]:
    walk = 70.0
    out = []
    for _ in range(count):
        walk += chance.gauss(0, 0.5)
        out.append(
            {
                "walk": walk,
                "decimals": round(walk, 2),
                "few": chance.choice([0.0, -0.0, 1.5, 1e300, math.inf]),
                "random bits": codes.to_values([chance.getrandbits(64)])[0],
                "constant": 4.25,
            }[kind]
        )
    return out


@pytest.mark.parametrize("code", codes.CODES)
@pytest.mark.parametrize("kind", ["walk", "decimals", "few", "random bits", "constant"])
def test_xor_code_gives_back_every_bit(code: str, kind: str) -> None:
    put, take = codes.CODES[code]
    for seed in range(20):
        values = series(kind, random.Random(seed), 1 + 37 * seed)
        bits = codes.Bits()
        put(bits, values)
        reader = codes.BitReader(bits)
        found = take(reader, len(values))
        assert codes.to_words(found) == codes.to_words(values), (kind, seed)
        assert reader.at == bits.size == len(reader.text)


def test_xor_code_times_come_back_over_every_class_of_step() -> None:
    chance = random.Random(5)
    steps = [0, 60, 60, 61, -3, 124, 300, -255, 2000, -2047, 2048, 10**6, 1, 1, 1]
    for seed in range(20):
        chance.shuffle(steps)
        times = [1_400_000_000 - seed]
        for step in steps * 3:
            times.append(times[-1] + step)
        bits = codes.Bits()
        codes.put_times(bits, times)
        reader = codes.BitReader(bits)
        assert codes.take_times(reader, len(times)) == times
        assert reader.at == bits.size


def test_xor_code_sizes_are_those_of_the_papers() -> None:
    def bits_of(code: str, values: list[float]) -> int:
        bits = codes.Bits()
        codes.CODES[code][0](bits, values)
        return bits.size - 64

    # Gorilla, section 4.1: a value as the last one is one bit; a new window costs 2 + 5 + 6 bits
    # and its meaningful bits, the same window again 2 and those. 12 ^ 24 has one bit, as 15.5 ^ 14.
    assert bits_of("gorilla", [12.0, 12.0]) == 1
    assert bits_of("gorilla", [12.0, 24.0]) == 13 + 1
    assert bits_of("gorilla", [12.0, 24.0, 12.0]) == 13 + 1 + 2 + 1
    # Chimp, section 4: 2 bits; 2 + 3 + 6 and the bits between; 2 + 3 and all behind the leading
    # zeros, without the 3 when these are as many as before.
    assert bits_of("chimp", [12.0, 12.0]) == 2
    assert bits_of("chimp", [12.0, 24.0]) == 11 + (64 - 8 - 52)
    near = [1.0, math.nextafter(1.0, 2.0), 1.0]
    assert bits_of("chimp", near) == (5 + 40) + (2 + 40)
    # With 128 values: 7 bits of index beside.
    assert bits_of("chimp128", [12.0, 12.0]) == 9
    regular = codes.Bits()
    codes.put_times(regular, [0, 60, 120, 180])
    assert regular.size == 64 + (2 + 7) + 1 + 1


def test_xor_code_128_finds_a_value_that_came_before() -> None:
    bits, last = codes.Bits(), codes.Bits()
    codes.put_chimp128(bits, [12.1, 7.7, 12.1])
    codes.put_chimp128(last, [12.1, 7.7])
    assert bits.size - last.size == 9
