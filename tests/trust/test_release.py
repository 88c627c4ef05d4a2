"""Manifests and bundles: one encoding, bounds first, every flipped bit seen."""

from __future__ import annotations

import random

import pytest

from edgecore.digest import blake3
from edgecore.errors import Corrupt, Invalid
from edgecore.release import OBJECTS, Bundle, Manifest, Observation


def bundle(salt: str = "", **facts: object) -> Bundle:
    objects = {name: f"{name} {salt}".encode() * 50 for name in OBJECTS}
    given = {
        "family": "device-health", "profile": "litert-single", "ops": ["FULLY_CONNECTED"],
        "arena_bytes": 512, "features": [blake3(b"f1"), blake3(b"f2")], "score": "reconstruction",
        "golden_output": blake3(b"out"), **facts,
    }  # fmt: skip
    return Bundle(objects, **given)  # type: ignore[arg-type]


def manifest(observation: dict[str, object] | None = None) -> Manifest:
    return bundle().manifest("anomaly", 3, minimum=1, rollback=[2, 1], observation=observation)


def test_release_manifest_comes_back_as_it_was() -> None:
    made = manifest(observation={"max_alarm_share": 0.25})
    again = Manifest.decode(made.encode())
    assert again.encode() == made.encode()
    assert (again.path, again.minimum, again.rollback) == ("anomaly/3", 1, (1, 2))
    assert again.observation.max_alarm_share == 0.25
    assert again.objects["model"] == (blake3(bundle().objects["model"]), 300)


def test_release_manifest_has_one_encoding_under_any_flipped_bit(seed: int) -> None:
    data = manifest().encode()
    rng = random.Random(seed)
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << rng.randrange(8)
        try:
            other = Manifest.decode(bytes(flipped))
        except Corrupt:
            continue
        assert other.encode() == bytes(flipped)


def test_release_manifest_truncated_anywhere_is_corrupt() -> None:
    data = manifest().encode()
    for size in range(len(data)):
        with pytest.raises(Corrupt):
            Manifest.decode(data[:size])
    with pytest.raises(Corrupt, match="canonical"):
        Manifest.decode(data + b"\0")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0}, {"name": "a/b"}, {"name": ""}, {"name": "x" * 24}, {"minimum": 4},
        {"rollback": [3]}, {"trust": "mine"}, {"golden_output": b"short"}, {"features": [b"x"]},
        {"objects": {}}, {"arena_bytes": -1},
    ],
    ids=str,
)  # fmt: skip
def test_release_manifest_out_of_bounds_is_invalid(change: dict[str, object]) -> None:
    base = manifest()
    fields = {name: getattr(base, name) for name in Manifest.__slots__}
    with pytest.raises(Invalid):
        Manifest(**{**fields, **change})


def test_release_manifest_over_its_size_is_invalid() -> None:
    many = bundle(features=[blake3(bytes([i % 256, i // 256])) for i in range(300)])
    assert many.manifest("a", 1).encode()
    with pytest.raises(Invalid, match="16384"):
        bundle(features=[bytes(32)] * 500).manifest("a", 1).encode()


@pytest.mark.parametrize("share", [-0.1, 1.1, "1", float("nan")])
def test_release_observation_share_out_of_range_is_invalid(share: object) -> None:
    with pytest.raises(Invalid):
        Observation(max_alarm_share=share)  # type: ignore[arg-type]


def test_release_bundle_comes_back_from_its_files() -> None:
    made = bundle(observation={"min_predictions": 7}, notes={"rows": 12})
    again = Bundle.from_files(made.files())
    assert again.facts == made.facts
    assert again.manifest("a", 1).encode() == made.manifest("a", 1).encode()
    assert again.manifest("a", 1).observation.min_predictions == 7


def test_release_bundle_names_what_is_missing_or_malformed() -> None:
    files = bundle().files()
    with pytest.raises(Corrupt, match=r"golden\.bin missing"):
        Bundle.from_files({name: data for name, data in files.items() if name != "golden.bin"})
    with pytest.raises(Corrupt, match=r"bundle\.json"):
        Bundle.from_files({**files, "bundle.json": b"{}"})
    with pytest.raises(Corrupt, match=r"bundle\.json"):
        Bundle.from_files({**files, "bundle.json": b"\xff"})
