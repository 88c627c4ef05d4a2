"""One feature of a view, as data: an operator, its window and its parameters by name.

Rules and bytes: docs/formats/feature-definition.md.
"""

from __future__ import annotations

from edgecore._core import features as _core
from edgecore.errors import Incompatible, Invalid
from edgecore.expressions import Expression, col
from edgecore.units import conversion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from edgecore.schema import Schema

    Duration = str | int  # "90s", or nanoseconds

OPERATORS = _core.operators()
OPS = tuple(dict.fromkeys(row[0] for row in OPERATORS))
# The versions of each operator, the newest last: what a build knows beside it is for views that
# were written before.
VERSIONS = {op: sorted(row[1] for row in OPERATORS if row[0] == op) for op in OPS}
_TOTALS, _ENDS, _VALUES = 0, 1, 6  # families of operators over a window of one field
# Those among them that need no parameter.
AGGREGATES = tuple(
    op
    for op in dict.fromkeys(row[0] for row in OPERATORS if row[2] in (_TOTALS, _ENDS, _VALUES))
    if op not in ("quantile", "bin")
)
# Those that say whether less than an exact answer over a grid will do.
APPROXIMABLE = ("std", "variance", "distinct")
ON_STALE = ("use", "default", "missing", "recompute", "refuse")

