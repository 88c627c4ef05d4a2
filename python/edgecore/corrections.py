"""What a device's clock was worth: true times of rows, from what was learned later.

    table = log.corrections()
    epoch, hlc = scanned.epoch, scanned.hlc
    table.stamped(epoch, position, hlc, row["time"])    # a time that the device's clock gave
    table.arrived(epoch, position, hlc)                 # when the row came
    table.at(epoch, monotonic_ns)                       # any moment of an opening of the log

Each answers (ns UTC, uncertainty ns), or None where it can't be known. Stored times stay as they
are. The stream ``edgecore.clock`` has readings of two clocks at one moment, the wall clock, which
may jump, and the monotonic one, which never does within an epoch; some also have the time that
the hub signed at that moment. So true time follows from the monotonic clock, by a line between two
anchors and by the drift bound beside them, and the monotonic time of a stamp from the readings
around it. One anchor anywhere in an epoch corrects all of it. docs/adr/0027.

Pure: integers in, integers out.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from edgecore.streams import CLOCK, INGEST, LOSSES, SCHEMAS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Estimate = tuple[int, int]  # ns, uncertainty ns

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

# What `Scanned.clock_trust` says of the wall clock when rows came.
UNJUDGED = 0  # nobody looked
UNSET = 1  # earlier than a time that is certain to have passed, or no year that a clock can have
FREE = 2  # may be right, nothing confirms it
OFF = 3  # more than CONFIRMED_NS from what the hub signed; by how much is known
CONFIRMED = 4  # at most CONFIRMED_NS from what the hub signed, uncertainty included
TRUST = ("unjudged", "unset", "free", "off", "confirmed")
CONFIRMED_NS = SECOND
FIRST_NS = 1_577_836_800 * SECOND  # 2020: before there were such logs
LAST_NS = 4_102_444_800 * SECOND  # 2100: clocks with two digits of a year end before

# What made a reading.
OPENED = "opened"  # the first of an epoch
STEPPED = "stepped"  # the wall clock was set; a reading from before, if there is one, is READ
READ = "read"  # the wall clock was slewed, or is about to be found set
HUB = "hub"  # a time that the hub signed: `true`
ADRIFT = "adrift"  # it jumps more often than is written down: not known until STEPPED

STEP_NS = 50 * MILLISECOND  # how far a wall clock may move without a reading
DRIFT_PPM = 100  # of the monotonic clock, at most, between and beside anchors
OPENING_NS = 600 * SECOND  # rows of an opening come so long before its first reading, at most
_PPM = 1_000_000


def judge(wall_ns: int, floor_ns: int, known: Estimate | None) -> int:
    """One of the trust values, for a wall clock that reads `wall_ns`.

    :param floor_ns: a time that was signed, and has passed; 0 for none.
    :param known: what true time is, if that follows from a signed one."""
    off, within = (abs(wall_ns - known[0]), known[1]) if known is not None else (0, 0)
    if known is not None and off + within <= CONFIRMED_NS:
        return CONFIRMED
    if not max(FIRST_NS, floor_ns - CONFIRMED_NS) <= wall_ns < LAST_NS:
        return UNSET
    return OFF if known is not None and off - within > CONFIRMED_NS else FREE


def drift_ns(elapsed_ns: int) -> int:
    """How far the monotonic clock may have gone wrong in that time."""
    return abs(elapsed_ns) * DRIFT_PPM // _PPM + 1


class Reading:
    """A row of ``edgecore.clock``, with its position and the HLC of its commit."""

    __slots__ = ("epoch", "hlc", "monotonic", "origin", "position", "true", "uncertainty", "wall")

    def __init__(
        self, epoch: int, position: int, hlc: int, monotonic: int, wall: int, origin: str,
        true: int | None = None, uncertainty: int | None = None,
    ) -> None:  # fmt: skip
        self.epoch, self.position, self.hlc = epoch, position, hlc
        self.monotonic, self.wall, self.origin = monotonic, wall, origin
        self.true, self.uncertainty = true, uncertainty or 0

    @property
    def gap(self) -> int:
        """From the monotonic clock to the wall clock."""
        return self.wall - self.monotonic


class _Stretch:
    """Readings between which the wall clock was not set, or, if not ``tracked``, was set in ways
    that nobody wrote down. It read ``begin`` to ``end`` (None: no bound), and HLCs up to
    ``stuck_ms`` are of an earlier, later-going clock."""

    __slots__ = ("begin", "end", "readings", "stuck_ms", "tracked", "walls")

    def __init__(self, first: Reading, before: Reading | None) -> None:
        self.readings = [first]
        self.tracked = first.origin != ADRIFT
        since = first.monotonic - before.monotonic if before is not None else OPENING_NS
        self.begin = first.wall - since - STEP_NS
        self.end: int | None = None
        stuck = first.hlc >> 16
        behind = stuck * MILLISECOND > first.wall + 2 * STEP_NS
        self.stuck_ms = stuck + 1000 if behind else -1
        self.walls: list[int] = []

    def goes_on(self, reading: Reading) -> bool:
        if reading.origin in (OPENED, STEPPED):
            return False
        if not self.tracked or reading.origin == ADRIFT:
            return not self.tracked
        last = self.readings[-1]
        slewed = 2 * STEP_NS + abs(reading.monotonic - last.monotonic) // 1000
        return abs(reading.gap - last.gap) <= slewed

    def finish(self, after: Reading | None) -> None:
        last = self.readings[-1]
        if after is not None:
            self.end = last.wall + (after.monotonic - last.monotonic) + STEP_NS
        high = last.wall
        for reading in self.readings:
            high = reading.wall if not self.walls else max(high, reading.wall)
            self.walls.append(high)

    def holds(self, wall: int) -> bool:
        return self.begin <= wall and (self.end is None or wall <= self.end)

    def monotonic(self, wall: int) -> Estimate:
        """When the wall clock read `wall`, by the monotonic one."""
        at = bisect_right(self.walls, wall)
        if at in (0, len(self.walls)):
            return wall - self.readings[max(0, at - 1)].gap, STEP_NS
        a, b = self.readings[at - 1], self.readings[at]
        moved, between = b.gap - a.gap, self.walls[at] - self.walls[at - 1]
        gap = a.gap + moved * (wall - self.walls[at - 1]) // between
        return wall - gap, max(STEP_NS, abs(moved))


class _Epoch:
    """One opening of a log."""

    def __init__(self, readings: list[Reading]) -> None:
        self.readings = sorted(readings, key=lambda reading: reading.position)
        self.positions = [reading.position for reading in self.readings]
        self.anchors = sorted(
            (r.monotonic, r.true - r.monotonic, r.uncertainty)
            for r in self.readings
            if r.true is not None
        )
        self.stretches: list[_Stretch] = []
        before: Reading | None = None
        for reading in self.readings:
            if not self.stretches or not self.stretches[-1].goes_on(reading):
                if self.stretches:
                    self.stretches[-1].finish(reading)
                self.stretches.append(_Stretch(reading, before))
            else:
                self.stretches[-1].readings.append(reading)
            before = reading
        self.stretches[-1].finish(None)
        self._firsts = [stretch.readings[0].position for stretch in self.stretches]

    def true(self, monotonic: int) -> Estimate | None:
        """Between two anchors on the line, and everywhere within what the drift bound leaves of
        the nearest ones. Anchors that contradict each other are both held possible."""
        if not self.anchors:
            return None
        at = bisect_left(self.anchors, (monotonic,))
        near = self.anchors[max(0, at - 1) : at + 1]
        offset = near[0][1]
        if len(near) == 2:
            (begin, from_, _), (end, to, _) = near
            offset += (to - from_) * (monotonic - begin) // (end - begin) if end > begin else 0
        low = max(o - u - drift_ns(monotonic - m) for m, o, u in near)
        high = min(o + u + drift_ns(monotonic - m) for m, o, u in near)
        if low > high:
            spread = abs(near[-1][1] - near[0][1]) + max(u for _, _, u in near)
            return monotonic + offset, spread
        offset = min(max(offset, low), high)
        return monotonic + offset, max(offset - low, high - offset)

    def stretch_at(self, position: int) -> int:
        return max(0, bisect_right(self._firsts, position) - 1)

    def between(self, position: int) -> Estimate | None:
        """The row came between the readings on both sides of it."""
        at = bisect_left(self.positions, position)
        if not 0 < at < len(self.readings):
            return None
        earlier = self.true(self.readings[at - 1].monotonic)
        later = self.true(self.readings[at].monotonic)
        if earlier is None or later is None:
            return None
        low, high = earlier[0] - earlier[1], later[0] + later[1]
        return (low + high) // 2, (high - low) // 2 + 1


class Corrections:
    """What ``edgecore.clock`` tells of each epoch of one log. Made by ``Log.corrections()``."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        by_epoch: dict[int, list[Reading]] = {}
        for reading in readings:
            by_epoch.setdefault(reading.epoch, []).append(reading)
        self._epochs = {epoch: _Epoch(found) for epoch, found in by_epoch.items()}

    @property
    def epochs(self) -> int:
        """Epochs whose clock was read."""
        return len(self._epochs)

    @property
    def anchored(self) -> int:
        """Of these, epochs with a time that the hub signed: their rows can be corrected."""
        return sum(bool(epoch.anchors) for epoch in self._epochs.values())

    def at(self, epoch: int, monotonic_ns: int) -> Estimate | None:
        """True time at a monotonic time of an epoch."""
        found = self._epochs.get(epoch)
        return None if found is None else found.true(monotonic_ns)

    def stamped(self, epoch: int, position: int, hlc: int, wall_ns: int) -> Estimate | None:
        """True time of a time that the device's own clock gave to the row at `position`. None also
        when its clock can't have read that. For a time from another clock this means nothing."""
        found = self._epochs.get(epoch)
        if found is None or wall_ns > ((hlc >> 16) + 1) * MILLISECOND + STEP_NS:
            return None  # a row is stamped before it is committed, and no HLC is behind its clock
        own = found.stretch_at(position)
        if not found.stretches[own].tracked:
            return None
        # A row may wait before it is appended, and a clock be set just before that is noticed.
        for at in (own, own + 1, *range(own - 1, -1, -1)):
            if at < len(found.stretches):
                stretch = found.stretches[at]
                if stretch.tracked and stretch.holds(wall_ns):
                    return _add(found, *stretch.monotonic(wall_ns))
        return None

    def arrived(self, epoch: int, position: int, hlc: int) -> Estimate | None:
        """True time when the row at `position` was committed. An HLC that an earlier, later-going
        clock has pushed ahead says nothing; then the readings around the row bound it."""
        found = self._epochs.get(epoch)
        if found is None:
            return None
        stretch = found.stretches[found.stretch_at(position)]
        ms = hlc >> 16
        if stretch.tracked and ms > stretch.stuck_ms and stretch.holds(ms * MILLISECOND):
            monotonic, within = stretch.monotonic(ms * MILLISECOND)
            return _add(found, monotonic, within + 2 * STEP_NS + MILLISECOND)
        return found.between(position)

    def offset(self, epoch: int, position: int) -> Estimate | None:
        """What is to be added to the device's wall clock, about when the row came."""
        found = self._epochs.get(epoch)
        if found is None:
            return None
        stretch = found.stretches[found.stretch_at(position)]
        if not stretch.tracked:
            return None
        before = [r for r in stretch.readings if r.position <= position]
        reading = before[-1] if before else stretch.readings[0]
        true = found.true(reading.monotonic)
        return None if true is None else (true[0] - reading.wall, true[1] + STEP_NS)


def _add(epoch: _Epoch, monotonic: int, within: int) -> Estimate | None:
    true = epoch.true(monotonic)
    return None if true is None else (true[0], true[1] + within + drift_ns(within))


# Streams whose every row has its time from the device's own clock. Of a row of another stream it is
# not stored who gave it.
STAMPED = frozenset({CLOCK.stream, INGEST.stream, LOSSES.stream, SCHEMAS.stream})

__all__ = [
    "ADRIFT", "CONFIRMED", "CONFIRMED_NS", "Corrections", "FIRST_NS", "FREE", "HUB", "LAST_NS",
    "OFF", "OPENED", "READ", "Reading", "STAMPED", "STEPPED", "STEP_NS", "TRUST", "UNJUDGED",
    "UNSET", "drift_ns", "judge",
]  # fmt: skip
