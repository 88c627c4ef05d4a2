"""The running verdict through Python."""

from __future__ import annotations

import random
from array import array

import pytest

from edgecore._core.verdict import Verdict, VerdictSpec
from edgecore.errors import Corrupt, Incompatible, Invalid

SECOND = 1_000_000_000


def spec(**changes: int) -> VerdictSpec:
    small = {"window": 50, "warmup": 10, "enter_count": 3, "exit_count": 4, "floor": 100}
    return VerdictSpec(**{**small, "gap_ns": 20 * SECOND, **changes})


def test_verdict_one_by_one_equals_a_whole_history(seed: int) -> None:
    chance = random.Random(seed)
    scores = array("q", [chance.randrange(40) * (30 if i % 90 > 70 else 1) for i in range(400)])
    times = array("q", [i * SECOND for i in range(400)])
    whole = Verdict(spec()).decide_all(scores, times)
    one = Verdict(spec())
    assert [one.decide(s, t) for s, t in zip(scores, times, strict=True)] == whole
    assert {verdict for _, verdict, _ in whole} == {0, 1, 2}


def test_verdict_restored_goes_on_identically(seed: int) -> None:
    chance = random.Random(seed)
    first = Verdict(spec())
    for i in range(120):
        first.decide(chance.randrange(300), i * SECOND)
    second = Verdict(spec())
    second.restore(first.state())
    for i in range(120, 300):
        score = chance.randrange(3_000)
        assert first.decide(score, i * SECOND) == second.decide(score, i * SECOND)
    assert first.state() == second.state()


def test_verdict_hostile_bytes_are_refused() -> None:
    verdict = Verdict(spec())
    with pytest.raises(Corrupt):
        verdict.restore(b"\0" * 200)
    with pytest.raises(Incompatible):
        Verdict(spec(floor=7)).restore(verdict.state())
    with pytest.raises(Corrupt):
        VerdictSpec.from_bytes(spec().to_bytes()[:-1])
    with pytest.raises(Invalid, match="window"):
        spec(window=0)
    assert VerdictSpec.from_bytes(spec().to_bytes()).floor == 100
