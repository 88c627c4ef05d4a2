"""The link half of the agent: everything that waits for a hub, and nothing that captures.

Enrolment if it is still owed, synchronisation, the wished release, the updater. Step-driven:
:meth:`Link.poll` does what is due and says when to call again. It may block for as long as its
transport does, so `device run` gives it a thread of its own; what the capturing half needs to know
is published as objects that are replaced whole (:attr:`Link.releases`, :attr:`Link.signed_time`,
:attr:`Link.floor_ns`), and what it has to say comes in by :meth:`Link.tell`. Nothing else is shared
but the log, which is thread-safe.
"""

from __future__ import annotations

from collections import deque

from edgecore.device.enrol import enrol, fetch_desired, load
from edgecore.device.raw import RawRows
from edgecore.device.sync import SECOND, Policy, Syncer
from edgecore.errors import EdgecoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgecore.artifacts import ArtifactStore
    from edgecore.clock import Clock
    from edgecore.device.config import Config
    from edgecore.device.enrol import Identity
    from edgecore.device.transport import Transport
    from edgecore.device.update import Updater
    from edgecore.fs import File, Fs
    from edgecore.log import Log
    from edgecore.release import VerifiedRelease
    from edgecore.wire.desired import Desired

    Roles = list[tuple[str, VerifiedRelease, Any]]
    Loader = Callable[[VerifiedRelease, Callable[[bytes], bytes]], Any]

INVITE_BYTES_MAX = 8192


class Releases:
    """What the updater wants of the other half: which release answers in which role, and rows for
    ``edgecore.update`` that the log does not hold yet. Immutable; `changes` grows with `roles`."""

    __slots__ = ("changes", "edges", "observed", "phase", "roles")

    def __init__(
        self,
        changes: int = 0,
        roles: Roles | None = None,
        edges: list[dict[str, Any]] | None = None,
        phase: str = "empty",
    ) -> None:
        self.changes = changes
        self.roles = roles or []
        self.edges = edges or []
        self.phase = phase
        # The release that is being judged: the trial, which stands last, or the fresh active one.
        watching = phase in ("trial", "active") and bool(self.roles)
        self.observed = self.roles[-1][1].digest if watching else b""


class Evidence:
    """Every signed answer that was acted on, one JSON line each: for an audit, or a checker."""

    def __init__(self, fs: Fs, directory: str, clock: Clock) -> None:
        fs.make_directories(directory)
        self._clock = clock
        self._file: File = fs.open(f"{directory}/acks.jsonl", "create")
        self._end = self._file.size()

    def heard(self, path: str, body: bytes) -> None:
        import json

        line = {"time": self._clock.wall_ns(), "path": path, "body": body.hex()}
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self._file.write_at(self._end, data)
        self._end += len(data)

    def close(self) -> None:
        self._file.close()


