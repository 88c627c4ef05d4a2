"""Signed desired state: which release a device shall run, and which raw rows the hub asks it for.
docs/formats/desired-state.md.

The hub chooses only among what a releaser signed: this names a release, it vouches for none.
"""

from __future__ import annotations

from edgecore.errors import Corrupt, Untrusted
from edgecore.wire import cbor
from edgecore.wire.signed import DESIRED, seal, unseal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore.wire.signed import Signer, Verifier

BYTES_MAX = 16 * 1024
REQUESTS_MAX = 64  # of one device at a time


class Request:
    """Rows of a stream with times in (low, high] that the hub asks for, until `expires_ns`."""

    __slots__ = ("expires_ns", "high", "id", "low", "stream")

    def __init__(self, id: int, stream: str, low: int, high: int, expires_ns: int) -> None:
        self.id, self.stream, self.low, self.high = id, stream, low, high
        self.expires_ns = expires_ns

    def encoded(self) -> list[object]:
        return [self.id, self.stream, self.low, self.high, self.expires_ns]


class Desired:
    """:param release: None, or (name, version, target path); :param issued_ns: UTC;
    :param sync: settings of synchronisation, integers by name; :param requests: for the rows of
    `device`, which it is then bound to."""

    __slots__ = ("device", "issued_ns", "order", "release", "requests", "ring", "sync")

    def __init__(
        self,
        order: int,
        issued_ns: int,
        release: tuple[str, int, str] | None = None,
        ring: str = "",
        sync: dict[str, int] | None = None,
        requests: list[Request] | None = None,
        device: bytes = b"",
    ) -> None:
        self.order = order
        self.issued_ns = issued_ns
        self.release = release
        self.ring = ring
        self.sync = sync or {}
        self.requests = requests or []
        self.device = device

    def encode(self, signer: Signer) -> bytes:
        body: dict[str, object] = {
            "version": 1,
            "order": self.order,
            "issued": self.issued_ns,
            "release": list(self.release) if self.release else None,
            "ring": self.ring,
            "sync": self.sync,
        }
        if self.requests:
            body["device"] = self.device
            body["raw"] = [request.encoded() for request in self.requests]
        return seal(DESIRED, cbor.encode(body), signer)


def decode(message: bytes, verifier: Verifier, device: bytes = b"") -> Desired:
    """Raises ``Untrusted`` for a wrong key or another device's requests, ``Corrupt`` for malformed
    bytes."""
    if len(message) > BYTES_MAX:
        raise Corrupt(f"desired state of {len(message)} bytes: at most {BYTES_MAX}")
    body = cbor.decode(unseal(DESIRED, message, verifier))
    if cbor.field(body, "version", int) != 1:
        raise Corrupt("desired state: unknown version")
    release = body.get("release")
    if release is not None:
        kinds = [type(item) for item in release] if isinstance(release, list) else []
        if kinds != [str, int, str]:
            raise Corrupt("desired state: the release is malformed")
        release = (release[0], cbor.unsigned(release[1], 32), release[2])
    sync = cbor.field(body, "sync", dict)
    requests = _requests(body["raw"]) if "raw" in body else []
    if requests and cbor.field(body, "device", bytes, 16) != device:
        raise Untrusted("desired state: it asks another device for rows")
    return Desired(
        cbor.unsigned(body.get("order")),
        cbor.unsigned(body.get("issued"), 63),
        release,
        cbor.field(body, "ring", str),
        {name: cbor.unsigned(value) for name, value in sync.items()},
        requests,
        device if requests else b"",
    )


def _requests(items: object) -> list[Request]:
    if not isinstance(items, list) or not 1 <= len(items) <= REQUESTS_MAX:
        raise Corrupt("desired state: the requests are malformed")
    out = []
    for item in items:
        kinds = [type(value) for value in item] if isinstance(item, list) else []
        if kinds != [int, str, int, int, int]:
            raise Corrupt("desired state: a request is malformed")
        number, stream, low, high, expires = item
        if not -(1 << 63) <= low < high < 1 << 63:
            raise Corrupt("desired state: a request for no time")
        out.append(
            Request(cbor.unsigned(number, 63), stream, low, high, cbor.unsigned(expires, 63))
        )
    return out


__all__ = ["REQUESTS_MAX", "Desired", "Request", "decode"]
