"""Features of other streams in a view, as of the same times.

    view = FeatureView("pump", entity="pump", source="telemetry", features=[
        Agg("temp", "mean", window="10m"),
        AsOf("weather", Last("outside"), lateness="10m"),             # the stream is one
        AsOf("orders", Agg("units", "sum", window="1h"), entity="line")])  # line = this pump

Such a view is parts, an ordinary view of each stream, which are read as of one time and give one
vector. A read as of t counts events with times up to t, in the streams taken in so far: fed in
order of position, the parts know at any time what the log did.
See docs/adr/0035-other-streams-are-parts-of-a-view.md.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from math import nan

from edgecore._core import features as _core
from edgecore.digest import DIGEST_BYTES, blake3
from edgecore.errors import Corrupt, Incompatible, Invalid, Stale
from edgecore.feature_kinds import Constant
from edgecore.feature_spec import Feature
from edgecore.feature_view import FeatureView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from edgecore._core import rows as _rows
    from edgecore.schema import Schema

    Answers = tuple[bytearray, bytearray, bytearray, bytearray, bytearray]

MISSING, NEVER, BEHIND = 2, -1, 8  # state, age, reason
_MAGIC = b"ECJOINED"
_VERSION = 1
_FORMATS = "dBqdB"  # of values, states, ages, coverage, reasons
_ABSENT = (nan, MISSING, NEVER, 0.0, BEHIND)


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


class Joined:
    """Engines of a view's parts, with the face of one. Fed in order of position by whoever has the
    streams; ``position`` is that of the newest row of any."""

    def __init__(
        self, view: FeatureView, schemas: Mapping[str, Schema], data: bytes | None = None
    ) -> None:
        """:param data: of :meth:`snapshot`. Raises ``Corrupt``, or ``Incompatible`` for that of
        another view or a schema that is not there."""
        self.parts = parts_of(view)
        self._width = len(view.specs)
        plans = [part.plan(schemas) for part in self.parts]
        self.engines = [_core.Engine(plan) for plan in plans]
        if data is not None:
            kept = _unpacked(data, len(plans))
            self.engines = [
                _core.Engine.restore(plan, one) for plan, one in zip(plans, kept, strict=True)
            ]

    def reading(self, stream: str) -> list[_core.Engine]:
        """The engines that take the stream's rows."""
        pairs = zip(self.parts, self.engines, strict=True)
        return [engine for part, engine in pairs if part.view.source == stream]

    def read(self, entities: list[str], as_of: int) -> Answers:
        """As that of an engine. Raises ``Stale`` for the view's own stream."""
        count = len(entities) * self._width
        out = (bytearray(8 * count), bytearray(count), bytearray(8 * count), bytearray(8 * count),
               bytearray(count))  # fmt: skip
        for part, engine in zip(self.parts, self.engines, strict=True):
            asked = entities if part.keyed else [""]
            found = engine.read(asked, as_of) if part is self.parts[0] else _other(
                engine, asked, as_of, len(part.columns))  # fmt: skip
            for kind, to, source in zip(_FORMATS, out, found, strict=True):
                _scatter(kind, to, source, part, len(entities), self._width)
        return out

    def gap(self, begin: int, end: int, position: int, stream: str) -> None:
        for engine in self.reading(stream):
            engine.gap(begin, end, position)

    @property
    def position(self) -> int:
        return max(engine.position for engine in self.engines)

    @property
    def final_before(self) -> int | None:
        found = [engine.final_before for engine in self.engines]
        known = [one for one in found if one is not None]
        return min(known) if len(known) == len(found) else None

    def total(self, name: str) -> int:
        """Of a count that engines have."""
        return sum(getattr(engine, name) for engine in self.engines)

    def take_set_aside(self) -> list[tuple[int, int, int, int]]:
        return sorted(one for engine in self.engines for one in engine.take_set_aside())

    def snapshot(self) -> bytes:
        """docs/formats/feature-snapshot.md."""
        body = _MAGIC + _VERSION.to_bytes(2, "little") + len(self.engines).to_bytes(2, "little")
        for engine in self.engines:
            one = engine.snapshot()
            body += len(one).to_bytes(8, "little") + one
        return body + blake3(body)


def _other(engine: _core.Engine, asked: list[str], as_of: int, width: int) -> Answers:
    """Where the stream is too far ahead of the time: MISSING."""
    try:
        return engine.read(asked, as_of)
    except Stale:
        found = [_one(engine, name, as_of, width) for name in asked]
    values, states, ages, coverage, reasons = (
        bytearray(b"".join(one[at] for one in found)) for at in range(5)
    )
    return values, states, ages, coverage, reasons


def _one(engine: _core.Engine, name: str, as_of: int, width: int) -> Answers:
    try:
        return engine.read([name], as_of)
    except Stale:
        values, states, ages, coverage, reasons = (
            bytearray(array(kind, [value] * width).tobytes())
            for kind, value in zip(_FORMATS, _ABSENT, strict=True)
        )
        return values, states, ages, coverage, reasons


def _scatter(
    kind: Any, whole: bytearray, answers: bytearray, part: Part, count: int, width: int
) -> None:
    to, source = memoryview(whole).cast(kind), memoryview(answers).cast(kind)
    own = len(part.columns)
    for entity in range(count):
        base = entity * own if part.keyed else 0
        for at, column in enumerate(part.columns):
            to[entity * width + column] = source[base + at]


