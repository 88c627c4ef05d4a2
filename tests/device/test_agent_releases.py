"""A device's whole life in one process: capture, a model trained on what was seen, trial and
activation, predictions through an outage and a power cut, a bad release that is rolled back."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgecore import golden_streams, learning
from edgecore.cli.main import main
from edgecore.clock import ManualClock
from edgecore.device import status
from edgecore.device.agent import Device
from edgecore.digest import blake3
from edgecore.errors import Incompatible, Invalid, Unavailable
from edgecore.fs import MemoryFs
from edgecore.hub.server import Hub
from edgecore.schema import Field, Schema
from edgecore.streams import PREDICTION

pytest.importorskip("flatbuffers")
pytest.importorskip("tuf")

SECOND = 1_000_000_000
ROWS = 750
SCHEMA = """
stream = "pump"
[csv]
time = "at"
time_format = "unix_s"
[[field]]
name = "temp"
dtype = "decimal(2)"
range = [-40.0, 150.0]
[[field]]
name = "load"
dtype = "decimal(1)"
range = [0.0, 100.0]
"""
CONFIG = """
[device]
state = "state"
name = "pump-7"
[source]
kind = "csv"
path = "pump.csv"
schema = "pump.toml"
rows_per_second = 10.0
[hub]
idle = "500ms"
backoff = "100ms"
backoff_max = "1s"
order_every = "500ms"
[agent]
snapshot_every = "3s"
"""


def down(answer: Callable[[], Any]) -> Any:
    raise Unavailable("no route to the hub")


class Works:
    """Releaser, hub and device; the device's disk, clock and link are a test's."""

    def __init__(self, root: Path) -> None:
        self.root, self.fs, self.rng = root, MemoryFs(), random.Random(3)
        self.clock = ManualClock(time.time_ns())
        self.sent = self.received = 0
        self.fault: Callable[[Callable[[], Any]], Any] = lambda answer: answer()
        Hub.init(root / "hub")
        self.hub = Hub.open(root / "hub", self.clock)
        key = self.hub.signer.public.hex()
        self.edgecore("release", "init", f"{root}/releaser", "--hub-key", key)
        self.edgecore("hub", "publish", f"{root}/hub", f"{root}/releaser/public")
        pinned = blake3((root / "hub" / "tuf" / "1.root.json").read_bytes())
        self.fs.make_directories(f"{root}/state/keys")
        invitation = self.hub.invite("http://hub", pinned)
        self.fs.write_atomic(f"{root}/state/keys/invite", invitation)
        (root / "edge.toml").write_text(CONFIG)
        (root / "pump.toml").write_text(SCHEMA)
        self.write_rows()
        self.device = self.open()

    @staticmethod
    def edgecore(*words: str) -> None:
        assert main(list(words)) == 0, words

    def write_rows(self, odd: tuple[int, int] = (0, 0)) -> None:
        rng, lines = random.Random(5), ["at,temp,load"]
        for n in range(ROWS):
            strange = 40 if odd[0] <= n < odd[1] else 0
            temp, load = 20 + n % 12 * 0.5 + rng.random() + strange, 30 + n % 7 + rng.random()
            lines.append(f"{1_709_251_200 + n},{temp:.2f},{load:.1f}")
        (self.root / "pump.csv").write_text("\n".join(lines) + "\n")

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Any:
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        return self.fault(lambda: self.hub.handle(method, path, lower, body))

    def open(self) -> Device:
        self.device = Device.open(
            str(self.root / "edge.toml"), clock=self.clock, fs=self.fs, transport=self,
            uniform=self.rng.random, entropy=os.urandom, flusher="manual",
        )  # fmt: skip
        return self.device

    def run(self, seconds: float) -> dict[str, Any]:
        end = self.clock.monotonic_ns() + int(seconds * SECOND)
        while (now := self.clock.monotonic_ns()) < end:
            self.clock.advance(max(1_000_000, min(self.device.poll(now), end) - now))
        return self.device.status()

    def run_until(self, reached: Callable[[dict[str, Any]], bool], seconds: float = 120) -> Any:
        end = self.clock.monotonic_ns() + int(seconds * SECOND)
        while not reached(report := self.run(0.2)):
            assert self.clock.monotonic_ns() < end, json.dumps(report, indent=1)
        return report

    def crash(self, seed: int) -> None:
        self.device.release()
        self.fs = self.fs.crash(seed)
        self.open()

    def bundle(
        self,
        spoilt: bool = False,
        fields: list[str] | None = None,
        schema: Schema | None = None,
    ) -> Path:
        """Trains on what the hub holds, in a moment."""
        from edgecore.device.schema_file import load

        schema = schema or load(f"{self.root}/pump.toml").schema
        store = self.hub.events.stores()[-1]
        rows = [
            {**row, "temp": f"{row['temp'] / 100:.2f}", "load": f"{row['load'] / 10:.1f}"}
            for _, row in self.hub.rows(store, "pump")
        ]
        view = learning.detection_view(schema, SECOND, fields=fields)
        made = learning.fit(view, schema, rows, steps=60, observation={"min_predictions": 20})
        path = self.root / "bundle"
        shutil.rmtree(path, ignore_errors=True)
        learning.write_bundle(made, str(path))
        if spoilt:
            from edgecore._core import verdict

            spec = verdict.VerdictSpec(
                window=8, warmup=1, factor_permille=1, enter_count=1, exit_count=1
            )
            (path / "verdict.cbor").write_bytes(spec.to_bytes())
        return path

    def release(self, version: int, bundle: Path) -> None:
        words = ["--name", "anomaly", "--version", str(version)]
        if version > 1:
            words += ["--rollback", *(str(older) for older in range(1, version))]
        self.edgecore("release", "create", f"{self.root}/releaser", str(bundle), *words)
        self.edgecore("release", "sign", f"{self.root}/releaser")
        self.edgecore("hub", "publish", f"{self.root}/hub", f"{self.root}/releaser/public")
        self.hub.order(("anomaly", version, f"anomaly/{version}"))

    def first_release(self) -> None:
        self.run_until(lambda report: report["log"]["partitions"][-1]["acked"] > 200)
        self.release(1, self.bundle())
        self.run_until(lambda report: report["release"]["phase"] == "stable")

    def edges(self, version: int) -> list[str]:
        report = self.device.status()
        return [e["edge"] for e in report["release"]["edges"] if e["version"] == version]

    def at_hub(self, stream: str) -> list[dict[str, Any]]:
        store = self.hub.events.stores()[-1]
        return [dict(row) for _, row in self.hub.rows(store, stream)]

    def finish(self) -> dict[str, Any]:
        return dict(
            self.run_until(
                lambda report: report["source"]["finished"] and report["log"]["unacked"] == 0
            )
        )


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    made = Works(tmp_path)
    yield made
    made.device.close()
    made.hub.close()


def contexts_of(works: Works) -> dict[int, dict[str, Any]]:
    from cbor2 import loads

    return {row["context"]: loads(row["body"]) for row in works.at_hub("edgecore.context")}


def serving_contexts(works: Works) -> dict[int, dict[str, Any]]:
    bodies = contexts_of(works)
    return {n: body for n, body in bodies.items() if body["role"] in ("active", "rule")}


def check_each_row_answered_once(works: Works) -> None:
    """From the first activation on, every source row has one serving prediction, at the hub."""
    rows = Counter(row["source_seq"] for row in works.at_hub("pump"))
    assert rows == dict.fromkeys(range(2, ROWS + 2), 1)
    serving = serving_contexts(works)
    served = Counter(
        row["position"] for row in works.at_hub(PREDICTION.stream) if row["context"] in serving
    )
    assert set(served.values()) == {1}
    positions = [
        scanned.position + at
        for scanned in works.device.log.scan("pump")
        for at in range(scanned.count)
    ]
    first = min(served)
    assert sorted(served) == [position for position in positions if position >= first]


def test_agent_life_release_outage_power_cut_and_rollback(works: Works, seed: int) -> None:
    works.first_release()
    assert works.edges(1) == ["preflight", "staged", "trial", "active", "stable"]
    works.fault = down
    before = works.run(2.0)
    during = works.run(10.0)
    assert not during["link"]["connected"]
    assert during["predictions"]["served"] >= before["predictions"]["served"] + 100
    works.crash(seed)
    again = works.run(5.0)
    assert again["release"]["active"]["path"] == "anomaly/1"
    assert again["predictions"]["served"] >= 45
    works.fault = lambda answer: answer()
    works.release(2, works.bundle(spoilt=True))
    works.run_until(lambda report: "rolled_back" in works.edges(2))
    assert works.edges(2) == ["preflight", "staged", "trial", "rolled_back"]
    report = works.finish()
    assert report["release"]["active"]["path"] == "anomaly/1"
    assert report["errors"] == {}
    lines = "\n".join(status.render(report, works.clock.wall_ns()))
    assert "release   anomaly/1 " in lines
    assert "anomaly/2 rolled_back: observation: " in lines
    check_each_row_answered_once(works)
    assert {row["edge"] for row in works.at_hub("edgecore.update")} >= {"stable", "rolled_back"}


def test_agent_release_that_computes_otherwise_here_never_serves(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden streams are replayed before it is given a row: one stage of one differs, as it would
    on a processor that rounds otherwise, and the release before goes on."""
    works.first_release()
    bundle, real = works.bundle(), golden_streams.answers

    def differing(*parts: Any) -> bytes:
        stages = bytearray(real(*parts))
        stages[3 * golden_streams.STAGE_BYTES] ^= parts[-1].name == "late"
        return bytes(stages)

    with monkeypatch.context() as patched:
        patched.setattr(golden_streams, "answers", differing)
        works.release(2, bundle)
    works.run_until(lambda report: "rolled_back" in works.edges(2))
    report = works.finish()
    assert report["release"]["active"]["path"] == "anomaly/1"
    (edge,) = [e for e in report["release"]["edges"] if e["edge"] == "rolled_back"]
    assert edge["reason"].startswith("load: Incompatible: golden stream 'late': stage 'score' is")
    assert len({body["release"] for body in contexts_of(works).values()}) == 1
    check_each_row_answered_once(works)