class Link:
    """One device's side of the link. Its methods are for one thread, except :meth:`tell`,
    :meth:`status` and reading :attr:`releases`.

    :param loader: makes a verified release ready to run, see :class:`Updater`."""

    def __init__(
        self,
        config: Config,
        log: Log,
        fs: Fs,
        transport: Transport,
        clock: Clock,
        uniform: Callable[[], float],
        entropy: Callable[[int], bytes],
        loader: Loader,
    ) -> None:
        self._config = config
        self._log = log
        self._fs = fs
        self._transport = transport
        self._uniform = uniform
        self._entropy = entropy
        self._loader = loader
        self._inbox: deque[tuple[Any, ...]] = deque()
        self._keys = f"{config.state}/keys"
        self._evidence = Evidence(fs, config.evidence, clock) if config.evidence else None
        self._syncer: Syncer | None = None
        self._updater: Updater | None = None
        self._store: ArtifactStore | None = None
        self._order: Desired | None = None
        self._raw = RawRows(log, config.raw)
        self._etag = ""
        self._order_ns = 0
        self._failures = 0
        self._enrol_ns = 0
        self._clock = clock
        self.releases = Releases()
        self.last_contact_ns = 0
        self.signed_time: tuple[int, int, int] | None = None  # and when it was asked for, and came
        self.floor_ns = 0  # a signed time that has passed
        self.errors: dict[str, EdgecoreError | None] = {}
        identity = load(fs, self._keys)
        if identity is not None:
            self._begin(identity)

    # ------------------------------------------------------------ the other half

    def tell(self, what: str, *values: Any) -> None:
        """From the capturing half: ``"logged", source_seq`` (update rows that are durable) or
        ``"report", digest, predictions, alarms, errors`` (of the observed release)."""
        self._inbox.append((what, *values))

    @property
    def connected(self) -> bool:
        return self._syncer is not None and self._syncer.connected

    def status(self) -> dict[str, Any]:
        """What an operator asks of a link. May be read while the link works."""
        syncer, order = self._syncer, self._order
        acked = syncer.last_ack.ranges if syncer is not None and syncer.last_ack else {}
        return {
            "enrolled": syncer is not None,
            "connected": self.connected,
            "last_contact": self.last_contact_ns,
            "sent": self._transport.sent,
            "received": self._transport.received,
            "held_by_hub": {str(p): sum(b - a + 1 for a, b in r) for p, r in acked.items()},
            "forks": {str(p): common for p, common in (syncer.forks if syncer else {}).items()},
            "order": {
                "number": order.order if order else 0,
                "release": order.release[2] if order and order.release else "",
            },
        }

    # ------------------------------------------------------------ stepping

    def poll(self, now_ns: int) -> int:
        """Does what is due; returns the monotonic time (ns) of the next useful call."""
        if self._syncer is None:
            return self._enrol(now_ns)
        self._read_inbox()
        before = self._syncer.last_ack
        deadline = self._syncer.poll(now_ns)
        self.errors["sync"] = self._syncer.last_error
        if self._syncer.last_ack is not before and self._syncer.last_ack is not None:
            self.last_contact_ns = self._clock.wall_ns()
            self._step("time", self._heard, self._syncer.last_ack.time_ns)
            self.signed_time = (self._syncer.last_ack.time_ns, *self._syncer.last_asked)
        news = None
        if self._syncer.connected:
            if now_ns >= self._order_ns:
                news = self._step("order", self._ask_order)
                self._order_ns = now_ns + self._config.order_every_ns
                self._step("raw", self._take_requests)
            deadline = min(deadline, self._order_ns)
        if not self._syncer.connected or self.errors.get("order") is not None:
            self._hang_up()
        return min(deadline, self._update(now_ns, news))

    def _hang_up(self) -> None:
        """What answered may be no hub, and may keep its connection for ever: the next request asks
        anew who bears the hub's name."""
        close = getattr(self._transport, "close", None)
        if close is not None:
            close()

    def _step(self, part: str, act: Callable[..., Any], *values: Any) -> Any:
        """Runs one part; its outcome stands under its name until it goes well again."""
        try:
            made = act(*values)
        except EdgecoreError as error:
            self.errors[part] = error
            return None
        self.errors[part] = None
        return made

    def _heard(self, time_ns: int) -> None:
        if self._updater is not None:
            self.floor_ns = self._updater.heard(time_ns)

    def _ask_order(self) -> Desired | None:
        assert self._identity is not None
        heard = self._evidence.heard if self._evidence else None
        answer = fetch_desired(self._identity, self._transport, self._etag, heard)
        if answer is None:
            return None
        self._etag, self._order = answer
        return self._order

    def _take_requests(self) -> None:
        """What the hub asks for, by its own clock: the device's may be wrong."""
        assert self._syncer is not None
        heard = self._syncer.last_ack
        if heard is not None:
            self._raw.take(self._order.requests if self._order else [], heard.time_ns)

    def _update(self, now_ns: int, order: Desired | None) -> int:
        updater = self._updater
        if updater is None:
            return now_ns + 60 * SECOND
        deadline: int = updater.poll(now_ns, order)
        self.errors["update"] = updater.last_error
        self._publish(updater)
        return deadline

    def _publish(self, updater: Updater) -> None:
        edges = updater.edges
        now = self.releases
        if (updater.changes, updater.phase, edges) != (now.changes, now.phase, now.edges):
            self.releases = Releases(updater.changes, updater.roles(), edges, updater.phase)

    def _read_inbox(self) -> None:
        while self._inbox:
            what, *values = self._inbox.popleft()
            if self._updater is None:
                continue
            if what == "logged":
                self._step("update", self._updater.edges_logged, values[0])
            elif values[0] == self.releases.observed:
                self._updater.report(*values[1:])

    # ------------------------------------------------------------ beginning

    def _enrol(self, now_ns: int) -> int:
        if now_ns < self._enrol_ns:
            return self._enrol_ns
        identity = self._step("enrol", self._try_enrol)
        if identity is None:
            self._hang_up()
            bound = self._config.backoff_ns * 2 ** min(self._failures, 30)
            wait = self._uniform() * min(bound, self._config.backoff_max_ns)
            self._failures += 1
            self._enrol_ns = now_ns + int(wait)
            return self._enrol_ns
        self._begin(identity)
        return now_ns

    def _try_enrol(self) -> Identity:
        invitation = self._fs.read_file(f"{self._keys}/invite", INVITE_BYTES_MAX)
        return enrol(self._fs, self._keys, invitation, self._transport, self._entropy)

    def _begin(self, identity: Identity) -> None:
        config = self._config
        self._identity = identity
        policy = Policy(
            config.envelope_bytes,
            config.idle_ns / SECOND,
            config.backoff_ns / SECOND,
            config.backoff_max_ns / SECOND,
            config.sends_dense,
            config.priority,
        )
        self._syncer = Syncer(
            self._log, self._transport, identity, self._fs, f"{config.state}/sync",
            self._uniform, self._entropy, policy, self._evidence.heard if self._evidence else None,
            self._raw, self._clock.monotonic_ns,
        )  # fmt: skip
        self._updater = self._step("update", self._open_updater, identity)
        if self._updater is not None:
            self.floor_ns = self._updater.heard(0)
            self._publish(self._updater)

    def _open_updater(self, identity: Identity) -> Updater:
        from edgecore.artifacts import ArtifactStore
        from edgecore.device import update

        config = self._config
        policy = update.Policy(
            config.idle_ns / SECOND, config.backoff_ns / SECOND, config.backoff_max_ns / SECOND
        )
        self._store = ArtifactStore.open(
            f"{config.state}/artifacts", fs=self._fs, quota_bytes=config.quota_bytes
        )
        return update.Updater(
            identity, self._transport, self._fs, self._store, f"{config.state}/updates",
            self._clock, self._loader, policy=policy, uniform=self._uniform,
        )  # fmt: skip

    def close(self) -> None:
        if self._updater is not None:
            self._updater.close()
        for part in (self._store, self._evidence):
            if part is not None:
                part.close()


__all__ = ["Evidence", "Link", "Releases"]
