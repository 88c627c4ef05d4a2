"""Times as files write them, to nanoseconds UTC, exactly. A time without a zone is read as UTC.

Formats by name: ``iso`` (2014-02-14 14:30:00, with T, fraction and zone as they come), ``unix_s``
(fractions allowed), ``unix_ms``, ``unix_us``, ``unix_ns``; anything with a ``%`` is strptime's.
"""

from __future__ import annotations

from datetime import UTC, datetime

from edgecore.errors import Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000_000
UNIX_NS = {"unix_s": SECOND, "unix_ms": 1_000_000, "unix_us": 1_000, "unix_ns": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _whole_ns(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * SECOND + passed.microseconds * 1_000


def _iso(text: str) -> int:
    head, dot, tail = text.partition(".")
    if len(head) < 10 or head[4:5] != "-":
        raise ValueError(text)
    if not dot:
        return _whole_ns(datetime.fromisoformat(text))
    digits = len(tail) - len(tail.lstrip("0123456789"))
    if not 1 <= digits <= 9:
        raise ValueError(text)
    whole = _whole_ns(datetime.fromisoformat(head + tail[digits:]))
    return whole + int(tail[:digits].ljust(9, "0"))


def _unix(text: str, unit_ns: int) -> int:
    whole, dot, fraction = text.partition(".")
    if not whole.removeprefix("-").isdecimal() or (dot and not fraction.isdecimal()):
        raise ValueError(text)
    scaled = int(whole + fraction) * unit_ns
    parts: int = 10 ** len(fraction)
    ns, rest = divmod(scaled, parts)
    if rest:
        raise ValueError(text)
    return ns


def reader(time_format: str) -> Callable[[str], int]:
    """A function from text to ns UTC that raises ``ValueError``. Unknown format: ``Invalid``."""
    if time_format == "iso":
        return _iso
    if time_format in UNIX_NS:
        unit = UNIX_NS[time_format]
        return lambda text: _unix(text, unit)
    if "%" in time_format:
        return lambda text: _whole_ns(datetime.strptime(text, time_format))
    names = ", ".join(["iso", *UNIX_NS])
    raise Invalid(f"time format {time_format!r}: one of {names}, or a strptime format with %")


def instant(text: str) -> int:
    """A time that a person gives: ns since 1970, or ISO 8601, exactly. Raises ``Invalid``."""
    try:
        return int(text) if text.lstrip("-").isdigit() else _iso(text)
    except (ValueError, OverflowError):
        raise Invalid(
            f"time {text!r}: nanoseconds since 1970, or like 2026-01-31T09:30:00Z"
        ) from None


_DATES = ("%d{}%m{}%Y", "%m{}%d{}%Y", "%Y{}%m{}%d")
_CLOCKS = (" %H:%M:%S", " %H:%M", " %H:%M:%S.%f", "")


def written_formats() -> list[str]:
    """The date formats that `schema infer` tries, the most telling first."""
    dates = [date.format(mark, mark) for mark in "/.-" for date in _DATES]
    return ["iso", *(date + clock for date in dates if date != "%Y-%m-%d" for clock in _CLOCKS)]


__all__ = ["UNIX_NS", "instant", "reader", "written_formats"]
