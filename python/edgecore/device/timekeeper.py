"""How far this device's wall clock is to be trusted, and what is written down so that its times can
be corrected later: the rows of ``edgecore.clock`` (docs/formats/clock.md).

A time that the hub signed for a request of this device lies between that request and its answer on
the monotonic clock; that is all that is believed of it. The wall clock never raises a bound, and
nothing here sets it. Readings are few: one at the start, two where the clock was set, and signed
times that say something new.
"""

from __future__ import annotations

from edgecore import corrections
from edgecore.corrections import ADRIFT, HUB, OPENED, READ, STEP_NS, STEPPED, drift_ns
from edgecore.errors import EdgecoreError, Exhausted, Unavailable, Untrusted
from edgecore.streams import CLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgecore.clock import Clock
    from edgecore.corrections import Estimate
    from edgecore.log import Log

    Signed = tuple[int, int, int]  # the hub's time, monotonic time of request and answer

SECOND = corrections.SECOND
BRACKET_NS = 2_000_000  # two clocks are read at one moment when it takes no longer
BRACKET_TRIES = 3
SETS_MAX = 16  # of the wall clock, that are written down at once; then one in SETS_EVERY_NS
SETS_EVERY_NS = 300 * SECOND
ANCHOR_EVERY_NS = 600 * SECOND  # between signed times that are written down, at least
SPREAD_NS = SECOND // 4  # an uncertainty from which on a better time is worth a row
EXPIRY_OFF_NS = 3600 * SECOND  # a clock that is further off ends no row's time


