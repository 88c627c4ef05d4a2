"""Streams whose raw rows stay on the device: what is withheld, and what a hub's request brings.

A request names a stream and a stretch of event time. It is answered once, in the log: which
sequences are sent for it, and which are no longer kept; the rows themselves then go out by tier
and within the envelope like any others, until the hub holds them or no longer asks. Rows that are
never asked for wait for their tier's retention, which tells the hub of each that goes.
"""

from __future__ import annotations

from edgecore.errors import Incompatible, Invalid
from edgecore.streams import RAW
from edgecore.wire import catalogue, rowbatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from edgecore.log import Log
    from edgecore.log_values import Retention
    from edgecore.schema import Schema
    from edgecore.wire.desired import Request

    Ranges = dict[int, list[tuple[int, int]]]  # partition -> inclusive, ascending

RANGES_MAX = 24  # of one answer: more are joined, with the rows between them


def check_rule(schema: Schema, word: str, retention: dict[str, Retention], bounded: bool) -> None:
    """Raises ``Invalid`` where rows that nobody fetches would fill the disk."""
    kept = retention.get(schema.tier)
    may_go = kept is not None and (
        kept.ttl_ns is not None or (kept.full != 0 and (bounded or kept.max_bytes is not None))
    )
    if word != "send" and not may_go:
        raise Invalid(
            f'hub.raw: {schema.stream} = "{word}" needs [log.retention.{schema.tier}] to say when '
            'its rows go: a ttl, or a max_bytes with on_full = "drop oldest"'
        )


