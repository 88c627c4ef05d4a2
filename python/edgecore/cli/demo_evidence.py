"""What a scenario leaves for the checker, and what of it a person is shown."""

from __future__ import annotations

import json
from pathlib import Path

from edgecore.cli.demo_steps import FAMILY, Scenario
from edgecore.errors import Invalid, Unavailable
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = dict[str, Any]

ANOMALOUS = 1


def read_lines(path: Path) -> list[Row]:
    with path.open() as lines:
        return [json.loads(line) for line in lines]


def serving(rows: list[Row]) -> list[Row]:
    """Predictions of the active role."""
    contexts = {
        row["values"]["context"]
        for row in rows
        if row["stream"] == "edgecore.context"
        and cbor.decode(bytes.fromhex(row["values"]["body"])).get("role") == "active"
    }
    return [
        row
        for row in rows
        if row["stream"] == "edgecore.prediction" and row["values"]["context"] in contexts
    ]


class EvidenceScenario(Scenario):
    """A scenario with its end: exports, facts, and the result for people and programs."""

    def good_release(self, bundle: Path, **limits: float) -> None:
        digest = self.release(1, bundle, **limits)
        self.facts["good_release"] = digest

        def stable(status: dict[str, Any]) -> bool:
            for edge in status["release"]["edges"]:
                if edge["digest"] == digest and edge["edge"] in ("rolled_back", "refused"):
                    raise Unavailable(f"the release was {edge['edge']}: {edge['reason']}")
            active = status["release"]["active"]
            settled = status["release"]["phase"] == "stable"
            return settled and bool(active) and active["digest"] == digest

        self.keep_going(stable, "the release to be stable")

    def leave_evidence(self) -> None:
        """device.jsonl, hub.jsonl and facts.json; acks.jsonl is the device's own record."""
        world, evidence = self.world, self.world.evidence_dir
        device_log = str(world.device_dir / "log")
        world.command("log", "export", device_log, "--out", str(evidence / "device.jsonl"))
        (evidence / "hub.jsonl").write_text(world.command("hub", "export", str(world.hub_dir)))
        rows = read_lines(evidence / "device.jsonl")
        self.facts |= {
            "source_stream": self.stream,
            "hub_key": world.command("hub", "key", str(world.hub_dir)).strip(),
            "releaser": str(world.releaser_dir / "public"),
            "device_log": device_log,
            "artifacts": str(world.device_dir / "artifacts"),
        }
        shown = self._chosen(rows)
        self.facts["shown"] = [shown["store"], shown["partition"], shown["sequence"]]
        (evidence / "facts.json").write_text(json.dumps(self.facts, indent=1))

    def _chosen(self, rows: list[Row]) -> Row:
        """The prediction that is rebuilt: the strongest alarm inside an anomaly, else the strongest
        alarm, else the last prediction that served."""
        found = serving(rows)
        if not found:
            raise Invalid("the device made no prediction that served")

        def worth(row: Row) -> tuple[bool, bool, float, int]:
            alarm = int(row["values"]["verdict"]) == ANOMALOUS
            score = float(row["values"]["score"] or 0)
            return alarm and self._inside(row), alarm, score if alarm else 0.0, row["position"]

        return max(found, key=worth)

    def _inside(self, row: Row) -> bool:
        as_of = int(row["values"]["as_of"])
        return any(a["start"] <= as_of <= a["end"] for a in self.facts["anomalies"])

    def evaluation(self) -> dict[str, Any] | None:
        return None

    def result(self, verdict: dict[str, Any]) -> dict[str, Any]:
        """What ``--json`` prints; `verdict` is the checker's word."""
        rows = read_lines(self.world.evidence_dir / "device.jsonl")
        figures = verdict["figures"]
        captured = max(1, int(figures["captured"]))
        log_bytes = self._log_bytes()
        invariants = verdict["invariants"]
        return {
            "invariants": {name: item["holds"] for name, item in invariants.items()},
            "says": {name: item["says"] for name, item in invariants.items() if item["says"]},
            "events": {**figures, "acked": figures["at_hub"], "durable": figures["rows"]},
            "releases": self._releases(rows),
            "bytes": {
                "log": log_bytes,
                "wire": self.wire_bytes,
                "disk_per_event": log_bytes / captured,
                "wire_per_event": self.wire_bytes / captured,
            },
            "timings": {**self.timings, "us_per_event": self.cpu_s * 1e6 / captured},
            "alarms": self._alarms(rows),
            "shown": self._shown(rows),
            "evaluation": self.evaluation(),
        }

    def _log_bytes(self) -> int:
        """Blocks in the segments; the zeros that they are made of beforehand are not counted."""
        found = self.world.command("log", "inspect", str(self.world.device_dir / "log"), "--json")
        return int(json.loads(found)["data_bytes"])

    def _releases(self, rows: list[Row]) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for row in rows:
            if row["stream"] == "edgecore.update":
                values = row["values"]
                one = {"name": FAMILY, "version": values["version"], "states": [], "reason": ""}
                entry = found.setdefault(values["digest"], one)
                entry["states"].append(values["edge"])
                entry["reason"] = values["reason"] or entry["reason"]
        return list(found.values())

    def _alarms(self, rows: list[Row]) -> dict[str, int]:
        """Episodes inside the anomalies, and quiet-time ones."""
        inside: set[tuple[int, int]] = set()
        every: set[tuple[int, int]] = set()
        for row in serving(rows):
            if row["values"]["verdict"] == ANOMALOUS:
                episode = int(row["values"]["context"]), int(row["values"]["episode"] or 0)
                every.add(episode)
                if self._inside(row):
                    inside.add(episode)
        return {"episodes": len(every), "inside": len(inside), "quiet": len(every - inside)}

    def _shown(self, rows: list[Row]) -> dict[str, str]:
        store, partition, sequence = self.facts["shown"]
        row = next(
            row
            for row in rows
            if (row["store"], row["partition"], row["sequence"]) == (store, partition, sequence)
        )
        values = row["values"]
        name = f"{partition}:{sequence}"
        return {
            "prediction": name,
            "as of": str(values["as_of"]),
            "score": f"{values['score']} over a threshold of {values['threshold']}",
            "made from": f"release {self.facts['good_release'][:16]}…, log position "
            f"{values['position']}, input {values['input_hash'][:16]}…",
            "again": f"with --keep DIR: edgecore lineage show {name} --log DIR/device/log "
            "--objects DIR/device/artifacts",
        }


__all__ = ["EvidenceScenario", "read_lines"]
