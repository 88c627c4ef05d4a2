"""Everything a hub holds as JSON lines (docs/formats/export.md), by store, partition, sequence."""

from __future__ import annotations

from edgecore.errors import Corrupt
from edgecore.wire import export, rowbatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgecore.hub.server import Hub
    from edgecore.wire.rowbatch import RowBatch


def _positions(batch: RowBatch) -> Iterator[int]:
    for rows, position, _, _ in batch.arrivals:
        yield from range(position, position + rows)


def lines(hub: Hub) -> Iterator[str]:
    for store in hub.events.stores():
        for partition in hub.ingest.partitions(store):
            for block in hub.events.blocks(store, partition):
                if block.tombstone:
                    continue
                batch = rowbatch.decode(hub.events.read(block))
                schema = hub.ingest.schema_of(partition, batch.fingerprint)
                if schema is None:
                    raise Corrupt(f"partition {partition} has no schema")
                rows = rowbatch.read_rows(schema, batch.rows)
                for index, ((_, row), position) in enumerate(
                    zip(rows, _positions(batch), strict=True)
                ):
                    yield export.line(store, partition, block.first + index, position, schema, row)


__all__ = ["lines"]
