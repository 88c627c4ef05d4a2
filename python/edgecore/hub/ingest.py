"""Exactly-once effect: what an envelope adds to the store, and the ranges that answer it.

Sequences name events. What is new is stored; what is held is compared, by digest where the cut is
the same and row by row where it is not; other content under a held sequence is a fork.
"""

from __future__ import annotations

from contextlib import suppress

from edgecore import columns
from edgecore.errors import Corrupt, EdgecoreError
from edgecore.hub.answers import Answers, gaps
from edgecore.schema import Schema
from edgecore.streams import RAW, SCHEMAS
from edgecore.wire import catalogue, envelope, rowbatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgecore.hub.stores.events import EventStore
    from edgecore.wire.catalogue import StreamSchema
    from edgecore.wire.envelope import Envelope, Payload
    from edgecore.wire.rowbatch import RowBatch


LOSSES = "edgecore.losses"
HELD_RANGES_MAX = 4096  # of a partition: rows that were asked for stand apart


class Ingest:
    def __init__(self, events: EventStore) -> None:
        self.events = events
        self._schemas: dict[bytes, StreamSchema] = {}
        self._partitions: dict[tuple[bytes, int], StreamSchema] = {}
        self._decoders: dict[bytes, Schema] = {}
        self.answers = Answers()
        for store in events.stores():
            for block in events.blocks(store, catalogue.PARTITION):
                if block.tombstone:
                    continue
                # A damaged block hides the streams that it names and stops nothing else.
                with suppress(Corrupt):
                    self._learn(store, _named(rowbatch.decode(events.read(block)).rows))
            for partition in self.partitions(store):
                self._read_answers(store, partition)

    def _learn(self, store: bytes, named: list[tuple[int, StreamSchema]]) -> None:
        for partition, schema in named:
            self._schemas[schema.fingerprint] = schema
            self._partitions[store, partition] = schema

    def schema_of(self, partition: int, fingerprint: bytes) -> StreamSchema | None:
        """The fields behind a run; None while the store's catalogue has not named them."""
        if partition == catalogue.PARTITION:
            return catalogue.CATALOGUE
        return self._schemas.get(fingerprint)

    def stream_of(self, store: bytes, partition: int) -> StreamSchema | None:
        if partition == catalogue.PARTITION:
            return catalogue.CATALOGUE
        return self._partitions.get((store, partition))

    def partitions(self, store: bytes) -> list[int]:
        return sorted(self.events.ranges(store))

    def _read_answers(self, store: bytes, partition: int) -> None:
        schema = self.stream_of(store, partition)
        if schema is None or schema.stream != RAW.stream:
            return
        for block in self.events.blocks(store, partition):
            if not block.tombstone:
                with suppress(Corrupt):
                    batch = rowbatch.decode(self.events.read(block))
                    self.answers.hear(store, schema, batch.rows)

    def accept(self, message: Envelope) -> dict[int, int]:
        """Takes what is new. Returns forks: partition -> last common sequence.

        Raises ``Corrupt`` when a payload is not what its digest says; then nothing is taken."""
        runs = []
        room = envelope.ROW_BYTES_MAX
        arriving: dict[bytes, StreamSchema] = {}
        for payload in sorted(message.payloads, key=lambda p: (p.partition, p.first)):
            batch = self._batch(message.store, payload, arriving, room)
            if batch is None:
                continue  # not acknowledged: the catalogue row comes first
            room -= len(batch.rows)
            if sum(arrival[0] for arrival in batch.arrivals) != payload.count:
                raise Corrupt(f"envelope: partition {payload.partition}: arrival runs")
            if payload.partition == catalogue.PARTITION:
                arriving |= {schema.fingerprint: schema for _, schema in _named(batch.rows)}
            runs.append((payload, batch))
        forks: dict[int, int] = {}
        for payload, batch in runs:
            if payload.partition not in forks:
                self._take(message.store, payload, batch, forks)
        return forks

    def _batch(
        self, store: bytes, payload: Payload, arriving: dict[bytes, StreamSchema], room: int
    ) -> RowBatch | None:
        """A payload's rows, whatever their coding; None while their schema is not known."""
        where = f"envelope: partition {payload.partition}"
        if payload.kind == envelope.ROW_BATCH:
            batch = rowbatch.decode(payload.data)
            found = rowbatch.run_digest(
                store, payload.partition, payload.first, payload.count, batch.fingerprint,
                batch.rows,
            )  # fmt: skip
            if found != payload.digest:
                raise Corrupt(f"{where}: run digest")
            if len(batch.rows) > room:
                raise Corrupt(f"{where}: more rows than an envelope may hold")
            return batch
        if payload.kind != envelope.COLUMN_BLOCK:
            raise Corrupt(f"envelope: payload kind {payload.kind} is not accepted here")
        block = columns.Block(payload.data)
        named = (block.store, block.partition, block.first, block.count, block.digest)
        if named != (store, payload.partition, payload.first, payload.count, payload.digest):
            raise Corrupt(f"{where}: a block of another run")
        if block.row_bytes > room:
            raise Corrupt(f"{where}: more rows than an envelope may hold")
        schema = self._typed(payload.partition, block.schema_fingerprint, arriving)
        if schema is None:
            return None
        rows, arrivals = columns.decode_to_rows(payload.data, schema)
        return rowbatch.RowBatch(block.schema_fingerprint, rows, arrivals)

    def _typed(
        self, partition: int, fingerprint: bytes, arriving: dict[bytes, StreamSchema]
    ) -> Schema | None:
        """The schema in the form that decodes blocks."""
        if partition == catalogue.PARTITION:
            return SCHEMAS
        if fingerprint not in self._decoders:
            named = arriving.get(fingerprint) or self._schemas.get(fingerprint)
            if named is None:
                return None
            try:
                self._decoders[fingerprint] = Schema.from_bytes(named.canonical)
            except EdgecoreError as error:
                raise Corrupt(f"envelope: partition {partition}: its schema: {error}") from None
        return self._decoders[fingerprint]

    def _take(self, store: bytes, payload: Payload, batch: RowBatch, forks: dict[int, int]) -> None:
        last = payload.first + payload.count - 1
        schema = self.schema_of(payload.partition, batch.fingerprint)
        if schema is None:
            return  # not acknowledged: the catalogue row comes first
        bounds = rowbatch.boundaries(schema, batch.rows, payload.count)
        held = self.events.held(store, payload.partition)
        missing = list(gaps(held, payload.first, last))
        if sum(high - low + 1 for low, high in missing) < payload.count:
            common = self._compare(store, payload, batch, bounds)
            if common is not None:
                forks[payload.partition] = common
                return
        if len(held) >= HELD_RANGES_MAX and not _touches(held, payload.first, last):
            return  # no room to name another range: the oldest gap must be filled first
        named = _named(batch.rows) if payload.partition == catalogue.PARTITION else []
        buried = list(_tombstones(schema, batch.rows)) if schema.stream == LOSSES else []
        for low, high in missing:
            part = batch.cut(bounds, low - payload.first, high + 1 - payload.first)
            digest = rowbatch.run_digest(
                store, payload.partition, low, high - low + 1, part.fingerprint, part.rows
            )
            self.events.append(store, payload.partition, low, high - low + 1, digest, part.encode())
        self._learn(store, named)  # only what is stored
        if schema.stream == RAW.stream:
            self.answers.hear(store, schema, batch.rows)
        for partition, first, last in buried:
            for low, high in list(gaps(self.events.held(store, partition), first, last)):
                self.events.cover(store, partition, low, high)

    def _compare(
        self, store: bytes, payload: Payload, batch: RowBatch, bounds: list[int]
    ) -> int | None:
        """None when every held row is the same, else the last sequence before the first that is
        not."""
        last = payload.first + payload.count - 1
        for block in self.events.blocks(store, payload.partition, payload.first):
            if block.first > last:
                break
            if block.tombstone:
                return int(max(block.first, payload.first)) - 1
            same_cut = block.first == payload.first and block.count == payload.count
            if same_cut and block.digest == payload.digest:
                continue
            held = rowbatch.decode(self.events.read(block))
            schema = self.schema_of(payload.partition, held.fingerprint)
            if schema is None:
                raise Corrupt("a stored block has no schema")
            theirs = rowbatch.boundaries(schema, held.rows, block.count)
            for sequence in range(max(block.first, payload.first), min(block.last, last) + 1):
                i, j = sequence - payload.first, sequence - block.first
                mine = batch.rows[bounds[i] : bounds[i + 1]]
                same = mine == held.rows[theirs[j] : theirs[j + 1]]
                if not same or held.fingerprint != batch.fingerprint:
                    return sequence - 1
        return None

    def rows(self, store: bytes, partition: int) -> Iterator[tuple[int, dict[str, object]]]:
        """(sequence, row) of everything held of a partition, in order."""
        for block in self.events.blocks(store, partition):
            if block.tombstone:
                continue
            batch = rowbatch.decode(self.events.read(block))
            schema = self.schema_of(partition, batch.fingerprint)
            if schema is None:
                raise Corrupt("a stored block has no schema")
            for index, (_, row) in enumerate(rowbatch.read_rows(schema, batch.rows)):
                yield block.first + index, row


