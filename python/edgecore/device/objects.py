"""Objects of a release, by digest and range, from the hub into the artifact store.

Nothing here is believed: the store reads a whole object back and checks its digest.
"""

from __future__ import annotations

from edgecore.artifacts import CHUNK_BYTES
from edgecore.errors import Corrupt, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgecore.artifacts import ArtifactStore
    from edgecore.device.transport import Transport


def small(transport: Transport, digest: bytes, length: int) -> bytes:
    """A small object in one exchange, of at most `length` bytes. Raises as :func:`pull`."""
    return _piece(transport, f"/v1/blob/{digest.hex()}", (0, length - 1), length)


def pull(transport: Transport, store: ArtifactStore, digest: bytes, length: int) -> Iterator[None]:
    """One object, chunk by chunk, from where the last attempt was cut; each `yield` ends one
    exchange. Raises ``Corrupt`` when the hub's bytes are not those that were signed."""
    path = f"/v1/blob/{digest.hex()}"
    with store.stage(digest, length) as staging:
        at = staging.received
        while at < length:
            last = min(length, at + CHUNK_BYTES - at % CHUNK_BYTES) - 1
            piece = _piece(transport, path, (at, last), length)
            staging.write(at, piece)
            at += len(piece)
            yield
        staging.finish()


def _piece(transport: Transport, path: str, span: tuple[int, int], length: int) -> bytes:
    first, last = span
    status, headers, body = transport.request("GET", path, {"Range": f"bytes={first}-{last}"})
    sent, _, total = headers.get("content-range", "").partition("/")
    if status in (206, 416) and total.isdigit() and int(total) != length:
        word = "truncated" if int(total) < length else "content"
        raise Corrupt(f"{word}: {path} has {total} bytes at the hub, {length} were signed")
    if status == 200 and len(body) == length:
        body = body[first : last + 1]
    elif status != 206 or not sent.startswith(f"bytes {first}-"):
        raise Unavailable(f"{path}: the hub answered {status}")
    if not 0 < len(body) <= last - first + 1:
        raise Unavailable(f"{path}: {len(body)} bytes for {first} to {last}")
    return body


__all__ = ["pull", "small"]
