"""Rows that are not fit for a decision, from a reading to the line that a person reads: roles in
turn, the log, lineage, what was lost and completed, and clocks that jump."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore import lineage
from edgecore.cli.checker_models import Plain
from edgecore.cli.lineage import lines
from edgecore.digest import blake3
from edgecore.errors import Corrupt
from edgecore.fs import MemoryFs
from edgecore.inference import Binding, Model, Slot
from edgecore.pipeline import LocalModel, Pipeline, read_contexts
from edgecore.streams import PREDICTION

pytest.importorskip("flatbuffers")
sys.path.insert(0, str(Path(__file__).parent))
world: Any = importlib.import_module("pipeline_world")
SECOND, START, TELEMETRY = world.SECOND, world.START, world.TELEMETRY


def view(**rules: Any) -> ec.FeatureView:
    """Ten features: temp must be at most 10 s old for those that are refused."""
    return ec.FeatureView(
        "pump_health", entity="pump", source="telemetry", lateness="5s",
        features=[
            ec.Agg("temp", ["mean", "std", "min", "max"], window=["1m", "10m"]),
            ec.Last("temp", ttl="10s", on_stale="refuse"),
            ec.Recency(),
        ],
        **rules,
    )  # fmt: skip


def release(
    seed: int, slots: list[int] | None = None, rules: dict[str, Any] | None = None, **contract: Any
) -> LocalModel:
    """A model of ten inputs; `slots` of fewer features read some of them again."""
    prints = view(**(rules or {})).fingerprints_for(TELEMETRY)
    read = [prints[at] for at in (slots or range(10))] * 10
    binding = Binding([Slot(one, centre=20.0, scale=2.0) for one in read[:10]], **contract)
    return LocalModel(Model.load(world.autoencoder(seed)), binding, world.verdict())


def releases(**rules: Any) -> dict[str, LocalModel]:
    return {
        "active": release(20, rules=rules),
        "fallback": release(21, [1, 2, 5], rules, max_age="30s"),
        "rule": release(22, [0, 4, 9], rules, min_full=0.9),
    }


RELEASES = releases()


def objects() -> dict[bytes, bytes]:
    parts = [world.autoencoder(seed) for seed in (20, 21, 22)]
    parts += [one.binding.to_bytes() for one in RELEASES.values()]
    parts += [world.verdict(), view().to_bytes(), TELEMETRY.canonical_bytes]
    return {blake3(part): part for part in parts}


def rows(silences: list[int]) -> list[dict[str, Any]]:
    """One row a second; temp is silent for so many seconds, then comes again."""
    out: list[dict[str, Any]] = []
    for silence in silences:
        for i in range(silence + 1):
            out.append({
                "time": START + len(out) * SECOND, "source": "sim", "source_seq": len(out) + 1,
                "pump": "a", "temp": 20.0 + silence % 7 if i == 0 else None,
            })  # fmt: skip
    return out


class Station:
    def __init__(self, fs: MemoryFs | None = None, **rules: Any) -> None:
        self.log = ec.Log.open("log", fs=fs or MemoryFs(), flusher="manual")
        self.pipeline = Pipeline(self.log, view(**rules), schema=TELEMETRY)
        self.releases = releases(**rules)

    def serve(self) -> Station:
        for role in ("active", "fallback", "rule"):
            self.pipeline.set_role(role, self.releases[role])
        return self

    def answers(self) -> list[dict[str, Any]]:
        return [
            row | {"sequence": scanned.first + i}
            for scanned in self.log.scan(PREDICTION.stream)
            for i, row in enumerate(scanned.rows())
        ]

    def said(self) -> list[tuple[Any, ...]]:
        names = ("as_of", "score", "threshold", "verdict", "episode", "input_hash", "reason")
        return [tuple(row[name] for name in names) for row in self.answers()]


HISTORY = rows([0] * 30 + [15, 2, 45, 0, 90, 1, 12, 70])
STALE, OLD, SPARSE = "active:stale", "active:stale fallback:old", (
    "active:stale fallback:old rule:sparse"
)  # fmt: skip


def reason_at(i: int) -> str | None:
    age = next(back for back in range(i + 1) if HISTORY[i - back]["temp"] is not None)
    if age <= 10:
        return None
    return STALE if age <= 30 else OLD if age < 60 else SPARSE


def test_refusal_roles_answer_in_turn_and_the_prediction_says_why() -> None:
    station = Station().serve()
    found = station.pipeline.process(HISTORY)
    assert found.reason == [reason_at(i) for i in range(len(HISTORY))]
    assert set(found.reason) == {None, STALE, OLD, SPARSE}
    for one, said in zip(found, found.reason, strict=True):
        assert one.reason == said
        by = {None: "active", STALE: "fallback", OLD: "rule", SPARSE: "active"}[said]
        assert (one.role, one.score is None) == (by, said == SPARSE)
    counters = station.pipeline.counters
    assert counters["refused_active"] == len([one for one in found.reason if one])
    assert counters["refused_fallback"] == sum("fallback" in (one or "") for one in found.reason)
    assert counters["refused_rule"] == counters["unanswered"] == found.reason.count(SPARSE)
    assert counters["refused_shadow"] == 0
    state = station.pipeline.role("fallback")
    assert (state.failures, state.retired) == (0, False)
    assert [row["reason"] for row in station.answers()] == found.reason


@pytest.mark.parametrize("cut", [1, 37, 60, 150])
def test_refusal_is_the_same_after_restarts_and_in_what_is_completed(cut: int) -> None:
    whole = Station().serve()
    for row in HISTORY:
        whole.pipeline.process(row)
    fs = MemoryFs()
    first = Station(fs).serve()
    first.pipeline.process(HISTORY[: cut // 2])
    snapshot = first.pipeline.snapshot()
    first.pipeline.process(HISTORY[cut // 2 : cut])
    first.log.append("telemetry", HISTORY[cut : cut + 20])  # their predictions are lost
    first.log.close()
    second = Station(fs).serve()
    second.pipeline.restore(snapshot)
    assert second.pipeline.replay() == 20
    second.pipeline.process(HISTORY[cut + 20 :])
    assert second.said() == whole.said()


def test_refusal_is_made_again_by_lineage_and_read_by_a_person() -> None:
    fs = MemoryFs()
    first = Station(fs).serve()
    first.pipeline.process(HISTORY[:100])
    first.log.close()
    station = Station(fs).serve()
    station.pipeline.replay()
    station.pipeline.process(HISTORY[100:])
    get = objects().__getitem__
    partition = station.log.register(PREDICTION)
    seen = set()
    for answer in station.answers()[::4]:
        found = lineage.rebuild(station.log, f"{partition}:{answer['sequence']}", get)
        assert found.holds, found.differences
        assert found.note == ""
        assert found.rebuilt["reason"] == answer["reason"]
        seen.add(answer["reason"])
        if answer["reason"]:
            assert f"  reason     {answer['reason']}" in lines(found)
    assert seen == {None, STALE, OLD, SPARSE}


def test_refusal_that_is_forged_or_hidden_is_seen() -> None:
    station = Station().serve()
    station.pipeline.process(HISTORY)
    partition = station.log.register(PREDICTION)
    answers = station.answers()
    by_reason = {row["reason"]: row for row in answers}
    get = objects().__getitem__
    forgeries = [
        (None, STALE), (STALE, OLD), (STALE, "active:old"), (OLD, "fallback:sparse"),
        (SPARSE, SPARSE.replace("fallback:old", "fallback:stale")), (SPARSE, None),
        (SPARSE, "active:failed"), (None, "uncounted"),
    ]  # fmt: skip
    for was, forged in forgeries:
        row = {key: value for key, value in by_reason[was].items() if key != "sequence"}
        done = station.log.append(PREDICTION.stream, row | {"reason": forged})
        found = lineage.rebuild(station.log, f"{partition}:{done.first}", get)
        assert not found.holds, (was, forged)
        assert "reason" in found.differences
    lost = {digest: data for digest, data in objects().items()
            if data != RELEASES["active"].binding.to_bytes()}  # fmt: skip
    lost[blake3(RELEASES["active"].binding.to_bytes())] = RELEASES["rule"].binding.to_bytes()
    with pytest.raises(Corrupt, match="binding of role active"):
        lineage.rebuild(station.log, f"{partition}:{by_reason[STALE]['sequence']}",
                        lost.__getitem__)  # fmt: skip


def test_refusal_is_not_undone_by_a_clock_that_jumps() -> None:
    """A refused value stays refused whatever time is claimed: ages are of events, a row from the
    past is late, one from the future stands alone until others agree."""
    station = Station(max_ahead="1m").serve()
    station.pipeline.process(rows([0] * 40 + [30]))
    now = START + 70 * SECOND

    def reason(time: int) -> str | None:
        return station.pipeline.process({"time": time, "pump": "a", "temp": None})[0].reason

    assert reason(now) == STALE
    assert reason(START + 35 * SECOND) == "uncounted"  # when temp was fresh
    assert reason(now + 3600 * SECOND) == "uncounted"  # one clock, ahead
    assert reason(now + 86_400 * SECOND) == "uncounted"
    assert reason(now + SECOND) == OLD  # 31 s
    assert reason(now - 4 * SECOND) == STALE  # within the lateness; 26 s old then, too
    # The stream itself goes on an hour later: nothing is left to read, the rule is refused too.
    said = [reason(now + (3600 + i) * SECOND) for i in range(3)]
    assert said == ["uncounted", "uncounted", SPARSE]


def test_refusal_is_seen_by_a_judge_that_shares_nothing_with_the_core() -> None:
    station = Station().serve()
    station.pipeline.process(HISTORY)
    get = objects().__getitem__
    contexts = {one.number: one for one in read_contexts(station.log)}
    judges = {number: Plain(station.log, one, get) for number, one in contexts.items()}
    for row in station.answers()[::3]:
        again = judges[row["context"]].answer(row)
        assert again["verdict"] == row["verdict"]
        assert again["input_hash"] == row["input_hash"].hex()
        assert (again["score"] is None) == (row["score"] is None)


def test_refusal_of_one_model_does_not_touch_another_of_the_same_view() -> None:
    station = Station()
    station.pipeline.set_role("active", release(21, [0, 1, 2, 3]))
    found = station.pipeline.process(HISTORY)
    assert set(found.reason) == {None}
    assert station.pipeline.counters["refused_active"] == 0
