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
from edgecore.schema import Field, Schema
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.device.config import ViewTold
    from edgecore.feature_view import FeatureView
    from edgecore.fs import Fs
    from edgecore.log import Log

BASE_BYTES_MAX = 20  # of a feature's name in front of ".st", within a field's 23
STATE_BYTES_MAX = 256 << 20
STORE_BYTES = 16
FOLLOW_ROWS = 20_000  # at a time
MISSING = 2
_NEVER = -(1 << 63)


class ViewSummary:
    """What is told: a view over a schema, every so often. Immutable.

    :param name: of the stream, by default ``<source>.view``; :param tier: of it.
    :raises Invalid: a period of 0, or a view of more features than a stream has fields.
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
        if period_ns < 1:
            raise Invalid(f"view {view.name!r} is told every so many ns, not every {period_ns}")
        self.view, self.source, self.period = view, source, period_ns
        self.name = name or f"{source.stream}.view"
        if self.name.startswith("edgecore.") or self.name == source.stream:
            raise Invalid(f"summary name {self.name!r} is the system's, or the stream's own")
        self.tier = tier
        self.plan = view.plan(source)
        body = b"".join([*self.plan.fingerprints, period_ns.to_bytes(8, "little")])
        self.id = int.from_bytes(blake3(body)[:6], "little")
        self._events = [at for at, spec in enumerate(view.specs) if spec.op != "constant"]
        self.bases = [
            name if len(name.encode()) <= BASE_BYTES_MAX else f"#{at}"
            for at, name in enumerate(view.names)
        ]
        self.schema()

    def schema(self, version: int = 1) -> Schema:
        """Of the stream."""
        fields = [Field("rule", "u64", required=True), Field("entity", "category", required=True)]
        for base in self.bases:
            fields += [Field(base, "f64"), Field(f"{base}.st", "u8", required=True)]
        try:
            return Schema(self.name, tier=self.tier, fields=fields, version=version)
        except Invalid as error:
            raise Invalid(f"view {self.view.name!r} can't be told: {error}") from None

    def rows(self, k: int, entities: list[str], engine: _core.Engine) -> list[dict[str, Any]]:
        """Of the period that ends at k periods since 1970; an entity without an event by then has
        none."""
        values, states, ages, *_ = engine.read(entities, k * self.period)
        numbers, since = memoryview(values).cast("d"), memoryview(ages).cast("q")
        out = []
        for at, entity in enumerate(entities):
            own = since[at * len(self.bases) : (at + 1) * len(self.bases)]
            if all(own[i] < 0 for i in self._events):
                continue
            row: dict[str, Any] = {"time": k * self.period, "rule": self.id, "entity": entity}
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


class Teller:
    """One view summary, followed. Appends may fail: what is owed is then appended by the next
    call. Goes on from the state at `path`, else with rows behind position `begin`."""

    def __init__(self, log: Log, fs: Fs, path: str, told: ViewSummary, begin: int = 0) -> None:
        self.told = told
        self.behind = False
        self._log, self._fs, self._path = log, fs, path
        self._engine = _core.Engine(told.plan)
        self._position, self._k, self._newest = begin, 0, _NEVER
        self._entities: dict[str, int] = {}  # newest row of each within the horizon
        self._owed: list[dict[str, Any]] = []
        self._load()
        self._saved = self._position
        self._done = self._last_told()

    def _last_told(self) -> int:
        """The last period that the log holds behind the state; what it holds it holds whole, and
        all before. Periods told in front of it are behind us anyhow."""
        last = _NEVER
        if any(stream == self.told.name for _, stream, _ in self._log.partitions()):
            for scanned in self._log.scan(self.told.name, after=self._position):
                for row in scanned.rows():
                    if row.get("rule") == self.told.id:
                        last = max(last, row["time"] // self.told.period)
        return last

    def follow(self, now_ns: int | None = None) -> int:
        """Takes in what came since, as much as is done at a time (`behind` says whether there is
        more); returns how many rows were appended."""
        done, count = self._append(), 0
        source = self.told.source
        known = {"time", "source", "source_seq", *(field.name for field in source.fields)}
        self.behind = False
        for scanned in self._log.scan(source.stream, after=self._position):
            if scanned.schema is None or scanned.schema.fingerprint != source.fingerprint:
                continue
            batch = _rows.Batch(source)
            batch.extend([{key: value for key, value in row.items() if key in known}
                          for row in scanned.rows(exact=True)])  # fmt: skip
            names = _core.entities(self.told.plan, batch, _numbers(len(batch)))
            for row, time in enumerate(batch.column("time")):
                if scanned.position + row > self._position:
                    self._take(batch, row, scanned.position + row, int(time), names[row])
            count += len(batch)
            done += self._append()
            if count >= FOLLOW_ROWS:
                self.behind = True
                break
        return done

    def _take(self, batch: _rows.Batch, row: int, position: int, time: int, name: str) -> None:
        told, engine = self.told, self._engine
        newest = max(self._newest, time)
        closed = (newest - told.view.lateness - 1) // told.period
        heard = self._entities
        ends: list[dict[str, Any]] = []
        if self._newest != _NEVER:
            ends, heard = self._ends(closed)
        aside = engine.late_rows + engine.ahead_rows
        engine.update(batch, row, 1, position)
        self._position = position
        if engine.late_rows + engine.ahead_rows != aside:
            return
        self._owed += ends
        self._k, self._newest, self._entities = closed, newest, heard
        self._entities[name] = max(time, self._entities.get(name, time))

    def _ends(self, closed: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """What the periods that end with the next row say, before it is taken in, and the entities
        that are within the horizon then; the row may yet turn out not to count."""
        out: list[dict[str, Any]] = []
        heard = self._entities
        for k in range(self._k + 1, closed + 1):
            old = k * self.told.period - self.told.plan.horizon_ns
            heard = {name: at for name, at in heard.items() if at > old}
            if not heard:
                break
            if k > self._done:
                out += self.told.rows(k, sorted(heard), self._engine)
        return out, heard

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
        return not self._owed and self._position != self._saved

    def save(self) -> None:
        """Keeps the state. Everything it has taken in, and told, must be durable."""
        body = cbor.encode(
            {
                "version": 1, "rule": self.told.id, "position": self._position, "k": self._k,
                "newest": self._newest, "entities": sorted([n, t] for n, t in
                                                           self._entities.items()),
                "engine": self._engine.snapshot(),
            }
        )  # fmt: skip
        rest = self._log.store_id + body
        self._fs.write_atomic(self._path, blake3(rest) + rest)
        self._saved = self._position

    def _load(self) -> None:
        """What was kept, unless it is damaged, of another log or view, or of rows not there."""
        if not self._fs.exists(self._path):
            return
        try:
            kept = self._fs.read_file(self._path, STATE_BYTES_MAX)
            rest = kept[DIGEST_BYTES:]
            if blake3(rest) != kept[:DIGEST_BYTES] or rest[:STORE_BYTES] != self._log.store_id:
                return
            body = cbor.decode(rest[STORE_BYTES:], STATE_BYTES_MAX)
            if body.get("rule") != self.told.id or body["position"] > self._log.position:
                return
            engine = _core.Engine.restore(self.told.plan, body["engine"])
            entities = {str(name): int(time) for name, time in body["entities"]}
            k, newest = int(body["k"]), int(body["newest"])
        except (Corrupt, Incompatible, KeyError, TypeError, ValueError):
            return
        self._engine, self._entities = engine, entities
        self._position, self._k, self._newest = body["position"], k, newest


def _numbers(count: int) -> bytes:
    from array import array

    return array("I", range(count)).tobytes()


__all__ = ["Teller", "ViewSummary", "read_view_summary"]
