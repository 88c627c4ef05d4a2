"""Summaries of a stream: exact aggregates of its rows by entity and pane of time, which merge.

    rule = define(schema, period_ns=60 * 10**9, fields=[Measure("temp", histogram=(-40, 150, 19))])
    pane = Pane(rule, "", rule.pane_of(row["time"]))
    pane.add(position, row)                      # a row as `edgecore.wire.rowbatch` reads it
    merge([a, b, c], hour)                       # panes of a minute -> of an hour, in any order

Everything counted is a Python integer of the field's grid, so neither order nor cut shows in any
figure: panes that are merged are the pane of all their rows, to the bit. Pure: rows in, values out.
Bytes: docs/formats/summary.md.
"""

from __future__ import annotations

from edgecore.errors import Corrupt, Invalid
from edgecore.rules.exact import (
    bytes_of,
    counts_bytes,
    number_of,
    read_counts,
    read_varints,
    varints,
)
from edgecore.rules.summary_rule import I64, WHAT, Column, Measure, Rule, define, rule_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

COUNTED_BYTES_MAX = 256  # of a value that is counted


class Figures:
    """Of one field in one pane. `sum` and `squares` are integers of the grid; `vals` is None when
    there were more values than are counted."""

    __slots__ = ("hist", "max", "min", "n", "squares", "sum", "vals")

    def __init__(self, buckets: int) -> None:
        self.n = self.sum = self.squares = 0
        self.min: int | None = None
        self.max: int | None = None
        self.hist = [0] * (buckets + 2) if buckets else []
        self.vals: dict[str, int] | None = {}


