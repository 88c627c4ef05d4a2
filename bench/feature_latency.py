"""What a single event costs, an update and a read, by windows, entities and events in the longest
window (bench/cpp/features_bench.cpp, C++ alone).

The figure is the 99.9th percentile over 20,000 events, each timed on its own, with its least time
of five runs over the same events. The note has the median, and the worst: the one event in each
eighth of a window at which the ring of events moves to the front of its memory.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

from pair import HERE

DRIVER = HERE.parent / "build" / "bench" / "features_bench"
BASE = (3, 1, 1000)
CASES = [
    BASE,
    *((windows, 1, 1000) for windows in (1, 6, 12)),
    *((3, entities, 36) for entities in (1, 100, 1000, 10_000)),
    *((3, 1, events) for events in (100, 10_000, 100_000)),
]


def rows() -> Iterator[dict[str, Any]]:
    for windows, entities, events in CASES:
        words = [str(DRIVER), str(windows), str(entities), str(events)]
        found = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
        yield {
            "id": f"features.latency/W{windows}/E{entities}/N{events}", "unit": "ns",
            "better": "lower", "ours": found["p999"], "peer": None, "ratio": None, "rounds": 5,
            "goal": "median flat in events" if (windows, entities) == BASE[:2] else None,
            "note": f"p99.9; median {found['median']}, worst {found['worst']}",
            "settings": {"windows": windows, "entities": entities, "events": events, **found},
        }  # fmt: skip
