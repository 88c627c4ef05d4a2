"""The invite file: all a new device must know of its hub. docs/formats/invite.md (first form)."""

from __future__ import annotations

from edgecore.errors import Corrupt, Invalid
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
    try:
        parts(url)
    except Invalid as error:
        raise Corrupt(f"invite: {error}") from None
    if cbor.field(body, "version", int) != 1:
        raise Corrupt("invite: unknown version")
    return Invite(
        url,
        cbor.field(body, "hub", bytes, 16),
        cbor.field(body, "hub_key", bytes, 32),
        cbor.field(body, "root_hash", bytes, 32),
        cbor.field(body, "token", bytes, 32),
    )


def parts(url: str) -> tuple[bool, str, str]:
    """(whether it is https, HOST or HOST:PORT, path without a slash at its end) of a hub's URL.

    Raises ``Invalid``."""
    scheme, _, rest = url[: URL_CHARS_MAX + 1].partition("://")
    if scheme not in ("http", "https"):
        raise Invalid(f"hub URL {url[:80]!r}: http:// or https://")
    host, _, path = rest.partition("/")
    path = path.strip("/")
    if not _is_host(host):
        raise Invalid(f"hub URL {url[:80]!r}: http://HOST or http://HOST:PORT")
    if len(url) > URL_CHARS_MAX or not (path.isascii() and path.isprintable()) or " " in path:
        raise Invalid(f"hub URL {url[:80]!r}: printable ASCII, {URL_CHARS_MAX} characters at most")
    return scheme == "https", host, f"/{path}" if path else ""


def _is_host(text: str) -> bool:
    """HOST or HOST:PORT, by names, IPv4 or [IPv6]."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host = text
    elif not (port.isascii() and port.isdigit() and int(port[:6]) < 65536):
        return False
    if host.startswith("["):
        return host.endswith("]") and all(c in "0123456789abcdefABCDEF:." for c in host[1:-1])
    allowed = all(c.isascii() and (c.isalnum() or c in "-_.") for c in host)
    return allowed and all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))


__all__ = ["Invite", "decode", "parts"]
