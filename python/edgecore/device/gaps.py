"""Spans of time in which rows of the source may be missing, told in ``edgecore.gap`` before the row
that came behind them: features are answered with less coverage then, here and in every replay.

What is known, and from whom:

- ``off``: from the newest row that the log holds to the first one behind it after a start, unless
  the source's own sequence goes on where it ended.
- ``silent``: between two rows further apart than the stream's declared heartbeat, likewise.
- ``clock``: the device's clock, which makes the times, was set forward: no row has a time between.
- ``lost``, ``dropped``, ``expired``, ``purged``, ``thinned``: ``edgecore.losses`` says that rows
  went which stood between others. What went from the front needs no gap: a history begins later.

A crash behind a gap leaves it without its row; the next start tells the span from the same newest
row on, and the two count once. A crash that takes both leaves what a device has that was off for
longer. A log that takes no gap takes no row either, and both are offered again.
"""

from __future__ import annotations

from edgecore._core.rows import Batch
from edgecore.streams import GAP, LOSSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from edgecore.clock import Clock
    from edgecore.device.config import Config
    from edgecore.log import Log
    from edgecore.schema import Schema

    Span = tuple[int, int]  # (begin, end], ns

TAIL_ROWS = 1024  # of the stream, that say where it ended
AROUND_ROWS = 64  # in front of a hole: rows are not in order of time
SOURCES_MAX = 1024
HOLES_MAX = 256  # of one call; more become one
_ABOUT = ("time", "source", "source_seq")
NEVER_ROWS = ("burnt", "uncertain")  # numbers without rows: an end, which ``off`` tells


class _Heard:
    """Of the stream so far: its newest time, and the last sequence of each source. ``off``: the
    device was, since then."""

    __slots__ = ("newest", "off", "sequences")

    def __init__(self) -> None:
        self.newest: int | None = None
        self.sequences: dict[str, int] = {}
        self.off = False

    def copy(self) -> _Heard:
        out = _Heard()
        out.newest, out.off, out.sequences = self.newest, self.off, dict(self.sequences)
        return out

    def hear(self, time: int, source: str, sequence: int) -> None:
        if len(self.sequences) >= SOURCES_MAX and source not in self.sequences:
            self.sequences.clear()
        self.sequences[source] = sequence
        self.newest = time if self.newest is None else max(self.newest, time)

    def goes_on(self, source: str, sequence: int) -> bool:
        """One source alone has been heard, and this is its next row."""
        last = self.sequences.get(source, 0)
        return len(self.sequences) == 1 and last > 0 and sequence == last + 1


