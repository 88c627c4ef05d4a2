"""Features of entities over time: typed aggregates whose answers are the same bits in a stream, in
a backfill, and after a restart.

    view = FeatureView("pump_health", entity="pump", source="telemetry", lateness="30s", features=[
        Agg("temp", ["mean", "std"], window=["1m", "1h"], ttl="5m", min_coverage=0.8),
        Last("temp"), Recency()])
    store = FeatureStore.open("state/features", views=[view], schemas=[telemetry])
    store.update("telemetry", {"time": t, "pump": "p7", "temp": 21.5})
    reading = store.read("pump_health", ["p7"], as_of=t)
    found = backfill(view, rows, schema=telemetry)

Windows are (t - W, t]; events are ordered by (time, source, source sequence), exact ties by value;
one no older than its entity's newest minus `lateness` counts wherever it arrives, an older one is
counted as late and left out. Sums are exact integers over declared grids (floats without a
resolution: an exact sum of doubles). `std` is the sample's, ddof = 1: MISSING for one event. All
rules: docs/formats/feature-definition.md; state on disk: docs/formats/feature-snapshot.md.
"""

from __future__ import annotations

from edgecore._core import features as _core
from edgecore._core import rows as _rows
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from edgecore.fs import Fs
    from edgecore.schema import Schema

    Duration = str | int  # "90s", or nanoseconds

