"""The summaries that a device makes of its streams: it follows the log and appends to it.

A part of a pane is appended behind the rows that it counts, so a crash that keeps it keeps them.
What is open is kept in a file when everything up to its position is durable; a restart goes on from
there, leaves out rows whose part the log holds already, and makes the parts that a crash took
again, bit for bit. A rule that is changed or no longer wanted ends first: what is open of it is
closed as it is. The rules themselves are rows of ``edgecore.summaries``.
"""

from __future__ import annotations

from contextlib import suppress

from edgecore.digest import DIGEST_BYTES, blake3
from edgecore.errors import Corrupt, Incompatible
from edgecore.rules.panes import STATE_BYTES_MAX, Panes
from edgecore.rules.summary import Pane, pane_of_row, rule_of
from edgecore.streams import SUMMARIES
from edgecore.wire import catalogue, rowbatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from edgecore.device.view_summaries import Teller, ViewSummary
    from edgecore.fs import Fs
    from edgecore.log import Log
    from edgecore.rules.summary import Rule
    from edgecore.schema import Schema

STORE_BYTES = 16
APPEND_ROWS = 512
FOLLOW_ROWS = 20_000  # at a time: a long past keeps nothing else waiting


def raw_rows(log: Log, schema: Schema, after: int = 0) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(position, HLC, row) of a stream's rows of one schema, in order, values on their grid."""
    fields = catalogue.read_schema(schema.canonical_bytes)
    for scanned in log.scan(schema.stream, after=after):
        if scanned.schema is not None and scanned.schema.fingerprint == schema.fingerprint:
            rows = rowbatch.read_rows(fields, scanned.payload)
            for at, (_, row) in enumerate(rows, scanned.position):
                yield at, scanned.hlc, row


def parts(log: Log, rule: Rule, after: int = 0) -> Iterator[Pane]:
    """The parts of a rule that the log holds; a row that is none is `log summaries`' to name."""
    for schema in log.schemas():
        if schema.stream == rule.name:
            for _, _, row in raw_rows(log, schema, after):
                with suppress(Corrupt):
                    yield pane_of_row(rule, row)


def rules_of(log: Log) -> dict[str, tuple[int, bytes]]:
    """Of each name, the position and the body of its newest rule; no body: it has ended."""
    found: dict[str, tuple[int, bytes]] = {}
    if any(stream == SUMMARIES.stream for _, stream, _ in log.partitions()):
        for scanned in log.scan(SUMMARIES.stream):
            for at, row in enumerate(scanned.rows(), scanned.position):
                found[row["name"]] = (at, bytes(row["body"] or b""))
    return found


def rule_number(body: bytes) -> int:
    """Of a rule's bytes."""
    return int.from_bytes(blake3(body)[:6], "little")


def read_rule(log: Log, body: bytes) -> Rule:
    """Of its bytes, for a schema that the log knows. Raises ``Corrupt`` or ``Incompatible``."""
    for schema in log.schemas():
        try:
            return rule_of(body, schema)
        except Incompatible:
            continue
    raise Incompatible("a summary whose rule, or whose stream's schema, is not of this build")


class Follower:
    """One rule, followed. Appends may fail: what is owed is then appended by the next call."""

    def __init__(self, log: Log, fs: Fs, path: str, rule: Rule, begin: int) -> None:
        self.rule = rule
        self._log = log
        self._fs = fs
        self._path = path
        self._owed: list[Pane] = []
        self.behind = False
        self._looked = 0  # no row of the stream up to here is left
        self._quiet_ns = -1  # since when nothing came, by the monotonic clock
        self._saved = (-1, 0)
        self._panes = self._load() or Panes(rule, begin)
        for part in parts(log, rule, self._panes.position):
            self._panes.covered(part)

    def _load(self) -> Panes | None:
        """What was kept, unless it is damaged or of another log, or of rows that are not there."""
        if not self._fs.exists(self._path):
            return None
        try:
            kept = self._fs.read_file(self._path, STATE_BYTES_MAX)
            if blake3(kept[DIGEST_BYTES:]) != kept[:DIGEST_BYTES]:
                return None
            store, body = kept[DIGEST_BYTES:][:STORE_BYTES], kept[DIGEST_BYTES + STORE_BYTES :]
            panes = Panes.from_bytes(body, self.rule)
        except Corrupt:
            return None
        fits = store == self._log.store_id and panes.position <= self._log.position
        return panes if fits else None

    def follow(self, now_ns: int | None = None) -> int:
        """Takes in what came since, as much as is done at a time (`behind` says whether there is
        more); returns how many parts were appended. What is open when nothing has come for a period
        and the lateness, by monotonic `now_ns`, is closed."""
        done = self._append()
        panes = self._panes
        before = panes.position
        self.behind = False
        last = self._log.position
        # While the stream is silent, what others have brought is not gone through again.
        rows = raw_rows(self._log, self.rule.source, max(before, self._looked))
        for count, (position, hlc, row) in enumerate(rows, 1):
            self._owed += panes.add(position, hlc, row)
            if len(self._owed) >= APPEND_ROWS:
                done += self._append()
            if count == FOLLOW_ROWS:
                self.behind = True
                break
        else:
            self._looked = last
        if now_ns is not None:
            if panes.position != before or self._quiet_ns < 0:
                self._quiet_ns = now_ns
            elif now_ns - self._quiet_ns > self.rule.period + self.rule.lateness:
                self._owed += panes.flush()
        return done + self._append()

    def _append(self) -> int:
        done = 0
        while self._owed:
            some = self._owed[:APPEND_ROWS]
            self._log.append(self.rule.name, [part.row() for part in some])
            del self._owed[: len(some)]
            done += len(some)
        return done

    def end(self) -> int:
        """Closes what is open, as it is; the position up to which it has counted."""
        self.follow()
        while self.behind:
            self.follow()
        self._owed += self._panes.flush()
        self._append()
        return self._panes.position

    @property
    def changed(self) -> bool:
        """Whether there is something to keep, and nothing owed that a restart would not know of."""
        return not self._owed and self._mark() != self._saved

    def save(self) -> None:
        """Keeps the state. Everything it has taken in, and made, must be durable."""
        if self.changed:
            rest = self._log.store_id + self._panes.to_bytes()
            self._fs.write_atomic(self._path, blake3(rest) + rest)
            self._saved = self._mark()

    def _mark(self) -> tuple[int, int]:
        return self._panes.position, len(self._panes.open)

    def forget(self) -> None:
        if self._fs.exists(self._path):
            self._fs.remove(self._path)


