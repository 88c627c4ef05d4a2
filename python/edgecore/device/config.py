"""`edge.toml`: everything a device is told by its owner, every key of it checked.

A key that is not known, or a value of another type or outside its bounds, is ``Invalid`` and named;
nothing is ignored and nothing is guessed. Paths are relative to the file. Durations are text with
a unit (``"100ms"``, ``"30s"``, ``"5m"``, ``"1h"``) and nanoseconds here.
"""

from __future__ import annotations

from edgecore.device.schema_file import check, quoted
from edgecore.errors import Invalid
from edgecore.log_values import SEGMENTS_MIN, Retention, ranked
from edgecore.schema import TIERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.rules.summary import Rule
    from edgecore.schema import Schema

BYTES_MAX = 64 * 1024
KINDS = ("host", "csv", "none")
RAW_RULES = ("send", "on_request", "keep")
BACKENDS = ("auto", "native", "litert", "tflite")
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
DAY = 24 * _UNITS["h"]
MS = _UNITS["ms"]
SECOND = _UNITS["s"]

# Section -> key -> (type, default). A default of None: the key must be given where it is needed.
_KEYS: dict[str, dict[str, tuple[type, Any]]] = {
    "device": {
        "state": (str, "."),
        "name": (str, "device"),
        "evidence": (str, ""),
        "streams": (list, []),
    },
    "source": {
        "kind": (str, "host"),
        "interval": (str, "100ms"),
        "heartbeat": (str, "0s"),
        "path": (str, ""),
        "schema": (str, ""),
        "time": (str, ""),
        "time_format": (str, ""),
        "delimiter": (str, ""),
        "ignore": (list, []),
        "rows_per_second": (float, 0.0),
        "follow": (bool, False),
    },
    "hub": {
        "enabled": (bool, True),
        "idle": (str, "1s"),
        "timeout": (str, "15s"),
        "backoff": (str, "500ms"),
        "backoff_max": (str, "60s"),
        "order_every": (str, "5s"),
        "envelope_bytes": (int, 64 * 1024),
        "dense": (bool, False),
        "raw": (dict, {}),
    },
    "log": {
        "segment_bytes": (int, 1 << 20),
        "durability": (dict, {}),
        "max_bytes": (int, 0),
        "priority": (list, []),
        "retention": (dict, {}),
        "dense": (bool, False),
    },
    "encryption": {"key": (str, ""), "cipher": (str, "auto"), "older": (list, [])},
    "model": {"backend": (str, "auto"), "quota_bytes": (int, 256 << 20)},
    "agent": {
        "status_every": (str, "500ms"),
        "snapshot_every": (str, "10s"),
        "ingest_every": (str, "10s"),
    },
}


def duration_ns(where: str, text: str, low: int = 0, high: int = 366 * DAY) -> int:
    """``"100ms"`` -> 100,000,000. Raises ``Invalid``."""
    digits = text.rstrip("nsumh")
    unit = _UNITS.get(text[len(digits) :])
    try:
        value = float(digits)
        if unit is None or not value >= 0:
            raise ValueError
        ns = round(value * unit)
    except (ValueError, OverflowError):
        raise Invalid(
            f'{where}: {text!r} is no duration; write e.g. "100ms", "30s", "1h"'
        ) from None
    if not low <= ns <= high:
        raise Invalid(f"{where}: {text!r} is outside {low / 1e9:g} s to {high / 1e9:g} s")
    return ns


