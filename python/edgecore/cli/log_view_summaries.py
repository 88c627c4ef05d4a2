"""The told views of `edgecore log summaries`: each is told again from the raw rows that the log
still keeps, and held against what it says."""

from __future__ import annotations

from math import inf

from edgecore.device.view_summaries import Telling
from edgecore.feature_gaps import spans_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from edgecore.device.view_summaries import ViewSummary
    from edgecore.log import Log

    Gaps = list[tuple[int, int]]
    Key = tuple[int, str]  # end of the period, entity

SETTLED_ROWS = 64  # behind a gap: by then a row has come whose time is the stream's


class ViewAudit:
    """Of one rule. `differ`: what is wrong, in words; `gone`: rows that depend on raw rows which
    are not kept; `waiting`: rows that are still to be told.

    :param spans: positions between which the rule stood, (after, until].
    :param gaps: positions between which rows of the source stream, :param own: and of the told one,
        have gone."""

    def __init__(
        self, log: Log, told: ViewSummary, spans: list[tuple[int, int]], gaps: Gaps, own: Gaps
    ) -> None:
        self.told = told
        self.differ: list[str] = []
        self.rows = self.equal = self.gone = self.waiting = 0
        self._names = ["start", *(one for base in told.bases for one in (base, f"{base}.st"))]
        for since, until in spans:
            self._span(log, since, until, gaps, max((high for _, high in own), default=0))

    def _span(self, log: Log, since: int, until: int, gaps: Gaps, whole_from: int) -> None:
        held, first, last = self._held(log, since, until, whole_from)
        cold: list[tuple[int, float]] = []  # what was told behind a position, of periods before
        for end, entity, again in self._again(log, since, until, gaps, cold):
            position, row = held.pop((end, entity), (0, None))
            if row is not None:
                wrong = [name for name in self._names if str(row.get(name)) != str(again[name])]
                self._judge(end, entity, position, ", ".join(wrong), cold)
            elif end > last:
                self.waiting += 1
            elif end >= first and not any(end < warm for _, warm in cold):
                self.differ.append(f"{_name(end, entity)}: it is not told")
        for (end, entity), (position, _) in held.items():
            self._judge(end, entity, position, "no rows say so", cold)

    def _held(
        self, log: Log, since: int, until: int, whole_from: int
    ) -> tuple[dict[Key, tuple[int, dict[str, Any]]], float, float]:
        """What the log says, by period and entity; and the periods between which it says all."""
        held: dict[Key, tuple[int, dict[str, Any]]] = {}
        first, last = (-inf if whole_from <= since else inf), -inf
        for scanned in log.scan(self.told.name, after=since):
            for position, row in enumerate(scanned.rows(exact=True), scanned.position):
                if row.get("rule") != self.told.id or position > until:
                    continue
                self.rows += 1
                key = (row["time"], row["entity"])
                if key in held:
                    self.differ.append(f"{_name(*key)}: it is told twice")
                held[key] = (position, row)
                if position >= whole_from:
                    first = min(first, row["time"] + 1)  # of the first one some may have gone
                last = max(last, row["time"])
        return held, first, last

    def _again(
        self, log: Log, since: int, until: int, gaps: Gaps, cold: list[tuple[int, float]]
    ) -> Iterable[tuple[int, str, dict[str, Any]]]:
        told = self.told
        between = [gap for gap in gaps if gap[1] > since and gap[0] < until]
        reach = told.view.lateness + told.plan.horizon_ns
        bounded = told.view.rules.max_entities > 0 or told.view.rules.max_bytes > 0
        known = spans_of(log, told.source.stream, since)
        telling, behind = Telling(told, since), SETTLED_ROWS
        telling.know(known)
        for scanned in log.scan(told.source.stream, after=since):
            while between and scanned.position >= between[0][1]:
                # Who went while a bound was kept is not known any more.
                cold.append((between.pop(0)[0], inf if bounded else telling.newest + reach))
                telling, behind = Telling(told, scanned.position - 1), 0
                telling.know([gap for gap in known if gap[0] >= scanned.position])
            for position, rows in telling.batch(scanned):
                if position > until:
                    return
                if behind < SETTLED_ROWS:
                    low, warm = cold[-1]
                    cold[-1] = (low, max(warm, telling.newest + reach))
                    behind += 1
                for row in rows:
                    yield row["time"], row["entity"], row
        cold += [(low, inf) for low, _ in between]

    def _judge(
        self, end: int, entity: str, position: int, wrong: str, cold: list[tuple[int, float]]
    ) -> None:
        if not wrong:
            self.equal += 1
        elif any(low < position and end < warm for low, warm in cold):
            self.gone += 1
        else:
            self.differ.append(f"{_name(end, entity)}: {wrong}")

    def facts(self) -> dict[str, Any]:
        told = self.told
        return {
            "name": told.name, "stream": told.source.stream, "rule": told.id,
            "view": told.view.name, "period_ns": told.period, "rows": self.rows,
            "equal": self.equal, "gone": self.gone, "differ": self.differ,
            "waiting": self.waiting,
        }  # fmt: skip

    def lines(self) -> list[str]:
        told = self.told
        out = [f"{told.name}: {self.rows} rows of view {told.view.name!r} of {told.source.stream}, "
               f"every {told.period / 1e9:g} s"]  # fmt: skip
        out.append(f"  {self.equal} are what its rows give, to the bit; {len(self.differ)} differ")
        if self.gone:
            out.append(f"  {self.gone} can't be recomputed: not all of their rows are kept")
        if self.waiting:
            out.append(f"  {self.waiting} are still to be told")
        return out


def _name(end: int, entity: str) -> str:
    return f"entity {entity!r}, period up to {end} ns"


__all__ = ["ViewAudit"]
