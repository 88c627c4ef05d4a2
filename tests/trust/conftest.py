"""A releaser, a hub's public files and a link to them, all in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgecore.artifacts import ArtifactStore
from edgecore.clock import ManualClock
from edgecore.device.update import Updater
from edgecore.digest import blake3
from edgecore.errors import Unavailable
from edgecore.fs import MemoryFs
from edgecore.release import OBJECTS, Bundle, Manifest
from edgecore.trust import repository
from edgecore.trust.keys import Ed25519Signer
from edgecore.trust.releases import Floor, Trusted, start, take_snapshot, take_targets
from edgecore.trust.releases import take_timestamp as take
from edgecore.wire.desired import Desired

DAY = repository.DAY
NOW = 1_790_000_000 * repository.SECOND


def key(number: int) -> Ed25519Signer:
    return Ed25519Signer(bytes([number]) * 32)


def bundle(salt: str = "", size: int = 50, **facts: Any) -> Bundle:
    objects = {name: f"{name} {salt};".encode() * size for name in OBJECTS}
    given = {
        "family": "device-health", "profile": "litert-single", "ops": ["FULLY_CONNECTED"],
        "arena_bytes": 512, "features": [blake3(b"f1")], "score": "reconstruction",
        "golden_output": blake3(b"out"), **facts,
    }  # fmt: skip
    return Bundle(objects, **given)


class Publisher:
    """Keys 1 (root), 2 (releaser), 3 (hub); `tuf` and `blobs` are what a hub would serve."""

    def __init__(self) -> None:
        self.root_key, self.releaser, self.online = key(1), key(2), key(3)
        self.tuf: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.entries: dict[str, Any] = {}
        self.manifests: dict[str, Manifest] = {}
        self.now = NOW
        self.versions = {"root": 0, "targets": 0, "snapshot": 0, "timestamp": 0}
        self.make_root()
        self.pinned = blake3(self.tuf["1.root.json"])

    def _next(self, role: str) -> int:
        self.versions[role] += 1
        return self.versions[role]

    def make_root(self, *signers: Ed25519Signer) -> bytes:
        number = self._next("root")
        data = repository.make_root(
            number, self.now, [self.root_key.public], [self.releaser.public], self.online.public,
            [*signers, self.root_key],
        )  # fmt: skip
        self.tuf[f"{number}.root.json"] = data
        return data

    def release(self, name: str, version: int, made: Bundle | None = None, **options: Any) -> str:
        made = made or bundle(f"{name}{version}")
        manifest = made.manifest(name, version, **options)
        for data in (*made.objects.values(), manifest.encode()):
            self.blobs[blake3(data).hex()] = data
        self.entries[manifest.path] = repository.target_entry(manifest)
        self.manifests[manifest.path] = manifest
        self.sign()
        return manifest.path

    def sign(self, days: int | None = None) -> None:
        """Targets, snapshot and timestamp anew; `days` is how long all of them last."""
        lasts = {} if days is None else {"days": days}
        number = self._next("targets")
        data = repository.make_targets(number, self.now, self.entries, self.releaser, **lasts)
        self.tuf[f"{number}.targets.json"] = data
        self.sign_online(data, **lasts)

    def sign_online(self, targets: bytes, **lasts: int) -> None:
        number = self._next("snapshot")
        snapshot = repository.make_snapshot(number, self.now, targets, self.online, **lasts)
        self.tuf[f"{number}.snapshot.json"] = snapshot
        version = self._next("timestamp")
        self.tuf["timestamp.json"] = repository.make_timestamp(
            version, self.now, snapshot, self.online, **lasts
        )

    def newest(self, role: str) -> bytes:
        name = "timestamp.json" if role == "timestamp" else f"{self.versions[role]}.{role}.json"
        return self.tuf[name]

    def trusted(self, floor: Floor | None = None) -> tuple[Trusted, Floor]:
        """What a device that refreshes now trusts."""
        trusted, floor = start(self.pinned, self.tuf["1.root.json"]), floor or Floor()
        trusted, floor = take(trusted, floor, self.newest("timestamp"), self.now)
        trusted, floor = take_snapshot(trusted, floor, self.newest("snapshot"), self.now)
        return take_targets(trusted, floor, self.newest("targets"), self.now)

    def link(self) -> Link:
        return Link(self)


class Link:
    """A transport to a Publisher; `fault(path, answer)` may lose or replace an answer."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.sent = self.received = 0
        self.up = True
        self.asked: list[tuple[str, str]] = []
        self.fault = lambda path, answer: answer()

    def request(self, method, path, headers=None, body=b""):  # type: ignore[no-untyped-def]
        if not self.up:
            raise Unavailable("no link")
        wanted = (headers or {}).get("Range", "")
        self.asked.append((path, wanted))
        status, extra, data = self.fault(path, lambda: self._answer(path, wanted))
        self.received += len(data)
        return status, extra, data

    def _answer(self, path: str, wanted: str) -> tuple[int, dict[str, str], bytes]:
        folder, _, name = path.removeprefix("/v1/").partition("/")
        held = self.publisher.tuf if folder == "tuf" else self.publisher.blobs
        data = held.get(name)
        if data is None:
            return 404, {}, b"Invalid: no such object\n"
        if not wanted:
            return 200, {}, data
        first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
        if first >= len(data):
            return 416, {"content-range": f"bytes */{len(data)}"}, b""
        part = data[first : last + 1]
        told = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        return 206, {"content-range": told}, part


