"""Every operator, window and policy over random streams with disorder, ties, known gaps and
restarts at every position: what the page says, by hand (page_features.py), to the bit, and the same
in a batch."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import cbor2
import pytest
from tests.features.page_features import Page, Told

import edgecore as ec
from edgecore.feature_spec import ON_STALE, OPERATORS
from edgecore.features import REASONS, FeatureStore, backfill
from edgecore.fs import MemoryFs

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"
# The view with every parameter that a feature of one stream may have.
GOLDEN = json.loads((VECTORS / "feature-parameters.json").read_text())["parameters"]
SCHEMA = ec.Schema.from_bytes(bytes.fromhex(GOLDEN["schemas"][0]))
VIEW = ec.FeatureView.from_bytes(bytes.fromhex(GOLDEN["bytes"]))
SECOND = 10**9
START = 1_700_000_040 * SECOND
LATENESS = 20 * SECOND
KINDS = ["disorder", "ties", "gaps", "restarts", "all"]


def stream(chance: random.Random, kind: str, count: int) -> list[dict[str, Any]]:
    """Rows in order of arrival; what is told of them is their `kind`, silences and nulls come
    always."""
    time, out = START, []
    for number in range(1, count + 1):
        tie = kind in ("ties", "all") and chance.random() < 0.4
        time += (
            0
            if tie
            else chance.choice([1, 1, 1, 1, 2, 3, 7, 16, 45, 130]) * SECOND + chance.randrange(9)
        )
        late = 0
        if kind in ("disorder", "all") and chance.random() < 0.4:
            late = chance.randrange(2 * LATENESS)
        row = {
            "time": time - late, "pump": chance.choice("aaab"),
            "source": chance.choice(["", "left", "right"]),
            # Ties of time and source too, which the sequence orders, or the value alone.
            "source_seq": chance.randrange(1, 4) if kind in ("ties", "all") else number,
            "temp": str(chance.choice([chance.randrange(-400, 1501), 200, 255]) / 10),
            "flow": chance.randrange(2001) / 2, "load": chance.uniform(-1e9, 1e9),
            "on": chance.random() < 0.5, "mode": chance.choice(["run", "idle", "off", "läuft"]),
        }  # fmt: skip
        for name in ("temp", "flow", "load", "on", "mode"):
            if chance.random() < 0.15:
                del row[name]
        out.append(row)
    return out


def given(row: dict[str, Any]) -> dict[str, Any]:
    return row | ({"temp": float(row["temp"])} if "temp" in row else {})


def expect(found: Any, wanted: dict[str, Told], where: object) -> None:
    for at, name in enumerate(VIEW.names):
        made = (found.states[at], REASONS[found.reasons[at]] or "-", found.ages[at],
                found.coverage[at])  # fmt: skip
        value, told = found.values[at], wanted[name]
        assert made == told[1:], (where, name, made, told)
        same = value == told.value or (math.isnan(value) and math.isnan(told.value))
        assert same, (where, name, value, told)


class Replayed:
    """A stream, its answers checked at every row."""

    def __init__(self, chance: random.Random, kind: str, rows: list[dict[str, Any]]) -> None:
        self.page = Page({**GOLDEN, "events": []})
        self.fs, self.kind, self.chance = MemoryFs(), kind, chance
        self.store = self._open()
        self.reasons: set[str] = set()
        self.ties = 0
        self.at_row: list[bytes | None] = []
        for row in rows:
            self._take(row)

    def _open(self) -> FeatureStore:
        return FeatureStore.open("f", views=[VIEW], schemas=[SCHEMA], fs=self.fs)

    def _take(self, row: dict[str, Any]) -> None:
        page, chance, store = self.page, self.chance, self.store
        late = page.late
        store.update("telemetry", given(row))
        page.take(row)
        assert store.late_rows == page.late
        if self.kind in ("gaps", "all") and chance.random() < 0.15:
            self._gap(row["time"])
        if self.kind in ("restarts", "all"):
            store.snapshot()
            store = self.store = self._open()
            assert not store.rebuilt
        entity = row["pump"]
        newest = page.newest[entity]
        self.ties += sum(one["time"] == row["time"] for one in page.rows[entity]) > 1
        later = chance.choice([0, 5, 40, 100, 250]) * chance.randrange(SECOND)
        for as_of in (newest + later, newest - chance.randrange(LATENESS + 1)):
            wanted = page.read(entity, as_of)
            expect(store.read(VIEW, entity, as_of), wanted, (entity, as_of - START))
            self.reasons |= {told.reason for told in wanted.values()}
        counts = page.late == late
        own = store.read(VIEW, entity, row["time"]) if counts else None
        self.at_row.append(bytes(own.values.cast("B")) + bytes(own.states) if own else None)

    def _gap(self, time: int) -> None:
        begin = time - self.chance.randrange(60 * SECOND)
        end = begin + self.chance.randrange(1, 30 * SECOND)
        self.store.gap("telemetry", begin, end)
        merged = [gap for gap in self.page.gaps if gap[0] <= end and begin <= gap[1]]
        for gap in merged:
            self.page.gaps.remove(gap)
        begin, end = min([begin, *(g[0] for g in merged)]), max([end, *(g[1] for g in merged)])
        self.page.gaps.append((begin, end))


@pytest.mark.parametrize("kind", KINDS)
def test_properties_of_every_operator_are_the_pages(kind: str, seed: int) -> None:
    chance = random.Random(f"{seed} {kind}")
    rows = stream(chance, kind, 130)
    replayed = Replayed(chance, kind, rows)
    assert (replayed.page.late > 0) == (kind in ("disorder", "all"))
    assert (replayed.ties > 5) == (kind in ("ties", "all"))
    assert bool(replayed.page.gaps) == (kind in ("gaps", "all"))
    assert replayed.reasons >= {"-", "never", "empty_window", "too_few", "warming", "ttl"}
    if kind in ("gaps", "all"):
        return  # a gap has no place among rows
    found = backfill(VIEW, list(map(given, rows)), schema=SCHEMA, known="ingest")
    width = found.width
    for at, own in enumerate(replayed.at_row):
        if own is not None:
            batch = bytes(memoryview(found.values)[at * width : (at + 1) * width].cast("B"))
            assert batch + bytes(found.states[at * width : (at + 1) * width]) == own, at


def test_properties_are_of_every_operator_window_and_policy() -> None:
    features = cbor2.loads(VIEW.to_bytes())["features"]
    known = {(row[0], row[1]) for row in OPERATORS}
    assert {(feature["op"], feature["version"]) for feature in features} == known
    assert {feature.get("on_stale", "use") for feature in features} == set(ON_STALE)
    keys = {key for feature in features for key in feature}
    assert keys >= {"hop", "gap", "hold", "expr", "min_coverage", "min_count", "default"}
