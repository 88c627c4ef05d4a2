"""The deeds that both demos are made of, in the order in which they happen.

A scenario is what the captured stream is and how it is fed; everything else is the same: found,
train, roll out, kill the hub, kill the device, reconcile, a release that must fail, leave evidence.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from edgecore.cli.demo_world import World
from edgecore.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgecore.cli.demo_show import Show

FAMILY = "anomaly"
LINK = """
[hub]
idle = "200ms"
backoff = "100ms"
backoff_max = "500ms"
order_every = "500ms"
timeout = "5s"

[agent]
status_every = "100ms"
snapshot_every = "2s"
ingest_every = "2s"
"""
WAIT_S = 60.0


class Scenario:
    """One life of a hub and a device. Subclasses say what is captured and how it goes on."""

    name = "demo"
    stream = ""
    schema: Path  # a file: what the device's stream is

    def __init__(self, root: Path, show: Show) -> None:
        self.show = show
        self.world = World(root)
        self.facts: dict[str, Any] = {"promises": [], "anomalies": []}
        self.timings: dict[str, float] = {}
        self.cpu_s = 0.0
        self.wire_bytes = 0
        self.started = time.monotonic()

    # ------------------------------------------------------------ what subclasses say

    def source(self) -> str:
        """The [source] section of edge.toml."""
        raise NotImplementedError

    def live(self) -> None:
        raise NotImplementedError

    def train_words(self) -> list[str]:
        """What follows `edgecore model train`."""
        raise NotImplementedError

    # ------------------------------------------------------------ steps

    def found(self) -> None:
        """A hub, a releaser, a device: three directories, and the invite between them."""
        world = self.world
        hub, releaser, device = (
            str(path) for path in (world.hub_dir, world.releaser_dir, world.device_dir)
        )
        world.command("hub", "init", hub)
        key = world.command("hub", "key", hub).strip()
        world.command("release", "init", releaser, "--hub-key", key)
        world.command("hub", "publish", hub, f"{releaser}/public")
        invite = str(world.root / "device.invite")
        world.command("hub", "invite", hub, "--url", world.url, "--out", invite)
        state = f'[device]\nstate = "."\nname = "{self.name}"\nevidence = "{world.evidence_dir}"\n'
        config = world.device_dir / "edge.toml"
        config.write_text(state + self.source() + LINK)
        world.hub.start()
        world.wait_hub()
        world.command("device", "init", device, "--invite", invite)
        world.device.start()

    def release(self, version: int, bundle: Path, **limits: float) -> str:
        """Creates, signs, publishes and orders a release; returns its digest."""
        world = self.world
        here = ["--schema", str(self.schema)]
        words = ["release", "create", str(world.releaser_dir), str(bundle), *here]
        words += ["--name", FAMILY, "--version", str(version)]
        for name, value in limits.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        if version > 1:
            words += ["--rollback", *(str(older) for older in range(1, version))]
        world.command(*words)
        words = ["release", "sign", str(world.releaser_dir), *here, "--json"]
        signed = json.loads(world.command(*words))
        world.command("hub", "publish", str(world.hub_dir), str(world.releaser_dir / "public"))
        world.command("hub", "order", str(world.hub_dir), FAMILY, str(version))
        digest = signed["signed"][-1]["digest"]
        assert isinstance(digest, str)
        return digest

    def train(self) -> Path:
        """Trains on what the hub holds; returns the bundle."""
        bundle = self.world.root / "bundle"
        start = time.monotonic()
        self.world.command("model", "train", *self.train_words(), "--out", str(bundle))
        self.timings["train_s"] = time.monotonic() - start
        return bundle

    def spoil(self, bundle: Path) -> Path:
        """The same model under a verdict that calls everything an alarm."""
        from edgecore._core import verdict

        bad = self.world.root / "bundle-bad"
        shutil.copytree(bundle, bad)
        spec = {"window": 8, "warmup": 1, "factor_permille": 1, "enter_count": 1, "exit_count": 1}
        (bad / "verdict.cbor").write_bytes(verdict.VerdictSpec(**spec).to_bytes())
        return bad

    def wait(
        self, what: str, reached: Callable[[dict[str, Any]], bool], timeout_s: float = WAIT_S
    ) -> dict[str, Any]:
        return self.world.wait_device(what, reached, timeout_s)

    def kill_hub(self) -> None:
        self.facts["outage_positions"] = [self.position(), 0]
        self.world.hub.kill()

    def kill_device(self) -> None:
        """SIGKILL; what the device had called durable before is held against it."""
        status = self.world.status()
        promise = {"when": "SIGKILL of the device", "durable_position": 0}
        promise["durable_position"] = int(status["log"]["durable_position"])
        self.account()
        self.facts["promises"].append(promise)
        self.world.device.kill()

    def restart_device(self) -> None:
        """Back to work: until it has captured again."""
        start = time.monotonic()
        before = int(self.world.status()["log"]["position"])
        pid = self.world.device.pid
        self.world.device.start()
        self.wait(
            "the device to capture again",
            lambda status: status["pid"] != pid and int(status["log"]["position"]) > before,
        )
        self.timings["recover_s"] = time.monotonic() - start

    def hub_back(self) -> None:
        """The hub returns; until nothing of what was captured meanwhile waits."""
        start = time.monotonic()
        upto = self.position()
        self.facts["outage_positions"][1] = upto
        self.world.hub.start()
        self.world.wait_hub()
        self.wait("device and hub to agree", lambda status: self._agreed(status, upto))
        self.timings["reconcile_s"] = time.monotonic() - start

    def _agreed(self, status: dict[str, Any], upto: int) -> bool:
        return bool(status["link"]["connected"] and int(status["log"]["unacked"]) < 50)

    def bad_release(self, bundle: Path) -> None:
        digest = self.release(2, self.spoil(bundle), min_predictions=30, max_alarm_share=0.2)
        self.facts["bad_release"] = digest
        self.keep_going(
            lambda status: (
                status["release"]["trial"] is None
                and any(
                    edge["digest"] == digest and edge["edge"] == "rolled_back"
                    for edge in status["release"]["edges"]
                )
            ),
            "the bad release to be rolled back",
        )
        served = int(self.world.status()["predictions"]["served"]) + 20
        self.keep_going(
            lambda status: int(status["predictions"]["served"]) >= served,
            "the good release to go on serving",
        )

    def keep_going(self, reached: Callable[[dict[str, Any]], bool], what: str) -> None:
        """Waits while capture goes on; a fed source feeds meanwhile."""
        self.wait(what, reached)

    def finish(self) -> None:
        """Stops in order, once the hub has all."""
        self.wait("the last rows to be acknowledged", lambda s: int(s["log"]["unacked"]) < 50)
        self.account()
        self.world.device.stop()

    def position(self) -> int:
        return int(self.world.status()["log"]["position"])

    def account(self) -> None:
        """Adds the running device's processor time and bytes on the wire to the sums."""
        link = self.world.status()["link"]
        self.wire_bytes += int(link["sent"]) + int(link["received"])
        pid = self.world.device.pid
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            raise Unavailable(f"process {pid} has gone") from None
        self.cpu_s += (int(fields[11]) + int(fields[12])) / 100


__all__ = ["FAMILY", "Scenario"]
