"""The updater: from an ordered release to one that has proved itself, or back.

Step-driven: :meth:`Updater.poll` does one exchange or one step and says when it wants to be called
again. What to do is decided by ``rules.update``, what to believe by ``trust.releases``; here both
meet the link and the disk. Every step is durable before the next, in this order: the floor, the
intent with its row for `edgecore.update`, the journal. A cut between the last two is settled on
opening by the journal's generation: the edge happened, or it did not.
"""

from __future__ import annotations

from contextlib import suppress

from edgecore.artifacts import Release
from edgecore.device import objects
from edgecore.device.metadata import Metadata
from edgecore.device.twofold import Twofold
from edgecore.device.update_state import State
from edgecore.errors import Corrupt, EdgecoreError, Exhausted, Unavailable
from edgecore.rules import update
from edgecore.trust import releases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from edgecore.artifacts import ArtifactStore, JournalState
    from edgecore.clock import Clock
    from edgecore.device.enrol import Identity
    from edgecore.device.transport import Transport
    from edgecore.device.update_state import Who
    from edgecore.fs import Fs
    from edgecore.release import VerifiedRelease
    from edgecore.wire.desired import Desired

    Loader = Callable[[VerifiedRelease, Callable[[bytes], bytes]], Any]

SECOND = 1_000_000_000
REASON_BYTES_MAX = 200
SPARE_BYTES = 64 * 1024  # left free on disk for logs and state


class Policy:
    """Times in seconds. Waits after failures are uniform in [half, whole) of a bound that doubles
    from `backoff_s` to `backoff_max_s`."""

    __slots__ = ("backoff_max_s", "backoff_s", "idle_s")

    def __init__(
        self, idle_s: float = 1.0, backoff_s: float = 1.0, backoff_max_s: float = 300.0
    ) -> None:
        self.idle_s = idle_s
        self.backoff_s = backoff_s
        self.backoff_max_s = backoff_max_s