@pytest.fixture
def publisher() -> Publisher:
    made = Publisher()
    made.release("anomaly", 1)
    return made


class Device:
    """An updater over a disk, with a log of the rows it gives out. `loads` says what loading a
    release does; the default asks for its model and golden rows."""

    def __init__(self, publisher: Publisher, fs: Any = None, rows: Any = ()) -> None:
        self.publisher = publisher
        self.fs = fs or MemoryFs()
        self.link = publisher.link()
        self.clock = ManualClock(publisher.now)
        self.rows: list[dict[str, Any]] = list(rows)
        self.loads = lambda release, get: (
            get(release.object("model")) + get(release.object("golden"))
        )
        self.now = 0
        self.order = 0
        self.desired: Desired | None = None
        self.open()

    def open(self) -> None:
        invited = SimpleNamespace(root_hash=self.publisher.pinned)
        self.store = ArtifactStore.open("store", fs=self.fs)
        self.updater = Updater(
            SimpleNamespace(invite=invited), self.link, self.fs, self.store, "update", self.clock,
            lambda release, get: self.loads(release, get),
        )  # fmt: skip
        self.updater.edges_logged(max((row["source_seq"] for row in self.rows), default=0))

    def close(self) -> None:
        self.updater.close()
        self.store.close()

    def restart(self) -> None:
        self.close()
        self.open()

    def wish(self, path: str) -> None:
        name, _, version = path.rpartition("/")
        self.order += 1
        self.desired = Desired(self.order, self.publisher.now, (name, int(version), path))

    def poll(self) -> None:
        """One step; rows are logged as an agent would, durably and then told."""
        due = self.updater.poll(self.now, self.desired)
        self.now = max(due, self.now + 1)
        self.log_rows()

    def log_rows(self) -> None:
        rows = self.updater.edges
        if rows:
            self.rows += rows
            self.updater.edges_logged(rows[-1]["source_seq"])

    def run(self, until: str, polls: int = 60) -> None:
        """Polls until the journal's phase is `until`."""
        for _ in range(polls):
            if self.updater.phase == until:
                return
            self.poll()
        error = self.updater.last_error
        raise AssertionError(
            f"{until} not reached: {self.updater.phase}, {error!r}, {self.edges()}"
        )

    def prove(self, path: str) -> None:
        """Orders a release and lets it prove itself."""
        self.wish(path)
        self.run("trial")
        self.updater.report(100, 0, 0)
        self.run("active")
        self.updater.report(100, 0, 0)
        self.run("stable")

    def edges(self, path: str = "") -> list[str]:
        rows = [
            row for row in self.rows if not path or f"{row['release']}/{row['version']}" == path
        ]
        return [row["edge"] for row in rows]

    def reason(self) -> str:
        return str(self.rows[-1]["reason"])


@pytest.fixture
def device(publisher: Publisher) -> Device:
    return Device(publisher)


@pytest.fixture
def make_device(publisher: Publisher):  # type: ignore[no-untyped-def]
    return lambda fs=None, rows=(): Device(publisher, fs, rows)


@pytest.fixture
def make_bundle():  # type: ignore[no-untyped-def]
    return bundle
