"""`edgecore features`: a view's features over rows that are history, and whether every path to them
gives the same bits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgecore.cli import log_open
from edgecore.cli.log_export import output, time_text
from edgecore.device import schema_file
from edgecore.errors import Invalid, Unavailable
from edgecore.feature_backfill import KNOWN, STATES, Backfilled, arrow, backfill, read_parquet
from edgecore.feature_gaps import gaps_at, gaps_of_log
from edgecore.feature_parity import PATHS, POINTS, Report, parity, positions, read_log
from edgecore.feature_view import DEFINITION_BYTES_MAX, FeatureView

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from array import array
    from typing import Any, BinaryIO

    from edgecore._core.rows import Batch
    from edgecore.feature_backfill import GapBefore
    from edgecore.schema import Schema

FORMATS = ("csv", "jsonl", "parquet")
_PARTS_MAX = 1 << 30


def register(subparsers: Any) -> None:
    """Adds the command's parsers; each sets ``run``, a function of the arguments."""
    from edgecore.cli import features_show

    features = subparsers.add_parser("features", help="features of history; the same bits or not")
    commands = features.add_subparsers(dest="features_command", required=True)

    def add(name: str, run: Any, help: str, input: str, about: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=help)
        parser.add_argument("view", metavar="VIEW",
                            help="the definition: TOML or CBOR")  # fmt: skip
        parser.add_argument("input", metavar=input, help=about)
        parser.add_argument("--schema", metavar="FILE",
                            help="of the rows, as `edgecore schema infer` writes it; a log knows "
                                 "its own")  # fmt: skip
        log_open.add_key(parser)
        parser.add_argument("--json", action="store_true", help="one JSON object")
        parser.set_defaults(run=run)
        return parser

    about = "a log directory, or a CSV, Parquet or Arrow (IPC) file"
    one = add(
        "backfill", _backfill, "what a stream would have answered at each row", "INPUT", about
    )
    one.add_argument("--format", choices=FORMATS, default="csv",
                     help="of the table (default csv); parquet needs pyarrow")  # fmt: skip
    one.add_argument("--out", metavar="FILE", help="instead of standard output")
    one.add_argument("--known", choices=KNOWN, default="event",
                     help="event: all that had happened by a row's time (default); ingest: what "
                          "had arrived by then, late rows as the stream took them")  # fmt: skip
    one.add_argument("--joined", nargs=2, metavar=("SCHEMA", "FILE"), action="append", default=[],
                     help="rows of another stream that the view reads, which a log has itself; "
                          "may be repeated")  # fmt: skip
    one.add_argument("--since", metavar="TIME", help="answer rows from here on (ns or ISO 8601)")
    one.add_argument("--until", metavar="TIME", help="answer rows before this")
    two = add("parity", _parity, "replay on every path and count bits that differ; exit 1 if any",
              "LOG", about)  # fmt: skip
    features_show.add(commands)
    two.add_argument("--points", type=int, default=POINTS,
                     help=f"how many restores, and how many cuts (default {POINTS})")  # fmt: skip


# ---------------------------------------------------------------- what is read


def read_view(path: str) -> FeatureView:
    """A view from its file: TOML, or else CBOR. Raises what reading and decoding do."""
    from edgecore.fs import PosixFs

    data = PosixFs().read_file(path, DEFINITION_BYTES_MAX)
    if not path.endswith(".toml"):
        return FeatureView.from_bytes(data)
    try:
        return FeatureView.from_toml(data.decode(), path)
    except UnicodeDecodeError:
        raise Invalid(f"{path}: is not UTF-8 text") from None


def read_time(text: str | None) -> int | None:
    """As :func:`edgecore.device.times.instant`; None where none is given."""
    from edgecore.device.times import instant

    return None if text is None else instant(text)


def read_rows(options: Any, view: FeatureView, *, arrival: bool) -> tuple[Schema, Batch]:
    """The rows of the view's stream and their schema."""
    path = options.input
    if not Path(path).exists():
        raise Unavailable(f"{path}: no such file or directory")
    if Path(path).is_dir():
        with log_open.open_log(path, options.key) as log:
            schema = _schema(options, view) if options.schema else log.schema(view.source)
            return schema, read_log(log, schema, view.source)
    _schema(options, view)
    return _read_file(path, options.schema, arrival=arrival)


