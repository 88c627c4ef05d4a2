"""Devices and hubs as real processes: kills that nobody sees coming, and what the command says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgecore.cli.demo_world import free_port
from edgecore.cli.main import main
from edgecore.device import status
from edgecore.fs import PosixFs
from edgecore.log import Log

WAIT_S = 60.0


class Yard:
    """A hub and one device under a directory, started and killed as processes."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        self.children: list[subprocess.Popen[bytes]] = []
        assert self.edgecore("hub", "init", str(root / "hub")) == 0
        url = f"http://127.0.0.1:{self.port}"
        invite = ["hub", "invite", str(root / "hub"), "--url", url, "--out", str(root / "invite")]
        assert self.edgecore(*invite) == 0

    @staticmethod
    def edgecore(*words: str) -> int:
        return main(list(words))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.root / f"{words[0]}.log").open("ab") as out:
            child = subprocess.Popen(
                [sys.executable, "-m", "edgecore.cli", *words], stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        self.children.append(child)
        return child

    def hub(self) -> subprocess.Popen[bytes]:
        child = self.start("hub", "serve", str(self.root / "hub"), "--port", str(self.port))
        self.until(self.answers)
        return child

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def device(self) -> subprocess.Popen[bytes]:
        return self.start("device", "run", str(self.root / "device" / "edge.toml"))

    def report(self) -> dict[str, Any]:
        try:
            return status.read(PosixFs(), str(self.root / "device"))
        except Exception:
            return {}

    def until(self, reached: Callable[[], Any]) -> Any:
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            found = reached()
            if found:
                return found
            time.sleep(0.05)
        said = [(path.name, path.read_text()[-2000:]) for path in self.root.glob("*.log")]
        raise AssertionError(f"{self.report()}\n{said}")

    def kill(self, child: subprocess.Popen[bytes]) -> None:
        child.send_signal(signal.SIGKILL)
        child.wait()

    def end(self) -> None:
        for child in self.children:
            if child.poll() is None:
                self.kill(child)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    made.end()


def test_device_process_killed_in_an_outage_loses_nothing_promised(yard: Yard) -> None:
    hub = yard.hub()
    words = ["--invite", str(yard.root / "invite"), "--name", "board"]
    assert yard.edgecore("device", "init", str(yard.root / "device"), *words) == 0
    config = yard.root / "device" / "edge.toml"
    config.write_text(config.read_text().replace('"60s"', '"1s"').replace('"100ms"', '"50ms"'))
    device = yard.device()
    yard.until(lambda: yard.report().get("link", {}).get("connected"))
    yard.until(lambda: yard.report()["log"]["partitions"][-1]["acked"] > 5)
    yard.kill(hub)
    yard.until(lambda: not yard.report()["link"]["connected"])
    before = yard.report()["source"]["accepted"]
    promised = yard.until(
        lambda: yard.report()["source"]["accepted"] > before + 10 and yard.report()
    )["log"]["durable_position"]
    yard.kill(device)
    with Log.open(yard.root / "device" / "log", read_only=True) as log:
        kept = [s.position + i for s in log.scan("host") for i in range(s.count)]
        assert max(kept) >= promised - 50
        assert log.position >= promised
    pid = device.pid
    device = yard.device()
    yard.until(lambda: yard.report()["pid"] != pid)
    assert yard.report()["log"]["position"] >= promised
    yard.hub()
    yard.until(lambda: yard.report()["link"]["connected"])
    device.send_signal(signal.SIGTERM)
    assert device.wait(20) == 0
    report = yard.report()
    assert report["state"] == "stopped"
    assert report["log"]["unacked"] == 0  # the hub was there: the last rows went out
    assert report["log"]["durable_position"] == report["log"]["position"]
    with Log.open(yard.root / "device" / "log", read_only=True) as log:
        assert log.recovery.clean
        times = [row["time"] for s in log.scan("host") for row in s.rows()]
    assert len(times) == len(set(times))


def test_device_process_csv_restarts_by_line_and_reaches_the_hub_once(yard: Yard) -> None:
    rows = [f"2024-03-01 00:{n // 60:02}:{n % 60:02},{n}.5" for n in range(600)]
    (yard.root / "p.csv").write_text("at,v\n" + "\n".join(rows) + "\n")
    schema = str(yard.root / "p.toml")
    assert yard.edgecore("schema", "infer", str(yard.root / "p.csv"), "--out", schema) == 0
    init = ["--invite", str(yard.root / "invite"), "--source", "csv", "--schema", schema,
            "--csv", str(yard.root / "p.csv"), "--rows-per-second", "300"]  # fmt: skip
    assert yard.edgecore("device", "init", str(yard.root / "device"), *init) == 15
    yard.hub()
    for lines in (100, 300):
        device = yard.device()
        yard.until(lambda lines=lines: yard.report().get("source", {}).get("through", 0) > lines)
        yard.kill(device)
    device = yard.device()
    yard.until(lambda: yard.report()["source"]["finished"] and not yard.report()["log"]["unacked"])
    device.send_signal(signal.SIGTERM)
    assert device.wait(20) == 0
    for child in yard.children:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.wait(20)
    from edgecore.hub.server import Hub

    hub = Hub.open(yard.root / "hub")
    found = Counter(
        row["source_seq"] for store in hub.events.stores() for _, row in hub.rows(store, "p")
    )
    hub.close()
    assert found == dict.fromkeys(range(2, 602), 1)


def test_device_process_hub_that_never_answers_holds_up_no_reading(yard: Yard) -> None:
    with socket.create_server(("127.0.0.1", yard.port)):  # connects, and then says nothing
        settings = yard.root / "device" / "edge.toml"
        settings.parent.mkdir()
        settings.write_text('[hub]\ntimeout = "30s"\n')
        (settings.parent / "keys").mkdir()
        (settings.parent / "keys" / "invite").write_bytes((yard.root / "invite").read_bytes())
        device = yard.device()
        report = yard.until(
            lambda: yard.report().get("source", {}).get("accepted", 0) > 20 and yard.report()
        )
        assert not report["link"]["enrolled"]
        assert report["source"]["accepted"] > 5 * report["source"]["missed"]
        device.send_signal(signal.SIGTERM)
        assert device.wait(10) == 0
    with Log.open(yard.root / "device" / "log", read_only=True) as log:
        assert log.recovery.clean


@pytest.mark.parametrize(
    ("config", "code", "says"),
    [
        ("[hub]\nbakcoff = '1s'\n", 16, "bakcoff"),
        ("[source]\nkind = 'csv'\npath = 'gone.csv'\nschema = 's.toml'\n", 15, "gone.csv"),
        ("[source]\nkind = 'csv'\npath = 'p.csv'\nschema = 'gone.toml'\n", 15, "gone.toml"),
        ("[source]\nkind = 'csv'\npath = 'other.csv'\nschema = 's.toml'\n", 16, "'w'"),
        ("[log.durability]\nbulk = 'always'\n", 16, "always"),
    ],
)
def test_device_run_says_what_is_wrong_in_one_line(
    tmp_path: Path, config: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edge.toml").write_text(config)
    (tmp_path / "s.toml").write_text(
        "stream = 'p'\n[csv]\ntime = 'at'\n[[field]]\nname = 'v'\ndtype = 'decimal(1)'\n"
    )
    (tmp_path / "p.csv").write_text("at,v\n")
    (tmp_path / "other.csv").write_text("at,v,w\n")
    assert main(["device", "run", str(tmp_path / "edge.toml")]) == code
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_device_init_refuses_a_hub_with_another_key_and_names_a_busy_port(
    yard: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgecore.trust.keys import Ed25519Signer
    from edgecore.wire import cbor

    yard.hub()
    body = cbor.decode((yard.root / "invite").read_bytes())
    body["hub_key"] = Ed25519Signer(bytes(32)).public
    (yard.root / "forged").write_bytes(cbor.encode(body))
    words = ["device", "init", str(yard.root / "d2"), "--invite", str(yard.root / "forged")]
    assert yard.edgecore(*words) == 13
    assert capsys.readouterr().err.startswith("Untrusted: ")
    (yard.root / "broken").write_bytes(b"no invite")
    words = ["device", "init", str(yard.root / "d3"), "--invite", str(yard.root / "broken")]
    assert yard.edgecore(*words) == 12
    busy = ["hub", "serve", str(yard.root / "hub"), "--port", str(yard.port)]
    capsys.readouterr()
    assert yard.edgecore(*busy) == 15
    assert f"port {yard.port} is in use" in capsys.readouterr().err


def test_device_status_prints_what_an_operator_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edge.toml").write_text("")
    assert main(["device", "status", str(tmp_path)]) == 15
    from edgecore.device.agent import Device

    with Device.open(str(tmp_path / "edge.toml")) as device:
        for _ in range(3):
            deadline = device.poll(time.monotonic_ns())
            time.sleep(max(0, deadline - time.monotonic_ns()) / 1e9)
    capsys.readouterr()
    assert main(["device", "status", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "not enrolled" in said
    assert "release   none" in said
    assert "host host: " in said
    assert main(["device", "status", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"
