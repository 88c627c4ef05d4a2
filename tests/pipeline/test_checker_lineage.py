"""The judge's two ways to make a prediction again agree with the device, and see what is forged."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore.cli.checker import Evidence
from edgecore.cli.checker_models import Plain, check_lineage, running
from edgecore.cli.main import main
from edgecore.feature_spec import Feature
from edgecore.fs import PosixFs
from edgecore.pipeline import read_contexts
from edgecore.streams import GAP

pytest.importorskip("flatbuffers")
sys.path.insert(0, str(Path(__file__).parent))
world: Any = importlib.import_module("pipeline_world")


@pytest.fixture
def evidence(tmp_path: Path, seed: int) -> Evidence:
    return left(tmp_path, world.readings(160, seed))


def left(tmp_path: Path, rows: list[dict[str, Any]], gap: int = 0) -> Evidence:
    """What a device leaves: a run that was warmed, restarted, failed over and swapped. With `gap`
    it was told each time that nothing may be known of so many ns before it."""
    for part in range(3):
        device = world.Device(PosixFs(), path=str(tmp_path / "log"))
        if part == 0:
            device.pipeline.process(rows[:30])
        warm = 0 if part == 0 else None
        device.pipeline.set_role("active", world.release(20 + part // 2), warm_after=warm)
        device.pipeline.replay()
        first = 30 + part * 40
        if gap:
            end = rows[first]["time"]
            device.log.append(GAP.stream, {"stream": "telemetry", "begin": end - gap, "end": end,
                                           "kind": "off"})  # fmt: skip
        device.pipeline.process(rows[first : first + 40])
        device.log.close()
    artifacts = ec.ArtifactStore.open(str(tmp_path / "artifacts"))
    for data in (world.objects() | world.objects(21)).values():
        artifacts.put(data)
    out = tmp_path / "evidence"
    out.mkdir()
    assert main(["log", "export", str(tmp_path / "log"), "--out", str(out / "device.jsonl")]) == 0
    (out / "hub.jsonl").write_text("")
    (out / "acks.jsonl").write_text("")
    facts = {
        "device_log": str(tmp_path / "log"),
        "artifacts": str(tmp_path / "artifacts"),
        "releaser": str(tmp_path / "releaser"),
    }
    (out / "facts.json").write_text(json.dumps(facts))
    return Evidence(out)


def predictions(evidence: Evidence) -> list[dict[str, Any]]:
    return evidence.stream("edgecore.prediction")


def show(evidence: Evidence, event: dict[str, Any]) -> str | None:
    evidence.facts["shown"] = [event["store"], event["partition"], event["sequence"]]
    return check_lineage(evidence)


def test_checker_lineage_of_an_honest_device_holds(evidence: Evidence) -> None:
    found = predictions(evidence)
    assert len(found) == 120
    for event in found[::11]:
        assert show(evidence, event) is None


def test_checker_lineage_and_the_lineage_shown_know_of_gaps(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    plain = world.view()
    covered = [Feature.from_canonical(spec.canonical() | ({"min_coverage": 0.8}
               if spec.window == 60 * world.SECOND else {})) for spec in plain.specs]  # fmt: skip
    view = ec.FeatureView(plain.name, entity=plain.entity, source=plain.source,
                          lateness=plain.lateness, features=covered)  # fmt: skip
    monkeypatch.setattr(world, "view", lambda: view)
    rows = world.readings(160, seed)
    counts = []
    for gap in (0, 15 * world.SECOND):
        (tmp_path / str(gap)).mkdir()
        evidence = left(tmp_path / str(gap), rows, gap)
        for event in predictions(evidence)[::7]:
            assert show(evidence, event) is None
        words = ["lineage", "show", f"{event['partition']}:{event['sequence']}", "--log",
                 evidence.facts["device_log"], "--objects", evidence.facts["artifacts"],
                 "--json"]  # fmt: skip
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out)["holds"]
        counts.append(sum(event["values"]["substituted"] for event in predictions(evidence)))
    assert counts[1] > counts[0] + 20  # what is not known was put in place


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("score", "7.000000"),
        ("threshold", "0.000001"),
        ("verdict", 1),
        ("entity", "c"),
        ("input_hash", "00" * 32),
        ("output_hash", "00" * 32),
    ],
)
def test_checker_lineage_sees_what_was_forged(evidence: Evidence, field: str, value: Any) -> None:
    event = next(one for one in reversed(predictions(evidence)) if one["values"]["verdict"] == 0)
    event["values"][field] = value
    says = show(evidence, event)
    assert says is not None
    assert field in says


def test_checker_lineage_by_hand_agrees_over_every_prediction(evidence: Evidence) -> None:
    """The path by hand alone, for every row: features, input, output, score, threshold."""
    from edgecore.lineage import objects_in

    get = objects_in(evidence.facts["artifacts"])
    with ec.Log.open(evidence.facts["device_log"], read_only=True) as log:
        contexts = {one.number: one for one in read_contexts(log)}
        for event in predictions(evidence)[::5]:
            values = event["values"]
            again = Plain(log, contexts[values["context"]], get).answer(values)
            assert again["input_hash"] == values["input_hash"]
            assert again["verdict"] == values["verdict"]


def test_checker_lineage_without_its_objects_says_so(evidence: Evidence, tmp_path: Path) -> None:
    evidence.facts["artifacts"] = str(tmp_path / "nowhere")
    says = show(evidence, predictions(evidence)[-1])
    assert says is not None
    assert "Unavailable" in says


def test_checker_running_threshold_is_the_verdicts(seed: int) -> None:
    import random

    from edgecore._core.verdict import Verdict, VerdictSpec

    chance = random.Random(seed)
    spec = VerdictSpec(
        window=20, warmup=5, factor_permille=1500, enter_count=2, exit_count=3, gap_ns=50
    )
    verdict, scores, time = Verdict(spec), [], 0
    for _ in range(300):
        time += chance.choice((1, 5, 60, -3))
        scores.append((chance.randrange(1000, 1400) * chance.choice((1, 1, 1, 3)), time))
        threshold, found, _ = verdict.decide(*scores[-1])
        assert running(spec.to_bytes(), scores) == (None if found == 2 else threshold, found)