def _read_file(path: str, schema_path: str, *, arrival: bool) -> tuple[Schema, Batch]:
    how = schema_file.load(schema_path)
    suffix = Path(path).suffix.lower()
    if suffix in (".parquet", ".pq"):
        return how.schema, read_parquet(path, how.schema, arrival=arrival)
    if suffix in (".arrow", ".ipc", ".feather"):
        return how.schema, _read_ipc(path, how.schema)
    return how.schema, _read_csv(path, how)


def read_joined(
    options: Any, view: FeatureView
) -> tuple[list[tuple[Schema, Batch]], dict[str, array[int]] | None]:
    """Rows of the other streams that the view reads and, of a log, the positions of all rows."""
    if view.joins and Path(options.input).is_dir() and not options.joined:
        with log_open.open_log(options.input, options.key) as log:
            schemas = [log.schema(stream) for stream in sorted(view.joins)]
            rows = [(one, read_log(log, one, one.stream)) for one in schemas]
            return rows, {one: positions(log, one) for one in (view.source, *view.joins)}
    if view.joins and options.known == "ingest":
        raise Invalid(f"view {view.name!r} reads several streams, whose order of arrival a log has "
                      "and files have not: give its directory")  # fmt: skip
    found = [_read_file(file, schema, arrival=False) for schema, file in options.joined]
    for schema, _ in found:
        if schema.stream not in view.joins:
            raise Invalid(f"view {view.name!r} reads no stream {schema.stream!r} besides its own")
    return found, None


def read_gaps(options: Any, view: FeatureView) -> list[GapBefore] | dict[str, list[GapBefore]]:
    """What a log tells of as missing, as backfill takes it; of a file nothing."""
    if not Path(options.input).is_dir():
        return []
    with log_open.open_log(options.input, options.key) as log:
        if view.joins:
            return {stream: gaps_at(log, stream) for stream in (view.source, *view.joins)}
        return gaps_of_log(log, view.source)


def _schema(options: Any, view: FeatureView) -> Schema:
    if options.schema is None:
        raise Invalid(f"{options.input}: say what its columns are with --schema FILE; "
                      f"`edgecore schema infer` proposes one")  # fmt: skip
    schema = schema_file.load(options.schema).schema
    if schema.stream != view.source:
        raise Invalid(f"view {view.name!r} reads stream {view.source!r}, {options.schema} is of "
                      f"{schema.stream!r}")  # fmt: skip
    return schema


def _read_ipc(path: str, schema: Schema) -> Batch:
    from edgecore._core.rows import Batch

    pyarrow, ipc = arrow(), arrow("pyarrow.ipc")
    try:
        try:
            table = ipc.open_file(path).read_all()
        except pyarrow.ArrowInvalid:
            table = ipc.open_stream(path).read_all()
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}") from None
    except pyarrow.ArrowInvalid as error:
        raise Invalid(f"{path}: {error}") from None
    known = ("time", "source", "source_seq", *(field.name for field in schema.fields))
    batch = Batch(schema)
    batch.extend(table.select([name for name in known if name in table.column_names]))
    return batch


def _read_csv(path: str, how: schema_file.SchemaFile) -> Batch:
    from edgecore._core.rows import Batch
    from edgecore.device.csv_source import CsvSource

    if not how.time:
        raise Invalid(f"{path}: the schema file does not say which column is the time ([csv])")
    batch = Batch(how.schema)
    source = CsvSource(path, how)
    reasons: list[str] = []
    while not source.finished:
        source.take(0, batch)
        reasons += source.counts.reasons
    if source.counts.rejected:
        print(f"{path}: {source.counts.rejected} lines refused; the first: {reasons[0]}",
              file=sys.stderr)  # fmt: skip
    return batch


# ---------------------------------------------------------------- what is written


