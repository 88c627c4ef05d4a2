"""BLAKE3 and CRC-32C through the binding, against published vectors and an independent wheel."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgecore import digest
from edgecore._core.base import Blake3, crc32c

VECTORS = Path(__file__).resolve().parents[2] / "docs/formats/vectors/blake3.txt"


def pattern(length: int) -> bytes:
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def test_digest_blake3_matches_every_vector() -> None:
    lines = [line.split() for line in VECTORS.read_text().splitlines() if line[0] != "#"]
    assert len(lines) == 35
    for length, expected in lines:
        assert digest.hex(pattern(int(length))) == expected
    # Two official values by heart, so that the file can't drift with its generator.
    assert lines[0][1].startswith("af1349b9f5f9a1a6a0404dea36dcc949")
    assert lines[1][1].startswith("2d3adedff11b61f14c886e35afa03673")


def test_digest_blake3_matches_the_wheel_on_random_lengths_and_splits(seed: int) -> None:
    peer = pytest.importorskip("blake3", reason="the blake3 wheel is not installed")
    rng = random.Random(seed)
    for _ in range(60):
        data = rng.randbytes(rng.randrange(300_001))
        expected = peer.blake3(data).digest()
        assert digest.blake3(data) == expected
        hasher, at = Blake3(), 0
        while at < len(data):
            step = rng.choice((1, 63, 64, 65, 1023, 1024, 1025, 4096, 100_000))
            hasher.update(memoryview(data)[at : at + step])
            at += step
        assert hasher.digest() == expected == hasher.digest()


def test_digest_crc32c_continues_and_matches_the_check_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"6789", crc32c(b"12345")) == 0xE3069283
    data = pattern(100_000)
    assert crc32c(data) == crc32c(data[50_000:], crc32c(data[:50_000]))
