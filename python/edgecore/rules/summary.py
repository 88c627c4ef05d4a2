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

from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.rules.exact import FLOAT_BITS, Grid, bytes_of, number_of, read_varints, varints
from edgecore.schema import TIERS, Field, Schema
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

WHAT = ("sum", "squares", "min", "max")
KEPT = (*WHAT, "histogram")
BUCKETS_MAX = 4096
BASE_BYTES_MAX = 18  # of a field's name in front of the longest ending, within a name's 23
I64 = 1 << 63
ROWS_MAX = 1 << 32  # of one summary
PERIOD_MAX = 366 * 86_400 * 10**9


class Measure:
    """What is kept of one field, beside the number of its values.

    :param what: of :data:`WHAT`; fields that are no numbers have their count alone, and a bool its
        sum.
    :param histogram: (low, high, buckets) in the field's unit: so many equal buckets, each without
        its upper edge but the last."""

    __slots__ = ("field", "histogram", "what")

    def __init__(
        self,
        field: str,
        what: Sequence[str] = WHAT,
        *,
        histogram: tuple[float, float, int] | None = None,
    ) -> None:
        unknown = [word for word in what if word not in WHAT]
        if unknown:
            raise Invalid(f"summary of {field!r}: {unknown[0]!r} is none of {', '.join(WHAT)}")
        self.field = field
        self.what = tuple(word for word in WHAT if word in what)
        self.histogram = histogram


class Column:
    """One field of a rule: where its figures are in a row, and how its values become integers."""

    __slots__ = ("base", "buckets", "field", "grid", "high", "low", "what")

    def __init__(
        self, field: Field, index: int, what: Sequence[str], buckets: tuple[int, int, int] | None
    ) -> None:
        self.field = field
        name = field.name
        self.base = name if len(name.encode()) <= BASE_BYTES_MAX else f"#{index}"
        self.grid = Grid(field)
        self.what = tuple(what)
        self.low, self.high, self.buckets = buckets or (0, 0, 0)

    def fields(self) -> list[Field]:
        """What they are in the summary stream."""
        base, grid, field = self.base, self.grid, self.field
        out = [Field(f"{base}.n", "u32", required=True)]
        for word, end, power in (("sum", "sum", 1), ("squares", "sq", 2)):
            if word in self.what:
                if not grid.is_float:
                    out.append(Field(f"{base}.{end}", "i64"))
                if grid.is_float or grid.bound(power) * ROWS_MAX >= I64:
                    out.append(Field(f"{base}.{end}x", "bytes"))
        for word in ("min", "max"):
            if word in self.what:
                out.append(Field(f"{base}.{word}", field.dtype_text, unit=field.unit,
                                 resolution=field.resolution))  # fmt: skip
        if self.buckets:
            out.append(Field(f"{base}.hist", "bytes"))
        return out

    def bucket(self, value: int) -> int:
        """0 is below, then the buckets, and the last is above."""
        if value < self.low:
            return 0
        if value > self.high:
            return self.buckets + 1
        at = (value - self.low) * self.buckets // (self.high - self.low)
        return 1 + min(at, self.buckets - 1)

    def canonical(self) -> dict[str, object]:
        out: dict[str, object] = {"name": self.field.name, "what": list(self.what)}
        if self.buckets:
            out |= {"low": self.grid.plain(self.low), "high": self.grid.plain(self.high),
                    "buckets": self.buckets}  # fmt: skip
        return out