def _named(rows: bytes) -> list[tuple[int, StreamSchema]]:
    """(partition, schema) of catalogue rows. Raises ``Corrupt`` if one of them is malformed."""
    found = []
    for _, row in rowbatch.read_rows(catalogue.CATALOGUE, rows):
        canonical, partition = row["schema"], row["partition"]
        if not isinstance(canonical, bytes) or not isinstance(partition, int):
            raise Corrupt(f"{catalogue.STREAM}: a row is malformed")
        found.append((partition, catalogue.read_schema(canonical)))
    return found


def _tombstones(schema: StreamSchema, rows: bytes) -> Iterator[tuple[int, int, int]]:
    """(partition, first, last) of what a device declares burnt or lost. Raises ``Corrupt``."""
    for _, row in rowbatch.read_rows(schema, rows):
        partition, first, last = row.get("partition"), row.get("first"), row.get("last")
        if not (isinstance(partition, int) and isinstance(first, int) and isinstance(last, int)):
            raise Corrupt(f"{LOSSES}: a row is malformed")
        if not 1 <= first <= last < 1 << 63 or not 0 <= partition < 1 << 32:
            raise Corrupt(f"{LOSSES}: sequences {first} to {last} are no range")
        yield partition, first, last


def _touches(held: list[tuple[int, int]], first: int, last: int) -> bool:
    return any(low - 1 <= last and first <= high + 1 for low, high in held)


__all__ = ["Ingest"]
