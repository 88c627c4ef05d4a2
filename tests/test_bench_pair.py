"""The harness itself: a side against itself is 1, a twice slower side is 2, a lie is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import pair

WORKER = """
import json, sys, time
print(json.dumps({"ready": True, "version": "1"}), flush=True)
for line in sys.stdin:
    n = json.loads(line)["run"]
    start = time.process_time_ns()
    for _ in range(n * WORK):
        sum(range(300))
    spent = time.process_time_ns() - start
    print(json.dumps({"cpu_ns": spent, "wall_ns": spent, "checksum": CHECK}), flush=True)
"""


def worker(work: int, check: int = 1) -> pair.Worker:
    source = WORKER.replace("WORK", str(work)).replace("CHECK", str(check))
    return pair.Worker([sys.executable, "-c", source])


def ratio(ours: pair.Worker, theirs: pair.Worker, rounds: int = 9) -> float:
    try:
        return float(pair.compare(ours, theirs, rounds)["ratio"])
    finally:
        ours.close()
        theirs.close()


def test_pair_a_side_with_itself_is_one() -> None:
    # A noisy neighbour can spoil one comparison; it does not spoil five.
    assert any(abs(ratio(worker(1), worker(1)) - 1.0) <= 0.03 for _ in range(5))


def test_pair_a_twice_slower_peer_is_two() -> None:
    assert any(1.8 < ratio(worker(1), worker(2)) < 2.2 for _ in range(5))


def test_pair_different_checksums_are_refused() -> None:
    with pytest.raises(RuntimeError, match="checksums differ"):
        ratio(worker(1), worker(1, check=2))


def test_pair_a_worker_that_dies_is_a_row_with_its_reason() -> None:
    dead = [sys.executable, "-c", "raise SystemExit(3)"]
    case = pair.Case({}, commands={"ours": dead, "peer": dead})
    row = pair.row("x", "none", "none", case, "peer", 1)
    assert row["ratio"] is None
    assert "ended with 3" in row["reason"]
