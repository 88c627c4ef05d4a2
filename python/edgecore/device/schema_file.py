"""Schema files: what `edgecore schema infer` proposes, a person completes, and a source obeys.

A ``.toml`` file holds the schema and, under ``[csv]``, how its file is read; a ``.cbor`` file holds
the canonical schema alone. Ingest never infers: what such a file does not say is refused.
"""

from __future__ import annotations

from edgecore.errors import Invalid
from edgecore.schema import Field, Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

BYTES_MAX = 256 * 1024
DELIMITERS = (",", ";", "\t", "|")
_TOP = {"stream": str, "tier": str, "version": int, "csv": dict, "field": list}
_CSV = {"time": str, "time_format": str, "delimiter": str}
_FIELD = {
    "name": str, "column": str, "dtype": str, "unit": str, "range": list, "required": bool,
    "resolution": float, "max_error": float, "ratio": bool,
}  # fmt: skip


class SchemaFile:
    """A schema, and for a CSV file: its time column and format, its delimiter, and the column
    that each field is read from. Raises ``Invalid`` for a stream named as the system's are."""

    __slots__ = ("columns", "delimiter", "schema", "time", "time_format")

    def __init__(
        self,
        schema: Schema,
        *,
        time: str = "",
        time_format: str = "iso",
        delimiter: str = ",",
        columns: dict[str, str] | None = None,
    ) -> None:
        if schema.stream.startswith("edgecore."):
            raise Invalid(f"stream {schema.stream!r}: names in edgecore. are the system's")
        self.schema = schema
        self.time = time
        self.time_format = time_format
        self.delimiter = delimiter
        self.columns = {field.name: field.name for field in schema.fields} | (columns or {})


def check(where: str, table: Mapping[str, Any], known: Mapping[str, type]) -> None:
    """Raises ``Invalid`` naming the first key that is unknown or has a value of another type."""
    for key, value in table.items():
        kind = known.get(key)
        if kind is None:
            raise Invalid(f"{where}: unknown key {key!r}; known: {', '.join(sorted(known))}")
        fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        if not fits and not (kind is float and type(value) is int):
            raise Invalid(f"{where}: {key} is a {type(value).__name__}, not a {kind.__name__}")


def _field(where: str, item: Any) -> tuple[Field, str]:
    if not isinstance(item, dict):
        raise Invalid(f"{where}: field is a list of tables, [[field]]")
    check(f"{where}: [[field]]", item, _FIELD)
    if "name" not in item or "dtype" not in item:
        raise Invalid(f"{where}: a [[field]] needs name and dtype")
    bounds = item.get("range")
    if bounds is not None and (
        len(bounds) != 2 or not all(type(bound) in (int, float) for bound in bounds)
    ):
        raise Invalid(f"{where}: range of {item['name']!r} is two numbers")
    field = Field(
        item["name"],
        item["dtype"],
        unit=item.get("unit", ""),
        range=(float(bounds[0]), float(bounds[1])) if bounds else None,
        required=item.get("required", False),
        resolution=float(item.get("resolution", 0.0)),
        max_error=float(item.get("max_error", 0.0)),
        ratio=item.get("ratio", False),
    )
    return field, item.get("column", field.name)


def parse(where: str, text: str) -> SchemaFile:
    """The schema file of its TOML text. `where` names it in messages. Raises ``Invalid``."""
    from tomllib import TOMLDecodeError, loads

    try:
        body = loads(text)
    except TOMLDecodeError as error:
        raise Invalid(f"{where}: {error}") from None
    check(where, body, _TOP)
    missing = [key for key in ("stream", "field") if key not in body]
    if missing:
        raise Invalid(f"{where}: {missing[0]} is missing")
    fields = [_field(where, item) for item in body["field"]]
    how = body.get("csv", {})
    check(f"{where}: [csv]", how, _CSV)
    if how.get("delimiter", ",") not in DELIMITERS:
        raise Invalid(f"{where}: delimiter {how['delimiter']!r}: one of {' '.join(DELIMITERS)}")
    return SchemaFile(
        Schema(
            body["stream"],
            tier=body.get("tier", "bulk"),
            version=body.get("version", 1),
            fields=[field for field, _ in fields],
        ),
        columns={field.name: column for field, column in fields},
        **how,
    )


def load(path: str) -> SchemaFile:
    """Reads a schema file, ``.cbor`` or ``.toml``.

    Raises ``Unavailable`` where it cannot be read, ``Corrupt`` or ``Invalid`` for its content."""
    from edgecore.fs import PosixFs

    data = PosixFs().read_file(path, BYTES_MAX)
    if path.endswith(".cbor"):
        return SchemaFile(Schema.from_bytes(data))
    try:
        return parse(path, data.decode())
    except UnicodeDecodeError:
        raise Invalid(f"{path}: is not UTF-8 text") from None


def quoted(text: str) -> str:
    """A TOML basic string. JSON's escapes are TOML's."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


__all__ = ["BYTES_MAX", "DELIMITERS", "SchemaFile", "check", "load", "parse", "quoted"]
