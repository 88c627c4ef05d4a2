"""Features of other streams in a view, as of the same times.

    view = FeatureView("pump", entity="pump", source="telemetry", features=[
        Agg("temp", "mean", window="10m"),
        AsOf("weather", Last("outside"), lateness="10m"),             # the stream is one
        AsOf("orders", Agg("units", "sum", window="1h"), entity="line")])  # line = this pump

Such a view is parts, an ordinary view of each stream, which are read as of one time and give one
vector (cpp/features/joined.hpp). A read as of t counts events with times up to t, in the streams
taken in so far. See docs/adr/0035-other-streams-are-parts-of-a-view.md.
"""

from __future__ import annotations

from edgecore._core import features as _core
from edgecore.digest import blake3
from edgecore.errors import Incompatible, Invalid
from edgecore.feature_spec import Feature
from edgecore.feature_view import FeatureView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edgecore._core import rows as _rows
    from edgecore.schema import Schema

    GapAt = tuple[int, int, int]
    Answers = tuple[bytearray, bytearray, bytearray, bytearray, bytearray, int]


class Part:
    """What a view reads of one stream: a view of it, whose features are those of the whole at
    `columns`. ``keyed``: its entities are the view's; else it is one."""

    __slots__ = ("columns", "keyed", "view")

    def __init__(self, whole: FeatureView, join: dict[str, object] | None) -> None:
        body = join or {
            "stream": whole.source, "entity": whole.entity, "lateness": whole.lateness,
        }  # fmt: skip
        self.columns = [at for at, spec in enumerate(whole.specs) if spec.join == join]
        self.keyed = join is None or bool(body["entity"])
        own = []
        for at in self.columns:
            plain = {key: v for key, v in whole.specs[at].canonical().items() if key != "join"}
            own.append(Feature.from_canonical(plain))
        self.view = FeatureView(
            whole.name, entity=str(body["entity"]), source=str(body["stream"]),
            lateness=int(str(body["lateness"])), features=own, **whole.rules.canonical(),
        )  # fmt: skip

    def plan(self, schemas: Mapping[str, Schema]) -> _core.Plan:
        """Raises ``Incompatible`` naming a stream whose schema is not there."""
        return self.view.plan(_schema_of(self.view, schemas))


def _schema_of(view: FeatureView, schemas: Mapping[str, Schema]) -> Schema:
    if view.source not in schemas:
        raise Incompatible(f"view {view.name!r} also reads stream {view.source!r}: give its schema")
    return schemas[view.source]


def parts_of(view: FeatureView) -> list[Part]:
    """That of its own stream, then one for each stream and way of reading it."""
    joins: list[dict[str, object] | None] = [None]
    for spec in view.specs:
        if spec.join not in joins:
            joins.append(spec.join)
    return [Part(view, join) for join in joins]


def fingerprints(view: FeatureView, schemas: Mapping[str, Schema]) -> list[bytes]:
    """Of its features, in order. What is read of another stream is what it is there, its field
    definitions and time rules included, together with what it is joined to."""
    from cbor2 import dumps

    parts = parts_of(view)
    own = _schema_of(parts[0].view, schemas)
    keys = {field.name: field.fingerprint for field in own.fields}
    out = [b""] * len(view.specs)
    for part in parts:
        prints = part.view.fingerprints_for(_schema_of(part.view, schemas))
        for at, one in zip(part.columns, prints, strict=True):
            if view.specs[at].join is not None:
                key = keys[view.entity] if part.keyed and view.entity else b""
                one = blake3(dumps({"as_of": view.source, "entity": key, "feature": one},
                                   canonical=True))  # fmt: skip
            out[at] = one
    return out


def plans(view: FeatureView, schemas: Mapping[str, Schema]) -> list[_core.StreamPart]:
    """Each part compiled, its features under the fingerprints that they have in the view.

    :raises Incompatible: as :meth:`FeatureView.plan` of any of them."""
    prints = fingerprints(view, schemas)
    whole = blake3(view.fingerprint + b"".join(prints))
    out: list[_core.StreamPart] = []
    for part in parts_of(view):
        schema = _schema_of(part.view, schemas)
        own = [prints[at] for at in part.columns]
        out.append((part.view.compiled(schema, own, whole), part.columns, part.keyed))
    return out


def backfill(
    view: FeatureView,
    batches: Mapping[str, _rows.Batch],
    schemas: Mapping[str, Schema],
    positions: Mapping[str, Sequence[int]] | None,
    since: int,
    until: int,
    gaps: Mapping[str, Sequence[GapAt]] | None = None,
) -> tuple[_core.Plan, Answers]:
    """The plan of the view's own stream, and what ``_core.backfill`` gives, of all parts.

    :param positions: of the rows of each stream in one log, whose order is that of arrival; None:
        as of the rows' times, a row of another stream before one of the same time.
    :param gaps: by stream (position, begin, end): known behind that position; without positions
        from the beginning. The features of that stream are covered less."""
    made = plans(view, schemas)
    streams = (view.source, *sorted(view.joins))
    for stream in streams:
        if stream not in batches:
            raise Invalid(f"view {view.name!r} also reads stream {stream!r}: give its rows")
        if positions is not None and len(positions[stream]) != len(batches[stream]):
            raise Invalid(f"{len(positions[stream])} positions of {len(batches[stream])} rows")
    histories = [
        (
            batches[stream],
            list(positions[stream]) if positions is not None else [],
            list((gaps or {}).get(stream, ())),
        )
        for stream in streams
    ]
    return made[0][0], _core.backfill_joined(made, histories, positions is not None, since, until)


def streams(schema: Schema, joined: Iterable[Schema]) -> dict[str, Schema]:
    """By stream. Raises ``Invalid`` for two of one."""
    out = {schema.stream: schema}
    for one in joined:
        if one.stream in out:
            raise Invalid(f"two schemas of stream {one.stream!r}")
        out[one.stream] = one
    return out


__all__ = ["Part", "backfill", "fingerprints", "parts_of", "plans", "streams"]
