"""The storage seam, from Python: everything that must survive a power cut is written through an
``Fs``, so that the same code runs on the operating system and on a disk that loses what it may.

``Fs`` (base), ``PosixFs()`` and ``MemoryFs(sector_size=512, model="posix" | "ext4", capacity=…)``:

- ``read_file(path, size_max) -> bytes`` (longer: Corrupt), ``write_atomic(path, data)``: after a
  power cut at any point the file holds the old bytes or the new ones.
- ``open(path, mode) -> File``, modes ``read read_write create create_new``; a File has ``read_at
  write_at sync size truncate fill_zeros close`` and is a context manager.
- ``exists list remove rename make_directories sync_directory lock free_bytes sector_size``.

A missing file, a denied one and a disk error raise Unavailable, a full disk Exhausted, an existing
file under ``create_new`` Invalid; the path is in the message. ``MemoryFs`` adds power cuts, crash
images and faults: see cpp/base/fs_memory.hpp.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgecore._core.fs import File, FileLock, Fs, MemoryFs, posix_fs
from edgecore.errors import EdgecoreError, from_os


def PosixFs() -> Fs:
    """The operating system's files."""
    return posix_fs()


def write_private(path: Path, data: bytes, fs: Fs | None = None) -> None:
    """A new file that its owner alone can read, durable with its name. Nothing stays of one that
    could not be written.

    Raises ``Invalid`` where there is one already, ``Exhausted`` on a full disk, ``Unavailable``."""
    fs = fs or PosixFs()
    name = str(path)
    with fs.open(name, "create_new") as file:
        try:
            file.write_at(0, data)
            file.sync()
            fs.sync_directory(str(path.parent))
        except EdgecoreError:
            fs.remove(name)
            raise


def write_public(path: Path, data: bytes) -> None:
    """``write_atomic`` for a file that other users may read, as far as the umask lets them.

    Raises ``Exhausted`` on a full disk, ``Unavailable``."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        handle = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise from_os(error, str(path)) from None


__all__ = ["File", "FileLock", "Fs", "MemoryFs", "PosixFs", "write_private", "write_public"]
