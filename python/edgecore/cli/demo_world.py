"""The demo's world: hub and device as real processes in directories of their own, and the deeds
done to them (start, SIGKILL, wait for a state they report of themselves)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from edgecore.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

POLL_S = 0.05


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A command of ours as a child process, its output in a file beside its state."""

    def __init__(self, name: str, words: list[str], log: Path) -> None:
        self.name = name
        self.words = words
        self.log = log
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "edgecore.cli", *self.words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    @property
    def pid(self) -> int:
        return self.child.pid if self.child is not None else 0

    def running(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def kill(self) -> int:
        """SIGKILL: no handler runs, nothing is flushed. Returns the time in ns."""
        assert self.child is not None
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        return time.time_ns()

    def stop(self, timeout_s: float = 15.0) -> None:
        if self.child is None or self.child.poll() is not None:
            return
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def check(self) -> None:
        """Raises if the process ended by itself, with the last line it printed."""
        if self.child is not None and self.child.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["(no output)"]
            raise Unavailable(f"{self.name} ended with {self.child.returncode}: {lines[-1]}")


class World:
    """Directories: hub/, device/, releaser/, evidence/ under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        for name in ("hub", "device", "releaser", "evidence"):
            (root / name).mkdir(parents=True, exist_ok=True)
        hub_words = ["hub", "serve", str(self.hub_dir), "--port", str(self.port)]
        self.hub = Process("hub", hub_words, root / "hub.log")
        device_words = ["device", "run", str(root / "device" / "edge.toml")]
        self.device = Process("device", device_words, root / "device.log")

    @property
    def hub_dir(self) -> Path:
        return self.root / "hub"

    @property
    def device_dir(self) -> Path:
        return self.root / "device"

    @property
    def releaser_dir(self) -> Path:
        return self.root / "releaser"

    @property
    def evidence_dir(self) -> Path:
        return self.root / "evidence"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self, *words: str) -> str:
        """Runs `edgecore WORDS` to its end; returns what it printed, raises what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "edgecore.cli", *words], capture_output=True, text=True
        )
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise Unavailable(f"edgecore {' '.join(words[:2])}: {''.join(said)}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        """The device's last report of itself; empty before the first."""
        path = self.device_dir / "status.json"
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        assert isinstance(found, dict)
        return found

    def wait_hub(self, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.hub.check()
            with socket.socket() as probe:
                probe.settimeout(0.2)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(POLL_S)
        raise Unavailable(f"the hub did not answer within {timeout_s:.0f} s")

    def wait_device(
        self, what: str, reached: Callable[[dict[str, Any]], bool], timeout_s: float
    ) -> dict[str, Any]:
        """Polls the device's status until `reached`; the device must stay alive."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.device.check()
            status = self.status()
            if status and reached(status):
                return status
            time.sleep(POLL_S)
        raise Unavailable(f"waited {timeout_s:.0f} s for {what}; device says {self.status()}")

    def pause(self) -> None:
        """Between two looks at the device; it must stay alive."""
        self.device.check()
        time.sleep(POLL_S)

    def stop(self) -> None:
        self.device.stop()
        self.hub.stop()
