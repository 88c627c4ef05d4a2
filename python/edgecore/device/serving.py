"""Which release answers: the pipelines that the updater's roles ask for, over one log."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore._core.rows import Batch
    from edgecore.log import Log


class Serving:
    def __init__(self, log: Log) -> None:
        self._log = log
        self.predictions = {"served": 0, "shadow": 0, "anomalous": 0, "unanswered": 0}
        self.last: dict[str, Any] | None = None

    def apply(self, roles: list[tuple[str, Any, Any]], observed: bytes) -> None: ...

    def process(self, batch: Batch) -> tuple[int, int, int]:
        self._log.append(batch.schema.stream, batch)
        return 0, 0, 0

    def snapshot(self) -> None: ...
