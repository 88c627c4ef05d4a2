"""The demo on a CSV series: fed to the device line by line, judged causally.

The first 15 % of the lines are what a model is trained on, labelled windows left out; everything
after is judged as it comes, by a threshold that runs with the past scores alone. With labels, the
alarms are counted beside a rolling z-score and a random flagger of the same rate.
"""

from __future__ import annotations

from pathlib import Path

from edgecore.cli.demo_evidence import EvidenceScenario
from edgecore.errors import Invalid, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgecore.cli.demo_show import Show

TRAIN_SHARE = 0.15
TRIAL_ROWS = 100
LINES_MIN = 1_000
FEED_LINES = 20


class CsvScenario(EvidenceScenario):
    name = "csv"

    def __init__(self, root: Path, show: Show, path: Path, labels: Path | None) -> None:
        super().__init__(root, show)
        self.path = path.resolve()
        self.labels = labels or self._found_labels()
        try:
            self.lines = self.path.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from None
        if len(self.lines) < LINES_MIN:
            raise Invalid(f"{path}: {len(self.lines)} lines; the demo needs {LINES_MIN}")
        self.fed = 0
        self.feed = self.world.root / "feed.csv"
        self.schema = self.world.root / "schema.toml"
        self.world.command("schema", "infer", str(self.path), "--out", str(self.schema))
        self._read_schema()

    def _found_labels(self) -> Path | None:
        """`labels/combined_windows.json` of the Numenta Anomaly Benchmark, beside its data."""
        for parent in self.path.parents:
            candidate = parent / "labels" / "combined_windows.json"
            if candidate.exists():
                return candidate
        return None

    def _read_schema(self) -> None:
        from edgecore.device.schema_file import load

        how = load(str(self.schema))
        self.stream = how.schema.stream
        decimals = {f.name: f.scale for f in how.schema.fields if f.dtype == "decimal"}
        if not decimals:
            raise Invalid(f"{self.path}: no column of decimal numbers to learn from")
        self.field = next(iter(decimals))
        columns = {how.columns[name]: places for name, places in decimals.items()}
        self.facts["csv"] = {"path": str(self.path), "stream": self.stream, "digits": columns}

    def source(self) -> str:
        return (
            f'\n[source]\nkind = "csv"\npath = "{self.feed}"\nschema = "{self.schema}"\n'
            "follow = true\n"
        )

    def train_words(self) -> list[str]:
        words = ["--hub", str(self.world.hub_dir), "--stream", self.stream]
        if self.labels is not None:
            words += ["--labels", str(self.labels), self.path.name]
        return words

    # ------------------------------------------------------------ feeding

    def give(self, upto: float | int) -> None:
        """Appends lines to the file that the device follows: a share of all, or so many more."""
        goal = int(len(self.lines) * upto) if isinstance(upto, float) else self.fed + upto
        goal = min(max(goal, self.fed), len(self.lines))
        with self.feed.open("ab") as file:
            file.writelines(self.lines[self.fed : goal])
        self.fed = goal

    def taken(self) -> None:
        """Waits until the device has read what was given."""
        last = self._last_line()
        self.wait(f"line {last}", lambda status: int(status["source"]["through"]) >= last)

    def _last_line(self) -> int:
        last = self.fed
        while last > 1 and not self.lines[last - 1].strip():
            last -= 1
        return last

    def keep_going(self, reached: Callable[[dict[str, Any]], bool], what: str) -> None:
        """A few lines at a time while a release is observed, until `reached`."""
        while not reached(self.world.status()):
            if self.fed >= len(self.lines):
                self.wait(what, reached)
                return
            if self.world.status()["release"]["phase"] in ("trial", "active", "rolled_back"):
                self.give(FEED_LINES)
                self.taken()
            self.world.pause()

    def live(self) -> None:
        show = self.show
        self.give(TRAIN_SHARE)
        with show.stage("hub, releaser and device founded, device enrolled"):
            self.found()
        with show.stage(f"the first {TRAIN_SHARE:.0%} of {self.path.name} captured"):
            self.taken()
            self.wait("the hub to hold them", lambda s: int(s["log"]["unacked"]) < 50)
        with show.stage("model trained from what the hub holds, labelled windows left out"):
            bundle = self.train()
        with show.stage("release signed, published, on trial, active, stable"):
            # An anomaly may begin right behind the training rows: shown in the table, not judged.
            self.good_release(bundle, min_predictions=TRIAL_ROWS, max_alarm_share=1.0)
        with show.stage("hub killed; the device goes on alone"):
            self.give(0.4)
            self.taken()
            self.kill_hub()
            self.give(0.55)
            self.taken()
        with show.stage("device killed in the outage, and started again"):
            self.give(0.6)
            self.kill_device()
            self.restart_device()
            self.give(0.8)
            self.taken()
        with show.stage("hub back; device and hub agree again"):
            self.hub_back()
            self.give(0.9)
            self.taken()
        with show.stage("a release that must fail its trial, rolled back"):
            self.bad_release(bundle)
            self.give(1.0)
            self.taken()
        with show.stage("the last rows acknowledged, everything stopped in order"):
            self.finish()

    def evaluation(self) -> dict[str, Any] | None:
        """Our alarms beside the two baselines; None without labels."""
        if self.labels is None:
            return None
        from edgecore.cli.evaluate import evaluate, from_export, load_windows, shown

        windows = load_windows(str(self.labels), self.path.name)
        export = self.world.evidence_dir / "device.jsonl"
        found = shown(evaluate(*from_export(str(export), self.field), windows))
        methods = {name: found.pop(name) for name in ("ours", "z_score", "random")}
        return {**found, "methods": methods}

    def leave_evidence(self) -> None:
        if self.labels is not None:
            from edgecore.cli.evaluate import load_windows

            windows = load_windows(str(self.labels), self.path.name)
            self.facts["anomalies"] = [{"start": a, "end": b} for a, b in windows]
        super().leave_evidence()


__all__ = ["CsvScenario"]
