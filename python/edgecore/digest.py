"""BLAKE3 (256 bits) of the core: identity of content everywhere."""

from __future__ import annotations

from edgecore._core import base as _base

blake3 = _base.blake3
DIGEST_BYTES = 32

__all__ = ["DIGEST_BYTES", "blake3"]
