"""When a pane of a summary is closed: a state machine over a stream's rows in order of arrival.

A pane is closed when the watermark, the newest time seen minus the lateness, has passed its end;
rows that come for it later make another part, which is closed with the next pane. The newest time
is that of rows of this period of arrival and the one before (by the log's own hybrid clock): one
row whose clock ran ahead closes what is open and is forgotten a period later, and late rows never
wait for a clock to catch up.

The same rows in the same order give the same parts, from any state that was kept. Which rows a part
holds is written in it (first and last position), so that a row is counted once whatever a crash
left: see :meth:`Panes.covered`.
"""

from __future__ import annotations

from edgecore.errors import Corrupt
from edgecore.rules.summary import Pane, Rule
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PANES_MAX = 1 << 16  # more that are open are closed early: their later rows make other parts
STATE_BYTES_MAX = 64 << 20
_NEVER = -(1 << 63)


class Panes:
    """Open panes of one rule. `position`: of the last row that was taken in."""

    def __init__(self, rule: Rule, position: int = 0) -> None:
        self.rule = rule
        self.position = position
        self.open: dict[tuple[int, str], Pane] = {}
        self._arrival = 0
        self._newest = self._before = _NEVER
        self._swept = _NEVER
        self._covered: dict[tuple[int, str], int] = {}
        self._covered_until = 0

    @property
    def watermark(self) -> int:
        """What is not newer than this is closed (ns)."""
        return max(self._newest, self._before) - self.rule.lateness

    def covered(self, pane: Pane) -> None:
        """A part that the log holds already: its rows are not counted again. To be told of before
        any row of it is added; what is open of it goes."""
        self._covered[pane.key] = max(pane.last, self._covered.get(pane.key, 0))
        self._covered_until = max(pane.last, self._covered_until)
        found = self.open.get(pane.key)
        if found is not None and found.last <= pane.last:
            del self.open[pane.key]

    def add(self, position: int, hlc: int, row: dict[str, Any]) -> list[Pane]:
        """A row, as `rowbatch.read_rows` gives it; the parts that it closed, in order."""
        self.position = position
        time = row["time"]
        arrival = (hlc >> 16) * 1_000_000 // self.rule.period
        sweep = arrival != self._arrival
        if sweep:
            self._arrival, self._before, self._newest = arrival, self._newest, time
        elif time > self._newest:
            self._newest = time
        key = (self.rule.pane_of(time), self.rule.entity_of(row))
        if self._covered and position > self._covered_until:
            self._covered = {}
        if not self._covered or position > self._covered.get(key, 0):
            pane = self.open.get(key)
            if pane is None:
                pane = self.open[key] = Pane(self.rule, key[1], key[0])
            pane.add(position, row)
        closed = self.watermark // self.rule.period
        if len(self.open) > PANES_MAX:
            return self.flush()
        if not sweep and closed <= self._swept:
            return []
        self._swept = closed
        return self._close([key for key in self.open if key[0] <= closed])

    def flush(self) -> list[Pane]:
        """Closes all that is open: the rule ends here, or there is no room for more."""
        return self._close(list(self.open))

    def _close(self, keys: list[tuple[int, str]]) -> list[Pane]:
        return [self.open.pop(key) for key in sorted(keys)]

    # ------------------------------------------------------------ state

    def to_bytes(self) -> bytes:
        """Deterministic CBOR: the same rows give the same bytes."""
        panes = [
            [
                pane.k, pane.entity, pane.first, pane.last, pane.rows,
                [
                    [f.n, f.sum, f.squares, f.min, f.max, f.hist,
                     None if f.vals is None else [[t, f.vals[t]] for t in sorted(f.vals)]]
                    for f in pane.figures
                ],
            ]
            for _, pane in sorted(self.open.items())
        ]  # fmt: skip
        return cbor.encode(
            {
                "version": 1, "rule": self.rule.body, "position": self.position,
                "arrival": self._arrival, "newest": self._newest, "before": self._before,
                "swept": self._swept, "panes": panes,
            }
        )  # fmt: skip

    @staticmethod
    def from_bytes(data: bytes, rule: Rule) -> Panes:
        """Raises ``Corrupt`` for bytes that are no state of the rule."""
        body = cbor.decode(data, STATE_BYTES_MAX)
        if cbor.field(body, "version", int) != 1 or body.get("rule") != rule.body:
            raise Corrupt("summary state: of another rule")
        out = Panes(rule, cbor.unsigned(body.get("position")))
        try:
            out._arrival, out._newest = int(body["arrival"]), int(body["newest"])
            out._before, out._swept = int(body["before"]), int(body["swept"])
            for k, entity, first, last, rows, figures in body["panes"]:
                pane = out.open[k, entity] = Pane(rule, entity, k)
                pane.first, pane.last, pane.rows = first, last, rows
                for found, kept in zip(pane.figures, figures, strict=True):
                    found.n, found.sum, found.squares, found.min, found.max, hist, vals = kept
                    found.vals = None if vals is None else {t: count for t, count in vals}
                    if len(hist) != len(found.hist):
                        raise Corrupt("summary state: a histogram of another rule")
                    found.hist = list(hist)
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"summary state: {error}") from None
        return out


__all__ = ["PANES_MAX", "STATE_BYTES_MAX", "Panes"]
