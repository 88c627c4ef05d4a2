"""What `edgecore log export --corrected` adds to a row: its true times, as far as they follow from
what the hub signed. docs/formats/clock.md."""

from __future__ import annotations

from edgecore.corrections import STAMPED
from edgecore.errors import Invalid, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore.log import Log
    from edgecore.log_values import Scanned

    Added = tuple[int | None, ...]

COLUMNS = (
    "corrected_time", "time_uncertainty", "ingest_time", "ingest_uncertainty", "clock_offset",
)  # fmt: skip
MOMENTS = ("corrected_time", "ingest_time")  # the others are spans of ns
NOTHING: Added = (None,) * len(COLUMNS)


class Corrector:
    """Of one log.

    :param named: streams whose times the device's own clock gave, beside those of which that is
        known. Raises ``Invalid`` for one that the log has not."""

    def __init__(self, log: Log, named: list[str]) -> None:
        from edgecore.device.host import HOST

        unknown = set(named) - {stream for _, stream, _ in log.partitions()}
        if unknown:
            raise Invalid(f"--device-time {min(unknown)}: the log has no such stream")
        self._table = log.corrections()
        self._stamped = STAMPED | set(named)
        self._host = HOST.fingerprint
        self._of: Scanned | None = None
        self._shared: Added = ()

    def of(self, scanned: Scanned, index: int, time: int) -> Added:
        """Values of COLUMNS for one of the rows."""
        schema, epoch, position = scanned.schema, scanned.epoch, scanned.position + index
        if scanned is not self._of:  # one commit: its rows came together
            came = self._table.arrived(epoch, position, scanned.hlc) or (None, None)
            offset = self._table.offset(epoch, position) or (None, None)
            self._of, self._shared = scanned, (*came, offset[0])
        true = None
        if schema is not None and (
            schema.stream in self._stamped or schema.fingerprint == self._host
        ):
            true = self._table.stamped(epoch, position, scanned.hlc, time)
        return (*(true or (None, None)), *self._shared)


def anchored(log: Log) -> dict[str, int] | None:
    """How many epochs have a clock that was read, and how many of them signed times. None when the
    rows that tell can't be opened."""
    try:
        table = log.corrections()
    except Unavailable:
        return None
    return {"epochs": table.epochs, "anchored": table.anchored}


__all__ = ["COLUMNS", "MOMENTS", "NOTHING", "Corrector", "anchored"]
