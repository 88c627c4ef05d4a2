"""What partition 0 says: which stream and schema stand behind a partition.

A store carries its own schemas, so that a hub, an export or a checker reads it with nothing from
outside. Here a schema is only read; nothing is compiled.
"""

from __future__ import annotations

from edgecore import limits
from edgecore.digest import blake3
from edgecore.errors import Corrupt
from edgecore.schema import TIERS, Field
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PARTITION = 0
STREAM = "edgecore.schemas"


class StreamSchema:
    """Stream, tier and fields of one schema, its fingerprint and its canonical bytes."""

    __slots__ = ("canonical", "fields", "fingerprint", "stream", "tier")

    def __init__(
        self, stream: str, tier: str, fields: Sequence[Field], fingerprint: bytes, canonical: bytes
    ) -> None:
        self.canonical = canonical
        self.stream = stream
        self.tier = tier
        self.fields = fields
        self.fingerprint = fingerprint


# The catalogue's own fields: the only schema that a reader brings along.
CATALOGUE = StreamSchema(
    STREAM,
    "critical",
    [Field("partition", "u32", required=True), Field("schema", "bytes", required=True)],
    b"",
    b"",
)


def read_schema(canonical: bytes) -> StreamSchema:
    """The schema of its canonical bytes, within the bounds of :class:`edgecore.schema.Schema`.
    Raises ``Corrupt``."""
    body = cbor.decode(canonical, limits.SCHEMA_BYTES_MAX)
    stream = cbor.field(body, "stream", str)
    if not 1 <= len(stream.encode()) <= limits.STREAM_NAME_BYTES_MAX:
        raise Corrupt(f"schema: a stream name of {len(stream.encode())} bytes")
    tier = cbor.field(body, "tier", str)
    if tier not in TIERS:
        raise Corrupt(f"schema of {stream!r}: unknown tier {tier!r}")
    if cbor.field(body, "version", int) < 1:
        raise Corrupt(f"schema of {stream!r}: versions begin at 1")
    items = cbor.field(body, "fields", list)
    if not 1 <= len(items) <= limits.SCHEMA_FIELDS_MAX:
        raise Corrupt(f"schema of {stream!r}: {len(items)} fields")
    fields = [_field(item) for item in items]
    if len({field.name for field in fields}) != len(fields):
        raise Corrupt(f"schema of {stream!r}: two fields share a name")
    return StreamSchema(stream, tier, fields, blake3(canonical), canonical)


def _field(item: object) -> Field:
    if not isinstance(item, dict):
        raise Corrupt("schema: a field is malformed")
    field = Field.from_canonical(item)
    if field.canonical() != item:  # also what is text, number or pair in it
        raise Corrupt(f"schema: field {field.name!r} is not in its canonical form")
    return field


__all__ = ["CATALOGUE", "PARTITION", "STREAM", "StreamSchema", "read_schema"]
