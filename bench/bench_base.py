"""The digest of content, from Python, beside the reference implementation's wheel (one thread)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from pair import Case, row

SIZES = {"1MiB": 1 << 20, "64B": 64}


class Digest:
    """Hashes one input again and again; the checksum is of the digest."""

    version: str
    digest: Callable[[bytes], bytes]

    def __init__(self, settings: dict[str, Any]) -> None:
        self.data = random.Random(20).randbytes(settings["bytes"])

    def run(self, count: int) -> int:
        digest, data, out = self.digest, self.data, b""
        for _ in range(count):
            out = digest(data)
        return int.from_bytes(out[:6], "little")


class Ours(Digest):
    def __init__(self, settings: dict[str, Any]) -> None:
        import edgecore as ec
        from edgecore.digest import blake3

        super().__init__(settings)
        self.version = ec.__version__
        self.digest = blake3


class Wheel(Digest):
    def __init__(self, settings: dict[str, Any]) -> None:
        from blake3 import blake3

        super().__init__(settings)
        self.version = f"blake3 {version('blake3')}"
        self.digest = lambda data: blake3(data).digest()


CASES = {
    name: Case({"ours": Ours, "blake3": Wheel}, settings={"bytes": size})
    for name, size in SIZES.items()
}


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    for name, case in CASES.items():
        yield row(f"base.blake3/{name}", "base", name, case, "blake3", rounds)
