"""`edgecore log export`: a log's events as JSON lines, or one stream of them as a CSV or Parquet
table. docs/formats/export.md."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from itertools import islice

from edgecore.cli.log_corrected import COLUMNS, MOMENTS, NOTHING, Corrector
from edgecore.cli.log_open import open_log
from edgecore.errors import Corrupt, Incompatible, Invalid, Unavailable, from_os
from edgecore.log_keeping import POSITION_MAX
from edgecore.log_values import IDENTITY

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Any, BinaryIO

    from edgecore.cli.log_corrected import Added
    from edgecore.log import Log
    from edgecore.schema import Field, Schema

    Write = Callable[[Log, str | None, int, BinaryIO, Corrector | None], None]
    Event = tuple[int, int, int, Schema, dict[str, Any], Added]

FORMATS = ("jsonl", "csv", "parquet")
KEYS = ("time", "source", "source_seq")
GROUP_ROWS = 1 << 16  # of a Parquet row group: what is in memory at a time
SECOND = 1_000_000_000


def events(
    log: Log, stream: str | None, after: int, corrector: Corrector | None
) -> Iterator[Event]:
    """(partition, sequence, position, schema, row, what a corrector adds), in order of position."""
    from edgecore.wire import rowbatch

    for scanned in log.scan(stream, after=after):
        if scanned.schema is None:
            raise Corrupt(f"partition {scanned.partition}: a schema that can't be read")
        rows = rowbatch.read_rows(scanned.schema, scanned.payload)
        for index, (_, row) in enumerate(rows):
            time: Any = row["time"]
            added = NOTHING if corrector is None else corrector.of(scanned, index, time)
            yield (
                scanned.partition, scanned.first + index, scanned.position + index,
                scanned.schema, row, added,
            )  # fmt: skip


def write_jsonl(
    log: Log, stream: str | None, after: int, out: BinaryIO, corrector: Corrector | None = None
) -> None:
    import json

    from edgecore.wire import export

    for partition, sequence, position, schema, row, added in events(log, stream, after, corrector):
        line = export.line(log.store_id, partition, sequence, position, schema, row)
        if corrector is not None:
            more = json.dumps(dict(zip(COLUMNS, added, strict=True)), separators=(",", ":"))
            line = f"{line[:-1]},{more[1:]}"
        out.write(line.encode() + b"\n")


# ---------------------------------------------------------------- tables


class Table:
    """One stream's columns: the fields of its newest schema, then those that only older versions
    have. A field whose name the table itself uses is ``values.NAME``."""

    def __init__(self, log: Log, stream: str, corrected: bool) -> None:
        self.added = COLUMNS if corrected else ()
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
        taken = {*IDENTITY, *self.added}
        named = [f"values.{name}" if name in taken else name for name in self.fields]
        return [*IDENTITY, *KEYS, *named, *self.added]


def table_of(log: Log, stream: str | None, form: str, corrected: bool = False) -> Table:
    if stream is None:
        names = {name for _, name, _ in log.partitions() if not name.startswith("edgecore.")}
        raise Invalid(
            f"--format {form}: a table is of one stream; add --stream with one of "
            f"{', '.join(sorted(names)) or 'edgecore.schemas, edgecore.losses'}"
        )
    return Table(log, stream, corrected)


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


def write_csv(
    log: Log, stream: str | None, after: int, out: BinaryIO, corrector: Corrector | None = None
) -> None:
    from edgecore.wire import export

    table = table_of(log, stream, "csv", corrector is not None)
    out.write((",".join(map(cell, table.names())) + "\n").encode())
    by_schema: dict[int, list[Field | None]] = {}
    for partition, sequence, position, schema, row, added in events(log, stream, after, corrector):
        if id(schema) not in by_schema:
            own = {field.name: field for field in schema.fields}
            by_schema[id(schema)] = [own.get(name) for name in table.fields]
        head = (partition, sequence, position, time_text(row["time"]))
        values = [
            None if field is None else export.plain(field, row[field.name])
            for field in by_schema[id(schema)]
        ]
        source = row["source"] or None  # an event without one
        more = [
            time_text(value) if name in MOMENTS and value is not None else value
            for name, value in zip(COLUMNS, added, strict=True)
        ]
        behind = more if corrector is not None else []
        cells = map(cell, [*head, source, row["source_seq"], *values, *behind])
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


def add_columns(group: Any, found: Iterator[Event]) -> Any:
    """A table with what a corrector says of its rows, which are next in `found`, behind its
    columns. Raises ``Unavailable`` when a writer has let go of some of them meanwhile."""
    pyarrow = arrow()
    rows = list(islice(found, group.num_rows))
    if group.column("position").to_pylist() != [event[2] for event in rows]:
        raise Unavailable("rows were released during the export: try again")
    fields = [
        field.with_name(f"values.{field.name}") if field.name in COLUMNS else field
        for field in group.schema
    ]
    columns = list(group.columns)
    for at, name in enumerate(COLUMNS):
        moment = name in MOMENTS
        kind = pyarrow.timestamp("ns", tz="UTC") if moment else pyarrow.int64()
        fields.append(pyarrow.field(name, kind, metadata=None if moment else {"unit": "ns"}))
        columns.append(pyarrow.array([row[-1][at] for row in rows], kind))
    schema = pyarrow.schema(fields, metadata=group.schema.metadata)
    return pyarrow.table(columns, schema=schema)


def write_parquet(
    log: Log, stream: str | None, after: int, out: BinaryIO, corrector: Corrector | None = None
) -> None:
    pyarrow, parquet = arrow(), arrow("pyarrow.parquet")
    table_of(log, stream, "parquet")
    try:
        table = log.arrow(stream or "", after=after)
    except Incompatible as error:
        raise Invalid(f"{error}; export as csv or jsonl") from None
    groups = row_groups(table)
    schema = pyarrow.schema(table)
    if corrector is not None:
        found = events(log, stream, after, corrector)
        schema = add_columns(schema.empty_table(), iter([])).schema
        groups = (add_columns(group, found) for group in groups)
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for group in groups:
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
        corrector = None
        if arguments.corrected:
            corrector = Corrector(log, arguments.device_time)
        elif arguments.device_time:
            raise Invalid("--device-time says which times --corrected corrects: add that too")
        if form != "jsonl":
            table_of(log, arguments.stream, form)
        with output(arguments.out) as out:
            WRITERS[form](log, arguments.stream, arguments.after, out, corrector)
    return 0
