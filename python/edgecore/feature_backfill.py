"""Features of rows that are history, by the kernel that streams them: for training, and to compare.

Rows are Arrow data (pyarrow, polars, pandas with pyarrow, DuckDB: whatever has
``__arrow_c_stream__``), dicts, a numpy structured array, or the path of a Parquet file.

A backfill may be cut in partitions of time and spread over an engine that maps a function over
groups: each call gets the Arrow rows of its entities from :func:`warm_from` of its partition on,
and gives Arrow back::

    def one(table):                     # every row of an entity in one group
        return backfill(view, table, schema=schema, since=since, until=until).to_arrow()
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping

from edgecore._core import features as _core
from edgecore._core import rows as _rows
from edgecore.errors import Invalid, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from edgecore.feature_view import FeatureView
    from edgecore.schema import Schema

    GapBefore = tuple[int, int, int]  # a row of the input, begin and end of the gap (ns)

KNOWN = ("event", "ingest")
TIME_MIN, TIME_MAX = -(1 << 63), (1 << 63) - 1
STATES = ("fresh", "stale", "missing")


class Backfilled:
    """Features of rows as of their times: in total order (time, source, source sequence), or for
    ``known="ingest"`` in order of arrival.

    times (i64 ns), values (f64, NaN where MISSING) and states (u8: FRESH, STALE, MISSING) are flat
    memoryviews, values and states with ``width`` per row; numbers (u32) says which row of the input
    each is; entities is one text per row. final is 1 where no row that comes after all of these
    could change an answer (FINAL), else 0 (PROVISIONAL; all are, as known at ingest). ``late``:
    rows that a stream would not have applied; they are answered all MISSING.
    """

    __slots__ = ("_entities", "_source", "final", "late", "names", "numbers", "states", "times",
                 "values", "width")  # fmt: skip

    def __init__(
        self,
        view: FeatureView,
        plan: _core.Plan,
        batch: _rows.Batch,
        *,
        arrival: bool = False,
        since: int = TIME_MIN,
        until: int = TIME_MAX,
        answers: tuple[bytearray, bytearray, bytearray, bytearray, bytearray, int] | None = None,
        gaps: Sequence[GapBefore] = (),
    ) -> None:
        if not arrival:  # what is known of a time is known from the beginning
            gaps = [(0, begin, end) for _, begin, end in gaps]
        found = answers or _core.backfill(plan, batch, arrival, since, until, sorted(gaps))
        times, values, states, numbers, final, self.late = found
        self.names = view.names
        self.width = len(view.names)
        self.times = memoryview(times).cast("q")
        self.values = memoryview(values).cast("d")
        self.states = memoryview(states)
        self.numbers = memoryview(numbers).cast("I")
        self.final = memoryview(final)
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

    def column(self, name: str) -> memoryview[float]:
        """The values of one feature, a row apart each. Raises ``Invalid`` for another's name."""
        if name not in self.names:
            raise Invalid(f"no feature {name!r}; there are {', '.join(self.names)}")
        return self.values[self.names.index(name) :: self.width]

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table``: entity, time (ns UTC), and per feature its value (null where
        MISSING) and ``<name>.state``. Raises ``Unavailable`` without pyarrow."""
        pyarrow = arrow()
        count = len(self)

        def made(kind: Any, data: Any, valid: Any = None) -> Any:
            buffers = [valid, pyarrow.py_buffer(data)]
            return pyarrow.Array.from_buffers(kind, count, buffers)

        columns: dict[str, Any] = {
            "entity": pyarrow.array(self.entities, pyarrow.string()),
            "time": made(pyarrow.timestamp("ns", tz="UTC"), self.times),
        }
        for at, name in enumerate(self.names):
            states = bytes(self.states[at :: self.width])
            present = pyarrow.array([state != 2 for state in states], pyarrow.bool_())
            values = array("d", self.values[at :: self.width])
            columns[name] = made(pyarrow.float64(), values, present.buffers()[1])
            columns[f"{name}.state"] = made(pyarrow.uint8(), states)
        return pyarrow.table(columns)


def arrow(module: str = "pyarrow") -> Any:
    """The package, where it is installed. Raises ``Unavailable`` that says how to get it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise Unavailable("Parquet and Arrow tables need pyarrow: pip install pyarrow") from None


def prepare(schema: Schema, rows: Any) -> _rows.Batch:
    """Rows (dicts, a numpy structured array, Arrow data, a Batch) normalised to the schema, once.
    Raises ``Invalid`` naming row, field and value."""
    if isinstance(rows, _rows.Batch):
        return rows
    batch = _rows.Batch(schema)
    batch.extend(rows)
    return batch


