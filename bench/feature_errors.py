"""What answers that are not exact are off by, what they cost, and what exact ones cost beside them:
quantiles of linear buckets and of a ratio scale, estimates of distinct values.

Each row is an hour's window that slides over 20,000 events, one a second. `exact` is what numpy
needs for the same answers from the window's values, over 200 of them.
"""

from __future__ import annotations

import bisect
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

EVENTS = 20_000
WINDOW = 3600
SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000_000_000_000
ASKED = 200


def swept(field: Any, feature: Any, values: list[float]) -> tuple[Any, Any, float]:
    """The plan, the answers to all rows, and ns of CPU for each."""
    import edgecore as ec
    from edgecore.features import prepare

    table = ec.Schema("telemetry", tier="bulk", fields=[ec.Field("pump", "category"), field])
    view = ec.FeatureView("errors", entity="pump", source="telemetry", features=[feature])
    rows = prepare(table, [
        {"time": START_NS + i * SECOND_NS, "pump": "p0", field.name: value}
        for i, value in enumerate(values)
    ])  # fmt: skip
    began = time.process_time()
    found = ec.backfill(view, rows, schema=table)
    return view.plan(table), found.values, (time.process_time() - began) * 1e9 / len(values)


def exact_ns(values: list[float], answer: Callable[[Any], object]) -> float:
    import numpy as np

    array = np.array(values)
    began = time.process_time()
    for at in range(WINDOW, EVENTS, (EVENTS - WINDOW) // ASKED):
        answer(array[at - WINDOW : at])
    return (time.process_time() - began) * 1e9 / ASKED


def quantiles(values: list[float]) -> Iterator[float]:
    """The exact p95 of each window."""
    held: list[float] = []
    for at, value in enumerate(values):
        bisect.insort(held, value)
        if at >= WINDOW:
            del held[bisect.bisect_left(held, values[at - WINDOW])]
        yield held[(950 * len(held) + 999) // 1000 - 1]


def different(values: list[float]) -> Iterator[int]:
    held: Counter[float] = Counter()
    for at, value in enumerate(values):
        held[value] += 1
        if at >= WINDOW:
            gone = values[at - WINDOW]
            held[gone] -= 1
            if not held[gone]:
                del held[gone]
        yield len(held)


def told(identity: str, unit: str, worst: float, **settings: Any) -> dict[str, Any]:
    return {
        "id": identity, "unit": unit, "better": "lower", "ours": round(worst, 6), "peer": None,
        "ratio": None, "reason": "the row is an error: an exact answer has none", "rounds": 1,
        "settings": {"events": EVENTS, "window": WINDOW, **settings},
    }  # fmt: skip


def error_rows() -> Iterator[dict[str, Any]]:
    import numpy as np

    import edgecore as ec

    def p95(window: Any) -> object:
        return np.quantile(window, 0.95, method="inverted_cdf")

    chance = random.Random(21)
    values = [chance.randrange(-40_000, 150_001) / 1000 for _ in range(EVENTS)]
    hour = ec.Agg("temp", "p95", window="1h")
    plan, found, ns = swept(ec.Field("temp", "decimal(3)", range=(-40, 150)), hour, values)
    worst = max(abs(a - b) for a, b in zip(found, quantiles(values), strict=True))
    yield told("features.quantile/190", "field", worst, stated=plan.errors[0], ns=round(ns, 1),
               exact_ns=round(exact_ns(values, p95), 1))  # fmt: skip

    # Six decades, a millisecond to a quarter of an hour.
    values = [round(10 ** chance.uniform(-3, 3), 6) for _ in range(EVENTS)]
    field = ec.Field("latency", "decimal(6)", range=(0, 10_000), ratio=True)
    plan, found, ns = swept(field, ec.Agg("latency", "p95", window="1h"), values)
    worst = max(abs(a / b - 1) for a, b in zip(found, quantiles(values), strict=True))
    yield told("features.quantile/log", "relative", worst, stated=plan.relative_errors[0],
               ns=round(ns, 1), exact_ns=round(exact_ns(values, p95), 1))  # fmt: skip

    values = [chance.randrange(10**6) for _ in range(EVENTS)]
    code = ec.Field("code", "i64")
    plan, found, ns = swept(code, ec.Distinct("code", window="1h", approx=True), values)
    _, _, counted = swept(code, ec.Distinct("code", window="1h"), values)
    off = [a / b - 1 for a, b in zip(found, different(values), strict=True)]
    yield told("features.distinct/approx", "relative", max(map(abs, off)),
               stated=plan.relative_errors[0], ns=round(ns, 1), counted_ns=round(counted, 1),
               exact_ns=round(exact_ns(values, np.unique), 1))  # fmt: skip
