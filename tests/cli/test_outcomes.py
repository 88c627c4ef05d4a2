"""Wrong keys, damaged files and hubs that are not there: the outcome word and code of each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_command import LEAVES, edgecore, hub_dir, refused, serving

from edgecore.trust.keys import Ed25519Signer
from edgecore.wire import cbor

_ = (hub_dir, serving)  # fixtures

needs_device = pytest.mark.skipif(("device", "init") not in LEAVES, reason="no device command")
needs_release = pytest.mark.skipif(("release", "init") not in LEAVES, reason="no release command")


@pytest.fixture
def invite(hub_dir: Path, tmp_path: Path) -> Path:
    out = tmp_path / "invite"
    edgecore("hub", "invite", hub_dir, "--url", "http://127.0.0.1:9", "--out", out)
    return out


def changed(invite: Path, **changes: object) -> Path:
    out = invite.with_name("changed")
    out.write_bytes(cbor.encode({**cbor.decode(invite.read_bytes()), **changes}))
    return out


@needs_device
def test_device_init_without_its_hub_is_unavailable_and_keeps_what_it_made(
    invite: Path, tmp_path: Path
) -> None:
    words = ("device", "init", tmp_path / "d", "--invite", invite)
    refused("Unavailable", *words, says="127.0.0.1:9")
    key = (tmp_path / "d" / "keys" / "device.key").read_bytes()
    refused("Unavailable", *words)
    assert (tmp_path / "d" / "keys" / "device.key").read_bytes() == key


@needs_device
def test_device_init_with_an_invite_that_is_none_is_corrupt(invite: Path, tmp_path: Path) -> None:
    data = invite.read_bytes()
    for number, hurt in enumerate((b"", b"hello", data[:-5], data + b"\0")):
        bad = tmp_path / f"bad{number}"
        bad.write_bytes(hurt)
        refused("Corrupt", "device", "init", tmp_path / "d", "--invite", bad)
    refused("Unavailable", "device", "init", tmp_path / "d", "--invite", tmp_path / "none")


@needs_device
def test_device_init_with_another_hubs_key_or_a_used_token_is_untrusted(
    serving,  # type: ignore[no-untyped-def]
    invite: Path,
    tmp_path: Path,
) -> None:
    wrong = changed(invite, url=serving.url, hub_key=Ed25519Signer(bytes(32)).public)
    refused("Untrusted", "device", "init", tmp_path / "d", "--invite", wrong)
    unknown = changed(invite, url=serving.url, token=bytes(32))
    refused("Untrusted", "device", "init", tmp_path / "e", "--invite", unknown, says="token")
    right = changed(invite, url=serving.url)
    # The token went to the first device, which had the wrong key of the hub and keeps its own.
    refused("Untrusted", "device", "init", tmp_path / "f", "--invite", right, says="token")
    done = edgecore("device", "init", tmp_path / "d", "--invite", right, "--json")
    assert len(json.loads(done.stdout)["device"]) == 32


@needs_device
def test_device_status_of_nothing_is_one_line(tmp_path: Path) -> None:
    refused("Unavailable", "device", "status", tmp_path / "edge.toml", says="edge.toml")
    (tmp_path / "edge.toml").write_text("= nonsense")
    refused("Invalid", "device", "status", tmp_path / "edge.toml", says="edge.toml")
    refused("Invalid", "device", "run", tmp_path / "edge.toml", says="edge.toml")


@needs_release
def test_release_commands_refuse_what_is_not_theirs(hub_dir: Path, tmp_path: Path) -> None:
    key = edgecore("hub", "key", hub_dir).stdout.strip()
    releaser = tmp_path / "releaser"
    refused("Invalid", "release", "init", releaser, "--hub-key", "zz", says="hexadecimal")
    made = edgecore("release", "init", releaser, "--hub-key", key, "--json")
    root = json.loads(made.stdout)["root"]
    refused("Invalid", "release", "init", releaser, "--hub-key", key, says="already")
    edgecore("hub", "publish", hub_dir, releaser / "public")
    other = tmp_path / "other"
    edgecore("release", "init", other, "--hub-key", key)
    refused("Untrusted", "hub", "publish", hub_dir, other / "public", says="another releaser")
    refused("Untrusted", "model", "verify", other / "public", "--root", root)
    refused("Invalid", "hub", "order", hub_dir, "family", 1, says="not published")


@needs_release
def test_model_inspect_of_a_damaged_manifest_is_corrupt(tmp_path: Path) -> None:
    bad = tmp_path / "manifest"
    bad.write_bytes(b"\xa1\x61a")
    refused("Corrupt", "model", "inspect", bad)
    refused("Unavailable", "model", "inspect", tmp_path / "none", says="none")


def test_model_inspect_of_a_model_says_what_runs_it_and_what_each_operator_costs(
    tmp_path: Path,
) -> None:
    from array import array

    pytest.importorskip("flatbuffers")
    from edgecore.tflite_writer import Activation, Layer, write_tflite

    layer = Layer(array("b", [3] * 32), array("i", [1] * 8), 0.02, (8, 4), True)
    path = tmp_path / "small.tflite"
    path.write_bytes(write_tflite([layer], [Activation(0.05, 3), Activation(0.1, -2)], "small"))
    text = edgecore("model", "inspect", path).stdout
    assert "32 multiply-adds a row" in text
    assert "   0  FULLY_CONNECTED    1x8 " in text
    facts = json.loads(edgecore("model", "inspect", path, "--json").stdout)
    assert facts["operators"][0]["products"] == facts["multiply_adds"] == 32
    assert facts["input"]["values"] == 4
    path.write_bytes(path.read_bytes()[:40])
    refused("Corrupt", "model", "inspect", path)
