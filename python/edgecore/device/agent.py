"""The agent: one device, whole. Capture, answers, link and releases over one log.

    with Device.open("edge.toml") as device:
        device.append("pump", {"temp": 20.1})        # beside what the source captures
        deadline = device.poll(time.monotonic_ns())  # does what is due; call again by then
        device.status()

Step-driven: nothing happens but in :meth:`Device.poll`, and clock, storage, transport and chance
are given, so that a whole life of a device runs in a test without waiting. ``run`` is the same with
a thread for the link, so that a hub that does not answer never holds up a reading.
"""

from __future__ import annotations

from functools import partial

from edgecore.clock import SystemClock
from edgecore.device import status
from edgecore.device.capture import Capture
from edgecore.device.config import Config
from edgecore.device.config import load as load_config
from edgecore.device.gaps import open_gaps
from edgecore.device.history import History
from edgecore.device.host import HostSource
from edgecore.device.link import Link
from edgecore.device.raw import check_rule
from edgecore.device.schema_file import SchemaFile
from edgecore.device.schema_file import load as load_schema
from edgecore.device.serving import Serving, load
from edgecore.device.timekeeper import Timekeeper
from edgecore.errors import EdgecoreError, Invalid
from edgecore.fs import PosixFs
from edgecore.log import Log
from edgecore.streams import SUMMARIES, SYSTEM_STREAMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgecore.clock import Clock
    from edgecore.device.sources import Source
    from edgecore.device.summaries import Summaries
    from edgecore.device.transport import HttpTransport, Transport
    from edgecore.device.view_summaries import ViewSummary
    from edgecore.fs import Fs
    from edgecore.pipeline import Predictions
    from edgecore.rules.summary import Rule
    from edgecore.schema import Schema
    from edgecore.trust.at_rest import Cipher
    from edgecore.wire.invite import Invite

NOTICES_MAX = 64


def schema_of(config: Config) -> SchemaFile | None:
    """The schema file that a configuration names, with what `edge.toml` says over it."""
    if not config.schema:
        return None
    how = load_schema(config.schema)
    how.time = config.time or how.time
    how.time_format = config.time_format or how.time_format
    how.delimiter = config.delimiter or how.delimiter
    if config.kind == "csv" and not how.time:
        raise Invalid(f"{config.schema} names no time column: say source.time in edge.toml")
    return how


def further_schemas(config: Config) -> list[Schema]:
    """Of the streams that a configuration names besides the source's."""
    return [load_schema(path).schema for path in config.streams]


def source_schema(config: Config, how: SchemaFile | None) -> Schema | None:
    """Of the stream that releases answer; `how` of :func:`schema_of`."""
    return HostSource.schema if config.kind == "host" else how.schema if how else None


