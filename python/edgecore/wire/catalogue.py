"""What partition 0 says: which stream and schema stand behind a partition.

A store carries its own schemas, so that a hub, an export or a checker reads it with nothing from
outside. Here a schema is only read; nothing is compiled.
"""

from __future__ import annotations

from edgecore.digest import blake3
from edgecore.errors import Corrupt
from edgecore.schema import Field
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PARTITION = 0
STREAM = "edgecore.schemas"


class StreamSchema:
    """Stream, tier and fields of one schema, and its fingerprint."""

    __slots__ = ("fields", "fingerprint", "stream", "tier")

    def __init__(self, stream: str, tier: str, fields: Sequence[Field], fingerprint: bytes) -> None:
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
)


def read_schema(canonical: bytes) -> StreamSchema:
    """The schema of its canonical bytes. Raises ``Corrupt``."""
    body = cbor.decode(canonical)
    fields = cbor.field(body, "fields", list)
    if not fields or not all(isinstance(item, dict) for item in fields):
        raise Corrupt("schema: the fields are malformed")
    return StreamSchema(
        cbor.field(body, "stream", str),
        cbor.field(body, "tier", str),
        [Field.from_canonical(item) for item in fields],
        blake3(canonical),
    )


__all__ = ["CATALOGUE", "PARTITION", "STREAM", "StreamSchema", "read_schema"]
