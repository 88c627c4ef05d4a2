"""The demo on this machine's own telemetry: its anomaly is a real load, caused and timed here."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from edgecore.cli.demo_evidence import EvidenceScenario
from edgecore.device.host import HOST
from edgecore.errors import Unavailable
from edgecore.fs import write_public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from edgecore.cli.demo_show import Show

RATE_HZ = 20
LOAD_S = 6.0
CALM_S = 3.0
EVERYDAY_S = 1.0
OUTAGE_S = 3.0


class HostScenario(EvidenceScenario):
    name = "host"
    stream = "host"

    def __init__(self, root: Path, show: Show, seconds: float) -> None:
        super().__init__(root, show)
        self.seconds = seconds
        self.schema = self.world.root / "schema.cbor"
        write_public(self.schema, HOST.canonical_bytes)

    def source(self) -> str:
        return f'\n[source]\nkind = "host"\ninterval = "{1000 // RATE_HZ}ms"\n'

    def train_words(self) -> list[str]:
        return ["--hub", str(self.world.hub_dir), "--stream", self.stream]

    def live(self) -> None:
        show = self.show
        with show.stage("hub, releaser and device founded, device enrolled"):
            self.found()
        rows = int(self.seconds * RATE_HZ)
        with show.stage(f"capturing this machine {RATE_HZ} times a second, quietly"):
            self.everyday(rows)
        with show.stage("model trained from what the hub holds"):
            bundle = self.train()
        with show.stage("release signed, published, on trial, active, stable"):
            # A busy machine may alarm right after a short training: that is shown, not judged.
            self.good_release(bundle, min_predictions=30, max_alarm_share=1.0)
        with show.stage("hub killed; the device goes on alone"):
            self.kill_hub()
            time.sleep(OUTAGE_S)
        with show.stage("device killed in the outage, and started again"):
            self.kill_device()
            self.restart_device()
            time.sleep(CALM_S)
        with show.stage(f"a real load for {LOAD_S:.0f} s: processors, memory, disk"):
            self.load()
            time.sleep(CALM_S)
        with show.stage("hub back; device and hub agree again"):
            self.hub_back()
        with show.stage("a release that must fail its trial, rolled back"):
            self.bad_release(bundle)
        with show.stage("the last rows acknowledged, everything stopped in order"):
            self.finish()

    def everyday(self, rows: int) -> None:
        """Waits for so many rows. What an operator does on a quiet machine goes on meanwhile: the
        model is to know it as normal."""
        config = str(self.world.device_dir / "edge.toml")
        self.wait("the device's first report", lambda status: bool(status))
        while int(self.world.status().get("source", {}).get("accepted", 0)) < rows:
            self.world.command("device", "status", config)
            time.sleep(EVERYDAY_S)
            self.world.pause()

    def load(self) -> None:
        words = [sys.executable, "-m", "edgecore.cli.demo_load", str(LOAD_S), str(self.world.root)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            raise Unavailable(f"the load failed: {done.stderr.strip().splitlines()[-1:]}")
        span = json.loads(done.stdout)
        self.facts["anomalies"].append({"start": span["start"], "end": span["end"]})


__all__ = ["HostScenario"]
