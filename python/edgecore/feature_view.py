"""Feature views: definitions as data, from the features of one stream's entities to the compiled
plan. Immutable; two definitions that are alike are the same bytes.

Rules and bytes: docs/formats/feature-definition.md.
"""

from __future__ import annotations

from edgecore._core import features as _core
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.feature_rules import KEYS, Rules
from edgecore.feature_spec import Feature, duration_ns, features_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from edgecore.feature_kinds import Kind
    from edgecore.feature_spec import Duration
    from edgecore.schema import Schema

DEFINITION_BYTES_MAX = 1 << 20
# What a feature is called, and the names of what it reads, are not its parameters.
_NOT_PARAMS = ("name", "op", "version", "field", "numerator", "denominator")


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
    :param features: :class:`Feature`, or what makes some: :mod:`edgecore.feature_kinds`.
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
        features: Iterable[Kind | Feature],
    ) -> None:
        from cbor2 import dumps

        if not all(isinstance(one, str) for one in (name, entity, source)):
            raise Invalid("a view's name, entity and source are texts")
        self.name = name
        self.entity = entity
        self.source = source
        self.lateness = duration_ns(lateness)
        self.rules = Rules(duration_ns(max_ahead), duration_ns(idle), max_entities, max_bytes)
        self.specs: tuple[Feature, ...] = tuple(features_of(features))
        if not self.specs:
            raise Invalid(f"view {name!r} has no features")
        self.names = tuple(feature.name for feature in self.specs)
        if len(set(self.names)) != len(self.names):
            twice = next(one for one in self.names if self.names.count(one) > 1)
            raise Invalid(f"view {name!r}: feature {twice!r} is defined twice")
        self._by_name = dict(zip(self.names, self.specs, strict=True))
        for feature in self.specs:
            for operand in feature.operands:
                if operand not in self._by_name or self._by_name[operand].operands:
                    raise Invalid(f"feature {feature.name!r} divides {operand!r}, which is no "
                                  f"feature of view {name!r}, or a ratio itself")  # fmt: skip
        self.joins = {str(spec.join["stream"]) for spec in self.specs if spec.join}
        if source in self.joins or all(spec.join for spec in self.specs):
            raise Invalid(f"view {name!r}: it reads its own stream, and others by AsOf")
        for feature in self.specs:
            if any(self._by_name[one].join for one in feature.operands):
                raise Invalid(f"feature {feature.name!r} divides features of another stream")
        definition = {
            "name": name, "entity": entity, "source": source, "lateness": self.lateness,
            "features": [feature.canonical() for feature in self.specs], **self.rules.canonical(),
        }  # fmt: skip
        self._bytes: bytes = dumps(definition, canonical=True)
        self.fingerprint = blake3(self._bytes)
        self._planned: tuple[Schema, _core.Plan] | None = None  # the last: neither changes

    def fingerprints_for(self, schema: Schema, joined: Iterable[Schema] = ()) -> list[bytes]:
        """Identities of the features over a schema, in their order: what models bind to.

        BLAKE3 of the operator's version, the parameters, the definitions of the fields that it
        reads, the entity key and the time rules (docs/formats/feature-definition.md); of a ratio
        with the fingerprints of the two features instead of fields. Another feature or field
        changes none; what a field means changes those that read it.

        :param joined: schemas of the other streams that it reads.
        :raises Incompatible: a schema is not there, or lacks a field that the view reads."""
        from cbor2 import dumps

        if self.joins:
            from edgecore.feature_join import fingerprints, streams

            return fingerprints(self, streams(schema, joined))
        prints = {field.name: field.fingerprint for field in schema.fields}
        entity = (
            _meaning(prints, self.entity, f"view {self.name!r}", schema) if self.entity else b""
        )
        rules = {"entity": entity, "source": self.source, "lateness": self.lateness,
                 **self.rules.of_time()}  # fmt: skip
        made: dict[str, bytes] = {}
        for spec in sorted(self.specs, key=lambda spec: len(spec.operands)):
            spec.source(schema)  # a unit that is wanted is there
            params = {k: v for k, v in spec.canonical().items() if k not in _NOT_PARAMS}
            definition = {
                "op": f"{spec.op}@{spec.version}",
                "params": params,
                "fields": [
                    _meaning(prints, name, f"feature {spec.name!r}", schema) for name in spec.fields
                ] + [made[name] for name in spec.operands],
                "rules": rules,
            }  # fmt: skip
            made[spec.name] = blake3(dumps(definition, canonical=True))
        return [made[name] for name in self.names]

    def require_same(
        self,
        trained: Schema,
        here: Schema,
        needed: Iterable[bytes],
        trained_joined: Iterable[Schema] = (),
        here_joined: Iterable[Schema] = (),
    ) -> None:
        """Refuses a schema over which a feature is another than the one a model was made for.

        :param trained: the schema that the model's features are of; :param here: the one that
            will feed them; :param needed: fingerprints that the model's binding reads;
        :param trained_joined, here_joined: likewise of the other streams that the view reads.
        :raises Incompatible: names the features and what differs."""
        wanted = set(needed)
        old_joined, new_joined = tuple(trained_joined), tuple(here_joined)
        before = self.fingerprints_for(trained, old_joined)
        if missing := wanted - set(before):
            raise Incompatible(
                f"feature {min(missing).hex()[:12]} of the binding is none of view {self.name!r} "
                f"over version {trained.version} of {trained.stream!r}"
            )
        after = self.fingerprints_for(here, new_joined)
        changed = [
            spec
            for spec, old, new in zip(self.specs, before, after, strict=True)
            if old in wanted and old != new
        ]
        if not changed:
            return
        pairs = {self.source: (trained, here)}
        by_stream = {one.stream: one for one in new_joined}
        pairs |= {one.stream: (one, by_stream[one.stream]) for one in old_joined}
        read = {(self.source, self.entity)} if self.entity else set()
        for spec in changed:
            join = spec.join or {"stream": self.source, "entity": self.entity}
            fields = {*self._fields_of(spec), str(join["entity"])} - {""}
            read |= {(str(join["stream"]), name) for name in fields}
        what = "; ".join(
            line for stream, name in sorted(read) for line in _difference(*pairs[stream], name)
        )
        features = ", ".join(repr(spec.name) for spec in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise Incompatible(f"{what}: it would change feature {features}{more} of {self.name!r}")

    def _fields_of(self, spec: Feature) -> Iterator[str]:
        yield from spec.fields
        for operand in spec.operands:
            yield from self._by_name[operand].fields

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

    @staticmethod
    def from_toml(text: str, where: str = "view") -> FeatureView:
        """The view of a TOML text (docs/features.md), the same bytes as of one made in Python.

        :param where: the file, for messages. :raises Invalid: names the line and the key."""
        from edgecore.feature_toml import view_from_toml

        return view_from_toml(text, where)

    def plan(self, schema: Schema) -> _core.Plan:
        """Compiled for a schema of its stream. Raises ``Incompatible`` where the schema lacks a
        field, or an operator can't be exact over it (the message says what to declare), and for a
        view of several streams: :meth:`plans`."""
        if self.joins:
            raise Incompatible(f"view {self.name!r} also reads stream {min(self.joins)!r}: give "
                               "its schema")  # fmt: skip
        planned = self._planned
        if planned is not None and planned[0] is schema:
            return planned[1]
        prints = self.fingerprints_for(schema)
        plan = self.compiled(schema, prints, blake3(self.fingerprint + b"".join(prints)))
        self._planned = (schema, plan)
        return plan

    def plans(self, schema: Schema, joined: Iterable[Schema] = ()) -> _core.Plans:
        """What an engine takes: :meth:`plan`, or of a view of several streams its parts.

        :param joined: schemas of the other streams that it reads. Raises as :meth:`plan`."""
        if not self.joins:
            return self.plan(schema)
        from edgecore.feature_join import plans, streams

        return plans(self, streams(schema, joined))

    def compiled(self, schema: Schema, prints: Iterable[bytes], whole: bytes) -> _core.Plan:
        """With the identities that its features are to have, and its own."""
        return _core.Plan(
            self.name, self.entity, self.source, self.lateness,
            [spec.core(schema, one) for spec, one in zip(self.specs, prints, strict=True)],
            whole, schema, self.rules.core(),
        )  # fmt: skip

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_planned": None}  # a plan stays in its process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureView) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"FeatureView({self.name!r}, {len(self.specs)} features)"