def taken(schema: Schema, rows: Any, *, arrival: bool = False) -> _rows.Batch:
    """As :func:`prepare`; `rows` may be the path of a Parquet file, see :func:`read_parquet`."""
    if isinstance(rows, str | os.PathLike):
        return read_parquet(os.fspath(rows), schema, arrival=arrival)
    return prepare(schema, rows)


def read_parquet(path: str, schema: Schema, *, arrival: bool = False) -> _rows.Batch:
    """The schema's columns of a Parquet file (``time``, ``source``, ``source_seq`` too where it
    has them), row group by row group. With `arrival` in order of its column ``position``, if there
    is one, as `edgecore log export` writes it; else as they stand.

    :raises Unavailable: without pyarrow, or where the file cannot be read. :raises Invalid: it is
        no Parquet file, or lacks ``time``."""
    pyarrow, parquet = arrow(), arrow("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}") from None
    except pyarrow.ArrowInvalid as error:
        raise Invalid(f"{path}: {error}") from None
    names = set(file.schema_arrow.names)
    wanted = ["time", "source", "source_seq", *(field.name for field in schema.fields)]
    if "time" not in names:
        raise Invalid(f"{path}: no column 'time'; it has {', '.join(sorted(names))}")
    wanted = [name for name in wanted if name in names]
    batch = _rows.Batch(schema)
    if arrival and "position" in names:
        table = file.read([*wanted, "position"]).sort_by("position")
        batch.extend(table.select(wanted))
        return batch
    for group in file.iter_batches(columns=wanted):
        batch.extend(group)
    return batch


def warm_from(view: FeatureView, schema: Schema, since: int) -> int:
    """The time (ns) from which on a backfill needs rows, to answer from `since` on as one of all
    rows would: one horizon and the lateness earlier."""
    return max(TIME_MIN, since - view.plan(schema).horizon_ns - view.lateness)


def backfill(
    view: FeatureView,
    rows: Any,
    *,
    schema: Schema,
    known: str = "event",
    since: int | None = None,
    until: int | None = None,
    joined: Iterable[tuple[Schema, Any]] = (),
    positions: Mapping[str, Sequence[int]] | None = None,
    gaps: Sequence[GapBefore] | Mapping[str, Sequence[GapBefore]] = (),
) -> Backfilled:
    """What a stream would have answered at each row, by the same kernel, to the bit.

    :param rows: as :func:`prepare` takes them, or the path of a Parquet file.
    :param known: ``event``: each row is answered with all that had happened by its time, in any
        order the rows come; none is late. ``ingest``: with what had arrived by then, the rows being
        in order of arrival; late ones count, or not, as they did in the stream.
    :param since, until: answer rows with times (ns) in [since, until) only; rows of one horizon
        before (:func:`warm_from`) warm them, so that the answers are those of an uncut backfill.
    :param joined: schema and rows of each other stream that the view reads; rows of another stream
        come before those of the same time. FINAL is then what no stream's rows can change.
    :param positions: for ``ingest`` with other streams, by stream the position of each row in the
        log, whose order is that of arrival.
    :param gaps: (row of the input, begin, end): events with times (ns) in (begin, end] may be
        missing, which was known when that row came: :func:`edgecore.feature_gaps.gaps_of_log`. Of a
        view that reads several streams by stream, and with positions in the log instead of rows.
    :raises Invalid: a bad row. :raises Incompatible: as :meth:`FeatureView.plan`.
    """
    if known not in KNOWN:
        raise Invalid(f"known={known!r}: one of {', '.join(KNOWN)}")
    arrival = known == "ingest"
    if view.joins:
        from edgecore import feature_join

        if arrival and positions is None:
            raise Invalid(f"view {view.name!r} reads several streams: give the rows' positions=")
        if not isinstance(gaps, Mapping):
            if gaps:
                raise Invalid(f"view {view.name!r} reads several streams: give gaps= by stream")
            gaps = {}
        others = list(joined)
        schemas = feature_join.streams(schema, [one for one, _ in others])
        batches = {one.stream: prepare(one, given) for one, given in [(schema, rows), *others]}
        plan, answers = feature_join.backfill(
            view, batches, schemas, positions if arrival else None,
            TIME_MIN if since is None else since, TIME_MAX if until is None else until,
            gaps,
        )  # fmt: skip
        return Backfilled(view, plan, batches[schema.stream], answers=answers)
    if isinstance(gaps, Mapping):
        gaps = gaps.get(view.source, ())
    return Backfilled(
        view,
        view.plan(schema),
        taken(schema, rows, arrival=arrival),
        arrival=arrival,
        since=TIME_MIN if since is None else since,
        until=TIME_MAX if until is None else until,
        gaps=gaps,
    )


__all__ = ["KNOWN", "STATES", "Backfilled", "arrow", "backfill", "prepare", "read_parquet",
           "taken", "warm_from"]  # fmt: skip
