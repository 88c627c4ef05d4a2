"""A feature view told on a schedule: what it says of each entity at every whole period, as events
of a stream of their own, which is kept, sent and checked as any other.

    told = ViewSummary(view, telemetry, period_ns=600 * SECOND)
    log.register(told.schema())
    teller = Teller(log, fs, "state/views/pump", told)
    teller.follow()                 # behind everything that was appended since

A period is told when the newest row that counted is later than its end and the view's lateness, so
that only rows that are late anyhow could have changed it; as of its end, of every entity that had a
row within the view's horizon. So rows in their order of position decide what is told: the same log
gives the same events, whenever it was followed, and after any restart. Rows that come for a period
later change none. Format: docs/formats/view-summary.md.
"""

from __future__ import annotations

from edgecore._core import features as _core
from edgecore._core import rows as _rows
from edgecore.digest import DIGEST_BYTES, blake3
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.feature_gaps import spans_of
from edgecore.feature_spec import duration_text
from edgecore.rules.summary_rule import PERIOD_MAX
from edgecore.schema import Field, Schema
from edgecore.streams import GAP
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from edgecore.device.config import ViewTold
    from edgecore.feature_gaps import Span
    from edgecore.feature_view import FeatureView
    from edgecore.fs import Fs
    from edgecore.log import Log
    from edgecore.log_values import Scanned

BASE_BYTES_MAX = 20  # of a feature's name in front of ".st", within a field's 23
OWN_FIELDS = ("rule", "entity", "start")
STATE_BYTES_MAX = 256 << 20
STORE_BYTES = 16
FOLLOW_ROWS = 20_000  # at a time
PERIOD_MIN = 10**9
# A row that comes after a silence ends as many periods at once as the horizon holds, and each tells
# of every entity: more would be a burst of rows that a small device can't hold and nobody reads.
PERIODS_MAX = 10_000
MISSING = 2
_NEVER = -(1 << 63)


