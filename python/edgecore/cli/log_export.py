"""`edgecore log export`: a log's events as JSON lines, or one stream of them as a CSV or Parquet
table. docs/formats/export.md."""

from __future__ import annotations

import sys
from contextlib import contextmanager

from edgecore.cli.log_open import open_log
from edgecore.errors import Corrupt, Incompatible, Invalid, from_os
from edgecore.log_keeping import POSITION_MAX
from edgecore.log_values import IDENTITY

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Any, BinaryIO

    from edgecore.log import Log
    from edgecore.schema import Field, Schema

    Write = Callable[[Log, str | None, int, BinaryIO], None]
    Event = tuple[int, int, int, Schema, dict[str, Any]]

FORMATS = ("jsonl", "csv", "parquet")
KEYS = ("time", "source", "source_seq")
GROUP_ROWS = 1 << 16  # of a Parquet row group: what is in memory at a time
SECOND = 1_000_000_000


def events(log: Log, stream: str | None, after: int) -> Iterator[Event]:
    """(partition, sequence, position, schema, row), in order of position."""
    from edgecore.wire import rowbatch

    for scanned in log.scan(stream, after=after):
        if scanned.schema is None:
            raise Corrupt(f"partition {scanned.partition}: a schema that can't be read")
        rows = rowbatch.read_rows(scanned.schema, scanned.payload)
        for index, (_, row) in enumerate(rows):
            yield (
                scanned.partition, scanned.first + index, scanned.position + index,
                scanned.schema, row,
            )  # fmt: skip


def write_jsonl(log: Log, stream: str | None, after: int, out: BinaryIO) -> None:
    from edgecore.wire import export

    for partition, sequence, position, schema, row in events(log, stream, after):
        line = export.line(log.store_id, partition, sequence, position, schema, row)
        out.write(line.encode() + b"\n")


# ---------------------------------------------------------------- tables


class Table:
    """One stream's columns: the fields of its newest schema, then those that only older versions
    have. A field whose name the table itself uses is ``values.NAME``."""

    def __init__(self, log: Log, stream: str) -> None:
        schemas = [schema for schema in log.schemas() if schema.stream == stream]
        if not schemas:
            raise Invalid(f"the log has no stream {stream!r}")
        schemas.sort(key=lambda schema: -schema.version)
        self.newest = schemas[0]
        self.fields: dict[str, list[Field]] = {}  # by name, of every version that has it
        for schema in schemas:
            for field in schema.fields:
                self.fields.setdefault(field.name, []).append(field)

    def names(self) -> list[str]:
        named = [f"values.{name}" if name in IDENTITY else name for name in self.fields]
        return [*IDENTITY, *KEYS, *named]


def table_of(log: Log, stream: str | None, form: str) -> Table:
    if stream is None:
        names = {name for _, name, _ in log.partitions() if not name.startswith("edgecore.")}
        raise Invalid(
            f"--format {form}: a table is of one stream; add --stream with one of "
            f"{', '.join(sorted(names)) or 'edgecore.schemas, edgecore.losses'}"
        )
    return Table(log, stream)


def time_text(at: int) -> str:
    """ns since 1970 UTC as 2026-01-31T09:30:00.000000000Z."""
    from datetime import UTC, datetime, timedelta

    seconds, ns = divmod(at, SECOND)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns:09}Z"


def cell(value: object) -> str:
    """Null is nothing, an empty text two quotes, so that they differ."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if not text or any(mark in text for mark in ',"\r\n') or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text


def write_csv(log: Log, stream: str | None, after: int, out: BinaryIO) -> None:
    from edgecore.wire import export

    table = table_of(log, stream, "csv")
    out.write((",".join(map(cell, table.names())) + "\n").encode())
    by_schema: dict[int, list[Field | None]] = {}
    for partition, sequence, position, schema, row in events(log, stream, after):
        if id(schema) not in by_schema:
            own = {field.name: field for field in schema.fields}
            by_schema[id(schema)] = [own.get(name) for name in table.fields]
        head = (partition, sequence, position, time_text(row["time"]))
        values = [
            None if field is None else export.plain(field, row[field.name])
            for field in by_schema[id(schema)]
        ]
        source = row["source"] or None  # an event without one
        cells = map(cell, [*head, source, row["source_seq"], *values])
        out.write((",".join(cells) + "\n").encode())


# ---------------------------------------------------------------- Parquet


def arrow(module: str = "pyarrow") -> Any:
    from importlib import import_module

    return import_module(module)


def row_groups(batches: Iterable[Any]) -> Iterator[Any]:
    """The same rows as tables of GROUP_ROWS rows; the last one has what is left."""
    pyarrow = arrow()
    held: list[Any] = []
    for batch in batches:
        held.append(pyarrow.record_batch(batch))
        while sum(map(len, held)) >= GROUP_ROWS:
            table = pyarrow.Table.from_batches(held)
            yield table[:GROUP_ROWS]
            held = table[GROUP_ROWS:].to_batches()
    if held:
        yield pyarrow.Table.from_batches(held)


def write_parquet(log: Log, stream: str | None, after: int, out: BinaryIO) -> None:
    pyarrow, parquet = arrow(), arrow("pyarrow.parquet")
    table_of(log, stream, "parquet")
    try:
        table = log.arrow(stream or "", after=after)
    except Incompatible as error:
        raise Invalid(f"{error}; export as csv or jsonl") from None
    with parquet.ParquetWriter(out, pyarrow.schema(table), compression="zstd") as writer:
        for group in row_groups(table):
            writer.write_table(group, row_group_size=GROUP_ROWS)


WRITERS: dict[str, Write] = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}


# ---------------------------------------------------------------- the command


@contextmanager
def output(name: str | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that has its name only when it is whole."""
    from pathlib import Path

    if name is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    part: Path = (
        path.with_name(path.name + ".part") if path.is_file() or not path.exists() else path
    )
    try:
        with part.open("wb") as out:
            yield out
        if part != path:
            part.replace(path)
    except OSError as error:
        raise from_os(error, name) from None
    finally:
        if part != path:
            part.unlink(missing_ok=True)


def run(arguments: argparse.Namespace) -> int:
    form = arguments.format
    if not 0 <= arguments.after <= POSITION_MAX:
        raise Invalid(f"--after {arguments.after}: a position is 0 to {POSITION_MAX}")
    if form == "parquet":
        if arguments.out is None:
            raise Invalid("--format parquet: a Parquet table is a file; add --out FILE")
        arrow("pyarrow.parquet")  # missing: one line, before a file is begun
    with open_log(arguments.directory, arguments.key) as log:
        if form != "jsonl":
            table_of(log, arguments.stream, form)
        with output(arguments.out) as out:
            WRITERS[form](log, arguments.stream, arguments.after, out)
    return 0