def _lines(found: Backfilled, form: str, out: BinaryIO) -> None:
    names, width = found.names, found.width
    if form == "csv":
        heads = [name for one in names for name in (one, f"{one}.state")]
        out.write((",".join(["entity", "time", *map(_cell, heads)]) + "\n").encode())
    for row, entity in enumerate(found.entities):
        time = time_text(found.times[row])
        values = found.values[row * width : (row + 1) * width]
        states = found.states[row * width : (row + 1) * width]
        told = [value if value == value else None for value in values]
        if form == "csv":
            cells = [_cell(entity), time]
            for value, state in zip(told, states, strict=True):
                cells += ["" if value is None else repr(value), STATES[state]]
            out.write((",".join(cells) + "\n").encode("utf-8", "surrogateescape"))
            continue
        line = {
            "entity": entity, "time": time, "values": dict(zip(names, told, strict=True)),
            "states": {name: STATES[state] for name, state in zip(names, states, strict=True)},
        }  # fmt: skip
        out.write(json.dumps(line).encode() + b"\n")


def _cell(text: str) -> str:
    quoted = any(mark in text for mark in ',"\r\n') or text != text.strip()
    return '"' + text.replace('"', '""') + '"' if quoted else text


def _backfill(options: argparse.Namespace) -> int:
    form = "jsonl" if options.json else options.format
    if form == "parquet":
        if options.out is None:
            raise Invalid("--format parquet: a Parquet table is a file; add --out FILE")
        arrow("pyarrow.parquet")
    view = read_view(options.view)
    since, until = read_time(options.since), read_time(options.until)
    schema, rows = read_rows(options, view, arrival=options.known == "ingest")
    joined, places = read_joined(options, view)
    found = backfill(view, rows, schema=schema, known=options.known, since=since, until=until,
                     joined=joined, positions=places, gaps=read_gaps(options, view))  # fmt: skip
    with output(options.out) as out:
        if form == "parquet":
            arrow("pyarrow.parquet").write_table(found.to_arrow(), out, compression="zstd")
        else:
            _lines(found, form, out)
    if found.late:
        print(f"{found.late} rows came too late to count; they are answered missing",
              file=sys.stderr)  # fmt: skip
    return 0


def _report(options: argparse.Namespace, view: FeatureView) -> Report:
    if not view.joins:
        schema, rows = read_rows(options, view, arrival=True)
        gaps = read_gaps(options, view)
        assert isinstance(gaps, list)
        return parity(view, rows, schema, points=options.points, gaps=gaps)
    from edgecore import feature_join_parity

    if not Path(options.input).is_dir():
        raise Invalid(f"view {view.name!r} reads several streams: give a log, {options.input} is "
                      "no directory of one")  # fmt: skip
    with log_open.open_log(options.input, options.key) as log:
        return feature_join_parity.parity(view, log, points=options.points)


def _parity(options: argparse.Namespace) -> int:
    if not 1 <= options.points <= _PARTS_MAX:
        raise Invalid(f"--points {options.points}: at least 1")
    view = read_view(options.view)
    report = _report(options, view)
    if options.json:
        print(json.dumps({"view": view.name, "stream": view.source, **report.facts()}))
        return 1 if report.bits else 0
    print(f"view {view.name} over {view.source}: {report.rows} rows, {report.entities} entities, "
          f"{report.late} rows too late to count")  # fmt: skip
    width = max(map(len, (*view.names, "differing bits")))
    print(f"  {'differing bits':<{width}}" + "".join(f"{path:>10}" for path in PATHS))
    for at, name in enumerate(view.names):
        counts = "".join(f"{report.differing[path][at]:>10}" for path in PATHS)
        print(f"  {name:<{width}}{counts}")
    answers = ", ".join(f"{report.compared[path]} {path}" for path in PATHS)
    print(f"{report.bits} differing bits; answers compared with the stream: {answers}")
    if not report.compared["cut"]:
        print("no row lies one horizon behind a cut: cuts are NOT RUN")
    return 1 if report.bits else 0


__all__ = ["read_rows", "read_time", "read_view", "register"]
