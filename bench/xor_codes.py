"""Gorilla, Chimp and Chimp128, written plainly so that their bits can be counted.

- Gorilla: T. Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory Time Series Database", VLDB
  2015, section 4.1: delta-of-delta times, values as the meaningful bits of the XOR with the last.
- Chimp and Chimp128: P. Liakos, K. Papakonstantinopoulou, Y. Kotidis, "Chimp: Efficient Lossless
  Floating Point Compression for Time Series Databases", VLDB 2022. Chimp128 may take the XOR with
  any of the last 128 values that ends in the same 14 bits. The paper codes values alone; times are
  Gorilla's.

An encoder gives :class:`Bits`; tests/test_bench_codes.py decodes them again. Nothing but the bits
of the series is counted: no header, no length, no checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import pairwise

WORD = (1 << 64) - 1


class Bits:
    """Bits in the order they were put, most significant first."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, int]] = []
        self.size = 0

    def put(self, value: int, width: int) -> None:
        self.parts.append((value, width))
        self.size += width


class BitReader:
    def __init__(self, bits: Bits) -> None:
        self.text = "".join(f"{value:0{width}b}" for value, width in bits.parts if width)
        self.at = 0

    def take(self, width: int) -> int:
        self.at += width
        return int(self.text[self.at - width : self.at] or "0", 2)


def to_words(values: Sequence[float]) -> list[int]:
    return [struct.unpack("<Q", struct.pack("<d", value))[0] for value in values]


def to_values(words: Sequence[int]) -> list[float]:
    return [struct.unpack("<d", struct.pack("<Q", word))[0] for word in words]


def leading_zeros(word: int) -> int:
    return 64 - word.bit_length()


def trailing_zeros(word: int) -> int:
    return (word & -word).bit_length() - 1 if word else 64


# ---------------------------------------------------------------- times

# Prefix, its width, the width of the delta of deltas behind it, and the lowest that fits.
TIME_CLASSES = ((0b10, 2, 7, -63), (0b110, 3, 9, -255), (0b1110, 4, 12, -2047))
TIME_WIDTH = 32


def put_times(bits: Bits, times: Sequence[int]) -> None:
    """The first time whole, then what each step is more than the last (the first: than 0)."""
    bits.put(times[0] & WORD, 64)
    step = 0
    for before, time in pairwise(times):
        more = time - before - step
        step = time - before
        if more == 0:
            bits.put(0, 1)
            continue
        for prefix, size, width, low in TIME_CLASSES:
            if low <= more < low + (1 << width):
                bits.put(prefix, size)
                bits.put(more - low, width)
                break
        else:
            if not -(1 << 31) <= more < 1 << 31:
                raise ValueError(f"a step of {step} units does not fit 32 bits")
            bits.put(0b1111, 4)
            bits.put(more & 0xFFFFFFFF, TIME_WIDTH)


def take_times(reader: BitReader, count: int) -> list[int]:
    first = reader.take(64)
    times, step = [first - (1 << 64) if first >> 63 else first], 0
    while len(times) < count:
        ones = 0
        while ones < 4 and reader.take(1):
            ones += 1
        if 1 <= ones <= 3:
            _, _, width, low = TIME_CLASSES[ones - 1]
            step += reader.take(width) + low
        elif ones == 4:
            more = reader.take(TIME_WIDTH)
            step += more - (1 << 32) if more >> 31 else more
        times.append(times[-1] + step)
    return times


# ---------------------------------------------------------------- Gorilla


def put_gorilla(bits: Bits, values: Sequence[float]) -> None:
    words = to_words(values)
    bits.put(words[0], 64)
    lead, width = 65, 0  # of the last window; at first there is none
    for before, word in pairwise(words):
        xor = word ^ before
        if xor == 0:
            bits.put(0, 1)
            continue
        leading, trailing = min(leading_zeros(xor), 31), trailing_zeros(xor)
        if lead <= leading and 64 - lead - width <= trailing:
            bits.put(0b10, 2)
        else:
            lead, width = leading, 64 - leading - trailing
            bits.put(0b11, 2)
            bits.put(lead, 5)
            bits.put(width & 63, 6)
        bits.put(xor >> (64 - lead - width), width)


def take_gorilla(reader: BitReader, count: int) -> list[float]:
    words, lead, width = [reader.take(64)], 0, 0
    while len(words) < count:
        xor = 0
        if reader.take(1):
            if reader.take(1):
                lead = reader.take(5)
                width = reader.take(6) or 64
            xor = reader.take(width) << (64 - lead - width)
        words.append(words[-1] ^ xor)
    return to_values(words)


