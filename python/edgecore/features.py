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
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.feature_backfill import Backfilled, backfill, prepare
from edgecore.feature_kinds import (
    Agg,
    AsOf,
    Constant,
    Distinct,
    Ewma,
    Histogram,
    Last,
    MostFrequent,
    Ratio,
    Recency,
    TimeIn,
    Vector,
    category_code,
)
from edgecore.feature_spec import Feature, duration_ns
from edgecore.feature_view import FeatureView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from edgecore.fs import Fs
    from edgecore.schema import Schema

FRESH, STALE, MISSING = 0, 1, 2
REASONS = ("", "never", "warming", "ttl", "empty_window", "too_few", "evicted", "approximate",
           "behind")  # fmt: skip
LATE, AHEAD = 1, 2  # why a row was set aside
NEVER = -1  # the age where there is no event
SNAPSHOT_BYTES_MAX = 1 << 30


class Reading:
    """Features of entities as of one time: flat, entity after entity, ``len(names)`` each.

    values (f64, NaN where MISSING), states (u8: FRESH, STALE, MISSING), ages (i64 ns since the
    field's newest event, -1 never), coverage (f64, known share of the window), reasons (u8, index
    into :data:`REASONS`; ``approximate``: FRESH, within the plan's ``errors`` of what is exact, in
    the field's unit, or its ``relative_errors``, as shares of it).
    ``final``: FINAL, no row that is still to come can change any of it; else PROVISIONAL, as always
    in a view without ``idle=``.
    """

    __slots__ = ("ages", "coverage", "entities", "final", "names", "reasons", "states", "values")

    def __init__(
        self,
        names: tuple[str, ...],
        entities: list[str],
        answers: tuple[bytearray, bytearray, bytearray, bytearray, bytearray],
        final: bool = False,
    ) -> None:
        values, states, ages, coverage, reasons = answers
        self.names = names
        self.entities = entities
        self.final = final
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
            self._feeds[stream] = _core.Feed(schema, self._reading(stream))
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

    def _reading(self, stream: str) -> list[_core.Engine]:
        return [
            self._engines[view.name]
            for view in self._views.values()
            if stream == view.source or stream in view.joins
        ]

    def _total(self, count: str) -> int:
        return sum(getattr(engine, count) for engine in self._engines.values())

    def _file(self, view: str) -> str:
        return f"{self.path}/{blake3(view.encode()).hex()[:16]}.features"

    def _open(self, view: FeatureView) -> _core.Engine:
        joined = [self._schemas[one] for one in view.joins if one in self._schemas]
        plans = view.plans(self._schemas[view.source], joined)
        file = self._file(view.name)
        if self._fs.exists(file):
            try:
                return _core.Engine.restore(plans, self._fs.read_file(file, SNAPSHOT_BYTES_MAX))
            except (Corrupt, Incompatible) as error:
                self.rebuilt[view.name] = f"{error.word}: {error}"
        return _core.Engine(plans)

    @property
    def position(self) -> int:
        """Every view has seen the rows up to here; replay from behind it."""
        return min((engine.position for engine in self._engines.values()), default=0)

    @property
    def late_rows(self) -> int:
        """Rows that came too late to count, over all views."""
        return self._total("late_rows")

    @property
    def ahead_rows(self) -> int:
        """Rows too far ahead of their stream to count, over all views."""
        return self._total("ahead_rows")

    @property
    def undefined_values(self) -> int:
        """Values of expressions that were no number (a division by zero, an overflow), in the rows
        since it was opened."""
        return self._total("undefined_values")

    @property
    def evicted(self) -> int:
        """Entities that were let go to keep views within their bounds."""
        return self._total("evicted")

    @property
    def memory_bytes(self) -> int:
        """Heap of the entities' state, from capacities."""
        return self._total("memory_bytes")

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
        before = engine.final_before
        final = before is not None and as_of < before
        return Reading(self._views[name].names, asked, engine.read(asked, as_of), final)

    def final_before(self, view: str | FeatureView) -> int | None:
        """The watermark (ns): readings as of an earlier time are FINAL. None while there is none,
        and in a view without ``idle=``."""
        return self._engines[view if isinstance(view, str) else view.name].final_before

    def gap(self, stream: str, begin: int, end: int, position: int = 0) -> None:
        """Events of the stream with times (ns) in (begin, end] may be missing: until a window has
        left the span, its coverage counts it as not known. Raises ``Invalid`` for end < begin."""
        at = position or self._next
        for engine in self._reading(stream):
            engine.gap(begin, end, at, stream)
        self._next = at + 1

    def take_set_aside(self) -> list[tuple[str, int, int, int, int]]:
        """Rows that were not applied since the last call, the newest 4,096 of each view: (view,
        position, time, by ns, LATE or AHEAD)."""
        return [
            (name, *one[:4])
            for name, engine in self._engines.items()
            for one in engine.take_set_aside()
        ]

    def snapshot(self) -> None:
        """Makes the state durable. Raises ``Exhausted`` or ``Unavailable`` (the old one stays)."""
        for name, engine in self._engines.items():
            self._fs.write_atomic(self._file(name), engine.snapshot())


__all__ = [
    "AHEAD", "FRESH", "LATE", "MISSING", "NEVER", "REASONS", "STALE", "Agg", "AsOf", "Backfilled",
    "Constant", "Distinct", "Ewma", "Feature", "FeatureStore", "FeatureView", "Histogram", "Last",
    "MostFrequent", "Ratio", "Reading", "Recency", "TimeIn", "Vector", "backfill", "category_code",
    "duration_ns", "prepare",
]  # fmt: skip
