"""Small state in two checksummed copies: a rotten sector costs nothing, a cut leaves old or new."""

from __future__ import annotations

from edgecore.digest import DIGEST_BYTES, blake3
from edgecore.errors import Corrupt, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore.fs import Fs

BYTES_MAX = 4 << 20
_HEAD = DIGEST_BYTES + 8


class Twofold:
    """`path`.a and `path`.b: BLAKE3 of the rest, generation u64 little-endian, the bytes.

    Both are written whole at every save, so that either alone is enough."""

    __slots__ = ("_fs", "_generation", "_path")

    def __init__(self, fs: Fs, path: str) -> None:
        self._fs = fs
        self._path = path
        self._generation = 0

    def load(self) -> bytes | None:
        """The bytes last saved; None before the first. Repairs a damaged or older copy. Raises
        ``Corrupt`` when no copy is whole."""
        found = [self._copy(name) for name in ("a", "b")]
        whole = [copy for copy in found if isinstance(copy, tuple)]
        if not whole:
            if "damaged" in found:
                raise Corrupt(f"{self._path}: both copies are damaged")
            return None
        self._generation, data = max(whole)
        if found[0] != found[1]:
            self.save(data)
        return data

    def save(self, data: bytes) -> None:
        """Durable on return. Raises ``Exhausted`` or ``Unavailable``; one copy may be newer then,
        and counts."""
        if len(data) > BYTES_MAX:
            raise Invalid(f"{self._path}: {len(data)} bytes of at most {BYTES_MAX}")
        self._generation += 1
        rest = self._generation.to_bytes(8, "little") + data
        for name in ("a", "b"):
            self._fs.write_atomic(f"{self._path}.{name}", blake3(rest) + rest)

    def _copy(self, name: str) -> tuple[int, bytes] | str:
        path = f"{self._path}.{name}"
        if not self._fs.exists(path):
            return "absent"
        try:
            kept = self._fs.read_file(path, BYTES_MAX + _HEAD)
        except Corrupt:
            return "damaged"
        if len(kept) < _HEAD or blake3(kept[DIGEST_BYTES:]) != kept[:DIGEST_BYTES]:
            return "damaged"
        return int.from_bytes(kept[DIGEST_BYTES:_HEAD], "little"), kept[_HEAD:]


__all__ = ["BYTES_MAX", "Twofold"]
