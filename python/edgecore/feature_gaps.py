"""What a log tells of the rows that it lacks: the spans of ``edgecore.gap`` (docs/formats/gap.md),
as those meet them who replay its rows."""

from __future__ import annotations

from edgecore.streams import GAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore.feature_backfill import GapBefore
    from edgecore.log import Log


def gaps_of_log(log: Log, stream: str) -> list[GapBefore]:
    """The gaps of a stream, for rows of it as ``edgecore.feature_parity.read_log`` reads them: each
    with the number of the first row that came after it was told."""
    from bisect import bisect

    if GAP.stream not in {name for _, name, _ in log.partitions()}:
        return []
    told = [
        (scanned.position + at, row["begin"], row["end"])
        for scanned in log.scan(GAP.stream)
        for at, row in enumerate(scanned.rows())
        if row["stream"] == stream and row["begin"] < row["end"]
    ]
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


__all__ = ["gaps_of_log"]
