"""The demo's judge: a process of its own that trusts nothing the demo says of itself.

    python -m edgecore.cli.checker EVIDENCE_DIR

It reads what was left behind and recomputes every invariant from it:

    device.jsonl   `edgecore log export` of the device      (docs/formats/export.md)
    hub.jsonl      `edgecore hub export`                     (same form)
    acks.jsonl     every signed answer the device acted on, as it arrived
    facts.json     what the outside saw: kill times, durable positions promised, files, windows

and prints one JSON object: invariant name -> {"holds", "says"}. Exit 0 only if all hold.
"""

from __future__ import annotations

import collections
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from edgecore.cli.checker_models import check_lineage
from edgecore.cli.checker_trust import check_acks, check_releases
from edgecore.wire import cbor

ANOMALOUS = 1  # the verdict that is an alarm

Event = dict[str, Any]
Key = tuple[str, int, int]


class Evidence:
    """What the checker reads, parsed once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.facts: dict[str, Any] = json.loads((directory / "facts.json").read_text())
        self.device = read_export(directory / "device.jsonl")
        self.hub = read_export(directory / "hub.jsonl")
        self.acks = [
            json.loads(line) for line in (directory / "acks.jsonl").read_text().splitlines()
        ]

    def stream(self, name: str) -> list[Event]:
        """The device's events of one stream, in order of arrival."""
        found = [event for event in self.device if event["stream"] == name]
        return sorted(found, key=lambda event: int(event["position"]))


def read_export(path: Path) -> list[Event]:
    with path.open() as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if "sequence" in row]


def key_of(event: Event) -> Key:
    return event["store"], int(event["partition"]), int(event["sequence"])


def tombstones(evidence: Evidence) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """Sequences that the device declared burnt after a crash: never filled, never to be."""
    out: dict[tuple[str, int], list[tuple[int, int]]] = collections.defaultdict(list)
    for event in evidence.stream("edgecore.losses"):
        row = event["values"]
        if row["reason"] == "burnt":
            where = event["store"], int(row["partition"])
            out[where].append((int(row["first"]), int(row["last"])))
    return out


def check_nothing_lost(evidence: Evidence) -> str | None:
    """Every sequence below a partition's head is on the device, and what is durable on the hub."""
    heads: dict[tuple[str, int], set[int]] = collections.defaultdict(set)
    for event in evidence.device:
        heads[event["store"], int(event["partition"])].add(int(event["sequence"]))
    burnt = tombstones(evidence)
    for where, seen in heads.items():
        before = 0
        for sequence in sorted(seen):
            first, last = before + 1, sequence - 1
            if first <= last and not any(a <= first and last <= b for a, b in burnt[where]):
                return f"device: partition {where[1]} has no sequences {first} to {last}"
            before = sequence
    at_hub = {key_of(event) for event in evidence.hub}
    missing = [event for event in evidence.device if key_of(event) not in at_hub]
    if missing:
        first_missing = missing[0]
        where_at = f"{first_missing['stream']} {key_of(first_missing)[1:]}"
        return f"{len(missing)} events not at the hub, first {where_at}"
    return None


def check_nothing_doubled(evidence: Evidence) -> str | None:
    for where, events in (("device", evidence.device), ("hub", evidence.hub)):
        counts = collections.Counter(key_of(event) for event in events)
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            return f"{where}: {len(twice)} identities twice, first {twice[0][1:]}"
    captured = collections.Counter(
        (event["stream"], event["source"], event["source_seq"])
        for event in evidence.hub
        if event["source_seq"]
    )
    twice_captured = [key for key, count in captured.items() if count > 1]
    if twice_captured:
        return f"{len(twice_captured)} captures twice, first {twice_captured[0]}"
    known = {key_of(event) for event in evidence.device}
    foreign = [event for event in evidence.hub if key_of(event) not in known]
    return f"hub: {len(foreign)} events no device has" if foreign else None


def check_values_equal(evidence: Evidence) -> str | None:
    """Hub rows equal device rows, and the source's rows equal the file they came from."""
    at_hub = {key_of(event): event for event in evidence.hub}
    for event in evidence.device:
        other = at_hub.get(key_of(event))
        if other is not None and any(
            event[name] != other[name] for name in ("time", "source", "source_seq", "values")
        ):
            return f"{event['stream']} {key_of(event)[1:]}: device and hub differ"
    source = evidence.facts.get("csv")
    return check_against_file(evidence, source) if source else None


def check_against_file(evidence: Evidence, source: dict[str, Any]) -> str | None:
    """The logged values are the file's, digit for digit (`source_seq` is the line number), and a
    line that is not there was counted as refused."""
    import csv

    by_line = {int(event["source_seq"]): event for event in evidence.stream(source["stream"])}
    digits = source["digits"]
    absent = 0
    with Path(source["path"]).open(newline="") as handle:
        reader = csv.reader(handle)
        header = next(reader)
        for cells in reader:
            if not cells:
                continue
            event = by_line.get(reader.line_num)
            if event is None:
                absent += 1
                continue
            for name, places in digits.items():
                text = cells[header.index(name)]
                logged = event["values"].get(name)
                if not text.strip() and logged is None:
                    continue
                wanted = Decimal(text).quantize(Decimal(1).scaleb(-places))
                if logged is None or Decimal(logged) != wanted:
                    return f"line {reader.line_num}: {name} is {text}, logged {logged}"
    refused = sum(int(event["values"]["rejected"]) for event in evidence.stream("edgecore.ingest"))
    if absent != refused:
        return f"{absent} lines of the file are not logged, {refused} were counted as refused"
    return None


