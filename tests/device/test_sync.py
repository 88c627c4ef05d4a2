"""Device and hub in one process: cuts lose and double nothing, and only a signed answer counts."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edgecore as ec
from edgecore.device.enrol import enrol
from edgecore.device.sync import Policy, Syncer
from edgecore.digest import blake3
from edgecore.errors import Corrupt, EdgecoreError, Incompatible, Unavailable, Untrusted
from edgecore.fs import MemoryFs
from edgecore.hub.server import Hub
from edgecore.log_values import ranked
from edgecore.trust.keys import Ed25519Signer
from edgecore.wire import cbor, envelope, rowbatch, signed

STORE = bytes([2]) * 16
SCHEMA = cbor.encode(
    {"fields": [{"name": "v", "dtype": "i64"}], "stream": "t", "tier": "bulk", "version": 1}
)


class Files(dict):  # type: ignore[type-arg]
    def exists(self, path: str) -> bool:
        return path in self

    def read_file(self, path: str, size_max: int) -> bytes:
        if len(self[path]) > size_max:
            raise Corrupt(path)
        return self[path]

    def write_atomic(self, path: str, data: bytes) -> None:
        self[path] = data


class Log:
    """A log of one stream, cut anew at every reading."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.store_id, self.epoch, self.count = rng, STORE, 1, 0
        self.acked: dict[int, int] = {}

    def partitions(self) -> list[tuple[int, str, str]]:
        return [(0, "edgecore.schemas", "critical"), (1, "t", "bulk")]

    def acknowledge(self, partition: int, upto: int) -> None:
        self.acked[partition] = upto

    def runs(
        self, partition: int, after: int, bytes_max: int, *, blocks: bool = False
    ) -> list[SimpleNamespace]:
        head = self.count if partition else 1
        count = min(head - after, self.rng.randrange(1, 40))
        if count <= 0:
            return []
        first = after + 1
        fingerprint = blake3(SCHEMA) if partition else bytes(32)
        if partition:
            rows = b"".join(
                struct.pack("<qIQBq", i, 0, 0, 1, i) for i in range(first, first + count)
            )
        else:
            rows = struct.pack("<qIQBIBI", 0, 0, 0, 1, 1, 1, len(SCHEMA)) + SCHEMA
        digest = rowbatch.run_digest(STORE, partition, first, count, fingerprint, rows)
        return [
            SimpleNamespace(
                partition=partition, first=first, count=count, schema_fingerprint=fingerprint,
                digest=digest, payload=rows, arrivals=[(count, first, 0, 1)], block=b"",
            )
        ]  # fmt: skip

    def block_of(self, run: Any, *, dense: bool = False) -> bytes:
        raise Incompatible("rows of no registered schema")


