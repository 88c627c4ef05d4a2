"""The append-only event log of a device: what happened, in order, kept through crashes.

    log = Log.open("state/log", schemas=[telemetry])
    done = log.append("telemetry", {"temp": 20.1, "rpm": 900})
    log.wait_durable(done.position)
    for scanned in log.scan("telemetry", after=0):
        scanned.rows(), scanned.columns("temp", "rpm")

One writer, many readers (``read_only=True``). An event's identity is (store id, partition,
sequence), dense per partition from 1; a position is its place in the whole log. A log carries its
own schemas (stream ``edgecore.schemas``, partition 0) and says exactly what it lost
(``edgecore.losses``). Bytes on disk: docs/formats/segment.md, pack.md and
log-side-files.md.
"""

from __future__ import annotations

import os

from edgecore import cursor as _cursor
from edgecore._core import log as _log
from edgecore.clock import SystemClock
from edgecore.errors import Corrupt, EdgecoreError, Incompatible, Invalid
from edgecore.fs import PosixFs
from edgecore.log_keeping import POSITION_MAX, Keeping
from edgecore.log_values import (
    Encryption,
    Maintained,
    Recovery,
    Retention,
    Run,
    Scanned,
    durabilities,
    limits_of,
    parse_durability,
    ranked,
    table_facts,
)
from edgecore.schema import TIERS, Schema
from edgecore.streams import CLOCK, LOSSES, SCHEMAS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from edgecore.clock import Clock
    from edgecore.corrections import Corrections
    from edgecore.fs import Fs
    from edgecore.log_values import Range

SEGMENT_BYTES = 1 << 20
SYNC_CURSOR = "sync"