class Timekeeper:
    """For one thread. ``error``: what stands in its way, or what is wrong with the hub's time.

    :param source: of the rows. :param confirmed: (true time, what was to be added to the wall
        clock, uncertainty) when the hub last signed one, before this start.
    :param heard: the last signed time, once it is there; the same object until there is another.
    :param floor: a signed time that has passed, 0 for none."""

    def __init__(
        self,
        log: Log,
        clock: Clock,
        source: str,
        confirmed: tuple[int, int, int],
        heard: Callable[[], Signed | None],
        floor: Callable[[], int],
    ) -> None:
        self._log = log
        self._clock = clock
        self._source = source
        self._heard = heard
        self._floor = floor
        self._earlier_ns = max(0, confirmed[0] - confirmed[2])
        self._confirmed_ns = confirmed[0]
        self._signed: Signed | None = None  # the last one looked at
        self._best: tuple[int, int, int] | None = None  # monotonic, true less that, uncertainty
        self._anchor: tuple[int, int, int] | None = None  # the last one written down
        self._last: tuple[int, int] | None = None  # the reading before: monotonic, wall
        self._gap: int | None = None  # wall less monotonic, as last written down
        self._adrift = False
        self._jumps: list[tuple[int, int]] = []  # see take_jumps
        self._left_ns = SETS_MAX * SETS_EVERY_NS  # of what may be written down
        self._known: Estimate | None = None  # of true time, at the last reading
        self.error: EdgecoreError | None = None

    @property
    def may_expire(self) -> bool:
        """Whether rows may go for their age: not by a clock that is unset or hours off."""
        offset = self._offset()
        if offset is not None and abs(offset) > EXPIRY_OFF_NS:
            return False
        return self._log.clock_trust != corrections.UNSET

    def poll(self) -> None:
        """Looks at the clocks and at what the hub signed; to be called before rows are taken."""
        reading = self._read()
        if reading is None:
            return
        try:
            contradiction = self._listen()
            self._follow(*reading)
            self._anchor_at(*reading)
            self.error = contradiction
        except (Exhausted, Unavailable) as error:
            self.error = error
        else:
            self._note_jump(*reading)
            self._last = reading
        self._known = self._true(reading[0])
        self._log.clock_trust = corrections.judge(reading[1], self.floor_ns, self._known)

    @property
    def floor_ns(self) -> int:
        return max(self._floor(), self._earlier_ns)

    def _read(self) -> tuple[int, int] | None:
        """Both clocks at one moment; None when this thread is held up between them each time."""
        for _ in range(BRACKET_TRIES):
            before = self._clock.monotonic_ns()
            wall = self._clock.wall_ns()
            after = self._clock.monotonic_ns()
            if after - before <= BRACKET_NS:
                return (before + after) // 2, wall
        return None

    # ------------------------------------------------------------ the hub's time

    def _listen(self) -> EdgecoreError | None:
        """Takes in a signed time that is new. What is wrong stays said until the next one."""
        signed = self._heard()
        if signed is None or signed is self._signed:
            return self.error if isinstance(self.error, Untrusted) else None
        self._signed = signed
        time_ns, asked, answered = signed
        within = (answered - asked + 1) // 2
        floor = max(self.floor_ns, corrections.FIRST_NS)
        if not floor <= time_ns + 2 * within < corrections.LAST_NS:
            from edgecore.device.status import utc

            why = "no time it can be"
            if floor > corrections.FIRST_NS and time_ns < floor:
                why = f"but it is {utc(floor)} or later by what it signed before"
            return Untrusted(f"the hub's clock says {utc(time_ns)}, {why}; it is not believed")
        heard = (answered, time_ns + within - answered, within)
        self._confirmed_ns = time_ns + within
        kept = self._best
        if kept is None or self._differ(heard, kept) or within <= self._spread(kept, answered):
            self._best = heard
        return None

    @staticmethod
    def _spread(anchor: tuple[int, int, int], monotonic: int) -> int:
        return anchor[2] + drift_ns(monotonic - anchor[0])

    def _differ(self, one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
        """Beyond what drift explains: the hub's clock was set, and its last word counts."""
        return abs(one[1] - other[1]) > one[2] + self._spread(other, one[0])

    def _true(self, monotonic: int) -> Estimate | None:
        if self._best is None:
            return None
        return monotonic + self._best[1], self._spread(self._best, monotonic)

    def _anchor_at(self, monotonic: int, wall: int) -> None:
        best, last = self._best, self._anchor
        if best is None or best is last or not self._worth(best, last, monotonic):
            return
        true, within = monotonic + best[1], self._spread(best, monotonic)
        self._append([self._row(monotonic, wall, HUB, true, within)])
        self._anchor = best
        if not self._adrift:
            self._gap = wall - monotonic

    def _worth(
        self, best: tuple[int, int, int], last: tuple[int, int, int] | None, monotonic: int
    ) -> bool:
        if last is None or (last[2] > STEP_NS and 4 * best[2] <= last[2]):
            return True
        if monotonic - last[0] < ANCHOR_EVERY_NS:
            return False
        spread = self._spread(last, monotonic)
        moved = abs(best[1] - last[1])
        return moved > max(STEP_NS, best[2] + last[2]) or spread > max(SPREAD_NS, 4 * best[2])

    # ------------------------------------------------------------ the wall clock

    def _follow(self, monotonic: int, wall: int) -> None:
        """Writes down where the wall clock stands, if it does not go with the monotonic one."""
        gap = wall - monotonic
        if self._last is not None:
            self._left_ns = min(SETS_MAX * SETS_EVERY_NS, self._left_ns + monotonic - self._last[0])
        if self._last is None or self._gap is None:
            self._append([self._row(monotonic, wall, OPENED)])
        elif self._adrift:
            if self._left_ns < 2 * SETS_EVERY_NS:
                return
            self._append([self._row(monotonic, wall, STEPPED)])
            self._left_ns -= SETS_EVERY_NS
        elif abs(gap - self._gap) <= STEP_NS:
            return
        elif self._left_ns < SETS_EVERY_NS:
            self._append([self._row(monotonic, wall, ADRIFT)])
            self._adrift = True
            return
        else:
            before = self._last[1] - self._last[0]
            if abs(gap - before) > STEP_NS // 2:
                rows = [self._row(*self._last, READ), self._row(monotonic, wall, STEPPED)]
            else:
                rows = [self._row(monotonic, wall, READ)]
            self._append(rows)
            self._left_ns -= SETS_EVERY_NS
        self._gap, self._adrift = gap, False

    def _row(
        self, monotonic: int, wall: int, origin: str, true: int | None = None, within: int = 0
    ) -> dict[str, object]:
        return {
            "time": wall, "source": self._source, "epoch": self._log.epoch,
            "monotonic": monotonic, "wall": wall, "true": true,
            "uncertainty": None if true is None else within, "origin": origin,
        }  # fmt: skip

    def _append(self, rows: list[dict[str, object]]) -> None:
        self._log.append(CLOCK.stream, rows)

    def _note_jump(self, monotonic: int, wall: int) -> None:
        if self._last is None:
            return
        expected = self._last[1] + monotonic - self._last[0]
        if wall - expected > STEP_NS // 2:
            self._jumps.append((expected, wall))
            if len(self._jumps) > SETS_MAX:
                self._jumps[:2] = [(self._jumps[0][0], self._jumps[1][1])]

    def take_jumps(self) -> list[tuple[int, int]]:
        """Spans (begin, end] of its times that the wall clock was set past since the last call:
        nothing was seen in them. Of many, the first are one."""
        jumps, self._jumps = self._jumps, []
        return jumps

    # ------------------------------------------------------------ what it says of itself

    def _offset(self) -> int | None:
        if self._known is None or self._last is None:
            return None
        return self._known[0] - self._last[1]

    def status(self) -> dict[str, Any]:
        """``offset``: what is to be added to the wall clock; None while that is not known.
        ``confirmed``: true time when the hub last signed one; 0 for never."""
        return {
            "trust": corrections.TRUST[self._log.clock_trust],
            "offset": self._offset(),
            "uncertainty": self._known[1] if self._known is not None else None,
            "confirmed": self._confirmed_ns,
            "floor": self.floor_ns,
        }


__all__ = ["Timekeeper"]