_UNITS = {
    "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}  # fmt: skip


def duration_ns(value: Duration) -> int:
    """``"90s"``, ``"10m"``, ``"1h"``, ``"250ms"`` or nanoseconds. Raises ``Invalid``."""
    if isinstance(value, int):
        return _within(value)
    digits = value.rstrip("nusmhd")
    if not digits.isdigit() or value[len(digits) :] not in _UNITS:
        raise Invalid(f"duration {value!r}: whole nanoseconds, or a number with {'|'.join(_UNITS)}")
    return _within(int(digits) * _UNITS[value[len(digits) :]])


def _within(ns: int) -> int:
    """What a time can hold; the core bounds it further, by what it is for."""
    if not -(1 << 63) <= ns < 1 << 63:
        raise Invalid("a duration is nanoseconds of 64 bits")
    return ns


def duration_text(ns: int) -> str:
    """The shortest form, e.g. ``"1h"``."""
    unit = next(unit for unit in reversed(_UNITS) if ns % _UNITS[unit] == 0)
    return f"{ns // _UNITS[unit]}{unit}"


def _on_stale(value: str) -> str:
    if value not in ON_STALE:
        raise Invalid(f"on_stale is one of {', '.join(ON_STALE)}")
    return value


def _count(value: int) -> int:
    if not 0 <= value < 1 << 32:
        raise Invalid(f"min_count {value} is out of range")
    return value


def _not_here(name: str, op: str, version: int) -> str:
    has = ", ".join(f"{op}@{one}" for one in VERSIONS.get(op, ())) or f"no {op}"
    return f"feature {name!r}: {op}@{version} is not in this build, which has {has}"


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise Invalid("a number beyond the range of doubles") from None


def _permille(value: int) -> int:
    if not 1 <= value <= 999:
        raise Invalid(f"permille {value} is not 1 to 999")
    return value


def _expression(body: object) -> list[object]:
    return Expression.from_canonical(body).canonical()


def _join(body: Mapping[str, Any]) -> dict[str, object]:
    if body.keys() != {"stream", "entity", "lateness"} or not body["stream"]:
        raise Invalid("a join has a stream, an entity and a lateness")
    stream, entity, lateness = body["stream"], body["entity"], body["lateness"]
    if not isinstance(stream, str) or not isinstance(entity, str) or type(lateness) is not int:
        raise Invalid("a join names a stream and a field, and its lateness is in nanoseconds")
    return {"stream": stream, "entity": entity, "lateness": _within(lateness)}


# What a feature may say beside its name, operator, version and window: by key of its definition,
# the default, which is not encoded, and what makes a valid value of the one given.
PARAMETERS: dict[str, tuple[object, Callable[[Any], Any]]] = {
    "field": ("", str),
    "expr": (None, _expression),
    "unit": ("", str),
    "convert": ("", str),
    "ttl": (0, duration_ns),
    "on_stale": ("use", _on_stale),
    "default": (None, _number),
    "min_coverage": (0.0, _number),
    "min_count": (0, _count),
    "hop": (0, duration_ns),
    "gap": (0, duration_ns),
    "hold": (0, duration_ns),
    "numerator": ("", str),
    "denominator": ("", str),
    "permille": (0, _permille),
    "at_least": (None, _number),
    "below": (None, _number),
    "value": (None, _number),
    "approx": (False, bool),
    "join": (None, _join),
}


class Feature:
    """One feature of a view. Immutable; made by :class:`Agg` and its like.

    `window` is in nanoseconds; for ``last`` and ``recency`` it is how far back they look. Its
    identity depends on what its field means: :meth:`FeatureView.fingerprints_for`.

    :param version: of the operator, the newest of this build if not given. An older one keeps its
        bits and has its own identity; :meth:`FeatureView.plan` refuses one that a build lacks.
    :param field: a name, or an :class:`~edgecore.expressions.Expression` in a field's place; what
        is encoded of it is then ``expr``.
    :param parameters: those of ``PARAMETERS``, for most of which :class:`Agg` says what they are.
    :raises Invalid: an operator or a parameter that there is not, or a value out of range.
    """

    __slots__ = ("name", "op", "version", "window", *PARAMETERS)

    field: str
    expr: list[object] | None
    unit: str
    convert: str
    ttl: int
    on_stale: str
    default: float | None
    min_coverage: float
    min_count: int
    hop: int
    gap: int
    hold: int
    numerator: str
    denominator: str
    permille: int
    at_least: float | None
    below: float | None
    value: float | None
    approx: bool
    join: dict[str, object] | None

    def __init__(
        self,
        name: str,
        op: str,
        field: str | Expression,
        window: Duration,
        *,
        version: int | None = None,
        **parameters: Any,
    ) -> None:
        if not isinstance(name, str):
            raise Invalid(f"a feature's name is a text, not {name!r}")
        if op not in OPS:
            raise Invalid(f"feature {name!r}: operator {op!r} is none of {', '.join(OPS)}")
        if unknown := parameters.keys() - PARAMETERS:
            raise Invalid(f"feature {name!r}: there is no parameter {min(unknown)!r}")
        self.name = name
        self.op = op
        self.version = VERSIONS[op][-1] if version is None else version
        self.window = duration_ns(window)
        reads = {"field": field} if isinstance(field, str) else {"expr": field.canonical()}
        given = {**reads, **parameters}
        try:
            for key, (default, valid) in PARAMETERS.items():
                value = given.get(key, default)
                setattr(self, key, default if value == default else valid(value))
            self._check_source()
        except (Incompatible, Invalid) as error:
            raise type(error)(f"feature {name!r}: {error}") from None

    def _check_source(self) -> None:
        if self.expr is not None and self.field:
            raise Invalid("it reads a field or an expression, not both")
        if self.unit and not self.field:
            raise Invalid("unit= is of a field; in an expression write col(name, unit)")
        if self.convert:
            conversion(self.convert, self.unit)

    def canonical(self) -> dict[str, object]:
        """What is encoded: only what differs from the defaults."""
        must = {"name": self.name, "op": self.op, "version": self.version, "window": self.window}
        values = {key: getattr(self, key) for key in PARAMETERS}
        return must | {key: value for key, value in values.items() if value != PARAMETERS[key][0]}

    @staticmethod
    def from_canonical(body: Mapping[str, Any]) -> Feature:
        """The inverse. Raises ``Incompatible`` for an operator or a parameter that this build
        lacks."""
        rest = {key: value for key, value in body.items() if key not in ("name", "op", "window")}
        if body["op"] not in OPS or body["version"] not in VERSIONS[body["op"]]:
            raise Incompatible(_not_here(body["name"], body["op"], body["version"]))
        if unknown := rest.keys() - PARAMETERS - {"version"}:
            raise Incompatible(
                f"feature {body['name']!r}: parameter {min(unknown)!r} is not in this build"
            )
        return Feature(body["name"], body["op"], rest.pop("field", ""), body["window"], **rest)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that it reads."""
        if (expression := self.expression) is not None:
            return expression.fields
        return (self.field,) if self.field else ()

    @property
    def operands(self) -> tuple[str, ...]:
        """Names of the features of the view that it is made of."""
        return (self.numerator, self.denominator) if self.op == "ratio" else ()

    @property
    def expression(self) -> Expression | None:
        """What it reads in a field's place."""
        return None if self.expr is None else Expression.from_canonical(self.expr)

    def source(self, schema: Schema) -> Expression | None:
        """What it reads over a schema in its field's place, a conversion included; None: the field.

        :raises Incompatible: a field whose unit is another than the one that is wanted."""
        units = {field.name: field.unit for field in schema.fields}

        def require(field: str, wanted: str) -> None:
            if wanted and units.get(field, wanted) != wanted:
                raise Incompatible(
                    f"feature {self.name!r} wants field {field!r} in {wanted!r}, stream "
                    f"{schema.stream!r} has it in {units[field] or 'no unit'!r}"
                )

        if (expression := self.expression) is not None:
            for field, wanted in expression.columns():
                require(field, wanted)
            return expression
        if self.convert and units.get(self.field) == self.convert:
            factor, offset = conversion(self.convert, self.unit)
            return col(self.field) * factor + offset
        require(self.field, self.unit)
        return None

    def core(self, schema: Schema, fingerprint: bytes) -> dict[str, object]:
        """As the compiled plan takes it. Raises ``Incompatible`` for an operator's version that
        this build lacks."""
        if self.version not in VERSIONS[self.op]:
            raise Incompatible(_not_here(self.name, self.op, self.version))
        body = self.canonical()
        for key in ("expr", "unit", "convert"):
            body.pop(key, None)
        if (source := self.source(schema)) is not None:
            body.pop("field", None)
            body["expr"] = source.to_bytes()
        return {**body, "fingerprint": fingerprint}

    def __repr__(self) -> str:
        return f"Feature({self.name!r}, {self.op}@{self.version})"


def features_of(items: Iterable[Any]) -> Iterator[Feature]:
    """Of features and of what makes some (:mod:`edgecore.feature_kinds`), in order."""
    for item in items:
        yield from [item] if isinstance(item, Feature) else item.features


__all__ = ["AGGREGATES", "APPROXIMABLE", "ON_STALE", "OPERATORS", "OPS", "VERSIONS", "Feature",
           "duration_ns", "duration_text", "features_of"]  # fmt: skip
