"""The vectors of docs/formats/desired-state.md, read by what the page says, and made again."""

from __future__ import annotations

import json
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgecore.trust.keys import Ed25519Signer, Ed25519Verifier
from edgecore.wire import desired

PAGE = Path(__file__).resolve().parents[2] / "docs/formats/vectors/desired-state.json"


def test_vectors_desired_state_is_read_and_made_again() -> None:
    vector = json.loads(PAGE.read_text())
    public = bytes.fromhex(vector["public_key"])
    device = bytes.fromhex(vector["device"])
    for name in ("plain", "asked"):
        message = bytes.fromhex(vector[name]["message"])
        data, signature = message[:-64], message[-64:]
        Ed25519PublicKey.from_public_bytes(public).verify(
            signature, b"edgecore desired v1\0" + data
        )
        body = cbor2.loads(data)
        found = desired.decode(message, Ed25519Verifier(public), device)
        assert found.encode(Ed25519Signer(bytes(range(32)))) == message
        if name == "plain":
            assert body == vector[name]["body"]
            assert found.requests == []
        else:
            assert (body["device"], body["raw"]) == (device, vector[name]["raw"])
            assert [request.encoded() for request in found.requests] == vector[name]["raw"]
