"""Releaser, hub and device as three directories, by the command line; and the judge of it all."""

from __future__ import annotations

import errno
import json
import os
import random
import time
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cbor2
import pytest

from edgecore._core.verdict import VerdictSpec
from edgecore.artifacts import ArtifactStore
from edgecore.cli.checker_trust import check_acks, check_releases
from edgecore.cli.main import main
from edgecore.clock import ManualClock, SystemClock
from edgecore.device.enrol import enrol, fetch_desired
from edgecore.device.update import Updater
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Exhausted, Stale, Untrusted
from edgecore.features import Feature, FeatureView
from edgecore.fs import PosixFs
from edgecore.hub import publish
from edgecore.hub.server import Hub
from edgecore.inference import Binding, Model, Slot
from edgecore.release import Bundle
from edgecore.schema import Field, Schema
from edgecore.tflite_writer import Activation, Layer, f32, write_tflite
from edgecore.trust import repository
from edgecore.wire import cbor

pytest.importorskip("flatbuffers")


def pump(unit: str, version: int = 1) -> Schema:
    temp = Field("temp", "decimal(2)", unit=unit, range=(0, 9))
    return Schema("pump", tier="bulk", version=version, fields=[temp])


READ = pump("degC")
MEAN = Feature("temp_mean", "mean", "temp", "1m", ttl="5m")
VIEW = FeatureView("pump", entity="", source="pump", features=[MEAN])


def network(name: str) -> bytes:
    """One number to one number, the same but for the name."""
    scale, layer = f32(0.05), Layer(array("b", [90]), array("i", [7]), f32(0.01), (1, 1), False)
    return write_tflite([layer], [Activation(scale, 3), Activation(scale, -5)], name)


def readable(made: Bundle, schema: Schema = READ, feature: bytes | None = None) -> Bundle:
    """With a model, a view, a schema and a binding that fit each other, or as the test says."""
    feature = feature or VIEW.fingerprints_for(READ)[0]
    model = network(blake3(made.objects["model"]).hex())
    golden = bytes(range(64, 64 + 16))
    objects = {
        **made.objects, "view": VIEW.to_bytes(), "schema": schema.canonical_bytes,
        "binding": Binding([Slot(feature)]).to_bytes(), "model": model, "golden": golden,
        "verdict": VerdictSpec().to_bytes(),
    }  # fmt: skip
    facts = {name: value for name, value in made.facts.items() if name != "version"}
    output = blake3(Model.load(model).run_batch(golden, len(golden)))
    return Bundle(objects, **{**facts, "golden_output": output, "features": [feature]})


class World:
    """Three directories; `run` is the command line."""

    def __init__(self, root: Path, bundle: Any, capsys: Any) -> None:
        self.root, self.capsys, self.bundle = root, capsys, bundle
        self.hub, self.releaser = root / "hub", root / "releaser"
        self.public = self.releaser / "public"
        self.run("hub", "init", self.hub)
        key = self.run("hub", "key", self.hub).strip()
        self.run("release", "init", self.releaser, "--hub-key", key)
        self.run("hub", "publish", self.hub, self.public)

    def run(self, *words: object, code: int = 0) -> str:
        assert main([str(word) for word in words]) == code
        said = self.capsys.readouterr()
        return str(said.err if code else said.out)

    def write(self, version: int, bundle: Bundle) -> Path:
        directory = self.root / f"bundle{version}"
        directory.mkdir(exist_ok=True)
        for name, data in bundle.files().items():
            (directory / name).write_bytes(data)
        return directory

    def release(self, version: int, **options: object) -> str:
        """Signs, publishes and orders a release; returns its digest in hex."""
        directory = self.write(version, readable(self.bundle(str(version))))
        extra = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        words = ["--name", "anomaly", "--version", version, *extra]
        self.run("release", "create", self.releaser, directory, *words)
        signed = json.loads(self.run("release", "sign", self.releaser, "--json"))["signed"]
        self.run("hub", "publish", self.hub, self.public)
        self.run("hub", "order", self.hub, "anomaly", version)
        return str(signed[-1]["digest"])


@pytest.fixture
def world(tmp_path: Path, make_bundle: Any, capsys: Any) -> World:
    return World(tmp_path, make_bundle, capsys)