class Log(Keeping):
    """An open log; a context manager. Thread-safe. Make one with :meth:`open`."""

    def __init__(self, core: _log.Log, fs: Fs, path: str, read_only: bool) -> None:
        self.core = core
        self.path = path
        self.read_only = read_only
        self._fs = fs
        # The core's own method stands before ours: a Python frame would add a third to its cost.
        self.append = core.append  # type: ignore[method-assign]
        self._by_number: dict[int, Schema] = {}
        self._cursors: dict[str, _cursor.Cursor] = {}
        self.cipher: Any = None
        self._releases = self._all_cursors = False
        self._clock_trust = 0
        self._announced = 0  # schemas that partition 0 names
        self.recovery = Recovery(*core.recovery())

    @staticmethod
    def open(
        path: str | os.PathLike[str],
        *,
        schemas: Iterable[Schema] = (),
        flusher: str = "thread",
        durability: dict[str, str] | None = None,
        read_only: bool = False,
        clock: Clock | None = None,
        fs: Fs | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        retain_bytes: int | None = None,
        retain_rows: int | None = None,
        retain_ns: int | None = None,
        retention: dict[str, Retention] | None = None,
        max_bytes: int | None = None,
        priority: Sequence[str] = (),
        cipher: Any = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> Log:
        """Opens the log in directory `path`, made if absent (not with ``read_only``).

        :param flusher: ``"thread"`` commits in the background; ``"manual"``: the caller calls
            :meth:`poll`.
        :param durability: by tier: ``process`` (buffered here), ``kernel`` (one write per call),
            ``group(50ms,32KiB)``, ``sync`` (on stable storage when append returns). Default:
            ``sync`` for critical, ``group`` else.
        :param retain_bytes, retain_rows, retain_ns: how much of the newest stays when every cursor
            has acknowledged it: bytes of blocks, rows, nanoseconds since it came; all that are
            given hold. None is given: everything stays. See :meth:`release`.
        :param cipher: encrypts what is written from here on, and opens what was
            (``edgecore.trust.at_rest.Cipher``). Without it an encrypted log opens ``read_only``
            alone: it is checked by its checksums, and its rows are not read.

        :param retention: by tier; a tier without one keeps what it has, and refuses appends when
            `max_bytes` leave it no room.
        :param max_bytes: of all files of the log, segments made beforehand included. What gives way
            is said by `retention`: from the tier of least worth up first packs whose rows are
            acknowledged, then those that their tier drops; an eighth of it is for ``critical``
            alone. See :meth:`maintain`.
        :param priority: tiers in order of worth, behind ``critical``, which is always the first;
            those that are not named follow as ``edgecore.schema.TIERS`` has them.

        Raises ``Unavailable`` when another writer has it, there is none to read, or rows are
        encrypted and the cipher or their keys are not there, ``Untrusted`` when these are another
        device's, ``Corrupt`` or ``Incompatible`` when it can't be read at all. Damage short of that
        is in ``recovery``."""
        if flusher not in ("thread", "manual"):
            raise Invalid(f"flusher {flusher!r}: thread or manual")
        levels = durabilities(durability or {})
        keep = (retain_bytes, retain_rows, retain_ns)
        if any(limit is not None and not 0 <= limit < 1 << 63 for limit in keep):
            raise Invalid("retain_bytes, retain_rows, retain_ns: not negative, below 2^63")
        limits = limits_of(retention or {}, max_bytes, segment_bytes)
        order = [TIERS.index(tier) for tier in ranked(priority)]
        fs = fs or PosixFs()
        name = os.fspath(path)
        core = _log.open(
            fs, name, clock or SystemClock(), levels,
            entropy(16), int.from_bytes(entropy(8), "little"),
            int.from_bytes(entropy(8), "little"), segment_bytes, flusher == "thread", read_only,
            keep, [(r.max_bytes, r.ttl_ns, r.full, r.thin) for r in limits], max_bytes, order,
            cipher,
        )  # fmt: skip
        log = Log(core, fs, name, read_only)
        log.cipher = cipher
        log._releases = not read_only and keep != (None, None, None)
        log._attach_known()
        if not read_only:
            log._register([SCHEMAS, LOSSES, *schemas])
        return log

    def _attach_known(self) -> None:
        """Gives catalogued schemas their typed form; one this build can't read stays closed."""
        for number, _, _, _, canonical in self.core.catalogue():
            try:
                schema = Schema.from_bytes(canonical)
            except (Corrupt, Incompatible):
                continue
            self.core.attach_schema(schema.core)
            self._by_number[number] = schema

    def _register(self, schemas: list[Schema]) -> None:
        before = self.core.catalogue()
        for schema in schemas:
            self.core.register_schema(schema.core)
        self._announced = len(before) if self.recovery.clean else self._count_announced()
        given = {schema.canonical_bytes: schema for schema in schemas}
        for number, _, _, _, canonical in self.core.catalogue():
            if canonical in given:
                self._by_number[number] = given[canonical]
        self._announce()
        self._record_losses()
        if any(destroyed for _, _, destroyed, *_ in self.core.encryption()[1]):
            self._tell_purged()  # should a crash have come between the two

    def _count_announced(self) -> int:
        """How many schemas partition 0 has named, in the order of their numbers: rows that are
        kept, and those that were released. A crash may have come before a schema's row."""
        numbers = {entry[4]: entry[0] for entry in self.core.catalogue()}
        later = self.scan(SCHEMAS.stream, after=self.core.segment_position - 1)
        named = [numbers.get(row["schema"], -1) + 1 for scanned in later for row in scanned]
        return max(named, default=0) or self.core.announced()

    def _announce(self) -> None:
        for number, partition, _, _, canonical in self.core.catalogue()[self._announced :]:
            self.append(SCHEMAS.stream, {"partition": partition, "schema": canonical})
            self._announced = number + 1

    def register(self, schema: Schema) -> int:
        """Adds a stream, or a new version of one. Returns its partition."""
        partition = self.core.register_schema(schema.core)
        if all(known.fingerprint != schema.fingerprint for known in self._by_number.values()):
            self._by_number[self.core.catalogue()[-1][0]] = schema
            self._announce()
        return partition

    # ------------------------------------------------------------ writing

    def append(self, stream: str, rows: Any, *, on_invalid: str = "raise") -> _log.Appended:
        """Appends rows of one stream: a dict, a list of dicts, a numpy structured array, Arrow
        data, or a ``Batch``. All or nothing, unless ``on_invalid="skip"``: then ``rejected`` has
        (index, reason) of the rows left out. Keys ``time`` (int ns UTC, default now), ``source``
        (str) and ``source_seq`` (int) are the row's own.

        Returns ``Appended(partition, first, count, position, rejected)``. Raises ``Invalid``
        naming field and value, ``Exhausted`` when the disk is full; nothing is appended then."""
        return self.core.append(stream, rows, on_invalid)

    def sync(self) -> None:
        """Brings everything appended to stable storage."""
        self.core.sync()

    def poll(self, now_ns: int) -> int:
        """Commits what is due at monotonic time `now_ns`; returns the next deadline (ns)."""
        return self.core.poll(now_ns)

    def wait_durable(self, position: int) -> None:
        """Returns when the row at `position` is on stable storage; raises why it can't be."""
        self.core.wait_durable(position)

    def close(self) -> None:
        """Ends in order: everything durable, nothing burnt. Safe to call twice."""
        for cursor in self._cursors.values():
            cursor.close()
        self._cursors.clear()
        self.core.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------ reading

    @property
    def store_id(self) -> bytes:
        """16 bytes; one per log, new when the log is made anew."""
        return self.core.store_id

    @property
    def epoch(self) -> int:
        """Random, of this open."""
        return self.core.epoch

    @property
    def clock_trust(self) -> int:
        """How far the wall clock is trusted: a value of :mod:`edgecore.corrections`, stored with
        what is committed from when it was set."""
        return self._clock_trust

    @clock_trust.setter
    def clock_trust(self, trust: int) -> None:
        if not 0 <= trust < 256:
            raise Invalid(f"clock trust {trust}: one byte")
        self.core.set_clock_trust(trust)
        self._clock_trust = trust

    @property
    def position(self) -> int:
        """Of the last row appended; 0 when there is none."""
        return self.core.position

    @property
    def data_bytes(self) -> int:
        """Bytes of packs, and of all blocks of segments, padding included; not the zeros of a
        segment's free end."""
        return self.core.data_bytes

    @property
    def durable_position(self) -> int:
        """Of the last row on stable storage."""
        return self.core.durable_position

    def schemas(self) -> list[Schema]:
        """All schemas of the log, in the order they came."""
        return [self._by_number[number] for number in sorted(self._by_number)]

    def schema(self, stream: str) -> Schema:
        """The newest schema of a stream. Raises ``Invalid`` when there is none."""
        found = [schema for schema in self.schemas() if schema.stream == stream]
        if not found:
            raise Invalid(f"the log has no stream {stream!r}")
        return max(found, key=lambda schema: schema.version)

    def partitions(self) -> list[tuple[int, str, str]]:
        """(partition, stream, tier) of each, by partition."""
        found = {
            partition: (stream, TIERS[tier])
            for _, partition, tier, stream, _ in self.core.catalogue()
        }
        return [(partition, *found[partition]) for partition in sorted(found)]

    def scan(
        self,
        stream: str | None = None,
        *,
        after: int | tuple[int, int] = 0,
        until: int | None = None,
        times: tuple[int, int] | None = None,
    ) -> Iterator[Scanned]:
        """Rows with positions in (after, until], of one stream or of all, in order of position.
        `after` may be a (partition, sequence): from the partition's next row on. A snapshot: rows
        appended later are not seen. One segment, or what one sealing made, is in memory at a
        time.

        :param times: (first, last) event time (ns), both included: only rows within. Packs whose
            rows are all outside are not opened."""
        wanted = None if stream is None else self._partitions_of(stream)
        if times is not None and wanted is None:
            wanted = {partition for partition, _, _ in self.partitions()}
        self.core.flush()
        if isinstance(after, tuple):
            after = self.core.position_before(*after)
        for core in self.core.scan(wanted, after, POSITION_MAX if until is None else until, times):
            yield Scanned(core, self._by_number.get(core.schema_number))

    def corrections(self) -> Corrections:
        """What is known of the true times of rows: see :mod:`edgecore.corrections`. From the stream
        ``edgecore.clock`` alone; empty where there is none."""
        from edgecore.corrections import Corrections, Reading

        if CLOCK.stream not in {name for _, name, _ in self.partitions()}:
            return Corrections([])
        names = ("epoch", "monotonic", "wall", "origin", "true", "uncertainty")
        readings = []
        for scanned in self.scan(CLOCK.stream):
            for at, row in enumerate(scanned):
                values: list[Any] = [row.get(name) for name in names]
                epoch, *rest = values
                readings.append(Reading(epoch, scanned.position + at, scanned.hlc, *rest))
        return Corrections(readings)

    def columns(
        self, stream: str, *names: str, after: int = 0, until: int | None = None
    ) -> dict[str, memoryview]:
        """Whole columns of a stream: rows with positions in (after, until], each partition's in
        order. One memoryview per name, of one dimension, without copies for numpy: ``'d'`` of
        floats and decimals (null is NaN), ``'q'`` or ``'Q'`` of integers, ``time`` and
        ``source_seq``. What is sealed is read straight from its blocks, each column without the
        others.

        Raises ``Invalid`` for texts, and for integers with nulls among them."""
        wanted = self._partitions_of(stream)
        self.core.flush()
        found = self.core.columns(
            wanted, list(names), after, POSITION_MAX if until is None else until
        )
        return dict(zip(names, found, strict=True))

    def arrow(
        self,
        stream: str,
        names: Iterable[str] | None = None,
        *,
        after: int | tuple[int, int] = 0,
        until: int | None = None,
        times: tuple[int, int] | None = None,
    ) -> _log.ArrowTable:
        """Rows of one stream as Arrow data, in order of position, for whoever takes Arrow's C
        interface: ``pyarrow.table(x)``, ``polars.DataFrame(x)``, ``pandas.DataFrame.from_arrow``,
        DuckDB by the variable's name, another log's :meth:`append`. Neither pyarrow nor numpy is
        needed here. A snapshot, as of :meth:`scan`, whose `after`, `until` and `times` these are;
        it may be read again as long as the log is open.

        Batches of at most 65,536 rows are made when they are asked for, without the GIL: one part
        of the log is in memory at a time, which is a segment or what one sealing made. Fixed-width
        columns are decoded right into the buffers that are given away. Iterating over the result
        gives the batches one by one (each has ``__arrow_c_array__``), and raises the words of
        ``edgecore.errors``; a consumer that pulls the stream itself makes its own errors of them,
        whose text begins with the word.

        :param names: the columns; none: all, which are ``partition`` (u32), ``sequence``,
            ``position`` (u64), ``time`` (timestamp, ns, UTC), ``source`` (dictionary of texts, null
            for none), ``source_seq`` (u64, null for 0), then the fields of the newest schema, and
            those that only older ones have. bool, integers and floats are their own types,
            ``decimal(k)`` is decimal128 with k digits behind the point, category a dictionary of
            texts (``unify_dictionaries()`` of pyarrow makes one of several batches'), utf8 text,
            bytes binary. A field named as one of the first three is ``values.NAME``. Of rows to be
            appended elsewhere those three are to be left out.

        A field's unit is in its metadata (``unit``), the store, stream and newest schema in the
        table's. Rows of a schema without a column's field have null there; decimals of several
        scales have the finest. Raises ``Invalid`` for a name that there is not, ``Incompatible``
        for a column whose field is of two dtypes in versions of the stream."""
        wanted = self._partitions_of(stream)
        schemas = [schema for schema in self.schemas() if schema.stream == stream]
        self.core.flush()
        if isinstance(after, tuple):
            after = self.core.position_before(*after)
        return self.core.arrow(
            wanted, [] if names is None else list(names), after,
            POSITION_MAX if until is None else until, times,
            *table_facts(self.store_id, schemas),
        )  # fmt: skip

    def _partitions_of(self, stream: str) -> set[int]:
        found = {partition for partition, name, _ in self.partitions() if name == stream}
        if not found:
            raise Invalid(f"the log has no stream {stream!r}")
        return found

    def _sequences_at(self, stream: str, position: int) -> dict[int, int]:
        self.core.flush()
        return {p: self.core.sequence_at(p, position) for p in self._partitions_of(stream)}

    def verify(self) -> tuple[int, int, int, list[Range], tuple[int, int]]:
        """Reads and checks everything: (rows, records, bytes of rows, lost ranges, encrypted). The
        last is for rows whose keys are not there: how many of the rows were checked by their
        checksums alone, and how many are missing from damaged blocks (at least those of ranges)."""
        self.core.flush()
        return self.core.verify()

    def encryption(self) -> Encryption:
        """How the log's files are encrypted, and with which keys."""
        return Encryption(self.cipher, *self.core.encryption())

    def next_sequence(self, partition: int) -> int:
        """The sequence that the partition's next row will have."""
        return self.core.next_sequence(partition)

    def runs(
        self, partition: int, after: int, bytes_max: int, *, blocks: bool = False
    ) -> list[Run]:
        """Durable rows of a partition above sequence `after`, in order, at most `bytes_max` bytes
        of canonical rows (but one row at least); [] when there are none.

        :param blocks: what is sealed comes as the column blocks that it is stored as, undecoded,
            where whole ones do; these count with their own bytes."""
        return [Run(*run) for run in self.core.runs(partition, after, bytes_max, blocks)]

    def block_of(self, run: Run, *, dense: bool = False) -> bytes:
        """A run as one column block (docs/formats/column-block.md): the one it is stored as, or
        made now. Raises ``Incompatible`` for a schema that this build can't read."""
        if run.block:
            return run.block
        from edgecore import columns

        for schema in self.schemas():
            if schema.fingerprint == run.schema_fingerprint:
                return columns.encode(run, self.store_id, schema, "dense" if dense else "fast")
        raise Incompatible(f"partition {run.partition}: a schema that can't be read")

    def cursor(self, name: str) -> _cursor.Cursor:
        """The named cursor, kept beside the segments."""
        if name not in self._cursors:
            self._cursors[name] = _cursor.Cursor(
                self._fs, self.path, name, self.read_only, self._sequences_at, self._cursor_moved
            )
        return self._cursors[name]

    def acknowledge(self, partition: int, upto: int) -> None:
        """Records that the hub holds the partition's rows up to sequence `upto`."""
        self.cursor(SYNC_CURSOR).ack(partition, upto)

    def _cursor_moved(self) -> None:
        try:
            if self._releases:
                self.release()
        except EdgecoreError:
            return  # the acknowledgement holds all the same; the next one tries again


__all__ = [
    "LOSSES", "SCHEMAS", "Log", "Maintained", "Recovery", "Retention", "Run", "Scanned",
    "parse_durability",
]  # fmt: skip
