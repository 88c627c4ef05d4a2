"""A signed message: its bytes, then a 64-byte signature over a context string and the bytes.

The context string names the message's type and version, so that a signature made for one can
never stand under another.
"""

from __future__ import annotations

from edgecore.errors import Untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Signer(Protocol):
        @property
        def public(self) -> bytes: ...
        def sign(self, data: bytes) -> bytes: ...

    class Verifier(Protocol):
        def verify(self, signature: bytes, data: bytes) -> bool: ...


SIGNATURE_BYTES = 64
ENVELOPE = b"edgecore envelope v1\0"
ACK = b"edgecore ack v1\0"
HELLO = b"edgecore hello v1\0"
ENROL = b"edgecore enrol v1\0"
ENROLLED = b"edgecore enrolled v1\0"
DESIRED = b"edgecore desired v1\0"


def seal(context: bytes, data: bytes, signer: Signer) -> bytes:
    return data + signer.sign(context + data)


def unseal(context: bytes, message: bytes, verifier: Verifier) -> bytes:
    """The message's bytes. Raises ``Untrusted`` unless the key signed exactly them."""
    data, signature = message[:-SIGNATURE_BYTES], message[-SIGNATURE_BYTES:]
    if not data or not verifier.verify(signature, context + data):
        raise Untrusted(f"{context[9:-4].decode()}: not signed by the expected key")
    return data


__all__ = [
    "ACK",
    "DESIRED",
    "ENROL",
    "ENROLLED",
    "ENVELOPE",
    "HELLO",
    "SIGNATURE_BYTES",
    "seal",
    "unseal",
]
