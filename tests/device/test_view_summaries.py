"""Views told on a schedule: the same log gives the same events, whatever happened meanwhile."""

from __future__ import annotations

import random
from typing import Any

import pytest

import edgecore as ec
from edgecore.device.view_summaries import Teller, ViewSummary
from edgecore.errors import Invalid
from edgecore.features import FeatureStore
from edgecore.fs import MemoryFs

SECOND = 10**9
PERIOD = 60 * SECOND
START = 1_700_000_040 * SECOND  # a whole period


def telemetry() -> ec.Schema:
    fields = [ec.Field("pump", "category"), ec.Field("temp", "decimal(3)", range=(-40, 150))]
    return ec.Schema("telemetry", tier="bulk", fields=fields)


def view(**rules: Any) -> ec.FeatureView:
    return ec.FeatureView("pump", entity="pump", source="telemetry", lateness="20s", features=[
        ec.Agg("temp", ["mean", "count"], window="1m"),
        ec.Agg("temp", "max", window="2m", name="the_highest_temperature"),
    ], **rules)  # fmt: skip


def told(**rules: Any) -> ViewSummary:
    return ViewSummary(view(**rules), telemetry(), period_ns=PERIOD)


def history(seed: int, count: int) -> list[dict[str, Any]]:
    """Disorder within the lateness and beyond it, and silences."""
    chance = random.Random(seed)
    time, out = START, []
    for number in range(count):
        time += chance.choice([0, 1, 7, 25, 25, 900]) * SECOND
        late = chance.randrange(60 * SECOND) if chance.random() < 0.2 else 0
        out.append({"time": time - late, "pump": chance.choice("ab"), "source_seq": number + 1,
                    "temp": chance.randrange(-300, 300) / 8})  # fmt: skip
    return out


def opened(fs: MemoryFs) -> ec.Log:
    return ec.Log.open("log", schemas=[telemetry(), told().schema()], flusher="manual", fs=fs)


def events(log: ec.Log) -> list[dict[str, Any]]:
    found = [row for scanned in log.scan("telemetry.view") for row in scanned.rows()]
    return [{key: row[key] for key in row if key not in ("source", "source_seq")} for row in found]


def test_view_summaries_say_what_a_store_says_as_of_each_end(seed: int) -> None:
    fs = MemoryFs()
    log, rows = opened(fs), history(seed, 120)
    log.append("telemetry", rows)
    assert Teller(log, fs, "told", told()).follow() == len(events(log)) > 20
    store = FeatureStore.open("f", views=[view()], schemas=[telemetry()], fs=MemoryFs())
    ours, newest = events(log), rows[0]["time"]
    expected = []
    k = (newest - 20 * SECOND - 1) // PERIOD
    for row in rows:
        after = max(newest, row["time"])
        closed = (after - 20 * SECOND - 1) // PERIOD
        for end in range(k + 1, closed + 1):
            for pump in "ab":
                found = store.read("pump", pump, end * PERIOD)
                if min(found.states) < 2 or max(found.ages) >= 0:
                    expected.append((end * PERIOD, pump, *found.to_dict().values()))
        before = store.late_rows
        store.update("telemetry", row)
        if store.late_rows == before:
            newest, k = after, closed
    names = ["temp_mean_1m", "temp_count_1m", "#2"]
    assert told().bases == names
    got = [(row["time"], row["entity"], *(row[name] for name in names)) for row in ours]
    assert got == expected


def test_view_summaries_are_the_same_after_restarts_and_lost_ends_of_the_log(seed: int) -> None:
    rows = history(seed, 90)
    fs = MemoryFs()
    log = opened(fs)
    log.append("telemetry", rows)
    Teller(log, fs, "told", told()).follow()
    want = events(log)
    chance = random.Random(seed)
    fs = MemoryFs()
    log = opened(fs)
    teller = Teller(log, fs, "told", told())
    at = 0
    while at < len(rows):
        some = chance.randrange(1, 9)
        log.append("telemetry", rows[at : at + some])
        at += some
        teller.follow()
        if chance.random() < 0.5:
            log.sync()
            if teller.changed:
                teller.save()
        if chance.random() < 0.5:  # a state that is older than what the log holds
            teller = Teller(log, fs, "told", told())
    teller.follow()
    assert events(log) == want


def test_view_summaries_a_clock_that_ran_ahead_tells_nothing() -> None:
    fs = MemoryFs()
    log = opened(fs)
    ahead = {"time": START + 10**6 * SECOND, "pump": "a", "temp": 1}
    rows = [{"time": START + i * 10 * SECOND, "pump": "a", "temp": i} for i in range(20)]
    log.append("telemetry", [*rows[:10], ahead, *rows[10:]])
    Teller(log, fs, "told", told(max_ahead="1h")).follow()
    assert [row["time"] - START for row in events(log)] == [0, PERIOD, 2 * PERIOD]
    assert [row["temp_count_1m"] for row in events(log)] == [1, 6, 6]


def test_view_summaries_a_clock_that_ran_ahead_makes_nobody_forgotten() -> None:
    rows = [{"time": START + i * 10 * SECOND, "pump": "a", "temp": i} for i in range(20)]
    rows.insert(8, {"time": START + 75 * SECOND, "pump": "b", "temp": 7})  # once, then silent
    ahead = {"time": START + 10**6 * SECOND, "pump": "a", "temp": 1}
    found = []
    for some in (rows, [*rows[:9], ahead, *rows[9:]]):
        log = opened(MemoryFs())
        log.append("telemetry", some)
        Teller(log, MemoryFs(), "told", told(max_ahead="1h")).follow()
        found.append(events(log))
    assert "b" in {row["entity"] for row in found[0]}
    assert found[1] == found[0]


def test_view_summaries_state_that_is_damaged_begins_anew_and_tells_nothing_twice() -> None:
    fs = MemoryFs()
    log = opened(fs)
    log.append("telemetry", history(7, 60))
    teller = Teller(log, fs, "told", told())
    teller.follow()
    log.sync()
    teller.save()
    before = events(log)
    kept = bytearray(fs.read_file("told", 1 << 20))
    kept[70] ^= 1
    fs.write_atomic("told", bytes(kept))
    assert Teller(log, fs, "told", told()).follow() == 0
    assert events(log) == before


def test_view_summaries_that_make_no_sense_are_refused() -> None:
    with pytest.raises(Invalid, match="every so many ns"):
        ViewSummary(view(), telemetry(), period_ns=0)
    with pytest.raises(Invalid, match="the stream's own"):
        ViewSummary(view(), telemetry(), period_ns=PERIOD, name="telemetry")
