"""What a hub may be sent and may find: it answers one line, keeps what it had, and goes on."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_hub import DEVICE, SIGNER, STORE, Link, catalogue, run

from edgecore.errors import Corrupt, EdgecoreError, Exhausted, Invalid, Unavailable
from edgecore.hub.export import lines
from edgecore.hub.server import Hub
from edgecore.hub.stores import registry
from edgecore.wire import cbor, envelope, rowbatch, signed


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return Link(tmp_path / "hub")


def schema(**changes: object) -> bytes:
    body = {"fields": [{"name": "v", "dtype": "i64"}], "stream": "u", "tier": "bulk", "version": 1}
    return cbor.encode({**body, **changes})


def named(first: int, *rows: tuple[int, bytes]) -> envelope.Payload:
    """Catalogue rows from sequence `first`: (partition, schema bytes)."""
    data = b"".join(
        struct.pack("<qIQBIBI", 0, 0, 0, 1, partition, 1, len(canonical)) + canonical
        for partition, canonical in rows
    )
    batch = rowbatch.RowBatch(bytes(32), data, [(len(rows), first, 0, 1)])
    digest = rowbatch.run_digest(STORE, 0, first, len(rows), bytes(32), data)
    return envelope.Payload(envelope.ROW_BATCH, 0, first, len(rows), digest, batch.encode())


FIELD = {"name": "v", "dtype": "i64"}
INVALID = {
    "not CBOR": b"\xff\xff",
    "no map": cbor.encode([1]),
    "no fields": schema(fields=[]),
    "fields no list": schema(fields={}),
    "too many fields": schema(fields=[{"name": f"f{i}", "dtype": "i8"} for i in range(257)]),
    "two of a name": schema(fields=[FIELD, FIELD]),
    "unknown dtype": schema(fields=[{"name": "v", "dtype": "i63"}]),
    "dtype no text": schema(fields=[{"name": "v", "dtype": 3}]),
    "odd digits": schema(fields=[{"name": "v", "dtype": "decimal(\u00b2)"}]),
    "name no text": schema(fields=[{"name": 1, "dtype": "i64"}]),
    "huge resolution": schema(fields=[{"name": "v", "dtype": "f64", "resolution": "1"}]),
    "odd range": schema(fields=[{"name": "v", "dtype": "f64", "range": [1]}]),
    "reserved name": schema(fields=[{"name": "time", "dtype": "i64"}]),
    "empty stream": schema(stream=""),
    "long stream": schema(stream="s" * 65),
    "stream no text": schema(stream=b"s"),
    "unknown tier": schema(tier="gold"),
    "no version": schema(version=0),
}


@pytest.mark.parametrize("name", INVALID)
def test_hub_invalid_schema_is_refused_whole_and_the_hub_goes_on(link: Link, name: str) -> None:
    link.send(catalogue())
    bad = named(2, (7, schema()), (8, INVALID[name]))
    status, _, body = link.hub.handle("POST", "/v1/ingest", {}, link.message(bad))
    assert (status, body[:8]) == (400, b"Corrupt:"), body
    assert b"\n" not in body[:-1]
    assert link.hub.ingest.stream_of(STORE, 7) is None  # nothing of the row before it either
    assert link.send(run(1, 5)).ranges == {0: [(1, 1)], 1: [(1, 5)]}
    link.reopen()
    assert link.send(named(2, (7, schema()))).ranges[0] == [(1, 2)]


def test_hub_hostile_messages_get_one_line_each(link: Link, seed: int) -> None:
    dice = random.Random(seed)
    link.send(catalogue(), run(1, 5))
    body = cbor.encode({"device": DEVICE, "generation": 1, "store": STORE, "nonce": bytes(16)})
    honest = [
        ("/v1/ingest", link.message(run(6, 3))),
        ("/v1/hello", signed.seal(signed.HELLO, body, SIGNER)),
        ("/v1/enrol", signed.seal(signed.ENROL, body, SIGNER)),
    ]
    for _ in range(600):
        path, message = dice.choice(honest)
        hurt = bytearray(message)
        for _ in range(dice.randrange(1, 4)):
            hurt[dice.randrange(len(hurt))] = dice.randrange(256)
        cut = bytes(hurt[: dice.randrange(len(hurt) + 1)])
        status, _, answer = link.hub.handle("POST", path, {}, cut)
        if cut != message:
            assert status in (400, 403, 422), (path, status, answer)
            assert answer.count(b"\n") == 1
    assert link.send(run(6, 3)).ranges[1] == [(1, 8)]


def test_hub_hostile_signed_rows_take_nothing_wrong(link: Link, seed: int) -> None:
    dice = random.Random(seed)
    link.send(catalogue())
    honest = run(1, 5)
    for _ in range(300):
        batch = rowbatch.decode(honest.data)
        rows = bytearray(batch.rows)
        rows[dice.randrange(len(rows))] = dice.randrange(256)
        batch.rows = bytes(rows[: dice.randrange(len(rows) + 1)])
        digest = rowbatch.run_digest(STORE, 1, 1, 5, batch.fingerprint, batch.rows)
        payload = envelope.Payload(envelope.ROW_BATCH, 1, 1, 5, digest, batch.encode())
        status, _, answer = link.hub.handle("POST", "/v1/ingest", {}, link.message(payload))
        assert status in (200, 400), answer
        if status == 200:  # other values, but rows
            break
    link.reopen()
    list(lines(link.hub))


def test_hub_arrival_runs_that_do_not_cover_the_rows_are_corrupt(link: Link) -> None:
    link.send(catalogue())
    honest = run(1, 5)
    for arrivals in ([], [(4, 1, 0, 1)], [(6, 1, 0, 1)], [(5, 1, 0, 1), (1, 9, 0, 1)]):
        batch = rowbatch.decode(honest.data)
        batch.arrivals = arrivals
        payload = envelope.Payload(envelope.ROW_BATCH, 1, 1, 5, honest.digest, batch.encode())
        status, _, body = link.hub.handle("POST", "/v1/ingest", {}, link.message(payload))
        assert (status, body[:8]) == (400, b"Corrupt:"), arrivals
    link.send(honest)
    assert len(list(lines(link.hub))) == 6


def test_hub_one_message_that_fails_spares_its_group(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.send(catalogue())
    messages = [link.message(run(1, 5)), link.message(run(6, 5)), link.message(run(11, 5))]
    real = link.hub.ingest.accept

    def accept(message: envelope.Envelope) -> dict[int, int]:
        if message.payloads[0].first == 6:
            raise RuntimeError("a defect")
        return real(message)

    monkeypatch.setattr(link.hub.ingest, "accept", accept)
    replies = link.hub.ingest_group(messages)
    assert [status for status, _, _ in replies] == [200, 500, 200]
    assert replies[1][2].startswith(b"Unavailable: ")


def test_hub_failed_sync_acknowledges_nothing_until_the_disk_was_read_again(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.send(catalogue(), run(1, 5))

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    status, _, body = link.hub.handle("POST", "/v1/ingest", {}, link.message(run(6, 5)))
    assert (status, body[:12]) == (503, b"Unavailable:")
    monkeypatch.undo()
    assert link.send(run(11, 2)).ranges[1] == [(1, 12)]  # reopened by itself
    link.reopen()
    assert [sequence for sequence, _ in link.hub.rows(STORE, "t")] == list(range(1, 13))


def test_hub_full_disk_is_exhausted_and_nothing_is_acknowledged(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.send(catalogue())

    def full(handle: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    status, _, body = link.hub.handle("POST", "/v1/ingest", {}, link.message(run(1, 5)))
    assert (status, body[:10]) == (507, b"Exhausted:")
    monkeypatch.undo()
    assert link.send(run(1, 2)).ranges[1] == [(1, 2)]


def test_hub_locked_registry_is_unavailable_and_no_traceback(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    link.hub.registry._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(link.directory / "registry.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    status, _, body = link.hub.handle("POST", "/v1/ingest", {}, link.message(catalogue()))
    assert (status, body[:12]) == (503, b"Unavailable:")
    other.execute("ROLLBACK")
    other.close()
    assert link.send(catalogue()).ranges == {0: [(1, 1)]}


def test_hub_registry_without_space_for_its_journal_is_exhausted(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = sqlite3.OperationalError("disk I/O error")
    assert isinstance(link.hub.registry._outcome(failed), Unavailable)
    monkeypatch.setattr(registry, "FULL_BYTES", 1 << 62)  # so that this disk is called full
    assert isinstance(link.hub.registry._outcome(failed), Exhausted)


def test_hub_damaged_registry_is_corrupt_at_open(link: Link) -> None:
    link.hub.close()
    path = link.directory / "registry.db"
    for leftover in link.directory.glob("registry.db-*"):
        leftover.unlink()
    path.write_bytes(b"no database" * 500)
    with pytest.raises(Corrupt, match=r"registry\.db"):
        Hub.open(link.directory)


def test_hub_damaged_catalogue_block_hides_its_rows_and_stops_nothing_else(link: Link) -> None:
    link.send(catalogue(), run(1, 5))
    link.hub.close()
    pack = next((link.directory / "packs").glob("*.pack"))
    data = bytearray(pack.read_bytes())
    data[data.index(b"fields")] ^= 1
    pack.write_bytes(bytes(data))
    link.hub = Hub.open(link.directory)
    with pytest.raises(Corrupt):
        list(lines(link.hub))
    assert link.send(named(2, (7, schema()))).ranges[0] == [(1, 2)]


def test_hub_invites_while_it_serves(link: Link) -> None:
    data = Hub.invitation(link.directory, "http://hub", bytes(32))
    assert cbor.decode(data)["hub"] == link.hub.id
    assert link.hub.registry.fact("hub") == link.hub.id


def test_hub_init_cut_short_is_repeated_and_a_whole_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecore.hub import server

    real = server.write_private
    written = []

    def cut(path: Path, data: bytes) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(path)
        real(path, data)

    monkeypatch.setattr(server, "write_private", cut)
    with pytest.raises(KeyboardInterrupt):
        Hub.init(tmp_path)
    monkeypatch.undo()
    with pytest.raises(Invalid, match="hub init"):
        Hub.open(tmp_path)
    Hub.init(tmp_path)
    Hub.open(tmp_path).close()
    with pytest.raises(Invalid, match="already"):
        Hub.init(tmp_path)


@pytest.mark.parametrize(
    "wanted",
    ["bytes=\u00b2-5", "bytes=0-\u00b2", "bytes=" + "9" * 5000 + "-", "bytes=7-2", "bytes=x", "-"],
)
def test_hub_odd_ranges_get_an_answer(link: Link, wanted: str) -> None:
    (link.directory / "blobs" / "b").write_bytes(b"0123456789")
    status, _, body = link.hub.handle("GET", "/v1/blob/b", {"range": wanted}, b"")
    assert (status, body) in ((200, b"0123456789"), (206, b"0123456789"), (416, b""))


@pytest.mark.parametrize("name", ["", "..", "../keys/online.key", ".hidden", "a/b", "\0"])
def test_hub_serves_no_file_but_its_objects(link: Link, name: str) -> None:
    for folder in ("blob", "tuf"):
        status, _, body = link.hub.handle("GET", f"/v1/{folder}/{name}", {}, b"")
        assert status == 404
        assert body.startswith(b"Invalid: ")


def test_hub_wrong_device_for_a_store_is_untrusted(link: Link) -> None:
    link.send(catalogue())
    body = {"device": DEVICE, "generation": 9, "store": STORE, "nonce": bytes(16)}
    message = signed.seal(signed.HELLO, cbor.encode(body), SIGNER)
    assert link.hub.handle("POST", "/v1/hello", {}, message)[0] == 403
    with pytest.raises(EdgecoreError):
        link.hub.registry.claim_store(STORE, bytes(16))
