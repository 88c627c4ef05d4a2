"""Clocks that are wrong: a device goes on capturing, says how far its times are to be trusted, and
writes down what corrects them later. Nothing sleeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.device.test_agent import Site

from edgecore import corrections
from edgecore.cli.main import main
from edgecore.clock import ManualClock
from edgecore.device import status
from edgecore.device.timekeeper import ANCHOR_EVERY_NS, SETS_EVERY_NS, SETS_MAX, Timekeeper
from edgecore.errors import Exhausted, Untrusted
from edgecore.fs import MemoryFs, PosixFs
from edgecore.hub.server import Hub
from edgecore.log import Log
from edgecore.schema import Field, Schema
from edgecore.streams import CLOCK

SECOND = 1_000_000_000
NOW = 1_760_000_000 * SECOND
Y2106 = 4_294_967_295 * SECOND
PUMP = Schema("pump", tier="bulk", fields=[Field("n", "u32", required=True)])


class Desk:
    """A timekeeper over a log; the hub's answers are what a test says."""

    def __init__(self, wall: int, fs: Any = None, confirmed: tuple[int, int, int] = (0, 0, 0)):
        self.clock = ManualClock(wall)
        self.fs = fs or MemoryFs()
        self.signed: tuple[int, int, int] | None = None
        self.floor = 0
        self.log = Log.open(
            "log", fs=self.fs, clock=self.clock, flusher="manual", schemas=[CLOCK, PUMP],
            segment_bytes=64 << 10,
        )  # fmt: skip
        self.keeper = Timekeeper(
            self.log, self.clock, "pump-7", confirmed, lambda: self.signed, lambda: self.floor
        )
        self.keeper.poll()

    def go(self, seconds: float) -> None:
        self.clock.advance(int(seconds * SECOND))
        self.keeper.poll()

    def hear(self, true: int, trip: int = SECOND // 10) -> None:
        """A signed time whose answer has just come after `trip`; `true` is now."""
        now = self.clock.monotonic_ns()
        self.signed = (true - trip // 2, now - trip, now)
        self.keeper.poll()

    def row(self) -> int:
        """Its position. The clock of the device gives it its time."""
        position: int = self.log.append("pump", {"n": 1}).position
        self.log.sync()
        return position

    def rows(self) -> list[dict[str, Any]]:
        return [row for scanned in self.log.scan(CLOCK.stream) for row in scanned]

    def told(self, position: int) -> tuple[int, int] | None:
        """Of the row there."""
        for scanned in self.log.scan("pump", after=position - 1, until=position):
            return self.log.corrections().stamped(
                scanned.epoch, position, scanned.hlc, scanned.rows()[0]["time"]
            )
        raise AssertionError(position)

    @property
    def trust(self) -> str:
        return str(self.keeper.status()["trust"])


def test_timekeeper_a_board_at_1970_captures_and_is_corrected_once_the_hub_answers() -> None:
    desk = Desk(5 * SECOND)
    assert desk.trust == "unset"
    first = desk.row()
    desk.go(100)
    assert desk.told(first) is None
    desk.hear(NOW)
    assert desk.trust == "unset"
    assert desk.keeper.status()["offset"] == pytest.approx(NOW - 105 * SECOND, abs=SECOND // 10)
    true, within = desk.told(first) or (0, 0)
    assert abs(true - (NOW - 100 * SECOND)) <= within < SECOND
    scanned = next(desk.log.scan("pump"))
    assert scanned.rows()[0]["time"] == 5 * SECOND  # as it was
    assert scanned.clock_trust == corrections.UNSET
    assert not desk.keeper.may_expire
    assert [row["origin"] for row in desk.rows()] == ["opened", "hub"]


def test_timekeeper_a_clock_in_2106_is_unset_and_corrected() -> None:
    desk = Desk(Y2106)
    first = desk.row()
    desk.go(10)
    desk.hear(NOW)
    assert desk.trust == "unset"
    assert not desk.keeper.may_expire
    desk.clock.jump_wall(NOW)
    desk.go(1)
    later = desk.row()
    assert desk.trust == "confirmed"
    assert desk.keeper.may_expire
    for position, true in ((first, NOW - 10 * SECOND), (later, NOW + SECOND)):
        told, within = desk.told(position) or (0, 0)
        assert abs(told - true) <= within < SECOND


def test_timekeeper_a_clock_set_both_ways_while_running_is_followed() -> None:
    desk = Desk(NOW)
    expected = {}
    true = NOW
    for jump in (0, 3600, -7200, 60, -86_400 * 400, 86_400 * 500):
        desk.clock.jump_wall(desk.clock.wall_ns() + jump * SECOND)
        desk.keeper.poll()
        for _ in range(3):
            desk.go(20)
            true += 20 * SECOND
            expected[desk.row()] = true
    assert all(desk.told(position) is None for position in expected)
    desk.hear(true)
    for position, at in expected.items():
        told, within = desk.told(position) or (0, 0)
        assert abs(told - at) <= within < SECOND, (position, told - at)
    assert [row["origin"] for row in desk.rows()] == ["opened", *["read", "stepped"] * 5, "hub"]


def test_timekeeper_corrections_survive_sealing_and_a_new_opening() -> None:
    desk = Desk(5 * SECOND)
    first = desk.row()
    desk.go(60)
    desk.hear(NOW)
    for _ in range(3):
        desk.log.core.rotate()
        desk.row()
    assert desk.log.seal() > 0
    before = desk.told(first)
    assert before is not None
    desk.log.close()
    again = Desk(NOW, fs=desk.fs)
    assert again.told(first) == before
    assert again.told(again.row()) is None  # another epoch, without an answer
    table = again.log.corrections()
    assert (table.epochs, table.anchored) == (2, 1)


def test_timekeeper_writes_few_rows_of_a_link_that_answers_every_second() -> None:
    desk = Desk(NOW)
    true = NOW
    for _ in range(2 * 3600):
        desk.clock.advance(SECOND)
        true += SECOND + 50_000  # 50 ppm
        desk.hear(true)
    anchors = [row for row in desk.rows() if row["origin"] == "hub"]
    assert 1 < len(anchors) <= 2 * 3600 * SECOND // ANCHOR_EVERY_NS
    assert desk.trust == "confirmed"


def test_timekeeper_a_clock_that_jumps_at_every_look_is_given_up_and_found_again() -> None:
    desk = Desk(NOW)
    desk.hear(NOW)
    for at in range(400):
        desk.clock.jump_wall(NOW + (at % 2) * 3600 * SECOND)
        desk.go(1)
    lost = desk.row()
    rows = desk.rows()
    assert len(rows) <= 2 * SETS_MAX + 4
    assert rows[-1]["origin"] in ("adrift", "stepped")
    assert rows[-1]["origin"] != "adrift" or desk.told(lost) is None
    for _ in range(3 * SETS_EVERY_NS // SECOND):
        desk.go(1)
    assert desk.rows()[-1]["origin"] == "stepped"
    assert desk.told(desk.row()) is not None


def test_timekeeper_a_hub_time_before_the_floor_is_not_believed() -> None:
    desk = Desk(NOW)
    desk.floor = NOW - 60 * SECOND
    desk.hear(NOW - 3600 * SECOND)
    assert isinstance(desk.keeper.error, Untrusted)
    assert "2025-10-09 08:52:20 UTC or later" in str(desk.keeper.error), desk.keeper.error
    assert desk.trust == "free"
    assert [row["origin"] for row in desk.rows()] == ["opened"]
    desk.go(1)
    assert isinstance(desk.keeper.error, Untrusted)  # until there is another
    desk.hear(NOW + SECOND)
    assert desk.keeper.error is None
    assert desk.trust == "confirmed"


def test_timekeeper_a_clock_set_while_the_disk_is_full_is_written_down_once_there_is_room() -> None:
    desk = Desk(NOW)
    desk.hear(NOW)
    append = desk.log.append

    def full(*_: Any, **__: Any) -> Any:
        raise Exhausted("no room")

    desk.log.append = full  # type: ignore[method-assign]
    desk.clock.jump_wall(100 * SECOND)
    desk.go(1)
    desk.go(1)
    assert isinstance(desk.keeper.error, Exhausted)
    assert desk.trust == "unset"  # judged all the same
    desk.log.append = append  # type: ignore[method-assign]
    desk.go(1)
    assert desk.keeper.error is None
    assert [row["origin"] for row in desk.rows()] == ["opened", "hub", "read", "stepped"]
    told, within = desk.told(desk.row()) or (0, 0)
    assert abs(told - (NOW + 3 * SECOND)) <= within < SECOND


@pytest.mark.parametrize("says", [0, 5 * SECOND, Y2106, 2**63 - 1])
def test_timekeeper_a_hub_time_that_no_clock_can_have_is_not_believed(says: int) -> None:
    desk = Desk(NOW)
    desk.signed = (says, 0, 0)
    desk.keeper.poll()
    assert isinstance(desk.keeper.error, Untrusted)
    assert "no time it can be" in str(desk.keeper.error)
    assert desk.trust == "free"
    assert desk.told(desk.row()) is None


def test_timekeeper_a_clock_below_what_the_hub_had_signed_before_the_start_is_unset() -> None:
    desk = Desk(NOW, confirmed=(NOW + 60 * SECOND, 0, SECOND))
    assert desk.trust == "unset"
    desk.clock.jump_wall(NOW + 61 * SECOND)
    desk.go(1)
    assert desk.trust == "free"


def test_timekeeper_trust_ends_as_drift_may_have_grown() -> None:
    desk = Desk(NOW)
    desk.hear(NOW)
    assert desk.trust == "confirmed"
    desk.go(86_400)
    assert desk.trust == "free"
    desk.clock.jump_wall(desk.clock.wall_ns() + 60 * SECOND)
    desk.go(1)
    assert desk.trust == "off"
    assert desk.keeper.may_expire  # a minute ends no row's time


def test_timekeeper_a_slow_clock_is_read_as_it_moves() -> None:
    desk = Desk(NOW)
    desk.hear(NOW)
    true, expected = NOW, {}
    for _ in range(600):  # slewed by 500 ppm
        desk.clock.advance(SECOND)
        desk.clock.jump_wall(desk.clock.wall_ns() + 500_000)
        desk.keeper.poll()
        true += SECOND
        expected[desk.row()] = true
    assert {row["origin"] for row in desk.rows()} == {"opened", "hub", "read"}
    for position, at in expected.items():
        told, within = desk.told(position) or (0, 0)
        assert abs(told - at) <= within


# ---------------------------------------------------------------- the whole device


def _site(tmp_path: Path, wall: int) -> Site:
    """A board that boots with its clock at `wall`, and a hub whose clock is right."""
    site = Site(tmp_path, lines=30, fs=PosixFs())
    site.hub.close()
    site.clock = ManualClock(wall)
    site.hub = Hub.open(tmp_path / "hub", _Ahead(site.clock, NOW - wall))
    site.link.hub = site.hub
    return site


class _Ahead(ManualClock):
    """The hub's clock: the device's, and a while."""

    def __init__(self, clock: ManualClock, ahead: int) -> None:
        super().__init__(0)
        self.clock, self.ahead = clock, ahead
        self.start = clock.wall_ns() + ahead - clock.monotonic_ns()

    def wall_ns(self) -> int:
        return self.start + self.clock.monotonic_ns()


def _lines(capsys: Any, *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(list(words)) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_agent_at_1970_is_corrected_in_its_log_status_and_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = _site(tmp_path, 100 * SECOND)
    site.run_until(site.synced)
    device = site.device
    assert device is not None
    assert device.status()["clock"]["trust"] == "unset"
    assert any("clock     unset: it says 1970-01-01" in line for line in status.render(
        device.status(), site.clock.wall_ns()))  # fmt: skip
    rows = site.at_hub("edgecore.clock")
    assert rows[0]["origin"] == "opened"
    assert rows[-1]["true"] is not None
    site.close()
    log = f"{tmp_path}/state/log"
    [facts] = _lines(capsys, "log", "inspect", log, "--json")
    assert facts["clock"] == {"epochs": 1, "anchored": 1}
    lines = _lines(capsys, "log", "export", log, "--corrected")
    pump = [line for line in lines if line["stream"] == "pump"]
    assert len(pump) == 30
    for line in pump:
        assert line["time"] >= 1_709_251_200 * SECOND  # the file's own, as it was
        assert line["corrected_time"] is None  # another clock's
        assert abs(line["ingest_time"] - NOW) < 600 * SECOND
        assert abs(line["clock_offset"] - (NOW - 100 * SECOND)) < SECOND
    for line in lines:
        if line["stream"] == "edgecore.ingest":
            assert line["time"] < 1_000 * SECOND
            assert abs(line["corrected_time"] - line["time"] - (NOW - 100 * SECOND)) < SECOND
            assert line["time_uncertainty"] < SECOND
    plain = _lines(capsys, "log", "export", log)
    assert "corrected_time" not in plain[0]
    assert [line["time"] for line in plain] == [line["time"] for line in lines]
    assert main(["log", "export", log, "--device-time", "pump"]) == 16
    assert main(["log", "export", log, "--corrected", "--device-time", "pomp"]) == 16
    written = tmp_path / "ingest.csv"
    words = ["--format", "csv", "--stream", "edgecore.ingest", "--out", str(written)]
    assert main(["log", "export", log, "--corrected", *words]) == 0
    head, *body = written.read_text().splitlines()
    assert head.endswith(
        "corrected_time,time_uncertainty,ingest_time,ingest_uncertainty,clock_offset"
    )
    assert all(",2025-10-09T" in line for line in body)
    parquet = pytest.importorskip("pyarrow.parquet")
    words = ["--format", "parquet", "--stream", "pump", "--out", str(tmp_path / "pump.parquet")]
    assert main(["log", "export", log, "--corrected", "--device-time", "pump", *words]) == 0
    table = parquet.read_table(tmp_path / "pump.parquet")
    assert table.column("ingest_time").to_pylist()[0].year == 2025
    assert table.column("corrected_time").null_count == 30  # no time that this clock can have read
    assert table.schema.field("clock_offset").metadata == {b"unit": b"ns"}
    assert b"edgecore.store" in table.schema.metadata
    assert table.column("clock_offset").to_pylist() == [line["clock_offset"] for line in pump]


def test_agent_whose_history_rots_reads_from_its_log_when_the_hub_last_confirmed(
    tmp_path: Path,
) -> None:
    site = _site(tmp_path, NOW)
    site.run_until(site.synced)
    device = site.device
    assert device is not None
    assert device.status()["clock"]["trust"] == "confirmed"
    heard = max(row["true"] or 0 for s in device.log.scan(CLOCK.stream) for row in s)
    device.close()
    for copy in ("a", "b"):
        path = tmp_path / "state" / f"history.{copy}"
        if path.exists():
            path.write_bytes(b"rot" + path.read_bytes()[3:])
    site.link.fault = lambda answer: (_ for _ in ()).throw(Untrusted("a portal"))
    again = site.open()
    assert again.status()["clock"]["confirmed"] == heard
    assert again.status()["clock"]["trust"] == "free"
    assert again.status()["clock"]["offset"] is None
    lines = status.render(again.status(), site.clock.wall_ns())
    assert any("free-running" in line and "last heard 2025-10-09" in line for line in lines)
    site.close()