class Gaps:
    """Of one stream. For one thread.

    :param source: of the rows. :param heartbeat_ns: the stream has a row at least this often; 0:
        nothing is declared. :param jumps: spans that the device's clock, which makes the stream's
        times, has passed over since the last call."""

    def __init__(
        self,
        log: Log,
        schema: Schema,
        source: str,
        clock: Clock,
        *,
        heartbeat_ns: int = 0,
        jumps: Callable[[], list[Span]] = list,
    ) -> None:
        self._log = log
        self._schema = schema
        self._source = source
        self._clock = clock
        self._heartbeat_ns = heartbeat_ns
        self._jumps = jumps
        self._owed: list[Span] = []
        self._told: list[tuple[str, Span]] = []  # before rows that are not taken yet
        self._looked: int | None = None  # position up to which losses are looked at
        self._heard = self._find_end()
        self._ahead = self._heard  # when the rows that are offered are taken

    def _partitions(self) -> list[int]:
        return [p for p, stream, _ in self._log.partitions() if stream == self._schema.stream]

    def _find_end(self) -> _Heard:
        heard = _Heard()
        for partition in self._partitions():
            for row in self._before(partition, self._log.next_sequence(partition), TAIL_ROWS):
                heard.hear(*row)
        heard.off = heard.newest is not None
        return heard

    # ------------------------------------------------------------ before rows are taken

    @property
    def _looks(self) -> bool:
        return self._heard.off or self._heartbeat_ns > 0

    def before(self, rows: Any) -> Any:
        """Tells what is known before these rows are taken; the rows, as a batch if they had to be
        looked at. Raises ``Invalid`` for bad rows, and what the log raises: nothing was told then
        that will be told again."""
        self._owed += self._jumps()
        if self._owed:
            self._tell([("clock", span) for span in self._owed])
            self._owed = []
        if not self._looks:
            return rows
        if not isinstance(rows, Batch):
            batch = Batch(self._schema, self._clock)
            batch.extend([rows] if isinstance(rows, dict) else rows)
            rows = batch
        heard = self._heard.copy()
        spans = list(self._silences(rows, heard))
        self._tell([span for span in spans if span not in self._told])
        self._told, self._ahead = spans, heard
        return rows

    def taken(self) -> None:
        """The rows of the last :meth:`before` are in the log."""
        self._heard, self._told = self._ahead, []

    def _silences(self, rows: Batch, heard: _Heard) -> Iterator[tuple[str, Span]]:
        columns = [rows.column(name) for name in _ABOUT]
        for time, source, sequence in zip(*columns, strict=True):
            newest = heard.newest
            if newest is not None and time > newest:
                silent = 0 < self._heartbeat_ns < time - newest
                if (heard.off or silent) and not heard.goes_on(source, sequence):
                    yield "off" if heard.off else "silent", (newest, time)
                heard.off = False
            heard.hear(time, source, sequence)

    def _tell(self, spans: list[tuple[str, Span]]) -> None:
        if spans:
            self._append([self._row(kind, span) for kind, span in spans])

    def _row(self, kind: str, span: Span, **more: int) -> dict[str, object]:
        return {
            "stream": self._schema.stream, "begin": span[0], "end": span[1], "kind": kind,
            "source": self._source, **more,
        }  # fmt: skip

    def _append(self, rows: list[dict[str, object]]) -> None:
        self._log.append(GAP.stream, rows)

    # ------------------------------------------------------------ what the log tells

    def tell_losses(self) -> None:
        """Tells of rows that went since the last call, before anyone replays the log without them.
        In one append, so that a restart knows all of it or none. Raises what the log does."""
        last = self._log.position
        if self._looked is None:
            rows = (row for scanned in self._log.scan(GAP.stream) for row in scanned.rows())
            mine = (row for row in rows if row["stream"] == self._schema.stream)
            self._looked = max((row["told"] or 0 for row in mine), default=0)
        found = [self._hole(*loss) for loss in self._losses()]
        holes = sorted((hole for hole in found if hole), key=lambda hole: int(str(hole["begin"])))
        if len(holes) > HOLES_MAX:
            first, rest = holes[:-HOLES_MAX], holes[-HOLES_MAX:]
            for name in ("end", "through", "told"):
                rest[0][name] = max(int(str(one[name])) for one in [*first, rest[0]])
            rest[0]["begin"] = first[0]["begin"]
            holes = rest
        if holes:
            self._append(holes)
        self._looked = last

    def _losses(self) -> list[tuple[int, int, int, str, int]]:
        """(partition, first, last, reason, position) of those that are not told yet; ranges that
        touch are one."""
        rows: list[tuple[int, int, int, str, int]] = []
        partitions = self._partitions()
        for scanned in self._log.scan(LOSSES.stream, after=self._looked or 0):
            for position, row in enumerate(scanned.rows(), scanned.position):
                if row["partition"] in partitions and row["reason"] not in NEVER_ROWS:
                    rows.append((row["partition"], row["first"], row["last"], row["reason"],
                                 position))  # fmt: skip
        found: list[tuple[int, int, int, str, int]] = []
        for partition, first, last, reason, position in sorted(rows):
            if found and found[-1][0] == partition and first <= found[-1][2] + 1:
                _, begin, end, kind, told = found.pop()
                first, last, reason, position = begin, max(end, last), kind, max(told, position)
            found.append((partition, first, last, reason, position))
        return found

    def _hole(
        self, partition: int, first: int, last: int, reason: str, told: int
    ) -> dict[str, object] | None:
        """The times around sequences that went; None where they stood at an end."""
        rows = self._before(partition, first, AROUND_ROWS)
        if not rows:
            return None
        before = max(time for time, _, _ in rows)
        for scanned in self._log.scan(self._schema.stream, after=(partition, last)):
            skipped = last + 1 - scanned.first
            if scanned.partition == partition and skipped < scanned.count:
                skipped = max(0, skipped)
                end = int(scanned.batch.column("time")[skipped])
                if end <= before:
                    return None
                through = scanned.position + skipped - 1
                return self._row(reason, (before, end), through=through, told=told)
        return None

    def _before(self, partition: int, sequence: int, back: int) -> list[tuple[int, str, int]]:
        """Time, source and its sequence of rows with some of the last numbers below one."""
        while True:
            after = max(0, sequence - 1 - back)
            found: list[tuple[int, str, int]] = []
            for scanned in self._log.scan(self._schema.stream, after=(partition, after)):
                if scanned.partition != partition:
                    continue
                if scanned.first >= sequence:
                    break
                columns = [scanned.batch.column(name) for name in _ABOUT]
                found += zip(*(column[: sequence - scanned.first] for column in columns),
                             strict=True)  # fmt: skip
            if found or not after:
                return found
            back *= 8  # numbers were burnt, or their rows went before


def open_gaps(
    config: Config,
    log: Log,
    schema: Schema | None,
    clock: Clock,
    jumps: Callable[[], list[Span]],
) -> Gaps | None:
    """Of a device's source; None where it has none. `jumps` of the device's clock: they concern a
    source whose times it makes."""
    if schema is None:
        return None
    return Gaps(log, schema, config.name, clock, heartbeat_ns=config.heartbeat_ns,
                jumps=jumps if config.kind == "host" else list)  # fmt: skip


__all__ = ["Gaps", "open_gaps"]
