"""A real load on this machine, for a stated time: the anomaly that the demo causes.

    python -m edgecore.cli.demo_load SECONDS DIRECTORY

Burns the processors, touches memory and writes synced blocks into DIRECTORY; prints one JSON
object with the wall-clock times (ns, UTC) between which it ran.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time

MEMORY_BYTES = 192 << 20
BLOCK_BYTES = 1 << 20
FILE_BYTES_MAX = 64 << 20


def burn(until: float) -> None:
    """Keeps one processor busy until the monotonic time `until`."""
    value = 1
    while time.monotonic() < until:
        for _ in range(10_000):
            value = (value * 6_364_136_223_846_793_005 + 1) & 0xFFFF_FFFF_FFFF_FFFF


def write(until: float, directory: str) -> None:
    """Writes and syncs blocks; the file goes with its descriptor, whatever happens."""
    block = os.urandom(BLOCK_BYTES)
    with tempfile.TemporaryFile(dir=directory) as file:
        size = 0
        while time.monotonic() < until:
            size += file.write(block)
            file.flush()
            os.fdatasync(file.fileno())
            if size >= FILE_BYTES_MAX:
                size = file.seek(0)


def main() -> int:
    seconds, directory = float(sys.argv[1]), sys.argv[2]
    start, until = time.time_ns(), time.monotonic() + seconds
    held = bytearray(MEMORY_BYTES)
    held[::4096] = b"\1" * len(held[::4096])
    children = [
        multiprocessing.Process(target=burn, args=(until,)) for _ in range(os.cpu_count() or 1)
    ]
    for child in children:
        child.start()
    write(until, directory)
    for child in children:
        child.join()
    print(json.dumps({"start": start, "end": time.time_ns(), "memory_bytes": len(held)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
