"""The ack: the only thing that lets a device advance. docs/formats/ack.md (final).

It is bound to the device, the store and the nonce of one request, and signed by the hub; a status
code, an old answer or a portal's page is none.
"""

from __future__ import annotations

from edgecore.errors import Corrupt, Untrusted
from edgecore.wire import cbor
from edgecore.wire.signed import ACK, seal, unseal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.wire.signed import Signer, Verifier

    Ranges = dict[int, list[tuple[int, int]]]

RANGES_MAX = 32
PARTITIONS_MAX = 4096
BYTES_MAX = 256 * 1024


class Ack:
    """What the hub holds of one store.

    :param ranges: partition -> at most 32 inclusive (first, last), ascending: held durably.
    :param release: partition -> highest sequence that may be deleted on the device.
    :param forks: partition -> last sequence whose content both sides share.
    :param time_ns: the hub's clock, UTC.
    :param features: what the hub takes, bits of :mod:`edgecore.wire.envelope`; told to a device
        that asked for it in its hello. An answer that says it is of version 2.
    """

    __slots__ = (
        "device", "features", "forks", "hub", "incarnation", "nonce", "ranges", "release", "store",
        "time_ns",
    )  # fmt: skip

    def __init__(
        self,
        hub: bytes,
        incarnation: int,
        device: bytes,
        store: bytes,
        nonce: bytes,
        ranges: Ranges,
        release: dict[int, int],
        time_ns: int,
        forks: dict[int, int] | None = None,
        features: int = 0,
    ) -> None:
        self.hub = hub
        self.incarnation = incarnation
        self.device = device
        self.store = store
        self.nonce = nonce
        self.ranges = ranges
        self.release = release
        self.time_ns = time_ns
        self.forks = forks or {}
        self.features = features

    def encode(self, signer: Signer) -> bytes:
        body: dict[str, object] = {
            "version": 2 if self.features else 1,
            "hub": self.hub,
            "incarnation": self.incarnation,
            "device": self.device,
            "store": self.store,
            "nonce": self.nonce,
            "ranges": [
                [partition, [list(pair) for pair in pairs]]
                for partition, pairs in sorted(self.ranges.items())
            ],
            "release": [list(item) for item in sorted(self.release.items())],
            "time": self.time_ns,
        }
        if self.forks:
            body["forks"] = [list(item) for item in sorted(self.forks.items())]
        if self.features:
            body["features"] = self.features
        return seal(ACK, cbor.encode(body), signer)

    def through(self, partition: int) -> int:
        """The highest sequence up to which everything is held; 0 for none."""
        pairs = self.ranges.get(partition, [])
        return pairs[0][1] if pairs and pairs[0][0] == 1 else 0


def _pairs(items: Any) -> list[tuple[int, int]]:
    if not isinstance(items, list) or len(items) > PARTITIONS_MAX:
        raise Corrupt("ack: a list is missing or too long")
    out = []
    for item in items:
        if not isinstance(item, list) or len(item) != 2:
            raise Corrupt("ack: not a pair")
        out.append((cbor.unsigned(item[0]), cbor.unsigned(item[1])))
    return out


def _ranges(items: Any) -> Ranges:
    if not isinstance(items, list) or len(items) > PARTITIONS_MAX:
        raise Corrupt("ack: ranges are missing or too many")
    out: Ranges = {}
    for item in items:
        if not isinstance(item, list) or len(item) != 2:
            raise Corrupt("ack: not a range list")
        pairs = _pairs(item[1])
        previous = 0
        for first, last in pairs:
            if first <= previous or last < first:
                raise Corrupt("ack: ranges overlap or are out of order")
            previous = last
        if len(pairs) > RANGES_MAX:
            raise Corrupt(f"ack: {len(pairs)} ranges of at most {RANGES_MAX}")
        out[cbor.unsigned(item[0], 32)] = pairs
    return out


def decode(message: bytes, verifier: Verifier, device: bytes, store: bytes, nonce: bytes) -> Ack:
    """The ack that answers this very request. Raises ``Untrusted`` or ``Corrupt`` otherwise."""
    if len(message) > BYTES_MAX:
        raise Corrupt(f"ack of {len(message)} bytes: at most {BYTES_MAX}")
    body = cbor.decode(unseal(ACK, message, verifier), BYTES_MAX)
    version = cbor.field(body, "version", int)
    if version not in (1, 2):
        raise Corrupt("ack: unknown version")
    ack = Ack(
        cbor.field(body, "hub", bytes, 16),
        cbor.unsigned(body.get("incarnation")),
        cbor.field(body, "device", bytes, 16),
        cbor.field(body, "store", bytes, 16),
        cbor.field(body, "nonce", bytes, 16),
        _ranges(body.get("ranges")),
        dict(_pairs(body.get("release"))),
        cbor.unsigned(body.get("time"), 63),
        dict(_pairs(body.get("forks", []))),
        cbor.unsigned(body.get("features"), 32) if version == 2 else 0,
    )
    if (ack.device, ack.store, ack.nonce) != (device, store, nonce):
        raise Untrusted("ack: it answers another request")
    return ack


__all__ = ["RANGES_MAX", "Ack", "decode"]
