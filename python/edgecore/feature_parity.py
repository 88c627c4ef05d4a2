"""Whether a view's answers over a log are the same bits on every path that gives them.

The log is replayed as a stream, in order of arrival, late rows as they came. Against it stand: the
batch kernel; the stream restored from its snapshot at several positions; the stream begun at
several later rows, compared where at least one horizon lies behind them.
"""

from __future__ import annotations

from array import array

from edgecore._core import features as _core
from edgecore._core import rows as _rows
from edgecore.feature_backfill import TIME_MAX, TIME_MIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from edgecore.feature_backfill import GapBefore
    from edgecore.feature_view import FeatureView
    from edgecore.log import Log
    from edgecore.schema import Schema

PATHS = ("batch", "restore", "cut")
POINTS = 3  # restores and cuts of a replay


class Answers:
    """Values (as their bits) and states of rows, flat, ``width`` per row."""

    __slots__ = ("states", "values", "width")

    def __init__(self, values: memoryview[int], states: memoryview[int], width: int) -> None:
        self.values = values
        self.states = states
        self.width = width

    @staticmethod
    def of(values: bytearray, states: bytearray, width: int) -> Answers:
        return Answers(memoryview(values).cast("Q"), memoryview(states), width)

    def rows(self, first: int, last: int | None = None) -> Answers:
        """Of rows [first, last)."""
        part = slice(first * self.width, None if last is None else last * self.width)
        return Answers(self.values[part], self.states[part], self.width)


class Report:
    """``differing``: per path, per feature, the bits of values and states that differ;
    ``compared``: per path, the answers that were compared."""

    def __init__(self, names: tuple[str, ...], rows: int) -> None:
        self.names = names
        self.rows = rows
        self.late = 0
        self.entities = 0
        self.differing = {path: [0] * len(names) for path in PATHS}
        self.compared = dict.fromkeys(PATHS, 0)

    @property
    def bits(self) -> int:
        return sum(map(sum, self.differing.values()))

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "late": self.late,
            "entities": self.entities,
            "differing_bits": self.bits,
            "compared": self.compared,
            "features": {
                name: {path: self.differing[path][at] for path in PATHS}
                for at, name in enumerate(self.names)
            },
        }

    def compare(self, path: str, want: Answers, found: Answers) -> None:
        """Of the same rows."""
        self.compared[path] += len(want.values)
        if want.values == found.values and want.states == found.states:
            return
        counts = self.differing[path]
        for ours, theirs in ((want.values, found.values), (want.states, found.states)):
            for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                if one != other:
                    counts[at % want.width] += (one ^ other).bit_count()


def read_log(log: Log, schema: Schema, stream: str) -> _rows.Batch:
    """The rows of a stream in order of position, as the newest schema has them. Raises
    ``Corrupt`` and ``Incompatible`` as reading the log does."""
    batch = _rows.Batch(schema)
    known = {"time", "source", "source_seq", *(field.name for field in schema.fields)}
    for scanned in log.scan(stream):
        batch.extend(
            [
                {key: value for key, value in row.items() if key in known and value is not None}
                for row in scanned.rows(exact=True)
            ]
        )
    return batch


def positions(log: Log, stream: str) -> array[int]:
    """Of the rows that :func:`read_log` gives."""
    out = array("Q")
    for scanned in log.scan(stream):
        out.extend(range(scanned.position, scanned.position + scanned.count))
    return out


def parity(
    view: FeatureView,
    rows: _rows.Batch,
    schema: Schema,
    *,
    points: int = POINTS,
    gaps: Sequence[GapBefore] = (),
) -> Report:
    """Replays `rows`, which stand in order of arrival, on every path.

    :param points: how many restores, and how many cuts. :param gaps: as ``backfill`` takes them.
    Raises what ``update`` raises."""
    gaps = sorted(gaps)
    plan = view.plan(schema)
    count, width = len(rows), plan.width
    report = Report(view.names, count)
    stream = _core.Engine(plan)
    places = sorted({count * (at + 1) // (points + 1) for at in range(points)} - {0, count})
    snapshots: list[tuple[int, bytes]] = []
    values, states = bytearray(), bytearray()
    for first, last in zip([0, *places], [*places, count], strict=True):
        if first:
            snapshots.append((first, stream.snapshot()))
        told = [gap for gap in gaps if first <= gap[0] < last]
        answered = stream.follow(rows, first, last - first, first + 1, told)
        values += answered[0]
        states += answered[1]
    want = Answers.of(values, states, width)
    report.late, report.entities = stream.late_rows, stream.entities
    whole = _core.backfill(plan, rows, True, TIME_MIN, TIME_MAX, gaps)
    report.compare("batch", want, Answers.of(whole[1], whole[2], width))
    for first, data in snapshots:
        restored = _core.Engine.restore(plan, data)
        told = [gap for gap in gaps if gap[0] >= first]
        found = restored.follow(rows, first, count - first, first + 1, told)
        report.compare("restore", want.rows(first), Answers.of(found[0], found[1], width))
        found = _core.Engine(plan).follow(rows, first, count - first, first + 1, gaps)
        later = Answers.of(found[0], found[1], width)
        for begin, end in _warm_runs(rows, first, plan.horizon_ns):
            part = later.rows(begin - first, end - first)
            report.compare("cut", want.rows(begin, end), part)
    return report


def _warm_runs(rows: _rows.Batch, first: int, horizon_ns: int) -> Iterator[tuple[int, int]]:
    """Rows [begin, end) from `first` on whose horizons hold no row before `first`."""
    times = rows.column("time")
    warm = max(times[:first]) + horizon_ns
    begin: int | None = None
    for at in range(first, len(times)):
        if times[at] >= warm and begin is None:
            begin = at
        elif times[at] < warm and begin is not None:
            yield begin, at
            begin = None
    if begin is not None:
        yield begin, len(times)


__all__ = ["PATHS", "POINTS", "Report", "parity", "positions", "read_log"]
