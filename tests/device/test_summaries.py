"""Summaries of a device: made once through crashes, full disks and changed rules, equal to what the
raw rows give, and checked by the command."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.device.test_agent import CONFIG, SECOND, Site

from edgecore.cli.log_summaries import Audit, audits
from edgecore.cli.main import main
from edgecore.device.summaries import Summaries, raw_rows
from edgecore.errors import Invalid
from edgecore.fs import MemoryFs
from edgecore.log import Log
from edgecore.rules.summary import Measure, Pane, define
from edgecore.schema import Field, Schema

SUMMARY = """
[[summary]]
stream = "pump"
period = "5s"
lateness = "2s"
histogram = { temp = [20, 70, 10] }
"""
PUMP = Schema(
    "pump",
    tier="bulk",
    fields=[Field("id", "category"), Field("temp", "decimal(2)", range=(-40, 150))],
)


def configure(site: Site, text: str) -> None:
    (site.root / "edge.toml").write_text(CONFIG + text)


@pytest.fixture
def site(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Site(tmp_path, 300)
    configure(made, SUMMARY)
    yield made
    if made.hub is not None:
        made.close()


def audit_of(log: Log) -> Audit:
    found, views, unread = audits(log)
    assert not unread
    assert not any(view.differ for view in views)
    (audit,) = [item for item in found if item.parts] or found
    return audit


def check_log(log: Log) -> Audit:
    audit = audit_of(log)
    assert not audit.differ
    assert audit.equal == audit.parts
    return audit


def test_summaries_of_a_silent_stream_do_not_go_through_what_others_bring_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Schema("fan", tier="bulk", fields=[Field("speed", "u16")])
    fs = MemoryFs()
    with Log.open("log", fs=fs, flusher="manual", schemas=[PUMP, other]) as log:
        summaries = Summaries(log, fs, "state", [define(PUMP, period_ns=SECOND)])
        log.append("pump", {"time": SECOND, "temp": 20})
        looked: list[int] = []
        scan = Log.scan

        def seen(self: Log, stream: str | None = None, **given: Any) -> Any:
            if stream == "pump":
                looked.append(given["after"])
            return scan(self, stream, **given)

        monkeypatch.setattr(Log, "scan", seen)
        ends = []
        for _ in range(3):
            log.append("fan", [{"speed": i} for i in range(100)])
            ends.append(log.position)
            summaries.follow()
        assert looked[1:] == ends[:2]
        log.append("pump", {"time": 9 * SECOND - 1, "temp": 21})
        summaries.follow()
        assert summaries.made == 1


def test_summaries_of_a_device_count_each_row_once_and_reach_the_hub(site: Site) -> None:
    site.run_until(site.synced)
    site.run(3.0)
    assert site.device is not None
    audit = check_log(site.device.log)
    assert audit.rows + audit.waiting == 300
    assert audit.parts == 60  # that end at seconds 0, 5, … 295: rows are at 0 to 299, less 2
    site.run_until(site.synced)
    held = site.at_hub("pump.summary")
    assert len(held) == audit.parts
    assert sum(row["rows"] for row in held) == audit.rows
    (rule,) = site.at_hub("edgecore.summaries")
    assert rule["name"] == "pump.summary"
    assert {row["rule"] for row in held} == {rule["rule"]}


@pytest.mark.parametrize("attempt", range(4))
def test_summaries_through_power_cuts_are_those_of_the_rows(
    site: Site, seed: int, attempt: int
) -> None:
    rng = random.Random(seed + attempt)
    for _ in range(6):
        site.run(rng.random() * 6)
        site.crash(rng.randrange(1 << 30))
    site.run_until(site.synced)
    site.run(12.0)
    assert site.device is not None
    audit = check_log(site.device.log)
    assert audit.rows + audit.waiting == 300, seed + attempt
    # One machine that was never interrupted makes the same figures of the same rows.
    log = site.device.log
    whole: dict[tuple[int, str], Pane] = {}
    for position, _, row in raw_rows(log, log.schema("pump")):
        key = audit.rule.pane_of(row["time"]), ""
        whole.setdefault(key, Pane(audit.rule, "", key[0])).add(position, row)
    held = {k: sum(p.rows for _, p, _ in parts) for k, parts in audit._held.items()}
    assert {k: whole[k].rows for k in held} == held


def test_summaries_begin_end_and_change_with_the_configuration(site: Site) -> None:
    site.run(10.0)
    assert site.device is not None
    site.device.close()
    site.device = None
    configure(site, SUMMARY.replace('"5s"', '"10s"'))
    site.run(10.0)
    site.device.close()  # type: ignore[attr-defined]
    site.device = None
    configure(site, "")
    site.run(5.0)
    log = site.device.log  # type: ignore[attr-defined]
    found, _, _ = audits(log)
    assert [audit.rule.period for audit in found] == [5 * SECOND, 10 * SECOND]
    assert all(audit.equal == audit.parts > 1 and not audit.differ for audit in found)
    assert [audit.waiting for audit in found] == [0, 0]  # both have ended
    ended = [row["body"] for scanned in log.scan("edgecore.summaries") for row in scanned.rows()]
    assert len(ended) == 3
    assert ended[-1] is None
    # The first counts what was captured under it, whole; the second goes on behind it.
    assert sum(audit.rows for audit in found) == sum(
        1 for at, _, _ in raw_rows(log, log.schema("pump")) if at <= _last(found[1])
    )


def _last(audit: Audit) -> int:
    return max(part.last for held in audit._held.values() for _, part, _ in held)


def test_summaries_of_a_stream_that_fell_silent_go_to_its_end(site: Site) -> None:
    site.run_until(site.synced)
    site.run(9.0)
    assert site.device is not None
    audit = check_log(site.device.log)
    assert (audit.rows, audit.waiting) == (300, 0)
    site.run_until(site.synced)
    assert sum(row["rows"] for row in site.at_hub("pump.summary")) == 300
    parts = audit.parts
    site.crash(5)  # what was closed by the clock is not made again
    site.run(20.0)
    audit = check_log(site.device.log)
    assert (audit.rows, audit.waiting, audit.parts) == (300, 0, parts)


def test_summaries_of_a_long_past_are_made_piece_by_piece(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecore.device.summaries.FOLLOW_ROWS", 7)
    site.run(20.0)
    assert site.device is not None
    site.device.close()
    site.device = None
    for name in site.fs.list(f"{site.root}/state/summaries"):  # the rule's row is enough
        site.fs.remove(f"{site.root}/state/summaries/{name}")
    before = _last_part(site)
    site.run_until(site.synced)
    site.run(9.0)
    audit = check_log(site.device.log)  # type: ignore[attr-defined]
    assert (audit.rows, audit.waiting) == (300, 0)
    assert audit.parts == 61
    assert before > 1


def _last_part(site: Site) -> int:
    with Log.open(f"{site.root}/state/log", fs=site.fs, read_only=True) as log:
        return audit_of(log).parts


def test_summaries_that_cannot_be_kept_stop_nothing_else(site: Site) -> None:
    site.run(5.0)
    assert isinstance(site.fs, MemoryFs)
    fault = site.fs.inject("io_error", path_contains="/state/summaries/", sticky=True)
    report = site.run(15.0).status()
    assert report["errors"]["kept"].startswith("Unavailable: ")
    assert report["source"]["accepted"] == 200
    assert report["log"]["unacked"] < 20
    assert site.fs.fired(fault) > 0
    site.fs.clear_faults()
    site.run_until(site.synced)
    site.run(20.0)
    assert site.device is not None
    audit = check_log(site.device.log)
    assert (audit.rows, audit.waiting) == (300, 0)
    assert site.device.status()["errors"] == {}


def test_summaries_a_configuration_that_does_not_fit_is_named(site: Site) -> None:
    for text, words in (
        (SUMMARY.replace('"pump"', '"pipe"'), "no stream 'pipe'"),
        (SUMMARY.replace("temp", "tamp"), "'tamp'"),
        (SUMMARY.replace('"5s"', '"5"'), "no duration"),
        (SUMMARY + SUMMARY, "two summaries"),
        (SUMMARY + 'colour = "red"\n', "unknown key 'colour'"),
        (SUMMARY.replace("[20, 70, 10]", "[20, 70]"), "buckets"),
        (SUMMARY + "counts = { temp = 4 }\n", "too many values"),
        (SUMMARY + 'counts = { temp = "4" }\n', "too many values"),
        (SUMMARY.replace("[20, 70, 10]", '["a", 70, 5]'), "histogram"),
    ):
        configure(site, text)
        with pytest.raises(Invalid, match=words):
            site.open()


def made(log: Log, fs: Any, lateness: int = 0) -> Summaries:
    rule = define(PUMP, period_ns=60 * SECOND, lateness_ns=lateness, entity="id",
                  fields=[Measure("temp", histogram=(0, 100, 10))])  # fmt: skip
    return Summaries(log, fs, "summaries", [rule], 0)


def rows(rng: random.Random, first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "time": (1_700_000_000 + n + rng.choice([0, 0, 0, -90])) * SECOND,
            "id": rng.choice("abc"), "temp": rng.randrange(-4000, 15001) / 100,
        }
        for n in range(first, first + count)
    ]  # fmt: skip


def test_summaries_a_full_disk_delays_them_and_loses_none(tmp_path: Path) -> None:
    fs = MemoryFs()
    site = Site(tmp_path, 6000, fs)
    configure(site, SUMMARY + "[log]\nsegment_bytes = 65536\n")
    text = (tmp_path / "edge.toml").read_text().replace("second = 10", "second = 100")
    (tmp_path / "edge.toml").write_text(text)
    site.run(5.0)
    fs.set_capacity(0)
    report = site.run(100.0).status()
    assert [said for said in report["errors"].values() if said.startswith("Exhausted: ")]
    fs.set_capacity(1 << 40)
    site.run_until(site.synced)
    site.run(12.0)
    assert site.device is not None
    audit = check_log(site.device.log)
    assert audit.rows + audit.waiting == 6000
    assert site.device.status()["errors"] == {}
    site.close()


def test_summaries_command_checks_and_names_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgecore.fs import PosixFs

    rng, fs = random.Random(3), PosixFs()
    where = str(tmp_path / "log")
    with Log.open(where, schemas=[PUMP]) as log:
        summaries = Summaries(log, fs, str(tmp_path / "s"), [define(
            PUMP, period_ns=60 * SECOND, entity="id", fields=[Measure("temp")])], 0)  # fmt: skip
        log.append("pump", rows(rng, 0, 300))
        summaries.follow()
        (part, *_) = [p for held in audit_of(log)._held.values() for _, p, _ in held]
    assert main(["log", "summaries", where]) == 0
    assert "are what their rows give, to the bit" in capsys.readouterr().out
    with Log.open(where) as log:  # a figure that its rows do not give
        row = part.row()
        row["temp.sum"] += 1
        log.append("pump.summary", {**row, "last": row["last"], "first": row["first"]})
    assert main(["log", "summaries", where]) == 1
    assert "temp.sum" in capsys.readouterr().out
    assert main(["log", "summaries", where, "--json"]) == 1
    (facts,) = json.loads(capsys.readouterr().out)["summaries"]
    assert facts["differ"]
    assert facts["waiting"] > 0


def test_summaries_at_the_hub_are_merged_by_its_command(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.run_until(site.synced)
    site.run(9.0)
    site.run_until(site.synced)
    where = ["hub", "summaries", str(site.root / "hub"), "pump.summary", "--period", "1m"]
    assert main([*where, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [facts["rows"] for facts in found] == [1, 60, 60, 60, 60, 59]
    values = [(20 + n % 50) * 100 + n % 100 for n in range(1, 61)]
    assert found[1]["sum"] == sum(values) / 100
    assert (found[1]["min"], found[1]["max"]) == (min(values) / 100, max(values) / 100)
    low, high = found[1]["p50"]
    assert low <= sorted(values)[29] / 100 <= high
    assert high - low == 5.0
    assert main(where) == 0
    assert "temp  n 60 of 60  mean" in capsys.readouterr().out
    for more in (["--field", "tamp"], ["--period", "7s"], ["--device", "zz"]):
        assert main([*where, *more]) == 16, more


def dense_bytes(log: Log, stream: str) -> int:
    """Of all rows of a stream as they would be sent on a metered link."""
    partition = next(p for p, name, _ in log.partitions() if name == stream)
    after = total = 0
    while runs := log.runs(partition, after, 1 << 20):
        total += sum(len(log.block_of(run, dense=True)) for run in runs)
        after = runs[-1].first + runs[-1].count - 1
    return total


def sent_bytes(schema: Schema, events: list[dict[str, Any]], period_s: int) -> tuple[int, int]:
    """(of the raw rows, of their summaries), in the dense coding."""
    fs = MemoryFs()
    rule = define(schema, period_ns=period_s * SECOND, fields=[Measure("x", ["sum", "min", "max"])])
    with Log.open("log", schemas=[schema], fs=fs, flusher="manual") as log:
        summaries = Summaries(log, fs, "summaries", [rule], 0)
        for at in range(0, len(events), 2000):
            log.append(schema.stream, events[at : at + 2000])
        log.sync()
        summaries.follow()
        while summaries.behind:
            summaries.follow()
        log.sync()
        audit = check_log(log)
        assert audit.rows + audit.waiting == len(events)
        assert audit.rows > len(events) - 2 * period_s
        return dense_bytes(log, schema.stream), dense_bytes(log, rule.name)


def test_summaries_of_a_minute_take_a_fraction_of_rows_of_a_second() -> None:
    rng = random.Random(8)
    schema = Schema("s", tier="bulk", fields=[Field("x", "decimal(2)", range=(0, 100))])
    x, events = 50.0, []
    for n in range(6 * 3600):
        x = min(100.0, max(0.0, x + rng.gauss(0, 0.2)))
        events.append({"time": (1_700_000_000 + n) * SECOND, "x": round(x, 2)})
    raw, summarised = sent_bytes(schema, events, 60)
    assert summarised * 6 < raw


@pytest.mark.data
def test_summaries_of_an_hour_of_a_real_series_take_less_than_its_rows(data_file: Any) -> None:
    import csv
    from datetime import UTC, datetime

    path = data_file("nab/data/realKnownCause/machine_temperature_system_failure.csv")
    with path.open() as file:
        lines = list(csv.reader(file))[1:]
    schema = Schema("s", tier="bulk", fields=[Field("x", "decimal(9)", range=(-100, 200))])
    events = []
    for when, value in lines:
        at = datetime.fromisoformat(when).replace(tzinfo=UTC)
        events.append({"time": int(at.timestamp()) * SECOND, "x": round(float(value), 9)})
    raw, summarised = sent_bytes(schema, events, 3600)
    print(f"{len(events)} rows: {raw} bytes, summaries of an hour: {summarised}")
    assert summarised * 3 < raw * 2


def test_summaries_of_rows_that_are_no_longer_kept_are_told_apart(tmp_path: Path) -> None:
    rng, fs = random.Random(3), MemoryFs()
    with Log.open(
        "log", schemas=[PUMP], fs=fs, flusher="manual", segment_bytes=65536, retain_rows=500
    ) as log:
        summaries = made(log, fs)
        for n in range(0, 8000, 200):
            log.append("pump", rows(rng, n, 200))
            log.sync()
            summaries.follow()
        before = check_log(log)
        for partition, stream, _ in log.partitions():
            if stream == "pump":
                log.acknowledge(partition, log.next_sequence(partition) - 1)
            else:
                log.acknowledge(partition, 0)
        log.seal()
        log.release()
        assert log.released
        audit = audit_of(log)
        assert not audit.differ
        assert audit.gone > 0
        assert audit.gone + audit.equal == before.parts


VIEW = """
name = "pump"
entity = ""
source = "pump"
lateness = "2s"

[[features]]
field = "temp"
ops = ["count", "max"]
window = "5s"
"""
TOLD = """
[[view_summary]]
view = "view.toml"
period = "5s"
"""


def test_summaries_of_a_view_are_told_once_through_power_cuts_and_reach_the_hub(
    site: Site, seed: int
) -> None:
    (site.root / "view.toml").write_text(VIEW)
    configure(site, SUMMARY + TOLD)
    chance = random.Random(seed)
    for cut in range(3):
        site.open()
        site.run(chance.uniform(1, 4))
        site.crash(seed + cut)
    site.run_until(site.synced)
    site.run(3.0)
    site.run_until(site.synced)
    held = site.at_hub("pump.view")
    keys = [(row["time"], row["entity"]) for row in held]
    assert len(set(keys)) == len(keys) > 50
    assert site.device is not None
    check_log(site.device.log)