class Pane:
    """The rows of one entity in one pane, or some of them: parts of a pane merge.

    `k`: the pane is (k - 1, k] periods since 1970. `first`, `last`: positions of its first and
    last row; rows of the pane outside are in other parts."""

    __slots__ = ("entity", "figures", "first", "k", "last", "rows", "rule")

    def __init__(self, rule: Rule, entity: str, k: int) -> None:
        self.rule, self.entity, self.k = rule, entity, k
        self.first = self.last = self.rows = 0
        self.figures = [Figures(column.buckets) for column in rule.columns]

    @property
    def key(self) -> tuple[int, str]:
        return self.k, self.entity

    def add(self, position: int, row: dict[str, Any]) -> None:
        """A row of the pane, as `rowbatch.read_rows` gives it. In any order."""
        self.first = min(self.first or position, position)
        self.last = max(self.last, position)
        self.rows += 1
        for column, figures in zip(self.rule.columns, self.figures, strict=True):
            value = column.grid.value(row[column.field.name])
            if value is None:
                continue
            figures.n += 1
            if column.what:
                figures.sum += value
                figures.squares += value * value
                if figures.min is None or value < figures.min:
                    figures.min = value
                if figures.max is None or value > figures.max:
                    figures.max = value
            if figures.hist:
                figures.hist[column.bucket(value)] += 1
            if column.counts and figures.vals is not None:
                text = column.grid.name(row[column.field.name])
                figures.vals[text] = figures.vals.get(text, 0) + 1
                if len(figures.vals) > column.counts or len(text.encode()) > COUNTED_BYTES_MAX:
                    figures.vals = None

    def take(self, other: Pane) -> None:
        """Adds another part of it."""
        if not other.rows:
            return
        self.first = min(self.first or other.first, other.first)
        self.last = max(self.last, other.last)
        self.rows += other.rows
        for column, mine, its in zip(self.rule.columns, self.figures, other.figures, strict=True):
            mine.n += its.n
            mine.sum += its.sum
            mine.squares += its.squares
            lows = [value for value in (mine.min, its.min) if value is not None]
            highs = [value for value in (mine.max, its.max) if value is not None]
            mine.min, mine.max = min(lows, default=None), max(highs, default=None)
            mine.hist = [a + b for a, b in zip(mine.hist, its.hist, strict=True)]
            mine.vals = _together(mine.vals, its.vals, column.counts)

    def row(self) -> dict[str, Any]:
        """As it is appended to the summary stream."""
        out: dict[str, Any] = {
            "time": self.k * self.rule.period, "rule": self.rule.id, "entity": self.entity,
            "start": (self.k - 1) * self.rule.period, "first": self.first, "last": self.last,
            "rows": self.rows,
        }  # fmt: skip
        for column, figures in zip(self.rule.columns, self.figures, strict=True):
            base, grid = column.base, column.grid
            out[f"{base}.n"] = figures.n
            for word, end, power, total in (
                ("sum", "sum", 1, figures.sum), ("squares", "sq", 2, figures.squares),
            ):  # fmt: skip
                if word in column.what:
                    if not grid.is_float and -I64 <= total < I64:
                        out[f"{base}.{end}"] = total
                    else:
                        out[f"{base}.{end}x"] = bytes_of(total, -power * grid.bits)
            for word, value in (("min", figures.min), ("max", figures.max)):
                if word in column.what and value is not None:
                    out[f"{base}.{word}"] = grid.text(value)
            if figures.hist:
                out[f"{base}.hist"] = varints(figures.hist)
            if column.counts and figures.vals is not None:
                out[f"{base}.vals"] = counts_bytes(figures.vals)
        return out

    def _of(self, field: str) -> tuple[Column, Figures]:
        for column, figures in zip(self.rule.columns, self.figures, strict=True):
            if column.field.name == field:
                return column, figures
        raise Invalid(f"the summary has no field {field!r}")

    def values(self, field: str) -> dict[str, int] | None:
        """How often each value came, by value; None if there were more than are counted, or none
        are. Integers as decimal text, bools as ``true`` and ``false``."""
        column, found = self._of(field)
        return (
            dict(sorted(found.vals.items())) if column.counts and found.vals is not None else None
        )

    def quantile(self, field: str, share: float) -> tuple[float, float] | None:
        """Between which two values, in the field's unit, the one of rank ⌈share · n⌉ lies: a bucket
        of the histogram, or what is known below or above it. None without values or histogram."""
        from fractions import Fraction

        column, found = self._of(field)
        if not 0 < share <= 1:
            raise Invalid(f"quantile {share}: above 0, at most 1")
        if not found.n or not found.hist:
            return None
        rank = -(-Fraction(share) * found.n // 1)
        at = seen = 0
        while seen + found.hist[at] < rank:
            seen += found.hist[at]
            at += 1
        width = Fraction(column.high - column.low, column.buckets)
        edges = [column.low + (at - 1) * width, column.low + at * width]
        if at == 0:
            edges[0] = _limit(found.min if "min" in column.what else None, -1)
        if at > column.buckets:
            edges[1] = _limit(found.max if "max" in column.what else None, 1)
        low, high = [
            edge * column.grid.step if isinstance(edge, Fraction) else edge for edge in edges
        ]
        return float(low), float(high)

    def stats(self, field: str) -> dict[str, float | int | None]:
        """Figures of a field in its unit: ``n``, ``sum``, ``mean``, ``std`` (ddof = 1), ``min``,
        ``max``; None where there is none, or it was not kept."""
        from fractions import Fraction

        column, found = self._of(field)
        n, step = found.n, column.grid.step

        def unit(word: str, value: int | Fraction | None) -> float | None:
            kept = word in column.what and n and value is not None
            return float(Fraction(value or 0) * step) if kept else None

        spread = None
        if n > 1 and {"sum", "squares"} <= set(column.what):
            exact = Fraction(n * found.squares - found.sum**2, n * (n - 1))
            spread = float(exact * step * step) ** 0.5
        return {
            "n": n, "sum": unit("sum", found.sum), "mean": unit("sum", Fraction(found.sum, n or 1)),
            "std": spread, "min": unit("min", found.min), "max": unit("max", found.max),
        }  # fmt: skip


def _together(
    mine: dict[str, int] | None, its: dict[str, int] | None, most: int
) -> dict[str, int] | None:
    """Added up; None once there are too many values, whichever way they came together."""
    if mine is None or its is None:
        return None
    out = {text: mine.get(text, 0) + its.get(text, 0) for text in {**mine, **its}}
    return out if len(out) <= most else None


def _limit(known: int | None, sign: int) -> Any:
    """What bounds the values beyond a histogram."""
    from fractions import Fraction

    return Fraction(known) if known is not None else sign * float("inf")


def pane_of_row(rule: Rule, row: dict[str, Any]) -> Pane:
    """The inverse of :meth:`Pane.row`, of a row as `rowbatch.read_rows` gives it. Raises
    ``Corrupt`` for one that a rule does not make."""
    try:
        return _pane_of_row(rule, row)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(f"{rule.name}: a row that is no summary: {error}") from None


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("a count that is none")
    return value


def _pane_of_row(rule: Rule, row: dict[str, Any]) -> Pane:
    if row.get("rule") != rule.id or row["time"] % rule.period:
        raise Corrupt(f"{rule.name}: a row of another rule")
    pane = Pane(rule, row["entity"].encode().decode(), row["time"] // rule.period)
    pane.first, pane.last = _whole(row["first"]), _whole(row["last"])
    pane.rows = _whole(row["rows"])
    for column, figures in zip(rule.columns, pane.figures, strict=True):
        base, grid = column.base, column.grid
        figures.n = _whole(row[f"{base}.n"])
        for end, power, name in (("sum", 1, "sum"), ("sq", 2, "squares")):
            total, exact = row.get(f"{base}.{end}"), row.get(f"{base}.{end}x")
            if total is None and exact is not None:
                total = number_of(exact, -power * grid.bits)
            if name in column.what:
                setattr(figures, name, _whole(total))
        for word in ("min", "max"):
            value = row.get(f"{base}.{word}")
            if word in column.what:
                if (value is None) != (figures.n == 0):
                    raise ValueError(f"{base}.{word} of {figures.n} values")
                setattr(figures, word, None if value is None else grid.value(value))
        if column.buckets:
            figures.hist = read_varints(row[f"{base}.hist"] or b"", column.buckets + 2)
        if column.counts:
            vals = row[f"{base}.vals"]
            figures.vals = None if vals is None else read_counts(vals, column.counts)
    return pane


def merge(panes: Iterable[Pane], period_ns: int) -> list[Pane]:
    """Panes of a longer period, a multiple of theirs, by pane and entity: each the pane of all the
    rows of what was merged. Raises ``Invalid``."""
    out: dict[tuple[int, str], Pane] = {}
    rules: dict[int, Rule] = {}
    for pane in panes:
        rule = pane.rule
        if period_ns % rule.period:
            raise Invalid(f"a period of {period_ns} ns is no multiple of {rule.period}")
        wide = rules.setdefault(
            rule.id,
            Rule(rule.name, rule.source, rule.tier, rule.entity, period_ns, rule.lateness,
                 rule.columns),
        )  # fmt: skip
        k = wide.pane_of(pane.k * rule.period)
        found = out.setdefault((k, pane.entity), Pane(wide, pane.entity, k))
        if found.rule is not wide and found.rule.body != wide.body:
            raise Invalid("panes of different rules do not merge")
        found.take(pane)
    return [out[key] for key in sorted(out)]


__all__ = [
    "WHAT", "Column", "Measure", "Pane", "Rule", "define", "merge", "pane_of_row", "rule_of",
]  # fmt: skip
