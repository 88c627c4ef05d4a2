"""The hub without sockets: exactly-once effect under any cut, forks, kills, wrong keys."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from edgecore.digest import blake3
from edgecore.errors import Unavailable
from edgecore.hub.asgi import App, listen
from edgecore.hub.files import PIECE_BYTES
from edgecore.hub.server import Hub
from edgecore.trust.keys import Ed25519Signer, Ed25519Verifier
from edgecore.wire import ack, cbor, envelope, invite, rowbatch, signed

DEVICE, STORE = bytes([1]) * 16, bytes([2]) * 16
SIGNER = Ed25519Signer(bytes([9]) * 32)
SCHEMA = cbor.encode(
    {"fields": [{"name": "v", "dtype": "i64"}], "stream": "t", "tier": "bulk", "version": 1}
)
FINGERPRINT = blake3(SCHEMA)


def row(sequence: int, value: int | None = None) -> bytes:
    value = sequence * 7 if value is None else value
    return struct.pack("<qIQBq", sequence, 0, 0, 1, value)


def run(first: int, count: int, rows: bytes | None = None) -> envelope.Payload:
    rows = rows or b"".join(row(first + i) for i in range(count))
    batch = rowbatch.RowBatch(FINGERPRINT, rows, [(count, first, 0, 1)])
    digest = rowbatch.run_digest(STORE, 1, first, count, FINGERPRINT, rows)
    return envelope.Payload(envelope.ROW_BATCH, 1, first, count, digest, batch.encode())


def catalogue() -> envelope.Payload:
    rows = struct.pack("<qIQBIBI", 0, 0, 0, 1, 1, 1, len(SCHEMA)) + SCHEMA
    batch = rowbatch.RowBatch(bytes(32), rows, [(1, 1, 0, 1)])
    digest = rowbatch.run_digest(STORE, 0, 1, 1, bytes(32), rows)
    return envelope.Payload(envelope.ROW_BATCH, 0, 1, 1, digest, batch.encode())


class Link:
    """A device reduced to its messages."""

    def __init__(self, directory: Path) -> None:
        Hub.init(directory)
        self.directory = directory
        self.hub = Hub.open(directory)
        self.nonce = 0
        pass_ = invite.decode(self.hub.invite("http://hub", bytes(32)))
        assert self.enrol(pass_.token)[0] == 200
        self.token = pass_.token

    def enrol(self, token: bytes, signer: Ed25519Signer = SIGNER) -> tuple[int, bytes]:
        body = {"version": 1, "device": DEVICE, "key": signer.public, "token": token,
                "nonce": bytes(16)}  # fmt: skip
        message = signed.seal(signed.ENROL, cbor.encode(body), signer)
        status, _, answer = self.hub.handle("POST", "/v1/enrol", {}, message)
        return status, answer

    def message(self, *payloads: envelope.Payload) -> bytes:
        self.nonce += 1
        nonce = self.nonce.to_bytes(16, "big")
        return envelope.Envelope(DEVICE, 1, STORE, 1, nonce, list(payloads)).encode(SIGNER)

    def send(self, *payloads: envelope.Payload) -> ack.Ack:
        message = self.message(*payloads)
        status, _, body = self.hub.handle("POST", "/v1/ingest", {}, message)
        assert status == 200, body
        nonce = self.nonce.to_bytes(16, "big")
        return ack.decode(body, Ed25519Verifier(self.hub.signer.public), DEVICE, STORE, nonce)

    def reopen(self) -> None:
        self.hub.close()
        self.hub = Hub.open(self.directory)


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return Link(tmp_path / "hub")


def test_hub_random_cuts_doubles_and_reorders_leave_each_row_once(link: Link, seed: int) -> None:
    rng = random.Random(seed)
    link.send(catalogue())
    last = 0
    for turn in range(300):
        first = rng.randrange(max(1, last - 40), last + 12)
        count = rng.randrange(1, 30)
        answer = link.send(run(first, count))
        last = max(last, first + count - 1)
        assert not answer.forks
        if turn % 60 == 59:
            link.reopen()
    answer = link.send(run(1, last))  # whatever was left open
    assert answer.ranges[1] == [(1, last)]
    rows = list(link.hub.rows(STORE, "t"))
    assert [sequence for sequence, _ in rows] == list(range(1, last + 1))
    assert all(item["v"] == sequence * 7 for sequence, item in rows)


def test_hub_other_content_under_a_held_sequence_is_a_fork(link: Link) -> None:
    link.send(catalogue(), run(1, 10))
    other = row(9) + row(10, -1) + row(11)
    answer = link.send(run(9, 3, other))
    assert answer.forks == {1: 9}
    assert answer.ranges[1] == [(1, 10)]
    assert [item["v"] for _, item in link.hub.rows(STORE, "t")] == [7 * i for i in range(1, 11)]


def test_hub_rows_without_their_schema_are_not_acknowledged(link: Link) -> None:
    assert link.send(run(1, 5)).ranges == {}
    assert link.send(run(1, 5), catalogue()).ranges == {0: [(1, 1)], 1: [(1, 5)]}


def test_hub_wrong_digest_or_key_changes_nothing(link: Link) -> None:
    bad = run(1, 2)
    bad.digest = bytes(32)
    assert link.hub.handle("POST", "/v1/ingest", {}, link.message(bad))[0] == 400
    message = link.message(catalogue())
    hurt = message[:-1] + bytes([message[-1] ^ 1])
    status, _, text = link.hub.handle("POST", "/v1/ingest", {}, hurt)
    assert (status, text.split(b":")[0]) == (403, b"Untrusted")
    assert link.send(catalogue()).ranges == {0: [(1, 1)]}


def test_hub_torn_pack_tail_is_cut_at_the_last_whole_block(link: Link) -> None:
    link.send(catalogue(), run(1, 10))
    link.hub.close()
    pack = next((link.directory / "packs").glob("*.pack"))
    whole = pack.read_bytes()
    pack.write_bytes(whole + whole[-100:] + bytes(50))
    link.hub = Hub.open(link.directory)
    assert pack.read_bytes() == whole
    assert link.send(run(11, 1)).ranges[1] == [(1, 11)]


def test_hub_enrolment_repeats_but_never_for_another_key(link: Link) -> None:
    assert link.enrol(link.token)[0] == 200
    assert link.enrol(link.token, Ed25519Signer(bytes(32)))[0] == 403
    assert link.enrol(bytes(32))[0] == 403


def test_hub_killed_while_ingesting_holds_all_it_acknowledged(tmp_path: Path) -> None:
    link = Link(tmp_path / "hub")
    link.send(catalogue())
    link.hub.close()
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from test_hub import *\n"
        "link = Link.__new__(Link); link.nonce = 100\n"
        "link.hub = Hub.open(sys.argv[1])\n"
        "for i in range(100000): print(link.send(run(1 + 5 * i, 5)).through(1), flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(link.directory), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acked = [int(child.stdout.readline()) for _ in range(20)]
        os.kill(child.pid, signal.SIGKILL)
        acked += [int(line) for line in child.stdout.read().splitlines()[:-1]]
    hub = Hub.open(link.directory)
    rows = [sequence for sequence, _ in hub.rows(STORE, "t")]
    assert rows == list(range(1, len(rows) + 1))
    assert len(rows) >= acked[-1] >= 100


def test_hub_keys_are_private_and_none_is_a_releasers(link: Link) -> None:
    keys = sorted(path.name for path in (link.directory / "keys").iterdir())
    assert keys == ["online.key", "operator.key"]
    for name in keys:
        assert (link.directory / "keys" / name).stat().st_mode & 0o777 == 0o600


def test_hub_busy_port_is_one_line_unavailable() -> None:
    first = listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    with pytest.raises(Unavailable, match=f"port {port} is in use"):
        listen("127.0.0.1", port)
    first.close()


LOSSES = cbor.encode(
    {
        "fields": [
            {"name": "partition", "dtype": "u32"},
            {"name": "first", "dtype": "u64"},
            {"name": "last", "dtype": "u64"},
            {"name": "reason", "dtype": "category"},
        ],
        "stream": "edgecore.losses",
        "tier": "critical",
        "version": 1,
    }
)


def losses(first: int, *spans: tuple[int, int, int]) -> list[envelope.Payload]:
    """The catalogue's second row, which names the stream of losses (partition 2), and its rows."""
    named = struct.pack("<qIQBIBI", 0, 0, 0, 1, 2, 1, len(LOSSES)) + LOSSES
    batch = rowbatch.RowBatch(bytes(32), named, [(1, 2, 0, 1)])
    digest = rowbatch.run_digest(STORE, 0, 2, 1, bytes(32), named)
    rows = b"".join(
        struct.pack("<qIQBIBQBQBI", 0, 0, 0, 1, partition, 1, low, 1, high, 1, 5) + b"burnt"
        for partition, low, high in spans
    )
    fingerprint = blake3(LOSSES)
    content = rowbatch.RowBatch(fingerprint, rows, [(len(spans), 3, 0, 1)])
    identity = rowbatch.run_digest(STORE, 2, first, len(spans), fingerprint, rows)
    return [
        envelope.Payload(envelope.ROW_BATCH, 0, 2, 1, digest, batch.encode()),
        envelope.Payload(envelope.ROW_BATCH, 2, first, len(spans), identity, content.encode()),
    ]