class ViewSummary:
    """What is told: a view over a schema, every so often. Immutable.

    :param name: of the stream, by default ``<source>.view``; :param tier: of it.
    :raises Invalid: a period of less than a second or than a 10,000th of the view's horizon, or a
        view of more features than a stream has fields.
    :raises Incompatible: as :meth:`FeatureView.plan`."""

    def __init__(
        self,
        view: FeatureView,
        source: Schema,
        *,
        period_ns: int,
        name: str = "",
        tier: str = "diagnostic",
    ) -> None:
        self.view, self.source, self.period = view, source, period_ns
        self.name = name or f"{source.stream}.view"
        if self.name.startswith("edgecore.") or self.name == source.stream:
            raise Invalid(f"summary name {self.name!r} is the system's, or the stream's own")
        self.tier = tier
        self.plan = view.plan(source)
        least = max(PERIOD_MIN, -(-self.plan.horizon_ns // PERIODS_MAX))
        if not least <= period_ns <= PERIOD_MAX:
            raise Invalid(
                f"view {view.name!r} is told every {least / 1e9:g} s at most, and every 366 days "
                f"at least: its horizon of {duration_text(self.plan.horizon_ns)} holds at most "
                f"{PERIODS_MAX} periods, which may end at once"
            )
        self.body = cbor.encode(
            {
                "version": 1, "name": self.name, "stream": source.stream,
                "schema": source.fingerprint, "tier": tier, "period": period_ns,
                "view": view.to_bytes(),
            }
        )  # fmt: skip
        self.id = int.from_bytes(blake3(self.body)[:6], "little")
        self._events = [at for at, spec in enumerate(view.specs) if spec.op != "constant"]
        self.bases = [
            name if len(name.encode()) <= BASE_BYTES_MAX and name not in OWN_FIELDS else f"#{at}"
            for at, name in enumerate(view.names)
        ]
        self.schema()

    def schema(self, version: int = 1) -> Schema:
        """Of the stream."""
        fields = [Field("rule", "u64", required=True), Field("entity", "category", required=True),
                  Field("start", "i64", unit="ns", required=True)]  # fmt: skip
        for base in self.bases:
            fields += [Field(base, "f64"), Field(f"{base}.st", "u8", required=True)]
        try:
            return Schema(self.name, tier=self.tier, fields=fields, version=version)
        except Invalid as error:
            raise Invalid(f"view {self.view.name!r} can't be told: {error}") from None

    def rows(self, k: int, entities: list[str], engine: _core.Engine) -> list[dict[str, Any]]:
        """Of the period that ends at k periods since 1970; an entity without an event by then has
        none."""
        end = k * self.period
        start = max(end - self.plan.horizon_ns, _NEVER)
        values, states, ages, *_ = engine.read(entities, end)
        numbers, since = memoryview(values).cast("d"), memoryview(ages).cast("q")
        out = []
        for at, entity in enumerate(entities):
            own = since[at * len(self.bases) : (at + 1) * len(self.bases)]
            if all(own[i] < 0 for i in self._events):
                continue
            row: dict[str, Any] = {
                "time": end, "rule": self.id, "entity": entity, "start": start,
            }  # fmt: skip
            for i, base in enumerate(self.bases, at * len(self.bases)):
                row[f"{base}.st"] = states[i]
                row[base] = None if numbers[i] != numbers[i] else numbers[i]
            out.append(row)
        return out


def read_view_summary(told: ViewTold, log: Log) -> ViewSummary:
    """Of a ``[[view_summary]]``, over the newest schema that the log has of its stream."""
    from edgecore.feature_view import DEFINITION_BYTES_MAX, FeatureView
    from edgecore.fs import PosixFs

    data = PosixFs().read_file(told.path, DEFINITION_BYTES_MAX)
    try:
        view = FeatureView.from_toml(data.decode(), told.path)
    except UnicodeDecodeError as error:
        raise Invalid(f"{told.path}: {error}") from None
    return ViewSummary(view, log.schema(view.source), period_ns=told.period_ns, name=told.name,
                       tier=told.tier)  # fmt: skip


def is_view(body: bytes) -> bool:
    """Whether a rule of ``edgecore.summaries`` is that of a told view."""
    found = cbor.decode(body)
    return isinstance(found, dict) and "view" in found


def view_summary_of(body: bytes, schemas: Iterable[Schema]) -> ViewSummary:
    """Of a rule's bytes. Raises ``Corrupt``; ``Incompatible`` for a view or a schema that is not of
    this build or among these."""
    from edgecore.feature_view import FeatureView

    found = cbor.decode(body)
    view = FeatureView.from_bytes(cbor.field(found, "view", bytes))
    wanted = cbor.field(found, "schema", bytes, DIGEST_BYTES)
    source = next((schema for schema in schemas if schema.fingerprint == wanted), None)
    if source is None:
        raise Incompatible(f"view {view.name!r} is told over a schema that is not here")
    try:
        told = ViewSummary(
            view, source, period_ns=cbor.field(found, "period", int),
            name=cbor.field(found, "name", str), tier=cbor.field(found, "tier", str),
        )  # fmt: skip
    except Invalid as error:
        raise Corrupt(f"rule of a told view: {error}") from None
    if told.body != body:
        raise Corrupt("rule of a told view: not what it encodes to")
    return told


class Telling:
    """What a view tells while rows come in by position: the rows, and the gaps that the log tells
    of between them, alone decide."""

    def __init__(self, told: ViewSummary, position: int = 0) -> None:
        self.told, self.position = told, position
        self.k, self.newest = 0, _NEVER
        self._engine = _core.Engine(told.plan)
        self._entities: dict[str, int] = {}  # newest row of each within the horizon
        self._gaps: list[Span] = []

    def know(self, gaps: list[Span]) -> None:
        """Gaps behind the position, of :func:`edgecore.feature_gaps.spans_of`."""
        self._gaps = gaps[::-1]

    def _take_gaps(self, until: int) -> None:
        while self._gaps and self._gaps[-1][0] < until:
            position, begin, end, through = self._gaps.pop()
            if not 0 < through <= self.position:  # or these rows were met
                self._engine.gap(begin, end, position)

    def batch(self, scanned: Scanned) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """(position, what is told with it) of the rows of a scan that are new here."""
        source = self.told.source
        if scanned.schema is None or scanned.schema.fingerprint != source.fingerprint:
            return
        known = {"time", "source", "source_seq", *(field.name for field in source.fields)}
        batch = _rows.Batch(source)
        batch.extend([{key: value for key, value in row.items() if key in known}
                      for row in scanned.rows(exact=True)])  # fmt: skip
        names = _core.entities(self.told.plan, batch, _numbers(len(batch)))
        for row, time in enumerate(batch.column("time")):
            if (position := scanned.position + row) > self.position:
                self._take_gaps(position)
                yield position, self._take(batch, row, position, int(time), names[row])

    def _take(
        self, batch: _rows.Batch, row: int, position: int, time: int, name: str
    ) -> list[dict[str, Any]]:
        told, engine = self.told, self._engine
        newest = max(self.newest, time)
        closed = (newest - told.view.lateness - 1) // told.period
        heard = self._entities
        ends: list[dict[str, Any]] = []
        if self.newest != _NEVER:
            ends, heard = self._ends(closed)
        aside = engine.late_rows + engine.ahead_rows
        engine.update(batch, row, 1, position)
        self.position = position
        if engine.late_rows + engine.ahead_rows != aside:
            return []
        self.k, self.newest, self._entities = closed, newest, heard
        self._entities[name] = max(time, self._entities.get(name, time))
        return ends

    def _ends(self, closed: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """What the periods that end with the next row say, before it is taken in, and the entities
        that are within the horizon then; the row may yet turn out not to count."""
        out: list[dict[str, Any]] = []
        heard = self._entities
        for k in range(self.k + 1, closed + 1):
            old = k * self.told.period - self.told.plan.horizon_ns
            heard = {name: at for name, at in heard.items() if at > old}
            if not heard:
                break
            out += self.told.rows(k, sorted(heard), self._engine)
        return out, heard

    def state(self) -> dict[str, object]:
        return {
            "position": self.position, "k": self.k, "newest": self.newest,
            "entities": sorted([name, time] for name, time in self._entities.items()),
            "engine": self._engine.snapshot(),
        }  # fmt: skip

    @staticmethod
    def of_state(told: ViewSummary, body: Any) -> Telling:
        """The inverse. Raises ``Corrupt``, ``Incompatible``, ``LookupError``, ``TypeError`` or
        ``ValueError`` for what is none."""
        out = Telling(told, int(body["position"]))
        out._engine = _core.Engine.restore(told.plan, body["engine"])
        out._entities = {str(name): int(time) for name, time in body["entities"]}
        out.k, out.newest = int(body["k"]), int(body["newest"])
        return out


class Teller:
    """One view summary, followed. Appends may fail: what is owed is then appended by the next
    call. Goes on from the state at `path`, else with rows behind position `begin`."""

    def __init__(self, log: Log, fs: Fs, path: str, told: ViewSummary, begin: int = 0) -> None:
        self.told = told
        self.behind = False
        self._log, self._fs, self._path = log, fs, path
        self._owed: list[dict[str, Any]] = []
        self._telling = self._load(begin) or Telling(told, begin)
        self._saved = self._telling.position
        self._gaps_told = 0
        self._done = self._last_told()

    def _last_told(self) -> int:
        """The last period that the log holds behind the state; what it holds it holds whole, and
        all before. Periods told in front of it are behind us anyhow."""
        last = _NEVER
        if any(stream == self.told.name for _, stream, _ in self._log.partitions()):
            for scanned in self._log.scan(self.told.name, after=self._telling.position):
                for row in scanned.rows():
                    if row.get("rule") == self.told.id:
                        last = max(last, row["time"] // self.told.period)
        return last

    def follow(self, now_ns: int | None = None) -> int:
        """Takes in what came since, as much as is done at a time (`behind` says whether there is
        more); returns how many rows were appended."""
        done, count = self._append(), 0
        self.behind = False
        already = self._done * self.told.period
        self._know_gaps()
        for scanned in self._log.scan(self.told.source.stream, after=self._telling.position):
            for _, ends in self._telling.batch(scanned):
                self._owed += [row for row in ends if row["time"] > already]
                count += 1
            done += self._append()
            if count >= FOLLOW_ROWS:
                self.behind = True
                break
        return done

    def _know_gaps(self) -> None:
        """Looks at those of the log when there are new ones."""
        told = sum(self._log.next_sequence(p) for p, name, _ in self._log.partitions()
                   if name == GAP.stream)  # fmt: skip
        if told != self._gaps_told:
            stream = self.told.source.stream
            self._telling.know(spans_of(self._log, stream, self._telling.position))
            self._gaps_told = told

    def end(self) -> int:
        """Tells what is to be told of the rows that there are; the position of the last."""
        self.follow()
        while self.behind:
            self.follow()
        return self._telling.position

    def _append(self) -> int:
        done = 0
        while self._owed:  # a period is one append: whole in the log, or not at all
            time = self._owed[0]["time"]
            some = [row for row in self._owed if row["time"] == time]
            self._log.append(self.told.name, some)
            del self._owed[: len(some)]
            done += len(some)
        return done

    # ------------------------------------------------------------ state

    @property
    def changed(self) -> bool:
        """Whether there is something to keep, and nothing owed that a restart would not know of."""
        return not self._owed and self._telling.position != self._saved

    def save(self) -> None:
        """Keeps the state. Everything it has taken in, and told, must be durable."""
        body = {"version": 1, "rule": self.told.id, **self._telling.state()}
        rest = self._log.store_id + cbor.encode(body)
        self._fs.write_atomic(self._path, blake3(rest) + rest)
        self._saved = self._telling.position

    def forget(self) -> None:
        if self._fs.exists(self._path):
            self._fs.remove(self._path)

    def _load(self, begin: int) -> Telling | None:
        """What was kept, unless it is damaged, of another log or rule, or of rows not there."""
        if not self._fs.exists(self._path):
            return None
        try:
            kept = self._fs.read_file(self._path, STATE_BYTES_MAX)
            rest = kept[DIGEST_BYTES:]
            if blake3(rest) != kept[:DIGEST_BYTES] or rest[:STORE_BYTES] != self._log.store_id:
                return None
            body = cbor.decode(rest[STORE_BYTES:], STATE_BYTES_MAX)
            of_rule = body.get("rule") == self.told.id
            if not of_rule or not begin <= body["position"] <= self._log.position:
                return None
            return Telling.of_state(self.told, body)
        except (Corrupt, Incompatible, LookupError, TypeError, ValueError):
            return None


def _numbers(count: int) -> bytes:
    from array import array

    return array("I", range(count)).tobytes()


__all__ = ["Teller", "Telling", "ViewSummary", "is_view", "read_view_summary", "view_summary_of"]
