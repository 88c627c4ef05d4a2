"""Enrolment: from an invite file to an identity that the hub knows and a hub key that is pinned.

The key is durable before the hub hears of it, and asking again with the same invite is harmless,
so that a cut at any point is repaired by running it again.
"""

from __future__ import annotations

from edgecore.errors import Corrupt, Unavailable, Untrusted
from edgecore.trust.keys import Ed25519Signer, Ed25519Verifier, signer_from_file
from edgecore.wire import cbor, desired, invite, signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from edgecore.device.transport import Transport
    from edgecore.wire.desired import Desired
    from edgecore.wire.invite import Invite

    class Files(Protocol):
        def exists(self, path: str) -> bool: ...
        def read_file(self, path: str, size_max: int) -> bytes: ...
        def write_atomic(self, path: str, data: bytes) -> None: ...


class Identity:
    """Who this device is, and the one hub that it believes."""

    __slots__ = ("device", "generation", "invite", "signer", "verifier")

    def __init__(self, device: bytes, signer: Ed25519Signer, invite: Invite) -> None:
        self.device = device
        self.generation = 1
        self.signer = signer
        self.invite = invite
        self.verifier = Ed25519Verifier(invite.hub_key)


def checked(context: bytes, body: bytes, verifier: Ed25519Verifier) -> bytes:
    """The signed part of an answer. What is no message at all (a portal's page, an empty 204) is
    ``Unavailable``; a message that another key signed is ``Untrusted``."""
    try:
        cbor.decode(body[: -signed.SIGNATURE_BYTES])
    except Corrupt:
        raise Unavailable("the answer is not a hub's (a captive portal?)") from None
    return signed.unseal(context, body, verifier)


def load(fs: Files, directory: str) -> Identity | None:
    """The identity that :func:`enrol` has kept; None before enrolment was confirmed."""
    path = f"{directory}/identity"
    if not fs.exists(path):
        return None
    body = cbor.decode(fs.read_file(path, 8192))
    return Identity(
        cbor.field(body, "device", bytes, 16),
        signer_from_file(fs.read_file(f"{directory}/device.key", 1024)[:-16]),
        invite.decode(cbor.field(body, "invite", bytes)),
    )


def enrol(
    fs: Files,
    directory: str,
    invitation: bytes,
    transport: Transport,
    entropy: Callable[[int], bytes],
) -> Identity:
    """Enrols and keeps the identity. `directory` is to be readable by its owner alone.

    Raises ``Unavailable`` without an answer of the hub, ``Untrusted`` for a wrong key or when the
    hub refuses the token."""
    known = load(fs, directory)
    if known is not None:
        return known
    invited = invite.decode(invitation)
    path = f"{directory}/device.key"
    if not fs.exists(path):
        fs.write_atomic(path, Ed25519Signer(entropy(32)).key_file() + entropy(16))
    kept = fs.read_file(path, 1024)
    signer, device = signer_from_file(kept[:-16]), kept[-16:]
    nonce = entropy(16)
    request = {
        "version": 1, "device": device, "key": signer.public, "token": invited.token,
        "nonce": nonce,
    }  # fmt: skip
    message = signed.seal(signed.ENROL, cbor.encode(request), signer)
    status, _, body = transport.request("POST", "/v1/enrol", body=message)
    if status == 403 and body.startswith(b"Untrusted: "):
        raise Untrusted(body[11:200].decode(errors="replace").strip())
    identity = Identity(device, signer, invited)
    answer = cbor.decode(checked(signed.ENROLLED, body, identity.verifier))
    expected = (device, invited.hub, nonce)
    if (answer.get("device"), answer.get("hub"), answer.get("nonce")) != expected:
        raise Untrusted("enrolment: the answer is to another request")
    fs.write_atomic(f"{directory}/identity", cbor.encode({"device": device, "invite": invitation}))
    return identity


def fetch_desired(
    identity: Identity,
    transport: Transport,
    etag: str = "",
    heard: Callable[[str, bytes], None] | None = None,
) -> tuple[str, Desired] | None:
    """(etag, desired state); None if unchanged. `heard` is given path and bytes of a checked
    answer. Raises ``Unavailable``, ``Untrusted``."""
    headers = {"Edgecore-Device": identity.device.hex()}
    if etag:
        headers["If-None-Match"] = etag
    status, got, body = transport.request("GET", "/v1/desired", headers)
    if status == 304 and etag:
        return None
    checked(signed.DESIRED, body, identity.verifier)
    order = desired.decode(body, identity.verifier, identity.device)
    if heard is not None:
        heard("/v1/desired", body)
    return got.get("etag", ""), order


__all__ = ["Identity", "checked", "enrol", "fetch_desired", "load"]
