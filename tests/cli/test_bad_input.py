"""What a person can hand to the `edgecore` command that is wrong, and what it answers.

Each row of a table below is one bad thing, met as a person meets it: by the command as a process.
The answer is one line that begins with its outcome word and names the thing, and that word's exit
code; what can be passed over (one line of a file, a hub that is none) is said and the device goes
on. Where a device was running, the test ends by showing that the hub holds each of its events once.

What stands elsewhere, from below the command: tests/device/test_csv.py (every kind of bad line),
tests/hub/test_hub_bad_input.py (hostile requests), tests/log/test_log.py (any flipped byte, any
length of a segment), tests/trust (metadata and manifests), cpp/tests (crash images, damaged models
and artifacts).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgecore import errors
from edgecore.wire import cbor

HEAD = "at,temp,rpm\n"
SCHEMA = """stream = "pump"
[csv]
time = "at"
[[field]]
name = "temp"
dtype = "decimal(1)"
range = [-40.0, 150.0]
required = true
[[field]]
name = "rpm"
dtype = "i32"
"""
# Everything in a hurry, so that a test need not wait.
HASTE = """
[hub]
idle = "50ms"
backoff = "50ms"
backoff_max = "100ms"
order_every = "100ms"
[log]
segment_bytes = 65536
[agent]
status_every = "50ms"
ingest_every = "200ms"
"""
WAIT_S = 40.0
KEY = "ab" * 32


def line(number: int, temp: object = "20.5", rpm: object = 900) -> str:
    return f"2024-03-01 00:{number // 60:02}:{number % 60:02},{temp},{rpm}\n"


def limited(bytes_max: int) -> Callable[[], None]:
    """For a child: no file of it may grow beyond that. As good as a full disk, for any user."""

    def apply() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, resource.RLIM_INFINITY))

    return apply


class Desk:
    """A directory in which a person works."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.children: list[subprocess.Popen[str]] = []
        self.said: dict[int, list[str]] = {}  # pid -> lines of stderr, whole once it has ended
        self.readers: dict[int, threading.Thread] = {}

    def run(self, *words: object, limit: int = -1, out: Any = subprocess.PIPE) -> tuple[int, str]:
        """(exit code, what it said on stderr) of a command that ends by itself."""
        done = subprocess.run(
            [sys.executable, "-m", "edgecore.cli", *map(str, words)], stdout=out,
            stderr=subprocess.PIPE, text=True, cwd=self.root, timeout=WAIT_S,
            preexec_fn=limited(limit) if limit >= 0 else None,
        )  # fmt: skip
        return done.returncode, done.stderr

    def must(self, *words: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "edgecore.cli", *map(str, words)], capture_output=True,
            text=True, cwd=self.root, check=True,
        )  # fmt: skip
        return done.stdout

    def refuses(self, word: str, says: str, *words: object, **how: Any) -> None:
        """The command answers with one line of that outcome and the outcome's exit code."""
        code, said = self.run(*words, **how)
        assert (code, said.count("\n")) == (getattr(errors, word).exit_code, 1), said
        assert said.startswith(f"{word}: "), said
        assert says in said, said
        assert len(said) < 400, said

    def start(self, *words: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "edgecore.cli", *map(str, words)], cwd=self.root,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.children.append(child)
        lines = self.said[child.pid] = []
        reader = threading.Thread(target=lambda: lines.extend(child.stderr or ()), daemon=True)
        reader.start()
        self.readers[child.pid] = reader
        return child

    def end(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
            self.wait(child)
            for pipe in (child.stdout, child.stderr):
                assert pipe is not None
                pipe.close()

    # ------------------------------------------------------------ a device that reads a file

    def write(self, rows: str, schema: str = SCHEMA, more: str = "") -> None:
        """`pump.csv`, its schema, and a device without a hub that reads it."""
        (self.root / "pump.csv").write_text(rows)
        (self.root / "pump.toml").write_text(schema)
        source = '[source]\nkind = "csv"\npath = "pump.csv"\nschema = "pump.toml"\n'
        (self.root / "edge.toml").write_text(source + HASTE + more)

    def status(self) -> dict[str, Any]:
        try:
            report = json.loads((self.root / "status.json").read_text())
        except (OSError, ValueError):
            return {}
        return dict(report)

    def until(self, reached: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first report of the device that fulfils it."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            report = self.status()
            if report and reached(report):
                return report
            time.sleep(0.03)
        raise AssertionError(f"{self.status()}\n{self.said}")

    def live(self, reached: Callable[[dict[str, Any]], Any]) -> tuple[dict[str, Any], list[str]]:
        """Runs the device until then and stops it in order: its report, what it said."""
        device = self.start("device", "run", "edge.toml")
        self.until(lambda report: report["pid"] == device.pid and reached(report))
        assert self.stop(device) == 0
        return self.status(), self.said[device.pid]

    def stop(self, child: subprocess.Popen[str]) -> int:
        child.send_signal(signal.SIGTERM)
        return self.wait(child)

    def wait(self, child: subprocess.Popen[str]) -> int:
        code = child.wait(20)
        self.readers[child.pid].join(20)
        return code

    # ------------------------------------------------------------ a hub beside it

    def hub(self, port: int = 0) -> tuple[subprocess.Popen[str], int]:
        child = self.start("hub", "serve", "hub", "--port", port, "--json")
        assert child.stdout is not None
        return child, json.loads(child.stdout.readline())["port"]

    def enrol(self, port: int) -> None:
        self.must("hub", "invite", "hub", "--url", f"http://127.0.0.1:{port}", "--out", "invite")
        (self.root / "keys").mkdir()
        (self.root / "keys" / "invite").write_bytes((self.root / "invite").read_bytes())

    def lines_at_hub(self) -> Counter[int]:
        """How often the hub, which must not be serving, holds each line of the file."""
        events = map(json.loads, self.must("hub", "export", "hub").splitlines())
        return Counter(
            event["source_seq"] for event in events if event.get("stream") == "pump"
        )  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.end()


# ---------------------------------------------------------------- one line of a file

LINES = [  # what, the line, what is said of it; all but the last two are refused
    ("a missing required value", line(2, temp=""), "'temp'"),
    ("a missing cell", "2024-03-01 00:00:02,20.5\n", "2 cells, the header has 3"),
    ("a value that is no number", line(2, temp="boiling"), "'temp'"),
    ("a value out of range", line(2, temp=150.1), "'temp'"),
    ("a value its type cannot hold", line(2, rpm=3_000_000_000), "'rpm'"),
    ("a time that is none", "yesterday,20.5,900\n", "'yesterday' is no time"),
    ("bytes that are no text", "2024-03-01 00:00:02,\0\x01,900\n", "'temp'"),
]


@pytest.mark.parametrize(("bad", "says"), [row[1:] for row in LINES], ids=[r[0] for r in LINES])
def test_bad_line_is_named_refused_and_counted_and_the_rest_is_logged(
    desk: Desk, bad: str, says: str
) -> None:
    desk.write(HEAD + line(1) + bad + line(3))
    report, said = desk.live(lambda report: report["source"]["finished"])
    (notice,) = [text for text in said if text.startswith("Invalid: ")]
    assert "pump.csv: line 3: " in notice
    assert says in notice
    source = report["source"]
    assert (source["accepted"], source["rejected"], source["through"]) == (2, 1, 4)
    events = map(json.loads, desk.must("log", "export", "log").splitlines())
    by_stream: dict[str, list[Any]] = {}
    for event in events:
        by_stream.setdefault(event["stream"], []).append(event)
    assert [event["source_seq"] for event in by_stream["pump"]] == [2, 4]
    assert says in " ".join(row["values"]["detail"] for row in by_stream["edgecore.ingest"])


def test_bad_line_off_its_grid_or_backwards_in_time_is_logged_and_counted(desk: Desk) -> None:
    desk.write(HEAD + line(9) + line(3, temp=20.25) + line(10, rpm=""))
    report, said = desk.live(lambda report: report["source"]["finished"])
    assert not [text for text in said if text.startswith("Invalid: ")]
    source = report["source"]
    assert [source[name] for name in ("accepted", "rejected", "off_grid", "late")] == [3, 0, 1, 1]
    text = desk.must("device", "status", ".")
    assert "3 accepted, 0 refused, 1 rounded, 1 late" in text


# ---------------------------------------------------------------- a file or an order as a whole

WHOLE = [  # what, how the world is, outcome, what is said, the command
    ("an unknown column", "csv:at,temp,rpm,extra", "Invalid", "'extra'", "device run edge.toml"),
    ("a column that is not there", "csv:at,temp", "Invalid", "'rpm'", "device run edge.toml"),
    ("an empty file", "csv:", "Invalid", "empty", "device run edge.toml"),
    ("no file", "gone:pump.csv", "Unavailable", "pump.csv", "device run edge.toml"),
    ("a directory as file", "dir:pump.csv", "Unavailable", "pump.csv", "device run edge.toml"),
    ("no schema", "gone:pump.toml", "Unavailable", "pump.toml", "device run edge.toml"),
    ("a schema that is none", "toml:= 7", "Invalid", "pump.toml", "device run edge.toml"),
    ("a system's stream", "toml:" + SCHEMA.replace('"pump"', '"edgecore.mine"'), "Invalid",
     "the system's", "device run edge.toml"),
    ("an unknown key", "more:[hbu]\n", "Invalid", "'hbu'", "device run edge.toml"),
    ("a pace that is none", "pace:inf", "Invalid", "rows_per_second", "device run edge.toml"),
    ("no configuration", "gone:edge.toml", "Unavailable", "edge.toml", "device run edge.toml"),
    ("no table", "csv:", "Invalid", "empty", "schema infer pump.csv"),
    ("no log", "", "Unavailable", "none", "log verify none"),
    ("no stream", "log:", "Invalid", "'pumps'", "log export log --stream pumps"),
    ("a position that is none", "log:", "Invalid", "--after -5", "log export log --after -5"),
    ("an invite that is none", "csv:at", "Corrupt", "", "device init d --invite pump.csv"),
    ("a name too long", "csv:at", "Invalid", "device.name",
     "device init d --invite pump.csv --name " + "x" * 65),
    ("a manifest that is none", "csv:at", "Corrupt", "manifest", "model inspect pump.csv"),
    ("a port that is none", "hub:", "Invalid", "--port 70000", "hub serve hub --port 70000"),
    ("a host that is none", "hub:", "Corrupt", "hub URL", "hub invite hub --url http://a:b:c"),
    ("a key that is none", "", "Invalid", "hexadecimal", "release init r --hub-key zz"),
    ("no release", "hub:", "Invalid", "not published", "hub order hub anomaly 1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("world", "word", "says", "command"), [row[1:] for row in WHOLE], ids=[r[0] for r in WHOLE]
)
def test_bad_file_or_order_is_one_line_and_its_exit_code(
    desk: Desk, world: str, word: str, says: str, command: str
) -> None:
    what, _, value = world.partition(":")
    rows = value + "\n" if what == "csv" and value else "" if what == "csv" else HEAD + line(1)
    schema = value if what == "toml" else SCHEMA
    more = value if what == "more" else ""
    desk.write(rows, schema, more)
    if what == "pace":
        path = desk.root / "edge.toml"
        path.write_text(path.read_text().replace("[hub]", f"rows_per_second = {value}\n[hub]", 1))
    if what in ("gone", "dir"):
        (desk.root / value).unlink()
    if what == "dir":
        (desk.root / value).mkdir()
    if what == "log":
        desk.live(lambda report: report["source"]["finished"])
    if what == "hub":
        desk.must("hub", "init", "hub")
    desk.refuses(word, says, *command.split())


def test_bad_option_of_device_init_is_not_kept(desk: Desk) -> None:
    desk.must("hub", "init", "hub")
    desk.must("hub", "invite", "hub", "--out", "invite")
    words = ("device", "init", "d", "--invite", "invite")
    desk.refuses("Invalid", "device.name", *words, "--name", "x" * 65)
    desk.refuses("Unavailable", "the device is made", *words, "--name", "x" * 64)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_bad_file_that_may_not_be_read_is_unavailable(desk: Desk) -> None:
    desk.write(HEAD + line(1))
    (desk.root / "pump.csv").chmod(0)
    desk.refuses("Unavailable", "pump.csv", "device", "run", "edge.toml")
    desk.refuses("Unavailable", "pump.csv", "schema", "infer", "pump.csv")


def test_bad_port_that_is_taken_and_key_that_is_wrong_are_named(desk: Desk) -> None:
    desk.must("hub", "init", "hub")
    desk.must("hub", "init", "other")
    hub, port = desk.hub()
    desk.refuses("Unavailable", f"port {port} is in use", "hub", "serve", "other", "--port", port)
    desk.must("hub", "invite", "hub", "--url", f"http://127.0.0.1:{port}", "--out", "invite")
    body = cbor.decode((desk.root / "invite").read_bytes())
    body["hub_key"] = bytes.fromhex(desk.must("hub", "key", "other").strip())
    (desk.root / "wrong").write_bytes(cbor.encode(body))
    desk.refuses("Untrusted", "", "device", "init", "d", "--invite", "wrong")
    # Nothing was believed: the right invite still enrols the same device.
    desk.must("device", "init", "d", "--invite", "invite")
    desk.stop(hub)


# ---------------------------------------------------------------- a full disk


FULL = [  # command, bytes that a file may have
    ("log export log --out copy", 100),
    ("device init d --invite invite", 50),
    ("hub init other", 0),
    ("release init r --hub-key " + KEY, 40),
    ("schema infer pump.csv --out new.toml", 0),
]


@pytest.mark.parametrize(("command", "limit"), FULL, ids=[row[0].split(" --")[0] for row in FULL])
def test_bad_disk_full_is_exhausted_and_the_same_command_then_succeeds(
    desk: Desk, command: str, limit: int
) -> None:
    desk.write(HEAD + "".join(line(n) for n in range(1, 20)))
    desk.live(lambda report: report["source"]["finished"])
    desk.must("hub", "init", "hub")
    desk.must("hub", "invite", "hub", "--out", "invite")
    words = command.split()
    if command.startswith("hub init"):  # SQLite's own word for a file that may not grow
        code, said = desk.run(*words, limit=limit)
        assert (code, said.count("\n")) == (15, 1)
    else:
        desk.refuses("Exhausted", "", *words, limit=limit)
    code, said = desk.run(*words)
    assert code in (0, errors.Unavailable.exit_code), said  # 15: this device's hub is not there
    assert "Exhausted" not in said


def test_bad_output_that_is_full_is_exhausted(desk: Desk) -> None:
    desk.write(HEAD + line(1))
    desk.live(lambda report: report["source"]["finished"])
    with Path("/dev/full").open("w") as full:
        desk.refuses("Exhausted", "No space", "log", "export", "log", out=full)
        desk.refuses("Exhausted", "No space", "device", "status", ".", out=full)
        for words in (("--help",), ("--version",), ("log", "--help"), ("log", "export", "--help")):
            desk.refuses("Exhausted", "No space", *words, out=full)


def test_bad_disk_that_fills_under_a_device_costs_no_event(desk: Desk) -> None:
    desk.must("hub", "init", "hub")
    hub, port = desk.hub()
    desk.write(HEAD + "".join(line(n) for n in range(1, 1001)))
    path = desk.root / "edge.toml"
    path.write_text(path.read_text().replace("[hub]", "rows_per_second = 400\n[hub]", 1))
    desk.enrol(port)
    device = desk.start("device", "run", "edge.toml")
    before = desk.until(lambda report: report["log"]["partitions"][-1]["acked"] > 50)
    # From here on no file of the device can be written.
    resource.prlimit(device.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    time.sleep(1.0)
    resource.prlimit(device.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    desk.until(lambda report: report["source"]["finished"] and not report["log"]["unacked"])
    assert desk.stop(device) == 0
    assert [text for text in desk.said[device.pid] if text.startswith("Exhausted: ")]
    after = desk.status()
    assert after["errors"] == {}
    assert after["log"]["durable_position"] > before["log"]["durable_position"]
    assert desk.stop(hub) == 0
    assert desk.lines_at_hub() == dict.fromkeys(range(2, 1002), 1)


# ---------------------------------------------------------------- a captive portal


class Portal:
    """Answers everything with one status and one page, on the hub's own port."""

    def __init__(self, port: int, status: int) -> None:
        class Page(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = b"<html>Welcome</html>" if status == 200 else b""
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server = Server(("127.0.0.1", port), Page)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize("status", [200, 204])
def test_bad_portal_enrols_nobody(desk: Desk, status: int) -> None:
    desk.must("hub", "init", "hub")
    portal = Portal(0, status)
    url = f"http://127.0.0.1:{portal.port}"
    desk.must("hub", "invite", "hub", "--url", url, "--out", "invite")
    desk.refuses("Unavailable", "portal", "device", "init", "d", "--invite", "invite")
    portal.close()
    assert not (desk.root / "d" / "keys" / "identity").exists()


@pytest.mark.parametrize("status", [200, 204])
def test_bad_portal_in_place_of_the_hub_acknowledges_nothing(desk: Desk, status: int) -> None:
    desk.must("hub", "init", "hub")
    hub, port = desk.hub()
    desk.write(HEAD + "".join(line(n) for n in range(1, 101)))
    path = desk.root / "edge.toml"
    path.write_text(path.read_text().replace("[hub]", "follow = true\n[hub]", 1))
    desk.enrol(port)
    device = desk.start("device", "run", "edge.toml")

    def acked(count: int) -> Callable[[dict[str, Any]], bool]:
        return lambda report: report["log"]["partitions"][-1]["acked"] == count

    desk.until(acked(100))
    assert desk.stop(hub) == 0
    portal = Portal(port, status)
    with (desk.root / "pump.csv").open("a") as file:
        file.write("".join(line(n) for n in range(101, 201)))
    report = desk.until(
        lambda report: (
            "captive portal" in report["errors"].get("sync", "")
            and report["log"]["partitions"][-1]["head"] == 200
        )
    )
    assert acked(100)(report)
    assert not report["link"]["connected"]
    assert "! sync     Unavailable: " in desk.must("device", "status", ".")
    portal.close()
    hub, _ = desk.hub(port)
    desk.until(acked(200))
    assert desk.stop(device) == 0
    assert desk.stop(hub) == 0
    assert desk.lines_at_hub() == dict.fromkeys(range(2, 202), 1)


# ---------------------------------------------------------------- damaged files of our own


def damaged(data: bytes, how: str, at: int) -> bytes:
    return data[:at] if how == "cut" else data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


@pytest.mark.parametrize("how", ["cut", "flip"])
def test_bad_segment_is_corrupt_and_what_was_acknowledged_is_at_the_hub(
    desk: Desk, how: str
) -> None:
    desk.must("hub", "init", "hub")
    hub, port = desk.hub()
    desk.write(HEAD + "".join(line(n) for n in range(1, 101)))
    path = desk.root / "edge.toml"
    path.write_text(path.read_text().replace("[hub]", "rows_per_second = 200\n[hub]", 1))
    desk.enrol(port)

    def idle(report: dict[str, Any]) -> bool:
        return report["source"]["finished"] and not report["log"]["unacked"]

    desk.live(idle)
    segment = next(
        path for path in sorted((desk.root / "log").glob("wal-*.seg"))
        if b"pump" in path.read_bytes()
    )  # fmt: skip
    whole = segment.read_bytes()
    # The first stored temperature: presence byte, 20.5 as tenths.
    at = whole.index(b"\x01" + (205).to_bytes(8, "little")) + 1
    segment.write_bytes(damaged(whole, how, at))
    desk.refuses("Corrupt", "lost", "log", "verify", "log")
    # The device says what it lost, goes on behind it, and the hub keeps what it acknowledged.
    with (desk.root / "pump.csv").open("a") as file:
        file.write("".join(line(n) for n in range(101, 121)))
    report, _ = desk.live(idle)
    reason = {"flip": "lost", "cut": "uncertain"}[how]
    assert [item for item in report["recovery"]["ranges"] if item[3] == reason]
    assert desk.stop(hub) == 0
    held = desk.lines_at_hub()
    assert held.keys() == set(range(2, 122))
    if how == "flip":  # of a cut log the account of the file is gone as well: it is read again
        assert set(held.values()) == {1}
