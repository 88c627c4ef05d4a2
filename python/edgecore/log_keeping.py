"""What a log keeps, and lets go of: release, sealing, quotas, purge, and the rows that tell of what
will never be read. The part of :class:`edgecore.Log` that is not writing or reading."""

from __future__ import annotations

from edgecore.errors import Exhausted, Invalid
from edgecore.log_values import Maintained
from edgecore.schema import TIERS
from edgecore.streams import LOSSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from edgecore import cursor as _cursor
    from edgecore._core import log as _log
    from edgecore.fs import Fs
    from edgecore.log_values import Range, Recovery, Scanned

POSITION_MAX = 2**64 - 2
DAY_NS = 86_400 * 10**9
SEALED_BYTES = 4 << 20  # of segments that become packs at once: what a reader of them holds
SEGMENTS_KEPT = 4  # in what is read and written most
ROOM_BYTES = 1 << 20  # what a full disk is relieved of at a time
TOLD_AT_ONCE = 256  # losses, in one append
CURSOR_PREFIX = "cursor-"


class Keeping:
    """Of a log: see :class:`edgecore.Log`."""

    if TYPE_CHECKING:
        core: _log.Log
        path: str
        recovery: Recovery
        cipher: Any
        _fs: Fs
        _cursors: dict[str, _cursor.Cursor]
        _all_cursors: bool
        _announced: int

        def append(self, stream: str, rows: Any, *, on_invalid: str = "raise") -> Any: ...
        def scan(self, stream: str | None = None, *, after: Any = 0) -> Iterator[Scanned]: ...
        def partitions(self) -> list[tuple[int, str, str]]: ...
        def cursor(self, name: str) -> _cursor.Cursor: ...

    def release(self, upto: int = POSITION_MAX) -> int:
        """Frees packs, the oldest of each tier first, and behind the last pack the oldest segments,
        whose rows every cursor has acknowledged, no ``retain_`` limit wants and that end at or
        below position `upto`; the number of rows that went. Done by itself when a cursor moves. A
        cursor holds back every partition it has not acknowledged; without any cursor nothing goes.
        Needs no free space. Raises ``Unavailable`` on a disk error."""
        return self.core.release(self._acked(), upto, self._announced)

    def _acked(self) -> dict[int, int]:
        """By partition, up to where every cursor has acknowledged it."""
        if not self._all_cursors:
            for name in self._fs.list(self.path):
                if name.startswith(CURSOR_PREFIX):
                    self.cursor(name.removeprefix(CURSOR_PREFIX))
            self._all_cursors = True  # others can be made through this log alone
        cursors = list(self._cursors.values())
        return {p: min((c.acked(p) for c in cursors), default=0) for p, _, _ in self.partitions()}

    def seal(self, *, segments_kept: int = 2, dense: bool = False) -> int:
        """Moves the rows of all segments but the newest `segments_kept` (2 at least) into packs:
        files of one tier each, of column blocks, in the coding ``fast``, or ``dense``, which is
        smaller and slower (docs/formats/pack.md). Every reader finds them as before. Returns how
        many rows moved; rows of a schema that this build can't read are kept as they are. Raises
        ``Exhausted`` when there is no space for the packs."""
        moved = 0
        while True:
            rows, _, _, segments = self.core.seal(
                segments_kept, SEALED_BYTES, dense, self._announced
            )
            self._tell()
            moved += rows
            if not segments:
                return moved

    def maintain(
        self, *, segments_kept: int = SEGMENTS_KEPT, dense: bool = False, expire: bool = True
    ) -> Maintained:
        """What a log that is to stay within its bounds needs from time to time: :meth:`release`,
        :meth:`seal`, and then what `retention` and `max_bytes` of :meth:`open` ask for. With
        ``expire=False`` nothing goes for its age, as is right while the clock can't be trusted. On
        a full disk the tiers that may drop rows make room for the packs first.

        Raises ``Exhausted`` when nothing may give way; rows then stay where they are, and the next
        call goes on."""
        released = self.release()
        sealed = dropped = 0
        try:
            sealed = self.seal(segments_kept=segments_kept, dense=dense)
        except Exhausted:
            freed, _, dropped = self.core.make_room(self._acked(), ROOM_BYTES, expire)
            if not freed:
                raise
            sealed = self.seal(segments_kept=segments_kept, dense=dense)
        dropped += self.core.make_room(self._acked(), 0, expire)[2]
        self._tell()
        return Maintained(released, sealed, dropped)

    @property
    def disk_bytes(self) -> int:
        """Of all files of the log, segments made beforehand included."""
        return self.core.disk_bytes()

    def purge(self, tier: str, *, before_ns: int) -> int:
        """Destroys the keys of a tier's rows that came before the day (UTC) of `before_ns`; returns
        how many rows can't be read any more: ``purged`` in ``edgecore.losses``. Everything is
        sealed first. What that erases depends on where the device key is: docs/adr/0024. Raises
        ``Invalid`` for a log, or rows, in the clear."""
        if self.cipher is None or tier not in TIERS or before_ns < 0:
            raise Invalid(f"purge {tier!r}: a tier, of an encrypted log, before a time since 1970")
        for _ in range(2):  # seal keeps the newest two segments
            self.core.rotate()
        self.seal()
        self.core.purge(TIERS.index(tier), before_ns // DAY_NS)
        return self._tell_purged()

    def _tell_purged(self) -> int:
        """Rows of what was purged, of which there are none yet."""
        told = self._told()
        found = [item for item in self.core.purged() if item not in told]
        self._append_losses([(*item, "purged") for item in found])
        return sum(last - first + 1 for _, first, last in found)

    def _told(self, after: int = 0) -> set[tuple[int, int, int]]:
        rows = (row for scanned in self.scan(LOSSES.stream, after=after) for row in scanned)
        return {(row["partition"], row["first"], row["last"]) for row in rows}

    def _tell(self) -> None:
        """Rows of losses that came to light since the log was opened."""
        untold = self.core.untold()
        if untold:
            self._append_losses(untold)
            self.core.told(untold)

    @property
    def first_position(self) -> int:
        """Of the first row that is kept; scans begin there."""
        return self.core.first_position

    @property
    def released(self) -> dict[int, int]:
        """The last sequence released, by partition: every one up to it was acknowledged by all
        cursors, and is gone. It is no loss."""
        return self.core.released()

    # ------------------------------------------------------------ what will never be read

    def _record_losses(self) -> None:
        """Rows of what was found; also of earlier losses whose row a second crash has prevented."""
        untold = self.core.untold()
        if self.recovery.clean and not untold:
            return
        # What the segments themselves tell of was told in them: only then packs are read.
        known = self._told(0 if untold else self.core.segment_position - 1)
        found = [] if self.recovery.clean else self.recovery.burnt + self.recovery.ranges
        self._append_losses([item for item in found + untold if item[:3] not in known])
        self.core.told(untold)

    def _append_losses(self, ranges: list[Range]) -> None:
        names = ("partition", "first", "last", "reason")
        for at in range(0, len(ranges), TOLD_AT_ONCE):
            some = ranges[at : at + TOLD_AT_ONCE]
            self.append(LOSSES.stream, [dict(zip(names, item, strict=True)) for item in some])


__all__ = ["POSITION_MAX", "Keeping"]
