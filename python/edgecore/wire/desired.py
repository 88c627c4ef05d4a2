"""Signed desired state: which release a device shall run. docs/formats/desired-state.md.

The hub chooses only among what a releaser signed: this names a release, it vouches for none.
"""

from __future__ import annotations

from edgecore.errors import Corrupt
from edgecore.wire import cbor
from edgecore.wire.signed import DESIRED, seal, unseal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore.wire.signed import Signer, Verifier

BYTES_MAX = 16 * 1024


class Desired:
    """:param release: None, or (name, version, target path); :param issued_ns: UTC;
    :param sync: settings of synchronisation, integers by name."""

    __slots__ = ("issued_ns", "order", "release", "ring", "sync")

    def __init__(
        self,
        order: int,
        issued_ns: int,
        release: tuple[str, int, str] | None = None,
        ring: str = "",
        sync: dict[str, int] | None = None,
    ) -> None:
        self.order = order
        self.issued_ns = issued_ns
        self.release = release
        self.ring = ring
        self.sync = sync or {}

    def encode(self, signer: Signer) -> bytes:
        body = {
            "version": 1,
            "order": self.order,
            "issued": self.issued_ns,
            "release": list(self.release) if self.release else None,
            "ring": self.ring,
            "sync": self.sync,
        }
        return seal(DESIRED, cbor.encode(body), signer)


def decode(message: bytes, verifier: Verifier) -> Desired:
    """Raises ``Untrusted`` for a wrong key and ``Corrupt`` for malformed bytes."""
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
    return Desired(
        cbor.unsigned(body.get("order")),
        cbor.unsigned(body.get("issued"), 63),
        release,
        cbor.field(body, "ring", str),
        {name: cbor.unsigned(value) for name, value in sync.items()},
    )


__all__ = ["Desired", "decode"]
