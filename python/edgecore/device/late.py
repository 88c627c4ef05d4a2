"""Rows that the features did not count, told in ``edgecore.late`` by their positions: for whoever
corrects what was said without them.

A restart meets rows behind its snapshot again and tells only what the log does not name yet; what
is told goes into the log before a snapshot leaves it behind."""

from __future__ import annotations

from edgecore.streams import LATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.device.serving import Serving
    from edgecore.log import Log

ROWS_MAX = 256  # that are named at a time; the others are counted
WAITING_MAX = 4096  # rows that wait for a full log, the newest
KINDS = ("", "late", "ahead")

Row = tuple[int, int, int, int, str]  # position, event time, by, kind, stream


class LateRows:
    """Of the streams that the view of `serving` reads. For one thread."""

    def __init__(self, log: Log, serving: Serving, source: str) -> None:
        self._log = log
        self._serving = serving
        self._source = source
        self._told: int | None = None  # position up to which rows are told
        self._waiting: list[Row] = []
        self._view = ""

    def tell(self) -> None:
        """Appends what has come since the last call. Raises what the log does: it waits then."""
        view, found = self._serving.take_set_aside()
        if found:
            self._view = view
            self._waiting = [*self._waiting, *found][-WAITING_MAX:]
        if not self._waiting:
            return
        if self._told is None:
            scans = self._log.scan(LATE.stream)
            self._told = max((row["position"] for one in scans for row in one), default=0)
        told = self._told
        rows = [row for row in self._waiting if row[0] > told]
        if rows:
            self._log.append(LATE.stream, self._as_events(rows))
            self._told = max(row[0] for row in rows)
        self._waiting = []

    def _as_events(self, rows: list[Row]) -> list[dict[str, Any]]:
        """The first ROWS_MAX one by one; behind them one row of each kind with a count."""
        counted: dict[tuple[int, str], tuple[Row, int]] = {}
        for row in rows[ROWS_MAX:]:
            counted[row[3:]] = (row, counted.get(row[3:], (row, 0))[1] + 1)
        named: list[tuple[Row, int | None]] = [(row, None) for row in rows[:ROWS_MAX]]
        return [
            {
                "stream": stream, "view": self._view, "source": self._source,
                "position": position, "event_time": time, "by": by, "kind": KINDS[kind],
                "count": count,
            }
            for (position, time, by, kind, stream), count in [*named, *counted.values()]
        ]  # fmt: skip


__all__ = ["ROWS_MAX", "LateRows"]
