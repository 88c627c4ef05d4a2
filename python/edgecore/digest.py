"""BLAKE3, the identity of content everywhere in edgecore: the core's own, so that a board needs no
third-party digest."""

from __future__ import annotations

from edgecore._core.base import Blake3, blake3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer

DIGEST_BYTES = 32


def hex(data: Buffer) -> str:
    """The digest of `data` as 64 lowercase hexadecimal digits."""
    return blake3(data).hex()


__all__ = ["DIGEST_BYTES", "Blake3", "blake3", "hex"]
