"""One side of a comparison, as a process of its own.

    python bench/worker.py MODULE CASE SIDE SETTINGS_JSON

imports ``bench/MODULE.py``, makes ``CASES[CASE].sides[SIDE](settings)`` (set-up, untimed) and then
answers lines of JSON on standard input: ``{"run": n}`` -> ``{"cpu_ns", "wall_ns", "checksum",
"info"}``. CPU time is that of the whole process with its threads, plus children waited for.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from pathlib import Path


def cpu_ns() -> int:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + int((children.ru_utime + children.ru_stime) * 1e9)


def main() -> None:
    name, case, side, settings = sys.argv[1:5]
    sys.path.insert(0, str(Path(__file__).parent))
    module = importlib.import_module(name)
    subject = module.CASES[case].sides[side](json.loads(settings))
    print(json.dumps({"ready": True, "version": getattr(subject, "version", "")}), flush=True)
    for line in sys.stdin:
        count = json.loads(line)["run"]
        wall, cpu = time.monotonic_ns(), cpu_ns()
        checksum = subject.run(count)
        cpu, wall = cpu_ns() - cpu, time.monotonic_ns() - wall
        if hasattr(subject, "untimed_checksum"):  # its check is work of its own
            checksum = subject.untimed_checksum()
        info = subject.info() if hasattr(subject, "info") else {}
        answer = {"cpu_ns": cpu, "wall_ns": wall, "checksum": checksum, "info": info}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