def test_hub_burnt_sequences_close_the_gap_and_hold_nothing(link: Link) -> None:
    link.send(catalogue())
    assert link.send(run(1, 5), run(4_000_006, 3)).ranges[1] == [(1, 5), (4_000_006, 4_000_008)]
    answer = link.send(*losses(1, (1, 6, 4_000_005)))
    assert answer.ranges[1] == [(1, 4_000_008)]
    link.reopen()
    assert link.hub.events.ranges(STORE)[1] == [(1, 4_000_008)]
    sequences = [sequence for sequence, _ in link.hub.rows(STORE, "t")]
    assert sequences == [1, 2, 3, 4, 5, 4_000_006, 4_000_007, 4_000_008]


def test_hub_a_hundred_crashes_of_a_device_need_one_range(link: Link) -> None:
    link.send(catalogue())
    spans = [(1, 100 * i + 6, 100 * i + 100) for i in range(100)]
    link.send(*losses(1, *spans))
    for i in range(100):
        answer = link.send(run(100 * i + 1, 5))
    assert answer.ranges[1] == [(1, 10_000)]


def test_hub_content_under_a_burnt_sequence_is_a_fork(link: Link) -> None:
    link.send(catalogue(), run(1, 5))
    link.send(*losses(1, (1, 6, 20)))
    assert link.send(run(6, 2)).forks == {1: 5}


