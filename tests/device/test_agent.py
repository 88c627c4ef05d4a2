"""A whole device and a whole hub in one process, stepped by a clock that a test holds: outages,
crashes, full disks and portals lose no event and double none."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecore.clock import ManualClock
from edgecore.device import status
from edgecore.device.agent import Device
from edgecore.errors import Invalid, Unavailable, Untrusted
from edgecore.fs import Fs, MemoryFs
from edgecore.hub.server import Hub
from edgecore.trust.keys import Ed25519Signer
from edgecore.wire import cbor

SECOND = 1_000_000_000
SCHEMA = """
stream = "pump"
[csv]
time = "at"
[[field]]
name = "temp"
dtype = "decimal(2)"
range = [-40.0, 150.0]
"""
CONFIG = """
[device]
state = "state"
name = "pump-7"
evidence = "evidence"
[source]
kind = "csv"
path = "pump.csv"
schema = "pump.toml"
rows_per_second = 10.0
[hub]
backoff_max = "2s"
order_every = "1s"
"""


class Portal:
    """A transport into a hub; `fault` may lose a request, lose or replace an answer."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.sent, self.received = hub, 0, 0
        self.fault: Callable[[Callable[[], Any]], Any] = lambda answer: answer()

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Any:
        self.sent += len(body)
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        answer = self.fault(lambda: self.hub.handle(method, path, lower, body))
        self.received += len(answer[2])
        return answer


def down(answer: Callable[[], Any]) -> Any:
    raise Unavailable("no route to the hub")


class Site:
    """A hub, and a device whose disk, clock and link a test holds."""

    def __init__(self, root: Path, lines: int = 400, fs: Fs | None = None) -> None:
        self.root, self.clock = root, ManualClock(1_700_000_000 * SECOND)
        self.fs = fs or MemoryFs()
        self.rng = random.Random(7)
        Hub.init(root / "hub")
        self.hub = Hub.open(root / "hub", self.clock)
        self.link = Portal(self.hub)
        (root / "edge.toml").write_text(CONFIG)
        (root / "pump.toml").write_text(SCHEMA)
        self.write_lines(lines)
        self.invitation = self.hub.invite("http://hub", bytes(32))
        self.fs.make_directories(f"{root}/state/keys")
        self.fs.write_atomic(f"{root}/state/keys/invite", self.invitation)
        self.device: Device | None = None

    def write_lines(self, count: int) -> None:
        rows = [
            f"2024-03-01 {n // 3600:02}:{n // 60 % 60:02}:{n % 60:02},{20 + n % 50}.{n % 100:02}"
            for n in range(count)
        ]
        (self.root / "pump.csv").write_text("at,temp\n" + "\n".join(rows) + "\n")

    def open(self) -> Device:
        self.device = Device.open(
            str(self.root / "edge.toml"), clock=self.clock, fs=self.fs, transport=self.link,
            uniform=self.rng.random, entropy=os.urandom, flusher="manual",
        )  # fmt: skip
        return self.device

    def run(self, seconds: float) -> Device:
        device = self.device or self.open()
        end = self.clock.monotonic_ns() + int(seconds * SECOND)
        while (now := self.clock.monotonic_ns()) < end:
            self.clock.advance(max(1_000_000, min(device.poll(now), end) - now))
        return device

    def run_until(self, reached: Callable[[], bool], seconds: float = 600.0) -> None:
        end = self.clock.monotonic_ns() + int(seconds * SECOND)
        while not reached():
            assert self.clock.monotonic_ns() < end, self.device and self.device.status()
            self.run(0.5)

    def crash(self, seed: int) -> None:
        """The process and the power are gone: what was not synced may be, in any part."""
        assert isinstance(self.fs, MemoryFs)
        assert self.device is not None
        self.device.release()
        self.fs = self.fs.crash(seed)
        self.device = None

    def synced(self) -> bool:
        report = (self.device or self.open()).status()
        return bool(report["source"]["finished"] and report["log"]["unacked"] == 0)

    def at_hub(self, stream: str = "pump") -> list[dict[str, Any]]:
        store = self.hub.events.stores()[-1]
        return [dict(row) for _, row in self.hub.rows(store, stream)]

    def close(self) -> None:
        if self.device is not None:
            self.device.close()
        self.hub.close()
        self.hub = None  # type: ignore[assignment]


