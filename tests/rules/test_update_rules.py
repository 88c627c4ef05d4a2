"""The update rules as tables: every phase, every wish, every limit."""

from __future__ import annotations

import itertools

import pytest

from edgecore.release import Observation
from edgecore.rules.update import ATTEMPTS_MAX, Counts, Situation, decide, judge, may_start, role

LIMITS = Observation(min_predictions=50, max_seconds=60, max_alarm_share=0.2, max_errors=1)


@pytest.mark.parametrize(
    ("counts", "trial", "word"),
    [
        (Counts(0, 0, 0, 0), True, "wait"),
        (Counts(49, 9, 1, 60), True, "wait"),
        (Counts(50, 10, 1, 60), True, "pass"),
        (Counts(50, 11, 0, 1), True, "fail"),
        (Counts(20, 11, 0, 1), True, "fail"),  # 11 of 50 cannot be mended
        (Counts(20, 10, 0, 1), True, "wait"),
        (Counts(5, 0, 2, 1), True, "fail"),
        (Counts(49, 0, 0, 61), True, "fail"),
        (Counts(49, 0, 0, 61), False, "wait"),
        (Counts(1000, 200, 1, 1e9), False, "pass"),
        (Counts(1000, 201, 1, 1e9), False, "fail"),
    ],
)
def test_update_rules_judge_by_the_limits_of_the_manifest(
    counts: Counts, trial: bool, word: str
) -> None:
    assert judge(counts, LIMITS, trial)[0] == word


@pytest.mark.parametrize("wish", ["none", "active", "previous", "candidate", "other"])
@pytest.mark.parametrize("phase", ["empty", "staged", "trial", "active", "stable", "rolled_back"])
def test_update_rules_answer_to_every_wish(phase: str, wish: str) -> None:
    action, why = decide(Situation(phase, wish, running=True, limits=LIMITS))
    if phase in ("staged", "trial"):
        expected = "wait" if wish in ("none", "candidate") else "roll_back"
    elif phase == "active":
        expected = "roll_back" if wish == "previous" else "wait"
    else:
        expected = "fetch" if wish in ("previous", "other") else "wait"
    assert action == expected
    assert bool(why) == (action == "roll_back")


def test_update_rules_what_was_condemned_is_rolled_back_whatever_else_holds() -> None:
    good = Counts(1000, 0, 0, 1)
    for phase, wish, running in itertools.product(
        ("staged", "trial", "active"), ("none", "active", "candidate", "other"), (True, False)
    ):
        now = Situation(phase, wish, running=running, fault="why", counts=good, limits=LIMITS)
        assert decide(now) == ("roll_back", "why")


def test_update_rules_attempts_are_begun_until_they_are_used_up() -> None:
    for attempt in range(ATTEMPTS_MAX):
        assert decide(Situation("trial", attempt=attempt, limits=LIMITS))[0] == "begin_trial"
    assert decide(Situation("trial", attempt=ATTEMPTS_MAX, limits=LIMITS))[0] == "roll_back"
    running = Situation("trial", attempt=ATTEMPTS_MAX, running=True, limits=LIMITS)
    assert decide(running)[0] == "wait"
    assert [may_start(n) for n in (1, ATTEMPTS_MAX, ATTEMPTS_MAX + 1)] == [True, True, False]


@pytest.mark.parametrize(("phase", "action"), [("trial", "activate"), ("active", "mark_stable")])
def test_update_rules_proof_leads_on(phase: str, action: str) -> None:
    now = Situation(phase, running=True, counts=Counts(50, 0, 0, 1), limits=LIMITS)
    assert decide(now)[0] == action


def test_update_rules_trial_is_a_shadow_where_something_serves() -> None:
    assert role("trial", True) == "shadow"
    assert role("trial", False) == role("active", True) == role("stable", True) == "active"
