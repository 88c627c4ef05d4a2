"""Messages: golden vectors, every bit flip refused, canonical CBOR alone accepted."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from edgecore.errors import Corrupt, EdgecoreError, Untrusted
from edgecore.trust.keys import Ed25519Signer, Ed25519Verifier, signer_from_file
from edgecore.wire import ack, cbor, desired, envelope, invite, rowbatch, signed

VECTORS = Path(__file__).parents[2] / "docs" / "formats" / "vectors"
SIGNER = Ed25519Signer(bytes(range(32)))
VERIFIER = Ed25519Verifier(SIGNER.public)
DEVICE, STORE, NONCE = bytes([1]) * 16, bytes([2]) * 16, bytes([3]) * 16


def sample_envelope() -> bytes:
    rows = (1_000).to_bytes(8, "little") + bytes(12) + b"\1\5"
    batch = rowbatch.RowBatch(bytes([7]) * 32, rows, [(1, 9, 10, 1)])
    digest = rowbatch.run_digest(STORE, 1, 5, 1, batch.fingerprint, rows)
    payload = envelope.Payload(envelope.ROW_BATCH, 1, 5, 1, digest, batch.encode())
    return envelope.Envelope(DEVICE, 1, STORE, 77, NONCE, [payload]).encode(SIGNER)


def sample_ack() -> bytes:
    ranges = {0: [(1, 3)], 1: [(1, 5), (9, 12)]}
    made = ack.Ack(bytes([4]) * 16, 1, DEVICE, STORE, NONCE, ranges, {0: 3, 1: 5}, 123, {1: 12})
    return made.encode(SIGNER)


def test_wire_golden_envelope_reads_and_writes_the_same_bytes() -> None:
    vector = json.loads((VECTORS / "envelope.json").read_text())
    assert SIGNER.seed.hex() == vector["seed"]
    assert sample_envelope().hex() == vector["bytes"]
    read = envelope.decode(bytes.fromhex(vector["bytes"]), VERIFIER)
    assert read.encode(SIGNER).hex() == vector["bytes"]
    assert read.payloads[0].digest.hex() == vector["run_digest"]


def test_wire_golden_ack_reads_and_writes_the_same_bytes() -> None:
    vector = json.loads((VECTORS / "ack.json").read_text())
    assert sample_ack().hex() == vector["bytes"]
    read = ack.decode(bytes.fromhex(vector["bytes"]), VERIFIER, DEVICE, STORE, NONCE)
    assert read.encode(SIGNER).hex() == vector["bytes"]
    assert (read.through(0), read.through(1), read.through(2)) == (3, 5, 0)


def test_wire_ack_names_features_in_version_2_alone() -> None:
    ranges = {0: [(1, 3)]}
    parts = (bytes([4]) * 16, 1, DEVICE, STORE, NONCE, ranges, {0: 3}, 123)
    made = ack.Ack(*parts, features=envelope.TAKES_BLOCKS | envelope.TAKES_BOUNDED)
    vector = json.loads((VECTORS / "ack.json").read_text())
    assert made.encode(SIGNER).hex() == vector["version_2"]
    read = ack.decode(bytes.fromhex(vector["version_2"]), VERIFIER, DEVICE, STORE, NONCE)
    assert (read.features, read.ranges, read.encode(SIGNER)) == (3, ranges, made.encode(SIGNER))
    assert ack.decode(sample_ack(), VERIFIER, DEVICE, STORE, NONCE).features == 0
    body = cbor.decode(made.encode(SIGNER)[:-64], 4096)
    del body["features"]
    with pytest.raises(Corrupt):
        ack.decode(
            signed.seal(signed.ACK, cbor.encode(body), SIGNER), VERIFIER, DEVICE, STORE, NONCE
        )


def test_wire_any_bit_flip_or_truncation_is_refused(seed: int) -> None:
    rng = random.Random(seed)
    for message, read in (
        (sample_envelope(), lambda data: envelope.decode(data, VERIFIER)),
        (sample_ack(), lambda data: ack.decode(data, VERIFIER, DEVICE, STORE, NONCE)),
    ):
        for _ in range(100):
            hurt = bytearray(message)
            hurt[rng.randrange(len(hurt))] ^= 1 << rng.randrange(8)
            with pytest.raises(EdgecoreError):
                read(bytes(hurt))
            with pytest.raises(EdgecoreError):
                read(message[: rng.randrange(len(message))])


def test_wire_ack_of_another_request_is_untrusted() -> None:
    for device, store, nonce in (
        (STORE, STORE, NONCE), (DEVICE, DEVICE, NONCE), (DEVICE, STORE, STORE),
    ):  # fmt: skip
        with pytest.raises(Untrusted):
            ack.decode(sample_ack(), VERIFIER, device, store, nonce)


def test_wire_wrong_key_is_untrusted() -> None:
    other = Ed25519Verifier(Ed25519Signer(bytes(32)).public)
    with pytest.raises(Untrusted):
        envelope.decode(sample_envelope(), other)


@pytest.mark.parametrize(
    "data",
    ["1801", "bf616101ff", "a2616101616102", "c11a514b67b0", "a2616201616101", "", "81" * 200],
)
def test_wire_cbor_that_is_not_canonical_is_corrupt(data: str) -> None:
    with pytest.raises(Corrupt):
        cbor.decode(bytes.fromhex(data))


def test_wire_invite_and_desired_come_back() -> None:
    made = invite.Invite("http://hub:8080", STORE, SIGNER.public, bytes(32), bytes([5]) * 32)
    assert invite.decode(made.encode()).encode() == made.encode()
    state = desired.Desired(3, 99, ("anomaly", 2, "releases/anomaly-2"), "canary", {"idle_s": 30})
    assert desired.decode(state.encode(SIGNER), VERIFIER).encode(SIGNER) == state.encode(SIGNER)


def test_wire_key_file_comes_back() -> None:
    assert signer_from_file(SIGNER.key_file()).public == SIGNER.public
    with pytest.raises(Corrupt):
        signer_from_file(b"something else")
