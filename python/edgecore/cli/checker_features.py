"""Features by hand, for the judge: a sorted list of events per entity, and every answer computed
from the list. Slow, and straight from docs/formats/feature-definition.md."""

from __future__ import annotations

import bisect
import math
from decimal import Decimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgecore.schema import Field, Schema

    Event = tuple[int, bytes, int, Any]  # time, source, source sequence, value on its grid
    Value = tuple[float | None, int]

FRESH, STALE, MISSING = 0, 1, 2
NEVER = -1  # the age without an event
ROWS = ""  # the series of all rows


def _horizon(feature: dict[str, Any]) -> int:
    window = int(feature["window"])
    if feature["op"] in ("last", "recency"):
        return window
    again = feature.get("on_stale") == "recompute"
    return max(2 * window, int(feature.get("ttl", 0))) + again * window


class History:
    """All events of a stream so far, and the features of any row's entity as of its time."""

    def __init__(self, schema: Schema, view: dict[str, Any]) -> None:
        self.view = view
        self.fields: dict[str, Field] = {field.name: field for field in schema.fields}
        self.series = {feature.get("field", ROWS) for feature in view["features"]}
        self.events: dict[str, dict[str, list[Event]]] = {}
        self.newest: dict[str, int] = {}
        self.gaps: list[tuple[int, int]] = []  # (begin, end]

    def entity(self, row: dict[str, Any]) -> str:
        return str(row[self.view["entity"]] or "") if self.view["entity"] else ""

    def add(self, row: dict[str, Any]) -> None:
        """A row older than its entity's newest by more than the lateness is left out."""
        entity, time = self.entity(row), row["time"]
        newest = max(self.newest.get(entity, time), time)
        if time < newest - self.view["lateness"]:
            return
        self.newest[entity] = newest
        lists = self.events.setdefault(entity, {name: [] for name in self.series})
        for name, events in lists.items():
            value = 0 if name == ROWS else self._stored(name, row[name])
            if value is not None:
                key = (time, row["source"].encode(), row["source_seq"], value)
                bisect.insort(events, key)

    def _stored(self, name: str, value: Any) -> Any:
        """The value as an exact number of grid steps, or as it is where there is no grid."""
        if value is None:
            return None
        field = self.fields[name]
        if field.dtype == "decimal":
            return int(Decimal(value).scaleb(field.scale))
        if field.dtype in ("f32", "f64"):
            number = float(value)
            if not math.isfinite(number):
                return None
            return round(number / field.resolution) if field.resolution else number
        return 0 if isinstance(value, str | bytes) else int(value)

    def read(self, row: dict[str, Any]) -> list[Value] | None:
        """(value or None, state) of each feature; None when the row came too late to be read."""
        entity, as_of = self.entity(row), row["time"]
        newest = self.newest.get(entity)
        if newest is not None and as_of < newest - self.view["lateness"]:
            return None
        lists = self.events.get(entity, {})
        return [self._feature(one, lists, as_of) for one in self.view["features"]]

    def ages(self, row: dict[str, Any]) -> list[int]:
        """As of a row that can be read, how old the newest event of each feature's field is."""
        lists, as_of, out = self.events.get(self.entity(row), {}), row["time"], []
        for feature in self.view["features"]:
            events = lists.get(feature.get("field", ROWS), [])
            stop = bisect.bisect_right(events, as_of, key=lambda event: event[0])
            age = as_of - events[stop - 1][0] if stop else _horizon(feature)
            out.append(age if age < _horizon(feature) else NEVER)
        return out

    def _feature(self, feature: dict[str, Any], lists: dict[str, list[Event]], as_of: int) -> Value:
        name, window = feature.get("field", ROWS), feature["window"]
        events = lists.get(name, [])
        stop = bisect.bisect_right(events, as_of, key=lambda event: event[0])
        if stop == 0:
            return None, MISSING
        age = as_of - events[stop - 1][0]
        ttl, rule = feature.get("ttl", 0), feature.get("on_stale", "use")
        newest = feature["op"] in ("last", "recency")
        again = rule == "recompute" and not newest
        if age >= _horizon(feature):
            return None, MISSING
        if again and ttl < age < window:
            as_of = events[stop - 1][0]
        start = bisect.bisect_right(events, as_of - window, key=lambda event: event[0])
        inside = [event[3] for event in events[start:stop]]
        if feature["op"] == "recency":
            value: float | None = age / 1e9
        elif newest:
            value = self._real(name, events[stop - 1][3])
        else:
            value = self._aggregate(feature["op"], name, inside)
        if value is None:
            return None, MISSING
        known = 1.0
        if not newest:
            before = events[start - 1][0] if start else None
            since = as_of - window
            if inside and (before is None or before <= as_of - 2 * window):
                since = events[start][0]
            known = (as_of - since - self._unknown(since, as_of)) / window if inside else 0.0
        count = 1 if newest else len(inside)
        if known < feature.get("min_coverage", 0.0) or count < feature.get("min_count", 0):
            return None, MISSING
        if ttl and age > ttl:
            if rule == "missing" or (again and not count):
                return None, MISSING
            return {"default": feature.get("default"), "refuse": None}.get(rule, value), STALE
        return value, FRESH

    def _unknown(self, since: int, until: int) -> int:
        """How much of (since, until] the gaps take, where they overlap once."""
        total = 0
        for begin, end in sorted(self.gaps):
            begin, end = max(begin, since), min(end, until)
            total += max(0, end - begin)
            since = max(since, end)
        return total

    def _grid(self, name: str) -> tuple[int, float]:
        """(denominator, unit): a value is stored / denominator * unit."""
        if name == ROWS:
            return 1, 1.0
        field = self.fields[name]
        return 10**field.scale if field.dtype == "decimal" else 1, field.resolution or 1.0

    def _real(self, name: str, stored: Any, divisor: int = 1) -> float:
        if isinstance(stored, float):
            return stored / divisor
        denominator, unit = self._grid(name)
        exact: float = stored / (denominator * divisor)  # correctly rounded
        return exact if unit == 1 else exact * unit

    def _aggregate(self, op: str, name: str, values: list[Any]) -> float | None:
        n = len(values)
        if op == "count":
            return float(n)
        if n == 0:
            return None
        if op in ("sum", "mean"):
            total = math.fsum(values) if isinstance(values[0], float) else sum(values)
            return self._real(name, total, n if op == "mean" else 1)
        if op == "std":
            if n < 2:
                return None
            spread = n * sum(value * value for value in values) - sum(values) ** 2
            denominator, unit = self._grid(name)
            return math.sqrt(float(spread) / float(n * (n - 1))) / float(denominator) * unit
        return self._real(name, min(values) if op == "min" else max(values))


__all__ = ["FRESH", "MISSING", "NEVER", "STALE", "History"]
