"""The pipeline from Python: one path, the same answers by every way through it."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore._core.rows import Batch
from edgecore.errors import Corrupt, Exhausted, Incompatible, Invalid, Stale
from edgecore.fs import MemoryFs
from edgecore.inference import Binding, Model, Slot
from edgecore.pipeline import LocalModel, Pipeline, read_contexts
from edgecore.streams import PREDICTION

pytest.importorskip("flatbuffers")
sys.path.insert(0, str(Path(__file__).parent))
world: Any = importlib.import_module("pipeline_world")


def test_pipeline_row_gives_one_prediction_with_typed_columns() -> None:
    device = world.Device()
    context = device.pipeline.set_role("active", world.release())
    rows = world.readings(100, 1)
    found = device.pipeline.process(rows)
    assert len(found) == found.count == 100
    assert found.recorded
    assert found.rejected == []
    assert {name: getattr(found, name).format for name in ("position", "as_of", "score")} == {
        "position": "Q", "as_of": "q", "score": "d",
    }  # fmt: skip
    assert list(found.position) == list(range(found.source_position, found.source_position + 100))
    assert list(found.as_of) == [row["time"] for row in rows]
    assert set(found.context) == {context.number}
    judged = [i for i in range(100) if found.verdict[i] != 2]
    assert 1 in found.verdict
    assert 0 in found.verdict
    assert judged
    one = found[judged[0]]
    assert one.role == "active"
    assert one.score == found.score[judged[0]]
    assert one.threshold == found.threshold[judged[0]]
    assert found[0].threshold is None
    assert found.threshold[0] != found.threshold[0]
    with pytest.raises(IndexError):
        found[100]


def run_by(ways: Any, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    device = world.Device()
    device.pipeline.set_role("active", world.release())
    for part in ways(rows):
        device.pipeline.process(part)
    return world.said(device.answers())


def test_pipeline_every_way_in_gives_the_same_answers(seed: int) -> None:
    rows = world.readings(150, seed)

    def as_batch(rows: list[dict[str, Any]]) -> list[Batch]:
        batch = Batch(world.TELEMETRY)
        batch.extend(rows)
        return [batch]

    one_by_one = run_by(lambda rows: rows, rows)
    assert one_by_one == run_by(lambda rows: [rows], rows)
    assert one_by_one == run_by(lambda rows: [rows[i : i + 20] for i in range(0, 150, 20)], rows)
    assert one_by_one == run_by(as_batch, rows)


def test_pipeline_restart_goes_on_with_the_same_run_and_the_same_bits(seed: int) -> None:
    rows = world.readings(200, seed)
    whole = run_by(lambda rows: [rows], rows)
    for with_snapshot in (True, False):
        fs = MemoryFs()
        first = world.Device(fs)
        was = first.pipeline.set_role("active", world.release())
        first.pipeline.process(rows[:70])
        snapshot = first.pipeline.snapshot()
        first.pipeline.process(rows[70:120])
        first.log.close()
        second = world.Device(fs)
        now = second.pipeline.set_role("active", world.release())
        assert now.number > was.number
        assert now.run == was.run
        with pytest.raises(Invalid, match="replay"):
            second.pipeline.process(rows[120])
        if with_snapshot:
            second.pipeline.restore(snapshot)
        assert second.pipeline.replay() == 0
        second.pipeline.process(rows[120:])
        assert world.said(second.answers()) == whole


def test_pipeline_crash_between_the_two_appends_is_completed_once(seed: int) -> None:
    rows = world.readings(40, seed)
    whole = run_by(lambda rows: [rows], rows)
    durability = {"bulk": "sync"}
    first = world.Device(MemoryFs(), durability=durability)
    first.pipeline.set_role("active", world.release())
    first.log.sync()
    first.pipeline.process(rows[:25])  # its rows are durable, its predictions wait
    disk = first.fs.crash(seed)  # type: ignore[attr-defined]
    for expected in (25, 0):  # the second restart finds nothing left to do
        device = world.Device(disk, durability=durability)
        device.pipeline.set_role("active", world.release())
        assert device.pipeline.replay() == expected
        device.log.sync()
        disk = disk.crash(seed)
    device.pipeline.process(rows[25:])
    assert world.said(device.answers()) == whole


def test_pipeline_crash_and_another_release_still_completes_what_was_owed(seed: int) -> None:
    rows = world.readings(30, seed)
    first = world.Device(MemoryFs(), durability={"bulk": "sync"})
    first.pipeline.set_role("active", world.release())
    first.pipeline.process(rows[:10])
    first.log.sync()
    first.pipeline.process(rows[10:30])
    device = world.Device(first.fs.crash(seed))  # type: ignore[attr-defined]
    context = device.pipeline.set_role("active", world.release(21))
    assert device.pipeline.replay() == 20
    found = device.answers()
    assert [one["row"] for one in found] == list(range(1, 31))
    assert {one["context"] for one in found[10:]} == {context.number}


def test_pipeline_without_a_role_logs_and_warms_a_later_one(seed: int) -> None:
    rows = world.readings(120, seed)
    whole = run_by(lambda rows: [rows], rows)
    device = world.Device()
    assert len(device.pipeline.process(rows[:60])) == 0
    device.pipeline.set_role("active", world.release(), warm_after=0)
    device.pipeline.process(rows[60:])
    assert world.said(device.answers()) == whole[60:]


def test_pipeline_swap_begins_another_run_and_going_back_another_still() -> None:
    device = world.Device()
    rows = world.readings(90, 3)
    contexts = []
    for i, seed in enumerate((20, 21, 20)):
        contexts.append(device.pipeline.set_role("active", world.release(seed)))
        found = device.pipeline.process(rows[i * 30 : i * 30 + 30])
        assert set(found.context) == {contexts[-1].number}
    assert len({context.run for context in contexts}) == 3
    stored = {context.number: context for context in read_contexts(device.log)}
    for context in contexts:
        assert stored[context.number].body == context.body
        assert stored[context.number].position == context.position
    again = device.pipeline.set_role("active", world.release())
    assert again is contexts[-1]  # nothing changed, so nothing is recorded


class Flaky:
    """A runtime that only Python reaches; fails or lies when told to."""

    def __init__(self) -> None:
        self.model = Model.load(world.autoencoder())
        self.mood = "well"
        self.input_size = self.model.input_size
        self.output_size = self.model.output_size
        self.input_quantisation = self.model.input_quantisation
        self.output_quantisation = self.model.output_quantisation
        self.arena_bytes = 0

    def describe(self) -> dict[str, object]:
        return {"backend": "tflite", "isa": "", "profile": "litert-single", "ops": []}

    def run(self, input: Any) -> bytes:
        return self.run_batch(input, 1)

    def run_batch(self, input: Any, rows: int) -> bytes:
        if self.mood == "raises":
            raise RuntimeError("out of tune")
        if self.mood == "short":
            return b""
        return self.model.run_batch(input, rows)


@pytest.mark.parametrize("mood", ["raises", "short"])
def test_pipeline_python_runtime_answers_alike_and_its_failure_is_answered_by_the_rule(
    mood: str,
) -> None:
    rows = world.readings(80, 4)
    backend = Flaky()
    model = Model(backend, backend.model.digest)
    device = world.Device()
    device.pipeline.set_role("active", LocalModel(model, world.binding(), world.verdict()))
    device.pipeline.process(rows[:50])
    assert world.said(device.answers()) == run_by(lambda rows: [rows], rows[:50])
    backend.mood = mood
    found = device.pipeline.process(rows[50:])
    assert len(found) == 30
    assert device.pipeline.counters["by_rule"] + device.pipeline.counters["late"] >= 30
    assert "rule" in {found[i].role for i in range(30)}
    state = device.pipeline.role("active")
    assert state is not None
    assert state.failures > 0
    assert not state.retired
    assert state.failure


def test_pipeline_fallback_serves_and_shadow_is_only_recorded() -> None:
    rows = world.readings(60, 5)
    backend = Flaky()
    active = LocalModel(Model(backend, backend.model.digest), world.binding(), world.verdict())
    device = world.Device()
    device.pipeline.set_role("active", active)
    device.pipeline.set_role("fallback", world.release(21))
    device.pipeline.set_role("shadow", world.release(22))
    found = device.pipeline.process(rows[:30])
    assert len(found.shadow) > 0
    assert found.shadow[0].role == "shadow"
    backend.mood = "raises"
    found = device.pipeline.process(rows[30:])
    assert {found[i].role for i in range(30)} <= {"fallback", "rule"}
    assert device.pipeline.counters["by_fallback"] > 20
    assert 2 not in [found[i].verdict for i in range(30) if found[i].role == "fallback"]
    device.pipeline.clear_role("shadow")
    assert device.pipeline.role("shadow") is None


def test_pipeline_bad_row_takes_nothing_or_is_left_out() -> None:
    device = world.Device()
    device.pipeline.set_role("active", world.release())
    rows = world.readings(3, 6)
    before = device.log.position
    for bad in ({"temp": "hot"}, {"temp": 900.0}, {"nothing": 1}):
        with pytest.raises(Invalid):
            device.pipeline.process([rows[0], rows[1] | bad, rows[2]])
    assert device.log.position == before
    found = device.pipeline.process(
        [rows[0], rows[1] | {"temp": 900.0}, rows[2]], on_invalid="skip"
    )
    assert len(found) == 2
    assert found.rejected[0][0] == 1
    batch = Batch(PREDICTION)
    with pytest.raises(Invalid):
        batch.append({"context": 1})
    other = ec.Schema("other", tier="bulk", fields=[ec.Field("x", "f64")])
    foreign = Batch(other)
    foreign.append({"x": 1.0})
    with pytest.raises(Invalid, match="telemetry"):
        device.pipeline.process(foreign)


def test_pipeline_model_that_does_not_fit_is_refused_and_the_old_one_stays() -> None:
    device = world.Device()
    context = device.pipeline.set_role("active", world.release())
    narrow = Binding([Slot(one) for one in world.view().fingerprints_for(world.TELEMETRY)[:9]])
    foreign = Binding([Slot(bytes([i]) * 32) for i in range(10)])
    for wrong in (narrow, foreign):
        model = Model.load(world.autoencoder())
        with pytest.raises(Incompatible):
            device.pipeline.set_role("active", LocalModel(model, wrong, world.verdict()))
    model = Model.load(world.autoencoder())
    with pytest.raises(Corrupt):
        device.pipeline.set_role("active", LocalModel(model, world.binding(), b"verdict"))
    with pytest.raises(Invalid):
        device.pipeline.set_role("leader", world.release())
    found = device.pipeline.process(world.readings(5, 7))
    assert set(found.context) == {context.number}


def test_pipeline_full_disk_loses_nothing() -> None:
    rows = world.readings(40, 8)
    device = world.Device(MemoryFs(), durability={"bulk": "sync"})
    device.pipeline.set_role("active", world.release())
    device.pipeline.process(rows[:10])
    device.fs.inject("no_space", sticky=True)  # type: ignore[attr-defined]
    with pytest.raises(Exhausted):
        device.pipeline.process(rows[10:20])
    device.fs.clear_faults()  # type: ignore[attr-defined]
    try:
        device.pipeline.process(rows[10:20])
    except Invalid:
        device.pipeline.replay()
    taken = {one["row"] for one in device.answers()}
    device.pipeline.process([row for row in rows[10:] if row["source_seq"] not in taken])
    assert world.said(device.answers()) == run_by(lambda rows: [rows], rows)


def test_pipeline_hostile_snapshots_are_refused() -> None:
    device = world.Device()
    device.pipeline.set_role("active", world.release())
    device.pipeline.process(world.readings(20, 9))
    good = device.pipeline.snapshot()
    for at in range(0, len(good), 97):
        with pytest.raises(Corrupt):
            device.pipeline.restore(good[:at])
        with pytest.raises(Corrupt):
            device.pipeline.restore(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    other = world.Device()
    with pytest.raises((Stale, Incompatible)):
        other.pipeline.restore(good)
    device.pipeline.restore(good)
    assert device.pipeline.position == device.log.position - 20


def test_pipeline_of_a_closed_log_is_invalid() -> None:
    device = world.Device()
    device.log.close()
    with pytest.raises(Invalid, match="closed"):
        device.pipeline.process(world.readings(1, 1))


def test_pipeline_view_of_another_stream_is_incompatible() -> None:
    log = ec.Log.open("log", fs=MemoryFs(), flusher="manual")
    other = ec.Schema("other", tier="bulk", fields=list(world.TELEMETRY.fields))
    with pytest.raises(Incompatible):
        Pipeline(log, world.view(), schema=other)


def test_pipeline_threads_take_turns() -> None:
    device = world.Device()
    backend = Flaky()
    active = LocalModel(Model(backend, backend.model.digest), world.binding(), world.verdict())
    device.pipeline.set_role("active", active)

    def send(pump: str) -> None:
        for i in range(40):
            rows = [{"pump": pump, "temp": 20.0, "time": world.START + i}] * (1 + i % 30)
            assert len(device.pipeline.process(rows)) == len(rows)

    threads = [threading.Thread(target=send, args=(pump,)) for pump in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count = 3 * sum(1 + i % 30 for i in range(40))
    assert device.pipeline.counters["rows"] == count
    served = sum(scanned.count for scanned in device.log.scan(PREDICTION.stream))
    assert served == count
