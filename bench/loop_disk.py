"""An ext4 file system alone on a loop device: what its block layer counts as written is exact, and
its sectors are as large as asked for. Needs root and a kernel that has loop devices.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

IMAGE_BYTES = 160 << 20
SECTOR = 512  # the unit of the counter, whatever the device's own


class LoopDisk:
    """``with LoopDisk(sector_bytes) as mount:`` a `Path`.

    :raises OSError: with what is missing.
    """

    def __init__(self, sector_bytes: int) -> None:
        self.sector_bytes = sector_bytes
        self.device = ""
        self.mounted = False

    def __enter__(self) -> Path:
        if os.geteuid() != 0:
            raise OSError("a loop-mounted file system needs root")
        self.home = tempfile.TemporaryDirectory(prefix="edgecore-loop-", dir=roomy())
        image, mount = Path(self.home.name) / "image", Path(self.home.name) / "mount"
        try:
            with image.open("wb") as file:
                file.truncate(IMAGE_BYTES)
            sector = str(self.sector_bytes)
            self.device = call("losetup", "--find", "--show", "--sector-size", sector, str(image))
            # Whatever is initialised later would be counted.
            now = "lazy_itable_init=0,lazy_journal_init=0"
            call("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", now, self.device)
            mount.mkdir()
            call("mount", "-t", "ext4", self.device, str(mount))
            self.mounted = True
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return mount

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.mounted:
            call("umount", str(Path(self.home.name) / "mount"))
        if self.device:
            call("losetup", "--detach", self.device)
        self.home.cleanup()


def written(path: Path) -> int:
    """Bytes written so far to the device that holds `path`, all that waits for it included."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(descriptor)
    device = path.stat().st_dev
    counters = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text()
    return int(counters.split()[6]) * SECTOR


def roomy() -> str | None:
    """Memory, where there is enough: the counter is the same and nobody waits for a disk."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return None
    space = os.statvfs(shared)
    return str(shared) if space.f_bavail * space.f_frsize > 2 * IMAGE_BYTES else None


def call(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise OSError(f"{words[0]} is not installed") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise OSError(f"{words[0]}: {said}")
    return done.stdout.strip()
