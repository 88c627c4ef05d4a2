"""Raw rows that stay on the device: what is withheld, what a hub asks for and gets, exactly, what
is gone, and that nothing waits for a hub that never asks."""

from __future__ import annotations

import json
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.device.test_agent import CONFIG, SECOND, Site, down

from edgecore.cli.hub_requests import time_ns
from edgecore.cli.main import main
from edgecore.device.raw import RANGES_MAX, RawRows, _joined
from edgecore.errors import Corrupt, Exhausted, Invalid, Untrusted
from edgecore.fs import MemoryFs
from edgecore.log import Log
from edgecore.log_values import Retention
from edgecore.schema import Field, Schema
from edgecore.trust.keys import Ed25519Signer, Ed25519Verifier
from edgecore.wire import desired
from edgecore.wire.desired import Desired, Request

MIDNIGHT = 1_709_251_200  # 2024-03-01, where the file begins
LINES = 400
HUB_SMALL = "[hub]\nenvelope_bytes = 4096"
WITHHELD = """
[hub.raw]
pump = "on_request"
[log.retention.bulk]
ttl = "48h"
[[summary]]
stream = "pump"
period = "10s"
"""


@pytest.fixture
def site(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Site(tmp_path, LINES)
    (tmp_path / "edge.toml").write_text(CONFIG + WITHHELD)
    yield made
    if made.hub is not None:
        made.close()


def ask(site: Site, low: int, high: int, stream: str = "pump", days: int = 7) -> int:
    """Of the rows of seconds (low, high] of the file."""
    device = site.hub.registry.devices()[0]
    now = site.clock.wall_ns()
    window = (MIDNIGHT + low) * SECOND, (MIDNIGHT + high) * SECOND
    number = random.randrange(1 << 48)
    return site.hub.registry.request(
        number, device, stream, window, now, now + days * 86400 * SECOND
    )


def seconds(site: Site) -> list[int]:
    return sorted(row["time"] // SECOND - MIDNIGHT for row in site.at_hub())


def fulfilled(site: Site, number: int) -> bool:
    device = site.hub.registry.devices()[0]
    stores = site.hub.registry.stores_of(device)
    return site.hub.ingest.answers.fulfilled(stores, number, site.hub.events.held)


def answered(site: Site, number: int) -> list[dict[str, Any]]:
    return [row for row in site.at_hub("edgecore.raw") if row["request"] == number]


def finished(site: Site) -> bool:
    return bool((site.device or site.open()).status()["source"]["finished"])


def test_raw_rows_stay_and_their_summaries_go(site: Site) -> None:
    site.run_until(site.synced)
    assert seconds(site) == []
    assert len(site.at_hub("pump.summary")) == LINES // 10
    report = site.run(1.0).status()["log"]
    (part,) = [part for part in report["partitions"] if part["stream"] == "pump"]
    assert (part["raw"], part["kept"], part["unacked"]) == ("on_request", LINES, 0)
    assert report["unacked"] == 0
    (rule,) = site.at_hub("edgecore.raw")
    assert (rule["stream"], rule["state"]) == ("pump", "on_request")


def test_raw_rows_that_the_hub_asks_for_come_and_no_others(site: Site) -> None:
    site.run_until(site.synced)
    first = ask(site, 100, 160)
    assert ask(site, 100, 160) == first  # once
    site.run_until(lambda: fulfilled(site, first))
    assert seconds(site) == list(range(101, 161))
    second = ask(site, 150, 170)
    site.run_until(lambda: fulfilled(site, second))
    assert seconds(site) == list(range(101, 171))
    (done,) = [row for row in answered(site, second) if row["state"] == "answered"]
    assert done["rows"] == 20
    sent = site.link.sent
    site.run(10.0)
    assert site.link.sent == sent  # nothing is repeated


def test_raw_rows_of_many_envelopes_come_whole(tmp_path: Path) -> None:
    site = Site(tmp_path, 6000)
    text = CONFIG.replace("second = 10.0", "second = 0.0").replace("[hub]", HUB_SMALL)
    (tmp_path / "edge.toml").write_text(text + WITHHELD)
    site.run_until(site.synced)
    number = ask(site, 99, 5500)
    site.run_until(lambda: fulfilled(site, number))
    assert seconds(site) == list(range(100, 5501))
    site.close()


def test_raw_many_separate_requests_are_all_held(site: Site) -> None:
    site.run_until(site.synced)
    numbers = [ask(site, n, n + 2) for n in range(0, 280, 7)]  # more than an ack names
    site.run_until(lambda: all(fulfilled(site, number) for number in numbers))
    expected = [n + more for n in range(0, 280, 7) for more in (1, 2)]
    assert seconds(site) == expected
    site.crash(3)
    site.run(10.0)
    assert seconds(site) == expected


def test_raw_requests_through_cuts_of_link_and_power_bring_each_row_once(
    site: Site, seed: int
) -> None:
    rng = random.Random(seed)
    site.run_until(lambda: finished(site))
    numbers = []
    for _ in range(5):
        low = rng.randrange(LINES - 50)
        numbers.append(ask(site, low, low + 40))
        site.link.fault = rng.choice([down, lambda answer: answer()])
        site.run(rng.random() * 3)
        site.crash(rng.randrange(1 << 30))
    site.link.fault = lambda answer: answer()
    site.run_until(lambda: all(fulfilled(site, number) for number in numbers))
    found = seconds(site)
    assert len(found) == len(set(found)), seed
    for number in numbers:
        rows = [row for row in answered(site, number) if row["state"] == "answered"]
        assert [row["rows"] for row in rows] == [40], seed


def test_raw_expired_and_cancelled_requests_bring_nothing(site: Site) -> None:
    site.run_until(site.synced)
    site.link.fault = down
    expired, cancelled = ask(site, 0, 10, days=1), ask(site, 20, 30)
    site.clock.advance(2 * 86400 * SECOND)
    site.hub.registry.cancel(cancelled)
    site.link.fault = lambda answer: answer()
    site.run(20.0)
    assert seconds(site) == []
    assert not answered(site, expired)


def test_raw_streams_that_are_kept_or_unknown_are_refused_in_so_many_words(site: Site) -> None:
    text = (site.root / "edge.toml").read_text().replace("on_request", "keep")
    (site.root / "edge.toml").write_text(text)
    site.run_until(site.synced)
    first, second = ask(site, 0, 10), ask(site, 0, 10, "pipe")
    site.run_until(lambda: fulfilled(site, first) and fulfilled(site, second))
    assert [row["state"] for row in answered(site, first)] == ["refused"]
    assert [row["state"] for row in answered(site, second)] == ["unknown"]
    assert seconds(site) == []


def test_raw_a_stream_that_is_sent_again_sends_all(site: Site) -> None:
    site.run_until(site.synced)
    number = ask(site, 100, 110)
    site.run_until(lambda: fulfilled(site, number))
    assert site.device is not None
    site.device.close()
    site.device = None
    (site.root / "edge.toml").write_text(CONFIG)
    site.run_until(site.synced)
    site.run_until(lambda: len(seconds(site)) == LINES)
    assert seconds(site) == list(range(LINES))
    site.run_until(lambda: len(site.at_hub("edgecore.raw")) > 3)
    assert site.at_hub("edgecore.raw")[-1]["state"] == "send"


def test_raw_a_tier_that_keeps_everything_is_refused(site: Site) -> None:
    for text in (
        WITHHELD.replace('ttl = "48h"', 'on_full = "refuse"'),
        WITHHELD.replace('ttl = "48h"', 'on_full = "drop oldest"'),  # of no bound
    ):
        (site.root / "edge.toml").write_text(CONFIG + text)
        with pytest.raises(Invalid, match="when its rows go"):
            site.open()
    (site.root / "edge.toml").write_text(CONFIG + WITHHELD.replace("on_request", "later"))
    with pytest.raises(Invalid, match="none of send, on_request, keep"):
        site.open()
    (site.root / "edge.toml").write_text(CONFIG + '[hub.raw]\n"edgecore.update" = "keep"\n')
    with pytest.raises(Invalid, match="system's streams"):
        site.open()


PUMP = Schema("pump", tier="bulk", fields=[Field(f"x{n}", "f64") for n in range(8)])


def test_raw_rows_that_went_are_told_of_and_the_disk_stays_bounded() -> None:
    """No hub ever asks, none acknowledges: retention lets the rows go and says which."""
    fs = MemoryFs()
    rng = random.Random(5)
    with Log.open(
        "log", schemas=[PUMP], fs=fs, flusher="manual", segment_bytes=65536,
        max_bytes=16 * 65536, retention={"bulk": Retention(on_full="drop oldest")},
    ) as log:  # fmt: skip
        for n in range(0, 40_000, 500):
            log.append("pump", [
                {"time": (n + k) * SECOND, **{f"x{i}": rng.random() for i in range(8)}}
                for k in range(500)
            ])  # fmt: skip
            log.sync()
            log.maintain()
            assert log.disk_bytes <= 16 * 65536
        raw = RawRows(log, {"pump": "on_request"})
        (partition,) = raw.withheld
        raw.take([Request(1, "pump", 9 * SECOND, 99 * SECOND, 1 << 62),
                  Request(2, "pump", 39_000 * SECOND, 39_100 * SECOND, 1 << 62)], 0)  # fmt: skip
        rows = [row for scanned in log.scan("edgecore.raw") for row in scanned.rows()]
        first = [row for row in rows if row["request"] == 1]
        assert [row["state"] for row in first] == ["gone", "answered"]
        dropped = [row for scanned in log.scan("edgecore.losses") for row in scanned.rows()]
        assert first[0]["first"] == 1
        assert first[0]["last"] == max(row["last"] for row in dropped) > 100
        assert first[1]["rows"] == 0
        second = [row for row in rows if row["request"] == 2]
        assert [row["state"] for row in second] == ["sent", "answered"]
        assert raw.wanted(partition) == [(39_002, 39_101)]
        raw.sent(partition, 39_010, 39_020)
        assert raw.wanted(partition) == [(39_002, 39_009), (39_021, 39_101)]


def test_raw_ranges_of_an_answer_are_joined_over_the_smallest_gaps() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        at, ranges = 1, []
        for _ in range(rng.randrange(1, 200)):
            at += rng.randrange(1, 50)
            end = at + rng.randrange(0, 9)
            ranges.append((at, end))
            at = end + 1
        joined = _joined(list(ranges))
        assert len(joined) == min(RANGES_MAX, len(ranges)), seed
        assert (joined[0][0], joined[-1][1]) == (ranges[0][0], ranges[-1][1])
        assert all(any(a <= low and high <= b for a, b in joined) for low, high in ranges)
        assert all(a[1] < b[0] for a, b in pairwise(joined))


def test_raw_requests_are_bound_to_their_device() -> None:
    signer = Ed25519Signer(bytes(32))
    verifier = Ed25519Verifier(signer.public)
    request = Request(7, "pump", -5, 5, 1 << 60)
    message = Desired(3, 9, requests=[request], device=b"d" * 16).encode(signer)
    found = desired.decode(message, verifier, b"d" * 16)
    assert [r.encoded() for r in found.requests] == [request.encoded()]
    with pytest.raises(Untrusted):
        desired.decode(message, verifier, b"e" * 16)
    assert Desired(3, 9).encode(signer) == Desired(3, 9, device=b"d" * 16).encode(signer)
    for low, high, expires in ((5, 5, 1), (0, 1 << 63, 1), (0, 1, -1)):
        bad = Request(7, "pump", low, high, expires)
        with pytest.raises(Corrupt):
            desired.decode(
                Desired(3, 9, requests=[bad], device=b"d" * 16).encode(signer), verifier, b"d" * 16
            )


def test_raw_a_device_is_not_asked_for_too_much_at_once(site: Site) -> None:
    site.run(1.0)
    for n in range(desired.REQUESTS_MAX):
        ask(site, n, n + 1)
    with pytest.raises(Exhausted):
        ask(site, 200, 201)


def test_raw_commands_ask_show_and_cancel(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.run_until(site.synced)
    site.clock.advance(time.time_ns() - site.clock.wall_ns())  # the commands have the real one
    where = str(site.root / "hub")
    device = site.hub.registry.devices()[0].hex()
    begin = ["hub", "request-raw", where, device[:8], "pump"]
    assert main([*begin, "--from", "2024-03-01T00:01:00", "--to", "2024-03-01T00:02:00"]) == 0
    assert "request " in capsys.readouterr().out
    assert main(["hub", "requests", where]) == 0
    assert "waiting" in capsys.readouterr().out
    asked = ["hub", "request-raw", where, device, "pump.summary", "--summary", "3", "--json"]
    assert main(asked) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["stream"], facts["to"] - facts["from"]) == ("pump", 10 * SECOND)
    site.run_until(lambda: fulfilled(site, int(facts["request"], 16)))
    site.run(3.0)
    assert main(["hub", "requests", where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["requests"]
    assert [(r["state"], r["rows"], r["lacking"], r["gone"]) for r in found] == [
        ("answered", 60, 0, 0), ("answered", 10, 0, 0),
    ]  # fmt: skip
    assert main(["hub", "requests", where, "--cancel", facts["request"]]) == 0
    assert facts["request"] not in capsys.readouterr().out
    for words in (
        [*begin, "--from", "2024-03-01", "--to", "noon"],
        [*begin, "--from", "5"],
        [*begin, "--from", "5", "--to", "5"],
        ["hub", "request-raw", where, "zz", "pump", "--from", "1", "--to", "5"],
        [*asked[:-2], "99999"],
        ["hub", "requests", where, "--cancel", "1"],
    ):
        assert main(words) == 16, words


VIEW = """
name = "pump"
entity = ""
source = "pump"
lateness = "2s"

[[features]]
field = "temp"
ops = ["count", "max"]
window = "15s"
"""
TOLD = """
[[view_summary]]
view = "view.toml"
period = "10s"
"""


def test_raw_the_window_behind_a_row_of_a_told_view_is_asked_for_and_comes(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    (site.root / "view.toml").write_text(VIEW)
    (site.root / "edge.toml").write_text(CONFIG + WITHHELD + TOLD)
    site.run_until(site.synced)
    site.run(3.0)
    site.run_until(site.synced)
    told = site.at_hub("pump.view")
    assert not site.at_hub()
    site.clock.advance(time.time_ns() - site.clock.wall_ns())  # the command has the real one
    device = site.hub.registry.devices()[0].hex()
    asked = ["hub", "request-raw", str(site.root / "hub"), device, "pump.view", "--summary", "7"]
    assert main([*asked, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    row = told[6]
    assert (facts["stream"], facts["from"], facts["to"]) == ("pump", row["start"], row["time"])
    assert row["time"] - row["start"] == 30 * SECOND  # the view's horizon
    site.run_until(lambda: fulfilled(site, int(facts["request"], 16)))
    window = [raw["temp"] / 100 for raw in site.at_hub()
              if row["time"] - 15 * SECOND < raw["time"] <= row["time"]]  # fmt: skip
    assert len(site.at_hub()) == 30
    assert (row["temp_count_15s"], row["temp_max_15s"]) == (15, max(window))


def test_raw_times_are_read_as_utc_unless_they_say() -> None:
    assert time_ns("--from", "2024-03-01T00:00:00.000001") == MIDNIGHT * SECOND + 1000
    assert time_ns("--from", "2024-03-01T02:00:00+02:00") == MIDNIGHT * SECOND
    assert time_ns("--from", "17") == 17