class Direct:
    """A transport into the hub that keeps every signed answer."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.sent, self.received = hub, 0, 0
        self.kept: list[dict[str, str]] = []

    def request(self, method, path, headers=None, body=b""):  # type: ignore[no-untyped-def]
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        status, extra, answer = self.hub.handle(method, path, lower, body)
        if path in ("/v1/enrol", "/v1/desired") and status == 200:
            self.kept.append({"path": path, "body": answer.hex()})
        return status, extra, answer


def install(world: World, link: Direct, identity: Any, state: Path) -> tuple[str, list[Any]]:
    """Polls until the ordered release is stable; (its path, the rows)."""
    wished = fetch_desired(identity, link)
    assert wished is not None
    assert wished[1].release is not None
    fs, rows = PosixFs(), []
    with ArtifactStore.open(str(state / "artifacts"), fs=fs) as store:
        updater = Updater(
            identity, link, fs, store, str(state / "update"), SystemClock(),
            lambda release, get: get(release.object("model")),
        )  # fmt: skip
        now = 0
        for _ in range(60):
            now = max(updater.poll(now, wished[1]), now + 1)
            updater.report(100, 0, 0)
            running = updater.current.path if updater.current is not None else ""
            if (running, updater.phase) == (wished[1].release[2], "stable"):
                break
        rows = updater.edges
        updater.edges_logged(rows[-1]["source_seq"])
        updater.close()
        assert updater.current is not None, updater.last_error
        return updater.current.path, rows


def test_publish_from_bundle_to_stable_device_by_the_command_line(world: World) -> None:
    digest = world.release(1)
    hub = Hub.open(world.hub)
    link = Direct(hub)
    root = (world.hub / "tuf" / "1.root.json").read_bytes()
    fs, state = PosixFs(), world.root / "device"
    (state / "keys").mkdir(parents=True)
    invite = hub.invite("http://hub", blake3(root))
    identity = enrol(fs, str(state / "keys"), invite, link, os.urandom)
    path, rows = install(world, link, identity, state)
    assert (path, rows[-1]["digest"].hex()) == ("anomaly/1", digest)
    world.release(2, rollback=1)
    path, more = install(world, link, identity, state)
    assert path == "anomaly/2"
    hub.close()
    judge(world, link, hub, rows + more)


def judge(world: World, link: Direct, hub: Hub, rows: list[Any]) -> None:
    """The checker agrees, and disagrees with every planted breach."""
    rows = [{**row, "digest": row["digest"].hex()} for row in rows]
    events = [{"stream": "edgecore.update", "store": "s", "values": row} for row in rows]
    evidence: Any = SimpleNamespace(
        facts={"hub_key": hub.signer.public.hex(), "releaser": str(world.public)},
        device=events, acks=list(link.kept),
        stream=lambda name: [event for event in evidence.device if event["stream"] == name],
    )  # fmt: skip
    assert check_releases(evidence) is None
    assert check_acks(evidence) == "no signed answer at all"  # enrolment and orders are no acks
    body = {"role": "active", "release": bytes(32)}
    context = {"context": 1, "body": cbor.encode(body).hex()}
    evidence.device = [*events, {"stream": "edgecore.context", "store": "s", "values": context}]
    assert "no releaser signed" in (check_releases(evidence) or "")
    evidence.device = events
    forged = bytearray.fromhex(evidence.acks[0]["body"])
    forged[9] ^= 1
    evidence.acks = [{**evidence.acks[0], "body": forged.hex()}]
    assert "not signed by the hub" in (check_acks(evidence) or "")
    targets = sorted(world.public.glob("*.targets.json"))[-1]
    kept = targets.read_text()
    targets.write_text(kept.replace('"minimum":0', '"minimum":1', 1))
    assert "not signed by the releaser" in (check_releases(evidence) or "")
    targets.write_text(kept)
    blob = max((world.public / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes()[:-1])
    assert "is not the one that was signed" in (check_releases(evidence) or "")


# ------------------------------------------------------------------ whose keys are where


def test_publish_no_key_of_a_releaser_is_readable_by_the_hub(world: World) -> None:
    world.release(1)
    keys = world.releaser / "keys"
    assert keys.stat().st_mode & 0o777 == 0o700
    secrets = []
    for path in keys.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        secrets.append(path.read_bytes().split(b"\n")[1])
    assert len(secrets) == 2
    for path in [*world.hub.rglob("*"), *world.public.rglob("*")]:
        if path.is_file():
            content = path.read_bytes()
            for secret in secrets:
                assert secret not in content
                assert bytes.fromhex(secret.decode()) not in content


def test_publish_hub_alone_cannot_vouch_for_a_release(world: World, make_bundle: Any) -> None:
    """The hub's online key signs targets of its own: no device and no other hub takes them."""
    world.release(1)
    hub = Hub.open(world.hub)
    manifest = make_bundle("evil").manifest("anomaly", 9)
    entries = {manifest.path: repository.target_entry(manifest)}
    forged = repository.make_targets(9, time.time_ns(), entries, hub.signer)
    (world.public / "9.targets.json").write_bytes(forged)
    with pytest.raises(Untrusted, match=r"^signature: "):
        publish.publish(world.hub, world.public, hub.signer, time.time_ns())
    hub.close()


