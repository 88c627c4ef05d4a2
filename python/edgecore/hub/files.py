"""The hub's published files as answers: whole, or the stretch that a request names, read in pieces
while they are sent, so that an artifact never stands in memory whole."""

from __future__ import annotations

import os

from edgecore.errors import Unavailable, from_os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    Reply = tuple[int, dict[str, str], "bytes | FilePart"]

PIECE_BYTES = 64 * 1024


class FilePart:
    """A stretch of an open file, `size` bytes from offset `first`. Closed behind its last piece."""

    def __init__(self, file: BinaryIO, first: int, size: int) -> None:
        self._file = file
        self._size = self._left = size
        file.seek(first)

    def __len__(self) -> int:
        return self._size

    def piece(self) -> bytes:
        """The next bytes; none when all were read. Raises ``Unavailable`` when the file has become
        shorter, or can't be read."""
        try:
            data = self._file.read(min(self._left, PIECE_BYTES)) if self._left else b""
        except OSError as error:
            self.close()
            raise Unavailable(f"a published file: {error.strerror}") from None
        self._left -= len(data)
        if not self._left or not data:
            self.close()
        if not data and self._left:
            raise Unavailable("a published file became shorter while it was sent")
        return data

    def __bytes__(self) -> bytes:
        return b"".join(iter(self.piece, b""))

    def close(self) -> None:
        self._file.close()


def reply(folder: Path, name: str, headers: dict[str, str]) -> Reply:
    """The answer to a GET of `name`, with the stretch that a ``range`` header names."""
    path = folder / name
    odd = not name or "/" in name or "\0" in name or name.startswith(".")
    if odd or not path.is_file():
        return 404, {}, b"Invalid: no such object\n"
    try:
        file = path.open("rb")
    except OSError as error:
        raise from_os(error, f"object {name}") from None
    size = os.fstat(file.fileno()).st_size
    wanted = headers.get("range", "").removeprefix("bytes=").split("-")
    if len(wanted) != 2 or not _is_offset(wanted[0]):
        return 200, {}, FilePart(file, 0, size)
    first = int(wanted[0])
    last = min(int(wanted[1]) if _is_offset(wanted[1]) else size - 1, size - 1)
    if first > last:
        file.close()
        return 416, {"content-range": f"bytes */{size}"}, b""
    part = FilePart(file, first, last - first + 1)
    return 206, {"content-range": f"bytes {first}-{last}/{size}"}, part


def _is_offset(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19


__all__ = ["PIECE_BYTES", "FilePart", "reply"]