class Device:
    """See the module. Made by :meth:`open`; a context manager. For one thread."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        fs: Fs,
        transport: Transport | None,
        uniform: Callable[[], float],
        entropy: Callable[[int], bytes],
        flusher: str,
    ) -> None:
        self.config = config
        self.notices: list[str] = []
        self._clock = clock
        self._fs = fs
        self._flusher = flusher
        self._started_ns = clock.wall_ns()
        self._state = "running"
        self._said: dict[str, str] = {}
        self._status_ns = 0
        fs.make_directories(f"{config.state}/keys")
        how = schema_of(config)
        schemas = [*SYSTEM_STREAMS, *([how.schema] if how is not None else [])]
        if config.kind == "host":
            schemas.append(HostSource.schema)
        further = further_schemas(config)
        schemas += further
        names = [one.stream for one in schemas]
        if twice := {name for name in names if names.count(name) > 1}:
            raise Invalid(f"device.streams: {min(twice)} is a stream of this device already")
        self._log = Log.open(
            f"{config.state}/log", schemas=schemas, flusher=flusher, clock=clock, fs=fs,
            durability=config.durability, segment_bytes=config.segment_bytes, entropy=entropy,
            retention=config.retention, max_bytes=config.max_bytes or None,
            priority=config.priority,
            cipher=_cipher(config, fs, entropy),
        )  # fmt: skip
        try:
            self._open_rest(how, further, transport, uniform, entropy)
        except BaseException:
            self._log.close()
            raise

    def _open_rest(
        self,
        how: SchemaFile | None,
        further: list[Schema],
        transport: Transport | None,
        uniform: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        config, fs, clock = self.config, self._fs, self._clock
        rules, views, begin = self._rules(), self._views_told(), self._log.position
        names = [rule.name for rule in rules] + [view.name for view in views]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise Invalid(f"two summaries are named {twice!r}: give one a name")
        for stream, word in config.raw.items():
            check_rule(self._log.schema(stream), word, config.retention, bool(config.max_bytes))
        history = History(self._log, config.name, fs, f"{config.state}/history")
        self._history = history
        self._source = self._open_source(how, history)
        self.schema = source_schema(config, how)
        gaps = open_gaps(config, self._log, self.schema, clock, lambda: self._time.take_jumps())
        self._serving = Serving(self._log, self.schema, fs, f"{config.state}/snapshot", gaps)
        self.link: Link | None = None
        self._transport = transport
        if config.hub_enabled and has_hub(fs, config):
            self._transport = transport or http_transport(fs, config)
            self.link = Link(
                config, self._log, fs, self._transport, clock, uniform, entropy,
                partial(load, schema=self.schema, backend=config.backend, further=further),
            )  # fmt: skip
        link = self.link
        self._time = Timekeeper(
            self._log, clock, config.name, history.confirmed,
            lambda: link.signed_time if link is not None else None,
            lambda: link.floor_ns if link is not None else 0,
        )  # fmt: skip
        self._time.poll()
        self._capture = Capture(
            config, self._log, clock, self._source, history, self._serving, self.link,
            self.notices.append,
            self._summaries(rules, views, begin), lambda: self._time.may_expire,
        )  # fmt: skip

    @staticmethod
    def open(
        path: str,
        *,
        clock: Clock | None = None,
        fs: Fs | None = None,
        transport: Transport | None = None,
        uniform: Callable[[], float] | None = None,
        entropy: Callable[[int], bytes] | None = None,
        flusher: str = "thread",
    ) -> Device:
        """Opens the device of an ``edge.toml``; its log is recovered and its release verified.

        :param transport: to the hub; by default HTTP to the one that the invite names.
        :param flusher: of the log, see :meth:`edgecore.Log.open`.
        Raises ``Invalid`` for what the configuration says wrong, ``Unavailable`` for a file that
        cannot be read or a state directory that another process has."""
        import os
        import random

        return Device(
            load_config(path),
            clock=clock or SystemClock(),
            fs=fs or PosixFs(),
            transport=transport,
            uniform=uniform or random.random,
            entropy=entropy or os.urandom,
            flusher=flusher,
        )

    def _rules(self) -> list[Rule]:
        """Of the summaries that are wanted. Raises ``Invalid`` for what the streams can't give."""
        return [item.rule(self._log.schema(item.stream)) for item in self.config.summaries]

    def _views_told(self) -> list[ViewSummary]:
        """Feature views that are told on a schedule. Raises ``Invalid`` for one that is none, and
        ``Incompatible`` for one that its stream can't serve."""
        if not self.config.views_told:
            return []
        from edgecore.device.view_summaries import read_view_summary

        return [read_view_summary(one, self._log) for one in self.config.views_told]

    def _summaries(
        self, rules: list[Rule], views: list[ViewSummary], begin: int
    ) -> Callable[[], Summaries] | None:
        """What makes them, where there are any or have been."""
        known = [name for _, name, _ in self._log.partitions()]
        if not rules and not views and SUMMARIES.stream not in known:
            return None
        from edgecore.device.summaries import Summaries

        directory = f"{self.config.state}/summaries"
        return partial(Summaries, self._log, self._fs, directory, rules, begin, views)

    def _open_source(self, how: SchemaFile | None, history: History) -> Source | None:
        config = self.config
        if config.kind == "host":
            return HostSource(self._clock, interval_ns=config.interval_ns, source=config.name)
        if config.kind == "none":
            return None
        from edgecore.device.csv_source import CsvSource

        assert how is not None
        held = history.lines_held(self._log, how.schema.stream, config.name)
        return CsvSource(
            config.path, how, source=config.name, rows_per_second=config.rows_per_second,
            through=history.through, held=held, ignore=config.ignore, follow=config.follow,
        )  # fmt: skip

    @property
    def log(self) -> Log:
        """The device's log, e.g. to scan it."""
        return self._log

    # ------------------------------------------------------------ rows from outside

    def append(self, stream: str, rows: Any) -> Any:
        """Appends rows beside the source's; see :meth:`edgecore.Log.append`. Rows of the stream
        that a release answers are answered, and their ``Predictions`` returned."""
        return self._serving.append(stream, rows)

    def predict(self, rows: Any) -> Predictions:
        """Logs rows of the source stream and answers them; see :meth:`edgecore.pipeline.Pipeline.
        process`. Raises ``Unavailable`` before the first release."""
        return self._serving.predict(rows)

    # ------------------------------------------------------------ stepping

    def poll(self, now_ns: int) -> int:
        """Does everything that is due; returns the monotonic time (ns) of the next deadline."""
        deadline = self.poll_capture(now_ns)
        if self.link is not None:
            deadline = min(deadline, self.link.poll(now_ns))
        return deadline

    def poll_capture(self, now_ns: int) -> int:
        """:meth:`poll` without the link, for a caller that gives the link a thread."""
        self._time.poll()
        deadline = self._capture.poll(now_ns)
        if self._flusher == "manual":
            deadline = min(deadline, self._capture.commit(now_ns))
        self._announce()
        if now_ns >= self._status_ns:
            self._status_ns = now_ns + self.config.status_every_ns
            self._write_status()
        return min(deadline, self._status_ns)

    def _announce(self) -> None:
        """One notice when a part goes wrong, or goes wrong otherwise, and one when it is well."""
        errors = self.errors()
        for part in {*errors, *self._said}:
            now, before = errors.get(part, ""), self._said.get(part, "")
            if now != before:
                self.notices.append(now or f"Ok: {part} is well again")
        self._said = errors
        del self.notices[:-NOTICES_MAX]

    def errors(self) -> dict[str, str]:
        """Part -> outcome and what it says, of everything that is wrong now."""
        found = {**self._capture.errors, "answers": self._serving.error, "clock": self._time.error}
        if self.link is not None:
            found |= dict(self.link.errors)
        return {part: status.words(error) for part, error in found.items() if error is not None}

    # ------------------------------------------------------------ what it says of itself

    def status(self) -> dict[str, Any]:
        """What ``status.json`` holds: see docs/runbooks/device.md."""
        import os

        import edgecore

        recovery = self._log.recovery
        return {
            "name": self.config.name,
            "state": self._state,
            "version": edgecore.__version__,
            "pid": os.getpid(),
            "time": self._clock.wall_ns(),
            "started": self._started_ns,
            "errors": self.errors(),
            "clock": self._time.status(),
            "log": self._log_status(),
            "recovery": {
                "clean": recovery.clean,
                "tail_uncertain": recovery.tail_uncertain,
                "missing": recovery.missing,
                "ranges": [list(item) for item in recovery.ranges],
            },
            "link": self.link.status() if self.link is not None else NO_LINK,
            "release": self._release_status(),
            "predictions": self._serving.status(),
            "source": self._source_status(),
        }

    def _log_status(self) -> dict[str, Any]:
        log, cursor = self._log, self._log.cursor("sync")
        partitions = []
        unacked = 0
        gone = self._gone()
        for number, stream, tier in log.partitions():
            head, acked = log.next_sequence(number) - 1, cursor.acked(number)
            waiting = max(0, head - acked - gone.get(number, 0))
            rule = self.config.raw.get(stream, "send")
            withheld = rule != "send"
            unacked += 0 if withheld else waiting
            partitions.append(
                {
                    "partition": number, "stream": stream, "tier": tier, "head": head,
                    "acked": acked, "unacked": 0 if withheld else waiting,
                    "raw": rule, "kept": waiting if withheld else 0,
                }
            )  # fmt: skip
        return {
            "store": log.store_id.hex(),
            "epoch": log.epoch,
            "position": log.position,
            "durable_position": log.durable_position,
            "unacked": unacked,
            "disk_bytes": log.disk_bytes,
            "max_bytes": self.config.max_bytes,
            "priority": list(self.config.priority),
            "dropped": self._history.dropped,
            "waiting": self._capture.waiting,
            "encryption": log.encryption().facts(),
            "partitions": partitions,
        }

    def _gone(self) -> dict[int, int]:
        """By partition, sequences that no row will bring to the hub, whatever the reason."""
        acked, gone = self._log.cursor("sync").acked, dict[int, int]()
        for partition, first, last in self._history.losses:
            count = max(0, last - max(first - 1, acked(partition)))
            gone[partition] = gone.get(partition, 0) + count
        return gone

    def _release_status(self) -> dict[str, Any]:
        releases = self.link.releases if self.link is not None else None
        if releases is None:
            return {"phase": "empty", "active": None, "trial": None, "roles": [], "edges": []}
        roles = [
            {"role": role, "path": release.path, "digest": release.digest.hex()}
            for role, release, _ in releases.roles
        ]
        on_trial = releases.phase == "trial" and bool(roles)
        serving = roles[:-1] if on_trial else roles
        return {
            "phase": releases.phase,
            "active": serving[0] if serving else None,
            "trial": roles[-1] if on_trial else None,
            "roles": roles,
            "edges": list(self._capture.edges),
        }

    def _source_status(self) -> dict[str, Any]:
        counts = self._source.counts if self._source is not None else None
        totals = self._capture.totals
        out: dict[str, Any] = {
            name: getattr(totals, name) + (getattr(counts, name) if counts is not None else 0)
            for name in totals.__slots__
        }
        return {
            "kind": self.config.kind,
            "stream": self._source.schema.stream if self._source is not None else "",
            "through": counts.through if counts is not None else 0,
            "finished": self._source is not None and self._source.finished,
            **out,
        }

    def _write_status(self) -> None:
        try:
            status.write(self._fs, self.config.state, self.status())
        except EdgecoreError as error:
            self._capture.errors["status"] = error
        else:
            self._capture.errors["status"] = None

    # ------------------------------------------------------------ the end

    def abort_link(self) -> None:
        """From another thread than the link's: ends the exchange that it may be waiting in."""
        abort = getattr(self._transport, "abort", None)
        if abort is not None:
            abort()

    def drain(self, until_ns: int) -> None:
        """Last exchanges before the end, up to monotonic `until_ns`: what is logged reaches the
        hub if it answers at all. The link's thread must have ended."""
        self._capture.close()
        while self.link is not None and self.link.connected and self._log_status()["unacked"]:
            now = self._clock.monotonic_ns()
            if now >= until_ns or self.link.poll(now) > until_ns:
                return

    def close(self, *, leave_log: bool = False) -> None:
        """Ends in order: the rest is logged and durable. Safe to call twice.

        :param leave_log: the link's thread still hangs in an exchange and may yet use the log;
            all is durable, but the next opening finds an end that was not orderly."""
        if self._state != "running":
            return
        self._capture.close()
        self._state = "stopped"
        self._announce()
        self._write_status()
        if not leave_log:
            self.release()
            self._log.close()

    def release(self) -> None:
        """Lets go of open files without logging or syncing anything."""
        for part in (self._source, self._transport):
            close = getattr(part, "close", None)
            if close is not None:
                close()
        if self.link is not None:
            self.link.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


