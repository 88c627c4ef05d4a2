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

    [[features]]
    kind = "as_of"                          # of another stream; its features follow
    stream = "weather"
    [[features.features]]
    kind = "last"
    field = "outside"

A table's keys are the parameters of the class that its kind names. Errors say line and key.
"""

from __future__ import annotations

import re

from edgecore import feature_kinds as kinds
from edgecore.errors import EdgecoreError, Invalid
from edgecore.expressions import expression
from edgecore.feature_rules import KEYS
from edgecore.feature_spec import PARAMETERS, Feature, duration_ns, features_of
from edgecore.feature_view import DEFINITION_BYTES_MAX, FeatureView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

    Path = tuple[int, ...]  # of a table: (), the view; (i,), its feature i; (i, j) within that

_VIEW = ("name", "entity", "source")
_DURATIONS = ("window", "half_life", "within", "ttl", "hop", "gap", "hold", "lateness",
              "max_ahead", "idle")  # fmt: skip
_WHOLE = ("min_count", "permille", "version", "max_entities", "max_bytes")
_NUMBERS = ("default", "min_coverage", "at_least", "below", "edges", "value")
_TRUTHS = ("approx",)
_LISTS = ("ops", "window", "edges", "value", "fields")


class _Lines:
    """Where tables and keys stand. Read by line, so a key within a text of many lines may be taken
    for one; it decides what a message says and nothing else."""

    def __init__(self, text: str) -> None:
        self.tables: dict[Path, int] = {(): 1}
        self.keys: dict[tuple[Path, str], int] = {}
        at: Path = ()
        for number, line in enumerate(text.splitlines(), 1):
            if re.match(r"\s*\[\[\s*features\s*\]\]", line):
                at = (at[0] + 1 if at else 0,)
                self.tables[at] = number
            elif at and re.match(r"\s*\[\[\s*features\s*\.\s*features\s*\]\]", line):
                at = (at[0], at[1] + 1 if len(at) == 2 else 0)
                self.tables[at] = number
            elif found := re.match(r"\s*[\"']?([A-Za-z0-9_-]+)[\"']?\s*=", line):
                self.keys.setdefault((at, found[1]), number)

    def place(self, table: Path, key: str = "") -> str:
        known = table
        while known not in self.tables:  # tables in one line: that of what they are in
            known = known[:-1]
        header = self.tables[known] if known == table else self._list_of(known)
        return f"line {self.keys.get((table, key), header)}" + (f", key {key!r}" if key else "")

    def _list_of(self, table: Path) -> int:
        return self.keys.get((table, "features"), self.tables[table])


class _Kind:
    """A class that makes features, and which keys a table of it has."""

    def __init__(self, make: Any) -> None:
        from inspect import Parameter, signature

        parameters = signature(make).parameters.values()
        named = [one for one in parameters if one.kind not in (
            Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)]  # fmt: skip
        self.make = make
        self.keys = {one.name for one in named}
        self.needed = [one.name for one in named if one.default is Parameter.empty]
        self.nested = any(one.kind is Parameter.VAR_POSITIONAL for one in parameters)
        if any(one.kind is Parameter.VAR_KEYWORD for one in parameters):
            self.keys |= PARAMETERS.keys() | {"name"}
        if "field" in self.keys:
            self.keys.add("expr")
        if make is Feature:
            self.needed.remove("field")


def _kinds() -> dict[str, _Kind]:
    """By name: ``most_frequent`` is MostFrequent."""
    from typing import get_args

    return {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", one.__name__).lower(): _Kind(one)
        for one in (*get_args(kinds.Kind), Feature)
    }


class _Reader:
    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.lines = _Lines(text)
        self.kinds = _kinds()

    def refuse(self, table: Path, key: str, what: object) -> NoReturn:
        raise Invalid(f"{self.where}: {self.lines.place(table, key)}: {what}")

    def value(self, table: Path, key: str, value: object) -> object:
        """A key's value, of a type that it can have."""
        if isinstance(value, list):
            if key not in _LISTS or not value:
                self.refuse(table, key, "one value is needed")
            return [self.one(table, key, item) for item in value]
        return self.one(table, key, value)

    def one(self, table: Path, key: str, value: object) -> object:
        wanted: Any = str
        if key in _DURATIONS:
            wanted, said = int | str, "a duration such as '90s'"
        elif key in _WHOLE:
            wanted, said = int, "a whole number"
        elif key in _NUMBERS:
            wanted, said = int | float, "a number"
        elif key in _TRUTHS:
            wanted, said = bool, "true or false"
        else:
            said = "a text"
        if (isinstance(value, bool) and wanted is not bool) or not isinstance(value, wanted):
            self.refuse(table, key, f"{said} is needed")
        try:
            if key in _DURATIONS:
                duration_ns(value)
            if key == "expr":
                return expression(str(value))
        except Invalid as error:
            self.refuse(table, key, error)
        return value

    def tables(self, within: Path, tables: object) -> Iterator[Any]:
        if not isinstance(tables, list):
            self.refuse(within, "features", "features are tables: [[features]]")
        made: dict[str, Path] = {}
        for number, body in enumerate(tables):
            at = (*within, number)
            one = self.table(at, body)
            for feature in features_of([one]):
                if made.setdefault(feature.name, at) != at:
                    self.refuse(at, "", f"feature {feature.name!r} is defined twice, also at "
                                        f"{self.lines.place(made[feature.name])}")  # fmt: skip
            yield one

    def table(self, at: Path, body: object) -> Any:
        if not isinstance(body, dict):
            self.refuse(at, "", "a feature is a table")
        name = body.get("kind", "agg")
        kind = self.kinds.get(name) if isinstance(name, str) else None
        if kind is None:
            self.refuse(at, "kind", f"{name!r} is none of {', '.join(sorted(self.kinds))}")
        given, nested = {}, []
        for key, value in body.items():
            if key == "features" and kind.nested:
                nested = list(self.tables(at, value))
            elif key in kind.keys:
                given[key] = self.value(at, key, value)
            elif key != "kind":
                self.refuse(at, key, f"no parameter of {name!r}")
        if "expr" in given:
            if "field" in given:
                self.refuse(at, "expr", "a feature reads a field or an expression, not both")
            given["field"] = given.pop("expr")
        if kind.make is Feature:
            given.setdefault("field", "")
        for key in kind.needed:
            if key not in given:
                self.refuse(at, "", f"{name!r} needs {key!r}")
        try:
            if kind.nested:
                return kind.make(*[given.pop(key) for key in kind.needed], *nested, **given)
            return kind.make(**given)
        except (TypeError, ValueError) as error:
            self.refuse(at, "", error)
        except EdgecoreError as error:
            raise type(error)(f"{self.where}: {self.lines.place(at)}: {error}") from None

    def view(self, body: dict[str, Any]) -> FeatureView:
        for key in body:
            if key not in (*_VIEW, "lateness", *KEYS, "features"):
                self.refuse((), key, "no key of a view")
        for key in (*_VIEW, "features"):
            if key not in body:
                raise Invalid(f"{self.where}: key {key!r} is missing")
        rest = {key: self.one((), key, value) for key, value in body.items() if key != "features"}
        features = list(self.tables((), body["features"]))
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
