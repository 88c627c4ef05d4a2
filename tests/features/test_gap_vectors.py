"""docs/formats/vectors/gap.json, by the page alone and by a store: what a gap does to coverage, to
who met the rows and to who reads the log after some went."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore.features import FeatureStore
from edgecore.fs import MemoryFs
from edgecore.log import Log
from edgecore.schema import Field, Schema
from edgecore.streams import GAP

SECOND = 1_000_000_000
VECTORS = Path(__file__).parents[2] / "docs/formats/vectors/gap.json"
GIVEN: dict[str, Any] = json.loads(VECTORS.read_text())
PUMP = Schema("pump", tier="bulk", fields=[Field("temp", "decimal(1)", range=(-40, 150))])


def concerns(entry: dict[str, Any], met: int) -> bool:
    """Whether a reader who has taken in rows up to `met` counts the gap."""
    went = entry.get("through")
    return bool(entry["stream"] == "pump" and entry["begin"] < entry["end"]
                and (went is None or went > met))  # fmt: skip


def steps(case: dict[str, Any], later: bool) -> list[tuple[int, dict[str, Any]]]:
    """Positions and entries in the order in which they are met."""
    entries = list(enumerate(case["log"], 1))
    if later:
        entries.sort(key=lambda one: min(one[0], one[1].get("through", one[0])))
    return entries


def by_hand(case: dict[str, Any], later: bool) -> list[Fraction]:
    """The share of each window that is known, in seconds, second by second."""
    window = case["window"]
    rows: list[int] = []
    missing: set[int] = set()  # the seconds (s, s + 1] within reach
    met, out = 0, []
    for position, entry in steps(case, later):
        if "stream" in entry:
            if concerns(entry, 0 if later else met):
                low, high = max(entry["begin"], -1000), min(entry["end"], 1000)
                missing |= set(range(low, high))
        elif not (later and entry.get("gone")):
            time = entry["row"]
            rows.append(time)
            begin = time - window
            if not any(time - 2 * window < one <= begin for one in rows):
                begin = min(one for one in rows if one > begin)
            known = sum(second not in missing for second in range(begin, time))
            out.append(Fraction(known, window))
            met = position
    return out


def by_store(case: dict[str, Any], later: bool) -> list[float]:
    count = ec.Agg("temp", "count", window=case["window"] * SECOND)
    view = ec.FeatureView("v", entity="", source="pump", lateness=0, features=[count])
    store = FeatureStore.open("f", views=[view], schemas=[PUMP], fs=MemoryFs())
    met, out = 0, []
    for position, entry in steps(case, later):
        if "stream" in entry:
            if concerns(entry, 0 if later else met):
                begin, end = (max(-(1 << 63), min((1 << 63) - 1, entry[name] * SECOND))
                              for name in ("begin", "end"))  # fmt: skip
                store.gap("pump", begin, end, store.position + 1)
        elif not (later and entry.get("gone")):
            store.update("pump", {"time": entry["row"] * SECOND, "temp": 1.0}, position)
            out.append(store.read(view, "", as_of=entry["row"] * SECOND).coverage[0])
            met = position
    return out


@pytest.mark.parametrize("case", GIVEN["cases"], ids=lambda case: case["name"])
@pytest.mark.parametrize("reader", ["live", "later"])
def test_gap_vectors_are_the_pages_and_the_stores(case: dict[str, Any], reader: str) -> None:
    want = [Fraction(text) for text in case[reader]]
    assert by_hand(case, reader == "later") == want
    assert by_store(case, reader == "later") == [float(one) for one in want]


def test_gap_vectors_have_the_schema_and_a_row() -> None:
    assert GAP.canonical_bytes.hex() == GIVEN["schema"]
    with Log.open("log", fs=MemoryFs(), flusher="manual", schemas=[GAP]) as log:
        log.append(GAP.stream, GIVEN["row"])
        scanned = next(log.scan(GAP.stream))
        assert scanned.payload.hex() == GIVEN["payload"]
        assert scanned.rows() == [GIVEN["row"]]
