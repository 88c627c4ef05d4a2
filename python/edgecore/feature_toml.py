"""Feature views as TOML: the same definition, to the byte, as the one that Python makes.

    name = "pump_health"
    entity = "pump"
    source = "telemetry"
    lateness = "30s"

    [[features]]                            # kind = "agg" unless another is given
    field = "temp"
    ops = ["mean", "std", "p95"]
    window = ["1m", "10m", "1h"]
    unit = "degC"

    [[features]]
    kind = "time_in"
    expr = "mode == 'run' and rpm > 100"    # in a field's place; it needs a name
    name = "running"
    window = "1h"

A table's keys are the parameters of the class that its kind names. Errors say line and key.
"""

from __future__ import annotations

import re

from edgecore import feature_kinds as kinds
from edgecore.errors import EdgecoreError, Invalid
from edgecore.expressions import expression
from edgecore.feature_rules import KEYS
from edgecore.feature_spec import PARAMETERS, Feature, duration_ns
from edgecore.feature_view import DEFINITION_BYTES_MAX, FeatureView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

# What makes the features of a kind, and the keys it must have; `field` may be an `expr`.
_KINDS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "agg": (kinds.Agg, ("field", "ops", "window")),
    "distinct": (kinds.Distinct, ("field", "window")),
    "ewma": (kinds.Ewma, ("field", "half_life")),
    "histogram": (kinds.Histogram, ("field", "edges", "window")),
    "last": (kinds.Last, ("field",)),
    "most_frequent": (kinds.MostFrequent, ("field", "window")),
    "ratio": (kinds.Ratio, ("name", "numerator", "denominator")),
    "recency": (kinds.Recency, ()),
    "time_in": (kinds.TimeIn, ("field", "window")),
    "feature": (Feature, ("name", "op", "window")),
}
_JUDGED = (*PARAMETERS, "name", "within", "version")
_DURATIONS = ("window", "half_life", "within", "ttl", "hop", "gap", "hold", "lateness",
              "max_ahead", "idle")  # fmt: skip
_WHOLE = ("min_count", "permille", "version", "max_entities", "max_bytes")
_NUMBERS = ("default", "min_coverage", "at_least", "below")
_LISTS = ("ops", "window", "edges")
_VIEW = ("name", "entity", "source")


class _Lines:
    """Where tables and keys stand. Read by line, so a key within a text of many lines may be taken
    for one; it decides what a message says and nothing else."""

    def __init__(self, text: str) -> None:
        self.tables: list[int] = []
        self.keys: dict[tuple[int, str], int] = {}  # (table, -1: the view's own; key)
        for number, line in enumerate(text.splitlines(), 1):
            if re.match(r"\s*\[\[\s*features\s*\]\]", line):
                self.tables.append(number)
            elif found := re.match(r"\s*[\"']?([A-Za-z0-9_-]+)[\"']?\s*=", line):
                self.keys.setdefault((len(self.tables) - 1, found[1]), number)

    def place(self, table: int, key: str = "") -> str:
        header = self.tables[table] if 0 <= table < len(self.tables) else 1
        if table >= len(self.tables):  # tables in one line
            header = self.keys.get((-1, "features"), 1)
        at = self.keys.get((table, key), header)
        return f"line {at}" + (f", key {key!r}" if key else "")


class _Reader:
    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.lines = _Lines(text)
        self.made: dict[str, int] = {}  # feature -> its table

    def refuse(self, table: int, key: str, what: object) -> NoReturn:
        raise Invalid(f"{self.where}: {self.lines.place(table, key)}: {what}")

    def value(self, table: int, key: str, value: object) -> object:
        """A key's value, of a type that it can have."""
        if isinstance(value, list):
            if key not in _LISTS or not value:
                self.refuse(table, key, "one value is needed")
            return [self.one(table, key, item) for item in value]
        return self.one(table, key, value)

    def one(self, table: int, key: str, value: object) -> object:
        if key in _DURATIONS:
            kind: Any = int | str
        elif key in _WHOLE:
            kind = int
        else:
            kind = int | float if key in _NUMBERS or key == "edges" else str
        if isinstance(value, bool) or not isinstance(value, kind):
            wanted = {int: "a whole number", str: "a text"}.get(kind, "a number")
            self.refuse(table, key, "a duration such as '90s' is needed" if key in _DURATIONS
                        else f"{wanted} is needed")  # fmt: skip
        try:
            if key in _DURATIONS:
                duration_ns(value)  # type: ignore[arg-type]
            if key == "expr":
                return expression(str(value))
        except Invalid as error:
            self.refuse(table, key, error)
        return value

    def table(self, at: int, body: object) -> list[Feature]:
        if not isinstance(body, dict):
            self.refuse(at, "", "a feature is a table")
        kind = body.get("kind", "agg")
        if not isinstance(kind, str) or kind not in _KINDS:
            self.refuse(at, "kind", f"{kind!r} is none of {', '.join(sorted(_KINDS))}")
        make, needed = _KINDS[kind]
        for key in body:
            if key not in (*_JUDGED, *needed, "kind"):
                self.refuse(at, key, f"no parameter of {kind!r}")
        given = {key: self.value(at, key, value) for key, value in body.items() if key != "kind"}
        if "expr" in given:
            if "field" in given:
                self.refuse(at, "expr", "a feature reads a field or an expression, not both")
            given["field"] = given.pop("expr")
        elif kind == "feature":
            given.setdefault("field", "")
        for key in needed:
            if key not in given:
                self.refuse(at, "", f"{kind!r} needs {key!r}")
        try:
            made = make(**given)
        except TypeError as error:
            self.refuse(at, "", str(error).partition(") ")[2] or error)
        except EdgecoreError as error:
            raise type(error)(f"{self.where}: {self.lines.place(at)}: {error}") from None
        found: list[Feature] = [made] if isinstance(made, Feature) else made.features
        for feature in found:
            if self.made.setdefault(feature.name, at) != at:
                self.refuse(at, "", f"feature {feature.name!r} is defined twice, also at "
                                    f"{self.lines.place(self.made[feature.name])}")  # fmt: skip
        return found

    def view(self, body: dict[str, Any]) -> FeatureView:
        for key in body:
            if key not in (*_VIEW, "lateness", *KEYS, "features"):
                self.refuse(-1, key, "no key of a view")
        for key in (*_VIEW, "features"):
            if key not in body:
                raise Invalid(f"{self.where}: key {key!r} is missing")
        tables = body["features"]
        if not isinstance(tables, list):
            self.refuse(-1, "features", "features are tables: [[features]]")
        rest = {key: self.one(-1, key, value) for key, value in body.items() if key != "features"}
        features = [one for at, table in enumerate(tables) for one in self.table(at, table)]
        try:
            return FeatureView(**rest, features=features)  # type: ignore[arg-type]
        except Invalid as error:
            raise Invalid(f"{self.where}: {error}") from None


def view_from_toml(text: str, where: str) -> FeatureView:
    """See :meth:`FeatureView.from_toml`."""
    from tomllib import TOMLDecodeError, loads

    if len(text) > DEFINITION_BYTES_MAX:
        raise Invalid(f"{where}: {len(text)} characters; at most {DEFINITION_BYTES_MAX}")
    try:
        body = loads(text)
    except TOMLDecodeError as error:
        raise Invalid(f"{where}: {error}") from None
    except RecursionError:
        raise Invalid(f"{where}: nested too deeply") from None
    return _Reader(text, where).view(body)


__all__ = ["view_from_toml"]