def check_durable_kept(evidence: Evidence) -> str | None:
    """What was promised durable before a SIGKILL was there after it."""
    positions = {int(event["position"]) for event in evidence.device}
    for promise in evidence.facts["promises"]:
        upto = int(promise["durable_position"])
        missing = set(range(1, upto + 1)) - positions
        if missing:
            return f"{promise['when']}: position {min(missing)} of {upto} promised is gone"
    return None


def check_order(evidence: Evidence) -> str | None:
    """Within a partition position grows with sequence; no prediction precedes its event."""
    last: dict[tuple[str, int], tuple[int, int]] = {}
    for event in sorted(evidence.device, key=key_of):
        partition = event["store"], int(event["partition"])
        position = int(event["position"])
        if partition in last and position <= last[partition][1]:
            return f"partition {partition[1]}: position {position} after {last[partition][1]}"
        last[partition] = int(event["sequence"]), position
    for event in evidence.stream("edgecore.prediction"):
        if int(event["position"]) <= int(event["values"]["position"]):
            return f"prediction at {event['position']} names {event['values']['position']}"
    return None


def serving(evidence: Evidence) -> list[Event]:
    """Predictions of the active role: those whose context, itself an event, says so."""
    contexts = {
        int(event["values"]["context"])
        for event in evidence.stream("edgecore.context")
        if cbor.decode(bytes.fromhex(event["values"]["body"])).get("role") == "active"
    }
    return [
        event
        for event in evidence.stream("edgecore.prediction")
        if int(event["values"]["context"]) in contexts
    ]


def check_model_never_silent(evidence: Evidence) -> str | None:
    """From the first activation on, every event of the source has one prediction that serves."""
    served = collections.Counter(int(event["values"]["position"]) for event in serving(evidence))
    if not served:
        return "no prediction at all"
    first = min(served)
    for event in evidence.stream(evidence.facts["source_stream"]):
        count = served[int(event["position"])]
        if int(event["position"]) >= first and count != 1:
            return f"event at position {event['position']} has {count} serving predictions"
    return None


def check_outage_survived(evidence: Evidence) -> str | None:
    """Between the hub's death and its return the device captured and predicted."""
    start, end = evidence.facts["outage_positions"]
    captured = predicted = 0
    for event in evidence.device:
        if start < int(event["position"]) <= end:
            captured += event["stream"] == evidence.facts["source_stream"]
            predicted += event["stream"] == "edgecore.prediction"
    if not captured or not predicted:
        return f"{captured} events and {predicted} predictions during the outage"
    return None


def check_bad_release_rolled_back(evidence: Evidence) -> str | None:
    edges = [event["values"] for event in evidence.stream("edgecore.update")]
    bad = [edge["edge"] for edge in edges if edge["digest"] == evidence.facts["bad_release"]]
    if "trial" not in bad:
        return f"the bad release was never on trial (edges: {', '.join(bad) or 'none'})"
    if "rolled_back" not in bad or bad[-1] != "rolled_back":
        return f"the bad release ended as {bad[-1]}"
    if {"active", "stable"} & set(bad):
        return "the bad release became active"
    good = [edge["edge"] for edge in edges if edge["digest"] == evidence.facts["good_release"]]
    if "stable" not in good:
        return f"the good release ended as {good[-1] if good else 'nothing'}"
    return None


def check_anomaly_found(evidence: Evidence) -> str | None:
    """An alarm falls inside an anomaly that was really there: the load that the demo applied, or
    a labelled window of the file."""
    spans = [(int(span["start"]), int(span["end"])) for span in evidence.facts["anomalies"]]
    for event in serving(evidence):
        if int(event["values"]["verdict"]) == ANOMALOUS:
            as_of = int(event["values"]["as_of"])
            if any(start <= as_of <= end for start, end in spans):
                return None
    return f"no alarm inside any of {len(spans)} anomalies" if spans else None


INVARIANTS = {
    "nothing_lost": check_nothing_lost,
    "nothing_doubled": check_nothing_doubled,
    "values_equal": check_values_equal,
    "durable_kept": check_durable_kept,
    "causal_order": check_order,
    "model_never_silent": check_model_never_silent,
    "outage_survived": check_outage_survived,
    "only_signed_active": check_releases,
    "acks_signed": check_acks,
    "bad_release_rolled_back": check_bad_release_rolled_back,
    "lineage_rebuilds": check_lineage,
    "anomaly_found": check_anomaly_found,
}


def figures(evidence: Evidence) -> dict[str, int]:
    """Counts for people, from the same evidence."""
    at_hub = collections.Counter(key_of(event) for event in evidence.hub)
    here = {key_of(event) for event in evidence.device}
    return {
        "captured": len(evidence.stream(evidence.facts["source_stream"])),
        "predictions": len(evidence.stream("edgecore.prediction")),
        "rows": len(evidence.device),
        "at_hub": len(here & at_hub.keys()),
        "unaccounted": len(here - at_hub.keys()),
        "doubled": sum(count - 1 for count in at_hub.values()),
    }


def main() -> int:
    evidence = Evidence(Path(sys.argv[1]))
    verdicts = {}
    for name, check in INVARIANTS.items():
        says = check(evidence)
        verdicts[name] = {"holds": says is None, "says": says or ""}
    print(json.dumps({"invariants": verdicts, "figures": figures(evidence)}))
    return 0 if all(verdict["holds"] for verdict in verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
