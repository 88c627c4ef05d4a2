"""A process that appends is killed at random points, again and again on one log.

The child appends to a durable stream and to a grouped one, seals and releases, says on a pipe what
the log has called durable and where its cursor stands, and is killed. Whoever opens the log next
finds every row that was said, no row twice, and every number accounted for: there, released, or
burnt. A killed process leaves the page cache: that nothing more than that is promised is the affair
of crash_test.cpp.

25 kills; EDGECORE_KILLS=200 runs as many.
"""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edgecore.log import LOSSES, Log
from edgecore.schema import Field, Schema

KILLS = int(os.environ.get("EDGECORE_KILLS", "25"))
LIFE_S = 0.06  # at most, from the first word of a child, or, for one in four, from its start
RETAIN_ROWS = 400
SCHEMAS = [
    Schema("alarm", tier="critical", fields=[Field("value", "u64", required=True)]),
    Schema("pump", tier="bulk", fields=[Field("value", "u64", required=True)]),
]
CHILD = """
import os, sys
sys.path.insert(0, sys.argv[3])
from test_kill import SCHEMAS, open_log

log, value = open_log(sys.argv[1], "thread"), int(sys.argv[2])
unsaid = []
while True:
    for _ in range(value % 7):
        count = 1 + value % 3
        done = log.append("pump", [{"value": value + i} for i in range(count)])
        unsaid.append((done.partition, done.first, count, value))
        value += count
    done = log.append("alarm", {"value": value})
    unsaid.append((done.partition, done.first, 1, value))
    value += 1
    if value % 5 == 0:
        log.wait_durable(log.position)
    # A durable append takes along what came before it.
    os.write(1, "".join(f"row {p} {f} {c} {v}\\n" for p, f, c, v in unsaid).encode())
    last = {p: f + c - 1 for p, f, c, _ in unsaid}
    unsaid.clear()
    if value % 4 == 0:
        for partition, sequence in last.items():
            log.acknowledge(partition, sequence)
            os.write(1, f"ack {partition} {sequence} 0 0\\n".encode())
    if value % 11 == 0:
        log.seal()
"""


def open_log(path: str, flusher: str) -> Log:
    return Log.open(
        path, schemas=SCHEMAS, flusher=flusher, segment_bytes=32 << 10, retain_rows=RETAIN_ROWS
    )


class Life:
    """What children have said of one log, and every range of numbers that openings have burnt."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[tuple[int, int], int] = {}  # that are not released yet
        self.said = 0  # the others
        self.acked: dict[int, int] = {}
        self.burnt: set[tuple[int, int, int]] = set()

    def run_child(self, base: int, chance: random.Random) -> int:
        """How many rows the child has called durable before it was killed."""
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(self.path), str(base), str(Path(__file__).parent)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        assert child.stdout is not None
        said = child.stdout.read(1) if chance.random() < 0.75 else b""
        time.sleep(chance.uniform(0, LIFE_S))  # real: what is met is the child's progress
        child.kill()
        more, complaint = child.communicate()
        said += more
        assert child.returncode == -9, complaint.decode()
        known = len(self.rows)
        for line in said.decode().splitlines():
            word, *numbers = line.split(" ")
            partition, first, count, value = map(int, numbers)
            if word == "ack":
                self.acked[partition] = first
            for i in range(count):
                self.rows[partition, first + i] = value + i
        return len(self.rows) - known

    def check(self, log: Log) -> None:
        assert log.recovery.missing == 0
        told = [
            (row["partition"], row["first"], row["last"], row["reason"])
            for scanned in log.scan(LOSSES.stream)
            for row in scanned
        ]
        for partition, first, last, reason in told + log.recovery.ranges + log.recovery.burnt:
            assert reason == "burnt", "a kill loses nothing that was durable"
            self.burnt.add((partition, first, last))
        cursor = log.cursor("sync")
        for partition, sequence in self.acked.items():
            assert cursor.acked(partition) >= sequence
        found = dict(rows_of(log))
        released = log.released
        self.said += len(self.rows)
        self.rows = {key: v for key, v in self.rows.items() if key[1] > released.get(key[0], 0)}
        self.said -= len(self.rows)
        for key, value in self.rows.items():
            assert found[key] == value
        for partition, last in released.items():
            assert last <= cursor.acked(partition)
        self.check_numbers(log, set(found), released)

    def check_numbers(
        self, log: Log, found: set[tuple[int, int]], released: dict[int, int]
    ) -> None:
        assert not log.verify()[3]
        for partition, stream, _ in log.partitions():
            if stream.startswith("edgecore."):
                continue
            at = released.get(partition, 0) + 1
            burnt = {first: last for p, first, last in self.burnt if p == partition}
            while at < log.next_sequence(partition):
                assert (partition, at) in found or at in burnt, f"{stream}: {at} is nowhere"
                at = burnt.get(at, at) + 1
            assert at == log.next_sequence(partition)


def rows_of(log: Log) -> Iterator[tuple[tuple[int, int], int]]:
    """(partition, sequence) and value of all rows; no value twice."""
    seen: set[int] = set()
    for scanned in log.scan():
        if scanned.stream.startswith("edgecore."):
            continue
        values = scanned.column("value")
        assert seen.isdisjoint(values)
        assert len(set(values)) == len(values)
        seen.update(values)
        for i, value in enumerate(values):
            yield (scanned.partition, scanned.first + i), value


def test_log_killed_at_random_points_keeps_what_it_called_durable(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    life = Life(tmp_path / "log")
    worked = 0
    for kill in range(KILLS):
        worked += life.run_child((kill + 1) * 1_000_000, chance) > 0
        log = open_log(str(life.path), "manual")
        life.check(log)
        if chance.random() < 0.5:
            log.close()
        del log
        gc.collect()  # not closed: as a kill leaves it
    said = life.said + len(life.rows)
    print(f"{KILLS} kills, {worked} of them at work, {said} rows called durable")
    assert worked > KILLS // 2
