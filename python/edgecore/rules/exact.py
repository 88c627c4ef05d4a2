"""Exact numbers of summaries: the values of a field as integers of its grid, and integers of any
size as bytes. Python's own integers: nothing is rounded and nothing wraps. docs/formats/summary.md.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import isfinite

from edgecore.errors import Corrupt, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from edgecore.schema import Field

FLOAT_BITS = 1074  # every double is a whole number of 2^-1074
STEPS_MAX = float(1 << 51)  # of a float on a declared resolution, as features count them
_WORDS = ("sum", "squares", "min", "max")
_INTEGERS = {
    "i8": 7, "i16": 15, "i32": 31, "i64": 63, "u8": 8, "u16": 16, "u32": 32, "u64": 64,
    "decimal": 63,
}  # fmt: skip


class Grid:
    """How a field's values are counted: integers and decimals as they are, floats in steps of their
    resolution (ties to even), or without one as whole numbers of 2^-1074. Values that are not
    finite are no values."""

    __slots__ = ("bits", "field", "is_bool", "is_float", "is_number", "step")

    def __init__(self, field: Field) -> None:
        self.field = field
        floating = field.dtype in ("f32", "f64")
        self.is_bool = field.dtype == "bool"
        self.is_number = floating or field.dtype in _INTEGERS
        self.is_float = floating and not field.resolution
        self.bits = FLOAT_BITS if self.is_float else 0
        self.step = Fraction(1, 1 << self.bits) * Fraction(1, 10**field.scale)
        if field.resolution:
            self.step = Fraction(Decimal(repr(field.resolution)))

    @property
    def names_entities(self) -> bool:
        dtype = self.field.dtype
        return dtype in ("category", "utf8") or (dtype in _INTEGERS and dtype != "decimal")

    @property
    def names_values(self) -> bool:
        """Whether values are counted one by one."""
        return self.is_bool or self.names_entities

    def name(self, value: Any) -> str:
        """A value that is counted, as text."""
        return ("false", "true")[value] if self.is_bool else str(value)

    def of(self, what: Sequence[str]) -> tuple[str, ...]:
        """Those of the words that the field has."""
        if self.is_bool:
            return tuple(word for word in what if word == "sum")
        return tuple(what) if self.is_number else ()

    def value(self, value: Any) -> int | None:
        """Of a row as `rowbatch.read_rows` gives it; None where there is none. What is no number
        counts, and is 0."""
        if value is None:
            return None
        if type(value) is int:
            return value
        if type(value) is not float:
            return int(value) if self.is_bool else 0
        if self.field.resolution:
            steps = value / self.field.resolution
            return round(steps) if -STEPS_MAX < steps < STEPS_MAX else None
        if not isfinite(value):
            return None
        top, bottom = value.as_integer_ratio()
        return top << (self.bits - bottom.bit_length() + 1)

    def bound(self, power: int) -> int:
        """What no value's power passes, by the declared range or the dtype."""
        if self.is_bool:
            return 1
        if self.field.range is not None:
            edges = [abs(Fraction(edge) / self.step) for edge in self.field.range]
            limit = int(max(edges)) + 1
        elif self.field.resolution:
            limit = 1 << 51
        else:
            limit = 1 << _INTEGERS[self.field.dtype]
        return limit if power == 1 else limit * limit

    def edge(self, where: str, value: float) -> int:
        """A bound of a histogram on the grid. Raises ``Invalid`` where it is between two steps."""
        if not self.is_number:
            raise Invalid(f"{where}: a {self.field.dtype} has none")
        if type(value) not in (int, float) or not isfinite(value):
            raise Invalid(f"{where}: {value!r} is no number that bounds it")
        exact = Fraction(value) if self.is_float else Fraction(Decimal(repr(value)))
        steps = exact / self.step
        if steps.denominator != 1:
            raise Invalid(f"{where}: {value} is not on the field's grid of {float(self.step)}")
        return int(steps)

    def plain(self, value: int) -> int | float:
        """A bound as it stands in a rule: steps, or the double."""
        return value / (1 << self.bits) if self.is_float else value

    def from_plain(self, value: Any) -> int:
        if self.is_float:
            return int(Fraction(float(value)) / self.step)
        return int(value)

    def text(self, value: int) -> Any:
        """A value of the field for a row: exact for integers and decimals, else the double."""
        if self.is_float:
            return value / (1 << self.bits)
        if self.field.resolution:
            return float(value * self.step)
        return Decimal(value).scaleb(-self.field.scale) if self.field.scale else value


def bytes_of(total: int, exponent: int) -> bytes:
    """``total`` · 2^exponent: exponent i16, length u16, two's complement of that length; the number
    is odd, or 0 with exponent 0; as short as it can be. Little-endian."""
    if total == 0:
        return bytes(4)
    zeros = (total & -total).bit_length() - 1
    total >>= zeros
    size = (total if total >= 0 else ~total).bit_length() // 8 + 1
    head = (exponent + zeros).to_bytes(2, "little", signed=True) + size.to_bytes(2, "little")
    return head + total.to_bytes(size, "little", signed=True)


def number_of(data: bytes, exponent: int) -> int:
    """The inverse: in units of 2^exponent. Raises ``Corrupt``."""
    if len(data) < 4 or len(data) != 4 + int.from_bytes(data[2:4], "little"):
        raise Corrupt("summary: an exact number whose length is not its own")
    shift = int.from_bytes(data[:2], "little", signed=True) - exponent
    total = int.from_bytes(data[4:], "little", signed=True)
    if shift < 0 or bytes_of(total << shift, exponent) != data:
        raise Corrupt("summary: an exact number in another form")
    return total << shift


def varints(counts: Sequence[int]) -> bytes:
    """Counts as LEB128, seven bits a byte, the lowest first."""
    out = bytearray()
    for count in counts:
        while count > 0x7F:
            out.append(count & 0x7F | 0x80)
            count >>= 7
        out.append(count)
    return bytes(out)


def read_varints(data: bytes, expected: int) -> list[int]:
    """The inverse. Raises ``Corrupt`` unless there are as many as expected, in their one form."""
    out: list[int] = []
    value = shift = 0
    for byte in data[: 10 * expected]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            out.append(value)
            value = shift = 0
    if len(out) != expected or varints(out) != data:
        raise Corrupt(f"summary: a histogram that is not of {expected} counts")
    return out


def counts_bytes(counts: dict[str, int]) -> bytes:
    """How many values, then of each, in the order of its bytes: length, UTF-8, count; as LEB128."""
    out = bytearray(varints([len(counts)]))
    for text, count in sorted((text.encode(), count) for text, count in counts.items()):
        out += varints([len(text)]) + text + varints([count])
    return bytes(out)


def read_counts(data: bytes, most: int) -> dict[str, int]:
    """The inverse. Raises ``Corrupt`` for another form, or for more values than there may be."""
    out: dict[str, int] = {}
    try:
        total, at = _varint(data, 0)
        for _ in range(min(total, most)):
            size, at = _varint(data, at)
            text = data[at : at + size].decode()
            out[text], at = _varint(data, at + size)
    except (IndexError, UnicodeDecodeError) as error:
        raise Corrupt(f"summary: counts of values: {error}") from None
    if counts_bytes(out) != data:
        raise Corrupt("summary: counts of values in another form")
    return out


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            break
    return value, at


__all__ = ["FLOAT_BITS", "Grid", "bytes_of", "counts_bytes", "number_of", "read_counts",
           "read_varints", "varints"]  # fmt: skip
