"""Says what is damaged in a log, what is lost by it, and what the next opening does about it. It
reads only, and changes nothing: a log recovers by itself when it is opened for writing, and no
command is ever needed for that."""

from __future__ import annotations

import json

from edgecore.cli.log_open import open_log
from edgecore.errors import Corrupt, EdgecoreError, Incompatible, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from edgecore.log import Log

    Range = tuple[int, int, int, str]  # partition, first, last, reason

KEEP = (
    "Keep the directory as it is and make a copy of it; what the hub has acknowledged is safe "
    "there. A new, empty directory makes a new log."
)


def _named(log: Log, found: list[Range]) -> list[dict[str, Any]]:
    """Ranges with the stream they are of, and how much of each the hub has acknowledged."""
    names = {partition: (stream, tier) for partition, stream, tier in log.partitions()}
    acked = log.cursor("sync").acked
    keys = ("partition", "first", "last", "reason")
    out: list[dict[str, Any]] = []
    for item in found:
        partition, first, last, _ = item
        facts = dict(zip(keys, item, strict=True))
        stream, tier = names.get(partition, ("", ""))
        held = max(0, min(last, acked(partition)) - first + 1)
        facts |= {"stream": stream, "tier": tier, "count": last - first + 1, "acked": held}
        out.append(facts)
    return out


def _unused(log: Log, lost: list[Range]) -> list[Range]:
    """Numbers behind the last row of each partition that may have been handed out before a crash:
    the next opening gives them up."""
    ends: dict[int, int] = dict(log.released)
    for scanned in log.scan():
        last = scanned.first + scanned.count - 1
        ends[scanned.partition] = max(ends.get(scanned.partition, 0), last)
    for partition, _, last, _ in lost + log.recovery.burnt:
        ends[partition] = max(ends.get(partition, 0), last)
    return [
        (partition, ends.get(partition, 0) + 1, log.next_sequence(partition) - 1, "burnt")
        for partition, _, _ in log.partitions()
        if log.next_sequence(partition) - 1 > ends.get(partition, 0)
    ]


def report(arguments: argparse.Namespace) -> dict[str, Any]:
    """The facts. ``error``: the log can't be read at all, and why; then nothing else is there.
    Raises ``Unavailable`` for rows whose keys are not there: what is lost of them can't be told."""
    try:
        opened = open_log(arguments.directory, arguments.key)
    except (Corrupt, Incompatible) as error:
        return {"error": str(error), "outcome": error.word}
    with opened as log:
        rows, records, size, found, (unopened, _) = log.verify()
        lost = [item for item in found if item[3] != "purged"]
        if unopened:
            raise Unavailable(f"{arguments.directory}: rows are encrypted; say --key")
        unused = [] if log.recovery.clean else _unused(log, found)
        return {
            "store": log.store_id.hex(),
            "clean": log.recovery.clean,
            "rows": rows, "records": records, "bytes": size,
            "first_position": log.first_position, "position": log.position,
            "lost": _named(log, lost),
            "purged": _named(log, [item for item in found if item[3] == "purged"]),
            "missing": log.recovery.missing,
            "tail_uncertain": log.recovery.tail_uncertain,
            "given_up": _named(log, log.recovery.burnt),
            "to_give_up": _named(log, unused),
        }  # fmt: skip


def _line(item: dict[str, Any]) -> str:
    where = f"{item['stream']} ({item['tier']}, partition {item['partition']})"
    numbers = f"{item['first']:,} to {item['last']:,}"
    if item["count"] == 1:
        numbers = f"{item['first']:,}"
    line = f"  {where}: {numbers}"
    if item["reason"] == "lost":
        held = {0: "none of them", item["count"]: "all of them"}.get(item["acked"])
        line += f"; the hub has acknowledged {held or item['acked']}"
    return line


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def text(facts: dict[str, Any]) -> str:
    """The facts as a person reads them."""
    state = "closed in order" if facts["clean"] else "open now, or ended by a crash"
    readable = f"{_rows(facts['rows'])} are readable, {facts['bytes']:,} bytes"
    lines = [f"store {facts['store']}: {state}", readable]
    lost = sum(item["count"] for item in facts["lost"])
    if lost:
        lines += [f"lost to damage: {_rows(lost)}, which will never be read again"]
        lines += map(_line, facts["lost"])
    if facts["missing"]:
        lines += [f"lost at the end: {_rows(facts['missing'])} that were durable"]
    if facts["tail_uncertain"] and not facts["missing"]:
        lines += ["at the end: what a crash, or a writer at work, left of rows not durable yet"]
    if not lost and not facts["missing"]:
        lines += ["nothing is lost"]
    if facts["purged"]:
        lines += ["purged, their keys destroyed:", *map(_line, facts["purged"])]
    if facts["given_up"]:
        lines += ["numbers given up by earlier openings, which no row has:"]
        lines += map(_line, facts["given_up"])
    does = []
    if facts["to_give_up"]:
        does += [
            "  gives up numbers that a crash may have handed out, so that no two rows share one:"
        ]
        does += ["  " + _line(item) for item in facts["to_give_up"]]
    if lost or facts["missing"] or facts["to_give_up"]:
        does += ["  writes all of this to the stream edgecore.losses, by which the hub knows it"]
    if not facts["clean"]:
        does += ["  goes on in a new segment file; the old ones stay until their rows are released"]
    if does:
        lines += ["the next opening for writing, by itself:", *does]
    return "\n".join([*lines, "nothing was changed by this report, and nothing is to be repaired"])


def run(arguments: argparse.Namespace) -> int:
    """Exit 0 when nothing is lost, 12 when rows are, 11 or 12 when the log can't be read."""
    facts = report(arguments)
    if arguments.json:
        print(json.dumps(facts))
    elif "error" in facts:
        print(f"not readable: {facts['error']}\n{KEEP}")
    else:
        print(text(facts))
    if "error" in facts:
        kinds: dict[str, type[EdgecoreError]] = {"Corrupt": Corrupt, "Incompatible": Incompatible}
        return kinds[facts["outcome"]].exit_code
    return Corrupt.exit_code if facts["lost"] or facts["missing"] else 0