def _whole(where: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise Invalid(f"{where}: {value} is outside {low} to {high}")
    return value


def _one_of(where: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise Invalid(f"{where}: {value!r} is none of {', '.join(known)}")
    return value


def _retention(where: str, tables: dict[str, Any]) -> dict[str, Retention]:
    found = {}
    for tier, table in tables.items():
        _one_of(where, tier, TIERS)
        check(f"{where}.{tier}", {tier: table}, {tier: dict})
        check(f"{where}.{tier}", table, {"max_bytes": int, "ttl": str, "on_full": str})
        ttl = table.get("ttl")
        try:
            found[tier] = Retention(
                max_bytes=table.get("max_bytes"),
                ttl_ns=duration_ns(f"{where}.{tier}.ttl", ttl, 1) if ttl else None,
                on_full=table.get("on_full", "refuse"),
            )
        except Invalid as error:
            raise Invalid(f"{where}.{tier}: {error}") from None
    return found


def _raw(where: str, table: dict[str, Any]) -> dict[str, str]:
    for stream, word in table.items():
        check(where, {stream: word}, {stream: str})
        _one_of(f"{where}.{stream}", word, RAW_RULES)
        if stream.startswith("edgecore."):
            raise Invalid(f"{where}: {stream}: the system's streams are sent")
    return table


def _place(directory: str, path: str) -> str:
    if path.startswith("/"):
        return path
    return directory if path == "." else f"{directory}/{path.removeprefix('./')}"


def _key_store(directory: str, spec: str) -> str:
    """``kind:place``; a file's place is relative to `directory`, like other paths."""
    kind, _, place = spec.partition(":")
    if kind == "file" and place and not place.startswith("/"):
        place = f"{directory}/{place.removeprefix('./')}"
    return f"{kind}:{place}" if kind else ""


class Summary:
    """One ``[[summary]]``; what its stream's schema has to say to it is checked at the start."""

    def __init__(self, where: str, table: Any) -> None:
        where = f"{where}: [[summary]]"
        if not isinstance(table, dict):
            raise Invalid(f"{where} is a table")
        check(where, table, {"stream": str, "name": str, "period": str, "lateness": str,
                             "entity": str, "tier": str, "fields": list, "keep": list,
                             "histogram": dict, "counts": dict})  # fmt: skip
        for key in ("stream", "period"):
            if key not in table:
                raise Invalid(f"{where} needs a {key}")
        self.where = where
        self.stream = str(table["stream"])
        self.name = str(table.get("name", ""))
        self.period_ns = duration_ns(f"{where}: period", table["period"], SECOND)
        self.lateness_ns = duration_ns(f"{where}: lateness", table.get("lateness", "0s"))
        self.entity = str(table.get("entity", ""))
        self.tier = str(table.get("tier", ""))
        self.fields = [str(name) for name in table.get("fields", [])]
        self.keep = [str(word) for word in table.get("keep", ["sum", "squares", "min", "max"])]
        self.histogram = dict(table.get("histogram", {}))
        self.counts = dict(table.get("counts", {}))

    def rule(self, source: Schema) -> Rule:
        """Raises ``Invalid``."""
        from edgecore.rules.summary import Measure, define

        names = self.fields or [f.name for f in source.fields if f.name != self.entity]
        try:
            unknown = {*self.histogram, *self.counts} - set(names)
            if unknown:
                raise Invalid(f"{min(unknown)!r} is no field that is summarised")
            for name, edges in self.histogram.items():
                if not isinstance(edges, list) or len(edges) != 3:
                    raise Invalid(f"histogram of {name!r}: write [low, high, buckets]")
            measures = [
                Measure(name, self.keep, counts=self.counts.get(name, 0),
                        histogram=tuple(self.histogram[name]) if name in self.histogram else None)
                for name in names
            ]  # fmt: skip
            return define(
                source, period_ns=self.period_ns, lateness_ns=self.lateness_ns, name=self.name,
                entity=self.entity, fields=measures, tier=self.tier,
            )  # fmt: skip
        except Invalid as error:
            raise Invalid(f"{self.where}: {error}") from None


class ViewTold:
    """One ``[[view_summary]]``: a feature view that is told on a schedule."""

    def __init__(self, where: str, directory: str, table: Any) -> None:
        where = f"{where}: [[view_summary]]"
        if not isinstance(table, dict):
            raise Invalid(f"{where} is a table")
        check(where, table, {"view": str, "period": str, "name": str, "tier": str})
        for key in ("view", "period"):
            if key not in table:
                raise Invalid(f"{where} needs a {key}")
        path = str(table["view"])
        self.path = path if path.startswith("/") else f"{directory}/{path.removeprefix('./')}"
        self.period_ns = duration_ns(f"{where}: period", table["period"], SECOND)
        self.name = str(table.get("name", ""))
        self.tier = _one_of(f"{where}: tier", str(table.get("tier", "diagnostic")), TIERS)


class Config:
    """The checked content of an ``edge.toml``; see :data:`EXAMPLE` for what each key means.

    ``state``, ``evidence``, ``path`` and ``schema`` are paths that need no directory any more."""

    def __init__(self, where: str, directory: str, body: dict[str, Any]) -> None:
        check(where, body, {**dict.fromkeys(_KEYS, dict), "summary": list, "view_summary": list})
        values: dict[str, Any] = {}
        for section, keys in _KEYS.items():
            table = body.get(section, {})
            check(f"{where}: [{section}]", table, {key: kind for key, (kind, _) in keys.items()})
            values |= {f"{section}.{key}": table.get(key, item[1]) for key, item in keys.items()}

        def text(key: str) -> str:
            return str(values[key])

        def path(key: str) -> str:
            given = text(key)
            return _place(directory, given) if given else ""

        def duration(key: str, low: int, high: int = DAY) -> int:
            return duration_ns(f"{where}: {key}", text(key), low, high)

        def whole(key: str, low: int, high: int) -> int:
            return _whole(f"{where}: {key}", values[key], low, high)

        self.state = path("device.state")
        self.name = text("device.name")
        self.evidence = path("device.evidence")
        self.streams = [_place(directory, str(one)) for one in values["device.streams"]]
        self.kind = _one_of(f"{where}: source.kind", text("source.kind"), KINDS)
        self.interval_ns = duration("source.interval", MS)
        self.heartbeat_ns = duration("source.heartbeat", 0)
        self.path = path("source.path")
        self.schema = path("source.schema")
        self.time, self.time_format = text("source.time"), text("source.time_format")
        self.delimiter = text("source.delimiter")
        self.ignore = [str(name) for name in values["source.ignore"]]
        self.follow = bool(values["source.follow"])
        self.rows_per_second = float(values["source.rows_per_second"])
        self.hub_enabled = bool(values["hub.enabled"])
        self.idle_ns = duration("hub.idle", 10 * MS)
        self.timeout_ns = duration("hub.timeout", 10 * MS)
        self.backoff_ns = duration("hub.backoff", 10 * MS)
        self.backoff_max_ns = duration("hub.backoff_max", 10 * MS)
        self.order_every_ns = duration("hub.order_every", 10 * MS)
        self.sends_dense = bool(values["hub.dense"])
        self.raw = _raw(f"{where}: hub.raw", dict(values["hub.raw"]))
        self.envelope_bytes = whole("hub.envelope_bytes", 4096, 1 << 20)
        self.segment_bytes = whole("log.segment_bytes", 64 * 1024, 1 << 30)
        self.durability = dict(values["log.durability"])
        self.max_bytes = whole("log.max_bytes", 0, 1 << 50)
        self.retention = _retention(f"{where}: log.retention", dict(values["log.retention"]))
        try:
            self.priority = ranked(values["log.priority"])
        except Invalid as error:
            raise Invalid(f"{where}: log.{error}") from None
        self.dense = bool(values["log.dense"])
        self.encryption_key = _key_store(directory, text("encryption.key"))
        older = values["encryption.older"]
        self.encryption_older = [_key_store(directory, str(spec)) for spec in older]
        self.encryption_cipher = text("encryption.cipher")
        self.backend = _one_of(f"{where}: model.backend", text("model.backend"), BACKENDS)
        self.quota_bytes = whole("model.quota_bytes", 1 << 16, 1 << 40)
        self.status_every_ns = duration("agent.status_every", 10 * MS)
        self.snapshot_every_ns = duration("agent.snapshot_every", 10 * MS)
        self.ingest_every_ns = duration("agent.ingest_every", 10 * MS)
        self.summaries = [Summary(where, table) for table in body.get("summary", [])]
        self.views_told = [ViewTold(where, directory, one) for one in body.get("view_summary", [])]
        every = [summary.period_ns for summary in self.summaries]
        every += [one.period_ns for one in self.views_told]
        shortest = min(every, default=0) // 4
        self.summary_every_ns = min(max(shortest, SECOND), 10 * SECOND)
        self._check(where)

    def _check(self, where: str) -> None:
        if not 1 <= len(self.name.encode()) <= 64:
            raise Invalid(f"{where}: device.name is 1 to 64 bytes of UTF-8")
        if not 0 <= self.rows_per_second < float("inf"):
            raise Invalid(f"{where}: source.rows_per_second is not negative; 0 is unpaced")
        if self.kind == "csv":
            for key, value in (("path", self.path), ("schema", self.schema)):
                if not value:
                    raise Invalid(f"{where}: a csv source needs source.{key}")
        if self.backoff_max_ns < self.backoff_ns:
            raise Invalid(f"{where}: hub.backoff_max is below hub.backoff")
        for tier in self.durability:
            _one_of(f"{where}: log.durability", tier, TIERS)
        if self.max_bytes and self.max_bytes < SEGMENTS_MIN * self.segment_bytes:
            raise Invalid(
                f"{where}: log.max_bytes is {SEGMENTS_MIN} times log.segment_bytes at least"
            )


def parse(where: str, directory: str, text: str) -> Config:
    """The configuration of a file's text; `where` names it in messages. Raises ``Invalid``."""
    from tomllib import TOMLDecodeError, loads

    try:
        return Config(where, directory, loads(text))
    except TOMLDecodeError as error:
        raise Invalid(f"{where}: {error}") from None


def load(path: str) -> Config:
    """Reads an ``edge.toml``. Raises ``Unavailable`` where it cannot be read, ``Invalid``."""
    from pathlib import Path

    from edgecore.fs import PosixFs

    data = PosixFs().read_file(path, BYTES_MAX)
    try:
        return parse(path, str(Path(path).resolve().parent), data.decode())
    except UnicodeDecodeError:
        raise Invalid(f"{path}: is not UTF-8 text") from None


EXAMPLE = """\
# What this device is told by its owner. Every key is checked; paths are relative to this file.

[device]
state = "."             # log, keys, artifacts and status.json live here
name = {name}
# streams = ["weather.toml"]   # schemas of streams besides the source's: their rows come by
#                       # Device.append, and a release may read them with the source's
# evidence = "evidence" # keep every signed answer that was acted on, for an audit

[source]
{source}# heartbeat = "30s"     # a row comes at least this often: after a longer silence some are
#                       # missing, and features know less of it

[hub]
idle = "1s"             # between exchanges when there is nothing to send
backoff = "500ms"       # after a failure: a random wait, its bound doubling …
backoff_max = "60s"     # … up to this
order_every = "5s"      # how often the wished release is asked for
timeout = "15s"
# dense = true          # a metered link: rows go in the smaller coding, which takes longer to make

# What becomes of a stream's rows: "send", "on_request" (they stay here, where summaries tell of
# them, and go when the hub asks) or "keep" (they never leave). Their tier's retention says when
# they go.
# [hub.raw]
# pump = "on_request"

[log]
# durability = {{ bulk = "group(50ms,32KiB)" }}   # per tier: process, kernel, group(…), sync
# max_bytes = 67108864  # of all its files; 0 is no bound. An eighth is for the critical tier alone.
# priority = ["feedback", "diagnostic"]   # after an outage sent first, given up last; critical is
#                       # before them, the other tiers behind: feedback, labeled, diagnostic, bulk
# dense = true          # old rows in the smaller coding, which takes longer to write and to read

# What gives way when there is too much, or when rows are too old; without it a tier refuses rows.
# [log.retention.bulk]
# on_full = "drop oldest"   # or "drop newest", "thin 1-in-10", "refuse"
# max_bytes = 33554432
# ttl = "168h"

# What is sent of a stream instead of all its rows, or before them: exact counts, sums, squares,
# least and greatest of each field, by entity and period; they merge to longer periods.
# [[summary]]
# stream = "pump"
# period = "1m"
# lateness = "30s"      # a period is closed when a row this much newer has come
# entity = "id"         # the field that tells entities apart
# fields = ["temp"]     # all of them unless named
# keep = ["sum", "min", "max", "squares"]
# histogram = {{ temp = [-40, 150, 19] }}   # low, high, equal buckets
# counts = {{ code = 16 }}  # how often each value came, up to so many different ones
# tier = "diagnostic"

# What a feature view says of each entity at every whole period, as events of <source>.view.
# [[view_summary]]
# view = "pump_view.toml"
# period = "10m"
# tier = "diagnostic"

[encryption]
# Events are encrypted on disk with a device key that is best kept apart; it is made when there is
# none and nothing was encrypted yet. file:PATH or keyring:NAME.
# key = "file:/media/key/device.key"
# older = []            # where device keys from before a change are, until nothing needs them
# cipher = "auto"       # or chacha20-poly1305, aes-256-gcm

[agent]
snapshot_every = "10s"  # a restart replays the log from the last one
"""

_HOST = 'kind = "host"           # /proc and /sys of this machine\ninterval = "100ms"\n'
_CSV = """\
kind = "csv"
path = {path}
schema = {schema}
rows_per_second = {rate!r}   # 0 = as fast as the log takes them
# follow = true         # the file grows: wait at its end for more
"""
_NONE = 'kind = "none"           # rows come from Device.append\n'


def example(
    name: str, kind: str, path: str = "", schema: str = "", rows_per_second: float = 0.0
) -> str:
    """The text of a new ``edge.toml``."""
    source = {"host": _HOST, "none": _NONE}.get(kind) or _CSV.format(
        path=quoted(path), schema=quoted(schema), rate=rows_per_second
    )
    return EXAMPLE.format(name=quoted(name), source=source)


__all__ = ["EXAMPLE", "Config", "duration_ns", "example", "load", "parse"]