def test_hub_malformed_loss_takes_nothing_and_the_hub_goes_on(link: Link) -> None:
    link.send(catalogue(), run(1, 5))
    message = link.message(*losses(1, (1, 9, 3)))
    status, _, body = link.hub.handle("POST", "/v1/ingest", {}, message)
    assert (status, body[:8]) == (400, b"Corrupt:")
    assert link.send(run(6, 2)).ranges[1] == [(1, 7)]


def test_hub_large_object_leaves_in_pieces_whole_or_from_an_offset(link: Link) -> None:
    import asyncio

    blob = random.Random(3).randbytes(3 * PIECE_BYTES + 5)
    (link.directory / "blobs" / "b").write_bytes(blob)
    app = App(link.hub)

    def get(**headers: str) -> tuple[dict[str, str], list[bytes]]:
        sent = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b""}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "GET", "path": "/v1/blob/b", "headers": pairs}
        asyncio.run(app(scope, receive, send))
        assert [part["more_body"] for part in sent[1:]] == [True] * (len(sent) - 2) + [False]
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return head, [part["body"] for part in sent[1:]]

    head, parts = get()
    assert b"".join(parts) == blob
    assert head["content-length"] == str(len(blob))
    assert max(map(len, parts)) == PIECE_BYTES
    head, parts = get(range=f"bytes={PIECE_BYTES + 1}-")
    assert b"".join(parts) == blob[PIECE_BYTES + 1 :]
    assert head["content-range"] == f"bytes {PIECE_BYTES + 1}-{len(blob) - 1}/{len(blob)}"
    (link.directory / "blobs" / "b").write_bytes(b"")
    assert get()[1] == [b""]


def test_hub_answers_are_not_held_back_for_the_peers_acknowledgement() -> None:
    """asyncio switches Nagle off only on sockets that name their protocol; an answer in two
    writes costs 40 ms otherwise."""
    with listen("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP
