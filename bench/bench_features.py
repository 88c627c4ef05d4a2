"""F20 and F23 over generated events: our batch kernel beside pandas and polars, one update beside
River.

F20 = {count, sum, mean, std, min, max} x {1 min, 10 min, 1 h}, last, recency; F23 = F20, p95 and
distinct values of an hour, and an EWMA of a minute's half-life. E1 is one entity at 1 event/s,
E1000 a thousand entities, 0.1 event/s each. Values are decimal(3), made from integers. The checksum
is the sum of counts, sums, minima and maxima at the last event of each entity; of F23 the distinct
values too.
"""

from __future__ import annotations

import json
import os
import random
import statistics
from collections.abc import Iterator
from typing import Any

import feature_latency
from feature_errors import error_rows
from pair import HERE, LOOP_NS_MIN, Case, calibrate, row, start

EVENTS = 20_000
CHECKED = 200  # events after which both sides of `update` must say the same
READ_ENTITIES = 100
SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000_000_000_000
READ_AT_NS = START_NS + EVENTS * 10_000_000_000 // READ_ENTITIES
WINDOWS = {"1m": 60, "10m": 600, "1h": 3600}
OPS = ("count", "sum", "mean", "std", "min", "max")


def generated(entities: int, late: bool = False) -> list[dict[str, Any]]:
    """The same events for every side: (time, entity, value), in order of time; `late`: one in
    twenty arrives some rows after its turn, within the lateness of 30 s."""
    chance = random.Random(20)
    step = 1_000_000_000 if entities == 1 else 10_000_000_000 // entities
    events = []
    for i in range(EVENTS):
        entity = i % entities
        value = chance.randrange(20_000, 25_000) / 1000
        events.append({"time": START_NS + i * step, "pump": f"p{entity}", "temp": value})
    if late:
        most = min(25 * SECOND_NS // step, EVENTS // 20)
        for i in range(0, EVENTS - most - 1 - entities, 20):
            events.insert(i + chance.randint(1, most), events.pop(i))
    return events


def view(whole: bool = False) -> Any:
    """F20; `whole`: F23."""
    import edgecore as ec

    features = [ec.Agg("temp", list(OPS), window=list(WINDOWS)), ec.Last("temp"), ec.Recency()]
    if whole:
        features += [
            ec.Agg("temp", "p95", window="1h"),
            ec.Distinct("temp", window="1h"),
            ec.Ewma("temp", half_life="1m"),
        ]
    return ec.FeatureView(
        "bench", entity="pump", source="telemetry", lateness="30s", features=features
    )


def checked(settings: dict[str, Any]) -> list[str]:
    ops = settings.get("checked", ["count", "sum", "min", "max"])
    return [*ops, "distinct"] if settings.get("whole") else ops


def schema() -> Any:
    import edgecore as ec

    fields = [ec.Field("pump", "category"), ec.Field("temp", "decimal(3)", range=(0, 100))]
    return ec.Schema("telemetry", tier="bulk", fields=fields)


class OursBatch:
    def __init__(self, settings: dict[str, Any]) -> None:
        import edgecore as ec
        from edgecore.features import prepare

        self.version = ec.__version__
        self.schema = schema()
        events = generated(settings["entities"], settings.get("late", False))
        self.rows = prepare(self.schema, events)
        self.view = view(settings.get("whole", False))
        self.entities = settings["entities"]
        self.checked = checked(settings)

    def run(self, count: int) -> float:
        import edgecore as ec

        for _ in range(count):
            found = ec.backfill(self.view, self.rows, schema=self.schema)
        names = list(found.names)
        width = len(names)
        values = found.values
        at = [names.index(f"temp_{op}_1h") for op in self.checked]
        last = range(EVENTS - self.entities, EVENTS)
        return round(sum(values[r * width + c] for r in last for c in at), 3)


class Pandas:
    def __init__(self, settings: dict[str, Any]) -> None:
        import pandas as pd

        self.version = pd.__version__
        frame = pd.DataFrame(generated(settings["entities"], settings.get("late", False)))
        frame["time"] = pd.to_datetime(frame["time"])
        self.given = frame.set_index("time")
        self.late = settings.get("late", False)
        self.whole = settings.get("whole", False)
        self.checked = checked(settings)

    def run(self, count: int) -> float:
        for _ in range(count):
            frame = self.given.sort_index() if self.late else self.given
            if frame["pump"].nunique() == 1:
                groups = frame["temp"]
            else:
                groups = frame.groupby("pump", sort=False)["temp"]
            found = {}
            for label, seconds in WINDOWS.items():
                rolling = groups.rolling(f"{seconds}s", closed="right")
                for op in OPS:
                    found[op, label] = getattr(rolling, op)()
            if self.whole:
                rolling = groups.rolling("3600s", closed="right")
                found["p95", "1h"] = rolling.quantile(0.95)
                found["distinct", "1h"] = rolling.nunique()
                found["ewma", ""] = groups.ewm(halflife="60s", times=frame.index).mean()
            found["last", ""] = frame["temp"]
            found["recency", ""] = frame.index
        total = 0.0
        for op in self.checked:
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
        frame = pl.DataFrame(generated(settings["entities"], settings.get("late", False)))
        self.late = settings.get("late", False)
        self.frame = frame.with_columns(pl.col("time").cast(pl.Datetime("ns")))
        self.entities = settings["entities"]
        self.whole = settings.get("whole", False)
        self.checked = [f"{op}_1h" for op in checked(settings)]

    def run(self, count: int) -> float:
        pl = self.pl
        columns = []
        for label, seconds in WINDOWS.items():
            for op in OPS:
                source = "one" if op == "count" else "temp"
                function = "sum" if op == "count" else op
                rolling = getattr(pl.col(source), f"rolling_{function}_by")
                column = rolling("time", f"{seconds}s", closed="right")
                columns.append(column.over("pump").alias(f"{op}_{label}"))
        if self.whole:
            temp = pl.col("temp")
            p95 = temp.rolling_quantile_by("time", "3600s", quantile=0.95, closed="right")
            distinct = temp.n_unique().rolling("time", period="3600s", closed="right")
            ewma = temp.ewm_mean_by("time", half_life="60s")
            columns.append(p95.over("pump").alias("p95_1h"))
            columns.append(distinct.over("pump").alias("distinct_1h"))
            columns.append(ewma.over("pump").alias("ewma"))
        for _ in range(count):
            frame = self.frame.sort("time") if self.late else self.frame
            found = frame.with_columns(pl.lit(1.0).alias("one")).with_columns(columns)
        last = found.tail(self.entities)
        return round(float(sum(last[name].sum() for name in self.checked)), 3)


class OursUpdate:
    def __init__(self, settings: dict[str, Any]) -> None:
        import tempfile

        import edgecore as ec

        self.version = ec.__version__
        self.directory = tempfile.TemporaryDirectory(prefix="edgecore-bench-")
        self.store = ec.FeatureStore.open(self.directory.name, views=[view()], schemas=[schema()])
        self.events = generated(settings["entities"])
        self.at = 0
        self.run(CHECKED)
        found = self.store.read("bench", "p0", START_NS + (CHECKED - 1) * SECOND_NS).to_dict()
        self.checksum = [
            round(found[f"temp_{op}_{label}"], 6) for label in WINDOWS for op in ("mean", "std")
        ]

    def run(self, count: int) -> list[float]:
        update, events = self.store.update, self.events
        for i in range(self.at, self.at + count):
            event = dict(events[i % EVENTS])
            event["time"] = START_NS + i * SECOND_NS
            update("telemetry", event)
        self.at += count
        return getattr(self, "checksum", [])


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
        self.run(CHECKED)
        self.checksum = [
            round(value, 6)
            for one in self.stats
            for value in (one.obj.mean.get(), one.obj.get() ** 0.5)
        ]

    def run(self, count: int) -> list[float]:
        events, all_stats = self.events, self.stats
        for i in range(self.at, self.at + count):
            event = dict(events[i % EVENTS])
            time = self.epoch + i * self.second
            for one in all_stats:
                one.update(event["temp"], t=time)
        self.at += count
        return getattr(self, "checksum", [])


class OursRead:
    """100 entities x 10 features in one call."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import tempfile

        import edgecore as ec

        self.version = ec.__version__
        self.directory = tempfile.TemporaryDirectory(prefix="edgecore-bench-")
        ten = ec.FeatureView(
            "ten", entity="pump", source="telemetry",
            features=[ec.Agg("temp", ["count", "sum", "mean", "std", "max"], window=["1m", "1h"])],
        )  # fmt: skip
        self.store = ec.FeatureStore.open(self.directory.name, views=[ten], schemas=[schema()])
        self.store.update_batch("telemetry", generated(READ_ENTITIES))
        self.names = [f"p{i}" for i in range(READ_ENTITIES)]
        self.as_of = READ_AT_NS

    def run(self, count: int) -> float:
        read, names, as_of = self.store.read, self.names, self.as_of
        for _ in range(count):
            found = read("ten", names, as_of)
        return round(sum(found.values[5::10]), 3)  # counts over the hour


def memory_row(name: str, dtype: str, bounds: tuple[float, float] | None) -> dict[str, Any]:
    """Bytes of one entity that holds an hour of 360 events: rising, so that no extreme is ever
    forgotten early. A float without a grid has no std."""
    import tempfile

    import edgecore as ec

    ops = [op for op in OPS if op != "std" or bounds]
    fields = [ec.Field("pump", "category"), ec.Field("temp", dtype, range=bounds)]
    one = ec.FeatureView(
        "memory", entity="pump", source="telemetry", lateness="30s",
        features=[ec.Agg("temp", ops, window=list(WINDOWS)), ec.Last("temp"), ec.Recency()],
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="edgecore-bench-") as home:
        tables = [ec.Schema("telemetry", tier="bulk", fields=fields)]
        store = ec.FeatureStore.open(home, views=[one], schemas=tables)
        for i in range(2000):
            event = {"time": START_NS + i * 10 * SECOND_NS, "pump": "p0", "temp": i / 1000}
            store.update("telemetry", event)
            store.read("memory", "p0", event["time"])
        size = store.memory_bytes
    return {
        "id": f"features.memory/{name}", "unit": "B", "better": "lower", "ours": size,
        "peer": None, "ratio": None, "reason": "the goal, 8 KB, is on ours", "rounds": 1,
        "settings": {"events": 360, "dtype": dtype, "ops": ops},
    }  # fmt: skip


class OursFlat:
    """One update and one read of count, mean, std, min and max: what they cost by the number of
    windows, of entities, and of events in the longest window."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import tempfile

        import edgecore as ec

        self.version = ec.__version__
        self.directory = tempfile.TemporaryDirectory(prefix="edgecore-bench-")
        self.step = 3600 * SECOND_NS // settings["events"] // settings["entities"]
        widths = [f"{3600 >> i}s" for i in range(settings["windows"])]
        ops = ["count", "mean", "std", "min", "max"]
        one = ec.FeatureView("flat", entity="pump", source="telemetry",
                             features=[ec.Agg("temp", ops, window=widths)])  # fmt: skip
        self.store = ec.FeatureStore.open(self.directory.name, views=[one], schemas=[schema()])
        self.rows = generated(settings["entities"])
        self.at = 0
        self.run(settings["events"] * settings["entities"] + 100)

    def run(self, count: int) -> float:
        update, read, rows = self.store.update, self.store.read, self.rows
        for i in range(self.at, self.at + count):
            row = rows[i % EVENTS]
            row["time"] = START_NS + i * self.step
            update("telemetry", row)
            read("flat", row["pump"], row["time"])
        self.at += count
        return 0.0


FLAT = {
    f"W{windows}/E{entities}/N{events}": {
        "windows": windows, "entities": entities, "events": events,
    }
    for windows, entities, events in
    [(1, 1, 360), (8, 1, 360), (1, 1, 3600), (1, 1, 36_000), (1, 100, 360)]
}  # fmt: skip
BATCH = {"ours": OursBatch, "pandas": Pandas, "polars": Polars}
CASES = {
    "E1": Case(dict(BATCH), settings={"entities": 1}, scale=EVENTS),
    "E1000": Case(dict(BATCH), settings={"entities": 1000}, scale=EVENTS),
    "E1/whole": Case(dict(BATCH), settings={"entities": 1, "whole": True}, scale=EVENTS),
    "E1000/whole": Case(dict(BATCH), settings={"entities": 1000, "whole": True}, scale=EVENTS),
    "E1/late": Case(dict(BATCH), settings={"entities": 1, "late": True}, scale=EVENTS),
    "E1000/late": Case(dict(BATCH), settings={"entities": 1000, "late": True}, scale=EVENTS),
    "sums": Case(
        {"ours": OursBatch}, settings={"entities": 1, "checked": ["count", "sum"]}, scale=EVENTS
    ),
    "update": Case({"ours": OursUpdate, "river": River}, settings={"entities": 1}),
    "read": Case({"ours": OursRead}, settings={"entities": READ_ENTITIES}),
}


def more(name: str, peer: str) -> Case:
    """A case with a peer from the environment that `./dev bench --all-peers` makes."""
    case = CASES[name]
    words = [
        os.environ["EDGECORE_BENCH_PEERS"],
        str(HERE / "worker.py"),
        "feature_peers",
        name,
        peer,
    ]
    command = [*words, json.dumps(case.settings)]
    return Case(
        {"ours": case.sides["ours"]},
        settings=case.settings,
        scale=case.scale,
        commands={peer: command},
    )


def more_rows(rounds: int) -> Iterator[dict[str, Any]]:
    """Where those peers are not installed: ours, and the reason."""
    rows = [("features.batch/E1/F20", "E1", "duckdb"), ("features.batch/E1/F20", "sums", "numpy"),
            ("features.batch/E1000/F20", "E1000", "duckdb"),
            ("features.read/E100x10", "read", "feast")]  # fmt: skip
    for identity, name, peer in rows:
        if os.environ.get("EDGECORE_BENCH_PEERS"):
            yield row(identity, "features", name, more(name, peer), peer, rounds)
        elif name == "read":
            yield alone(identity, name, rounds)


CASES |= {f"flat/{name}": Case({"ours": OursFlat}, settings=one) for name, one in FLAT.items()}


def alone(identity: str, name: str, rounds: int) -> dict[str, Any]:
    worker = start("features", name, CASES[name], "ours")
    try:
        count = calibrate(worker, LOOP_NS_MIN)
        figures = [worker.run(count)["cpu_ns"] / count for _ in range(2 * rounds)]
    finally:
        worker.close()
    return {
        "id": identity, "unit": "ns", "better": "lower",
        "ours": statistics.median(figures), "peer": None, "ratio": None, "rounds": rounds,
        "reason": "its peer comes with --all-peers", "settings": CASES[name].settings,
    }  # fmt: skip


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    for name in ("E1", "E1000", "E1/whole", "E1000/whole", "E1/late", "E1000/late"):
        entities, _, how = name.partition("/")
        identity = f"features.batch/{entities}/" + {"whole": "F23", "": "F20"}.get(
            how, f"F20/{how}"
        )
        for peer in ("pandas", "polars"):
            yield row(identity, "features", name, CASES[name], peer, rounds)
    yield row("features.update/E1/F20", "features", "update", CASES["update"], "river", rounds)
    yield from more_rows(rounds)
    yield memory_row("decimal3", "decimal(3)", (0, 100))
    yield memory_row("f64", "f64", None)
    yield from error_rows()
    for name in FLAT:
        found = alone(f"features.flat/{name}", f"flat/{name}", rounds)
        yield found | {"reason": "no peer: the row is what ours grows by"}
    yield from feature_latency.rows()
