"""The owner of every comparison: two workers, interleaved, paired.

Machines are noisy and drift, so a ratio is only taken between neighbours: rounds run A B B A, each
round gives one ratio per pair, and the median of those is the figure. Both sides must return the
same checksum for the same work, or the row is refused. A side paired with itself gives 1.00 within
3 % (tests/test_bench_pair.py).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOOP_NS_MIN = 20_000_000
COUNT_MAX = 1 << 24
HERE = Path(__file__).parent

Make = Callable[[dict[str, Any]], Any]


class Case:
    """One benchmark: how each side is made, and what a unit of work is.

    :param sides: name -> factory(settings) of an object with ``run(n) -> checksum``; ``ours`` is
        the side the ratio favours above 1.
    :param unit: unit of the figures; :param scale: figure = CPU ns per run / scale.
    """

    def __init__(
        self,
        sides: dict[str, Make],
        *,
        unit: str = "ns",
        scale: float = 1.0,
        settings: dict[str, Any] | None = None,
        commands: dict[str, list[str]] | None = None,
    ) -> None:
        self.sides = sides
        self.unit = unit
        self.scale = scale
        self.settings = settings or {}
        self.commands = commands or {}


class Worker:
    """A side in a process of its own, driven by lines of JSON."""

    def __init__(self, command: list[str]) -> None:
        # Runtimes chat; what they say is shown only when a worker fails.
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        # One thread each: numpy's pool spins, and its idling would be charged to its side.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        self.version = str(self._answer().get("version", ""))

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.said.seek(0)
            last = (self.said.read().strip().splitlines() or ["no word"])[-1]
            self.close()
            raise RuntimeError(f"the worker ended with {self.process.returncode}: {last}")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def run(self, count: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"run": count}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.said.close()


def start(area: str, name: str, case: Case, side: str) -> Worker:
    settings = json.dumps(case.settings)
    command = case.commands.get(side)
    return Worker(
        command or [sys.executable, str(HERE / "worker.py"), f"bench_{area}", name, side, settings]
    )


def calibrate(worker: Worker, loop_ns: int) -> int:
    """The count whose loop takes at least `loop_ns` of CPU (also the warm-up)."""
    count = 1
    while count < COUNT_MAX:
        spent = worker.run(count)["cpu_ns"]
        if spent >= loop_ns:
            return count
        count = max(count * 2, min(COUNT_MAX, int(count * loop_ns * 1.2 / max(spent, 1))))
    return COUNT_MAX


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def compare(
    ours: Worker, theirs: Worker, rounds: int, loop_ns: int = LOOP_NS_MIN
) -> dict[str, Any]:
    """Figures of both sides (CPU ns per run) and the paired ratio theirs / ours."""
    count_ours, count_theirs = calibrate(ours, loop_ns), calibrate(theirs, loop_ns)
    check_ours, check_theirs = ours.run(1)["checksum"], theirs.run(1)["checksum"]
    if check_ours != check_theirs:
        raise RuntimeError(f"checksums differ: ours {check_ours}, theirs {check_theirs}")
    figures: dict[str, list[float]] = {"ours": [], "theirs": []}
    walls: dict[str, list[float]] = {"ours": [], "theirs": []}
    ratios = []

    def once(name: str, worker: Worker, count: int) -> float:
        answer = worker.run(count)
        figures[name].append(answer["cpu_ns"] / count)
        walls[name].append(answer["wall_ns"] / count)
        return figures[name][-1]

    for _ in range(rounds):
        first = once("ours", ours, count_ours)
        second = once("theirs", theirs, count_theirs)
        third = once("theirs", theirs, count_theirs)
        fourth = once("ours", ours, count_ours)
        ratios += [second / first, third / fourth]
    return {
        "ours": statistics.median(figures["ours"]),
        "theirs": statistics.median(figures["theirs"]),
        "ours_wall": statistics.median(walls["ours"]),
        "theirs_wall": statistics.median(walls["theirs"]),
        "ratio": statistics.median(ratios),
        "ratio_p10": percentile(ratios, 0.1),
        "ratio_p90": percentile(ratios, 0.9),
        "rounds": rounds,
    }


def row(identity: str, area: str, name: str, case: Case, peer: str, rounds: int) -> dict[str, Any]:
    """One row of `./dev bench`: ours against one peer. Ratio > 1 means ours is better."""
    base = {
        "id": identity,
        "unit": case.unit,
        "better": "lower",
        "settings": case.settings,
        "peer": peer,
        "input_sha256": case.settings.get("input_sha256"),
    }
    workers: list[Worker] = []
    try:
        workers.append(start(area, name, case, "ours"))
        workers.append(start(area, name, case, peer))
        found = compare(workers[0], workers[1], rounds)
    except (RuntimeError, OSError) as error:
        return base | {"peer": None, "ratio": None, "ours": None, "reason": f"{peer}: {error}"}
    finally:
        for worker in workers:
            worker.close()
    for key in ("ours", "theirs", "ours_wall", "theirs_wall"):
        found[key] /= case.scale
    return base | found | {"peer_version": workers[1].version}
