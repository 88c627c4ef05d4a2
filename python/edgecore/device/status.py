"""`status.json`: what a device says of itself, for an operator at three in the morning.

Written whole and renamed into place, without a sync: it describes this moment, and a power cut may
take it. Times are nanoseconds UTC. docs/runbooks/device.md explains every line.
"""

from __future__ import annotations

from edgecore.errors import Corrupt, EdgecoreError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.fs import Fs

FILE = "status.json"
BYTES_MAX = 1 << 20
SECOND = 1_000_000_000


def write(fs: Fs, directory: str, report: dict[str, Any]) -> None:
    """Replaces the report. Raises what a full or failing disk raises."""
    import json

    data = json.dumps(report, separators=(",", ":")).encode()
    path = f"{directory}/{FILE}"
    with fs.open(f"{path}.new", "create") as file:
        file.truncate(0)
        file.write_at(0, data)
    fs.rename(f"{path}.new", path)


def read(fs: Fs, directory: str) -> dict[str, Any]:
    """The last report. Raises ``Unavailable`` where there is none, ``Corrupt`` when it is torn."""
    import json

    path = f"{directory}/{FILE}"
    if not fs.exists(path):
        raise Unavailable(f"{path}: no report; has `edgecore device run` been started?")
    try:
        report = json.loads(fs.read_file(path, BYTES_MAX))
    except ValueError:
        raise Corrupt(f"{path}: a power cut took it; the running device writes it anew") from None
    if not isinstance(report, dict):
        raise Corrupt(f"{path}: is no report")
    return report


def words(error: EdgecoreError | None) -> str:
    """``"Unavailable: hub …"``; empty for none."""
    return f"{error.word}: {error}" if error is not None else ""


def ago(then_ns: int, now_ns: int) -> str:
    if not then_ns:
        return "never"
    seconds = max(0.0, (now_ns - then_ns) / SECOND)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit} ago"
    return f"{seconds:.1f} s ago"


def at_rest(facts: dict[str, Any]) -> str:
    """How a log is encrypted (:meth:`edgecore.Log.encryption`), in one line for an operator."""
    if not facts["cipher"] and not facts["encrypted"]:
        return "in the clear"
    keys = f"{facts['keys']} keys" + (
        f", {facts['destroyed']} destroyed" if facts["destroyed"] else ""
    )
    return (
        f"{facts['cipher'] or 'encrypted'}, {facts['encrypted']} of {facts['segments']} segments, "
        f"{keys}; device key: {facts['storage'] or 'not given'}"
    )


def utc(at_ns: int) -> str:
    """ns since 1970 as 2026-01-31 09:30:00 UTC."""
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at_ns // SECOND)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def clock_line(facts: dict[str, Any], reported_ns: int) -> str:
    """How far the wall clock is to be trusted, in one line for an operator."""
    said = {
        "unjudged": "not judged",
        "unset": "unset: it says " + utc(reported_ns),
        "free": "free-running: nothing has confirmed it since the start",
        "off": "wrong",
        "confirmed": "confirmed",
    }[facts["trust"]]
    offset = facts["offset"]
    if offset is not None:
        way = "behind" if offset >= 0 else "ahead of"
        said += (
            f", {abs(offset) / SECOND:,.3f} s {way} the hub's, "
            f"± {facts['uncertainty'] / SECOND:,.3f} s"
        )
        passed = reported_ns + offset
        return f"  clock     {said}, hub's time heard {ago(facts['confirmed'], passed)}"
    heard = facts["confirmed"]
    return f"  clock     {said}, hub's time last heard {utc(heard) if heard else 'never'}"