class Updater:
    """One device's releases. Not thread-safe.

    :param root: directory for what is trusted, the floor and the updater's own state;
    :param loader: makes a release ready to run and proves it with its golden vectors; it is given
        the release and a function from digest to bytes, and raises an outcome to refuse;
    :param uniform: the Rng seam: floats in [0, 1).

    On opening, the active release is verified again from disk and loaded; one that fails is
    rolled back. ``last_error`` is the outcome of the last step; ``changes`` counts changes of
    :meth:`roles`."""

    def __init__(
        self,
        identity: Identity,
        transport: Transport,
        fs: Fs,
        store: ArtifactStore,
        root: str,
        clock: Clock,
        loader: Loader,
        *,
        policy: Policy | None = None,
        uniform: Callable[[], float] = lambda: 0.5,
    ) -> None:
        fs.make_directories(root)
        self._root_hash = identity.invite.root_hash
        self._transport = transport
        self._fs = fs
        self._store = store
        self._root = root
        self._loader = loader
        self._policy = policy or Policy()
        self._uniform = uniform
        self._metadata = Metadata(self._root_hash, transport, fs, root, clock)
        self._loaded: dict[bytes, tuple[VerifiedRelease, Any]] = {}
        self._candidate: VerifiedRelease | None = None
        self._running = False
        self._counts = update.Counts()
        self._polled_ns: int | None = None
        self._wanted = ""  # path of the ordered release
        self._work: Iterator[None] | None = None
        self._failures = 0
        self._retry_ns = 0
        self.last_error: EdgecoreError | None = None
        self.changes = 0
        self._paths: dict[bytes, str] = {}
        self._slots = Twofold(fs, f"{root}/state")
        self._state = self._open_state()
        self._open_candidate()
        self._open_active()

    # ------------------------------------------------------------ what runs

    @property
    def current(self) -> VerifiedRelease | None:
        """The release that serves, verified; None before the first."""
        active = self._store.journal.state().active
        held = self._loaded.get(active.digest) if active is not None else None
        return held[0] if held is not None else None

    @property
    def trial(self) -> VerifiedRelease | None:
        """The release whose trial runs in this process."""
        return self._candidate if self._running else None

    @property
    def phase(self) -> str:
        """empty, staged, trial, active, stable or rolled_back."""
        return self._store.journal.state().phase

    def roles(self) -> list[tuple[str, VerifiedRelease, Any]]:
        """(role, release, what the loader made of it): "active" first, then "shadow". A trial
        serves as "active" where nothing else can."""
        out = []
        current, trial = self.current, self.trial
        if current is not None:
            out.append(("active", current, self._loaded[current.digest][1]))
        if trial is not None:
            role = update.role("trial", current is not None)
            out.append((role, trial, self._loaded[trial.digest][1]))
        return out

    def report(self, predictions: int, alarms: int, errors: int, seconds: float = 0.0) -> None:
        """What the release under observation did since the last report. Time is also counted by
        :meth:`poll`; `seconds` is for time that it did not see."""
        self._counts.add(predictions, alarms, errors, seconds)

    def heard(self, time_ns: int) -> int:
        """Takes in a time that the hub signed for this device (of an ack); returns the floor."""
        with suppress(EdgecoreError):  # a full disk: it is heard again
            self._metadata.heard(time_ns)
        return self._metadata.floor_ns

    def close(self) -> None:
        """Gives up a download that is under way; what it has is kept for the next time."""
        self._drop_work()

    # ------------------------------------------------------------ edges for the log

    @property
    def edges(self) -> list[dict[str, Any]]:
        """Rows for `edgecore.update`, oldest first, each with ``source_seq``. They are given
        again until :meth:`edges_logged`."""
        return [dict(row) for row in self._state.edges]

    def edges_logged(self, upto: int) -> None:
        """The log holds all rows up to this ``source_seq`` durably. To be called at start with
        the highest that the log holds, so that no row is logged twice."""
        state = self._state
        kept = [row for row in state.edges if row["source_seq"] > upto]
        if len(kept) != len(state.edges) or state.next_edge <= upto:
            state = state.copy()
            state.edges = kept
            state.next_edge = max(state.next_edge, upto + 1)
            self._try_save(state)

    # ------------------------------------------------------------ stepping

    def poll(self, now_ns: int, desired: Desired | None = None) -> int:
        """At most one exchange or one step; returns the monotonic time (ns) of the next useful
        call. `desired` is the last signed order; None: as before."""
        if desired is not None:
            self._take_order(desired)
        if self._polled_ns is not None:
            self._counts.add(0, 0, 0, max(0, now_ns - self._polled_ns) / SECOND)
        self._polled_ns = now_ns
        if now_ns < self._retry_ns:
            return self._retry_ns
        action, why = update.decide(self._situation())
        if action == "wait":
            self._drop_work()
            return now_ns + int(self._policy.idle_s * SECOND)
        try:
            if action == "fetch":
                self._advance_install()
            else:
                self._perform(action, why)
        except EdgecoreError as error:
            self._failed(error, now_ns)
            if action == "fetch" and not isinstance(error, Unavailable):
                self._refuse(f"{error.word}: {error}")
            return self._retry_ns
        self._failures = 0
        self.last_error = None
        return now_ns

    def _failed(self, error: EdgecoreError, now_ns: int) -> None:
        self._drop_work()
        self.last_error = error
        bound = self._policy.backoff_s * 2 ** min(self._failures, 30)
        wait = min(bound, self._policy.backoff_max_s) * (1 + self._uniform()) / 2
        self._failures += 1
        self._retry_ns = now_ns + int(wait * SECOND)

    def _take_order(self, desired: Desired) -> None:
        """Orders count by the time of their issue, across restarts: an old one that is played
        again changes nothing, and a hub restored from a backup can still give new ones."""
        stamp = [desired.issued_ns, desired.order]
        path = desired.release[2] if desired.release is not None else ""
        if stamp < self._state.order or (stamp, path) == (self._state.order, self._wanted):
            return
        ordered = self._state.copy()
        ordered.order = stamp
        self._try_save(ordered)
        self._wanted = path
        self._retry_ns = 0
        self._drop_work()
        self.heard(desired.issued_ns)

    def _drop_work(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.close()  # type: ignore[attr-defined]

    def _situation(self) -> update.Situation:
        state = self._store.journal.state()
        watched = self._candidate if state.phase in ("staged", "trial") else self.current
        fault = self._state.fault(watched.digest) if watched is not None else ""
        if watched is None and state.phase in ("staged", "trial", "active"):
            fault = "load: the release is not whole on this disk"
        return update.Situation(
            state.phase,
            self._wish(state),
            state.attempt,
            self._running,
            fault,
            self._counts,
            watched.manifest.observation if watched is not None else None,
        )

    def _wish(self, state: JournalState) -> str:
        path = self._wanted
        if not path or self._state.given_up(path):
            return "none"
        if self._candidate is not None and path == self._candidate.path:
            return "candidate"
        if self.current is not None and path == self.current.path:
            return "active"
        return "previous" if path == self._path_of(state.previous) else "other"

    def _path_of(self, release: Release | None) -> str:
        if release is None:
            return ""
        if release.digest not in self._paths:
            known = self._known(release)
            self._paths[release.digest] = known.path if known is not None else ""
        return self._paths[release.digest]

    # ------------------------------------------------------------ steps that change the journal

    def _perform(self, action: str, why: str) -> None:
        if action == "begin_trial":
            self._begin_trial()
        elif action == "activate":
            self._activate(why)
        elif action == "mark_stable":
            self._mark_stable(why)
        else:
            state = self._store.journal.state()
            doomed = state.staged or state.trial or state.active
            assert doomed is not None
            self._roll_back(doomed, why, condemn=not why.startswith("withdrawn: "))
        self.changes += 1

    def _begin_trial(self) -> None:
        journal, candidate = self._store.journal, self._candidate
        assert candidate is not None
        try:
            self._edge("trial", _who(candidate), "", journal.begin_trial)
        except Corrupt as error:  # the disk's fault: it may be fetched again
            waiting = journal.state().staged or journal.state().trial
            assert waiting is not None
            self._roll_back(waiting, f"verify: {error.word}: {error}", condemn=False)
            return
        try:
            made = self._loader(candidate, self._store.get)
        except EdgecoreError as error:
            doomed = journal.state().trial
            assert doomed is not None
            self._roll_back(doomed, f"load: {error.word}: {error}", condemn=True)
            return
        self._loaded[candidate.digest] = (candidate, made)
        self._running = True
        self._counts = update.Counts()

    def _activate(self, why: str) -> None:
        candidate = self._candidate
        assert candidate is not None
        counted = self._state.copy()
        counted.openings = 1
        self._state = counted  # made durable with the intent
        self._edge("active", _who(candidate), why, self._store.journal.activate)
        self._running, self._candidate = False, None
        self._counts = update.Counts()

    def _mark_stable(self, why: str) -> None:
        current = self.current
        assert current is not None
        self._metadata.accept(current)
        self._edge("stable", _who(current), why, self._store.journal.mark_stable)
        self._loaded = {current.digest: self._loaded[current.digest]}
        self._collect()

    def _roll_back(self, doomed: Release, why: str, condemn: bool) -> None:
        """Gives up the candidate or the active release. That it was condemned is durable with the
        intent, so that a cut cannot bring it back; a full disk stops no roll-back, for the journal
        needs no room."""
        journal, digest = self._store.journal, doomed.digest
        release = self._known(doomed)
        who = _who(release) if release is not None else ("", doomed.version, digest)
        why = why.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        if release is not None and condemn and not self._state.fault(digest):
            condemned = self._state.copy()
            condemned.condemn(digest, release.path, why)
            self._state = condemned  # durable with the intent
        self._edge("rolled_back", who, why, lambda: journal.roll_back(why, digest))
        self._loaded.pop(digest, None)
        if journal.state().phase not in ("staged", "trial"):
            self._running, self._candidate = False, None
        self._open_active()
        self._collect()

    def _known(self, release: Release) -> VerifiedRelease | None:
        """The verified release of a journal's entry; None if its proof is not whole."""
        if self._candidate is not None and self._candidate.digest == release.digest:
            return self._candidate
        if release.digest in self._loaded:
            return self._loaded[release.digest][0]
        try:
            return self._recheck(release)
        except EdgecoreError:
            return None

    def _edge(self, edge: str, who: Who, reason: str, act: Callable[[], None]) -> None:
        """Intent, deed, row: see the module."""
        journal = self._store.journal
        intended = self._state.copy()
        intended.intend(edge, who, reason, journal.state().generation)
        if edge == "rolled_back":
            self._try_save(intended)
        else:
            self._save(intended)
        act()
        settled = self._state.copy()
        settled.settle(journal.state())
        self._state = settled  # durable with the next save; until then the intent stands for it

    def _collect(self) -> None:
        """Frees what no release needs any more; failing that is no harm."""
        try:
            self._store.gc(())
        except EdgecoreError as error:
            self.last_error = error

    def _refuse(self, reason: str) -> None:
        """One row per order and reason for a release that never got as far as the journal."""
        path = self._wanted
        if self._candidate is not None or not path:
            return
        name, _, version = path.rpartition("/")
        state = self._state.copy()
        number = int(version) if version.isdigit() and len(version) < 10 else 0
        if state.note("refused", (name, number, bytes(32)), reason):
            self._try_save(state)

    # ------------------------------------------------------------ installing

    def _advance_install(self) -> None:
        if self._work is None:
            self._work = self._install(self._wanted)
        try:
            next(self._work)
        except StopIteration:
            self._work = None

    def _install(self, path: str) -> Iterator[None]:
        """Metadata, manifest, objects, journal; each `yield` ends one exchange."""
        yield from self._metadata.refresh()
        target = self._metadata.choose(path)
        body = objects.small(self._transport, target.digest, target.length)
        release = releases.admit(target, body)
        proof = self._metadata.proof(target)
        wanted = dict(release.manifest.objects.values())
        missing = sum(size for digest, size in wanted.items() if not self._store.has(digest))
        free = self._fs.free_bytes(self._root)
        if missing + SPARE_BYTES > free:
            raise Exhausted(f"space: {path} needs {missing + SPARE_BYTES} bytes, {free} are free")
        state = self._state.copy()
        if state.note("preflight", _who(release), ""):
            self._save(state)
        yield
        for digest, length in wanted.items():
            yield from objects.pull(self._transport, self._store, digest, length)
        kept = (self._store.put(proof), self._store.put(body))
        whole = Release(release.digest, release.version, (*kept, *wanted))
        self._candidate = release
        pardoned = self._state.copy()
        pardoned.pardon(release.digest)
        self._state = pardoned  # durable with the intent
        try:
            self._edge("staged", _who(release), "", lambda: self._store.journal.stage(whole))
        except EdgecoreError:
            self._candidate = None
            raise

    # ------------------------------------------------------------ opening

    def _open_state(self) -> State:
        try:
            kept = self._slots.load()
            state = State.decode(kept) if kept is not None else State()
        except Corrupt as error:  # rows that were not logged yet are gone; nothing else is
            self.last_error = error
            state = State()
        state.settle(self._store.journal.state())
        return state

    def _save(self, state: State) -> None:
        self._slots.save(state.encode())
        self._state = state

    def _try_save(self, state: State) -> None:
        """For what a full disk must not stop: it is durable with the next save."""
        try:
            self._save(state)
        except EdgecoreError:
            self._state = state

    def _open_candidate(self) -> None:
        """Verifies again what waits for a trial. One that fails is rolled back by the next step."""
        state = self._store.journal.state()
        waiting = state.staged or state.trial
        if waiting is not None:
            try:
                self._candidate = self._recheck(waiting)
            except EdgecoreError as error:
                self.last_error = error

    def _open_active(self) -> None:
        """Verifies and loads the active release; one that fails gives way to the one before."""
        state = self._store.journal.state()
        active = state.active
        if active is None or active.digest in self._loaded:
            return
        self.changes += 1
        if state.phase == "active" and not update.may_start(self._count_opening()):
            starts = self._state.openings - 1
            self._roll_back(active, f"load: {starts} starts and none reached stable", condemn=True)
            return
        try:
            release = self._recheck(active)
            self._loaded[release.digest] = (release, self._loader(release, self._store.get))
        except EdgecoreError as error:
            self.last_error = error
            if state.previous is not None or isinstance(error, Corrupt):
                self._roll_back(active, f"load: {error.word}: {error}", condemn=False)

    def _count_opening(self) -> int:
        """Starts with an active release that is not stable, this one included: counted before it
        runs, though a full disk does not keep it from running."""
        counted = self._state.copy()
        counted.openings += 1
        self._try_save(counted)
        return counted.openings

    def _recheck(self, release: Release) -> VerifiedRelease:
        """The release as its signatures on this disk have it."""
        proof, data = (self._store.get(digest) for digest in release.objects[:2])
        verified = releases.recheck(self._root_hash, proof, data)
        named = {digest for digest, _ in verified.manifest.objects.values()}
        if verified.digest != release.digest or named != set(release.objects[2:]):
            raise Corrupt(f"{verified.path}: the journal and the manifest name different objects")
        return verified


def _who(release: VerifiedRelease) -> Who:
    return release.name, release.version, release.digest


__all__ = ["Policy", "Updater"]
