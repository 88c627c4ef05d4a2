"""Column blocks: a run of rows, column by column, in one of two codings of the same content.

``fast`` (bit-packed frames) decodes at memory speed, ``dense`` (adaptive range code) is smaller:
for metered links and archives. Both give back the same canonical rows, checked by the run digest.
Format: docs/formats/column-block.md.
"""

from __future__ import annotations

from edgecore._core import columns as _columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable
    from typing import Any, Literal, Protocol

    from typing_extensions import Buffer

    from edgecore._core.rows import Batch
    from edgecore.schema import Schema

    Arrival = tuple[int, int, int, int]  # rows, first position, HLC, clock trust

    class Run(Protocol):  # as edgecore.Log.runs gives it
        partition: int
        first: int
        count: int
        payload: bytes
        arrivals: list[Arrival]


class Block:
    """What a block says of itself, its checksum verified. ``digest`` is the run digest: only
    :func:`decode` has compared the rows with it. ``row_bytes``: of its canonical rows.
    ``max_errors``: by number of the field, how far its values may be from those that came in; a
    field without one holds them as they were."""

    __slots__ = (
        "coding", "count", "digest", "first", "max_errors", "partition", "row_bytes",
        "schema_fingerprint", "store",
    )  # fmt: skip

    def __init__(self, data: Buffer) -> None:
        """Raises ``Corrupt`` (checksum, structure) or ``Incompatible`` (version, coding)."""
        (
            self.store, self.partition, self.first, self.count, self.schema_fingerprint,
            self.digest, self.coding, self.row_bytes, self.max_errors,
        ) = _columns.header(memoryview(data))  # fmt: skip


def encode(
    run: Run, store: bytes, schema: Schema, coding: Literal["fast", "dense"] = "fast"
) -> bytes:
    """The run (at most 65,536 rows and 16 MiB of canonical rows) as one block.

    Raises ``Invalid`` when it has more rows or its arrivals are of another number of rows,
    ``Corrupt`` when the payload is not `count` rows of the schema."""
    return _columns.encode(
        schema, store, run.partition, run.first, run.count, run.payload, run.arrivals, coding
    )


def decode(block: Buffer, schema: Schema) -> tuple[Batch, list[Arrival]]:
    """The rows as a batch, and how they arrived.

    Raises ``Corrupt`` when the block is damaged or its rows are not those that its digest names,
    ``Incompatible`` when it is of another version or of another schema than the one given."""
    return _columns.decode(memoryview(block), schema)


def decode_to_rows(block: Buffer, schema: Schema) -> tuple[bytes, list[Arrival]]:
    """As :func:`decode`, the rows in their canonical bytes (docs/formats/canonical-rows.md)."""
    return _columns.decode_to_rows(memoryview(block), schema)


def column(block: Buffer, schema: Schema, name: str) -> array[float] | array[int] | list[Any]:
    """One field, or ``time``, ``source``, ``source_seq``, without decoding the others: doubles for
    floats and decimals (null is NaN), 64-bit integers for integers without nulls, else a list.

    The block's checksum is verified, its run digest is not. Raises as :func:`decode`, and
    ``Invalid`` for an unknown name."""
    return _columns.column(memoryview(block), schema, name)


def arrays(
    block: Buffer, schema: Schema, names: Iterable[str]
) -> list[array[float] | array[int] | list[Any]]:
    """Several columns as :func:`column` gives each, the block's checksum verified once."""
    return _columns.arrays(memoryview(block), schema, list(names))


__all__ = ["Block", "arrays", "column", "decode", "decode_to_rows", "encode"]
