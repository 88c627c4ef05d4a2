"""Everything a hub holds as JSON lines, sorted by store, partition and sequence."""

from __future__ import annotations

from edgecore.errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgecore.hub.server import Hub
    from edgecore.wire.catalogue import StreamSchema


def _plain(schema: StreamSchema, row: dict[str, object]) -> dict[str, object]:
    """Decimals as exact text, bytes as hex, floats that JSON lacks as text."""
    out = dict(row)
    for field in schema.fields:
        value = out[field.name]
        if isinstance(value, bytes):
            out[field.name] = value.hex()
        elif field.dtype == "decimal" and isinstance(value, int):
            digits = f"{abs(value):0{field.scale + 1}}"
            point = len(digits) - field.scale
            text = digits[:point] + ("." + digits[point:] if field.scale else "")
            out[field.name] = ("-" if value < 0 else "") + text
        elif isinstance(value, float) and (value != value or value in (1e999, -1e999)):
            out[field.name] = str(value)
    return out


def lines(hub: Hub) -> Iterator[str]:
    import json

    for store in hub.events.stores():
        for partition in hub.ingest.partitions(store):
            schema = hub.ingest.stream_of(store, partition)
            if schema is None:
                raise Corrupt(f"partition {partition} has no schema")
            for sequence, row in hub.ingest.rows(store, partition):
                yield json.dumps(
                    {
                        "store": store.hex(),
                        "partition": partition,
                        "sequence": sequence,
                        "stream": schema.stream,
                        "tier": schema.tier,
                        "row": _plain(schema, row),
                    },
                    separators=(",", ":"),
                )


__all__ = ["lines"]
