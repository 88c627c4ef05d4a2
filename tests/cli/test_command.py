"""The `edgecore` command as an operator meets it: as a process, by its lines and exit codes."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecore import Field, Log, Schema, errors
from edgecore.cli import main as command
from edgecore.device.enrol import enrol
from edgecore.device.transport import HttpTransport
from edgecore.fs import PosixFs

TELEMETRY = Schema("telemetry", tier="bulk", fields=[Field("temp", "decimal(2)")])


def edgecore(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "edgecore.cli", *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def refused(word: str, *words: object, says: str = "") -> str:
    """Runs a command that must fail with one line of that outcome word; gives the line."""
    kind = getattr(errors, word)
    line = edgecore(*words, code=kind.exit_code).stderr
    assert line.startswith(f"{word}: "), line
    assert line.count("\n") == 1, line
    assert says in line, line
    return line


def leaves() -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Every command that stands, with its parser."""

    def walk(words: tuple[str, ...], parser: argparse.ArgumentParser) -> Iterator[object]:
        groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not groups:
            yield words, parser
        for group in groups:
            for name, child in group.choices.items():
                yield from walk((*words, name), child)

    for name, home in command.HOMES.items():
        try:
            module = importlib.import_module(home)
        except ModuleNotFoundError:
            continue
        parser = argparse.ArgumentParser(prog="edgecore")
        module.register(parser.add_subparsers())
        for words, leaf in walk((), parser):  # type: ignore[misc]
            if words[0] == name:
                yield words, leaf


LEAVES = dict(leaves())


def ids(words: tuple[str, ...]) -> str:
    return "-".join(words)


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    with Log.open(str(tmp_path / "log"), schemas=[TELEMETRY], flusher="manual") as log:
        for i in range(50):
            log.append("telemetry", {"time": 1000 + i, "temp": 20 + i / 100})
        log.sync()
    return tmp_path / "log"


@pytest.fixture
def hub_dir(tmp_path: Path) -> Path:
    edgecore("hub", "init", tmp_path / "hub")
    return tmp_path / "hub"


# ---------------------------------------------------------------- what holds for every command


@pytest.mark.parametrize("words", LEAVES, ids=ids)
def test_command_takes_json_and_explains_itself(words: tuple[str, ...]) -> None:
    parser = LEAVES[words]
    assert "--json" in parser._option_string_actions
    text = parser.format_help()
    assert text.startswith("usage:")
    assert all(action.help or action.metavar or action.option_strings for action in parser._actions)


@pytest.mark.parametrize("name", sorted({words[0] for words in LEAVES}))
def test_command_help_is_usage_and_an_unknown_word_is_exit_2(name: str) -> None:
    assert edgecore(name, "--help").stdout.startswith(f"usage: edgecore {name}")
    done = edgecore(name, "--no-such-option", code=2)
    assert done.stderr.startswith("usage:")
    assert done.stdout == ""


def test_command_alone_lists_all_and_is_exit_2() -> None:
    done = edgecore(code=2)
    for name in command.HOMES:
        assert name in done.stdout
    assert edgecore("--help").stdout == done.stdout
    assert "no command" in edgecore("frobnicate", code=2).stderr
    assert edgecore("--version").stdout.startswith("edgecore ")


def test_command_every_outcome_has_its_exit_code() -> None:
    codes = {kind.__name__: kind.exit_code for kind in errors.OUTCOMES}
    assert codes == {
        "Stale": 10, "Incompatible": 11, "Corrupt": 12, "Untrusted": 13, "Exhausted": 14,
        "Unavailable": 15, "Invalid": 16,
    }  # fmt: skip
    for kind in errors.OUTCOMES:
        assert command.outcome(kind("why")).exit_code == kind.exit_code  # type: ignore[union-attr]
    full = command.outcome(OSError(28, "No space left on device", "there"))
    assert isinstance(full, errors.Exhausted)
    assert command.outcome(ZeroDivisionError()) is None  # a defect is a traceback


# ---------------------------------------------------------------- hub


def test_hub_init_twice_is_invalid_and_json_is_one_object(tmp_path: Path) -> None:
    made = json.loads(edgecore("hub", "init", tmp_path / "h", "--json").stdout)
    assert made["key"] == edgecore("hub", "key", tmp_path / "h").stdout.strip()
    refused("Invalid", "hub", "init", tmp_path / "h", says="already")


