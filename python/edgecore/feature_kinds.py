"""What a user writes into a view: operators over windows, each of which becomes features."""

from __future__ import annotations

from edgecore.errors import Invalid
from edgecore.feature_spec import AGGREGATES, Feature, duration_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from edgecore.feature_spec import Duration


class Agg:
    """Operators over windows of one field: a feature for each pair, ``<field>_<op>_<window>``.

    :param ops: of ``count sum mean std variance min max range first delta rate``; ``delta`` is the
        last value of the window minus its first, ``rate`` that per second (a counter that is reset
        gives a negative one); :param window: one or more durations.
    :param ttl: older than this (time since the field's newest event), a value is STALE.
    :param on_stale: what a STALE value is: ``use`` it, the ``default`` (none: NaN, for which the
        binding has its substitute), or ``missing``.
    :param min_coverage: share of the window that must be known, :param min_count: events it must
        hold; below either, MISSING (``warming``).
    """

    def __init__(
        self,
        field: str,
        ops: str | Sequence[str],
        *,
        window: Duration | Sequence[Duration],
        **judged: Any,
    ) -> None:
        windows = [window] if isinstance(window, str | int) else list(window)
        names = [ops] if isinstance(ops, str) else list(ops)
        for op in names:
            if op not in AGGREGATES:
                raise Invalid(f"Agg of {field!r}: {op!r} is none of {', '.join(AGGREGATES)}")
        self.features = [
            Feature(f"{field}_{op}_{_label(span)}", op, field, span, **judged)
            for span in windows
            for op in names
        ]


class Last:
    """The newest value of a field, no older than `within`: ``<field>_last``."""

    def __init__(self, field: str, *, within: Duration = "1d", **judged: Any) -> None:
        self.features = [Feature(f"{field}_last", "last", field, within, **judged)]


class Ewma:
    """The mean of a field in which an event counts half as much for each `half_life` of its age:
    ``<field>_ewma_<half life>``. It looks 16 half-lives back, in panes of an eighth of one; an
    eighth must be whole nanoseconds."""

    def __init__(self, field: str, *, half_life: Duration, **judged: Any) -> None:
        name = f"{field}_ewma_{_label(half_life)}"
        self.features = [Feature(name, "ewma", field, half_life, **judged)]


class Recency:
    """Seconds since the entity's newest event, no longer than `within`: ``recency``."""

    def __init__(self, *, within: Duration = "1d", **judged: Any) -> None:
        self.features = [Feature("recency", "recency", "", within, **judged)]


def _label(window: Duration) -> str:
    return window if isinstance(window, str) else duration_text(window)


__all__ = ["Agg", "Ewma", "Last", "Recency"]
