"""`edgecore log`: inspect, verify, export. All of them read; a writer may have the log open."""

from __future__ import annotations

import json
import sys

from edgecore.errors import Corrupt, Invalid, from_os
from edgecore.log import POSITION_MAX, Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any


def register(subparsers: Any) -> None:
    """Adds the command's parsers; each sets ``run``, a function of the arguments."""
    log = subparsers.add_parser("log", help="the event log: inspect, verify, export")
    commands = log.add_subparsers(dest="log_command", required=True)
    for name, run, what in (
        ("inspect", _inspect, "what a log holds, and what its last recovery found"),
        ("verify", _verify, "read and check everything; exit 12 when rows are lost"),
        ("export", _export, "print all events as JSON lines, in order of arrival"),
    ):
        parser = commands.add_parser(name, help=what)
        parser.add_argument("directory", metavar="DIR")
        parser.set_defaults(run=run)
        if name == "export":
            parser.add_argument("--json", action="store_true", help="the lines are, in any case")
            parser.add_argument("--stream", help="of this stream only")
            parser.add_argument("--after", type=int, default=0, help="positions above this")
            parser.add_argument("--out", metavar="FILE", help="instead of standard output")
        else:
            parser.add_argument("--json", action="store_true", help="one JSON object")


def _ranges(found: list[tuple[int, int, int, str]]) -> list[dict[str, object]]:
    names = ("partition", "first", "last", "reason")
    return [dict(zip(names, item, strict=True)) for item in found]


def _facts(log: Log) -> dict[str, Any]:
    return {
        "store": log.store_id.hex(),
        "first_position": log.first_position,
        "position": log.position,
        "data_bytes": log.data_bytes,
        "clean": log.recovery.clean,
        "tail_uncertain": log.recovery.tail_uncertain,
        "ranges": _ranges(log.recovery.ranges),
        "partitions": [
            {
                "partition": partition,
                "stream": stream,
                "tier": tier,
                "released": log.released.get(partition, 0),
                "next_sequence": log.next_sequence(partition),
                "acked": log.cursor("sync").acked(partition),
            }
            for partition, stream, tier in log.partitions()
        ],
    }


def _inspect(arguments: argparse.Namespace) -> int:
    with Log.open(arguments.directory, read_only=True) as log:
        facts = _facts(log)
    if arguments.json:
        print(json.dumps(facts))
        return 0
    state = "closed in order" if facts["clean"] else "open, or ended by a crash"
    size = f"{facts['position']} positions, {facts['data_bytes']} bytes"
    print(f"store {facts['store']}: {size}, {state}")
    for item in facts["partitions"]:
        print(
            f"  {item['partition']:>4}  {item['stream']:<32} {item['tier']:<10} "
            f"next {item['next_sequence']}, acked {item['acked']}"
        )
    for item in facts["ranges"]:
        print(f"  {item['reason']}: partition {item['partition']}, {item['first']}-{item['last']}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    with Log.open(arguments.directory, read_only=True) as log:
        rows, records, size, lost = log.verify()
        uncertain, missing = log.recovery.tail_uncertain, log.recovery.missing
    if arguments.json:
        names = {"rows": rows, "records": records, "bytes": size}
        found = {"lost": _ranges(lost), "missing": missing, "tail_uncertain": uncertain}
        print(json.dumps({**names, **found}))
    else:
        state = "the rest is intact" if lost or missing else "all intact"
        print(f"{rows} rows in {records} records, {size} bytes of rows: {state}")
        if uncertain and not missing:
            print("behind them stands what a crash left of rows that were not durable yet")
    if lost:
        count = sum(last - first + 1 for _, first, last, _ in lost)
        partition, first, last, _ = lost[0]
        raise Corrupt(
            f"{arguments.directory}: {count} rows lost to damage in {len(lost)} ranges, the first "
            f"in partition {partition}: {first}-{last}; the other rows are readable"
        )
    if missing:
        raise Corrupt(
            f"{arguments.directory}: {missing} rows lost at its end, which were durable; "
            "the rows before them are readable"
        )
    return 0


def export_lines(log: Log, stream: str | None = None, after: int = 0) -> Iterator[str]:
    """The log's events in the form of docs/formats/export.md."""
    from edgecore.wire import export, rowbatch

    for scanned in log.scan(stream, after=after):
        if scanned.schema is None:
            raise Corrupt(f"partition {scanned.partition}: a schema that can't be read")
        rows = rowbatch.read_rows(scanned.schema, scanned.payload)
        for index, (_, row) in enumerate(rows):
            yield export.line(
                log.store_id, scanned.partition, scanned.first + index,
                scanned.position + index, scanned.schema, row,
            )  # fmt: skip


def _export(arguments: argparse.Namespace) -> int:
    from contextlib import nullcontext
    from pathlib import Path

    path = arguments.out
    if not 0 <= arguments.after <= POSITION_MAX:
        raise Invalid(f"--after {arguments.after}: a position is 0 to {POSITION_MAX}")
    try:
        with (
            Log.open(arguments.directory, read_only=True) as log,
            Path(path).open("w") if path else nullcontext(sys.stdout) as out,
        ):
            for line in export_lines(log, arguments.stream, arguments.after):
                out.write(line + "\n")
    except OSError as error:
        if path is None:
            raise
        raise from_os(error, path) from None
    return 0
