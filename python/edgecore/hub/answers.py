"""What devices have said to the hub's requests for raw rows: the rows of ``edgecore.raw``."""

from __future__ import annotations

from edgecore.errors import Corrupt
from edgecore.streams import RAW
from edgecore.wire import rowbatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from edgecore.wire.catalogue import StreamSchema

    Span = tuple[int, int, int]  # partition, first, last
    Held = Callable[[bytes, int], list[tuple[int, int]]]  # store, partition -> ranges


class Answer:
    """Of one store to one request. `state`: the last word, "" before it; `rows`: how many were
    found; `sent`: sequences that come for it; `gone`: that are no longer kept, and may have held
    rows that were asked for."""

    __slots__ = ("gone", "rows", "sent", "state")

    def __init__(self) -> None:
        self.state, self.rows = "", 0
        self.sent: list[Span] = []
        self.gone: list[Span] = []


class Answers:
    """By store and number, so that no device answers for another."""

    def __init__(self) -> None:
        self._found: dict[tuple[bytes, int], Answer] = {}

    def hear(self, store: bytes, schema: StreamSchema, rows: bytes) -> None:
        """Takes in canonical rows of ``edgecore.raw``. Raises ``Corrupt``."""
        for _, row in rowbatch.read_rows(schema, rows):
            number, state = row.get("request"), row.get("state")
            if not isinstance(number, int) or not isinstance(state, str):
                continue  # a rule
            answer = self._found.setdefault((store, number), Answer())
            if state in ("sent", "gone"):
                spans = answer.sent if state == "sent" else answer.gone
                span = _span(row)
                if span not in spans:
                    spans.append(span)
            else:
                count = row.get("rows")
                answer.state, answer.rows = state, count if isinstance(count, int) else 0

    def of(self, stores: Iterable[bytes], number: int) -> tuple[bytes, Answer] | None:
        """The store that answered, and its answer."""
        for store in stores:
            answer = self._found.get((store, number))
            if answer is not None and answer.state:
                return store, answer
        return None

    def fulfilled(self, stores: Iterable[bytes], number: int, held: Held) -> bool:
        """Whether a request was answered, and every row that it brings is here."""
        found = self.of(stores, number)
        return found is not None and not lacking(*found, held)


def lacking(store: bytes, answer: Answer, held: Held) -> int:
    """How many sequences of an answer are not here yet."""
    return sum(
        high - low + 1
        for partition, first, last in answer.sent
        for low, high in gaps(held(store, partition), first, last)
    )


def _span(row: dict[str, object]) -> Span:
    partition, first, last = row.get("partition"), row.get("first"), row.get("last")
    if not (isinstance(partition, int) and isinstance(first, int) and isinstance(last, int)):
        raise Corrupt(f"{RAW.stream}: a row is malformed")
    return partition, first, last


def gaps(held: list[tuple[int, int]], first: int, last: int) -> Iterator[tuple[int, int]]:
    """What of [first, last] is not in the ranges."""
    for low, high in held:
        if high < first:
            continue
        if low > last:
            break
        if first < low:
            yield first, low - 1
        first = high + 1
    if first <= last:
        yield first, last


__all__ = ["Answer", "Answers", "gaps", "lacking"]
