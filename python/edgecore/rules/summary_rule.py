"""The rule of a summary stream: what is kept of which fields, and the schema that follows from it.

Data alone, with one form and an identity: docs/formats/summary.md.
"""

from __future__ import annotations

from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.rules.exact import Grid
from edgecore.schema import TIERS, Field, Schema
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

WHAT = ("sum", "squares", "min", "max")
BUCKETS_MAX = 4096
COUNTS_MAX = 1024
BASE_BYTES_MAX = 18  # of a field's name in front of the longest ending, within a name's 23
I64 = 1 << 63
ROWS_MAX = 1 << 32  # of one summary
PERIOD_MAX = 366 * 86_400 * 10**9


class Measure:
    """What is kept of one field, beside the number of its values.

    :param what: of :data:`WHAT`; fields that are no numbers have their count alone, and a bool its
        sum.
    :param histogram: (low, high, buckets) in the field's unit: so many equal buckets, each without
        its upper edge but the last.
    :param counts: how often each value came, exactly, for categories, texts, bools and integers, as
        long as there are no more distinct ones than this, and none of more than 256 bytes."""

    __slots__ = ("counts", "field", "histogram", "what")

    def __init__(
        self,
        field: str,
        what: Sequence[str] = WHAT,
        *,
        histogram: tuple[float, float, int] | None = None,
        counts: int = 0,
    ) -> None:
        unknown = [word for word in what if word not in WHAT]
        if unknown:
            raise Invalid(f"summary of {field!r}: {unknown[0]!r} is none of {', '.join(WHAT)}")
        self.field = field
        self.what = tuple(word for word in WHAT if word in what)
        self.histogram = histogram
        self.counts = counts


class Column:
    """One field of a rule: where its figures are in a row, and how its values become integers."""

    __slots__ = ("base", "buckets", "counts", "field", "grid", "high", "low", "what")

    def __init__(
        self,
        field: Field,
        index: int,
        what: Sequence[str],
        buckets: tuple[int, int, int] | None,
        counts: int,
    ) -> None:
        self.field = field
        name = field.name
        self.base = name if len(name.encode()) <= BASE_BYTES_MAX else f"#{index}"
        self.grid = Grid(field)
        self.what = tuple(what)
        self.low, self.high, self.buckets = buckets or (0, 0, 0)
        self.counts = counts

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
        if self.counts:
            out.append(Field(f"{base}.vals", "bytes"))
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
        if self.counts:
            out["counts"] = self.counts
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
        what, buckets = Grid(field).of(measure.what), _buckets(field, measure)
        columns.append(Column(field, index, what, buckets, _counts(field, measure)))
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


def _counts(field: Field, measure: Measure) -> int:
    count = measure.counts
    if count and not Grid(field).names_values:
        raise Invalid(f"counts of {field.name!r}: a {field.dtype} has too many values")
    if type(count) is not int or not 0 <= count <= COUNTS_MAX:
        raise Invalid(f"counts of {field.name!r}: at most {COUNTS_MAX} values")
    return count


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
            columns.append(_column(item, *known[item["name"]]))
        if found["entity"] and not Grid(known[found["entity"]][1]).names_entities:
            raise Invalid("its entity is no field that names any")
        rule = Rule(
            cbor.field(found, "name", str), source, cbor.field(found, "tier", str),
            cbor.field(found, "entity", str), cbor.unsigned(found.get("period"), 63),
            cbor.unsigned(found.get("lateness"), 63), columns,
        )  # fmt: skip
        rule.schema()
    except (KeyError, TypeError, ValueError, ArithmeticError, Invalid) as error:
        raise Corrupt(f"summary: {error}") from None
    if rule.body != body:
        raise Corrupt("summary: not what this rule encodes to")
    return rule


def _column(item: Any, index: int, field: Field) -> Column:
    """Of a rule's bytes; within the bounds of :func:`define`. Raises ``Invalid`` and what wrong
    types do."""
    measure = Measure(field.name, item["what"], counts=item.get("counts", 0))
    buckets = None
    if "buckets" in item:
        grid = Grid(field)
        low, high = grid.from_plain(item["low"]), grid.from_plain(item["high"])
        if type(item["buckets"]) is not int or not 1 <= item["buckets"] <= BUCKETS_MAX:
            raise Invalid(f"{item['buckets']} buckets")
        if not (grid.is_number and low < high):
            raise Invalid(f"a histogram of {field.name!r}")
        buckets = low, high, item["buckets"]
    return Column(field, index, Grid(field).of(measure.what), buckets, _counts(field, measure))


__all__ = ["I64", "WHAT", "Column", "Measure", "Rule", "define", "rule_of"]
