"""Further peers of the feature engine: DuckDB and numpy in batch, Feast at read.

DuckDB: window functions over a range of integer times, one thread, all that F20 has. numpy: prefix
sums as one would write them by hand, so count, sum, mean and std alone (its sums are of rounded
doubles, and minima have no prefix form); it is compared on those, ours computing all of F20. Feast:
its SQLite online store, written with the same figures, read by `get_online_features`; it stores
values and computes none, so ours computes at read what it only looks up.
"""

from __future__ import annotations

from typing import Any

from bench_features import (
    EVENTS,
    OPS,
    READ_AT_NS,
    READ_ENTITIES,
    SECOND_NS,
    START_NS,
    WINDOWS,
    generated,
)  # fmt: skip
from pair import Case

CHECKED = ("count", "sum", "min", "max")


class DuckDb:
    def __init__(self, settings: dict[str, Any]) -> None:
        import duckdb
        import pyarrow as pa

        self.version = duckdb.__version__
        self.base = duckdb.connect(config={"threads": 1})
        self.base.register("given", pa.Table.from_pylist(generated(settings["entities"])))
        self.base.execute("create table events as select * from given")
        names = {"mean": "avg", "std": "stddev_samp"}
        columns = [
            f"{names.get(op, op)}(temp) over {label} as {op}_{label}"
            for label in ("w" + window for window in WINDOWS)
            for op in OPS
        ]
        windows = [
            f"w{label} as (partition by pump order by time "
            f"range between {seconds * SECOND_NS - 1} preceding and current row)"
            for label, seconds in WINDOWS.items()
        ]
        self.query = (
            f"select time, pump, temp, {', '.join(columns)} from events window {', '.join(windows)}"
        )
        self.entities = settings["entities"]

    def run(self, count: int) -> float:
        for _ in range(count):
            found = self.base.sql(self.query).to_arrow_table()
        last = found.sort_by("time").slice(EVENTS - self.entities)
        return round(sum(sum(last[f"{op}_w1h"].to_pylist()) for op in CHECKED), 3)


class Prefix:
    """numpy, one entity after another."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import numpy as np

        self.np = np
        self.version = np.__version__
        events = generated(settings["entities"])
        self.times = np.array([event["time"] for event in events])
        self.values = np.array([event["temp"] for event in events])
        numbers = np.array([int(event["pump"][1:]) for event in events])
        order = np.argsort(numbers, kind="stable")
        self.parts = np.split(order, np.cumsum(np.bincount(numbers))[:-1])

    def run(self, count: int) -> float:
        np = self.np
        for _ in range(count):
            total = 0.0
            for part in self.parts:
                times, values = self.times[part], self.values[part]
                sums = np.concatenate([[0.0], np.cumsum(values)])
                squares = np.concatenate([[0.0], np.cumsum(values * values)])
                ends = np.arange(1, len(times) + 1)
                for seconds in WINDOWS.values():
                    begins = np.searchsorted(times, times - seconds * SECOND_NS, side="right")
                    n = ends - begins
                    summed = sums[ends] - sums[begins]
                    mean = summed / n
                    spread = squares[ends] - squares[begins] - summed * mean
                    with np.errstate(invalid="ignore", divide="ignore"):
                        np.sqrt(spread / (n - 1))
                total += float(n[-1] + summed[-1])
        return round(total, 3)


def figures() -> list[list[float]]:
    """What ours answers at READ_AT_NS: per entity count, sum, mean, std, max of 1 min and 1 h."""
    import statistics

    held: dict[str, list[tuple[int, float]]] = {}
    for event in generated(READ_ENTITIES):
        held.setdefault(event["pump"], []).append((event["time"], event["temp"]))
    rows = []
    for i in range(READ_ENTITIES):
        row: list[float] = []
        for seconds in (60, 3600):
            begin = READ_AT_NS - seconds * SECOND_NS
            window = [value for time, value in held[f"p{i}"] if time > begin]
            row += [len(window), sum(window), statistics.mean(window),
                    statistics.stdev(window), max(window)]  # fmt: skip
        rows.append(row)
    return rows


class Feast:
    def __init__(self, settings: dict[str, Any]) -> None:
        import os
        import tempfile
        from datetime import UTC, datetime, timedelta
        from pathlib import Path

        os.environ["FEAST_USAGE"] = "False"
        import feast
        import pandas as pd
        from feast.types import Float64, Int64

        self.version = feast.__version__
        self.directory = tempfile.TemporaryDirectory(prefix="edgecore-bench-")
        home = Path(self.directory.name)
        (home / "feature_store.yaml").write_text(
            f"project: bench\nregistry: {home}/registry.db\nprovider: local\n"
            f"online_store:\n  type: sqlite\n  path: {home}/online.db\n"
            "entity_key_serialization_version: 3\n"
        )
        pump = feast.Entity(name="pump", join_keys=["pump"], value_type=feast.ValueType.STRING)
        names = [
            f"temp_{op}_{label}"
            for label in ("1m", "1h")
            for op in ("count", "sum", "mean", "std", "max")
        ]
        view = feast.FeatureView(
            name="ten", entities=[pump], ttl=timedelta(days=36_500), online=True,
            schema=[
                feast.Field(name=name, dtype=Int64 if "_count_" in name else Float64)
                for name in names
            ],
            source=feast.FileSource(path=str(home / "none.parquet"), timestamp_field="time"),
        )  # fmt: skip
        frame = pd.DataFrame(figures(), columns=names)
        for name in names:
            frame[name] = frame[name].astype("int64" if "_count_" in name else "float64")
        frame["pump"] = [f"p{i}" for i in range(READ_ENTITIES)]
        frame["time"] = datetime.fromtimestamp(START_NS // SECOND_NS, UTC)
        frame.head(1).to_parquet(home / "none.parquet")
        self.store = feast.FeatureStore(repo_path=str(home))
        self.store.apply([pump, view])
        self.store.write_to_online_store("ten", frame)
        self.names = [f"ten:{name}" for name in names]
        self.rows = [{"pump": f"p{i}"} for i in range(READ_ENTITIES)]

    def run(self, count: int) -> float:
        for _ in range(count):
            found = self.store.get_online_features(features=self.names, entity_rows=self.rows)
            answer = found.to_dict()
        return round(float(sum(answer["temp_count_1h"])), 3)


CASES = {
    "E1": Case({"duckdb": DuckDb}),
    "E1000": Case({"duckdb": DuckDb}),
    "sums": Case({"numpy": Prefix}),
    "read": Case({"feast": Feast}),
}
