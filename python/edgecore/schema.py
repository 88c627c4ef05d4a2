"""Schemas of streams: typed fields with units and grids, in one canonical form.

A :class:`Schema` is data. Its identity is the BLAKE3 digest of its deterministic CBOR
(RFC 8949 §4.2.1; docs/formats/schema.md), so that device, hub and backfill agree on what a stream
means without sharing code. Values are put on their grid once, when rows are appended, and never
converted again.
"""

from __future__ import annotations

from edgecore import limits
from edgecore._core import rows as _rows
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

TIERS = ("critical", "feedback", "labeled", "diagnostic", "bulk")
DTYPES = (
    "bool",
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
    "f32",
    "f64",
    "decimal",
    "category",
    "utf8",
    "bytes",
)
DECIMAL_SCALE_MAX = 18
RESERVED_KEYS = ("time", "source", "source_seq")


def _split_dtype(dtype: str) -> tuple[str, int]:
    """``"decimal(3)"`` -> ``("decimal", 3)``; other dtypes have scale 0."""
    if dtype.startswith("decimal(") and dtype.endswith(")"):
        digits = dtype[len("decimal(") : -1]
        if digits.isascii() and digits.isdigit() and int(digits) <= DECIMAL_SCALE_MAX:
            return "decimal", int(digits)
        raise Invalid(f"dtype {dtype!r}: decimal(k) needs k from 0 to {DECIMAL_SCALE_MAX}")
    if dtype not in DTYPES or dtype == "decimal":
        raise Invalid(f"unknown dtype {dtype!r}: one of {', '.join(DTYPES)}; decimal as decimal(k)")
    return dtype, 0


class Field:
    """One typed field of a stream. Immutable; its `fingerprint` is the BLAKE3 of its definition.

    :param name: at most 23 bytes of UTF-8; ``time``, ``source`` and ``source_seq`` are reserved.
    :param dtype: one of :data:`DTYPES`, decimals as ``decimal(k)``: an exact count of 10^-k.
    :param unit: a unit symbol (UCUM style, e.g. ``degC``, ``1/min``); empty for none.
    :param range: inclusive bounds in the field's unit; rows outside are ``Invalid``.
    :param required: a null (or a missing key) is ``Invalid``.
    :param resolution: floats only: the declared grid step, which makes exact variance possible.
    :param max_error: numbers only: how far a stored value may be from what the dtype would hold, in
        the field's unit. Values are rounded when they are appended, to multiples of the largest of
        1, 2 and 5 times 10^n that is at most twice this, so that bulk data take less space; every
        copy is the same. 0: nothing is rounded away. What comes as decimals is best declared
        ``decimal(k)``: a float in the middle between two multiples may stay as it is.
    :param ratio: numbers only, whose `range` begins at 0 or above it (unsigned ones need none): the
        field is on a ratio scale, 0 is none of it and twice is twice as much: a duration, a size, a
        count. Quantiles of many values then have a relative error (docs/features.md). A
        temperature in degrees Celsius is not.
    """

    __slots__ = ("dtype", "fingerprint", "max_error", "name", "range", "ratio", "required",
                 "resolution", "scale", "unit")  # fmt: skip

    def __init__(
        self,
        name: str,
        dtype: str,
        *,
        unit: str = "",
        range: tuple[float, float] | None = None,
        required: bool = False,
        resolution: float = 0.0,
        max_error: float = 0.0,
        ratio: bool = False,
    ) -> None:
        if not name or len(name.encode()) > limits.NAME_BYTES_MAX:
            raise Invalid(f"field name {name!r}: 1 to {limits.NAME_BYTES_MAX} bytes of UTF-8")
        if name in RESERVED_KEYS:
            raise Invalid(f"field name {name!r} is reserved for the row's own keys")
        self.name = name
        self.dtype, self.scale = _split_dtype(dtype)
        self.unit = unit
        if range is not None:
            if self.dtype in ("bool", "category", "utf8", "bytes"):
                raise Invalid(f"field {name!r}: a {self.dtype} has no range")
            if not range[0] <= range[1]:
                raise Invalid(f"field {name!r}: range {range} is empty")
        self.range = (range[0], range[1]) if range is not None else None
        self.required = required
        if resolution and self.dtype not in ("f32", "f64"):
            raise Invalid(f"field {name!r}: resolution is for f32 and f64; use decimal(k)")
        if not resolution >= 0.0:
            raise Invalid(f"field {name!r}: resolution must be positive")
        self.resolution = float(resolution)
        if max_error and self.dtype in ("bool", "category", "utf8", "bytes"):
            raise Invalid(f"field {name!r}: max_error is for numbers, not for {self.dtype}")
        if not 0.0 <= max_error < float("inf"):
            raise Invalid(f"field {name!r}: max_error must be positive")
        self.max_error = float(max_error)
        if ratio:
            self._check_ratio()
        self.ratio = bool(ratio)
        from cbor2 import dumps

        self.fingerprint = blake3(dumps(self.canonical(), canonical=True))

    def _check_ratio(self) -> None:
        if self.dtype in ("bool", "category", "utf8", "bytes"):
            raise Invalid(f"field {self.name!r}: ratio is for numbers, not for {self.dtype}")
        least = 0.0 if self.dtype.startswith("u") else -1.0
        if (self.range[0] if self.range else least) < 0:
            raise Invalid(f"field {self.name!r}: on a ratio scale nothing is below 0; say so with "
                          "range=(0, most)")  # fmt: skip

    @property
    def dtype_text(self) -> str:
        """The dtype as it is written, e.g. ``decimal(3)``."""
        return f"decimal({self.scale})" if self.dtype == "decimal" else self.dtype

    def canonical(self) -> dict[str, object]:
        """The map that is encoded: only what differs from the defaults, so that forms agree."""
        out: dict[str, object] = {"name": self.name, "dtype": self.dtype_text}
        if self.unit:
            out["unit"] = self.unit
        if self.range is not None:
            out["range"] = [float(self.range[0]), float(self.range[1])]
        if self.required:
            out["required"] = True
        if self.resolution:
            out["resolution"] = self.resolution
        if self.max_error:
            out["max_error"] = self.max_error
        if self.ratio:
            out["ratio"] = True
        return out

    @staticmethod
    def from_canonical(body: Mapping[str, Any]) -> Field:
        """The inverse of :meth:`canonical`. Raises ``Corrupt`` for anything else."""
        try:
            bounds = body.get("range")
            if bounds is not None:
                low, high = bounds
                bounds = (float(low), float(high))
            return Field(
                str(body["name"]),
                str(body["dtype"]),
                unit=str(body.get("unit", "")),
                range=bounds,
                required=bool(body.get("required", False)),
                resolution=float(body.get("resolution", 0.0)),
                max_error=float(body.get("max_error", 0.0)),
                ratio=bool(body.get("ratio", False)),
            )
        except (KeyError, TypeError, ValueError, ArithmeticError, Invalid) as error:
            raise Corrupt(f"field definition: {error}") from None