class RawRows:
    """Of one log. For the link's thread.

    :param rules: stream -> ``send``, ``on_request`` or ``keep``."""

    def __init__(self, log: Log, rules: dict[str, str]) -> None:
        self._log = log
        self._rules = rules
        self._ready = False
        self._answered: dict[int, Ranges] = {}
        self._open: dict[int, Ranges] = {}  # of what is asked for now: what the hub lacks yet

    @property
    def withheld(self) -> set[int]:
        """Partitions of which nothing goes out but what was asked for."""
        rules = self._rules
        return {p for p, stream, _ in self._log.partitions() if rules.get(stream, "send") != "send"}

    def wanted(self, partition: int) -> list[tuple[int, int]]:
        return sorted(r for ranges in self._open.values() for r in ranges.get(partition, []))

    def sent(self, partition: int, first: int, last: int) -> None:
        """The hub holds these."""
        for ranges in self._open.values():
            left = [
                piece
                for low, high in ranges.get(partition, [])
                for piece in ((low, min(high, first - 1)), (max(low, last + 1), high))
                if piece[0] <= piece[1]
            ]
            ranges[partition] = left

    def take(self, requests: Iterable[Request], now_ns: int) -> None:
        """What the hub asks for now, at its own time: answers what is new, forgets the rest.
        Raises what the log raises; to be called again then."""
        self._begin()
        asked = [request for request in requests if request.expires_ns > now_ns]
        self._open = {n: r for n, r in self._open.items() if n in {q.id for q in asked}}
        for request in asked:
            if request.id not in self._answered:
                self._answer(request)
            if request.id not in self._open:
                found = self._answered[request.id]
                self._open[request.id] = {p: list(ranges) for p, ranges in found.items()}

    def _begin(self) -> None:
        """Reads what was answered before, and says what the rules are if they are others."""
        if self._ready:
            return
        log, told = self._log, dict[str, str]()
        if any(stream == RAW.stream for _, stream, _ in log.partitions()):
            for scanned in log.scan(RAW.stream):
                for row in scanned.rows():
                    self._heard(row, told)
        new = {s: w for s, w in self._rules.items() if told.get(s, "send") != w}
        new |= {s: "send" for s, w in told.items() if w != "send" and s not in self._rules}
        if new:
            log.register(RAW)
            log.append(RAW.stream, [{"stream": s, "state": w} for s, w in sorted(new.items())])
        self._ready = True

    def _heard(self, row: dict[str, Any], told: dict[str, str]) -> None:
        if row["request"] is None:
            told[row["stream"]] = row["state"]
            return
        ranges = self._answered.setdefault(row["request"], {})
        if row["state"] == "sent":
            ranges.setdefault(row["partition"], []).append((row["first"], row["last"]))

    def _answer(self, request: Request) -> None:
        about = {"stream": request.stream, "request": request.id}
        rows: list[dict[str, Any]] = []
        found: Ranges = {}
        if request.stream not in [stream for _, stream, _ in self._log.partitions()]:
            rows = [{**about, "state": "unknown"}]
        elif self._rules.get(request.stream) == "keep":
            rows = [{**about, "state": "refused"}]
        else:
            found, count = self._find(request)
            for state, ranges in (("sent", found), ("gone", self._gone(request))):
                rows += [
                    {**about, "state": state, "partition": p, "first": first, "last": last}
                    for p, pairs in ranges.items()
                    for first, last in pairs
                ]
            rows.append({**about, "state": "answered", "rows": count})
        self._log.register(RAW)
        self._log.append(RAW.stream, rows)  # whole, or not at all
        self._answered[request.id] = found

    def _find(self, request: Request) -> tuple[Ranges, int]:
        """Sequences of the rows in question, and how many these are."""
        found: Ranges = {}
        count = 0
        times = (request.low + 1, request.high)
        for scanned in self._log.scan(request.stream, times=times):
            ranges = found.setdefault(scanned.partition, [])
            count += scanned.count
            last = scanned.first + scanned.count - 1
            if ranges and ranges[-1][1] + 1 >= scanned.first:
                ranges[-1] = (ranges[-1][0], last)
            else:
                ranges.append((scanned.first, last))
        return {partition: _joined(ranges) for partition, ranges in found.items()}, count

    def _gone(self, request: Request) -> Ranges:
        """Sequences that are kept no more and that the hub does not hold, between rows whose times
        leave room for the window."""
        log, out = self._log, dict[int, list[tuple[int, int]]]()
        seen: dict[int, tuple[int, int]] = {}  # partition -> sequence, time of the row before
        for scanned in log.scan(request.stream):
            times: Any = scanned.column("time")
            before, since = seen.get(scanned.partition, (0, -(1 << 63)))
            if scanned.first > before + 1 and since <= request.high and times[0] > request.low:
                out.setdefault(scanned.partition, []).append((before + 1, scanned.first - 1))
            seen[scanned.partition] = (scanned.first + scanned.count - 1, times[-1])
        for partition, stream, _ in log.partitions():
            before, since = seen.get(partition, (0, -(1 << 63)))
            head = log.next_sequence(partition) - 1
            if stream == request.stream and head > before and since <= request.high:
                out.setdefault(partition, []).append((before + 1, head))
        held = {partition: log.cursor("sync").acked(partition) for partition in out}
        return {
            p: [(max(first, held[p] + 1), last) for first, last in ranges if last > held[p]]
            for p, ranges in out.items()
        }

    def cut(self, run: Any, last: int) -> Any:
        """A run of rows without those above sequence `last`. Raises ``Incompatible`` for a schema
        that this build can't read."""
        count = last - run.first + 1
        if run.count <= count:
            return run
        known = {schema.fingerprint: schema for schema in self._log.schemas()}
        if run.schema_fingerprint not in known:
            raise Incompatible(f"partition {run.partition}: a schema that can't be read")
        fields = catalogue.read_schema(known[run.schema_fingerprint].canonical_bytes)
        bounds = rowbatch.boundaries(fields, run.payload, run.count)
        batch = rowbatch.RowBatch(run.schema_fingerprint, run.payload, run.arrivals)
        part = batch.cut(bounds, 0, count)
        digest = rowbatch.run_digest(
            self._log.store_id, run.partition, run.first, count, part.fingerprint, part.rows
        )
        return type(run)(
            run.partition, run.first, count, part.fingerprint, digest, part.rows, part.arrivals
        )


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """At most :data:`RANGES_MAX`, joined over the smallest gaps."""
    by_gap = sorted(range(1, len(ranges)), key=lambda at: ranges[at - 1][1] - ranges[at][0])
    starts = [0, *sorted(by_gap[: RANGES_MAX - 1])]
    ends = [*(at - 1 for at in starts[1:]), len(ranges) - 1]
    return [(ranges[a][0], ranges[b][1]) for a, b in zip(starts, ends, strict=True)]


__all__ = ["RANGES_MAX", "RawRows", "check_rule"]