class Summaries:
    """All that a device makes. For one thread.

    :param rules: what is wanted, each of another name; :param directory: where states are kept;
    :param views: feature views that are told on a schedule;
    :param begin: a rule that is new counts rows behind this position, or where the one before it of
    its name has ended."""

    def __init__(
        self,
        log: Log,
        fs: Fs,
        directory: str,
        rules: list[Rule],
        begin: int | None = None,
        views: Sequence[ViewSummary] = (),
    ) -> None:
        self._log = log
        self._fs = fs
        self._directory = directory
        self._from = dict.fromkeys(
            (rule.name for rule in rules), log.position if begin is None else begin
        )
        self.notices: list[str] = []
        self.made = 0
        wanted: dict[str, Rule | ViewSummary] = {rule.name: rule for rule in rules}
        wanted |= {view.name: view for view in views}
        known = rules_of(log)
        if wanted:
            fs.make_directories(directory)
            log.register(SUMMARIES)
        for name, (position, body) in known.items():
            if body and (name not in wanted or wanted[name].body != body):
                self._end(name, position, body, name in wanted)
        self._followers: list[Follower | Teller] = [
            self._begin(rule, *known.get(rule.name, (0, b""))) for rule in rules
        ]
        self._followers += [self._tell(view, *known.get(view.name, (0, b""))) for view in views]

    def _path(self, name: str) -> str:
        return f"{self._directory}/{blake3(name.encode()).hex()[:16]}"

    def _end(self, name: str, position: int, body: bytes, replaced: bool) -> None:
        try:
            old = self._old(name, position, body)
        except (Corrupt, Incompatible) as error:
            self.notices.append(f"{error.word}: summary {name}: {error}; it ends as it is")
            return
        self._from[name] = old.end()
        if not replaced:
            rule = rule_number(body)
            self._log.append(SUMMARIES.stream, {"name": name, "rule": rule, "body": None})
        self._log.sync()
        old.forget()

    def _old(self, name: str, position: int, body: bytes) -> Follower | Teller:
        """Of a rule that ends."""
        from edgecore.device import view_summaries

        path = self._path(name)
        if view_summaries.is_view(body):
            told = view_summaries.view_summary_of(body, self._log.schemas())
            return view_summaries.Teller(self._log, self._fs, path, told, position)
        return Follower(self._log, self._fs, path, read_rule(self._log, body), position)

    def _begin(self, rule: Rule, position: int, body: bytes) -> Follower:
        """Goes on with the rule, or begins with it."""
        if body != rule.body:
            self._declare(rule)
            position = self._from[rule.name]
        return Follower(self._log, self._fs, self._path(rule.name), rule, position)

    def _tell(self, view: ViewSummary, position: int, body: bytes) -> Teller:
        """Goes on with the view, or begins with it, with the rows behind its rule."""
        from edgecore.device.view_summaries import Teller

        if body != view.body:
            position = self._declare(view)
        return Teller(self._log, self._fs, self._path(view.name), view, position)

    def _declare(self, rule: Rule | ViewSummary) -> int:
        """Makes the rule the one of its name; the position of its row."""
        log = self._log
        newest = max((s for s in log.schemas() if s.stream == rule.name),
                     key=lambda schema: schema.version, default=None)  # fmt: skip
        if newest is None or newest != rule.schema(newest.version):
            log.register(rule.schema(newest.version + 1 if newest is not None else 1))
        row = {"name": rule.name, "rule": rule.id, "body": rule.body}
        return log.append(SUMMARIES.stream, row).position

    def follow(self, now_ns: int | None = None) -> None:
        """Takes in what came since the last call, and appends what it closes; at monotonic `now_ns`
        also what has been open for long while nothing came. Raises ``Exhausted``
        or ``Unavailable``; nothing is lost then, and the next call goes on."""
        for follower in self._followers:
            self.made += follower.follow(now_ns)

    @property
    def behind(self) -> bool:
        """Whether there is more to take in than one call does."""
        return any(follower.behind for follower in self._followers)

    def save(self) -> None:
        """Keeps what is open, behind everything that it was made of."""
        changed = [follower for follower in self._followers if follower.changed]
        if changed:
            self._log.sync()
        for follower in changed:
            follower.save()

    def __len__(self) -> int:
        return len(self._followers)


__all__ = ["Follower", "Summaries", "parts", "raw_rows", "read_rule", "rules_of"]