NO_LINK: dict[str, Any] = {
    "enrolled": False, "connected": False, "last_contact": 0, "sent": 0, "received": 0,
    "held_by_hub": {}, "forks": {}, "order": {"number": 0, "release": ""},
}  # fmt: skip


def _cipher(config: Config, fs: Fs, entropy: Callable[[int], bytes]) -> Cipher | None:
    """A device key is made only for a log that has nothing encrypted with another, or when that
    other is told of."""
    if not config.encryption_key:
        return None
    from edgecore.device.keystore import open_cipher

    log = f"{config.state}/log"
    fs.make_directories(log)
    return open_cipher(
        config.encryption_key, fs, entropy=entropy, cipher=config.encryption_cipher,
        make=bool(config.encryption_older) or not fs.exists(f"{log}/keys"), beside=log,
        older=config.encryption_older,
    )  # fmt: skip


def has_hub(fs: Fs, config: Config) -> bool:
    """Whether the device was given an invite."""
    keys = f"{config.state}/keys"
    return fs.exists(f"{keys}/identity") or fs.exists(f"{keys}/invite")


def http_transport(fs: Fs, config: Config) -> HttpTransport:
    """HTTP to the hub that the invite names."""
    from edgecore.device.enrol import load
    from edgecore.device.link import INVITE_BYTES_MAX
    from edgecore.device.transport import HttpTransport
    from edgecore.wire import invite

    keys = f"{config.state}/keys"
    identity = load(fs, keys)
    invited: Invite = (
        identity.invite
        if identity is not None
        else invite.decode(fs.read_file(f"{keys}/invite", INVITE_BYTES_MAX))
    )
    return HttpTransport(invited.url, config.timeout_ns / 1e9)


__all__ = ["Device", "has_hub", "further_schemas", "http_transport", "schema_of",
           "source_schema"]  # fmt: skip