def render(report: dict[str, Any], now_ns: int) -> list[str]:
    """The report as lines, the most urgent first: errors, then link, log, releases, source."""
    link, log = report["link"], report["log"]
    release, source = report["release"], report["source"]
    lines = [
        f"{report['name']}  {report['state']}  pid {report['pid']}, "
        f"reported {ago(report['time'], now_ns)}, started {ago(report['started'], now_ns)}"
    ]
    lines += [f"  ! {part:<9}{said}" for part, said in report["errors"].items()]
    if not link["enrolled"]:
        lines.append("  link      not enrolled yet")
    else:
        state = "connected" if link["connected"] else "not connected"
        lines.append(
            f"  link      {state}, last contact {ago(link['last_contact'], now_ns)}, "
            f"sent {link['sent']:,} B, received {link['received']:,} B"
        )
    if "clock" in report:
        lines.append(clock_line(report["clock"], report["time"]))
    lines.append(
        f"  log       position {log['position']:,}, durable {log['durable_position']:,}, "
        f"not acknowledged {log['unacked']:,} events"
    )
    bound = f" of {log['max_bytes']:,}" if log["max_bytes"] else ", without a bound"
    lines.append(
        f"  disk      {log['disk_bytes']:,} bytes{bound}; {log['dropped']:,} rows gave way so far"
    )
    lines.append(
        f"  worth     {', '.join(log['priority'])}: sent in this order, given up from the last"
    )
    lines.append(f"  at rest   {at_rest(log['encryption'])}")
    lines += _recovery_lines(report["recovery"])
    for part in log["partitions"]:
        lines.append(
            f"    {part['partition']:>3} {part['stream']:<20} {part['tier']:<10} "
            f"last {part['head']:>10,}, acknowledged {part['acked']:>10,}, "
            + (
                f"kept here {part['kept']:,} ({part['raw']})"
                if part.get("raw", "send") != "send"
                else f"waiting {part['unacked']:,}"
            )
        )
    lines += _release_lines(release, link["order"]["release"], now_ns)
    lines.append(
        f"  answers   {report['predictions']['served']:,} served, "
        f"{report['predictions']['anomalous']:,} anomalous, "
        f"{report['predictions']['unanswered']:,} unanswered"
    )
    refused = {role: rows for role, rows in report["predictions"]["refused"].items() if rows}
    if refused:
        said = ", ".join(f"{rows:,} by {role}" for role, rows in refused.items())
        lines.append(f"    not fit {said}: features too old or missing")
    lines.append(
        f"  source    {source['kind']} {source['stream']}: {source['accepted']:,} accepted, "
        f"{source['rejected']:,} refused, {source['off_grid']:,} rounded, {source['late']:,} late, "
        f"{source['missed']:,} missed" + (", finished" if source["finished"] else "")
    )
    return lines


def _recovery_lines(recovery: dict[str, Any]) -> list[str]:
    """How the last start found the log; marked when rows that were durable are gone."""
    if recovery["clean"]:
        return ["  recovery  the log had been closed in order"]
    lost: dict[int, int] = {}
    burnt = 0
    for partition, first, last, reason in recovery["ranges"]:
        if reason == "lost":
            lost[partition] = lost.get(partition, 0) + last - first + 1
        else:
            burnt += last - first + 1
    said = [f"{rows:,} rows of partition {number} lost" for number, rows in sorted(lost.items())]
    missing = recovery.get("missing", 0)
    if missing:
        said.append(f"{missing:,} rows lost at its end, which were durable")
    mark = "  ! " if said else "  "
    if recovery["tail_uncertain"] and not missing:
        said.append("bytes at its end that may have been rows")
    if burnt:
        said.append(f"{burnt:,} numbers burnt")
    text = ", ".join(said or ["nothing lost"])
    return [f"{mark}recovery  the log had ended in a crash: {text}"]


def _release_lines(release: dict[str, Any], ordered: str, now_ns: int) -> list[str]:
    active = release["active"] or {"path": "none", "digest": ""}
    lines = [
        f"  release   {active['path']} {active['digest'][:12]}"
        + (f", on trial: {release['trial']['path']}" if release["trial"] else "")
        + (f", ordered: {ordered}" if ordered else "")
    ]
    if release["edges"]:
        edge = release["edges"][-1]
        why = f": {edge['reason']}" if edge["reason"] else ""
        lines.append(
            f"    last step {ago(edge['time'], now_ns)}: "
            f"{edge['release']}/{edge['version']} {edge['edge']}{why}"
        )
    return lines


__all__ = ["FILE", "ago", "read", "render", "words", "write"]
