"""What the updater keeps of its own: rows not yet logged, the step intended, what was given up."""

from __future__ import annotations

from edgecore.errors import Corrupt
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.artifacts import JournalState

    Who = tuple[str, int, bytes]  # name, version, digest of a release

SOURCE = "updater"
GIVEN_UP_MAX = 16
EDGES_MAX = 256  # older rows are given up first: a log that refuses so many has lost them anyway


class State:
    """A value; changed in copies, so that what failed to become durable did not happen.

    ``edges``: rows for `edgecore.update`; ``intent``: None, or [journal generation, row] of the
    step that was begun; ``openings``: starts with an active release that is not stable;
    ``order``: [issued, id] of the order followed; ``noted``: the last rows of :meth:`note`."""

    __slots__ = ("edges", "failed", "intent", "next_edge", "noted", "openings", "order")

    def __init__(self) -> None:
        self.edges: list[dict[str, Any]] = []
        self.failed: list[list[Any]] = []  # digest, path, order, reason
        self.intent: list[Any] | None = None
        self.next_edge = 1
        self.noted: dict[str, str] = {}
        self.openings = 0
        self.order = [0, 0]

    def copy(self) -> State:
        made = State()
        made.edges = list(self.edges)
        made.failed = list(self.failed)
        made.intent = self.intent
        made.next_edge = self.next_edge
        made.noted = dict(self.noted)
        made.openings = self.openings
        made.order = self.order
        return made

    # ------------------------------------------------------------ rows

    def add(self, edge: str, who: Who, attempt: int, reason: str) -> None:
        """A row, given out until it is logged."""
        self.edges.append(self._row(edge, who, attempt, reason))
        self.edges = self.edges[-EDGES_MAX:]
        self.next_edge += 1

    def _row(self, edge: str, who: Who, attempt: int, reason: str) -> dict[str, Any]:
        return {
            "release": who[0],
            "version": who[1],
            "digest": who[2],
            "attempt": attempt,
            "edge": edge,
            "reason": reason,
            "source": SOURCE,
            "source_seq": self.next_edge,
        }

    def note(self, edge: str, who: Who, reason: str) -> bool:
        """A row beside the journal (preflight, refused), unless it was the last of its kind. What
        follows the second colon of a reason is detail and makes no difference."""
        what = ":".join(reason.split(":")[:2])
        key = f"{who[0]}/{who[1]} {who[2].hex()} {what}"
        if key == self.noted.get(edge):
            return False
        self.noted[edge] = key
        self.add(edge, who, 0, reason)
        return True

    def intend(self, edge: str, who: Who, reason: str, generation: int) -> None:
        """The step that is about to be asked of the journal."""
        self.intent = [generation, self._row(edge, who, 0, reason)]

    def settle(self, journal: JournalState) -> None:
        """The intended step has become a row if the journal has moved, and nothing if not."""
        if self.intent is None:
            return
        generation, row = self.intent
        self.intent = None
        if journal.generation > generation:
            self.edges.append({**row, "attempt": journal.attempt})
            self.next_edge = max(self.next_edge, row["source_seq"] + 1)
            self.noted = {}

    # ------------------------------------------------------------ what was given up

    def condemn(self, digest: bytes, path: str, reason: str) -> None:
        self.failed = [item for item in self.failed if item[0] != digest][1 - GIVEN_UP_MAX :]
        self.failed.append([digest, path, self.order, reason])

    def pardon(self, digest: bytes) -> None:
        """A new order may try it once more."""
        self.failed = [item for item in self.failed if item[0] != digest]

    def fault(self, digest: bytes) -> str:
        """Why a release was given up; empty if it was not."""
        return next((str(item[3]) for item in self.failed if item[0] == digest), "")

    def given_up(self, path: str) -> bool:
        """Whether the release was given up under the order that is followed now."""
        return any(item[1] == path and self.order <= item[2] for item in self.failed)

    # ------------------------------------------------------------ bytes

    def encode(self) -> bytes:
        return cbor.encode({"version": 1, **{name: getattr(self, name) for name in self.__slots__}})

    @staticmethod
    def decode(data: bytes) -> State:
        """Raises ``Corrupt``."""
        body = cbor.decode(data)
        if cbor.field(body, "version", int) != 1:
            raise Corrupt("updater: unknown version of its state")
        made = State()
        made.edges = cbor.field(body, "edges", list)
        made.failed = cbor.field(body, "failed", list)
        made.intent = body.get("intent")
        made.next_edge = cbor.unsigned(body.get("next_edge"))
        made.noted = cbor.field(body, "noted", dict)
        made.openings = cbor.unsigned(body.get("openings"))
        made.order = cbor.field(body, "order", list)
        return made


__all__ = ["SOURCE", "State"]