def _unpacked(data: bytes, count: int) -> list[bytes]:
    if data[: len(_MAGIC)] != _MAGIC:
        raise Incompatible("feature snapshot: of a view of one stream; replay the log instead")
    body = data[:-DIGEST_BYTES]
    if len(data) < len(_MAGIC) + 4 + DIGEST_BYTES or blake3(body) != data[-DIGEST_BYTES:]:
        raise Corrupt("feature snapshot: its checksum fails")
    version, parts = (int.from_bytes(body[at : at + 2], "little") for at in (8, 10))
    if version != _VERSION or parts != count:
        raise Incompatible("feature snapshot: of another view or build; replay the log instead")
    out, at = [], 12
    for _ in range(count):
        size = int.from_bytes(body[at : at + 8], "little")
        at += 8
        if size > len(body) - at:
            raise Corrupt("feature snapshot: ends in a part")
        out.append(body[at : at + size])
        at += size
    if at != len(body):
        raise Corrupt("feature snapshot: bytes behind its end")
    return out


# ---------------------------------------------------------------- history


class Other:
    """Rows of another stream as history: `take` gives an engine those up to a place in order."""

    def __init__(self, batch: _rows.Batch, positions: Sequence[int] | None) -> None:
        self._batch = batch
        keys = positions if positions is not None else list(batch.column("time"))
        if len(keys) != len(batch):
            raise Invalid(f"{len(keys)} positions of {len(batch)} rows")
        self._order = sorted(range(len(keys)), key=lambda row: keys[row])
        self._keys = [keys[row] for row in self._order]
        self._straight = self._order == list(range(len(keys)))
        self._at = 0

    def take(self, engine: _core.Engine, upto: int) -> None:
        """Rows with a time, or a position, up to `upto`."""
        end = bisect_right(self._keys, upto, self._at)
        if self._straight and end > self._at:
            engine.update(self._batch, self._at, end - self._at, self._at + 1)
        elif not self._straight:
            for at in range(self._at, end):
                engine.update(self._batch, self._order[at], 1, at + 1)
        self._at = max(self._at, end)


def backfill(
    view: FeatureView,
    batches: Mapping[str, _rows.Batch],
    schemas: Mapping[str, Schema],
    positions: Mapping[str, Sequence[int]] | None,
    since: int,
    until: int,
) -> tuple[_core.Plan, tuple[bytearray, bytearray, bytearray, bytearray, bytearray, int]]:
    """The plan of the view's own stream, and what ``_core.backfill`` gives, of all parts.

    :param positions: of the rows of each stream in one log, whose order is that of arrival; None:
        as of the rows' times, a row of another stream before one of the same time."""
    own, *rest = parts_of(view)
    schema = _schema_of(own.view, schemas)
    width = len(view.specs)
    # A constant is FRESH unless its row was set aside.
    probe = FeatureView(
        view.name, entity=view.entity, source=view.source, lateness=view.lateness,
        features=[*own.view.specs, Constant("?".join(view.names), 0)], **view.rules.canonical(),
    )  # fmt: skip
    plan = probe.plan(schema)
    found = _core.backfill(plan, batches[view.source], positions is not None, since, until)
    times, numbers = memoryview(found[0]).cast("q"), memoryview(found[3]).cast("I")
    count, step = len(times), len(probe.specs)
    taken = memoryview(found[2])[step - 1 :: step]
    values: memoryview[float] = memoryview(array("d", [nan]) * (count * width))
    states = memoryview(bytearray([MISSING]) * (count * width))
    mine, said = memoryview(found[1]).cast("d"), memoryview(found[2])
    for at, column in enumerate(own.columns):
        values[column::width] = mine[at::step]
        states[column::width] = said[at::step]
    names = _core.entities(plan, batches[view.source], numbers) if view.entity else [""] * count
    late = found[5]
    for part in rest:
        stream = part.view.source
        if stream not in batches:
            raise Invalid(f"view {view.name!r} also reads stream {stream!r}: give its rows")
        engine = _core.Engine(part.plan(schemas))
        other = Other(batches[stream], positions[stream] if positions is not None else None)
        for row in range(count):
            upto = positions[view.source][numbers[row]] if positions is not None else times[row]
            other.take(engine, upto)
            if taken[row] == MISSING:
                continue
            name = names[row] if part.keyed else ""
            answer = _one(engine, name, times[row], len(part.columns))
            one, state = memoryview(answer[0]).cast("d"), answer[1]
            for at, column in enumerate(part.columns):
                values[row * width + column] = one[at]
                states[row * width + column] = state[at]
        late += (engine.late_rows + engine.ahead_rows) if positions is not None else 0
    to = bytearray(values.cast("B")), bytearray(states)
    return plan, (found[0], *to, found[3], bytearray(count), late)


def streams(schema: Schema, joined: Iterable[Schema]) -> dict[str, Schema]:
    """By stream. Raises ``Invalid`` for two of one."""
    out = {schema.stream: schema}
    for one in joined:
        if one.stream in out:
            raise Invalid(f"two schemas of stream {one.stream!r}")
        out[one.stream] = one
    return out


__all__ = ["BEHIND", "Joined", "Part", "backfill", "fingerprints", "parts_of", "streams"]
