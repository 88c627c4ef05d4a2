"""The artifact store from Python: objects, staging over many links, the activation journal."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecore import errors
from edgecore.artifacts import CHUNK_BYTES, ArtifactStore, Release
from edgecore.digest import blake3
from edgecore.fs import Fs, MemoryFs, PosixFs


@pytest.fixture(params=["posix", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Fs, str]:
    return (PosixFs() if request.param == "posix" else MemoryFs(), str(tmp_path / "artifacts"))


@pytest.fixture
def open_store(place: tuple[Fs, str]) -> Callable[..., ArtifactStore]:
    fs, path = place
    return lambda **options: ArtifactStore.open(path, fs=fs, **options)


def release_of(store: ArtifactStore, version: int) -> Release:
    objects = [store.put(f"{name} of {version}".encode()) for name in ("model", "view")]
    return Release(blake3(f"manifest {version}".encode()), version, objects)


def activated(store: ArtifactStore, version: int) -> Release:
    release = release_of(store, version)
    store.journal.stage(release)
    store.journal.begin_trial()
    store.journal.activate()
    return release


def path_of(store_path: str, digest: bytes) -> str:
    return f"{store_path}/objects/{digest.hex()}"


# ---------------------------------------------------------------- objects


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 200_001])
def test_artifacts_put_is_got_back_after_reopening(
    open_store: Callable[..., ArtifactStore], size: int
) -> None:
    data = random.Random(size).randbytes(size)
    with open_store() as store:
        digest = store.put(memoryview(data))
        assert digest == blake3(data)
        assert store.put(data) == digest
    with open_store() as store:
        assert store.has(digest)
        assert store.get(digest) == data
        store.verify(digest)
        assert store.objects() == {digest: size}


def test_artifacts_an_object_not_held_is_unavailable(
    open_store: Callable[..., ArtifactStore],
) -> None:
    store = open_store()
    assert not store.has(bytes(32))
    for call in (store.get, store.verify):
        with pytest.raises(errors.Unavailable, match="not held"):
            call(bytes(32))
    with pytest.raises(errors.Invalid, match="32 are needed"):
        store.get(b"short")


def test_artifacts_a_flipped_byte_is_corrupt_and_put_heals_it(
    open_store: Callable[..., ArtifactStore], place: tuple[Fs, str]
) -> None:
    fs, path = place
    store = open_store()
    digest = store.put(b"model" * 100)
    with fs.open(path_of(path, digest), "read_write") as file:
        file.write_at(77, b"?")
        file.sync()
    for call in (store.get, store.verify):
        with pytest.raises(errors.Corrupt, match="another digest"):
            call(digest)
    assert store.put(b"model" * 100) == digest
    assert store.get(digest) == b"model" * 100


def test_artifacts_over_quota_is_exhausted_and_writes_nothing(
    open_store: Callable[..., ArtifactStore], place: tuple[Fs, str]
) -> None:
    store = open_store(quota_bytes=100)
    kept = store.put(b"x" * 60)
    with pytest.raises(errors.Exhausted, match="41 bytes needed, 60 of 100 in use"):
        store.put(b"y" * 41)
    with pytest.raises(errors.Exhausted, match="quota"):
        store.stage(bytes(32), 41)
    with pytest.raises(errors.Exhausted, match="at most"):
        store.stage(bytes(32), 1 << 40)
    assert place[0].list(f"{place[1]}/objects") == [kept.hex()]
    store.stage(bytes(32), 40).close()
    with pytest.raises(errors.Exhausted):  # a staging counts at its full length
        store.put(b"z")
    assert store.gc() == 2
    store.put(b"z" * 100)


def test_artifacts_a_full_disk_is_exhausted_and_loses_nothing() -> None:
    fs = MemoryFs(capacity=200_000)
    store = ArtifactStore.open("a", fs=fs)
    kept = store.put(b"x" * 50_000)
    with pytest.raises(errors.Exhausted, match="free"):
        store.put(b"y" * 90_000)
    fault = fs.inject("no_space", on="write", path_contains=".new")
    with pytest.raises(errors.Exhausted):
        store.put(b"y" * 1000)
    assert fs.fired(fault) == 1
    assert fs.list("a/objects") == [kept.hex()]
    assert store.get(kept) == b"x" * 50_000


def test_artifacts_one_owner_at_a_time(open_store: Callable[..., ArtifactStore]) -> None:
    store = open_store()
    with pytest.raises(errors.Unavailable):
        open_store()
    journal = store.journal
    store.close()
    with pytest.raises(errors.Invalid, match="close"):
        journal.state()
    open_store().close()


# ---------------------------------------------------------------- staging


def test_artifacts_staging_goes_on_where_it_was_cut(
    open_store: Callable[..., ArtifactStore], seed: int
) -> None:
    dice = random.Random(seed)
    data = dice.randbytes(10 * CHUNK_BYTES + 123)
    digest = blake3(data)
    links = 0
    while True:
        links += 1
        with open_store() as store, store.stage(digest, len(data)) as staging:
            at = staging.received
            for _ in range(dice.randint(1, 5)):
                piece = data[at : at + dice.randint(1, 2 * CHUNK_BYTES)]
                staging.write(at, piece)
                at += len(piece)
                assert at - staging.received < CHUNK_BYTES
            if at == len(data):
                staging.finish()
                assert store.get(digest) == data
                break
            with pytest.raises(errors.Invalid, match="missing"):
                staging.finish()
    assert links > 1


def test_artifacts_staging_takes_chunks_in_any_order(
    open_store: Callable[..., ArtifactStore],
) -> None:
    data = random.Random(4).randbytes(5 * CHUNK_BYTES)
    with open_store() as store:
        staging = store.stage(blake3(data), len(data))
        for index in (3, 1, 4):
            offset = index * CHUNK_BYTES
            staging.write(offset, data[offset : offset + CHUNK_BYTES])
        assert staging.received == 0
        expected = [(0, CHUNK_BYTES), (2 * CHUNK_BYTES, CHUNK_BYTES)]
        assert staging.missing() == expected
        staging.close()
        staging = store.stage(blake3(data), len(data))
        assert staging.missing() == expected
        staging.write(0, data)
        assert (staging.received, staging.missing()) == (len(data), [])
        staging.finish()
        assert store.get(blake3(data)) == data


def test_artifacts_staging_refuses_what_does_not_fit(
    open_store: Callable[..., ArtifactStore],
) -> None:
    with open_store() as store:
        staging = store.stage(bytes(32), 100)
        with pytest.raises(errors.Invalid, match="already"):
            store.stage(bytes(32), 100)
        with pytest.raises(errors.Invalid, match="of 100"):
            staging.write(90, b"x" * 11)
        with pytest.raises(errors.Invalid, match="of 100"):
            staging.write((1 << 64) - 1, b"x")
        with pytest.raises(errors.Invalid, match="in order"):
            staging.write(5, b"x")
        staging.close()
        with pytest.raises(errors.Invalid, match="close"):
            staging.write(0, b"x")


def test_artifacts_staged_bytes_of_another_digest_are_corrupt_and_dropped(
    open_store: Callable[..., ArtifactStore], place: tuple[Fs, str]
) -> None:
    data = b"right" * 10_000
    store = open_store()
    staging = store.stage(blake3(data), len(data))
    staging.write(0, b"wrong" * 10_000)
    with pytest.raises(errors.Corrupt):
        staging.finish()
    assert not store.has(blake3(data))
    assert place[0].list(f"{place[1]}/objects") == []
    with store.stage(blake3(data), len(data)) as again:
        assert again.received == 0
        again.write(0, data)
        again.finish()
    with store.stage(blake3(data), len(data)) as held:
        assert held.received == len(data)
        held.finish()
    assert store.get(blake3(data)) == data


def test_artifacts_damaged_staged_chunk_is_fetched_again(
    open_store: Callable[..., ArtifactStore], place: tuple[Fs, str]
) -> None:
    fs, path = place
    data = random.Random(5).randbytes(4 * CHUNK_BYTES)
    store = open_store()
    with store.stage(blake3(data), len(data)) as staging:
        staging.write(0, data)
    with fs.open(path_of(path, blake3(data)) + ".part", "read_write") as file:
        file.write_at(2 * CHUNK_BYTES + 5, b"??")
        file.sync()
    with store.stage(blake3(data), len(data)) as staging:
        assert staging.missing() == [(2 * CHUNK_BYTES, CHUNK_BYTES)]
        staging.write(0, data)
        staging.finish()


def test_artifacts_failed_sync_ends_the_staging_and_not_the_object() -> None:
    fs = MemoryFs()
    data = random.Random(6).randbytes(3 * CHUNK_BYTES)
    store = ArtifactStore.open("a", fs=fs)
    staging = store.stage(blake3(data), len(data))
    staging.write(0, data[:CHUNK_BYTES])
    fault = fs.inject("io_error", on="sync", path_contains=".part")
    with pytest.raises(errors.Unavailable):
        staging.write(CHUNK_BYTES, data[CHUNK_BYTES:])
    assert fs.fired(fault) == 1
    with pytest.raises(errors.Unavailable, match="stage again"):
        staging.write(CHUNK_BYTES, data[CHUNK_BYTES:])
    staging.close()
    with store.stage(blake3(data), len(data)) as staging:
        assert staging.received == CHUNK_BYTES
        staging.write(0, data)
        staging.finish()
    assert store.get(blake3(data)) == data


# ---------------------------------------------------------------- the journal


def test_artifacts_journal_leads_a_release_from_staged_to_stable(
    open_store: Callable[..., ArtifactStore],
) -> None:
    store = open_store()
    state = store.journal.state()
    assert (state.phase, state.active, state.previous, state.attempt) == ("empty", None, None, 0)
    first = release_of(store, 1)
    store.journal.stage(first)
    assert (store.journal.state().phase, store.journal.state().staged) == ("staged", first)
    assert store.journal.state().active is None
    store.journal.begin_trial()
    store.close()

    store = open_store()  # restarted within the trial: one more attempt
    store.journal.begin_trial()
    state = store.journal.state()
    assert (state.phase, state.trial, state.active, state.attempt) == ("trial", first, None, 2)
    store.journal.activate()
    store.journal.mark_stable()
    second = activated(store, 2)
    state = store.journal.state()
    assert (state.phase, state.active, state.previous) == ("active", second, first)
    assert state.attempt == 1
    store.journal.roll_back("scores went wild")
    store.close()

    state = open_store().journal.state()
    assert (state.phase, state.active, state.previous) == ("rolled_back", first, None)
    assert (state.given_up, state.reason) == (second.digest, "scores went wild")
    assert state.generation == 9


def test_artifacts_journal_refuses_steps_that_do_not_follow(
    open_store: Callable[..., ArtifactStore],
) -> None:
    store = open_store()
    journal = store.journal
    for step in (journal.begin_trial, journal.activate, journal.mark_stable):
        with pytest.raises(errors.Invalid, match="not from empty"):
            step()
    with pytest.raises(errors.Invalid, match="not from empty"):
        journal.roll_back("why")
    release = activated(store, 1)
    with pytest.raises(errors.Invalid, match="not from active"):
        journal.stage(release_of(store, 2))
    with pytest.raises(errors.Invalid, match="objects"):
        journal.stage(Release(bytes(32), 2, []))
    with pytest.raises(errors.Invalid, match="neither"):
        journal.roll_back("why", bytes(32))
    assert journal.state().active == release


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_artifacts_journal_stages_no_release_that_is_not_whole(
    open_store: Callable[..., ArtifactStore], place: tuple[Fs, str], harm: str
) -> None:
    fs, path = place
    store = open_store()
    release = release_of(store, 1)
    if harm == "missing":
        release = Release(release.digest, 1, [*release.objects, bytes(32)])
        error: type[Exception] = errors.Unavailable
    else:
        with fs.open(path_of(path, release.objects[1]), "read_write") as file:
            file.truncate(3)
        error = errors.Corrupt
    with pytest.raises(error):
        store.journal.stage(release)
    assert store.journal.state().phase == "empty"


def test_artifacts_rolled_back_release_keeps_its_attempts_when_staged_again(
    open_store: Callable[..., ArtifactStore],
) -> None:
    store = open_store()
    bad = release_of(store, 1)
    store.journal.stage(bad)
    store.journal.begin_trial()
    store.journal.begin_trial()
    store.journal.roll_back("crashed twice")
    store.journal.stage(bad)
    assert store.journal.state().attempt == 2
    store.journal.stage(release_of(store, 2))
    assert store.journal.state().attempt == 0


def test_artifacts_roll_back_to_a_damaged_release_leaves_nothing_active(
    open_store: Callable[..., ArtifactStore], place: tuple[Fs, str]
) -> None:
    fs, path = place
    store = open_store()
    first = activated(store, 1)
    store.journal.mark_stable()
    activated(store, 2)
    with fs.open(path_of(path, first.objects[0]), "read_write") as file:
        file.write_at(0, b"?")
    store.journal.roll_back("wild", None)
    state = store.journal.state()
    assert (state.active, state.previous, state.phase) == (None, None, "rolled_back")
    assert "damaged too" in state.reason


def test_artifacts_active_can_be_given_up_by_name_while_another_waits(
    open_store: Callable[..., ArtifactStore],
) -> None:
    store = open_store()
    first = activated(store, 1)
    store.journal.mark_stable()
    second = activated(store, 2)
    store.journal.mark_stable()
    third = release_of(store, 3)
    store.journal.stage(third)
    store.journal.roll_back("found corrupt", second.digest)
    state = store.journal.state()
    assert (state.phase, state.active, state.previous, state.staged) == (
        "staged", first, None, third,
    )  # fmt: skip


def test_artifacts_gc_keeps_what_the_journal_names(
    open_store: Callable[..., ArtifactStore],
) -> None:
    store = open_store()
    old = activated(store, 1)
    store.journal.mark_stable()
    first = activated(store, 2)
    store.journal.mark_stable()
    second = activated(store, 3)
    loose = store.put(b"loose")
    wanted = store.put(b"wanted")
    arriving = store.stage(bytes(32), 10)
    assert store.gc([wanted]) == 1 + len(old.objects)
    assert not store.has(loose)
    assert set(store.objects()) == {wanted, *first.objects, *second.objects}
    arriving.write(0, b"x" * 10)
    arriving.close()
    assert store.gc([wanted]) == 1


def test_artifacts_failed_journal_write_refuses_edges_until_reopened() -> None:
    fs = MemoryFs()
    store = ArtifactStore.open("a", fs=fs)
    release = release_of(store, 1)
    store.journal.stage(release)
    fault = fs.inject("io_error", on="sync", path_contains="journal")
    with pytest.raises(errors.Unavailable):
        store.journal.begin_trial()
    assert fs.fired(fault) == 1
    with pytest.raises(errors.Unavailable, match="open the store again"):
        store.journal.begin_trial()
    with pytest.raises(errors.Unavailable, match="open the store again"):
        store.gc()
    store.close()
    store = ArtifactStore.open("a", fs=fs)
    attempts = store.journal.state().attempt
    assert attempts in (0, 1)
    store.journal.begin_trial()
    assert store.journal.state().attempt == attempts + 1


def test_artifacts_threads_share_a_store(open_store: Callable[..., ArtifactStore]) -> None:
    store = open_store()
    wrong: list[object] = []

    def work(number: int) -> None:
        for round_ in range(20):
            data = random.Random(number * 100 + round_ % 5).randbytes(3000)
            if store.get(store.put(data)) != data:
                wrong.append((number, round_))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(store.objects()) == 20
