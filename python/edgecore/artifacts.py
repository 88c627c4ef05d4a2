"""Content-addressed objects, resumable staging, and the journal of the release that runs.

    store = ArtifactStore.open("state/artifacts")
    digest = store.put(data)                  # 32 bytes of BLAKE3: its name from now on
    store.get(digest)                         # checked on every read
    with store.stage(digest, length) as staging:           # a download, over many links and cuts
        staging.write(staging.received, piece)             # what returned is durable
        staging.finish()                                   # read back, checked, an object
    store.journal.stage(Release(manifest_digest, version, objects))   # every object is checked
    store.journal.begin_trial()               # the attempt is counted before anything runs
    store.journal.activate()                  # the release before it becomes the rollback target
    store.journal.mark_stable()               # or .roll_back("why")
    store.gc(keep=[...])                      # never what the journal names

Every change is durable when its call returns and is a whole step or none after a power cut at any
point; docs/formats/artifact-store.md and activation-journal.md say what lies on disk. One process
owns a store. Calls are thread-safe and release the GIL while they wait.

Raised everywhere: Unavailable (not held; disk error; another owner; after a failed sync: open or
stage again), Corrupt (bytes on disk with another digest), Exhausted (quota or disk full; nothing
was changed), Invalid (a step that does not follow from the state).
"""

from __future__ import annotations

from edgecore._core import artifacts as _core
from edgecore._core.artifacts import CHUNK_BYTES, JournalState, Release, Staging
from edgecore._core.fs import posix_fs
from edgecore.errors import Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from edgecore._core.fs import Fs

QUOTA_BYTES = 256 << 20


class Journal:
    """Which release runs. A view of the store's journal; every edge is durable on return.

    Phases: ``empty → staged → trial → active → stable``, ``rolled_back`` from any but empty.
    ``begin_trial`` may be repeated (a device that restarts in a trial); each counts an attempt.
    """

    __slots__ = ("_owner",)

    def __init__(self, store: ArtifactStore) -> None:
        self._owner = store

    @property
    def _store(self) -> _core.ArtifactStore:
        return self._owner._core_store

    def state(self) -> JournalState:
        """``.phase .active .previous .staged .trial`` (Release or None) ``.attempt .generation
        .given_up`` (digest of the release rolled back last) ``.reason``."""
        return self._store.state()

    def stage(self, release: Release) -> None:
        """Makes `release` the candidate; checks every object of it on disk first. Its manifest is
        kept and checked with it if it is one of `release.objects`. Invalid in a trial or while
        the active release is not stable yet."""
        self._store.stage_release(release)

    def begin_trial(self) -> None:
        """Checks the candidate's objects, counts the attempt, then allows it to run."""
        self._store.begin_trial()

    def activate(self) -> None:
        """The release in trial becomes active, the active one `previous`."""
        self._store.activate()

    def mark_stable(self) -> None:
        """The active release has proved itself; another may be staged."""
        self._store.mark_stable()

    def roll_back(self, reason: str, release: bytes | None = None) -> None:
        """Gives up `release` (a digest), by default the candidate, else the active release, whose
        place `previous` takes. Nothing is active if `previous` is absent or damaged."""
        self._store.roll_back(reason, release)


class ArtifactStore:
    """See the module. Made by :meth:`open`; a context manager."""

    __slots__ = ("_store",)

    def __init__(self, core: _core.ArtifactStore) -> None:
        self._store: _core.ArtifactStore | None = core

    @classmethod
    def open(
        cls, path: str, *, fs: Fs | None = None, quota_bytes: int = QUOTA_BYTES
    ) -> ArtifactStore:
        """Opens or makes the store in directory `path`, repairing what a crash left.

        `quota_bytes` bounds objects and stagings (at their full length) together. Unavailable when
        another process has it open; Corrupt when both copies of the journal are damaged."""
        return cls(_core.ArtifactStore.open(fs or posix_fs(), str(path), quota_bytes))

    @property
    def _core_store(self) -> _core.ArtifactStore:
        if self._store is None:
            raise Invalid("artifact store: used after close")
        return self._store

    @property
    def journal(self) -> Journal:
        return Journal(self)

    def put(self, data: Buffer) -> bytes:
        """Stores `data` and returns its digest; durable on return."""
        return self._core_store.put(data)

    def get(self, digest: Buffer) -> bytes:
        """The whole object, its digest checked."""
        return self._core_store.get(digest)

    def has(self, digest: Buffer) -> bool:
        """Whether an object of that name is held; its bytes are not read."""
        return self._core_store.has(digest)

    def verify(self, digest: Buffer) -> None:
        """Reads the object in pieces and checks its digest."""
        self._core_store.verify(digest)

    def stage(self, digest: Buffer, length: int) -> Staging:
        """Begins or resumes the arrival of an object of `length` bytes (both from signed data).

        Returns a context manager: ``.received`` bytes are held without a gap from the start on,
        ``.missing()`` lists (offset, length) of what is not; ``.write(offset, data)`` takes bytes
        in order within each chunk of CHUNK_BYTES, chunks in any order; ``.finish()`` reads all
        back and makes it an object, or raises Corrupt and keeps nothing. ``.close()`` keeps what
        is held for the next time. An object that is held already is complete at once."""
        return self._core_store.stage(digest, length)

    def gc(self, keep: Iterable[Buffer] = ()) -> int:
        """Removes objects and closed stagings that neither `keep` nor the journal (active,
        previous, staged, trial) names; how many."""
        return self._core_store.gc(keep)

    def objects(self) -> dict[bytes, int]:
        """Length in bytes of every object, by digest."""
        return self._core_store.objects()

    def used_bytes(self) -> int:
        """What counts against the quota."""
        return self._core_store.used_bytes()

    def close(self) -> None:
        """Gives up the directory once no Staging of it is open."""
        self._store = None

    def __enter__(self) -> ArtifactStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


__all__ = [
    "CHUNK_BYTES",
    "QUOTA_BYTES",
    "ArtifactStore",
    "Journal",
    "JournalState",
    "Release",
    "Staging",
]