class Direct:
    """A transport into the hub; `fault` may lose a request, lose or replace an answer."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.sent, self.received = hub, 0, 0
        self.fault = lambda answer: answer()

    def request(self, method, path, headers=None, body=b""):  # type: ignore[no-untyped-def]
        return self.fault(lambda: self.hub.handle(method, path, headers or {}, body))


class World:
    def __init__(self, directory: Path, rng: random.Random) -> None:
        Hub.init(directory)
        self.hub = Hub.open(directory)
        self.link, self.log, self.files = Direct(self.hub), Log(rng), Files()
        self.invite = self.hub.invite("http://hub", bytes(32))
        self.identity = enrol(self.files, "keys", self.invite, self.link, os.urandom)
        self.syncer = Syncer(
            self.log, self.link, self.identity, self.files, "sync", rng.random, os.urandom,
            Policy(envelope_bytes=4096),
        )  # fmt: skip
        self.now = 0

    def poll(self) -> None:
        self.now = max(self.syncer.poll(self.now), self.now + 1)


@pytest.fixture
def world(tmp_path: Path, seed: int) -> World:
    return World(tmp_path / "hub", random.Random(seed))


def test_sync_random_cuts_lose_and_double_nothing(world: World) -> None:
    rng = world.log.rng

    def cut(answer):  # type: ignore[no-untyped-def]
        kind = rng.randrange(3)
        if kind == 0:
            raise Unavailable("lost request")
        reply = answer()
        if kind == 1:
            raise Unavailable("lost answer")
        return reply

    world.link.fault = cut
    for _ in range(300):
        world.log.count += rng.randrange(30)
        world.poll()
    world.link.fault = lambda answer: answer()
    while world.log.acked.get(1, 0) < world.log.count:
        world.poll()
    rows = [row["v"] for _, row in world.hub.rows(STORE, "t")]
    assert rows == list(range(1, world.log.count + 1))


@pytest.mark.parametrize("status", [200, 204, 302])
@pytest.mark.parametrize("body", [b"", b"<html>Welcome</html>", b"\0" * 400])
def test_sync_captive_portal_is_never_an_ack(world: World, status: int, body: bytes) -> None:
    world.log.count = 50
    world.link.fault = lambda answer: (status, {}, body)
    for _ in range(5):
        world.poll()
    assert isinstance(world.syncer.last_error, Unavailable)
    assert world.log.acked == {}


@pytest.mark.parametrize("word", ["Exhausted", "Incompatible", "Stale", "Untrusted"])
def test_sync_refusal_is_told_in_the_hubs_words(world: World, word: str) -> None:
    world.log.count = 50
    world.link.fault = lambda answer: (422, {}, f"{word}: no room\n".encode())
    world.poll()
    assert str(world.syncer.last_error) == f"the hub refused: {word}: no room"
    assert world.log.acked == {}


@pytest.mark.parametrize("kept", [b"", b"short", b"x" * 40])
def test_sync_goes_on_without_the_hash_it_kept(world: World, kept: bytes) -> None:
    world.files["sync"] = kept
    world.log.count = 5
    syncer = Syncer(
        world.log, world.link, world.identity, world.files, "sync", world.log.rng.random, os.urandom
    )
    now = 0
    while world.log.acked.get(1, 0) < 5:
        now = max(syncer.poll(now), now + 1)
    assert len(world.files["sync"]) == 32


def test_sync_row_too_large_to_send_stops_its_partition_alone(world: World) -> None:
    honest = world.log.runs
    huge = SimpleNamespace(
        partition=2, first=1, count=1, schema_fingerprint=bytes(32), digest=bytes(32),
        payload=bytes(2 << 20), arrivals=[(1, 1, 0, 1)], block=b"",
    )  # fmt: skip
    world.log.partitions = lambda: [  # type: ignore[method-assign]
        (0, "edgecore.schemas", "critical"), (2, "huge", "critical"), (1, "t", "bulk"),
    ]  # fmt: skip
    world.log.runs = lambda partition, after, size, **_: (  # type: ignore[method-assign]
        ([] if after else [huge]) if partition == 2 else honest(partition, after, size)
    )
    world.log.count = 300
    for _ in range(100):
        world.poll()
    assert world.log.acked.get(1) == 300
    assert 2 not in world.log.acked
    assert "sequence 1 has 2097152 bytes" in str(world.syncer.last_error)


def test_sync_replayed_or_forged_ack_is_untrusted(world: World) -> None:
    world.log.count = 50
    kept = []
    world.link.fault = lambda answer: kept.append(answer()) or kept[-1]
    world.poll()
    world.poll()
    before = dict(world.log.acked)
    world.log.count = 500
    world.link.fault = lambda answer: kept[-1]
    world.poll()
    assert isinstance(world.syncer.last_error, Untrusted)
    forged = signed.seal(signed.ACK, kept[-1][2][:-64], Ed25519Signer(bytes(32)))
    world.link.fault = lambda answer: (200, {}, forged)
    world.poll()
    assert isinstance(world.syncer.last_error, Untrusted)
    assert world.log.acked == before


def test_enrol_again_keeps_the_identity_and_a_wrong_hub_key_is_refused(world: World) -> None:
    world.link.fault = lambda answer: answer()
    again = enrol(world.files, "keys", world.invite, world.link, os.urandom)
    assert again.device == world.identity.device
    other = world.hub.invite("http://hub", bytes(32))
    body = cbor.decode(other)
    body["hub_key"] = Ed25519Signer(bytes(32)).public
    with pytest.raises(EdgecoreError):
        enrol(Files(), "keys", cbor.encode(body), world.link, os.urandom)


# ---------------------------------------------------------------- order of worth


@pytest.mark.parametrize(
    ("priority", "order"),
    [
        ((), ["critical", "feedback", "diagnostic", "bulk"]),
        (("diagnostic", "bulk"), ["critical", "diagnostic", "bulk", "feedback"]),
    ],
)
def test_sync_after_an_outage_tiers_go_in_the_order_of_their_worth(
    tmp_path: Path, priority: tuple[str, ...], order: list[str]
) -> None:
    Hub.init(tmp_path / "hub")
    hub, files = Hub.open(tmp_path / "hub"), Files()
    link: Any = Direct(hub)
    identity = enrol(files, "keys", hub.invite("http://hub", bytes(32)), link, os.urandom)
    tiers = ("bulk", "diagnostic", "feedback", "critical")
    schemas = [ec.Schema(tier, tier=tier, fields=[ec.Field("x", "f64")]) for tier in tiers]
    log = ec.Log.open("log", schemas=schemas, flusher="manual", fs=MemoryFs())
    for tier in tiers:
        log.append(tier, [{"time": i, "x": i / 7} for i in range(300)])
    log.sync()
    policy = Policy(envelope_bytes=4096, priority=ranked(priority))
    syncer = Syncer(log, link, identity, files, "sync", random.Random(1).random, os.urandom, policy)
    names = {partition: stream for partition, stream, _ in log.partitions()}
    sent: list[str] = []
    take = hub.ingest.accept

    def accept(message: envelope.Envelope) -> dict[int, int]:
        sent.extend(names[payload.partition] for payload in message.payloads)
        return take(message)

    hub.ingest.accept = accept  # type: ignore[method-assign]
    for now in range(0, 40 * 10**9, 10**9):
        syncer.poll(now)
    assert [name for name in dict.fromkeys(sent) if name in tiers] == order
    assert log.cursor("sync").acked(log.partitions()[-1][0]) == 300


# ---------------------------------------------------------------- what the hub takes


class Blocks:
    """A device with a real log, some of whose rows are sealed, and the kinds that it sends."""

    def __init__(self, directory: Path, features: int | None) -> None:
        Hub.init(directory)
        self.hub = Hub.open(directory)
        link = Direct(self.hub)
        if features is not None:  # as a hub answers that knows only these; 0: version 1 of acks
            answer: Any = self.hub._ack
            told = lambda *parts: answer(*parts[:4], features)  # noqa: E731
            self.hub._ack = told  # type: ignore[method-assign]
        files = Files()
        identity = enrol(files, "keys", self.hub.invite("http://hub", bytes(32)), link, os.urandom)
        schemas = [
            ec.Schema("plain", tier="bulk", fields=[ec.Field("x", "f64")]),
            ec.Schema("bounded", tier="bulk", fields=[ec.Field("x", "f64", max_error=0.01)]),
        ]
        self.log = ec.Log.open("log", schemas=schemas, flusher="manual", fs=MemoryFs())
        self.count = 0
        self.append(200)
        self.log.core.rotate()
        self.log.core.rotate()
        assert self.log.seal() > 400
        self.append(40)
        self.link = link
        self.syncer = Syncer(
            self.log, link, identity, files, "sync", random.Random(1).random, os.urandom
        )

    def append(self, count: int) -> None:
        for name in ("plain", "bounded"):
            self.log.append(name, [{"time": i, "x": 20 + i / 7} for i in range(count)])
        self.log.sync()
        self.count += count

    def send(self) -> dict[str, set[int]]:
        """Until nothing is left; the kinds that each stream went in."""
        names = {partition: stream for partition, stream, _ in self.log.partitions()}
        kinds: dict[str, set[int]] = {}
        request: Any = self.link.request

        def seen(method, path, headers=None, body=b""):  # type: ignore[no-untyped-def]
            if path == "/v1/ingest":
                read = envelope.decode(body, self.hub._verifier(*envelope.claimed_sender(body)))
                for payload in read.payloads:
                    kinds.setdefault(names[payload.partition], set()).add(payload.kind)
            return request(method, path, headers, body)

        self.link.request = seen  # type: ignore[method-assign]
        for now in range(0, 60 * 10**9, 10**9):
            self.syncer.poll(now)
            assert self.syncer.last_error is None
        for name in ("plain", "bounded"):
            mine = [row["x"] for scanned in self.log.scan(name) for row in scanned]
            held = [row["x"] for _, row in self.hub.rows(self.log.store_id, name)]
            assert held == mine
            assert len(mine) == self.count
        return kinds


@pytest.mark.parametrize(
    ("features", "plain", "bounded"),
    [
        (None, {envelope.COLUMN_BLOCK}, {envelope.COLUMN_BLOCK}),
        (envelope.TAKES_BLOCKS, {envelope.COLUMN_BLOCK}, {envelope.ROW_BATCH}),
        (0, {envelope.ROW_BATCH}, {envelope.ROW_BATCH}),
    ],
)
def test_sync_sends_blocks_only_to_a_hub_that_says_it_takes_them(
    tmp_path: Path, features: int | None, plain: set[int], bounded: set[int]
) -> None:
    kinds = Blocks(tmp_path / "hub", features).send()
    assert (kinds["plain"], kinds["bounded"]) == (plain, bounded)


def test_sync_a_hub_tells_no_feature_to_a_device_that_does_not_ask(tmp_path: Path) -> None:
    world = World(tmp_path / "hub", random.Random(1))
    body = {
        "version": 1, "device": world.identity.device, "generation": world.identity.generation,
        "store": STORE, "nonce": bytes(16), "protocol": [1, 1], "features": 0,
    }  # fmt: skip
    message = signed.seal(signed.HELLO, cbor.encode(body), world.identity.signer)
    link: Any = world.link
    _, _, answer = link.request("POST", "/v1/hello", body=message)
    assert cbor.decode(answer[: -signed.SIGNATURE_BYTES], 4096)["version"] == 1