def test_agent_upgrade_is_judged_by_what_the_device_has(
    works: Works, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A build that lacks a version of an operator says so before it is installed."""
    from edgecore.device import config, upgrade
    from edgecore.feature_spec import VERSIONS

    works.first_release()
    works.device.close()
    settings = config.load(str(works.root / "edge.toml"))
    schema = works.device.schema
    (found,) = upgrade.check(settings, works.fs, schema)
    assert found.facts() == {"role": "active", "release": "anomaly/1", "word": "Ok", "why": ""}
    for op in VERSIONS:
        monkeypatch.setitem(VERSIONS, op, [9])
    (found,) = upgrade.check(settings, works.fs, schema)
    assert (found.role, found.release, found.word) == ("active", "anomaly/1", "Incompatible")
    assert "@1 is not in this build, which has " in found.why
    monkeypatch.undo()
    (found,) = upgrade.check(settings, works.fs, None)
    assert "this device has none" in found.why
    words = ["device", "check-upgrade", str(works.root), "--json"]
    assert main(words) == Invalid.exit_code  # nothing has enrolled on the disk itself
    real = upgrade.check
    monkeypatch.setattr(upgrade, "check", lambda config, _, *how: real(config, works.fs, *how))
    capsys.readouterr()
    assert main(words) == 0
    (said,) = json.loads(capsys.readouterr().out)["releases"]
    assert said["word"] == "Ok"
    for op in VERSIONS:
        monkeypatch.setitem(VERSIONS, op, [9])
    assert main(words[:-1]) == Incompatible.exit_code
    assert "can serve 0 of 1 releases" in capsys.readouterr().out
    monkeypatch.undo()
    works.open()


def test_agent_anomaly_is_found_and_names_its_event(works: Works) -> None:
    works.write_rows(odd=(600, 630))
    works.first_release()
    report = works.finish()
    assert report["predictions"]["anomalous"] > 0
    verdicts = {
        (row["as_of"] // SECOND) - 1_709_251_200: row["verdict"]
        for row in works.at_hub(PREDICTION.stream)
        if row["context"] in serving_contexts(works)
    }
    before = [verdict for second, verdict in verdicts.items() if second < 600]
    during = [verdict for second, verdict in verdicts.items() if 600 <= second < 630]
    assert before.count(1) < len(before) / 10
    assert during.count(1) > len(during) / 2


def test_agent_power_cuts_leave_the_same_predictions(works: Works, seed: int) -> None:
    """A device that was cut three times predicts, bit for bit, what one that never was does."""
    works.first_release()
    rng = random.Random(seed)
    for _ in range(3):
        works.run(rng.random() * 10)
        works.crash(rng.getrandbits(30))
    works.finish()
    check_each_row_answered_once(works)
    found = predictions_of(works)
    from edgecore.log import Log
    from edgecore.pipeline import Pipeline

    assert works.device.link is not None
    _, _, loaded = works.device.link.releases.roles[0]
    with Log.open("again", fs=MemoryFs(), schemas=[], flusher="manual") as log:
        assert works.device.schema is not None
        pipeline = Pipeline(log, loaded.view, schema=works.device.schema)
        rows = [r for s in works.device.log.scan("pump") for r in s.rows(exact=True)]
        first = min(found)
        pipeline.process([row for row in rows if row["source_seq"] < first])
        pipeline.set_role("active", loaded.model, warm_after=0)
        again = pipeline.process([row for row in rows if row["source_seq"] >= first])
        kept = {
            row["source_seq"]: (one.score, one.threshold, one.verdict, one.input_hash)
            for row, one in zip([r for r in rows if r["source_seq"] >= first], again, strict=True)
        }
    assert found == kept


def predictions_of(works: Works) -> dict[int, tuple[Any, ...]]:
    """Line -> score, threshold, verdict, input of its serving prediction, from the device's log."""
    lines = {
        scanned.position + at: row["source_seq"]
        for scanned in works.device.log.scan("pump")
        for at, row in enumerate(scanned.rows())
    }
    serving = serving_contexts(works)
    return {
        lines[row["position"]]: (row["score"], row["threshold"], row["verdict"], row["input_hash"])
        for scanned in works.device.log.scan(PREDICTION.stream)
        for row in scanned.rows()
        if row["context"] in serving
    }


def test_agent_trial_with_features_of_its_own_follows_the_log(works: Works) -> None:
    works.first_release()
    works.release(2, works.bundle(fields=["temp"]))
    works.run_until(lambda report: "stable" in works.edges(2))
    assert works.edges(2) == ["preflight", "staged", "trial", "active", "stable"]
    works.finish()
    check_each_row_answered_once(works)


def test_agent_release_for_another_stream_is_refused_and_the_running_one_stays(
    works: Works,
) -> None:
    from edgecore.device.schema_file import load

    works.first_release()
    here = load(f"{works.root}/pump.toml").schema
    works.release(2, works.bundle(schema=Schema("fan", tier=here.tier, fields=here.fields)))
    works.run_until(lambda report: "rolled_back" in works.edges(2))
    reason = works.device.status()["release"]["edges"][-1]["reason"]
    assert "Incompatible" in reason
    assert "reads the stream fan, this device has pump" in reason
    assert works.finish()["release"]["active"]["path"] == "anomaly/1"
    check_each_row_answered_once(works)


def test_agent_release_made_for_another_unit_is_refused_by_the_names_of_its_features(
    works: Works,
) -> None:
    from edgecore.device.schema_file import load

    works.first_release()
    here = load(f"{works.root}/pump.toml").schema
    fields = [Field.from_canonical({**one.canonical(), "unit": "degF"}) for one in here.fields]
    there = Schema(here.stream, tier=here.tier, fields=fields, version=here.version)
    bundle = works.bundle(schema=there)
    works.release(2, bundle)
    works.run_until(lambda report: "rolled_back" in works.edges(2))
    reason = works.device.status()["release"]["edges"][-1]["reason"]
    assert "Incompatible" in reason
    assert "unit of field" in reason
    assert works.finish()["release"]["active"]["path"] == "anomaly/1"
    check_each_row_answered_once(works)
