"""Features by hand, from docs/formats/feature-definition.md alone: every operator, window and
policy, of rows with fields temp, flow, load, on and mode. Slow; what vectors and random streams are
held against."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import cbor2

TWO = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "min": min, "max": max, ">": operator.gt, "==": operator.eq,
}  # fmt: skip


def value_of(tree: Any, row: dict[str, Any]) -> Any:
    """The expressions of the vector, as the page says; None: no value."""
    op, *parts = tree
    if op in ("col", "num", "text"):
        return Fraction(*parts) if op == "num" else parts[0] if op == "text" else row[parts[0]]
    if op == "where":
        chosen = value_of(parts[0], row)
        return None if chosen is None else value_of(parts[1 if chosen else 2], row)
    if op == "bucket":
        value = value_of(parts[0], row)
        return None if value is None else sum(Fraction(*edge) <= value for edge in parts[1])
    values = [value_of(part, row) for part in parts[: 3 if op == "clip" else 2]]
    if None in values or (op == "/" and values[1] == 0):
        return None
    if op == "clip":
        return max(min(values[0], values[2]), values[1])
    found = TWO[op](*values)
    steps = Fraction(*parts[2:]) if len(parts) == 4 else None
    return found if steps is None else round(found / steps) * steps


GRID = {"temp": 10, "flow": 2, "outside": 100}  # steps of one
Event = tuple[int, Any]  # time, value
WEIGHTS = (65536, 60097, 55109, 50535, 46341, 42495, 38968, 35734)


def code(text: str) -> int:
    """Of a category."""
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = (h ^ h >> 33) * factor % 2**64
    return (h ^ h >> 33) >> 12


def seen(field: str, row: dict[str, Any]) -> Any:
    """What an operator sees of a value: None, or a number that is exact."""
    value = row.get(field)
    return value if value is None else code(value) if field == "mode" else Fraction(value)


def value_at(feature: dict[str, Any], row: dict[str, Any]) -> Any:
    if "expr" in feature:
        return value_of(feature["expr"][1], {"temp": seen("temp", row)})
    return seen(feature["field"], row) if "field" in feature else 1


def session(events: list[Event], as_of: int, gap: int) -> list[Event]:
    out: list[Event] = []
    while events and (out[0][0] if out else as_of) - events[-1][0] <= gap:
        out.insert(0, events.pop())
    return out


def held(events: list[Event], as_of: int, window: int, hold: int | None) -> tuple[int, int]:
    """(true, known) nanoseconds of the window."""
    true = known = 0
    ends = [time for time, _ in events[1:]] + [as_of]
    for (time, value), end in zip(events, ends, strict=True):
        until = end if hold is None else min(end, time + hold)
        ns = max(0, until - max(time, as_of - window))
        known += ns
        true += ns if value else 0
    return true, known


def decayed(events: list[Event], as_of: int, pane: int) -> Fraction:
    """The mean of steps by the weights of their panes."""
    total = weights = 0
    for time, value in events:
        age = as_of // pane - time // pane
        weight = WEIGHTS[age % 8] << 15 - age // 8
        total, weights = total + weight * int(value), weights + weight
    return Fraction(total, weights)


def aggregate(feature: dict[str, Any], inside: list[Event]) -> float | None:
    """The page's table; None: too few."""
    op, version = feature["op"], feature["version"]
    values = sorted(value for _, value in inside)
    n, grid = len(values), GRID.get(feature.get("field", ""), 1)
    if op == "bin":
        low, high = feature.get("at_least"), feature.get("below")
        return sum((low is None or v >= low) and (high is None or v < high) for v in values)
    if op in ("std", "variance"):
        steps = [value * grid for value in values]
        spread, pairs = n * sum(step * step for step in steps) - sum(steps) ** 2, n * (n - 1)
        if not pairs:
            return None
        ratio = float(spread) / float(pairs)
        return math.sqrt(ratio) / grid if op == "std" else ratio / grid / grid
    if op in ("delta", "rate"):
        rise, ns = inside[-1][1] - inside[0][1], inside[-1][0] - inside[0][0]
        if n == 1 or (op == "rate" and ns == 0):
            return None
        if op == "delta":
            return float(rise)
        return float(rise * grid * 10**9 / ns) / grid if version == 1 else float(rise * 10**9 / ns)
    if op == "mean" and feature["field"] == "load":  # no grid: the sum is rounded first
        return float(sum(values)) / n
    table: dict[str, Callable[[], Any]] = {
        "count": lambda: n,
        "sum": lambda: sum(values),
        "mean": lambda: Fraction(sum(values)) / n,
        "min": lambda: values[0],
        "max": lambda: values[-1],
        "range": lambda: values[-1] - values[0],
        "first": lambda: inside[0][1],
        "last": lambda: inside[-1][1],
        "distinct": lambda: len(set(values)),
        "most_frequent": lambda: max(values, key=lambda one: (values.count(one), -one)),
        "quantile": lambda: values[-(-feature["permille"] * n // 1000) - 1],
    }
    return float(table[op]())


class Told(NamedTuple):
    value: float
    state: int
    reason: str
    age: int
    coverage: float


def missing(reason: str, age: int = -1, coverage: float = 0.0) -> Told:
    return Told(math.nan, 2, reason, age, coverage)


Gaps = list[tuple[int, int]]  # apart


def known(begin: int, at: int, gaps: Gaps, ns: int | None = None) -> int:
    """Of a stretch, or of so many ns of it, what no gap takes."""
    lost = sum(max(0, min(at, high) - max(begin, low)) for low, high in gaps)
    return max(0, (at - begin if ns is None else ns) - lost)


def computed(
    feature: dict[str, Any], events: list[Event], at: int, window: int, gaps: Gaps
) -> tuple[float | None, int, float]:
    """(value, n, coverage) as of a time at which the feature has events."""
    op = feature["op"]
    inside = [one for one in events if one[0] > at - window]
    if op == "ewma":
        pane = feature["window"] // 8
        inside = [one for one in events if at // pane - one[0] // pane < 128]
    if op == "recency":
        return (at - events[-1][0]) / 10**9, 1, 1.0
    if op == "last":
        return aggregate(feature, events), 1, 1.0
    if op == "time_in":
        near = [one for one in events if one[0] > at - 2 * window]
        true, told = held(near, at, window, feature.get("hold"))
        return (
            true / 10**9,
            len(inside),
            known(max(near[0][0], at - window), at, gaps, told) / window,
        )
    if "gap" in feature:
        inside = session(inside.copy(), at, feature["gap"])
    # The newest event before those of the window.
    before = next(
        (time for time, _ in reversed(events[: len(events) - len(inside)])), at - 2 * window
    )
    if "gap" in feature and before > at - 2 * window:
        begin = max(before, at - window)
        coverage = known(begin, at, gaps, window) / window
    else:
        begin = at - window if before > at - 2 * window else inside[0][0] if inside else at
        coverage = known(begin, at, gaps) / window if inside else 0.0
    if not inside and op not in ("count", "distinct", "bin"):
        return None, 0, coverage
    if op == "ewma":
        grid = GRID[feature["field"]]
        steps = [(time, value * grid) for time, value in inside]
        return float(decayed(steps, at, pane)) / grid, len(inside), coverage
    return aggregate(feature, inside), len(inside), coverage


def answer(
    feature: dict[str, Any], rows: list[dict[str, Any]], as_of: int, gaps: Gaps | None = None
) -> Told:
    """As of a time, of an entity's rows that count, in their order."""
    op = feature["op"]
    if op == "constant":
        return Told(feature["value"], 0, "-", 0, 1.0)
    at = as_of - as_of % feature["hop"] if "hop" in feature else as_of
    window = 16 * feature["window"] if op == "ewma" else feature["window"]
    far = window if op in ("last", "recency") else max(2 * window, feature.get("ttl", 0))
    far += window if feature.get("on_stale") == "recompute" else 0
    near = [row for row in rows if at - far < row["time"] <= at]
    made = [(row["time"], row.get("source", "").encode(), row.get("source_seq", 0),
             value_at(feature, row)) for row in near]  # fmt: skip
    events = [(time, value) for time, _, _, value in sorted(one for one in made
                                                            if one[3] is not None)]  # fmt: skip
    if not events:
        return missing("never")
    age = as_of - events[-1][0]
    how = feature.get("on_stale", "use")
    old = age > feature.get("ttl", age)
    if old and how == "recompute":
        if events[-1][0] <= at - window:
            return missing("empty_window", age)
        at = events[-1][0]
    value, n, coverage = computed(feature, events, at, window, gaps or [])
    if value is None:
        return missing("too_few" if n else "empty_window", age, coverage)
    if coverage < feature.get("min_coverage", 0) or n < feature.get("min_count", 0):
        return missing("warming", age, coverage)
    if not old:
        return Told(value, 0, "-", age, coverage)
    if how == "missing":
        return missing("ttl", age, coverage)
    instead = {"default": feature.get("default", math.nan), "refuse": math.nan}
    return Told(instead.get(how, value), 1, "ttl", age, coverage)


def divided(top: Told, bottom: Told) -> Told:
    worse = bottom if bottom.state > top.state else top
    age = -1 if -1 in (top.age, bottom.age) else max(top.age, bottom.age)
    coverage = min(top.coverage, bottom.coverage)
    if worse.state == 2:
        return missing(worse.reason, age, coverage)
    if bottom.value == 0:
        return missing("too_few", age, coverage)
    return Told(top.value / bottom.value, worse.state, worse.reason, age, coverage)


class Page:
    """What the pages say of a case: which rows count, and the answers."""

    def __init__(self, golden: dict[str, Any]) -> None:
        self.view = cbor2.loads(bytes.fromhex(golden["bytes"]))
        self.late = self.ahead = 0
        self.gaps: Gaps = []
        self.newest: dict[str, int] = {}  # of each entity
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.others: dict[str, list[dict[str, Any]]] = {}
        self.last = -math.inf  # the newest time that counted
        self.gone = -math.inf  # that of entities that went
        for one in golden["events"]:
            if one["stream"] == self.view["source"]:
                self.take(one["row"])
            else:
                self.others.setdefault(one["stream"], []).append(one["row"])
        for rows in self.others.values():
            rows.sort(key=lambda row: row["time"])  # none of the vector is late

    @property
    def watermark(self) -> float:
        """All rows have one source."""
        return self.last - self.view["lateness"] if "idle" in self.view else -math.inf

    def take(self, row: dict[str, Any]) -> None:
        view, time, entity = self.view, row["time"], row[self.view["entity"]]
        if "max_ahead" in view and self.newest and time > self.last + view["max_ahead"]:
            self.ahead += 1
        elif time < max(self.watermark, self.newest.get(entity, time) - view["lateness"]):
            self.late += 1
        else:
            self.last = max(time, self.last)
            self.newest[entity] = max(time, self.newest.get(entity, time))
            rows = self.rows.setdefault(entity, [])
            rows.append(row)
            rows.sort(key=lambda row: row["time"])
        if len(self.newest) > view.get("max_entities", math.inf):
            oldest = min(self.newest, key=lambda name: (self.newest[name], name))
            self.gone = max(self.gone, self.newest.pop(oldest))
            del self.rows[oldest]

    def read(self, entity: str, as_of: int) -> dict[str, Told]:
        out: dict[str, Told] = {}
        for feature in sorted(self.view["features"], key=lambda one: one["op"] == "ratio"):
            if feature["op"] == "ratio":
                told = divided(out[feature["numerator"]], out[feature["denominator"]])
            elif "join" in feature:
                join = feature["join"]
                rows = self.others[join["stream"]]
                behind = rows[-1]["time"] > as_of + join["lateness"]
                told = missing("behind") if behind else answer(feature, rows, as_of)
            else:
                told = answer(feature, self.rows.get(entity, []), as_of, self.gaps)
                if entity not in self.rows and self.gone > as_of - 2 * feature["window"]:
                    told = missing("evicted")
            out[feature["name"]] = told
        return out
