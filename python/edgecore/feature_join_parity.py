"""Whether a view of several streams answers the same bits over a log on every path: fed in order of
position, from history, and restored from its snapshot at several positions."""

from __future__ import annotations

from array import array
from math import nan

from edgecore._core import features as _core
from edgecore.feature_backfill import TIME_MAX, TIME_MIN
from edgecore.feature_gaps import gaps_at
from edgecore.feature_join import backfill, plans
from edgecore.feature_parity import POINTS, Answers, Report, positions, read_log
from edgecore.features import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore._core import rows as _rows
    from edgecore.feature_join import GapAt
    from edgecore.feature_view import FeatureView
    from edgecore.log import Log

    Step = tuple[int, str, int]  # position, stream, row; below 0 a gap


class _Walk:
    """Answers at rows of the view's own stream, each taken in before it is answered."""

    def __init__(
        self,
        view: FeatureView,
        batches: dict[str, _rows.Batch],
        names: list[str],
        gaps: dict[str, list[GapAt]],
    ) -> None:
        self.view, self.batches, self.names, self.gaps = view, batches, names, gaps
        self.times = batches[view.source].column("time")

    def answers(self, engine: _core.Engine, steps: list[Step]) -> tuple[bytearray, bytearray]:
        values, states = bytearray(), bytearray()
        width = len(self.view.specs)
        for position, stream, row in steps:
            if row < 0:
                _, begin, end = self.gaps[stream][row]
                engine.gap(begin, end, position, stream)
                continue
            aside = engine.late_rows + engine.ahead_rows
            engine.update(self.batches[stream], row, 1, position)
            if stream != self.view.source:
                continue
            if engine.late_rows + engine.ahead_rows != aside:
                values += array("d", [nan] * width).tobytes()
                states += bytes([MISSING] * width)
                continue
            found = engine.read([self.names[row]], int(self.times[row]))
            values += found[0]
            states += found[1]
        return values, states


def parity(view: FeatureView, log: Log, *, points: int = POINTS) -> Report:
    """Replays the view's streams as the log has them. There are no cuts: ``compared`` says 0."""
    schemas = {stream: log.schema(stream) for stream in (view.source, *sorted(view.joins))}
    batches = {stream: read_log(log, schema, stream) for stream, schema in schemas.items()}
    places_of = {stream: positions(log, stream) for stream in schemas}
    gaps = {stream: gaps_at(log, stream) for stream in schemas}
    steps = sorted(
        [(position, stream, row) for stream, found in places_of.items()
         for row, position in enumerate(found)]
        + [(gap[0], stream, row - len(known)) for stream, known in gaps.items()
           for row, gap in enumerate(known)],
        key=lambda step: (step[0], step[2] < 0),
    )  # fmt: skip
    parts, width = plans(view, schemas), len(view.specs)
    engine = _core.Engine(parts)
    own = batches[view.source]
    numbers = array("I", range(len(own))).tobytes()
    walk = _Walk(view, batches, _core.entities(parts[0][0], own, numbers), gaps)
    count = len(steps)
    places = sorted({count * (at + 1) // (points + 1) for at in range(points)} - {0, count})
    values, states, kept = bytearray(), bytearray(), []
    for first, last in zip([0, *places], [*places, count], strict=True):
        if first:
            kept.append((first, len(states) // width, engine.snapshot()))
        more = walk.answers(engine, steps[first:last])
        values += more[0]
        states += more[1]
    report = Report(view.names, len(own))
    report.late = engine.late_rows
    report.entities = engine.entities
    want = Answers.of(values, states, width)
    _, found = backfill(view, batches, schemas, places_of, TIME_MIN, TIME_MAX, gaps)
    report.compare("batch", want, Answers.of(found[1], found[2], width))
    for first, row, data in kept:
        again = walk.answers(_core.Engine.restore(parts, data), steps[first:])
        report.compare("restore", want.rows(row), Answers.of(*again, width))
    return report


__all__ = ["parity"]
