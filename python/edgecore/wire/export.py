"""One event as one JSON line: what `log export` and `hub export` print. docs/formats/export.md.

Both go from canonical rows through this one function, so that a device's line and the hub's line
of the same event are the same text.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from edgecore.schema import Field

    class Described(Protocol):
        @property
        def stream(self) -> str: ...
        @property
        def tier(self) -> str: ...
        @property
        def fields(self) -> Sequence[Field]: ...


def decimal_text(value: int, scale: int) -> str:
    """The grid integer `value` as its exact decimal, `scale` digits behind the point."""
    digits = f"{abs(value):0{scale + 1}}"
    point = len(digits) - scale
    text = digits[:point] + ("." + digits[point:] if scale else "")
    return "-" + text if value < 0 else text


def plain(field: Field, value: object) -> object:
    """A value in its JSON form: decimals exact, bytes hex, floats that JSON lacks as text."""
    if isinstance(value, bytes):
        return value.hex()
    if field.dtype == "decimal" and isinstance(value, int):
        return decimal_text(value, field.scale)
    if isinstance(value, float) and (value != value or value in (1e999, -1e999)):
        return repr(value)
    return value


def line(
    store: bytes,
    partition: int,
    sequence: int,
    position: int,
    schema: Described,
    row: dict[str, object],
) -> str:
    """`row` as :func:`edgecore.wire.rowbatch.read_rows` gives it."""
    return json.dumps(
        {
            "store": store.hex(),
            "partition": partition,
            "sequence": sequence,
            "position": position,
            "stream": schema.stream,
            "tier": schema.tier,
            "time": row["time"],
            "source": row["source"],
            "source_seq": row["source_seq"],
            "values": {field.name: plain(field, row[field.name]) for field in schema.fields},
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )


__all__ = ["decimal_text", "line", "plain"]
