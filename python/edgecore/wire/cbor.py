"""Deterministic CBOR (RFC 8949 §4.2.1), strict both ways.

One value has one encoding: what does not re-encode to the same bytes is refused, and with it
duplicate keys, indefinite lengths, tags and long integer forms. Bounds are checked first.
"""

from __future__ import annotations

from edgecore.errors import Corrupt, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEPTH_MAX = 16
BYTES_MAX = 1 << 20


def _check(value: object, depth: int) -> None:
    if depth < 0:
        raise Invalid(f"CBOR: nested deeper than {DEPTH_MAX}")
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return
    if isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or len(key.encode()) > 23:
                raise Invalid("CBOR: map keys are text of at most 23 bytes")
            _check(item, depth - 1)
    else:
        raise Invalid(f"CBOR: a {type(value).__name__} has no form here")


def encode(value: object) -> bytes:
    """The one encoding of None, bool, int, float, str, bytes, and lists and maps of them."""
    from cbor2 import dumps

    _check(value, DEPTH_MAX)
    return dumps(value, canonical=True)


def decode(data: bytes, bytes_max: int = BYTES_MAX) -> Any:
    """The inverse of :func:`encode`. Raises ``Corrupt`` for anything that it would not make."""
    from cbor2 import CBORDecodeError, loads

    if len(data) > bytes_max:
        raise Corrupt(f"CBOR of {len(data)} bytes: at most {bytes_max}")
    try:
        value = loads(data)
        again = encode(value)
    except (CBORDecodeError, Invalid, ValueError, RecursionError, TypeError) as error:
        raise Corrupt(f"CBOR: {error}") from None
    if again != data:
        raise Corrupt("CBOR: the encoding is not the canonical one")
    return value


def field(body: Any, key: str, kind: type, size: int | None = None) -> Any:
    """``body[key]`` of the exact type (and length, for bytes). Raises ``Corrupt``."""
    value: Any = body.get(key) if isinstance(body, dict) else None
    wrong = type(value) is not kind
    if wrong or (size is not None and len(value) != size):
        raise Corrupt(f"message: {key!r} is missing or malformed")
    return value


def unsigned(value: object, bits: int = 64) -> int:
    """An unsigned integer of so many bits. Raises ``Corrupt``."""
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise Corrupt(f"message: not an unsigned integer of {bits} bits")
    return value


__all__ = ["BYTES_MAX", "DEPTH_MAX", "decode", "encode", "field", "unsigned"]
