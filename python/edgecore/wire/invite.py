"""The invite file: all a new device must know of its hub. docs/formats/invite.md (first form)."""

from __future__ import annotations

from edgecore.errors import Corrupt
from edgecore.wire import cbor

BYTES_MAX = 4096
URL_CHARS_MAX = 1024


class Invite:
    """:param url: the hub's base URL; :param hub_key: Ed25519, 32 bytes;
    :param root_hash: BLAKE3 of the first root metadata; :param token: one-time, 32 bytes."""

    __slots__ = ("hub", "hub_key", "root_hash", "token", "url")

    def __init__(
        self, url: str, hub: bytes, hub_key: bytes, root_hash: bytes, token: bytes
    ) -> None:
        self.url = url
        self.hub = hub
        self.hub_key = hub_key
        self.root_hash = root_hash
        self.token = token

    def encode(self) -> bytes:
        return cbor.encode(
            {
                "version": 1,
                "url": self.url,
                "hub": self.hub,
                "hub_key": self.hub_key,
                "root_hash": self.root_hash,
                "token": self.token,
            }
        )


def decode(data: bytes) -> Invite:
    """Raises ``Corrupt`` for anything that is no invite."""
    body = cbor.decode(data, BYTES_MAX)
    url = cbor.field(body, "url", str)
    if len(url) > URL_CHARS_MAX or not url.startswith(("http://", "https://")):
        raise Corrupt("invite: the hub's URL is not http or https")
    if cbor.field(body, "version", int) != 1:
        raise Corrupt("invite: unknown version")
    return Invite(
        url,
        cbor.field(body, "hub", bytes, 16),
        cbor.field(body, "hub_key", bytes, 32),
        cbor.field(body, "root_hash", bytes, 32),
        cbor.field(body, "token", bytes, 32),
    )


__all__ = ["Invite", "decode"]
