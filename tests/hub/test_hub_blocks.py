"""Runs that come as column blocks: the same events as in rows, whatever the coding."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_hub import FINGERPRINT, SCHEMA, STORE, Link, catalogue, row, run

from edgecore import columns
from edgecore.errors import Corrupt
from edgecore.schema import Schema
from edgecore.wire import envelope, rowbatch

TYPED = Schema.from_bytes(SCHEMA)
CODINGS = ("fast", "dense")


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return Link(tmp_path / "hub")


def block(
    first: int, count: int, coding: str = "fast", rows: bytes | None = None
) -> envelope.Payload:
    rows = rows or b"".join(row(first + i) for i in range(count))
    made = columns.encode(
        SimpleNamespace(
            partition=1, first=first, count=count, payload=rows, arrivals=[(count, first, 9, 1)]
        ),
        STORE, TYPED, coding,
    )  # fmt: skip
    digest = rowbatch.run_digest(STORE, 1, first, count, FINGERPRINT, rows)
    return envelope.Payload(envelope.COLUMN_BLOCK, 1, first, count, digest, made)


def test_hub_takes_any_coding_of_any_cut_once(link: Link, seed: int) -> None:
    rng = random.Random(seed)
    link.send(catalogue())
    last = 0
    for _ in range(150):
        first = rng.randrange(max(1, last - 40), last + 12)
        count = rng.randrange(1, 60)
        if rng.random() < 0.5:
            payload = run(first, count)
        else:
            payload = block(first, count, rng.choice(CODINGS))
        assert not link.send(payload).forks
        last = max(last, first + count - 1)
    assert link.send(block(1, last)).ranges[1] == [(1, last)]
    rows = list(link.hub.rows(STORE, "t"))
    assert [sequence for sequence, _ in rows] == list(range(1, last + 1))
    assert all(item["v"] == sequence * 7 for sequence, item in rows)


def test_hub_block_of_other_content_is_a_fork(link: Link) -> None:
    link.send(catalogue(), run(1, 50))
    rows = b"".join(row(i, 7 * i if i < 30 else 1) for i in range(1, 51))
    assert link.send(block(1, 50, rows=rows)).forks == {1: 29}


def test_hub_block_whose_schema_comes_with_it_is_taken_and_without_it_waits(link: Link) -> None:
    assert link.send(block(1, 20)).ranges.get(1, []) == []
    assert link.send(block(1, 20), catalogue()).ranges[1] == [(1, 20)]
    link.reopen()
    assert link.send(block(21, 20)).ranges[1] == [(1, 40)]


@pytest.mark.parametrize("wrong", ["first", "count", "partition", "digest"])
def test_hub_block_of_another_run_than_its_entry_says_is_corrupt(link: Link, wrong: str) -> None:
    link.send(catalogue())
    payload = block(5, 20)
    setattr(payload, wrong, bytes(32) if wrong == "digest" else getattr(payload, wrong) + 1)
    with pytest.raises(Corrupt, match="another run"):
        link.hub.ingest.accept(
            SimpleNamespace(store=STORE, payloads=[payload])  # type: ignore[arg-type]
        )
    assert link.send(block(1, 4)).ranges[1] == [(1, 4)]


def test_hub_damaged_block_is_refused_and_nothing_of_its_envelope_is_taken(link: Link) -> None:
    link.send(catalogue())
    payload = block(1, 40)
    for at in range(0, len(payload.data), 7):
        data = bytearray(payload.data)
        data[at] ^= 1 << at % 8
        bad = envelope.Payload(2, 1, 1, 40, payload.digest, bytes(data))
        status, _, body = link.hub.handle("POST", "/v1/ingest", {}, link.message(run(100, 3), bad))
        assert status != 200
        assert body.startswith((b"Corrupt", b"Incompatible"))
    assert link.send(run(1, 2)).ranges[1] == [(1, 2)]


def test_hub_blocks_of_more_rows_than_an_envelope_may_hold_are_refused(link: Link) -> None:
    link.send(catalogue())
    count = 60_000
    blocks = [block(1 + i * count, count) for i in range(6)]
    assert sum(len(b.data) for b in blocks) < envelope.BYTES_MAX
    status, _, body = link.hub.handle("POST", "/v1/ingest", {}, link.message(*blocks))
    assert status != 200
    assert b"more rows than an envelope may hold" in body
    assert link.send(*blocks[:4]).ranges[1] == [(1, 4 * count)]
