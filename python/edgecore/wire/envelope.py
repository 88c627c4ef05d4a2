"""The envelope: what a device sends. Header, payload table, payload bytes, one signature.

docs/formats/envelope.md (final). Bytes in, values out; a signature is checked before anything
but the device id (which names the key) is believed.
"""

from __future__ import annotations

import struct

from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.wire.signed import ENVELOPE, SIGNATURE_BYTES, seal, unseal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore.wire.signed import Signer, Verifier

MAGIC = 0x4E454345  # "ECEN"
VERSION = 1
FEATURES_KNOWN = 0
ROW_BATCH = 1
COLUMN_BLOCK = 2
# What a hub takes beside row batches, as it answers a device that can be told (its hello's bit).
TAKES_BLOCKS = 1
TAKES_BOUNDED = 2  # also blocks of fields with a max_error
HELLO_TELLS_FEATURES = 1
PAYLOADS_MAX = 256
BYTES_MAX = 1 << 20
ROW_BYTES_MAX = 8 << 20  # canonical rows of all payloads, which column blocks make small
# magic, version, reserved, required and optional features, device, generation, store, epoch,
# cipher, key id, policy, nonce, last acknowledged envelope, number of payloads, payload bytes
_HEAD = struct.Struct("<IHHII16sI16sQHI16s16s32sHI")
_ENTRY = struct.Struct("<HIQI32sI")  # kind, partition, first, count, run digest, length
HEAD_BYTES = _HEAD.size
ENTRY_BYTES = _ENTRY.size


class Payload:
    """One run of a partition: `count` rows from sequence `first`, and its bytes."""

    __slots__ = ("count", "data", "digest", "first", "kind", "partition")

    def __init__(
        self, kind: int, partition: int, first: int, count: int, digest: bytes, data: bytes
    ) -> None:
        self.kind = kind
        self.partition = partition
        self.first = first
        self.count = count
        self.digest = digest
        self.data = data


class Envelope:
    """One transmission of one store, signed by the device's key of that generation."""

    __slots__ = (
        "device",
        "epoch",
        "generation",
        "nonce",
        "optional_features",
        "payloads",
        "policy",
        "previous",
        "store",
    )

    def __init__(
        self,
        device: bytes,
        generation: int,
        store: bytes,
        epoch: int,
        nonce: bytes,
        payloads: list[Payload],
        previous: bytes = bytes(32),
        policy: bytes = bytes(16),
        optional_features: int = 0,
    ) -> None:
        self.device = device
        self.generation = generation
        self.store = store
        self.epoch = epoch
        self.nonce = nonce
        self.payloads = payloads
        self.previous = previous
        self.policy = policy
        self.optional_features = optional_features

    def encode(self, signer: Signer) -> bytes:
        """The signed bytes. Raises ``Invalid`` when they would pass a bound."""
        if len(self.payloads) > PAYLOADS_MAX:
            raise Invalid(f"envelope: {len(self.payloads)} payloads of at most {PAYLOADS_MAX}")
        size = sum(len(payload.data) for payload in self.payloads)
        parts = [
            _HEAD.pack(
                MAGIC,
                VERSION,
                0,
                0,
                self.optional_features,
                self.device,
                self.generation,
                self.store,
                self.epoch,
                0,
                0,
                self.policy,
                self.nonce,
                self.previous,
                len(self.payloads),
                size,
            )
        ]
        parts += [
            _ENTRY.pack(p.kind, p.partition, p.first, p.count, p.digest, len(p.data))
            for p in self.payloads
        ]
        parts += [payload.data for payload in self.payloads]
        data = b"".join(parts)
        if len(data) + SIGNATURE_BYTES > BYTES_MAX:
            raise Invalid(f"envelope of {len(data)} bytes: at most {BYTES_MAX}")
        return seal(ENVELOPE, data, signer)


def claimed_sender(message: bytes) -> tuple[bytes, int]:
    """Device id and key generation that the bytes claim; which key to verify with, no more."""
    if not HEAD_BYTES + SIGNATURE_BYTES <= len(message) <= BYTES_MAX:
        raise Corrupt(f"envelope of {len(message)} bytes")
    head = _HEAD.unpack_from(message)
    if head[0] != MAGIC:
        raise Corrupt("envelope: not one")
    if head[1] != VERSION or head[3] & ~FEATURES_KNOWN:
        raise Incompatible(f"envelope: version {head[1]}, required features {head[3]:#x}")
    return head[5], head[6]


def decode(message: bytes, verifier: Verifier) -> Envelope:
    """Raises ``Untrusted`` for a wrong signature, ``Corrupt`` or ``Incompatible`` for bytes."""
    claimed_sender(message)
    data = unseal(ENVELOPE, message, verifier)
    head = _HEAD.unpack_from(data)
    optional, device, generation, store, epoch, cipher, key = head[4:11]
    policy, nonce, previous, count, size = head[11:]
    if head[2] or cipher or key:
        raise Incompatible("envelope: reserved bits or a cipher are set")
    at = HEAD_BYTES + count * ENTRY_BYTES
    if count > PAYLOADS_MAX or at + size != len(data):
        raise Corrupt("envelope: lengths do not add up")
    payloads = []
    for index in range(count):
        kind, partition, first, rows, digest, length = _ENTRY.unpack_from(
            data, HEAD_BYTES + index * ENTRY_BYTES
        )
        if not first or not rows or first + rows >= 1 << 64 or at + length > len(data):
            raise Corrupt(f"envelope: payload {index} is out of bounds")
        payloads.append(Payload(kind, partition, first, rows, digest, data[at : at + length]))
        at += length
    if at != len(data):
        raise Corrupt("envelope: bytes behind the last payload")
    return Envelope(device, generation, store, epoch, nonce, payloads, previous, policy, optional)


__all__ = [
    "COLUMN_BLOCK",
    "ROW_BATCH",
    "ROW_BYTES_MAX",
    "Envelope",
    "Payload",
    "claimed_sender",
    "decode",
]
