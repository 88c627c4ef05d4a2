"""What becomes of captured rows: they are logged, and answered by the release that serves."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore._core.rows import Batch
    from edgecore.log import Log
    from edgecore.release import VerifiedRelease


class Serving:
    """Rows of the source into the log, and answers to them. For one thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.predictions = {"served": 0, "shadow": 0, "anomalous": 0, "unanswered": 0}
        self.last: dict[str, Any] | None = None

    def apply(self, roles: list[tuple[str, VerifiedRelease, Any]], observed: bytes) -> None:
        """Puts releases in their roles; without one, rows are logged only."""

    def process(self, batch: Batch) -> tuple[int, int, int]:
        """Logs and answers rows; of the observed release: predictions judged, alarms, errors.

        Raises ``Exhausted`` or ``Unavailable``: nothing was taken then."""
        self._log.append(batch.schema.stream, batch)
        return 0, 0, 0

    def snapshot(self) -> None:
        """Keeps what a restart would else have to replay."""