@pytest.mark.parametrize("words", [("serve",), ("invite",), ("export",), ("key",)])
def test_hub_command_without_a_hub_is_invalid_and_says_what_to_do(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    refused("Invalid", "hub", *words, tmp_path, says="run `edgecore hub init")
    assert list(tmp_path.iterdir()) == []


def test_hub_in_a_place_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    refused("Unavailable", "hub", "init", tmp_path / "f", says=str(tmp_path / "f"))


def test_hub_key_file_that_is_damaged_is_corrupt(hub_dir: Path) -> None:
    (hub_dir / "keys" / "online.key").write_text("nothing")
    refused("Corrupt", "hub", "serve", hub_dir, "--port", 0, says="key file")


def test_hub_invite_goes_to_a_file_once(hub_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "invite"
    edgecore("hub", "invite", hub_dir, "--url", "http://h:1", "--out", out)
    assert out.stat().st_mode & 0o777 == 0o600
    refused("Invalid", "hub", "invite", hub_dir, "--out", out, says="exists")
    refused("Corrupt", "hub", "invite", hub_dir, "--url", "ftp://h", says="http")


class Serving:
    """`edgecore hub serve` on a free port, until :meth:`stop`."""

    def __init__(self, directory: Path) -> None:
        words = ["hub", "serve", str(directory), "--port", "0", "--json"]
        self.child = subprocess.Popen(
            [sys.executable, "-m", "edgecore.cli", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.child.stdout is not None
        self.port = json.loads(self.child.stdout.readline())["port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.child.send_signal(number)
        _, text = self.child.communicate(timeout=20)
        return self.child.returncode, text


@pytest.fixture
def serving(hub_dir: Path) -> Iterator[Serving]:
    hub = Serving(hub_dir)
    yield hub
    if hub.child.poll() is None:
        hub.child.kill()
        hub.child.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_hub_serves_until_a_signal_and_ends_in_order(serving: Serving, number: int) -> None:
    with urllib.request.urlopen(f"{serving.url}/healthz", timeout=10) as answer:
        assert answer.read() == b"ok\n"
    assert serving.stop(number) == (0, "")


def test_hub_busy_port_or_directory_is_unavailable(
    serving: Serving, hub_dir: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    edgecore("hub", "init", other)
    refused("Unavailable", "hub", "serve", other, "--port", serving.port, says="is in use")
    refused("Unavailable", "hub", "serve", hub_dir, "--port", 0, says="another process")
    refused("Unavailable", "hub", "export", hub_dir, says="another process")
    with urllib.request.urlopen(f"{serving.url}/healthz", timeout=10) as answer:
        assert answer.read() == b"ok\n"


def test_hub_invites_and_enrols_while_it_serves(
    serving: Serving, hub_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "invite"
    edgecore("hub", "invite", hub_dir, "--url", serving.url, "--out", out)
    fs = PosixFs()
    fs.make_directories(str(tmp_path / "device"))
    link = HttpTransport(serving.url)
    identity = enrol(fs, str(tmp_path / "device"), out.read_bytes(), link, os.urandom)
    link.close()
    assert identity.invite.url == serving.url


def test_hub_survives_requests_that_are_cut_short_or_too_long(serving: Serving) -> None:
    head = b"POST /v1/ingest HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n"
    for data in (head + b"x" * 10, b"\x16\x03\x01 not HTTP\r\n\r\n", head[:30], b""):
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as link:
            link.sendall(data)
    with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as link:
        link.sendall(b"POST /v1/ingest HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n")
        link.sendall(b"x" * 1_100_000)
        assert link.recv(100).startswith(b"HTTP/1.1 413 ")
    with urllib.request.urlopen(f"{serving.url}/healthz", timeout=10) as answer:
        assert answer.read() == b"ok\n"
    assert serving.stop()[0] == 0


def test_hub_export_of_a_new_hub_is_empty(hub_dir: Path) -> None:
    assert edgecore("hub", "export", hub_dir).stdout == ""


# ---------------------------------------------------------------- log


def test_log_inspect_verify_export_of_a_whole_log(log_dir: Path) -> None:
    assert "telemetry" in edgecore("log", "inspect", log_dir).stdout
    facts = json.loads(edgecore("log", "inspect", log_dir, "--json").stdout)
    assert {item["stream"] for item in facts["partitions"]} >= {"telemetry", "edgecore.schemas"}
    assert json.loads(edgecore("log", "verify", log_dir, "--json").stdout)["lost"] == []
    lines = edgecore("log", "export", log_dir, "--stream", "telemetry").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["values"]["temp"] for row in rows] == [f"20.{i:02}" for i in range(50)]


def test_log_export_into_a_closed_pipe_ends_quietly(log_dir: Path) -> None:
    words = [sys.executable, "-m", "edgecore.cli", "log", "export", str(log_dir)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(20) == 0


@pytest.mark.parametrize("name", ["inspect", "verify", "export"])
def test_log_command_where_there_is_no_log_is_one_line(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgecore.cli", "log", name, str(tmp_path / "none")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (15, 16)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_log_verify_of_a_damaged_log_is_corrupt_and_the_rest_is_read(log_dir: Path) -> None:
    segment = max((path for path in log_dir.rglob("*.log")), default=None, key=os.path.getsize)
    segment = segment or max((p for p in log_dir.iterdir() if p.is_file()), key=os.path.getsize)
    data = bytearray(segment.read_bytes())
    # The first stored temperature, 20.00, as its grid integer behind a presence byte.
    data[data.index(b"\x01" + (2000).to_bytes(8, "little")) + 1] ^= 0x40
    segment.write_bytes(bytes(data))
    before = segment.read_bytes()
    refused("Corrupt", "log", "verify", log_dir, says="lost")
    assert segment.read_bytes() == before
    edgecore("log", "inspect", log_dir)


# ---------------------------------------------------------------- schema


def test_schema_infer_proposes_once_and_names_what_it_can_not_read(tmp_path: Path) -> None:
    file = tmp_path / "pump.csv"
    file.write_text("time,temp\n" + "".join(f"2026-01-01T00:0{i}:00Z,{i}.5\n" for i in range(9)))
    assert "temp" in edgecore("schema", "infer", file).stdout
    assert json.loads(edgecore("schema", "infer", file, "--json").stdout)["rows"] == 9
    refused("Unavailable", "schema", "infer", tmp_path / "gone.csv", says="gone.csv")
    (tmp_path / "empty.csv").write_text("")
    refused("Invalid", "schema", "infer", tmp_path / "empty.csv", says="empty.csv")
    refused("Invalid", "schema", "infer", file, "--as", "temp", says="COLUMN=DTYPE")