class Schema:
    """A stream's typed fields, tier and version. Immutable.

    :param stream: the stream's name; ``edgecore.`` names are the system's.
    :param tier: one of :data:`TIERS`, in order of worth.
    :param fields: 1 to 256 fields with distinct names.
    :param version: a change of fields or tier is a new version.
    """

    __slots__ = ("_core", "canonical_bytes", "fields", "fingerprint", "stream", "tier", "version")

    def __init__(
        self, stream: str, *, tier: str, fields: Iterable[Field], version: int = 1
    ) -> None:
        if not stream or len(stream.encode()) > limits.STREAM_NAME_BYTES_MAX:
            raise Invalid(f"stream {stream!r}: 1 to {limits.STREAM_NAME_BYTES_MAX} bytes of UTF-8")
        if tier not in TIERS:
            raise Invalid(f"tier {tier!r}: one of {', '.join(TIERS)}")
        self.stream = stream
        self.tier = tier
        self.fields = tuple(fields)
        self.version = version
        if not 1 <= len(self.fields) <= limits.SCHEMA_FIELDS_MAX:
            raise Invalid(f"stream {stream!r}: 1 to {limits.SCHEMA_FIELDS_MAX} fields")
        if len({field.name for field in self.fields}) != len(self.fields):
            raise Invalid(f"stream {stream!r}: two fields share a name")
        from cbor2 import dumps

        self.canonical_bytes: bytes = dumps(
            {
                "fields": [field.canonical() for field in self.fields],
                "stream": stream,
                "tier": tier,
                "version": version,
            },
            canonical=True,
        )
        self._core = _rows.Schema(
            stream,
            TIERS.index(tier),
            version,
            [
                (
                    field.name,
                    DTYPES.index(field.dtype) + 1,
                    field.scale,
                    field.required,
                    field.resolution,
                    field.range,
                    field.max_error,
                    field.ratio,
                    field.fingerprint,
                )
                for field in self.fields
            ],
            self.canonical_bytes,
        )
        self.fingerprint: bytes = self._core.fingerprint

    @property
    def core(self) -> _rows.Schema:
        """The compiled form, for the faces of the C++ rooms."""
        return self._core

    @staticmethod
    def from_bytes(data: bytes) -> Schema:
        """Decodes :attr:`canonical_bytes`. Raises ``Corrupt`` for anything not canonical."""
        from cbor2 import CBORDecodeError, loads

        if len(data) > limits.SCHEMA_BYTES_MAX:
            raise Corrupt(f"schema of {len(data)} bytes: at most {limits.SCHEMA_BYTES_MAX}")
        try:
            body = loads(data)
            schema = Schema(
                str(body["stream"]),
                tier=str(body["tier"]),
                fields=[Field.from_canonical(field) for field in body["fields"]],
                version=int(body["version"]),
            )
        except (CBORDecodeError, KeyError, TypeError, ValueError, Invalid) as error:
            raise Corrupt(f"schema: {error}") from None
        if schema.canonical_bytes != data:
            raise Corrupt("schema: the encoding is not the canonical one")
        return schema

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.canonical_bytes == other.canonical_bytes

    def __hash__(self) -> int:
        return hash(self.canonical_bytes)

    def __repr__(self) -> str:
        return f"Schema({self.stream!r}, tier={self.tier!r}, {len(self.fields)} fields)"


__all__ = ["DTYPES", "TIERS", "Field", "Schema"]