# ------------------------------------------------------------------ what a hub refuses


def test_publish_refuses_tampered_missing_and_older(world: World) -> None:
    world.release(1)
    signer = Hub.open(world.hub).signer
    world.release(2)
    newest = (world.public / "2.targets.json").read_bytes()
    (world.public / "2.targets.json").unlink()
    with pytest.raises(Stale, match=r"^rollback: targets version 1, the hub has 2"):
        publish.publish(world.hub, world.public, signer, time.time_ns())
    (world.public / "2.targets.json").write_bytes(newest)
    digest = publish.listed(world.hub)["anomaly/2"].hex()
    (world.hub / "blobs" / digest).unlink()
    blob = world.public / "blobs" / digest
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + b"!")
    with pytest.raises(Corrupt, match="another digest"):
        publish.publish(world.hub, world.public, signer, time.time_ns())
    blob.unlink()
    with pytest.raises(Corrupt, match="missing"):
        publish.publish(world.hub, world.public, signer, time.time_ns())


def test_publish_again_mends_a_damaged_object_of_the_hub(world: World) -> None:
    digest = world.release(1)
    held = world.hub / "blobs" / digest
    whole = held.read_bytes()
    held.write_bytes(whole[:-1] + b"!")
    world.run("hub", "publish", world.hub, world.public)
    assert held.read_bytes() == whole


def test_publish_refuses_another_releaser_and_another_hub(world: World) -> None:
    other = world.root / "other"
    key = world.run("hub", "key", world.hub).strip()
    world.run("release", "init", other, "--hub-key", key)
    said = world.run("hub", "publish", world.hub, other / "public", code=13)
    assert said.startswith("Untrusted: root: the hub follows another releaser")
    second = world.root / "hub2"
    world.run("hub", "init", second)
    said = world.run("hub", "publish", second, world.public, code=13)
    assert said.startswith("Untrusted: root: it names another hub's key")


