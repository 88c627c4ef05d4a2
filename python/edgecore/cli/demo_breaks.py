"""Planted breaches: what `--break NAME` does to the evidence before it is judged.

Each breach is one that a broken build would leave behind, planted so that it is the only one: the
checker must then find exactly its invariant false. Every invariant has its breach.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgecore.errors import Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

Row = dict[str, Any]


class Files:
    """The evidence as it lies on disk: read whole, written back whole."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.facts: Row = json.loads((directory / "facts.json").read_text())
        self.device = self._read("device.jsonl")
        self.hub = self._read("hub.jsonl")
        self.acks = self._read("acks.jsonl")

    def _read(self, name: str) -> list[Row]:
        with (self.directory / name).open() as lines:
            return [json.loads(line) for line in lines]

    def write(self) -> None:
        (self.directory / "facts.json").write_text(json.dumps(self.facts))
        for name, rows in (("device", self.device), ("hub", self.hub), ("acks", self.acks)):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (self.directory / f"{name}.jsonl").write_text(text)

    def last(self, stream: str) -> Row:
        rows = [row for row in self.device if row["stream"] == stream]
        if not rows:
            raise Invalid(f"nothing of {stream} to break")
        return max(rows, key=lambda row: int(row["position"]))

    def source(self) -> list[Row]:
        stream = self.facts["source_stream"]
        return [row for row in self.device if row["stream"] == stream]

    def same_in_hub(self, row: Row) -> Row:
        wanted = key(row)
        return next(other for other in self.hub if key(other) == wanted)

    def drop_everywhere(self, row: Row) -> None:
        wanted = key(row)
        self.device = [other for other in self.device if key(other) != wanted]
        self.hub = [other for other in self.hub if key(other) != wanted]

    def add_everywhere(self, like: Row, values: Row) -> None:
        """One more row behind `like`, the last of its partition."""
        head = max(int(row["position"]) for row in self.device)
        row = {**like, "sequence": int(like["sequence"]) + 1, "position": head + 1}
        row["source_seq"] = int(like["source_seq"]) + 1
        row["values"] = {**like["values"], **values}
        self.device.append(row)
        self.hub.append(dict(row))


def key(row: Row) -> tuple[Any, ...]:
    return row["store"], row["partition"], row["sequence"]


def lost_event(files: Files) -> None:
    """The hub misses one row that the device holds and believes acknowledged."""
    victim = key(files.source()[len(files.source()) // 2])
    files.hub = [row for row in files.hub if key(row) != victim]


def doubled_event(files: Files) -> None:
    """The hub holds one row twice."""
    files.hub.append(dict(files.hub[len(files.hub) // 2]))


def altered_value(files: Files) -> None:
    """One value changed between device and hub."""
    row = files.same_in_hub(files.source()[len(files.source()) // 3])
    row["time"] = int(row["time"]) + 1


def broken_promise(files: Files) -> None:
    """The device called durable what was not there after it was killed."""
    head = max(int(row["position"]) for row in files.device)
    files.facts["promises"].append({"when": "a planted kill", "durable_position": head + 1})


def reordered(files: Files) -> None:
    """Two rows of one partition arrived in the other order than their sequences say."""
    first, second = files.source()[:2]
    first["position"], second["position"] = second["position"], first["position"]


def silent_model(files: Files) -> None:
    """One event had no prediction."""
    files.drop_everywhere(files.last("edgecore.prediction"))


def idle_outage(files: Files) -> None:
    """The device stood still while the hub was away."""
    files.facts["outage_positions"] = [files.facts["outage_positions"][0]] * 2


def unsigned_release(files: Files) -> None:
    """A release that nobody signed became active."""
    like = files.last("edgecore.update")
    planted = {"digest": "00" * 32, "release": "planted", "edge": "active", "reason": None}
    files.add_everywhere(like, planted)


def forged_ack(files: Files) -> None:
    """The device acted on an answer that the hub did not sign."""
    forged = dict(files.acks[-1])
    body = bytearray.fromhex(forged["body"])
    body[len(body) // 2] ^= 1
    files.acks.append({**forged, "body": body.hex()})


def bad_release_kept(files: Files) -> None:
    """The release that failed its trial was never rolled back."""
    bad = files.facts["bad_release"]
    edges = [row for row in files.device if row["stream"] == "edgecore.update"]
    for row in edges:
        if row["values"]["digest"] == bad and row["values"]["edge"] == "rolled_back":
            row["values"]["edge"] = "trial"
            files.same_in_hub(row)["values"]["edge"] = "trial"


def wrong_lineage(files: Files) -> None:
    """The shown prediction was not made from what its lineage names."""
    shown = files.facts["shown"]
    for rows in (files.device, files.hub):
        for row in rows:
            if [row["store"], row["partition"], row["sequence"]] == shown:
                row["values"]["input_hash"] = "00" * (len(row["values"]["input_hash"]) // 2)


def missed_anomaly(files: Files) -> None:
    """No alarm falls where the anomaly really was."""
    first = min(int(row["time"]) for row in files.device)
    files.facts["anomalies"] = [{"start": first - 2, "end": first - 1}]


# Breach -> the invariant that it, and it alone, makes false.
BREAKS: dict[str, tuple[Callable[[Files], None], str]] = {
    "lost_event": (lost_event, "nothing_lost"),
    "doubled_event": (doubled_event, "nothing_doubled"),
    "altered_value": (altered_value, "values_equal"),
    "broken_promise": (broken_promise, "durable_kept"),
    "reordered": (reordered, "causal_order"),
    "silent_model": (silent_model, "model_never_silent"),
    "idle_outage": (idle_outage, "outage_survived"),
    "unsigned_release": (unsigned_release, "only_signed_active"),
    "forged_ack": (forged_ack, "acks_signed"),
    "bad_release_kept": (bad_release_kept, "bad_release_rolled_back"),
    "wrong_lineage": (wrong_lineage, "lineage_rebuilds"),
    "missed_anomaly": (missed_anomaly, "anomaly_found"),
}


def plant(name: str, evidence: Path) -> str:
    """Plants the breach in an evidence directory; returns the invariant that must fall."""
    if name not in BREAKS:
        raise Invalid(f"no breach {name!r}: one of {', '.join(BREAKS)}")
    breach, invariant = BREAKS[name]
    files = Files(evidence)
    breach(files)
    files.write()
    return invariant


__all__ = ["BREAKS", "plant"]