@pytest.fixture
def site(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Site(tmp_path)
    yield made
    if made.hub is not None:
        made.close()


def check_whole(site: Site, lines: int) -> None:
    """Every line of the file is at the hub once, with the file's values."""
    counts = Counter(row["source_seq"] for row in site.at_hub())
    assert counts == dict.fromkeys(range(2, lines + 2), 1)
    assert all(
        row["temp"] == ((20 + n % 50) * 100 + n % 100)
        for n, row in enumerate(sorted(site.at_hub(), key=lambda row: row["source_seq"]))
    )


def check_account(site: Site, accepted: int, rejected: int = 0) -> None:
    rows = [row for row in site.at_hub("edgecore.ingest") if row["stream"] == "pump"]
    assert sum(row["accepted"] for row in rows) == accepted
    assert sum(row["rejected"] for row in rows) == rejected


def test_agent_status_says_how_the_log_was_found(site: Site) -> None:
    report = site.run(0.5).status()

    def line(**found: Any) -> str:
        changed = {**report, "recovery": {**report["recovery"], **found}}
        return next(text for text in status.render(changed, 0) if "recovery" in text)

    assert line() == "  recovery  the log had been closed in order"
    burnt = [[1, 5, 14, "burnt"]]
    crash = line(clean=False, tail_uncertain=True, ranges=burnt)
    assert crash.startswith("  recovery  the log had ended in a crash: bytes at its end")
    assert crash.endswith("10 numbers burnt")
    rot = line(clean=False, ranges=[[2, 3, 4, "lost"], [2, 9, 9, "lost"]])
    assert rot == "  ! recovery  the log had ended in a crash: 3 rows of partition 2 lost"
    cut = line(clean=False, tail_uncertain=True, missing=7, ranges=[[1, 5, 14, "uncertain"]])
    assert "  ! recovery" in cut
    assert "7 rows lost at its end, which were durable, 10 numbers burnt" in cut


def test_agent_captures_enrols_and_synchronises(site: Site) -> None:
    device = site.run(2.0)
    report = device.status()
    assert report["link"]["connected"]
    assert report["errors"] == {}
    assert report["source"]["accepted"] == 20
    site.run_until(site.synced)
    check_whole(site, 400)
    check_account(site, 400)
    written = status.read(site.fs, f"{site.root}/state")
    assert written["log"]["durable_position"] == written["log"]["position"] > 400
    assert written["link"]["sent"] > 0
    assert any("pump" in line for line in status.render(written, site.clock.wall_ns()))
    assert not any("not fit" in line for line in status.render(written, site.clock.wall_ns()))
    written["predictions"]["refused"] |= {"active": 1200, "fallback": 3}
    lines = status.render(written, site.clock.wall_ns())
    assert "    not fit 1,200 by active, 3 by fallback: features too old or missing" in lines


def test_agent_hub_outage_capture_goes_on_and_nothing_is_lost_or_doubled(site: Site) -> None:
    site.run(5.0)
    site.link.fault = down
    before = site.run(0.1).status()["source"]["accepted"]
    report = site.run(10.0).status()
    assert report["source"]["accepted"] == before + 100
    assert not report["link"]["connected"]
    assert report["errors"]["sync"] == "Unavailable: no route to the hub"
    assert report["log"]["unacked"] >= 100
    site.link.fault = lambda answer: answer()
    site.run_until(site.synced)
    check_whole(site, 400)
    assert site.device is not None
    said = site.device.notices
    assert "Unavailable: no route to the hub" in said
    assert "Ok: sync is well again" in said


def test_agent_enrolment_is_owed_until_the_hub_answers(site: Site) -> None:
    site.link.fault = down
    report = site.run(5.0).status()
    assert report["source"]["accepted"] == 50
    assert not report["link"]["enrolled"]
    assert "no route" in report["errors"]["enrol"]
    site.link.fault = lambda answer: answer()
    site.run_until(site.synced)
    check_whole(site, 400)


@pytest.mark.parametrize("attempt", range(4))
def test_agent_power_cuts_anywhere_lose_and_double_nothing(
    site: Site, seed: int, attempt: int
) -> None:
    rng = random.Random(seed + attempt)
    for _ in range(6):
        site.link.fault = rng.choice([down, lambda answer: answer()])
        site.run(rng.random() * 8)
        promised = site.run(0.01).status()["log"]["durable_position"]
        site.crash(rng.getrandbits(30))
        report = site.open().status()
        assert report["log"]["position"] >= promised
    site.link.fault = lambda answer: answer()
    site.run_until(site.synced)
    check_whole(site, 400)
    check_account(site, 400)
    site.hub.close()
    site.hub = Hub.open(site.root / "hub", site.clock)  # burnt sequences do not trouble it
    check_whole(site, 400)


def test_agent_full_disk_waits_loses_nothing_and_goes_on(tmp_path: Path) -> None:
    fs = MemoryFs()
    site = Site(tmp_path, 6000, fs)
    (tmp_path / "edge.toml").write_text(
        CONFIG.replace("second = 10", "second = 100") + "[log]\nsegment_bytes = 65536\n"
    )
    acked = site.run(5.0).status()["log"]["durable_position"]
    fs.set_capacity(0)
    report = site.run(100.0).status()
    assert [said for said in report["errors"].values() if said.startswith("Exhausted: ")]
    assert acked <= report["log"]["durable_position"] < 6000
    assert report["source"]["accepted"] < 6000
    fs.set_capacity(1 << 40)
    site.run_until(site.synced)
    assert site.device is not None
    assert site.device.status()["errors"] == {}
    check_whole(site, 6000)
    check_account(site, 6000)
    site.close()


@pytest.mark.parametrize("body", [b"", b"<html>Welcome to our hotel</html>", b"\0" * 300])
def test_agent_captive_portal_changes_nothing(site: Site, body: bytes) -> None:
    site.run(3.0)
    acked = site.run(0.1).status()["log"]["partitions"]
    site.link.fault = lambda answer: (200, {}, body)
    report = site.run(5.0).status()
    assert "captive portal" in report["errors"]["sync"]
    assert [part["acked"] for part in report["log"]["partitions"]] == [
        part["acked"] for part in acked
    ]
    site.link.fault = lambda answer: answer()
    site.run_until(site.synced)
    check_whole(site, 400)


def test_agent_hub_with_another_key_is_untrusted(site: Site) -> None:
    body = cbor.decode(site.invitation)
    body["hub_key"] = Ed25519Signer(bytes(32)).public
    site.fs.write_atomic(f"{site.root}/state/keys/invite", cbor.encode(body))
    report = site.run(3.0).status()
    assert report["errors"]["enrol"].startswith(f"{Untrusted.__name__}: ")
    assert not report["link"]["enrolled"]
    assert report["source"]["accepted"] == 30


def test_agent_refused_lines_are_counted_named_and_passed(site: Site) -> None:
    path = site.root / "pump.csv"
    text = path.read_text().replace(",21.01\n", ",boiling\n", 1).replace(",22.02\n", ",999\n", 1)
    path.write_text(text)
    site.run_until(site.synced)
    check_account(site, 398, 2)
    assert site.device is not None
    (notice,) = [said for said in site.device.notices if said.startswith("Invalid: ")]
    assert "line 3" in notice
    details = [row["detail"] for row in site.at_hub("edgecore.ingest")]
    assert any("boiling" in detail and "999" in detail for detail in details)


def test_agent_endless_line_ends_the_source_not_the_device(site: Site) -> None:
    path = site.root / "pump.csv"
    path.write_text(path.read_text() + "x" * (2 << 20))
    site.run_until(site.synced)
    check_whole(site, 400)
    assert site.device is not None
    assert "line 402 is over" in site.device.status()["errors"]["source"]


def test_agent_keeps_every_signed_answer_that_it_acted_on(site: Site) -> None:
    site.run(3.0)
    site.link.fault = lambda answer: (200, {}, b"<html>")
    site.run(2.0)
    site.close()
    data = site.fs.read_file(f"{site.root}/evidence/acks.jsonl", 1 << 24)
    lines = [json.loads(line) for line in data.splitlines()]
    assert {"/v1/hello", "/v1/ingest", "/v1/desired"} == {line["path"] for line in lines}
    assert not any(bytes.fromhex(line["body"]).startswith(b"<") for line in lines)


def test_agent_restart_in_order_burns_and_repeats_nothing(site: Site) -> None:
    site.run(5.0).close()
    site.device = None
    report = site.open().status()
    assert report["recovery"]["clean"]
    assert report["recovery"]["ranges"] == []
    site.run_until(site.synced)
    check_whole(site, 400)
    check_account(site, 400)


def test_agent_second_process_on_one_state_is_refused(site: Site) -> None:
    site.run(0.1)
    with pytest.raises(Unavailable):
        Device.open(str(site.root / "edge.toml"), clock=site.clock, fs=site.fs)


def test_agent_configuration_that_cannot_work_is_refused_at_open(site: Site) -> None:
    (site.root / "pump.csv").write_text("at,temp,extra\n")
    with pytest.raises(Invalid, match="'extra'"):
        site.open()
    (site.root / "pump.csv").unlink()
    with pytest.raises(Unavailable, match=r"pump\.csv"):
        site.open()
    (site.root / "pump.toml").write_text(SCHEMA.replace('time = "at"', ""))
    with pytest.raises(Invalid, match=r"source\.time"):
        site.open()
    site.write_lines(1)
    (site.root / "edge.toml").write_text(CONFIG.replace("[source]", '[source]\ntime = "at"'))
    site.run(1.0)