def test_publish_hub_cut_anywhere_serves_the_old_whole_or_the_new_whole(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The process dies before the n-th file: what is there stays a consistent set."""
    world.release(1)
    signer = Hub.open(world.hub).signer
    old = (world.hub / "tuf" / "timestamp.json").read_bytes()
    files = {path: path.read_bytes() for path in world.hub.rglob("*.json")}
    write, left = publish._write, 0

    class Killed(Exception):
        pass

    def dying(path: Path, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        write(path, data)

    world.release(2)
    new = {path: path.read_bytes() for path in world.hub.rglob("*.json")}
    for path in new.keys() - files.keys():
        path.unlink()
    (world.hub / "tuf" / "timestamp.json").write_bytes(old)
    monkeypatch.setattr(publish, "_write", dying)
    for allowed in range(20):
        left = allowed
        try:
            publish.publish(world.hub, world.public, signer, time.time_ns())
        except Killed:
            assert (world.hub / "tuf" / "timestamp.json").read_bytes() == old
            continue
        break
    assert allowed >= 3
    assert (world.hub / "tuf" / "timestamp.json").read_bytes() != old


def test_publish_timestamp_is_signed_anew_when_half_its_time_is_over(world: World) -> None:
    world.release(1)
    clock = ManualClock(time.time_ns())
    hub = Hub.open(world.hub, clock)

    def timestamp() -> bytes:
        return hub.handle("GET", "/v1/tuf/timestamp.json", {}, b"")[2]

    first = timestamp()
    clock.advance(3 * repository.DAY)
    assert timestamp() == first
    clock.advance(2 * repository.DAY)
    second = timestamp()
    hub.close()
    versions = [repository.read("timestamp", data).signed.version for data in (first, second)]
    assert versions[1] > versions[0]


def test_publish_a_renewal_that_fails_is_said_and_the_old_one_served(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.release(1)
    clock = ManualClock(time.time_ns() + 5 * repository.DAY)
    hub = Hub.open(world.hub, clock)

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device", "timestamp.json")

    monkeypatch.setattr(publish, "renew", full)
    old = (world.hub / "tuf" / "timestamp.json").read_bytes()
    assert hub.handle("GET", "/v1/tuf/timestamp.json", {}, b"")[2] == old
    assert isinstance(hub.renewal, Exhausted)
    assert "not signed anew: timestamp.json: No space" in caplog.text
    assert b"renewal_failing 1" in hub.handle("GET", "/metrics", {}, b"")[2]
    monkeypatch.undo()
    clock.advance(repository.DAY)
    assert hub.handle("GET", "/v1/tuf/timestamp.json", {}, b"")[2] != old
    assert b"renewal_failing 0" in hub.handle("GET", "/metrics", {}, b"")[2]
    hub.close()


# ------------------------------------------------------------------ the releaser's desk


def test_release_version_once_signed_is_never_signed_otherwise(world: World) -> None:
    world.release(1)
    world.write(1, readable(world.bundle("other")))
    words = ["--name", "anomaly", "--version", 1]
    said = world.run("release", "create", world.releaser, world.root / "bundle1", *words, code=16)
    assert said == "Invalid: anomaly/1 was signed already; give the release another --version\n"


def test_model_verify_and_inspect_say_what_is_wrong(world: World, seed: int) -> None:
    digest = world.release(1)
    root = blake3((world.public / "1.root.json").read_bytes()).hex()
    assert world.run("model", "verify", world.public, "--root", root).startswith(
        f"verified anomaly/1 {digest}"
    )
    said = world.run("model", "verify", world.public, "--root", "00" * 32, code=13)
    assert said.startswith("Untrusted: root: ")
    manifest = world.public / "blobs" / digest
    shown = json.loads(world.run("model", "inspect", manifest))
    assert (shown["digest"], shown["name"]) == (digest, "anomaly")
    assert json.loads(world.run("model", "inspect", world.root / "bundle1"))["score"]
    flipped = bytearray(manifest.read_bytes())
    flipped[random.Random(seed).randrange(len(flipped))] ^= 1
    manifest.write_bytes(bytes(flipped))
    said = world.run("model", "verify", world.public, code=12)
    assert said.startswith("Corrupt: content: ")


def test_hub_order_of_what_is_not_published_is_invalid(world: World) -> None:
    world.release(1)
    said = world.run("hub", "order", world.hub, "anomaly", 7, code=16)
    assert said == "Invalid: anomaly/7 is not published here; published: anomaly/1\n"


# ------------------------------------------------------------------ what is refused when made


def drafts(world: World) -> list[Path]:
    return [*(world.releaser / "drafts").iterdir(), *(world.public / "blobs").iterdir()]


def held(made: Bundle, **contract: object) -> Bundle:
    """With a decision window as it stands in bytes."""
    out = readable(made)
    body = cbor2.loads(out.objects["binding"]) | contract
    out.objects["binding"] = cbor2.dumps(body, canonical=True)
    return out


def test_release_with_a_decision_window_is_made(world: World) -> None:
    window = {"max_age": 5_000_000_000, "min_full": 0.5}
    directory = world.write(1, held(readable(world.bundle("1")), **window))
    words = ("release", "create", world.releaser, directory, "--name", "anomaly", "--version", 1)
    assert world.run(*words).startswith("drafted anomaly/1 ")
    assert json.loads(world.run("model", "inspect", directory))["decision_window"] == window


def test_release_of_a_wrong_feature_is_refused_when_made(world: World) -> None:
    """A fingerprint that the view does not have, a schema changed after the fit, a wrong word."""
    right = readable(world.bundle("1"))
    own = VIEW.fingerprints_for(READ)[0]
    said_other = readable(world.bundle("1"))
    said_other.facts["features"] = [bytes(32).hex()]
    for made, word, says in (
        (readable(right, feature=bytes([7] * 32)), "Incompatible", "feature 070707070707 of the"),
        (
            readable(right, schema=pump("degF")),
            "Incompatible",
            f"feature {own.hex()[:12]} of the binding",
        ),
        (said_other, "Corrupt", "the binding reads other features than it says"),
        (held(right, max_age=-1), "Corrupt", "the max_age is negative"),
        (held(right, min_full=float("nan")), "Corrupt", "min_full is a share"),
    ):
        directory = world.write(1, made)
        for verb in (("release", "create"), ("model", "publish")):
            words = (*verb, world.releaser, directory, "--name", "anomaly", "--version", 1)
            said = world.run(*words, code=11 if word == "Incompatible" else 12)
            assert said.startswith(f"{word}: ")
            assert says in said
    assert drafts(world) == []


def test_release_that_the_stream_no_longer_feeds_is_refused_when_made(world: World) -> None:
    directory = world.write(1, readable(world.bundle("1")))
    words = ("release", "create", world.releaser, directory, "--name", "anomaly", "--version", 1)
    now = world.root / "now.cbor"
    now.write_bytes(pump("degF", version=2).canonical_bytes)
    said = world.run(*words, "--schema", now, code=11)
    assert said.startswith("Incompatible: unit of field 'temp' was 'degC' and is 'degF' here")
    assert "feature 'temp_mean' of 'pump'" in said
    now.write_bytes(Schema("fan", tier="bulk", fields=READ.fields).canonical_bytes)
    said = world.run(*words, "--schema", now, code=11)
    assert said.startswith("Incompatible: view 'pump' reads stream 'pump'")
    assert drafts(world) == []
    same = world.root / "same.cbor"
    for path in (now, same):
        path.write_bytes(READ.canonical_bytes)
    said = world.run(*words, "--schema", now, "--schema", same, code=16)
    assert said == "Invalid: two --schema files are of stream 'pump'\n"
    fan = world.root / "fan.cbor"
    fan.write_bytes(Schema("fan", tier="bulk", fields=READ.fields).canonical_bytes)
    assert world.run(*words, "--schema", fan, "--schema", now).startswith("drafted anomaly/1 ")


def hand_written(world: World, made: Bundle) -> bytes:
    """A draft by a script: what `create` would write, without what it asks."""
    manifest = made.manifest("anomaly", 1)
    for content in (*made.objects.values(), manifest.encode()):
        (world.public / "blobs" / blake3(content).hex()).write_bytes(content)
    (world.releaser / "drafts" / "anomaly-1.cbor").write_bytes(manifest.encode())
    return manifest.encode()


def test_release_written_by_hand_is_asked_the_same_before_it_is_signed(world: World) -> None:
    right = readable(world.bundle("1"))
    said_other = readable(world.bundle("1"))
    said_other.facts["features"] = [bytes(32).hex()]
    sign = ("release", "sign", world.releaser)
    for made, code, says in (
        (readable(right, feature=bytes([7] * 32)), 11, "feature 070707070707 of the"),
        (said_other, 12, "Corrupt: anomaly/1: the binding reads other features than it says"),
        (world.bundle("1"), 12, "Corrupt: anomaly/1: "),
    ):
        hand_written(world, made)
        assert says in world.run(*sign, code=code)
    assert len([path for path in world.public.glob("*.targets.json")]) == 0
    now = world.root / "now.cbor"
    now.write_bytes(pump("degF", version=2).canonical_bytes)
    manifest = hand_written(world, right)
    said = world.run(*sign, "--schema", now, code=11)
    assert said.startswith("Incompatible: unit of field 'temp' was 'degC' and is 'degF' here")
    view = world.public / "blobs" / blake3(right.objects["view"]).hex()
    for bad in (right.objects["view"][:-1], right.objects["view"] + b"!"):
        view.write_bytes(bad)
        assert "is not its view" in world.run(*sign, code=12)
    view.unlink()
    assert world.run(*sign, code=15).startswith("Unavailable: ")
    view.write_bytes(right.objects["view"])
    (world.public / "blobs" / blake3(manifest).hex()).write_bytes(manifest[:-1])
    assert "its blob is not the draft" in world.run(*sign, code=12)
    hand_written(world, right)
    now.write_bytes(READ.canonical_bytes)
    assert world.run(*sign, "--schema", now).startswith("signed anomaly/1 ")
