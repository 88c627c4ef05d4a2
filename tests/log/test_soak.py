"""A day of a device's log in a minute: one event a second and bursts, acknowledgements with
outages, sealing and release, on real files. What it takes of memory and disk does not grow.

One hour; EDGECORE_SOAK_HOURS=24 runs a day, and prints what each hour took.
"""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path

import pytest

from edgecore.clock import ManualClock
from edgecore.log import Log
from edgecore.schema import Field, Schema

HOURS = float(os.environ.get("EDGECORE_SOAK_HOURS", "1"))
SECOND = 1_000_000_000
OUTAGE_S = (600, 2400)
BURST_ROWS = 1500
RETAIN_ROWS = 500
GROWTH_BYTES = 3 << 20  # of the process, from the first quarter of the run to its end
# The longest outage's rows, twice (they are sealed while they wait), and what is preallocated.
FILES_MAX = 60
DISK_BYTES_MAX = 4 << 20
SCHEMAS = [
    Schema("alarm", tier="critical", fields=[Field("code", "u32", required=True)]),
    Schema(
        "pump",
        tier="bulk",
        fields=[
            Field("temp", "decimal(3)", unit="degC", range=(-40, 150)),
            Field("rpm", "i32", unit="1/min"),
            Field("mode", "category"),
        ],
    ),
]


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Device:
    """The log's owner, its link, and the largest footprint seen."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.path = path
        self.chance = chance
        self.clock = ManualClock(1_700_000_000 * SECOND)
        # A group of five seconds: each commit is a real flush.
        self.log = Log.open(
            path, schemas=SCHEMAS, flusher="manual", clock=self.clock, segment_bytes=64 << 10,
            retain_rows=RETAIN_ROWS, durability={"bulk": "group(5000ms,64KiB)"},
        )  # fmt: skip
        self.link_up_at = 0
        self.outages = self.bursts = 0
        self.files = self.disk_bytes = self.pool = 0

    def reading(self) -> dict[str, object]:
        return {
            "temp": round(self.chance.gauss(60, 5), 3),
            "rpm": self.chance.randrange(800, 1500),
            "mode": self.chance.choice(("idle", "load", "purge")),
        }

    def second(self, now: int) -> None:
        self.clock.advance(SECOND)
        self.log.append("pump", self.reading())
        if now % 1200 == 600:
            self.log.append("pump", [self.reading() for _ in range(BURST_ROWS)])
            self.bursts += 1
        if self.chance.random() < 1 / 600:
            self.log.append("alarm", {"code": now})
        self.log.poll(self.clock.monotonic_ns())
        if now % 30 == 0 and now >= self.link_up_at:
            self.acknowledge()
            if now % 3600 == 900:
                self.link_up_at = now + self.chance.randrange(*OUTAGE_S)
                self.outages += 1
        if now % 300 == 0:
            self.log.seal()
            self.measure()

    def acknowledge(self) -> None:
        cursor = self.log.cursor("sync")
        for _, stream, _ in self.log.partitions():
            cursor.ack(stream, self.log.durable_position)

    def measure(self) -> None:
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(self.path)}
        self.files = max(self.files, len(sizes))
        self.disk_bytes = max(self.disk_bytes, sum(sizes.values()))
        self.pool = max(self.pool, sum(name.startswith("pool-") for name in sizes))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_log_takes_no_more_memory_or_disk_as_the_hours_go_by(tmp_path: Path, seed: int) -> None:
    device = Device(tmp_path / "log", random.Random(seed))
    seconds = int(HOURS * 3600)
    early = 0
    for now in range(1, seconds + 1):
        device.second(now)
        if now == seconds // 4:
            early = resident_bytes()
        if now % 3600 == 0:
            print(
                f"hour {now // 3600}: {resident_bytes() >> 10} KiB resident, {device.files} files "
                f"of {device.disk_bytes >> 10} KiB at most, {device.outages} outages, "
                f"{device.bursts} bursts, position {device.log.position}"
            )
    assert device.bursts > 0
    assert resident_bytes() - early < GROWTH_BYTES
    assert device.pool <= 4
    assert device.files <= FILES_MAX
    assert device.disk_bytes <= DISK_BYTES_MAX
    device.log.sync()
    device.acknowledge()
    assert not device.log.verify()[3]
    kept = device.log.position - device.log.first_position
    assert kept < RETAIN_ROWS + 3 * (64 << 10) // 20
    last = device.log.position
    device.log.close()
    with Log.open(tmp_path / "log", read_only=True) as log:
        assert log.recovery.clean
        assert log.position == last