# Numbers are those of features::Op, from 1 on; names are in definitions and fingerprints.
OPS = ("count", "sum", "mean", "std", "min", "max", "last", "recency")
VERSIONS = dict.fromkeys(OPS, 1)
ON_STALE = ("use", "default", "missing")
FRESH, STALE, MISSING = 0, 1, 2
REASONS = ("", "never", "warming", "ttl", "empty_window", "too_few")
NEVER = -1  # the age where there is no event
DEFINITION_BYTES_MAX = 1 << 20
SNAPSHOT_BYTES_MAX = 1 << 30

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
    """One feature of a view. Immutable; made by :class:`Agg`, :class:`Last`, :class:`Recency`.

    `window` is in nanoseconds; for ``last`` and ``recency`` it is how far back they look. Once the
    view has it, `fingerprint` is its identity: BLAKE3 of its canonical definition with the view's
    stream, entity key and time rules. What its field means is the schema's to say.
    """

    __slots__ = ("default", "field", "fingerprint", "min_count", "min_coverage", "name", "on_stale",
                 "op", "ttl", "version", "window")  # fmt: skip

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
        self.fingerprint = b""

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

    def core(self) -> _core.Spec:
        """As the compiled plan takes it."""
        return (
            self.name, OPS.index(self.op) + 1, self.version, self.field, self.window, self.ttl,
            ON_STALE.index(self.on_stale), self.default, self.min_coverage, self.min_count,
            self.fingerprint,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Feature({self.name!r}, {self.op}@{self.version})"


class Agg:
    """Operators over windows of one field: a feature for each pair, ``<field>_<op>_<window>``.

    :param ops: of ``count sum mean std min max``; :param window: one or more durations.
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
            if op not in OPS[:6]:
                raise Invalid(f"Agg of {field!r}: {op!r} is none of {', '.join(OPS[:6])}")
        self.features = [
            Feature(f"{field}_{op}_{_label(span)}", op, field, span, **judged)
            for span in windows
            for op in names
        ]


class Last:
    """The newest value of a field, no older than `within`: ``<field>_last``."""

    def __init__(self, field: str, *, within: Duration = "1d", **judged: Any) -> None:
        self.features = [Feature(f"{field}_last", "last", field, within, **judged)]


class Recency:
    """Seconds since the entity's newest event, no longer than `within`: ``recency``."""

    def __init__(self, *, within: Duration = "1d", **judged: Any) -> None:
        self.features = [Feature("recency", "recency", "", within, **judged)]


def _label(window: Duration) -> str:
    return window if isinstance(window, str) else duration_text(window)


class FeatureView:
    """The list of features that a model reads, of one stream's entities. Immutable; data alone.

    :param entity: the field that tells entities apart; empty: the stream is one entity, ``""``.
    :param source: the stream.
    :param lateness: how far behind its entity's newest event one may arrive and still count.
    :param features: :class:`Agg`, :class:`Last`, :class:`Recency` or :class:`Feature`.
    """

    def __init__(
        self,
        name: str,
        *,
        entity: str,
        source: str,
        lateness: Duration = 0,
        features: Iterable[Agg | Last | Recency | Feature],
    ) -> None:
        from cbor2 import dumps

        self.name = name
        self.entity = entity
        self.source = source
        self.lateness = duration_ns(lateness)
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
        rules = {"entity": entity, "source": source, "lateness": self.lateness}
        for feature in self.specs:
            definition = {"feature": feature.canonical(), "rules": rules}
            feature.fingerprint = blake3(dumps(definition, canonical=True))
        features_ = [feature.canonical() for feature in self.specs]
        self._bytes: bytes = dumps({"name": name, **rules, "features": features_}, canonical=True)
        self.fingerprint = blake3(self._bytes)

    @property
    def fingerprints(self) -> list[bytes]:
        """Of the features, in their order."""
        return [feature.fingerprint for feature in self.specs]

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
        return _core.Plan(
            self.name, self.entity, self.source, self.lateness,
            [feature.core() for feature in self.specs], self.fingerprint, schema,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureView) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"FeatureView({self.name!r}, {len(self.specs)} features)"


class Reading:
    """Features of entities as of one time: flat, entity after entity, ``len(names)`` each.

    values (f64, NaN where MISSING), states (u8: FRESH, STALE, MISSING), ages (i64 ns since the
    field's newest event, -1 never), coverage (f64, known share of the window), reasons (u8, index
    into :data:`REASONS`).
    """

    __slots__ = ("ages", "coverage", "entities", "names", "reasons", "states", "values")

    def __init__(
        self,
        names: tuple[str, ...],
        entities: list[str],
        answers: tuple[bytearray, bytearray, bytearray, bytearray, bytearray],
    ) -> None:
        values, states, ages, coverage, reasons = answers
        self.names = names
        self.entities = entities
        self.values = memoryview(values).cast("d")
        self.states = memoryview(states)
        self.ages = memoryview(ages).cast("q")
        self.coverage = memoryview(coverage).cast("d")
        self.reasons = memoryview(reasons)

    def __len__(self) -> int:
        return len(self.entities)

    def to_dict(self, entity: int = 0) -> dict[str, float | None]:
        """Of one entity by its index: name -> value, None where MISSING."""
        width = len(self.names)
        at = entity * width
        return {
            name: None if self.states[at + i] == MISSING else self.values[at + i]
            for i, name in enumerate(self.names)
        }


class FeatureStore:
    """Engines of views, fed by their streams, kept across restarts.

    State is derived from events: :meth:`snapshot` writes it whole (old or new after a power cut),
    and whoever feeds the store goes on behind :attr:`position`. A snapshot that is damaged or of
    another definition is not used; :attr:`rebuilt` says so, and :attr:`position` is then 0.
    One thread updates; readers may be others.
    """

    def __init__(self, path: str, views: Iterable[FeatureView], schemas: Iterable[Schema], fs: Fs):
        self.path = path
        self.rebuilt: dict[str, str] = {}
        self._fs = fs
        self._views = {view.name: view for view in views}
        self._engines: dict[str, _core.Engine] = {}
        self._schemas = {schema.stream: schema for schema in schemas}
        self._feeds: dict[str, _core.Feed] = {}
        fs.make_directories(path)
        for view in self._views.values():
            if view.source not in self._schemas:
                raise Invalid(f"view {view.name!r} reads stream {view.source!r}: give its schema")
            self._engines[view.name] = self._open(view)
        for stream, schema in self._schemas.items():
            readers = [v.name for v in self._views.values() if v.source == stream]
            engines = [self._engines[name] for name in readers]
            self._feeds[stream] = _core.Feed(schema, engines)
        self._next = max((engine.position for engine in self._engines.values()), default=0) + 1

    @staticmethod
    def open(
        path: str,
        *,
        views: Iterable[FeatureView],
        schemas: Iterable[Schema],
        fs: Fs | None = None,
    ) -> FeatureStore:
        """:param path: a directory, made if need be; :param schemas: of the views' streams.
        :raises Incompatible: a view that its schema can't serve."""
        from edgecore.fs import PosixFs

        return FeatureStore(str(path), views, schemas, PosixFs() if fs is None else fs)

    def _file(self, view: str) -> str:
        return f"{self.path}/{blake3(view.encode()).hex()[:16]}.features"

    def _open(self, view: FeatureView) -> _core.Engine:
        plan = view.plan(self._schemas[view.source])
        file = self._file(view.name)
        if self._fs.exists(file):
            try:
                data = self._fs.read_file(file, SNAPSHOT_BYTES_MAX)
                return _core.Engine.restore(plan, data)
            except (Corrupt, Incompatible) as error:
                self.rebuilt[view.name] = f"{error.word}: {error}"
        return _core.Engine(plan)

    @property
    def position(self) -> int:
        """Every view has seen the rows up to here; replay from behind it."""
        return min((engine.position for engine in self._engines.values()), default=0)

    @property
    def late_rows(self) -> int:
        """Rows that came too late to count, over all views."""
        return sum(engine.late_rows for engine in self._engines.values())

    @property
    def memory_bytes(self) -> int:
        """Heap of the entities' state, from capacities."""
        return sum(engine.memory_bytes for engine in self._engines.values())

    def update(self, stream: str, row: Mapping[str, Any], position: int = 0) -> None:
        """One event. `position`: of the log; without one the store counts. A row that a view has
        seen already is left out for it. Raises ``Invalid`` for a bad row, which changes nothing."""
        at = position or self._next
        self._feeds[stream].update(row, at)
        self._next = at + 1

    def update_batch(self, stream: str, rows: Any, position: int = 0) -> None:
        """Many events; `rows` as :func:`prepare` takes them, `position` that of the first."""
        batch = prepare(self._schemas[stream], rows)
        at = position or self._next
        self._feeds[stream].update_batch(batch, at)
        self._next = at + len(batch)

    def read(self, view: str | FeatureView, entities: str | Sequence[str], as_of: int) -> Reading:
        """:param as_of: ns UTC, as rows' ``time``. An unknown entity is all MISSING.
        :raises Stale: older than an entity's newest event by more than the view's lateness."""
        name = view if isinstance(view, str) else view.name
        engine = self._engines.get(name)
        if engine is None:
            raise Invalid(f"no view {name!r} in this store")
        asked = [entities] if isinstance(entities, str) else list(entities)
        return Reading(self._views[name].names, asked, engine.read(asked, as_of))

    def snapshot(self) -> None:
        """Makes the state durable. Raises ``Exhausted`` or ``Unavailable`` (the old one stays)."""
        for name, engine in self._engines.items():
            self._fs.write_atomic(self._file(name), engine.snapshot())


class Backfilled:
    """Features of every row as of its time, in total order (time, source, source sequence).

    times (i64 ns), values (f64) and states (u8) are flat memoryviews, values and states with
    ``width`` per row; entities is one text per row.
    """

    __slots__ = ("_entities", "_source", "names", "numbers", "states", "times", "values", "width")

    def __init__(self, view: FeatureView, plan: _core.Plan, batch: _rows.Batch) -> None:
        times, values, states, numbers = _core.backfill(plan, batch)
        self.names = view.names
        self.width = len(view.names)
        self.times = memoryview(times).cast("q")
        self.values = memoryview(values).cast("d")
        self.states = memoryview(states)
        self.numbers = memoryview(numbers).cast("I")  # of the rows, in the batch
        self._source = (plan, batch)
        self._entities: list[str] | None = None

    def __len__(self) -> int:
        return len(self.times)

    @property
    def entities(self) -> list[str]:
        if self._entities is None:
            self._entities = _core.entities(*self._source, self.numbers)
        return self._entities

    def rows(self) -> Iterator[memoryview[float]]:
        """The values of each row."""
        for at in range(0, len(self.values), self.width):
            yield self.values[at : at + self.width]


def prepare(schema: Schema, rows: Any) -> _rows.Batch:
    """Rows (dicts, a numpy structured array, Arrow data, a Batch) normalised to the schema, once.
    Raises ``Invalid`` naming row, field and value."""
    if isinstance(rows, _rows.Batch):
        return rows
    batch = _rows.Batch(schema)
    batch.extend(rows)
    return batch


def backfill(view: FeatureView, rows: Any, *, schema: Schema) -> Backfilled:
    """What a stream would have answered at each row, by the same kernel, to the bit.

    :param rows: as :func:`prepare` takes them, in any order; none is late.
    :raises Invalid: a bad row. :raises Incompatible: as :meth:`FeatureView.plan`.
    """
    return Backfilled(view, view.plan(schema), prepare(schema, rows))


__all__ = [
    "FRESH", "MISSING", "NEVER", "REASONS", "STALE", "Agg", "Backfilled", "Feature",
    "FeatureStore", "FeatureView", "Last", "Reading", "Recency", "backfill", "duration_ns",
    "prepare",
]  # fmt: skip
