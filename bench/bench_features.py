"""F20 over one day of generated events: our batch kernel beside pandas and polars, one update
beside River.

F20 = {count, sum, mean, std, min, max} x {1 min, 10 min, 1 h}, last, recency. E1 is one entity at
1 event/s, E1000 a thousand entities, 0.1 event/s each. Values are decimal(3), made from integers.
The checksum is the sum of counts, sums, minima and maxima at the last event of each entity.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from pair import Case, row

EVENTS = 20_000
START_NS = 1_700_000_000_000_000_000
WINDOWS = {"1m": 60, "10m": 600, "1h": 3600}
OPS = ("count", "sum", "mean", "std", "min", "max")


def generated(entities: int) -> list[dict[str, Any]]:
    """The same events for every side: (time, entity, value), in order of time."""
    chance = random.Random(20)
    step = 1_000_000_000 if entities == 1 else 10_000_000_000 // entities
    events = []
    for i in range(EVENTS):
        entity = i % entities
        value = chance.randrange(20_000, 25_000) / 1000
        events.append({"time": START_NS + i * step, "pump": f"p{entity}", "temp": value})
    return events


def view() -> Any:
    import edgecore as ec

    return ec.FeatureView(
        "bench",
        entity="pump",
        source="telemetry",
        lateness="30s",
        features=[ec.Agg("temp", list(OPS), window=list(WINDOWS)), ec.Last("temp"), ec.Recency()],
    )


def schema() -> Any:
    import edgecore as ec

    fields = [ec.Field("pump", "category"), ec.Field("temp", "decimal(3)", range=(0, 100))]
    return ec.Schema("telemetry", tier="bulk", fields=fields)


class OursBatch:
    def __init__(self, settings: dict[str, Any]) -> None:
        from edgecore.features import prepare

        import edgecore as ec

        self.version = ec.__version__
        self.rows = prepare(schema(), generated(settings["entities"]))
        self.view = view()
        self.entities = settings["entities"]

    def run(self, count: int) -> float:
        import edgecore as ec

        for _ in range(count):
            found = ec.backfill(self.view, self.rows, schema=schema())
        names = list(found.names)
        width = len(names)
        values = found.values
        at = [names.index(f"temp_{op}_1h") for op in ("count", "sum", "min", "max")]
        last = range(EVENTS - self.entities, EVENTS)
        return round(sum(values[r * width + c] for r in last for c in at), 3)


class Pandas:
    def __init__(self, settings: dict[str, Any]) -> None:
        import pandas as pd

        self.version = pd.__version__
        frame = pd.DataFrame(generated(settings["entities"]))
        frame["time"] = pd.to_datetime(frame["time"])
        self.frame = frame.set_index("time")

    def run(self, count: int) -> float:
        for _ in range(count):
            if self.frame["pump"].nunique() == 1:
                groups = self.frame["temp"]
            else:
                groups = self.frame.groupby("pump", sort=False)["temp"]
            found = {}
            for label, seconds in WINDOWS.items():
                rolling = groups.rolling(f"{seconds}s", closed="right")
                for op in OPS:
                    found[op, label] = getattr(rolling, op)()
            found["last", ""] = self.frame["temp"]
            found["recency", ""] = self.frame.index
        total = 0.0
        for op in ("count", "sum", "min", "max"):
            column = found[op, "1h"]
            if column.index.nlevels == 2:
                total += column.groupby(level=0, sort=False).last().sum()
            else:
                total += column.iloc[-1]
        return round(float(total), 3)


class Polars:
    def __init__(self, settings: dict[str, Any]) -> None:
        import os

        os.environ["POLARS_MAX_THREADS"] = "1"
        import polars as pl

        self.pl = pl
        self.version = pl.__version__
        frame = pl.DataFrame(generated(settings["entities"]))
        self.frame = frame.with_columns(pl.col("time").cast(pl.Datetime("ns")))
        self.entities = settings["entities"]

    def run(self, count: int) -> float:
        pl = self.pl
        columns = []
        for label, seconds in WINDOWS.items():
            for op in OPS:
                if op == "count":
                    one = pl.lit(1).cum_sum().over("pump") if False else pl.col("one")
                    column = one.rolling_sum_by("time", f"{seconds}s", closed="right")
                else:
                    function = getattr(pl.col("temp"), f"rolling_{op}_by")
                    column = function("time", f"{seconds}s", closed="right")
                columns.append(column.over("pump").alias(f"{op}_{label}"))
        for _ in range(count):
            found = self.frame.with_columns(pl.lit(1.0).alias("one")).with_columns(columns)
        last = found.tail(self.entities)
        names = ("count_1h", "sum_1h", "min_1h", "max_1h")
        return round(float(sum(last[name].sum() for name in names)), 3)


class OursUpdate:
    def __init__(self, settings: dict[str, Any]) -> None:
        import tempfile

        import edgecore as ec

        self.version = ec.__version__
        self.directory = tempfile.TemporaryDirectory(prefix="edgecore-bench-")
        self.store = ec.FeatureStore.open(self.directory.name, views=[view()], schemas=[schema()])
        self.events = generated(settings["entities"])
        self.at = 0

    def run(self, count: int) -> float:
        update, events = self.store.update, self.events
        for i in range(self.at, self.at + count):
            event = dict(events[i % EVENTS])
            event["time"] = START_NS + i * 1_000_000_000
            update("telemetry", event)
        self.at += count
        return 1.0


class River:
    """12 of our 20 features: River has no time-window minimum or maximum."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import datetime

        import river
        from river import stats, utils

        self.version = river.__version__
        self.stats = [
            utils.TimeRolling(stats.Var(), period=datetime.timedelta(seconds=seconds))
            for seconds in WINDOWS.values()
        ]
        self.events = generated(settings["entities"])
        self.epoch = datetime.datetime(2024, 1, 1)
        self.second = datetime.timedelta(seconds=1)
        self.at = 0

    def run(self, count: int) -> float:
        events, all_stats = self.events, self.stats
        for i in range(self.at, self.at + count):
            event = dict(events[i % EVENTS])
            time = self.epoch + i * self.second
            for one in all_stats:
                one.update(event["temp"], t=time)
        self.at += count
        return 1.0


BATCH = {"ours": OursBatch, "pandas": Pandas, "polars": Polars}
CASES = {
    "E1": Case(dict(BATCH), settings={"entities": 1}, scale=EVENTS),
    "E1000": Case(dict(BATCH), settings={"entities": 1000}, scale=EVENTS),
    "update": Case({"ours": OursUpdate, "river": River}, settings={"entities": 1}),
}


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    for name in ("E1", "E1000"):
        for peer in ("pandas", "polars"):
            yield row(f"features.batch/{name}/F20", "features", name, CASES[name], peer, rounds)
    yield row("features.update/E1/F20", "features", "update", CASES["update"], "river", rounds)
