"""The demo's judge on signatures, independent of the device's own verdicts: Ed25519 checked with
`cryptography`, metadata read as plain JSON, contexts and canonical forms written out here.

Facts read: ``hub_key`` (hex), ``releaser`` (a releaser's public directory, or a hub's directory).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edgecore.digest import blake3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.cli.checker import Evidence

SIGNATURE_BYTES = 64
CONTEXTS = {
    "/v1/enrol": b"edgecore enrolled v1\0",
    "/v1/hello": b"edgecore ack v1\0",
    "/v1/ingest": b"edgecore ack v1\0",
    "/v1/desired": b"edgecore desired v1\0",
}
RAN = {"trial", "active", "stable"}
PREDICTS = {"active", "shadow", "fallback"}


def check_acks(evidence: Evidence) -> str | None:
    """Every answer the device acted on bears the hub's signature, is about a store of this device,
    and answers a request that was not answered before."""
    import cbor2

    key = bytes.fromhex(evidence.facts["hub_key"])
    stores = {str(event["store"]) for event in evidence.device}
    nonces: set[bytes] = set()
    answers = 0
    for number, line in enumerate(evidence.acks, 1):
        where = f"answer {number} ({line['path']})"
        context = CONTEXTS.get(line["path"])
        if context is None:
            return f"{where}: the device acts on no answer of that path"
        message = bytes.fromhex(line["body"])
        data, signature = message[:-SIGNATURE_BYTES], message[-SIGNATURE_BYTES:]
        if not _verifies(key, signature, context + data):
            return f"{where}: not signed by the hub"
        if context != CONTEXTS["/v1/ingest"]:
            continue
        body = cbor2.loads(data)
        answers += 1
        if body["store"].hex() not in stores:
            return f"{where}: it is about another store"
        if body["nonce"] in nonces:
            return f"{where}: the same request was answered before"
        nonces.add(body["nonce"])
    return None if answers else "no signed answer at all"


def check_releases(evidence: Evidence) -> str | None:
    """Every release that ever ran on the device, by its own edges and by the contexts of its
    predictions, is one that the releaser signed, and its objects are the ones that were signed."""
    import cbor2

    vouched = _vouched(Path(evidence.facts["releaser"]))
    if isinstance(vouched, str):
        return vouched
    ran: dict[str, str] = {}
    for event in evidence.stream("edgecore.update"):
        values = event["values"]
        if values["edge"] in RAN:
            ran.setdefault(values["digest"], f"{values['release']}/{values['version']}")
    for event in evidence.stream("edgecore.context"):
        body = cbor2.loads(bytes.fromhex(event["values"]["body"]))
        if body.get("role") in PREDICTS:
            ran.setdefault(body["release"].hex(), f"context {event['values']['context']}")
    if not ran:
        return "no release ever ran"
    for digest, what in ran.items():
        if digest not in vouched:
            return f"{what} ran, and no releaser signed {digest[:16]}"
    return None


def _vouched(public: Path) -> set[str] | str:
    """Digests of every release in any signed targets, or what is wrong with them."""
    tuf = public / "tuf" if (public / "tuf").is_dir() else public
    keys: dict[str, bytes] = {}
    roots = sorted(tuf.glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))
    before: dict[str, bytes] = {}
    for path in roots:
        metadata = json.loads(path.read_text())
        own = _role_keys(metadata["signed"], "root")
        if not _signed(metadata, own) or (before and not _signed(metadata, before)):
            return f"{path.name}: not signed by the root key"
        keys |= _role_keys(metadata["signed"], "targets")
        before = own
    found: set[str] = set()
    for path in sorted(tuf.glob("*.targets.json")):
        metadata = json.loads(path.read_text())
        if not _signed(metadata, keys):
            return f"{path.name}: not signed by the releaser"
        for name, entry in metadata["signed"]["targets"].items():
            digest = entry["custom"]["blake3"]
            if wrong := _wrong(public / "blobs", digest, entry["hashes"]["sha256"]):
                return f"{name}: {wrong}"
            found.add(digest)
    return found


def _wrong(blobs: Path, digest: str, sha256: str) -> str:
    """What is wrong with a manifest and the objects that it names; empty if nothing."""
    import cbor2

    path = blobs / digest
    data = path.read_bytes() if path.exists() else b""
    if blake3(data).hex() != digest or hashlib.sha256(data).hexdigest() != sha256:
        return "its manifest is not the one that was signed"
    for name, (wanted, length) in cbor2.loads(data)["objects"].items():
        path = blobs / wanted.hex()
        content = path.read_bytes() if path.exists() else b""
        if len(content) != length or blake3(content) != wanted:
            return f"its {name} is not the one that was signed"
    return ""


def _role_keys(root: dict[str, Any], role: str) -> dict[str, bytes]:
    return {
        name: bytes.fromhex(root["keys"][name]["keyval"]["public"])
        for name in root["roles"][role]["keyids"]
    }


def _signed(metadata: dict[str, Any], keys: dict[str, bytes]) -> bool:
    payload = _canonical(metadata["signed"]).encode()
    return any(
        item["keyid"] in keys
        and _verifies(keys[item["keyid"]], bytes.fromhex(item["sig"]), payload)
        for item in metadata["signatures"]
    )


def _canonical(value: object) -> str:
    """Canonical JSON as TUF signs it: sorted keys, no space, only quote and backslash escaped."""
    if isinstance(value, dict):
        inside = (f"{_canonical(key)}:{_canonical(value[key])}" for key in sorted(value))
        return "{" + ",".join(inside) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_canonical(item) for item in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return json.dumps(value)


def _verifies(key: bytes, signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except InvalidSignature:
        return False
    return True
