"""Views told on a schedule: the same log gives the same events, whatever happened meanwhile."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edgecore as ec
from edgecore.cli.log_summaries import audits
from edgecore.cli.log_view_summaries import ViewAudit
from edgecore.cli.main import main
from edgecore.device.summaries import Summaries
from edgecore.device.view_summaries import Teller, ViewSummary, view_summary_of
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.features import FeatureStore
from edgecore.fs import MemoryFs, PosixFs
from edgecore.streams import GAP

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


def test_view_summaries_know_of_gaps_after_restarts_and_again(seed: int) -> None:
    covered = ec.FeatureView("pump", entity="pump", source="telemetry", lateness="20s", features=[
        ec.Agg("temp", "mean", window="1m", min_coverage=0.5)])  # fmt: skip
    rule = ViewSummary(covered, telemetry(), period_ns=PERIOD)
    rows, found = history(seed, 120), []
    for gaps, restarts in ((False, False), (True, False), (True, True)):
        chance, dice = random.Random(seed), random.Random(seed + 1)
        fs = MemoryFs()
        log = ec.Log.open("log", schemas=[telemetry(), GAP], flusher="manual", fs=fs)
        teller = summaries(log, fs, rule)
        for row in rows:
            if chance.randrange(3) == 0 and gaps:
                log.append(GAP.stream, {"stream": chance.choice(["telemetry", "telemetry", "x"]),
                                        "begin": row["time"] - chance.randrange(90) * SECOND,
                                        "end": row["time"], "kind": "off"})  # fmt: skip
            log.append("telemetry", row)
            if restarts and dice.randrange(4) == 0:
                teller.follow()
                if dice.randrange(2):
                    teller.save()
                teller = summaries(log, fs, rule)
        teller.follow()
        told_again = audit(log)
        assert (told_again.differ, told_again.waiting) == ([], 0)
        assert told_again.equal == len(events(log)) > 20
        found.append(events(log))
    assert found[1] == found[2]
    missing = [sum(one["temp_mean_1m.st"] == 2 for one in run) for run in found]
    assert missing[1] > missing[0]


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


def audit(log: ec.Log) -> ViewAudit:
    found, (one,), unread = audits(log)
    assert (found, unread) == ([], [])
    return one


def summaries(log: ec.Log, fs: MemoryFs, *views: ViewSummary) -> Summaries:
    return Summaries(log, fs, "state", [], views=views)


def test_view_summaries_are_what_the_log_says_again_also_after_a_state_was_lost(seed: int) -> None:
    rows, kept = history(seed, 150), []
    for loses in (False, True):
        fs = MemoryFs()
        log = ec.Log.open("log", schemas=[telemetry()], flusher="manual", fs=fs)
        log.append("telemetry", rows[:10])  # before there is a rule: told of by nobody
        teller = summaries(log, fs, told())
        for at in range(10, 150, 7):
            log.append("telemetry", rows[at : at + 7])
            teller.follow()
            teller.save()
            if loses and at % 3 == 0:
                for name in fs.list("state"):
                    fs.remove(f"state/{name}")
                teller = summaries(log, fs, told())
        teller.follow()
        found = audit(log)
        assert (found.differ, found.gone, found.waiting) == ([], 0, 0)
        assert found.equal == found.rows == len(events(log)) > 20
        kept.append(events(log))
    assert kept[0] == kept[1]


@pytest.mark.parametrize("planted", ["a value", "a state", "a row", "twice", "missing"])
def test_view_summaries_a_row_that_its_rows_do_not_give_is_told(
    planted: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ec.Log.open(tmp_path / "log", schemas=[telemetry()], flusher="manual") as log:
        teller = Summaries(log, PosixFs(), str(tmp_path / "state"), [], views=[told()])
        log.append("telemetry", history(seed, 100))
        append = log.append

        periods = 0

        def plants(stream: str, some: list[dict[str, Any]]) -> object:
            nonlocal periods
            periods += 1
            if periods == 5:
                row = {**some[0]}
                if planted == "a value":
                    row["temp_count_1m"] = (row["temp_count_1m"] or 0) + 1
                elif planted == "a state":
                    row["#2.st"] = 1  # no feature has a ttl
                elif planted == "a row":
                    row["entity"] = "c"
                other = some if planted in ("twice", "a row") else some[1:]
                some = other if planted == "missing" else [row, *other]
            return append(stream, some) if some else None

        teller._followers[0]._log = SimpleNamespace(  # type: ignore[assignment]
            append=plants, scan=log.scan, position=log.position, partitions=log.partitions,
            next_sequence=log.next_sequence)  # fmt: skip
        teller.follow()
        found = audit(log)
        assert len(found.differ) == 1
        assert found.equal == found.rows - (planted != "missing")
    assert main(["log", "summaries", str(tmp_path / "log")]) == 1
    said = capsys.readouterr().out
    assert "of view 'pump' of telemetry, every 60 s" in said
    assert "1 differ" in said
    assert main(["log", "summaries", str(tmp_path / "log"), "--json"]) == 1
    (facts,) = json.loads(capsys.readouterr().out)["views"]
    assert facts["differ"] == found.differ


def test_view_summaries_whose_rows_have_gone_are_not_judged(seed: int) -> None:
    fs = MemoryFs()
    log = ec.Log.open(
        "log", schemas=[telemetry()], flusher="manual", fs=fs, segment_bytes=65536, retain_rows=300
    )
    teller = summaries(log, fs, told())
    rows = history(seed, 6000)
    for at in range(0, 6000, 200):
        log.append("telemetry", rows[at : at + 200])
        teller.follow()
        log.sync()
    whole = audit(log)
    assert (whole.differ, whole.gone) == ([], 0)
    for partition, stream, _ in log.partitions():
        mine = stream == "telemetry"
        log.acknowledge(partition, log.next_sequence(partition) - 1 if mine else 0)
    log.seal()
    log.release()
    assert log.released
    found = audit(log)
    assert not found.differ
    assert found.gone > 0
    assert found.gone + found.equal == whole.rows


def test_view_summaries_end_and_change_with_what_is_wanted(seed: int) -> None:
    fs = MemoryFs()
    log = ec.Log.open("log", schemas=[telemetry()], flusher="manual", fs=fs)
    rows = history(seed, 160)
    longer = ViewSummary(view(), telemetry(), period_ns=2 * PERIOD)
    for at, wanted in ((0, told()), (40, longer), (80, None), (120, told())):
        teller = summaries(log, fs, *([wanted] if wanted else []))
        assert not teller.notices
        log.append("telemetry", rows[at : at + 40])
        teller.follow()
        log.sync()
        teller.save()
    found, views, unread = audits(log)
    assert (found, unread) == ([], [])
    assert [(one.told.period, one.differ, one.gone) for one in views] == [
        (PERIOD, [], 0), (2 * PERIOD, [], 0),
    ]  # fmt: skip
    assert all(one.equal == one.rows > 3 for one in views)
    ends = [row["body"] for one in log.scan("edgecore.summaries") for row in one.rows()]
    assert [body is None for body in ends] == [False, False, True, False]
    assert view_summary_of(bytes(ends[0]), log.schemas()).body == told().body


def test_view_summaries_rules_that_are_none_are_refused() -> None:
    body = told().body
    for flip in range(len(body)):
        bad = bytearray(body)
        bad[flip] ^= 1
        with suppress(Corrupt, Incompatible):  # or it is another rule: of another name, say
            assert view_summary_of(bytes(bad), [telemetry()]).id != told().id
    with pytest.raises(Incompatible, match="a schema that is not here"):
        view_summary_of(body, [])


def test_view_summaries_that_make_no_sense_are_refused() -> None:
    for period, least in ((0, 1), (SECOND - 1, 1), (SECOND * 367 * 86_400, 1)):
        with pytest.raises(Invalid, match=f"is told every {least} s at most"):
            ViewSummary(view(), telemetry(), period_ns=period)
    far = ec.FeatureView("far", entity="pump", source="telemetry", features=[ec.Last("temp")])
    with pytest.raises(Invalid, match=r"every 8\.64 s at most.*its horizon of 1d holds"):
        ViewSummary(far, telemetry(), period_ns=8 * SECOND)
    assert ViewSummary(far, telemetry(), period_ns=9 * SECOND).period == 9 * SECOND
    with pytest.raises(Invalid, match="the stream's own"):
        ViewSummary(view(), telemetry(), period_ns=PERIOD, name="telemetry")
