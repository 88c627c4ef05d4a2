"""`edgecore log`: inspect, verify, export, summaries, repair --report. All of them read; a writer
may have the log open."""

from __future__ import annotations

import json

from edgecore.cli import log_corrected, log_export, log_open, log_report, log_summaries
from edgecore.errors import Corrupt
from edgecore.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


def register(subparsers: Any) -> None:
    """Adds the command's parsers; each sets ``run``, a function of the arguments."""
    log = subparsers.add_parser("log", help="the event log: inspect, verify, export, repair")
    commands = log.add_subparsers(dest="log_command", required=True)

    def add(name: str, run: Any, help: str, **more: Any) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=help, **more)
        parser.add_argument("directory", metavar="DIR")
        log_open.add_key(parser)
        parser.set_defaults(run=run)
        return parser

    inspect = add("inspect", _inspect, "what a log holds, and what its last recovery found")
    inspect.add_argument("--json", action="store_true", help="one JSON object")
    verify = add("verify", _verify, "read and check everything; exit 12 when rows are lost")
    verify.add_argument("--json", action="store_true", help="one JSON object")
    export = add("export", log_export.run, "all events, or a stream as a table")
    export.add_argument("--format", choices=log_export.FORMATS, default="jsonl",
                        help="jsonl: a line per event, in order of arrival (default); csv, "
                             "parquet: a table of one stream; parquet needs pyarrow")  # fmt: skip
    export.add_argument("--json", action="store_const", const="jsonl", dest="format",
                        help="as --format jsonl")  # fmt: skip
    export.add_argument("--stream", help="of this stream only")
    export.add_argument("--after", type=int, default=0, help="positions above this")
    export.add_argument("--corrected", action="store_true",
                        help="add true times, as far as the hub's signed ones tell them: of the "
                             "row's coming, and of a time that its clock gave")  # fmt: skip
    export.add_argument("--device-time", metavar="STREAM", action="append", default=[],
                        help="with --corrected: the device's own clock gave this stream its "
                             "times (known of the host source and of edgecore.clock, ingest, "
                             "losses and schemas); may be repeated")  # fmt: skip
    export.add_argument("--out", metavar="FILE", help="instead of standard output")
    summaries = add("summaries", log_summaries.run,
                    "recompute the summaries from the rows kept; exit 1 when one differs",
                    description=log_summaries.__doc__)  # fmt: skip
    summaries.add_argument("--json", action="store_true", help="one JSON object")
    repair = add("repair", log_report.run, "say what is damaged; no repair by hand is ever needed",
                 description=log_report.__doc__)  # fmt: skip
    repair.add_argument("--report", action="store_true", required=True,
                        help="read everything and say what is lost; changes nothing")  # fmt: skip
    repair.add_argument("--json", action="store_true", help="one JSON object")


def _ranges(found: list[tuple[int, int, int, str]]) -> list[dict[str, object]]:
    names = ("partition", "first", "last", "reason")
    return [dict(zip(names, item, strict=True)) for item in found]


def _max_errors(log: Log, stream: str, tier: str) -> dict[str, float]:
    """By field: how far its values may be from those that came in, in any version."""
    found: dict[str, float] = {}
    for schema in log.schemas():
        for field in schema.fields if (schema.stream, schema.tier) == (stream, tier) else ():
            if field.max_error:
                found[field.name] = max(field.max_error, found.get(field.name, 0.0))
    return found


def _facts(log: Log) -> dict[str, Any]:
    return {
        "store": log.store_id.hex(),
        "first_position": log.first_position,
        "position": log.position,
        "data_bytes": log.data_bytes,
        "clean": log.recovery.clean,
        "tail_uncertain": log.recovery.tail_uncertain,
        "ranges": _ranges(log.recovery.ranges),
        "encryption": log.encryption().facts(),
        "clock": log_corrected.anchored(log),
        "partitions": [
            {
                "partition": partition,
                "stream": stream,
                "tier": tier,
                "released": log.released.get(partition, 0),
                "next_sequence": log.next_sequence(partition),
                "acked": log.cursor("sync").acked(partition),
                "max_errors": _max_errors(log, stream, tier),
            }
            for partition, stream, tier in log.partitions()
        ],
    }


def _inspect(arguments: argparse.Namespace) -> int:
    from edgecore.device.status import at_rest

    with log_open.open_log(arguments.directory, arguments.key) as log:
        facts = _facts(log)
    if arguments.json:
        print(json.dumps(facts))
        return 0
    state = "closed in order" if facts["clean"] else "open, or ended by a crash"
    size = f"{facts['position']} positions, {facts['data_bytes']} bytes"
    print(f"store {facts['store']}: {size}, {state}")
    print(f"  at rest: {at_rest(facts['encryption'])}")
    if facts["clock"] is None:
        print("  clock: its rows are encrypted; say --key")
    elif facts["clock"]["epochs"]:
        print(
            f"  clock: {facts['clock']['anchored']} of {facts['clock']['epochs']} epochs have a "
            "time that the hub signed"
        )
    for item in facts["partitions"]:
        print(
            f"  {item['partition']:>4}  {item['stream']:<32} {item['tier']:<10} "
            f"next {item['next_sequence']}, acked {item['acked']}"
        )
        bounds = [f"{name} by at most {bound:g}" for name, bound in item["max_errors"].items()]
        if bounds:
            print(f"        rounded when appended: {', '.join(bounds)}")
    for item in facts["ranges"]:
        print(f"  {item['reason']}: partition {item['partition']}, {item['first']}-{item['last']}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    with log_open.open_log(arguments.directory, arguments.key) as log:
        rows, records, size, found, (unopened, hidden) = log.verify()
        uncertain, missing = log.recovery.tail_uncertain, log.recovery.missing
    purged = [item for item in found if item[3] == "purged"]
    lost = [item for item in found if item[3] != "purged"]
    if arguments.json:
        names = {"rows": rows, "records": records, "bytes": size, "unopened": unopened}
        ranges = {"lost": _ranges(lost), "purged": _ranges(purged), "hidden": hidden}
        print(json.dumps({**names, **ranges, "missing": missing, "tail_uncertain": uncertain}))
    else:
        state = "the rest is intact" if lost or missing or hidden else "all intact"
        print(f"{rows} rows in {records} records, {size} bytes of rows: {state}")
        if unopened:
            print(f"{unopened} of them are encrypted: their checksums hold, more tells only --key")
        if purged:
            count = sum(last - first + 1 for _, first, last, _ in purged)
            print(f"{count} rows are purged: their keys were destroyed")
        if uncertain and not missing:
            print("behind them stands what a crash left of rows that were not durable yet")
    if lost:
        count = sum(last - first + 1 for _, first, last, _ in lost)
        partition, first, last, _ = lost[0]
        raise Corrupt(
            f"{arguments.directory}: {count} rows lost to damage in {len(lost)} ranges, the first "
            f"in partition {partition}: {first}-{last}; the other rows are readable"
        )
    if hidden:
        raise Corrupt(
            f"{arguments.directory}: {hidden} rows lost to damage; which ones tells only --key"
        )
    if missing:
        raise Corrupt(
            f"{arguments.directory}: {missing} rows lost at its end, which were durable; "
            "the rows before them are readable"
        )
    return 0
