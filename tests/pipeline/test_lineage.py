"""Lineage: a prediction comes out the same from its log and its release, and from nothing else."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore import lineage
from edgecore.cli.main import main
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid, Unavailable
from edgecore.fs import MemoryFs
from edgecore.streams import CONTEXT, PREDICTION

pytest.importorskip("flatbuffers")
sys.path.insert(0, str(Path(__file__).parent))
world: Any = importlib.import_module("pipeline_world")


def getter(objects: dict[bytes, bytes]) -> Any:
    def get(digest: bytes) -> bytes:
        try:
            return objects[digest]
        except KeyError:
            raise Unavailable(f"no object {digest.hex()}") from None

    return get


def identity(device: Any, answer: dict[str, Any]) -> str:
    partition = device.log.register(PREDICTION)
    return f"{device.log.store_id.hex()}:{partition}:{answer['sequence']}"


@pytest.fixture
def device() -> Any:
    device = world.Device()
    device.pipeline.set_role("active", world.release())
    device.pipeline.process(world.readings(120, 11))
    return device


def test_lineage_every_prediction_comes_out_the_same(device: Any) -> None:
    get = getter(world.objects())
    for answer in device.answers()[::9]:
        found = lineage.rebuild(device.log, identity(device, answer), get)
        assert found.holds, found.differences
        assert found.recorded["score"] == answer["score"]
        assert list(found.features) == list(world.view().names)
        assert json.loads(json.dumps(found.to_dict()))["holds"]


def test_lineage_goes_over_restarts_swaps_and_failures(seed: int) -> None:
    fs = MemoryFs()
    rows = world.readings(150, seed)
    first = world.Device(fs)
    first.pipeline.set_role("active", world.release())
    first.pipeline.process(rows[:50])
    first.log.close()
    device = world.Device(fs)
    device.pipeline.set_role("active", world.release())
    device.pipeline.replay()
    device.pipeline.process(rows[50:90])
    device.pipeline.set_role("active", world.release(21), warm_after=0)
    device.pipeline.set_role("shadow", world.release(22))
    device.pipeline.process(rows[90:])
    objects = world.objects() | world.objects(21) | world.objects(22)
    answers = device.answers()
    assert len(answers) > 150  # shadow answers among them
    for answer in answers[::7]:
        found = lineage.rebuild(device.log, identity(device, answer), getter(objects))
        assert found.holds, (answer["row"], found.differences)


def test_lineage_of_a_rule_holds_too() -> None:
    device = world.Device()
    device.pipeline.set_role("rule", world.release())
    device.pipeline.process(world.readings(30, 12))
    found = lineage.rebuild(
        device.log, identity(device, device.answers()[-1]), getter(world.objects())
    )
    assert found.holds
    assert found.context.role == "rule"


@pytest.mark.parametrize("which", ["model", "binding", "verdict", "view", "schema"])
def test_lineage_with_a_tampered_object_is_corrupt(device: Any, which: str) -> None:
    body = device.pipeline._contexts[0].body
    objects = world.objects()
    data = bytearray(objects[body[which]])
    data[len(data) // 2] ^= 4
    objects[body[which]] = bytes(data)
    with pytest.raises(Corrupt, match=which):
        lineage.rebuild(device.log, identity(device, device.answers()[-1]), getter(objects))
    del objects[body[which]]
    with pytest.raises(Unavailable):
        lineage.rebuild(device.log, identity(device, device.answers()[-1]), getter(objects))


def with_another_context(device: Any, number: int, **changes: Any) -> str:
    """Records the last prediction again under a context that says something else."""
    from cbor2 import dumps

    body = dict(device.pipeline._contexts[0].body) | changes
    device.log.append(CONTEXT.stream, {"context": number, "body": dumps(body, canonical=True)})
    last = {k: v for k, v in device.answers()[-1].items() if k not in ("row", "sequence")}
    done = device.log.append(PREDICTION.stream, last | {"context": number})
    return f"{done.partition}:{done.first}"


def test_lineage_with_another_model_binding_or_verdict_does_not_hold(device: Any) -> None:
    other = world.binding(21.0)
    objects = world.objects() | world.objects(21) | world.objects(factor_permille=2000)
    objects[blake3(other.to_bytes())] = other.to_bytes()
    changed = {
        "model": (blake3(world.autoencoder(21)), "output_hash"),
        "binding": (blake3(other.to_bytes()), "input_hash"),
        "verdict": (blake3(world.verdict(factor_permille=2000)), "threshold"),
    }
    for number, (name, (digest, differs)) in enumerate(changed.items(), 50):
        wrong = with_another_context(device, number, **{name: digest})
        found = lineage.rebuild(device.log, wrong, getter(objects))
        assert not found.holds
        assert differs in found.differences
    wrong = with_another_context(device, 60, backend="abacus")
    with pytest.raises(Incompatible):
        lineage.rebuild(device.log, wrong, getter(objects))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("score", 0.5),
        ("threshold", 0.5),
        ("verdict", 1),
        ("entity", "c"),
        ("as_of", 5),
        ("input_hash", bytes(32)),
        ("output_hash", bytes(32)),
        ("episode", 9),
    ],
)
def test_lineage_of_a_forged_prediction_does_not_hold(device: Any, field: str, value: Any) -> None:
    last = {k: v for k, v in device.answers()[-1].items() if k not in ("row", "sequence")}
    assert last[field] != value
    done = device.log.append(PREDICTION.stream, last | {field: value})
    found = lineage.rebuild(device.log, f"{done.partition}:{done.first}", getter(world.objects()))
    assert set(found.differences) == {field}


def test_lineage_of_a_forged_value_does_not_hold() -> None:
    rows = world.readings(60, 13)
    honest, forged = world.Device(), world.Device()
    for one, value in ((honest, 19.5), (forged, 20.5)):
        one.pipeline.set_role("active", world.release())
        one.pipeline.process([*rows, rows[-1] | {"temp": value, "time": rows[-1]["time"] + 1}])
    last = {k: v for k, v in honest.answers()[-1].items() if k not in ("row", "sequence")}
    done = forged.log.append(PREDICTION.stream, last)
    found = lineage.rebuild(forged.log, f"{done.partition}:{done.first}", getter(world.objects()))
    assert {"input_hash", "score"} <= set(found.differences)


def test_lineage_identity_that_names_nothing_is_invalid(device: Any) -> None:
    get = getter(world.objects())
    partition = device.log.register(PREDICTION)
    wrong = ["", "1", "a:b", "1:2:3:4", "77:1", "1:99999999999999999999"]
    wrong += [f"{partition}:{sequence}" for sequence in ("0", "999", "-1")]
    for text in [*wrong, f"{bytes(16).hex()}:{partition}:1"]:
        with pytest.raises(Invalid):
            lineage.rebuild(device.log, text, get)
    source = device.log.register(world.TELEMETRY)
    with pytest.raises(Invalid):
        lineage.rebuild(device.log, f"{source}:1", get)


def test_lineage_show_says_the_same_or_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgecore.fs import PosixFs

    store = ec.ArtifactStore.open(str(tmp_path / "artifacts"))
    for data in world.objects().values():
        store.put(data)
    device = world.Device(PosixFs(), path=str(tmp_path / "log"))
    device.pipeline.set_role("active", world.release())
    device.pipeline.process(world.readings(40, 14))
    last = device.answers()[-1]
    name = identity(device, last)
    row = {k: v for k, v in last.items() if k not in ("row", "sequence")}
    forged = device.log.append(PREDICTION.stream, row | {"score": 7.0})
    device.log.close()
    words = ["lineage", "show", name, "--log", str(tmp_path / "log")]
    words += ["--objects", str(tmp_path / "artifacts")]
    assert main(words) == 0
    assert "the same" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recorded"]["score"] == last["score"]
    words[2] = f"{forged.partition}:{forged.first}"
    assert main(words) == 1
    assert "DIFFERS    score" in capsys.readouterr().out
    assert main(["lineage", "show", "9:9", "--log", str(tmp_path / "log")]) == Invalid.exit_code
    assert capsys.readouterr().err.startswith("Invalid: ")
