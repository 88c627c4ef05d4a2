"""What a user writes into a view: operators over windows, each of which becomes features."""

from __future__ import annotations

from itertools import pairwise

from edgecore._core import features as _core
from edgecore.errors import Invalid
from edgecore.expressions import Expression
from edgecore.feature_spec import (
    AGGREGATES,
    APPROXIMABLE,
    Feature,
    duration_ns,
    duration_text,
    features_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from edgecore.feature_spec import Duration


class Agg:
    """Operators over windows of one field: a feature for each pair, ``<field>_<op>_<window>``.

    :param field: a name, or an expression, which needs a `name` in the field's place.
    :param ops: of ``count sum mean std variance min max range first delta rate distinct
        most_frequent``, and quantiles ``p0.1`` to ``p99.9``; ``delta`` is the last value of the
        window minus its first, ``rate`` that per second (a counter that is reset gives a negative
        one); :param window: one or more durations.
    :param ttl: older than this (time since the field's newest event), a value is STALE.
    :param on_stale: what a STALE value is: ``use`` it, the ``default`` (none: NaN, for which the
        binding has its substitute), or ``missing``; ``recompute``: that as of the newest event, as
        long as the window holds it; ``refuse``: no model that reads it answers.
    :param min_coverage: share of the window that must be known, :param min_count: events it must
        hold; below either, MISSING (``warming``).
    :param hop: the answer as of a time is that as of the last multiple of it since 1970, age but
        counted to the time that was asked for; a `hop` equal to the window makes it tumble.
    :param gap: the session of events, back from the newest, whose neighbours are at most this
        apart; over, and its window empty, once the newest is older. The window caps it.
        Names have ``_hop_<hop>`` or ``_gap_<gap>`` at their end.
    :param approx: of ``std`` and ``variance``: also of a float that no grid holds. Of ``distinct``:
        exact while at most 1,024 values differ, then an estimate, with a standard error of 3.25 %
        and the reason ``approximate``, in at most 162 KiB however many there are.
    :param unit: the field's, or the stream is refused; :param convert: a unit that is converted to
        it, exactly: ``unit="degC", convert="degF"``.
    """

    def __init__(
        self,
        field: str | Expression,
        ops: str | Sequence[str],
        *,
        window: Duration | Sequence[Duration],
        name: str = "",
        **judged: Any,
    ) -> None:
        windows = [window] if isinstance(window, str | int) else list(window)
        names = [ops] if isinstance(ops, str) else list(ops)
        called = _called(field, name)
        found = {op: _aggregate(called, op) for op in names}
        if judged.pop("approx", False):
            if not set(names) & set(APPROXIMABLE):
                raise Invalid(f"Agg of {called!r}: approx is of {', '.join(APPROXIMABLE)}")
            found = {op: {**how, "approx": op in APPROXIMABLE} for op, how in found.items()}
        self.features = [
            Feature(f"{called}_{op}_{_label(span)}{_suffix(judged)}", field=field, window=span,
                    **how, **judged)
            for span in windows
            for op, how in found.items()
        ]  # fmt: skip


def _aggregate(called: str, op: str) -> dict[str, Any]:
    """The operator that is meant, and its parameter."""
    if op in AGGREGATES:
        return {"op": op}
    whole, point, tenth = op[1:].partition(".")
    digits = whole + (tenth if point else "0")
    written = op[:1] == "p" and digits.isdecimal() and len(digits) == len(whole) + 1
    if written and len(whole) in (1, 2) and int(digits) > 0:
        return {"op": "quantile", "permille": int(digits)}
    known = ", ".join(AGGREGATES)
    raise Invalid(f"Agg of {called!r}: {op!r} is none of {known}, p0.1 to p99.9")


class Distinct:
    """How many different values a field has in each window: ``<field>_distinct_<window>``. The
    field may be a text. Exact; with `approx` up to 1,024 different values, as in :class:`Agg`."""

    def __init__(
        self,
        field: str | Expression,
        *,
        window: Duration | Sequence[Duration],
        **judged: Any,
    ) -> None:
        self.features = Agg(field, "distinct", window=window, **judged).features


class MostFrequent:
    """The most frequent value of a field in each window, of equally frequent ones the least:
    ``<field>_most_frequent_<window>``. Exact; of a text its :func:`category_code`."""

    def __init__(
        self,
        field: str | Expression,
        *,
        window: Duration | Sequence[Duration],
        **judged: Any,
    ) -> None:
        self.features = Agg(field, "most_frequent", window=window, **judged).features


class Histogram:
    """How many values of a field lie in each bin, a feature per bin: ``<field>_bin<i>_<window>``.

    :param edges: ascending, on the field's grid. Bin 0 is below the first, bin i from edge i - 1
        on and below edge i, the last from the last edge on: together they are the ``count``.
    """

    def __init__(
        self,
        field: str | Expression,
        *,
        edges: Sequence[float],
        window: Duration,
        name: str = "",
        **judged: Any,
    ) -> None:
        called = _called(field, name)
        if not edges:
            raise Invalid(f"Histogram of {called!r}: at least one edge is needed")
        bounds = [None, *edges, None]
        self.features = [
            Feature(f"{called}_bin{i}_{_label(window)}{_suffix(judged)}", "bin", field, window,
                    at_least=low, below=high, **judged)
            for i, (low, high) in enumerate(pairwise(bounds))
        ]  # fmt: skip


class Last:
    """The newest value of a field, no older than `within`: ``<field>_last``. Of a text its
    :func:`category_code`."""

    def __init__(
        self, field: str | Expression, *, within: Duration = "1d", name: str = "", **judged: Any
    ) -> None:
        called = f"{_called(field, name)}_last"
        self.features = [Feature(called, "last", field, within, **judged)]


class Ewma:
    """The mean of a field in which an event counts half as much for each `half_life` of its age:
    ``<field>_ewma_<half life>``. It looks 16 half-lives back, in panes of an eighth of one; an
    eighth must be whole nanoseconds."""

    def __init__(
        self, field: str | Expression, *, half_life: Duration, name: str = "", **judged: Any
    ) -> None:
        called = f"{_called(field, name)}_ewma_{_label(half_life)}"
        self.features = [Feature(called, "ewma", field, half_life, **judged)]


class TimeIn:
    """Seconds of the last `window` in which a field was true: ``<field>_time_in_<window>``.

    An event's value holds until the next event, the newest one's until the time that is asked for;
    the last event before the window holds into it if it lies within one more window.

    :param field: a bool, an integer with ``range=(0, 1)``, or an expression that is a truth, such
        as ``col("mode") == "run"``, which needs a `name`.
    :param hold: an event's value holds for at most this long; the time after it is not known, and
        coverage says so. :param hop: as in :class:`Agg`. Both are in the name, as there.
    :param judged: ``ttl`` and the like, as in :class:`Agg`.
    """

    def __init__(
        self, field: str | Expression, *, window: Duration, name: str = "", **judged: Any
    ) -> None:
        called = f"{_called(field, name)}_time_in_{_label(window)}{_suffix(judged)}"
        self.features = [Feature(called, "time_in", field, window, **judged)]


class Ratio:
    """One feature of the view divided by another, both by name.

    What is divided are their two answers. State, age and coverage are the worse of both; by zero it
    is MISSING (``too_few``). It has no ttl and no minimum of its own.
    """

    def __init__(self, name: str, numerator: str, denominator: str) -> None:
        self.features = [
            Feature(name, "ratio", "", 0, numerator=numerator, denominator=denominator)
        ]


class Recency:
    """Seconds since the entity's newest event, no longer than `within`: ``recency``."""

    def __init__(self, *, within: Duration = "1d", **judged: Any) -> None:
        self.features = [Feature("recency", "recency", "", within, **judged)]


def _called(field: str | Expression, name: str) -> str:
    if isinstance(field, Expression) and not name:
        raise Invalid(f"a feature of the expression {field} needs a name=")
    return name or str(field)


class Constant:
    """A number that no event changes: FRESH, of age 0, for every entity. Several numbers (an
    embedding that belongs to the model) are features ``<name>_0``, ``<name>_1``, ..."""

    def __init__(self, name: str, value: float | Sequence[float]) -> None:
        if isinstance(value, int | float):
            self.features = [Feature(name, "constant", "", 0, value=value)]
        else:
            self.features = [
                Feature(f"{name}_{at}", "constant", "", 0, value=one)
                for at, one in enumerate(value)
            ]


class Vector:
    """A vector that arrives as fields of events, an embedding say, as it is: the newest value of
    each field, no older than `within`, as ``<name>_<field>``. A field that an event leaves null
    keeps its own; a source gives all of a vector, or none of it."""

    def __init__(
        self, name: str, fields: Sequence[str], *, within: Duration = "1d", **judged: Any
    ) -> None:
        self.features = [
            Feature(f"{name}_{field}", "last", field, within, **judged) for field in fields
        ]


class AsOf:
    """Features of another stream: ``<stream>_<name>``.

    :param features: what the view of that stream would have: :mod:`edgecore.feature_kinds`.
    :param entity: its field that holds the same entity as the view's; empty: the stream is one.
    :param lateness: how far behind its entity's newest event one may arrive and still count, and
        how far the view's stream may lag behind it: further, its features are MISSING (``behind``).
    """

    def __init__(
        self,
        stream: str,
        *features: Kind | Feature,
        entity: str = "",
        lateness: Duration = "1m",
    ) -> None:
        join = {"stream": stream, "entity": entity, "lateness": duration_ns(lateness)}
        self.features: list[Feature] = []
        for feature in features_of(features):
            if feature.operands or feature.op == "constant" or feature.join:
                raise Invalid(
                    f"AsOf of {stream!r}: {feature.name!r} reads no event of it; place it beside"
                )
            name = f"{stream}_{feature.name}"
            body = {**feature.canonical(), "name": name, "join": join}
            self.features.append(Feature.from_canonical(body))


def _label(window: Duration) -> str:
    return window if isinstance(window, str) else duration_text(window)


def _suffix(parameters: Mapping[str, Any]) -> str:
    return "".join(
        f"_{key}_{_label(parameters[key])}" for key in ("hop", "gap", "hold") if key in parameters
    )


def category_code(text: str | bytes) -> int:
    """The number that a text is in a reading, and in the vocabulary of a binding: 0 to 2**52 - 1,
    the same everywhere (docs/formats/feature-definition.md)."""
    return _core.category_code(text.encode() if isinstance(text, str) else text)


# What a view is made of, beside :class:`Feature` itself.
Kind = (
    Agg
    | AsOf
    | Constant
    | Distinct
    | Ewma
    | Histogram
    | Last
    | MostFrequent
    | Ratio
    | Recency
    | TimeIn
    | Vector
)

__all__ = ["Agg", "AsOf", "Constant", "Distinct", "Ewma", "Histogram", "Kind", "Last",
           "MostFrequent", "Ratio", "Recency", "TimeIn", "Vector", "category_code"]  # fmt: skip