class Rule:
    """What a summary stream is made of: data, with an identity. Made by :func:`define`."""

    def __init__(
        self,
        name: str,
        source: Schema,
        tier: str,
        entity: str,
        period: int,
        lateness: int,
        columns: list[Column],
    ) -> None:
        if not 1 <= period <= PERIOD_MAX or not 0 <= lateness <= PERIOD_MAX:
            raise Invalid(f"summary {name!r}: period and lateness are at most 366 days, and the "
                          "period is not 0")  # fmt: skip
        if tier not in TIERS:
            raise Invalid(f"summary {name!r}: tier {tier!r}: one of {', '.join(TIERS)}")
        self.name, self.source, self.tier, self.entity = name, source, tier, entity
        self.period, self.lateness = period, lateness
        self.columns = columns
        self.body = cbor.encode(
            {
                "version": 1, "name": name, "stream": source.stream, "schema": source.fingerprint,
                "tier": tier, "entity": entity, "period": period, "lateness": lateness,
                "fields": [column.canonical() for column in columns],
            }
        )  # fmt: skip
        self.id = int.from_bytes(blake3(self.body)[:6], "little")

    def schema(self, version: int = 1) -> Schema:
        """Of the summary stream. Raises ``Invalid`` when it would have too many fields."""
        fields = [
            Field("rule", "u64", required=True),
            Field("entity", "category", required=True),
            Field("start", "i64", unit="ns", required=True),
            Field("first", "u64", required=True),
            Field("last", "u64", required=True),
            Field("rows", "u32", required=True),
            *(field for column in self.columns for field in column.fields()),
        ]
        try:
            return Schema(self.name, tier=self.tier, fields=fields, version=version)
        except Invalid as error:
            raise Invalid(f"summary {self.name!r}: {error}; name fewer fields") from None

    def pane_of(self, time: int) -> int:
        """The pane (k - 1, k] periods that a time lies in, as its k."""
        return -(-time // self.period)

    def entity_of(self, row: dict[str, Any]) -> str:
        value = row[self.entity] if self.entity else None
        return "" if value is None else str(value)


def define(
    source: Schema,
    *,
    period_ns: int,
    lateness_ns: int = 0,
    entity: str = "",
    fields: Iterable[Measure] | None = None,
    name: str = "",
    tier: str = "",
) -> Rule:
    """The rule for a stream's summaries.

    :param fields: without any, all but the entity's, with everything but histograms.
    :param name: of the summary stream, by default ``<stream>.summary``; :param tier: of it, by
        default ``diagnostic``, or the stream's own where that is worth more.
    Raises ``Invalid`` naming what does not fit."""
    known = {field.name: (index, field) for index, field in enumerate(source.fields)}
    if entity and (entity not in known or not Grid(known[entity][1]).names_entities):
        raise Invalid(f"summary of {source.stream!r}: entity {entity!r} is no field of it that is "
                      "a category, a text or an integer")  # fmt: skip
    chosen = list(fields or ())
    chosen = chosen or [Measure(f.name) for f in source.fields if f.name != entity]
    columns = []
    for measure in chosen:
        if measure.field not in known:
            raise Invalid(f"summary of {source.stream!r}: it has no field {measure.field!r}")
        index, field = known[measure.field]
        columns.append(Column(field, index, Grid(field).of(measure.what), _buckets(field, measure)))
    if not tier:
        tier = min(source.tier, "diagnostic", key=TIERS.index)
    name = name or f"{source.stream}.summary"
    if name.startswith("edgecore.") or name == source.stream:
        raise Invalid(f"summary name {name!r} is the system's, or the stream's own")
    rule = Rule(name, source, tier, entity, period_ns, lateness_ns, columns)
    rule.schema()
    return rule


def _buckets(field: Field, measure: Measure) -> tuple[int, int, int] | None:
    if measure.histogram is None:
        return None
    low, high, count = measure.histogram
    where = f"histogram of {field.name!r}"
    if type(count) is not int or not 1 <= count <= BUCKETS_MAX:
        raise Invalid(f"{where}: 1 to {BUCKETS_MAX} buckets, as (low, high, buckets)")
    edges = [Grid(field).edge(where, value) for value in (low, high)]
    if not edges[0] < edges[1]:
        raise Invalid(f"{where}: {low} to {high} is empty")
    return edges[0], edges[1], count


def rule_of(body: bytes, source: Schema) -> Rule:
    """The rule of its canonical bytes and the schema that it names. Raises ``Corrupt``, or
    ``Incompatible`` for a later version or another schema."""
    found = cbor.decode(body)
    if cbor.field(found, "version", int) != 1:
        raise Incompatible(f"summary: version {found['version']} is not of this build")
    if cbor.field(found, "schema", bytes, 32) != source.fingerprint:
        raise Incompatible("summary: of another schema")
    known = {field.name: (index, field) for index, field in enumerate(source.fields)}
    columns = []
    try:
        for item in cbor.field(found, "fields", list):
            index, field = known[item["name"]]
            grid = Grid(field)
            edges = [grid.from_plain(item[key]) for key in ("low", "high") if key in item]
            buckets = (edges[0], edges[1], int(item["buckets"])) if edges else None
            columns.append(Column(field, index, item["what"], buckets))
        rule = Rule(
            cbor.field(found, "name", str), source, cbor.field(found, "tier", str),
            cbor.field(found, "entity", str), cbor.unsigned(found.get("period"), 63),
            cbor.unsigned(found.get("lateness"), 63), columns,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, IndexError, Invalid) as error:
        raise Corrupt(f"summary: {error}") from None
    if rule.body != body:
        raise Corrupt("summary: not what this rule encodes to")
    return rule


class Figures:
    """Of one field in one pane. `sum` and `squares` are integers of the grid."""

    __slots__ = ("hist", "max", "min", "n", "squares", "sum")

    def __init__(self, buckets: int) -> None:
        self.n = self.sum = self.squares = 0
        self.min: int | None = None
        self.max: int | None = None
        self.hist = [0] * (buckets + 2) if buckets else []


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

    def take(self, other: Pane) -> None:
        """Adds another part of it."""
        if not other.rows:
            return
        self.first = min(self.first or other.first, other.first)
        self.last = max(self.last, other.last)
        self.rows += other.rows
        for mine, its in zip(self.figures, other.figures, strict=True):
            mine.n += its.n
            mine.sum += its.sum
            mine.squares += its.squares
            lows = [value for value in (mine.min, its.min) if value is not None]
            highs = [value for value in (mine.max, its.max) if value is not None]
            mine.min, mine.max = min(lows, default=None), max(highs, default=None)
            mine.hist = [a + b for a, b in zip(mine.hist, its.hist, strict=True)]

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
        return out

    def _of(self, field: str) -> tuple[Column, Figures]:
        for column, figures in zip(self.rule.columns, self.figures, strict=True):
            if column.field.name == field:
                return column, figures
        raise Invalid(f"the summary has no field {field!r}")

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


def _limit(known: int | None, sign: int) -> Any:
    """What bounds the values beyond a histogram."""
    from fractions import Fraction

    return Fraction(known) if known is not None else sign * float("inf")


def pane_of_row(rule: Rule, row: dict[str, Any]) -> Pane:
    """The inverse of :meth:`Pane.row`, of a row as `rowbatch.read_rows` gives it. Raises
    ``Corrupt``."""
    if row.get("rule") != rule.id or row["time"] % rule.period:
        raise Corrupt(f"{rule.name}: a row of another rule")
    pane = Pane(rule, row["entity"], row["time"] // rule.period)
    pane.first, pane.last, pane.rows = row["first"], row["last"], row["rows"]
    for column, figures in zip(rule.columns, pane.figures, strict=True):
        base, grid = column.base, column.grid
        figures.n = row[f"{base}.n"]
        for end, power, name in (("sum", 1, "sum"), ("sq", 2, "squares")):
            total, exact = row.get(f"{base}.{end}"), row.get(f"{base}.{end}x")
            if total is None and exact is not None:
                total = number_of(exact, -power * grid.bits)
            if total is not None:
                setattr(figures, name, total)
        for word in ("min", "max"):
            value = row.get(f"{base}.{word}")
            setattr(figures, word, None if value is None else grid.value(value))
        if column.buckets:
            figures.hist = read_varints(row[f"{base}.hist"] or b"", column.buckets + 2)
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
    "FLOAT_BITS", "KEPT", "WHAT", "Column", "Measure", "Pane", "Rule", "define", "merge",
    "pane_of_row", "rule_of",
]  # fmt: skip
