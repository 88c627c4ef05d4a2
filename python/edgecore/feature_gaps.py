"""What a log tells of the rows that it lacks: the spans of ``edgecore.gap`` (docs/formats/gap.md),
as those meet them who replay its rows."""

from __future__ import annotations

from edgecore.streams import GAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore.feature_backfill import GapBefore
    from edgecore.log import Log

    Span = tuple[int, int, int, int]


def spans_of(log: Log, stream: str, after: int = 0) -> list[Span]:
    """(position, begin, end, through or 0) of the gaps of a stream that were told behind a
    position, in order."""
    if GAP.stream not in {name for _, name, _ in log.partitions()}:
        return []
    return [
        (position, row["begin"], row["end"], row["through"] or 0)
        for scanned in log.scan(GAP.stream, after=after)
        for position, row in enumerate(scanned.rows(), scanned.position)
        if row["stream"] == stream and row["begin"] < row["end"] and position > after
    ]


def gaps_at(log: Log, stream: str) -> list[tuple[int, int, int]]:
    """(position, begin, end) of the gaps of a stream, for history: each known behind a position,
    its own or that of the last row that went."""
    told = spans_of(log, stream)
    return sorted((min(at, through or at), begin, end) for at, begin, end, through in told)


def gaps_of_log(log: Log, stream: str) -> list[GapBefore]:
    """The gaps of a stream, for rows of it as ``edgecore.feature_parity.read_log`` reads them: each
    with the number of the first row that came after it was told, or behind the rows that went."""
    from bisect import bisect

    told = gaps_at(log, stream)
    if not told:
        return []
    positions, first = [], []  # of records, and which number their first row has
    count = 0
    for scanned in log.scan(stream):
        positions.append(scanned.position)
        first.append(count)
        count += scanned.count
    found = []
    for position, begin, end in told:
        at = bisect(positions, position)
        found.append((first[at] if at < len(first) else count, begin, end))
    return found


__all__ = ["gaps_at", "gaps_of_log", "spans_of"]
