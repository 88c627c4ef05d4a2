"""Feature views: definitions as data, from the operators and windows a user writes to the compiled
plan. Immutable; two definitions that are alike are the same bytes.

Rules and bytes: docs/formats/feature-definition.md.
"""

from __future__ import annotations

from edgecore._core import features as _core
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.feature_rules import KEYS, Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from edgecore.schema import Schema

    Duration = str | int  # "90s", or nanoseconds

# By number, from 1 on, as the compiled core has them; names are in definitions and fingerprints.
OPERATORS = _core.operators()
OPS = tuple(row[0] for row in OPERATORS)
VERSIONS = {row[0]: row[1] for row in OPERATORS}
_TOTALS, _ENDS = 0, 1  # families of operators over a window of one field
AGGREGATES = tuple(row[0] for row in OPERATORS if row[2] in (_TOTALS, _ENDS))
ON_STALE = ("use", "default", "missing")
DEFINITION_BYTES_MAX = 1 << 20

_UNITS = {
    "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}  # fmt: skip


def duration_ns(value: Duration) -> int:
    """``"90s"``, ``"10m"``, ``"1h"``, ``"250ms"`` or nanoseconds. Raises ``Invalid``."""
    if isinstance(value, int):
        return value
    digits = value.rstrip("nusmhd")
    if not digits.isdigit() or value[len(digits) :] not in _UNITS:
        raise Invalid(f"duration {value!r}: whole nanoseconds, or a number with {'|'.join(_UNITS)}")
    return int(digits) * _UNITS[value[len(digits) :]]


def duration_text(ns: int) -> str:
    """The shortest form, e.g. ``"1h"``."""
    unit = next(unit for unit in reversed(_UNITS) if ns % _UNITS[unit] == 0)
    return f"{ns // _UNITS[unit]}{unit}"


class Feature:
    """One feature of a view. Immutable; made by :class:`Agg` and its like.

    `window` is in nanoseconds; for ``last`` and ``recency`` it is how far back they look. Its
    identity depends on what its field means: :meth:`FeatureView.fingerprints_for`.
    """

    __slots__ = ("default", "field", "min_count", "min_coverage", "name", "on_stale", "op", "ttl",
                 "version", "window")  # fmt: skip

    def __init__(
        self,
        name: str,
        op: str,
        field: str,
        window: Duration,
        *,
        ttl: Duration = 0,
        on_stale: str = "use",
        default: float | None = None,
        min_coverage: float = 0.0,
        min_count: int = 0,
        version: int = 1,
    ) -> None:
        if op not in OPS:
            raise Invalid(f"feature {name!r}: operator {op!r} is none of {', '.join(OPS)}")
        if on_stale not in ON_STALE:
            raise Invalid(f"feature {name!r}: on_stale is one of {', '.join(ON_STALE)}")
        if not 0 <= min_count < 1 << 32:
            raise Invalid(f"feature {name!r}: min_count {min_count} is out of range")
        self.name = name
        self.op = op
        self.field = field
        self.window = duration_ns(window)
        self.ttl = duration_ns(ttl)
        self.on_stale = on_stale
        self.default = None if default is None else float(default)
        self.min_coverage = float(min_coverage)
        self.min_count = min_count
        self.version = version

    def canonical(self) -> dict[str, object]:
        """What is encoded: only what differs from the defaults."""
        every = {
            "field": self.field, "ttl": self.ttl, "default": self.default,
            "on_stale": "" if self.on_stale == "use" else self.on_stale,
            "min_coverage": self.min_coverage, "min_count": self.min_count,
        }  # fmt: skip
        out: dict[str, object] = {
            key: value for key, value in every.items() if value or key == "default"
        }
        if self.default is None:
            del out["default"]
        must = {"name": self.name, "op": self.op, "version": self.version, "window": self.window}
        return out | must

    @staticmethod
    def from_canonical(body: Mapping[str, Any]) -> Feature:
        """The inverse. Raises ``Incompatible`` for an operator that this build lacks."""
        rest = {key: value for key, value in body.items() if key not in ("name", "op", "window")}
        if body["op"] not in OPS or body["version"] != VERSIONS[body["op"]]:
            raise Incompatible(
                f"feature {body['name']!r}: {body['op']}@{body['version']} is not in this build"
            )
        return Feature(body["name"], body["op"], rest.pop("field", ""), body["window"], **rest)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that it reads."""
        return (self.field,) if self.field else ()

    def core(self, fingerprint: bytes) -> _core.Spec:
        """As the compiled plan takes it."""
        return (
            self.name, OPS.index(self.op) + 1, self.version, self.field, self.window, self.ttl,
            ON_STALE.index(self.on_stale), self.default, self.min_coverage, self.min_count,
            fingerprint,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Feature({self.name!r}, {self.op}@{self.version})"


class Agg:
    """Operators over windows of one field: a feature for each pair, ``<field>_<op>_<window>``.

    :param ops: of ``count sum mean std variance min max range first delta rate``; ``delta`` is the
        last value of the window minus its first, ``rate`` that per second (a counter that is reset
        gives a negative one); :param window: one or more durations.
    :param ttl: older than this (time since the field's newest event), a value is STALE.
    :param on_stale: what a STALE value is: ``use`` it, the ``default`` (none: NaN, for which the
        binding has its substitute), or ``missing``.
    :param min_coverage: share of the window that must be known, :param min_count: events it must
        hold; below either, MISSING (``warming``).
    """

    def __init__(
        self,
        field: str,
        ops: str | Sequence[str],
        *,
        window: Duration | Sequence[Duration],
        **judged: Any,
    ) -> None:
        windows = [window] if isinstance(window, str | int) else list(window)
        names = [ops] if isinstance(ops, str) else list(ops)
        for op in names:
            if op not in AGGREGATES:
                raise Invalid(f"Agg of {field!r}: {op!r} is none of {', '.join(AGGREGATES)}")
        self.features = [
            Feature(f"{field}_{op}_{_label(span)}", op, field, span, **judged)
            for span in windows
            for op in names
        ]


class Last:
    """The newest value of a field, no older than `within`: ``<field>_last``."""

    def __init__(self, field: str, *, within: Duration = "1d", **judged: Any) -> None:
        self.features = [Feature(f"{field}_last", "last", field, within, **judged)]


class Ewma:
    """The mean of a field in which an event counts half as much for each `half_life` of its age:
    ``<field>_ewma_<half life>``. It looks 16 half-lives back, in panes of an eighth of one; an
    eighth must be whole nanoseconds."""

    def __init__(self, field: str, *, half_life: Duration, **judged: Any) -> None:
        name = f"{field}_ewma_{_label(half_life)}"
        self.features = [Feature(name, "ewma", field, half_life, **judged)]


class Recency:
    """Seconds since the entity's newest event, no longer than `within`: ``recency``."""

    def __init__(self, *, within: Duration = "1d", **judged: Any) -> None:
        self.features = [Feature("recency", "recency", "", within, **judged)]


def _label(window: Duration) -> str:
    return window if isinstance(window, str) else duration_text(window)


# What a feature is called and which fields it reads are not its parameters.
_NOT_PARAMS = ("name", "op", "version", "field")


def _meaning(prints: Mapping[str, bytes], name: str, whose: str, schema: Schema) -> bytes:
    if name not in prints:
        raise Incompatible(f"{whose}: stream {schema.stream!r} has no field {name!r}")
    return prints[name]


def _difference(trained: Schema, here: Schema, name: str) -> Iterator[str]:
    """What a field's two definitions do not agree in."""
    old, new = (
        next(field for field in schema.fields if field.name == name).canonical()
        for schema in (trained, here)
    )
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            was, now = (f"{one[key]!r}" if key in one else "not given" for one in (old, new))
            yield f"{key} of field {name!r} was {was} and is {now} here"


class FeatureView:
    """The list of features that a model reads, of one stream's entities. Immutable; data alone.

    :param entity: the field that tells entities apart; empty: the stream is one entity, ``""``.
    :param source: the stream.
    :param lateness: how far behind its entity's newest event one may arrive and still count.
    :param max_ahead, idle, max_entities, max_bytes: :class:`~edgecore.feature_rules.Rules`.
    :param features: :class:`Agg`, :class:`Ewma`, :class:`Last`, :class:`Recency` or
        :class:`Feature`.
    """

    def __init__(
        self,
        name: str,
        *,
        entity: str,
        source: str,
        lateness: Duration = 0,
        max_ahead: Duration = 0,
        idle: Duration = 0,
        max_entities: int = 0,
        max_bytes: int = 0,
        features: Iterable[Agg | Ewma | Last | Recency | Feature],
    ) -> None:
        from cbor2 import dumps

        self.name = name
        self.entity = entity
        self.source = source
        self.lateness = duration_ns(lateness)
        self.rules = Rules(duration_ns(max_ahead), duration_ns(idle), max_entities, max_bytes)
        self.specs: tuple[Feature, ...] = tuple(
            feature
            for item in features
            for feature in ([item] if isinstance(item, Feature) else item.features)
        )
        if not self.specs:
            raise Invalid(f"view {name!r} has no features")
        self.names = tuple(feature.name for feature in self.specs)
        if len(set(self.names)) != len(self.names):
            twice = next(one for one in self.names if self.names.count(one) > 1)
            raise Invalid(f"view {name!r}: feature {twice!r} is defined twice")
        definition = {
            "name": name, "entity": entity, "source": source, "lateness": self.lateness,
            "features": [feature.canonical() for feature in self.specs], **self.rules.canonical(),
        }  # fmt: skip
        self._bytes: bytes = dumps(definition, canonical=True)
        self.fingerprint = blake3(self._bytes)

    def fingerprints_for(self, schema: Schema) -> list[bytes]:
        """Identities of the features over a schema, in their order: what models bind to.

        BLAKE3 of the operator's version, the parameters, the definitions of the fields that it
        reads, the entity key and the time rules (docs/formats/feature-definition.md). Another
        feature or field changes none; what a field means changes those that read it.

        :raises Incompatible: the schema lacks a field that the view reads."""
        from cbor2 import dumps

        prints = {field.name: field.fingerprint for field in schema.fields}
        entity = (
            _meaning(prints, self.entity, f"view {self.name!r}", schema) if self.entity else b""
        )
        rules = {"entity": entity, "source": self.source, "lateness": self.lateness,
                 **self.rules.of_time()}  # fmt: skip
        out = []
        for spec in self.specs:
            body = spec.canonical()
            params = {key: value for key, value in body.items() if key not in _NOT_PARAMS}
            definition = {
                "op": f"{spec.op}@{spec.version}",
                "params": params,
                "fields": [
                    _meaning(prints, name, f"feature {spec.name!r}", schema) for name in spec.fields
                ],
                "rules": rules,
            }
            out.append(blake3(dumps(definition, canonical=True)))
        return out

    def require_same(self, trained: Schema, here: Schema, needed: Iterable[bytes]) -> None:
        """Refuses a schema over which a feature is another than the one a model was made for.

        :param trained: the schema that the model's features are of; :param here: the one that
            will feed them; :param needed: fingerprints that the model's binding reads.
        :raises Incompatible: names the features and what differs."""
        wanted = set(needed)
        before = self.fingerprints_for(trained)
        if missing := wanted - set(before):
            raise Incompatible(
                f"feature {min(missing).hex()[:12]} of the binding is none of view {self.name!r} "
                f"over version {trained.version} of {trained.stream!r}"
            )
        after = self.fingerprints_for(here)
        changed = [
            spec
            for spec, old, new in zip(self.specs, before, after, strict=True)
            if old in wanted and old != new
        ]
        if not changed:
            return
        names = sorted({name for spec in changed for name in (*spec.fields, self.entity) if name})
        what = "; ".join(line for name in names for line in _difference(trained, here, name))
        features = ", ".join(repr(spec.name) for spec in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise Incompatible(f"{what}: it would change feature {features}{more} of {self.name!r}")

    def to_bytes(self) -> bytes:
        """Deterministic CBOR; docs/formats/feature-definition.md."""
        return self._bytes

    @staticmethod
    def from_bytes(data: bytes) -> FeatureView:
        """The inverse of :meth:`to_bytes`. Raises ``Corrupt``; ``Incompatible`` for an operator
        of a later build."""
        from cbor2 import CBORDecodeError, loads

        if len(data) > DEFINITION_BYTES_MAX:
            raise Corrupt(f"feature view of {len(data)} bytes: at most {DEFINITION_BYTES_MAX}")
        try:
            body = loads(data)
            view = FeatureView(
                body["name"],
                entity=body["entity"],
                source=body["source"],
                lateness=body["lateness"],
                features=[Feature.from_canonical(item) for item in body["features"]],
                **{key: body[key] for key in KEYS if key in body},
            )
        except (CBORDecodeError, LookupError, TypeError, ValueError, AttributeError, Invalid,
                RecursionError) as error:  # fmt: skip
            raise Corrupt(f"feature view: {error}") from None
        if view.to_bytes() != data:
            raise Corrupt("feature view: not what this definition encodes to")
        return view

    def plan(self, schema: Schema) -> _core.Plan:
        """Compiled for a schema of its stream. Raises ``Incompatible`` where the schema lacks a
        field, or an operator can't be exact over it (the message says what to declare)."""
        prints = self.fingerprints_for(schema)
        return _core.Plan(
            self.name, self.entity, self.source, self.lateness,
            [spec.core(one) for spec, one in zip(self.specs, prints, strict=True)],
            blake3(self.fingerprint + b"".join(prints)), schema, self.rules.core(),
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureView) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"FeatureView({self.name!r}, {len(self.specs)} features)"
