"""Sources: what a device captures from. A source fills a batch when it is due and counts what it
had to refuse; it never waits, never logs and never touches the clock behind the caller's back.

The agent drives a source by :meth:`Source.take`. What the log could not take stays in the agent's
hands; a source is not asked for more meanwhile, and says what it missed.
"""

from __future__ import annotations

from edgecore.schema import Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from edgecore._core.rows import Batch

    class Source(Protocol):
        @property
        def schema(self) -> Schema: ...
        @property
        def counts(self) -> Counts: ...
        @property
        def finished(self) -> bool: ...
        def take(self, now_ns: int, batch: Batch) -> int:
            """Adds what is due at monotonic `now_ns`; returns when it is due again."""


SECOND = 1_000_000_000
REASONS_MAX = 4


class Counts:
    """What became of the input since :meth:`clear`: rows accepted and refused, values rounded to
    their grid, rows whose time lies before an earlier row's, captures that came too late to be
    made. `through` is the last input line accounted for; `reasons` are the first few refusals."""

    __slots__ = ("accepted", "late", "missed", "off_grid", "reasons", "rejected", "through")

    def __init__(self) -> None:
        self.through = 0
        self.clear()

    def clear(self) -> None:
        self.accepted = self.rejected = self.off_grid = self.late = self.missed = 0
        self.reasons: list[str] = []

    def refuse(self, reason: str) -> None:
        self.rejected += 1
        if len(self.reasons) < REASONS_MAX:
            self.reasons.append(reason)

    def row(self, stream: str) -> dict[str, object]:
        """The row of ``edgecore.ingest``."""
        detail = [f"through {self.through}"] if self.through else []
        if self.missed:
            detail.append(f"missed {self.missed}")
        return {
            "stream": stream,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "off_grid": self.off_grid,
            "late": self.late,
            "detail": "; ".join(detail + self.reasons) or None,
        }


class Ticker:
    """Deadlines at a fixed rate and phase: a late call skips whole intervals, it does not drift."""

    __slots__ = ("interval_ns", "next_ns")

    def __init__(self, interval_ns: int) -> None:
        self.interval_ns = interval_ns
        self.next_ns: int | None = None

    def due(self, now_ns: int) -> int:
        """How many deadlines have passed since the last call; 0 when it is not time yet."""
        if self.next_ns is None:
            self.next_ns = now_ns
        if now_ns < self.next_ns:
            return 0
        passed = 1 + (now_ns - self.next_ns) // self.interval_ns
        self.next_ns += passed * self.interval_ns
        return passed


__all__ = ["SECOND", "Counts", "Ticker"]
