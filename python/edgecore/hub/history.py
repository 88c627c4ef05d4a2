"""The rows of a hub's packs, read beside a hub that runs: no index, no lock, nothing written.

The packs are the truth (docs/adr/0071-packs-are-the-truth.md), so training and inspection need
nothing else. A block that is still being written, or damaged, is not there.
"""

from __future__ import annotations

from pathlib import Path

from edgecore.errors import Corrupt, Invalid
from edgecore.hub.stores.events import BLOCK_HEAD, whole_blocks
from edgecore.schema import Schema
from edgecore.wire import catalogue, rowbatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgecore.wire.rowbatch import RowBatch


def spans(directory: Path) -> Iterator[tuple[bytes, int, int, int, RowBatch | None]]:
    """(store, partition, first sequence, count, rows) of every whole block, as it came; no rows for
    sequences that hold nothing."""
    for pack in sorted((directory / "packs").glob("*.pack")):
        for _, body in whole_blocks(pack):
            store, partition, first, count, _ = BLOCK_HEAD.unpack_from(body)
            rows = body[BLOCK_HEAD.size :]
            yield store, partition, first, count, rowbatch.decode(rows) if rows else None


def blocks(directory: Path) -> Iterator[tuple[bytes, int, int, RowBatch]]:
    """(store, partition, first sequence, rows) of every whole block that holds any."""
    for store, partition, first, _, batch in spans(directory):
        if batch is not None:
            yield store, partition, first, batch


def rows(directory: Path, stream: str) -> tuple[Schema, list[dict[str, object]]]:
    """The newest schema of a stream and all its rows of that schema, from every store, by store,
    partition and sequence. Decimals are grid integers, null is None.

    :raises Invalid: no hub, or no such stream; :raises Corrupt: rows that do not decode."""
    if not (directory / "packs").is_dir():
        raise Invalid(f"{directory} holds no hub: it has no packs")
    found = list(blocks(directory))
    schemas: dict[bytes, Schema] = {}
    for _, partition, _, batch in found:
        if partition == catalogue.PARTITION:
            for _, row in rowbatch.read_rows(catalogue.CATALOGUE, batch.rows):
                canonical = row["schema"]
                if not isinstance(canonical, bytes):
                    raise Corrupt("catalogue: a row without a schema")
                schema = Schema.from_bytes(canonical)
                schemas[schema.fingerprint] = schema
    wanted = [schema for schema in schemas.values() if schema.stream == stream]
    if not wanted:
        raise Invalid(f"{directory}: the hub holds no stream {stream!r}")
    schema = max(wanted, key=lambda schema: schema.version)
    out: list[dict[str, object]] = []
    described = catalogue.read_schema(schema.canonical_bytes)
    for _, _, _, batch in sorted(found, key=lambda block: block[:3]):
        if batch.fingerprint == schema.fingerprint:
            out.extend(row for _, row in rowbatch.read_rows(described, batch.rows))
    return schema, out


__all__ = ["blocks", "rows", "spans"]
