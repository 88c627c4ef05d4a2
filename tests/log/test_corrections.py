"""Corrections of a device's clock, against a simulated device whose true time is known: whatever
the wall clock did, true time lies within the uncertainty that is said, or nothing is said."""

from __future__ import annotations

import random

import pytest

from edgecore.corrections import (
    ADRIFT,
    CONFIRMED,
    DRIFT_PPM,
    FREE,
    HUB,
    OFF,
    OPENED,
    READ,
    STEP_NS,
    STEPPED,
    UNSET,
    Corrections,
    Reading,
    judge,
)

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
NOW = 1_760_000_000 * SECOND  # 2025
Y2106 = 4_294_967_295 * SECOND


class Board:
    """A device whose true time is known. Its monotonic clock drifts, its wall clock goes with it
    and is set by :meth:`set`; rows are (position, stamp, HLC, true time, epoch)."""

    def __init__(self, true: int, wall: int, epoch: int = 1, ppm: int = 0, hlc: int = 0) -> None:
        self.true, self.wall, self.monotonic, self.epoch, self.ppm = true, wall, 0, epoch, ppm
        self.hlc, self.position = hlc, 0
        self.readings: list[Reading] = []
        self.rows: list[tuple[int, int, int, int, int]] = []
        self.came: dict[int, int] = {}  # of rows that waited
        self.read(OPENED)

    def go(self, ns: int) -> None:
        self.true += ns
        self.monotonic += ns + ns * self.ppm // 1_000_000
        self.wall += ns + ns * self.ppm // 1_000_000

    def _come(self) -> tuple[int, int]:
        self.position += 1
        self.hlc = max(self.hlc + 1, max(0, self.wall // 1_000_000) << 16)
        return self.position, self.hlc

    def read(self, origin: str, error: int = 0, within: int | None = None) -> None:
        true = self.true + error if origin == HUB else None
        self.readings.append(
            Reading(self.epoch, *self._come(), self.monotonic, self.wall, origin, true, within)
        )

    def row(self) -> None:
        wall = self.wall
        position, hlc = self._come()
        self.rows.append((position, wall, hlc, self.true, self.epoch))

    def stamp(self, row: int) -> tuple[int, int, int]:
        """Position, HLC and stamp."""
        position, wall, hlc, _, _ = self.rows[row]
        return position, hlc, wall

    def set(self, wall: int) -> None:
        self.read(READ)
        self.wall = wall
        self.read(STEPPED)

    def check(self, readings: list[Reading] | None = None) -> tuple[int, int]:
        """How many stamps and arrivals were told; each within what was said of it."""
        table = Corrections(self.readings if readings is None else readings)
        told = came = 0
        for position, wall, hlc, true, epoch in self.rows:
            stamp = table.stamped(epoch, position, hlc, wall)
            if stamp is not None:
                assert abs(stamp[0] - true) <= stamp[1], (position, stamp, true)
                told += 1
            arrival = table.arrived(epoch, position, hlc)
            if arrival is not None:
                at = self.came.get(position, true)
                assert abs(arrival[0] - at) <= arrival[1], (position, arrival, at)
                came += 1
        return told, came


def test_corrections_a_board_that_boots_at_1970_is_corrected_from_one_later_answer() -> None:
    board = Board(NOW, 1_000 * SECOND)
    for _ in range(100):
        board.go(SECOND)
        board.row()
    board.read(HUB, error=20_000_000, within=30_000_000)
    assert board.check() == (100, 100)
    table = Corrections(board.readings)
    true, within = table.stamped(1, *board.stamp(0)) or (0, 0)
    assert abs(true - board.rows[0][3]) < SECOND // 10
    assert within < SECOND // 5
    offset = table.offset(1, board.rows[0][0])
    assert offset is not None
    assert abs(offset[0] - (NOW - 1_000 * SECOND)) < SECOND // 10
    assert (table.epochs, table.anchored) == (1, 1)


def test_corrections_an_epoch_without_an_answer_is_unknown() -> None:
    board = Board(NOW, 0)
    board.row()
    assert board.check() == (0, 0)
    table = Corrections(board.readings)
    assert table.at(1, 0) is None
    assert table.at(2, 0) is None
    assert table.stamped(2, 1, 1 << 60, NOW) is None
    assert table.arrived(2, 1, 1 << 40) is None
    assert table.offset(2, 1) is None
    assert table.offset(1, 1) is None
    assert (table.epochs, table.anchored) == (1, 0)


@pytest.mark.parametrize("to", [1_000 * SECOND, Y2106, NOW - 3600 * SECOND, NOW + 3600 * SECOND])
def test_corrections_a_clock_set_within_an_epoch_is_corrected_on_both_sides(to: int) -> None:
    board = Board(NOW, NOW + 7 * SECOND)
    for at in range(60):
        board.go(SECOND)
        board.row()
        if at == 30:
            board.set(to)
    board.read(HUB, within=10_000_000)
    told, came = board.check()
    assert told == 60
    assert came >= 31 if to < NOW else came == 60


def test_corrections_between_two_anchors_drift_is_a_line() -> None:
    board = Board(NOW, NOW, ppm=DRIFT_PPM // 2)
    board.read(HUB, within=1_000_000)
    for _ in range(24):
        board.go(3600 * SECOND)
        board.row()
    alone = Corrections(board.readings).at(1, board.monotonic) or (0, 0)
    assert abs(alone[0] - board.true) <= alone[1]
    assert alone[1] > 8 * SECOND  # a day at 100 ppm
    board.read(HUB, within=1_000_000)
    assert board.check() == (24, 24)
    table = Corrections(board.readings)
    middle = table.stamped(1, *board.stamp(11)) or (0, 0)
    assert abs(middle[0] - board.rows[11][3]) < 10_000_000


def test_corrections_a_poor_answer_does_not_spoil_a_good_one() -> None:
    board = Board(NOW, NOW)
    board.read(HUB, within=1_000_000)
    board.go(99 * SECOND)
    board.row()
    board.go(SECOND)
    board.read(HUB, error=900_000_000, within=SECOND)
    true, _ = Corrections(board.readings).stamped(1, *board.stamp(0)) or (0, 0)
    assert abs(true - board.rows[0][3]) <= 1_000_000 + 99 * SECOND * DRIFT_PPM // 1_000_000 + 1


def test_corrections_a_clock_that_creeps_without_a_reading_is_within_the_uncertainty() -> None:
    board = Board(NOW, NOW)
    board.read(HUB, within=1)
    for creep in (0, STEP_NS - 1, -STEP_NS + 1):
        board.wall += creep
        board.go(999_999)
        board.row()
        board.wall -= creep
    assert board.check() == (3, 3)


def test_corrections_rows_about_a_setting_go_with_the_clock_that_stamped_them() -> None:
    board = Board(NOW, NOW)
    board.read(HUB, within=1)
    board.row()
    early = board.rows[-1]
    board.go(SECOND // 2)
    board.wall += 3600 * SECOND  # set, and not noticed yet
    board.row()
    board.wall -= 3600 * SECOND
    board.set(board.wall + 3600 * SECOND)
    board.go(SECOND)
    board.row()
    position, hlc = board._come()
    board.rows.append((position, early[1], hlc, early[3], 1))  # waited since before the setting
    board.came[position] = board.true
    told, _ = board.check()
    assert told == 4


def test_corrections_a_time_that_the_clock_cannot_have_read_is_unknown() -> None:
    board = Board(NOW, 1_000 * SECOND)
    board.go(60 * SECOND)
    board.row()
    board.read(HUB, within=1)
    position, hlc, wall = board.stamp(0)
    table = Corrections(board.readings)
    assert table.stamped(1, position, hlc, wall) is not None
    assert table.stamped(1, position, hlc, NOW - 365 * DAY) is None  # later than its own commit
    assert table.stamped(1, position, hlc, 0) is None  # long before this opening
    board.set(NOW)
    board.go(SECOND)
    board.row()
    position, hlc, wall = board.stamp(1)
    table = Corrections(board.readings)
    assert table.stamped(1, position, hlc, wall) is not None
    assert table.stamped(1, position, hlc, NOW - 365 * DAY) is None  # between two settings


def test_corrections_while_adrift_only_readings_around_a_row_tell() -> None:
    board = Board(NOW, NOW)
    board.read(HUB, within=1)
    board.read(ADRIFT)
    board.wall = 5 * SECOND
    board.go(30 * SECOND)
    board.row()
    board.go(30 * SECOND)
    told, came = board.check()
    assert (told, came) == (0, 0)
    board.read(STEPPED)
    assert board.check() == (0, 1)
    assert Corrections(board.readings).offset(1, board.rows[0][0]) is None


def test_corrections_anchors_that_contradict_each_other_are_both_held_possible() -> None:
    board = Board(NOW, NOW)
    board.read(HUB, within=1_000_000)
    board.go(60 * SECOND)
    board.row()
    board.go(60 * SECOND)
    board.read(HUB, error=3600 * SECOND, within=1_000_000)
    _, within = Corrections(board.readings).stamped(1, *board.stamp(0)) or (0, 0)
    assert within >= 3600 * SECOND
    assert board.check() == (1, 1)


def test_corrections_any_life_of_a_clock_is_told_within_its_uncertainty() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    told = anchors = 0
    for life in range(300):
        start = rng.choice([0, 1_000 * SECOND, NOW, NOW - DAY, Y2106])
        board = Board(
            NOW, start, ppm=rng.randint(-DRIFT_PPM + 5, DRIFT_PPM - 5),
            hlc=rng.choice([0, Y2106 // 1_000_000 << 16]) if life % 3 == 0 else 0,
        )  # fmt: skip
        for _ in range(rng.randint(1, 60)):
            board.go(rng.randint(SECOND // 1000, rng.choice([SECOND, 3600 * SECOND])))
            what = rng.random()
            if what < 0.7:
                board.row()
            elif what < 0.8:
                within = rng.randint(1, SECOND)
                board.read(HUB, rng.randint(-within, within), within)
                anchors += 1
            elif what < 0.9:
                jump = rng.choice([60 * SECOND, DAY, 3650 * DAY]) * rng.choice([-1, 1])
                board.set(board.wall + jump + rng.randint(STEP_NS, SECOND))
        told += board.check()[0]
    assert told > 1000
    assert anchors > 100


def test_corrections_do_not_depend_on_the_order_of_readings() -> None:
    board = Board(NOW, 0, ppm=20)
    for _ in range(20):
        board.go(100 * SECOND)
        board.row()
        board.read(HUB, within=SECOND // 10)
    shuffled = list(board.readings)
    random.Random(3).shuffle(shuffled)
    one, other = Corrections(board.readings), Corrections(shuffled)
    for row in range(20):
        assert one.stamped(1, *board.stamp(row)) == other.stamped(1, *board.stamp(row))
        assert one.stamped(1, *board.stamp(row)) is not None


def test_corrections_trust_is_judged_by_the_year_the_floor_and_the_hub() -> None:
    assert judge(0, 0, None) == UNSET
    assert judge(-SECOND, 0, None) == UNSET
    assert judge(Y2106, 0, None) == UNSET
    assert judge(NOW, 0, None) == FREE
    assert judge(NOW, NOW + 2 * SECOND, None) == UNSET
    assert judge(NOW, NOW - DAY, None) == FREE
    assert judge(NOW, NOW, (NOW + SECOND // 2, SECOND // 2)) == CONFIRMED
    assert judge(NOW, NOW, (NOW + SECOND // 2, SECOND)) == FREE  # nobody can tell
    assert judge(NOW, 0, (NOW + 5 * SECOND, SECOND)) == OFF
    assert judge(0, 0, (NOW, SECOND)) == UNSET
