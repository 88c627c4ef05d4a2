"""What a restart needs of the log's past: which sequences will never be read, how far the source is
accounted for, the edges of releases. Kept beside the log (docs/formats/device-history.md), so that
the rows themselves may be released or dropped, and a restart reads only what came since.
"""

from __future__ import annotations

from collections import deque

from edgecore.device.twofold import Twofold
from edgecore.errors import Corrupt
from edgecore.streams import CLOCK, INGEST, LOSSES, UPDATE
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.fs import Fs
    from edgecore.log import Log

GAVE_WAY = ("dropped", "expired", "thinned")  # not burnt numbers, which no row ever had
EDGES_MAX = 32  # of releases, the newest, in a report


class History:
    """Of the log up to ``position``; :meth:`follow` brings it on. ``losses``: (partition, first,
    last). ``dropped``: rows that gave way, ever. ``through``: the last line of the source that is
    accounted for, ``accounted``: where the account stands. ``logged``: the highest source_seq of
    ``edgecore.update``. ``confirmed``: (true time, what was to be added to the wall clock,
    uncertainty), ns, of the last row of ``edgecore.clock`` with a signed time; zeros for none."""

    def __init__(self, log: Log, source: str, fs: Fs, path: str) -> None:
        self._source = source
        self._kept = Twofold(fs, path)
        self.store = log.store_id
        self.position = 0
        self._saved = -1  # the position of what is kept
        self.losses: list[tuple[int, int, int]] = []
        self.dropped = 0
        self.confirmed = (0, 0, 0)
        self.through = self.accounted = self.logged = 0
        self.edges: deque[dict[str, Any]] = deque(maxlen=EDGES_MAX)
        self._load()
        self.follow(log)

    def _load(self) -> None:
        """What is damaged, or of another log, is read from this log again."""
        try:
            data = self._kept.load()
            body = cbor.decode(data) if data is not None else {}
            if body.get("store") != self.store or body.get("source") != self._source:
                return
            losses = [(int(p), int(f), int(t)) for p, f, t in cbor.field(body, "losses", list)]
            numbers = [
                cbor.field(body, name, int)
                for name in ("position", "dropped", "through", "accounted", "logged")
            ]
            true, offset, within = cbor.field(body, "confirmed", list)
            confirmed = (int(true), int(offset), int(within))
            edges = [dict(edge) for edge in cbor.field(body, "edges", list)]
        except (Corrupt, TypeError, ValueError):
            return
        self.position, self.dropped, self.through, self.accounted, self.logged = numbers
        self.losses, self.confirmed = losses, confirmed
        self.edges.extend(edges)

    def follow(self, log: Log, until: int | None = None) -> None:
        """Takes in the rows that came since, up to position `until`."""
        last = log.position if until is None else until
        readers = {
            LOSSES.stream: self._loss,
            INGEST.stream: self._account,
            UPDATE.stream: self._edge,
            CLOCK.stream: self._clock,
        }
        for stream, read in readers.items():
            for scanned in log.scan(stream, after=self.position, until=last):
                for at, row in enumerate(scanned.rows()):
                    read(scanned.position + at, row)
        self.position = last

    def save(self, log: Log) -> None:
        """Durable, and of durable rows alone: a restart must not count what a crash took."""
        if log.position == self._saved:
            return
        log.sync()
        self.follow(log, log.durable_position)
        acked = log.cursor("sync").acked
        self.losses[:] = [loss for loss in self.losses if loss[2] > acked(loss[0])]
        self._kept.save(
            cbor.encode(
                {
                    "store": self.store,
                    "source": self._source,
                    "position": self.position,
                    "losses": [list(loss) for loss in self.losses],
                    "dropped": self.dropped,
                    "through": self.through,
                    "accounted": self.accounted,
                    "logged": self.logged,
                    "edges": list(self.edges),
                    "confirmed": list(self.confirmed),
                }
            )
        )
        self._saved = self.position

    def _loss(self, position: int, row: dict[str, Any]) -> None:
        partition, first, last = row["partition"], row["first"], row["last"]
        if row["reason"] in GAVE_WAY:
            self.dropped += last - first + 1
        if self.losses and self.losses[-1][::2] == (partition, first - 1):
            first = self.losses.pop()[1]  # drops go on where the last one ended
        self.losses.append((partition, first, last))

    def _account(self, position: int, row: dict[str, Any]) -> None:
        detail = str(row.get("detail") or "")
        if row["source"] == self._source and detail.startswith("through "):
            self.through = int(detail.split()[1].rstrip(";"))
            self.accounted = position

    def _edge(self, position: int, row: dict[str, Any]) -> None:
        self.logged = max(self.logged, int(row["source_seq"]))
        self.edges.append(told(row))

    def _clock(self, position: int, row: dict[str, Any]) -> None:
        if row["true"] is not None:
            self.confirmed = (row["true"], row["true"] - row["wall"], row["uncertainty"] or 0)

    def lines_held(self, log: Log, stream: str, source: str) -> set[int]:
        """Lines behind the last account that the log holds."""
        return {
            int(row["source_seq"])
            for scanned in log.scan(stream, after=self.accounted)
            for row in scanned.rows()
            if row["source"] == source and row["source_seq"] > self.through
        }


def told(row: dict[str, Any]) -> dict[str, Any]:
    """A row of ``edgecore.update`` for a report."""
    kept = {name: row.get(name) for name in ("release", "version", "attempt", "edge", "reason")}
    return {**kept, "digest": bytes(row["digest"]).hex(), "time": row.get("time", 0)}


__all__ = ["History", "told"]