# ---------------------------------------------------------------- Chimp

# Leading zeros are rounded down to one of these, so that three bits name them.
LEADS = (0, 8, 12, 16, 18, 20, 22, 24)
TRAILING_MIN = 6  # Chimp; with 128 values 7 bits of index must be won back as well
NO_LEAD = 65


def lead_class(xor: int) -> int:
    zeros = leading_zeros(xor)
    return max(index for index, lead in enumerate(LEADS) if lead <= zeros)


def put_rest(bits: Bits, xor: int, stored: int) -> int:
    """An XOR with few trailing zeros; gives the class of leading zeros it leaves behind."""
    found = lead_class(xor)
    if found == stored:
        bits.put(0b10, 2)
    else:
        bits.put(0b11, 2)
        bits.put(found, 3)
    bits.put(xor, 64 - LEADS[found])
    return found


def put_middle(bits: Bits, xor: int) -> None:
    """An XOR with many trailing zeros: the bits between."""
    found, trailing = lead_class(xor), trailing_zeros(xor)
    width = 64 - LEADS[found] - trailing
    bits.put(found, 3)
    bits.put(width, 6)
    bits.put(xor >> trailing, width)


def take_middle(reader: BitReader) -> int:
    lead, width = LEADS[reader.take(3)], reader.take(6)
    return reader.take(width) << (64 - lead - width)


def put_chimp(bits: Bits, values: Sequence[float]) -> None:
    words = to_words(values)
    bits.put(words[0], 64)
    stored = NO_LEAD
    for before, word in pairwise(words):
        xor = word ^ before
        if xor == 0:
            bits.put(0b00, 2)
        elif trailing_zeros(xor) > TRAILING_MIN:
            bits.put(0b01, 2)
            put_middle(bits, xor)
        else:
            stored = put_rest(bits, xor, stored)
            continue
        stored = NO_LEAD


def take_chimp(reader: BitReader, count: int) -> list[float]:
    words, lead = [reader.take(64)], 0
    while len(words) < count:
        flag, xor = reader.take(2), 0
        if flag == 0b01:
            xor = take_middle(reader)
        elif flag >= 0b10:
            lead = LEADS[reader.take(3)] if flag == 0b11 else lead
            xor = reader.take(64 - lead)
        words.append(words[-1] ^ xor)
    return to_values(words)


# ---------------------------------------------------------------- Chimp128

WINDOW = 128
INDEX_BITS = 7
KEY_MASK = (1 << (TRAILING_MIN + INDEX_BITS + 1)) - 1


def put_chimp128(bits: Bits, values: Sequence[float]) -> None:
    words = to_words(values)
    bits.put(words[0], 64)
    stored = NO_LEAD
    newest = {words[0] & KEY_MASK: 0}  # of the values that end in these bits
    for at, word in enumerate(words[1:], 1):
        base = newest.get(word & KEY_MASK, -WINDOW)
        near = at - base <= WINDOW
        near = near and trailing_zeros(word ^ words[base]) > TRAILING_MIN + INDEX_BITS
        xor = word ^ words[base if near else at - 1]
        newest[word & KEY_MASK] = at
        if near:
            bits.put(0b00 if xor == 0 else 0b01, 2)
            bits.put(base % WINDOW, INDEX_BITS)
            if xor:
                put_middle(bits, xor)
            stored = NO_LEAD
        else:
            stored = put_rest(bits, xor, stored)


def take_chimp128(reader: BitReader, count: int) -> list[float]:
    words, lead = [reader.take(64)], 0
    while len(words) < count:
        flag, base = reader.take(2), len(words) - 1
        if flag <= 0b01:
            index = reader.take(INDEX_BITS)
            base -= (base - index) % WINDOW
            xor = take_middle(reader) if flag else 0
        else:
            lead = LEADS[reader.take(3)] if flag == 0b11 else lead
            xor = reader.take(64 - lead)
        words.append(words[base] ^ xor)
    return to_values(words)


Put = Callable[[Bits, Sequence[float]], None]
CODES: dict[str, tuple[Put, Callable[[BitReader, int], list[float]]]] = {
    "gorilla": (put_gorilla, take_gorilla),
    "chimp": (put_chimp, take_chimp),
    "chimp128": (put_chimp128, take_chimp128),
}


def size_of(code: str, times: Sequence[int], columns: Sequence[Sequence[float]]) -> int:
    """Bytes of one series: its times once, then each of its columns."""
    bits = Bits()
    put_times(bits, times)
    for values in columns:
        CODES[code][0](bits, values)
    return (bits.size + 7) // 8
