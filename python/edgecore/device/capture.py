"""The capturing half of the agent: source → log → answers, whatever the link does.

Step-driven. What the log cannot take (a full disk) stays in one batch that is offered again; the
source is not asked for more meanwhile, so a file loses nothing and a machine's missed readings are
counted. Accounts of the input go to ``edgecore.ingest`` behind the rows that they count, so that a
restart never counts a row that the crash took.
"""

from __future__ import annotations

from edgecore._core.rows import Batch
from edgecore.device.late import LateRows
from edgecore.device.sources import SECOND
from edgecore.errors import EdgecoreError, Exhausted, Unavailable
from edgecore.streams import INGEST, UPDATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgecore.clock import Clock
    from edgecore.device.config import Config
    from edgecore.device.history import History
    from edgecore.device.link import Link, Releases
    from edgecore.device.serving import Serving
    from edgecore.device.sources import Source
    from edgecore.device.summaries import Summaries
    from edgecore.log import Log

RETRY_NS = SECOND


class Totals:
    """Of this run: what the source's accounts said, summed."""

    __slots__ = ("accepted", "late", "missed", "off_grid", "rejected")

    def __init__(self) -> None:
        self.accepted = self.rejected = self.off_grid = self.late = self.missed = 0


class Capture:
    """Source, log and answers of one device. For one thread."""

    def __init__(
        self,
        config: Config,
        log: Log,
        clock: Clock,
        source: Source | None,
        history: History,
        serving: Serving,
        link: Link | None,
        notice: Callable[[str], None],
        summaries: Callable[[], Summaries] | None = None,
        may_expire: Callable[[], bool] = lambda: True,
    ) -> None:
        self._config = config
        self._log = log
        self._clock = clock
        self._source = source
        self._serving = serving
        self._link = link
        self._notice = notice
        self._batch = Batch(source.schema, clock) if source is not None else None
        self._source_ns = 0
        self._retry_ns = 0
        self._ingest_ns = 0
        self._snapshot_ns = 0
        self._summary_ns = 0
        self._losses_told = False
        self._open_summaries = summaries
        self._may_expire = may_expire
        self._summaries: Summaries | None = None
        self._history = history
        self.edges = history.edges
        self._logged = history.logged
        self._releases: Releases | None = None
        self._unserved = self._unlogged = False
        self._announced = ""
        self.totals = Totals()
        self._late = (
            None if source is None
            else LateRows(log, serving, config.name)
        )  # fmt: skip
        self.errors: dict[str, EdgecoreError | None] = {}
        if link is not None and self._logged:
            link.tell("logged", self._logged)

    @property
    def waiting(self) -> int:
        """Rows that were captured and that the log could not take yet."""
        return len(self._batch) if self._batch is not None else 0

    # ------------------------------------------------------------ stepping

    def poll(self, now_ns: int) -> int:
        """Does what is due; returns the monotonic time (ns) of the next useful call."""
        if not self._losses_told:  # before a release replays the log
            self._losses_told = self._step("gaps", self._serving.tell_losses)
        self._take_releases()
        deadline = now_ns + SECOND
        if self.waiting:
            if now_ns >= self._retry_ns:
                self._log_batch(now_ns)
            deadline = min(deadline, self._retry_ns if self.waiting else now_ns)
        elif self._source is not None and not self._source.finished:
            if now_ns >= self._source_ns:
                self._take(now_ns)
            deadline = min(deadline, self._source_ns)
        if now_ns >= self._summary_ns:
            self._summary_ns = now_ns + self._config.summary_every_ns
            if self._summarise():
                self._summary_ns = now_ns
        if now_ns >= self._ingest_ns:
            self._ingest_ns = now_ns + self._config.ingest_every_ns
            self._step("ingest", self.account)
            self._step("late", self._tell_late)
        if now_ns >= self._snapshot_ns:
            self._keep_summaries()  # before rows may go
            well = self._step("snapshot", self._snapshot) and self._step("room", self._maintain)
            self._snapshot_ns = now_ns + (self._config.snapshot_every_ns if well else RETRY_NS)
        return min(deadline, self._ingest_ns, self._snapshot_ns, self._summary_ns)

    def commit(self, now_ns: int) -> int:
        """Commits what the log has due; returns the next deadline. For a log without a thread."""
        deadlines = []
        self._step("commit", lambda: deadlines.append(self._log.poll(now_ns)))
        return deadlines[0] if deadlines else now_ns + RETRY_NS

    def _step(self, part: str, act: Callable[..., Any], *values: Any) -> bool:
        """Runs one part; a full or failing disk stands under its name until it goes well again."""
        try:
            act(*values)
        except (Exhausted, Unavailable) as error:
            self.errors[part] = error
            return False
        self.errors[part] = None
        return True

    @property
    def summaries_made(self) -> int:
        """In this run."""
        return self._summaries.made if self._summaries is not None else 0

    def _keep_summaries(self) -> None:
        self._summarise()
        if self._summaries is not None:
            self._step("kept", self._summaries.save)

    def _summarise(self) -> bool:
        """Whether there is more to do at once. What goes wrong here stops nothing else."""
        if self._open_summaries is None:
            return False
        try:
            behind = self._follow_log(self._open_summaries)
        except EdgecoreError as error:
            self.errors["summaries"] = error
            return False
        self.errors["summaries"] = None
        return behind

    def _follow_log(self, begin: Callable[[], Summaries]) -> bool:
        """Begun here, not at the opening: a full disk keeps no device from starting."""
        if self._summaries is None:
            self._summaries = begin()
            for text in self._summaries.notices:
                self._notice(text)
        self._summaries.follow(self._clock.monotonic_ns())
        return self._summaries.behind

    def _snapshot(self) -> None:
        """What a restart needs of all rows until now, so that it needs none of them."""
        self.account()
        self._tell_late()
        self._history.save(self._log)
        self._serving.snapshot()

    def _maintain(self) -> None:
        """Keeps the log within its bounds; what it drops is older than the snapshot."""
        if self._log.maintain(dense=self._config.dense, expire=self._may_expire()).dropped:
            self._history.follow(self._log)
            self._losses_told = False

    # ------------------------------------------------------------ source and log

    def _take(self, now_ns: int) -> None:
        assert self._source is not None
        assert self._batch is not None
        try:
            self._source_ns = self._source.take(now_ns, self._batch)
        except EdgecoreError as error:  # the source ends here; device and link go on
            self.errors["source"] = error
        for reason in self._source.counts.reasons:
            if not self._announced:  # the first of each account; all are counted
                self._announced = reason
                self._notice(f"Invalid: {self._config.path or 'source'}: {reason}")
        if self.waiting:
            self._log_batch(now_ns)
        elif self._source.finished:
            self._step("ingest", self.account)

    def _log_batch(self, now_ns: int) -> None:
        if self._step("log", self._process):
            assert self._batch is not None
            self._batch.clear()
            if self._source is not None and self._source.finished:
                self._step("ingest", self.account)
        else:
            self._retry_ns = now_ns + RETRY_NS

    def _process(self) -> None:
        assert self._batch is not None
        self._report(self._serving.process(self._batch))

    def _report(self, seen: tuple[int, int, int]) -> None:
        """What the release under observation did: predictions judged, alarms, errors."""
        if self._link is not None and any(seen) and self._releases is not None:
            self._link.tell("report", self._releases.observed, *seen)

    def account(self) -> None:
        """Appends the source's counts since the last account, if there are any."""
        if self._source is None or self.waiting:
            return
        counts, totals = self._source.counts, self.totals
        if not (counts.accepted or counts.rejected or counts.missed):
            return
        row = counts.row(self._source.schema.stream)
        row["source"] = self.source_id
        self._log.append(INGEST.stream, row)
        for name in totals.__slots__:
            setattr(totals, name, getattr(totals, name) + getattr(counts, name))
        counts.clear()
        self._announced = ""

    def _tell_late(self) -> None:
        if self._late is not None:
            self._late.tell()

    @property
    def source_id(self) -> str:
        return self._config.name

    # ------------------------------------------------------------ releases

    def _take_releases(self) -> None:
        """Puts in place what the updater published, and logs its rows."""
        if self._link is None:
            return
        releases = self._link.releases
        if releases is not self._releases:
            self._releases, self._unlogged, self._unserved = releases, True, True
        if self._unserved and self._step("release", self._serve, releases):
            self._unserved = False
        if self._unlogged and self._step("edges", self._log_edges, releases.edges):
            self._unlogged = False

    def _serve(self, releases: Releases) -> None:
        self._report(self._serving.apply(releases.roles, releases.observed))

    def _log_edges(self, edges: list[dict[str, Any]]) -> None:
        for row in edges:
            if row["source_seq"] > self._logged:
                self._log.append(UPDATE.stream, row)
                self._logged = row["source_seq"]
        if edges and self._link is not None:
            self._log.sync()
            self._history.follow(self._log)
            self._link.tell("logged", self._logged)

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Brings what is left to stable storage, as far as the disk allows."""
        if self.waiting:
            self._log_batch(self._clock.monotonic_ns())
        self._step("ingest", self.account)
        self._step("late", self._tell_late)
        self._keep_summaries()
        self._step("snapshot", self._serving.snapshot)
        self._step("log", self._log.sync)


__all__ = ["Capture"]
