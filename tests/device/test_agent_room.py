"""A device that is offline for longer than its disk is large: what gives way is what its owner has
said, the hub learns exactly what it will never get, and no line of the file is taken twice."""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from pathlib import Path

import pytest
from tests.device.test_agent import CONFIG, Site, down

from edgecore.device.history import History
from edgecore.device.twofold import Twofold
from edgecore.fs import MemoryFs
from edgecore.log import Log
from edgecore.streams import INGEST, UPDATE
from edgecore.wire import envelope

LINES = 50_000
SEGMENT = 65_536
LIMIT = 16 * SEGMENT
SCHEMA = """
stream = "pump"
[csv]
time = "at"
[[field]]
name = "x"
dtype = "f64"
[[field]]
name = "y"
dtype = "f64"
"""


@pytest.fixture
def site(tmp_path: Path, seed: int):  # type: ignore[no-untyped-def]
    made = Site(tmp_path, 1)
    (tmp_path / "pump.toml").write_text(SCHEMA)
    dice = random.Random(seed)
    rows = [
        f"2024-03-{1 + n // 86400:02} {n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02},"
        f"{dice.random()!r},{dice.random()!r}"
        for n in range(LINES)
    ]
    (tmp_path / "pump.csv").write_text("at,x,y\n" + "\n".join(rows) + "\n")
    (tmp_path / "edge.toml").write_text(
        CONFIG.replace("second = 10.0", "second = 2000.0")
        + f"""
[log]
segment_bytes = {SEGMENT}
max_bytes = {LIMIT}
[log.retention.bulk]
on_full = "drop oldest"
[agent]
snapshot_every = "2s"
"""
    )
    yield made
    made.close()


def test_agent_long_outage_drops_the_oldest_and_tells_the_hub_which(site: Site, seed: int) -> None:
    site.run(1.0)  # enrolled, and some rows sent
    site.link.fault = down
    for _ in range(3):
        site.run(6.0)
        site.crash(seed)
        assert isinstance(site.fs, MemoryFs)
    site.run_until(lambda: bool(site.run(1.0).status()["source"]["finished"]))
    site.run(3.0)
    assert site.device is not None
    report = site.device.status()["log"]
    assert report["dropped"] > LINES / 10
    assert report["disk_bytes"] <= LIMIT
    site.link.fault = lambda answer: answer()
    site.run_until(site.synced)
    site.run(5.0)
    at_hub = Counter(row["source_seq"] for row in site.at_hub())
    assert set(at_hub.values()) == {1}
    log = site.device.log
    bulk = next(p for p, stream, _ in log.partitions() if stream == "pump")
    told = [row for row in site.at_hub("edgecore.losses") if row["partition"] == bulk]
    dropped = sum(row["last"] - row["first"] + 1 for row in told if row["reason"] == "dropped")
    assert len(at_hub) + dropped == LINES
    assert site.device.status()["log"]["dropped"] == dropped  # burnt numbers are no rows
    assert site.device.status()["log"]["unacked"] == 0
    assert site.device.status()["errors"] == {}


def test_agent_sends_what_is_sealed_as_it_is_stored(site: Site, seed: int) -> None:
    (site.root / "edge.toml").write_text(
        (site.root / "edge.toml").read_text().replace(f"max_bytes = {LIMIT}", "max_bytes = 0")
    )
    site.run(1.0)
    site.link.fault = down
    site.run_until(lambda: bool(site.run(1.0).status()["source"]["finished"]))
    site.run(3.0)
    assert site.device is not None
    stored = {
        data
        for name in site.fs.list(f"{site.root}/state/log")
        if name.startswith("pack-")
        for data in [site.fs.read_file(f"{site.root}/state/log/{name}", 1 << 20)]
    }
    assert stored
    sent: list[envelope.Payload] = []
    honest = site.hub.ingest.accept

    def accept(message: envelope.Envelope) -> dict[int, int]:
        sent.extend(message.payloads)
        return honest(message)

    site.hub.ingest.accept = accept  # type: ignore[method-assign]
    site.link.fault = lambda answer: answer()
    before = site.link.sent
    site.run_until(site.synced)
    blocks = [p for p in sent if p.kind == envelope.COLUMN_BLOCK]
    as_stored = sum(any(p.data in pack for pack in stored) for p in blocks)
    assert as_stored > len(blocks) / 2 > 10
    rows = sum(p.count for p in sent)
    assert rows >= LINES
    # Two random doubles a row: 16 bytes that no coding makes smaller, of 48 as canonical rows.
    assert site.link.sent - before < 22 * rows
    assert Counter(row["source_seq"] for row in site.at_hub()) == dict.fromkeys(
        range(2, LINES + 2), 1
    )


def test_agent_history_is_read_from_where_it_was_kept(site: Site, seed: int) -> None:
    device = site.run(6.0)
    device._capture.account()
    kept = History(device.log, "pump-7", site.fs, f"{site.root}/state/history")
    assert kept.through > 1000
    kept.save(device.log)
    assert isinstance(site.fs, MemoryFs)
    fault = site.fs.inject("io_error", path_contains="history", sticky=True)
    kept.save(device.log)  # there is nothing new
    assert site.fs.fired(fault) == 0
    site.fs.clear_faults()
    again = History(device.log, "pump-7", site.fs, f"{site.root}/state/history")
    for name in ("position", "losses", "dropped", "through", "accounted", "logged", "confirmed"):
        assert getattr(again, name) == getattr(kept, name)
    assert list(again.edges) == list(kept.edges)
    for copy in ("a", "b"):
        path = f"{site.root}/state/history.{copy}"
        site.fs.write_atomic(path, b"rot" + site.fs.read_file(path, 1 << 20)[3:])
    anew = History(device.log, "pump-7", site.fs, f"{site.root}/state/history")
    assert (anew.through, anew.accounted) == (kept.through, kept.accounted)
    other = History(device.log, "pump-8", site.fs, f"{site.root}/state/history")
    assert other.through == 0


def test_agent_history_is_as_its_page_says() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"
    golden = json.loads((page / "device-history.json").read_text())
    fs = MemoryFs()
    store = iter([bytes.fromhex(golden["store"]), bytes(8), bytes(range(1, 9))])
    fs.make_directories("state")
    fs.write_atomic("state/history.a", bytes.fromhex(golden["copy"]))
    with Log.open(
        "log", fs=fs, flusher="manual", schemas=[INGEST, UPDATE], entropy=lambda _: next(store)
    ) as log:
        kept = History.__new__(History)
        kept.store, kept._source = log.store_id, golden["source"]
        kept._kept = Twofold(fs, "state/history")
        kept.losses, kept.edges = [], deque()
        kept._load()
    assert [list(loss) for loss in kept.losses] == golden["losses"]
    assert list(kept.edges) == golden["edges"]
    assert list(kept.confirmed) == golden["confirmed"]
    for name in ("position", "dropped", "through", "accounted", "logged"):
        assert getattr(kept, name) == golden[name]
