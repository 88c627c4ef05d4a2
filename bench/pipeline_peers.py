"""What stands beside the pipeline: the same path put together from the field's parts.

Per event: SQLite for the log, River for the features (its time windows have no minimum and
maximum; the count-based ones, which are the same on a regular stream, stand in), numpy for the
quantiser and the score, LiteRT for the model, a sorted window for the threshold.
Per batch: pandas or polars over the last hour and the batch, LMDB or SQLite, LiteRT in one call.
"""

from __future__ import annotations

import bisect
import datetime
import hashlib
import json
import sqlite3
import tempfile
from collections import deque
from importlib.metadata import version
from typing import Any

from pipeline_world import (
    BATCH,
    COMMIT_EVENTS,
    DAY,
    OPS,
    START_NS,
    VERDICT,
    WINDOWS,
    centres,
    golden_sum,
    model_bytes,
    readings,
)


class Threshold:
    """A multiple of the running median of the last scores, entered after some above it."""

    def __init__(self) -> None:
        self.last: deque[float] = deque()
        self.ordered: list[float] = []
        self.above = 0

    def judge(self, score: float) -> tuple[float, int]:
        ordered = self.ordered
        threshold = max(ordered[len(ordered) // 2] * 12, 0.05) if ordered else 0.05
        self.above = self.above + 1 if score > threshold else 0
        self.last.append(score)
        bisect.insort(ordered, score)
        if len(self.last) > VERDICT["window"]:
            del ordered[bisect.bisect_left(ordered, self.last.popleft())]
        return threshold, int(self.above >= VERDICT["enter_count"])


class LiteRt:
    """The model and the binding: normalise, quantise, run, score."""

    def __init__(self, rows: int) -> None:
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        self.np = np
        self.centre, self.scale = (np.array(part) for part in centres())
        self.interpreter = Interpreter(model_content=model_bytes(), num_threads=1)
        source, target = (
            self.interpreter.get_input_details()[0],
            self.interpreter.get_output_details()[0],
        )
        if rows > 1:
            self.interpreter.resize_tensor_input(source["index"], [rows, len(self.centre)])
        self.interpreter.allocate_tensors()
        self.source, self.target = source["index"], target["index"]
        self.in_scale, self.in_zero = source["quantization"]
        self.out_scale, self.out_zero = target["quantization"]

    def score(self, values: Any) -> tuple[Any, Any, Any]:
        """Rows of features -> (scores, int8 inputs, int8 outputs)."""
        np = self.np
        x = (values - self.centre) / self.scale
        codes = np.rint(np.clip(x, -8, 8) / self.in_scale) + self.in_zero
        codes = np.clip(codes, -128, 127).astype(np.int8)
        self.interpreter.set_tensor(self.source, codes)
        self.interpreter.invoke()
        out = self.interpreter.get_tensor(self.target)
        real = (out.astype(np.float64) - self.out_zero) * self.out_scale
        return ((x - real) ** 2).mean(axis=1), codes, out


class SqliteLog:
    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="edgecore-bench-")
        self.base = sqlite3.connect(f"{self.directory.name}/log.db", isolation_level=None)
        self.base.execute("PRAGMA journal_mode=WAL")
        self.base.execute("PRAGMA synchronous=NORMAL")
        self.base.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, time, pump, temp)")
        self.base.execute(
            "CREATE TABLE prediction (id INTEGER PRIMARY KEY, context, event, entity, as_of, score,"
            " threshold, verdict, input_hash, output_hash)"
        )
        self.base.execute("BEGIN")
        self.rows = 0

    def events(self, rows: list[tuple[Any, ...]]) -> int:
        insert = "INSERT INTO event (time, pump, temp) VALUES (?, ?, ?)"
        if len(rows) == 1:
            self.rows += 1
            return int(self.base.execute(insert, rows[0]).lastrowid or 0)
        self.base.executemany(insert, rows)
        self.rows += len(rows)
        return self.rows

    def predictions(self, rows: list[tuple[Any, ...]]) -> None:
        self.base.executemany(
            "INSERT INTO prediction (context, event, entity, as_of, score, threshold, verdict,"
            " input_hash, output_hash) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        if self.rows % COMMIT_EVENTS == 0:
            self.base.execute("COMMIT")
            self.base.execute("BEGIN")


class LmdbLog:
    def __init__(self) -> None:
        import lmdb

        self.directory = tempfile.TemporaryDirectory(prefix="edgecore-bench-")
        self.env = lmdb.open(
            self.directory.name, map_size=4 << 30, max_dbs=2, writemap=True, sync=False
        )
        self.event = self.env.open_db(b"event", integerkey=True)
        self.prediction = self.env.open_db(b"prediction", integerkey=True)
        self.rows = 0

    def _put(self, base: Any, first: int, rows: list[tuple[Any, ...]]) -> None:
        with self.env.begin(write=True) as transaction:
            for i, row in enumerate(rows):
                key = (first + i).to_bytes(8, "little")
                transaction.put(key, json.dumps(row).encode(), db=base, append=True)

    def events(self, rows: list[tuple[Any, ...]]) -> int:
        self._put(self.event, self.rows, rows)
        self.rows += len(rows)
        return self.rows

    def predictions(self, rows: list[tuple[Any, ...]]) -> None:
        plain = [(*row[:-2], row[-2].hex(), row[-1].hex()) for row in rows]
        self._put(self.prediction, self.rows - len(rows), plain)


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


class RiverEvent:
    """One event per call on SQLite, River and LiteRT."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import river
        from river import stats, utils

        self.version = f"river {river.__version__}, litert {version('ai-edge-litert')}"
        self.log = SqliteLog()
        self.model = LiteRt(1)
        self.np = self.model.np
        self.threshold = Threshold()
        self.windows = []
        for seconds in WINDOWS.values():
            period = datetime.timedelta(seconds=seconds)
            self.windows.append(
                (
                    utils.TimeRolling(stats.Var(), period=period),
                    stats.RollingMin(window_size=seconds),
                    stats.RollingMax(window_size=seconds),
                )
            )
        self.events = readings()
        self.epoch = datetime.datetime(2024, 1, 1)
        self.at = 0
        self._warm()

    def _warm(self) -> None:
        for _ in range(DAY):
            self.one()

    def features(self, temp: float, seconds: int) -> list[float]:
        time = self.epoch + datetime.timedelta(seconds=seconds)
        values: list[float] = []
        for variance, low, high in self.windows:
            variance.update(temp, t=time)
            low.update(temp)
            high.update(temp)
            inner = variance.obj
            values += (
                inner.mean.n,
                inner.mean.n * inner.mean.get(),
                inner.mean.get(),
                inner.get() ** 0.5,
                low.get(),
                high.get(),
            )
        return [*values, temp, 0.0]

    def one(self) -> None:
        event = self.events[self.at % len(self.events)]
        event["time"] = START_NS + self.at * 1_000_000_000
        position = self.log.events([(event["time"], event["pump"], event["temp"])])
        values = self.np.array([self.features(event["temp"], self.at)])
        scores, codes, out = self.model.score(values)
        score = round(float(scores[0]), 6)
        threshold, verdict = self.threshold.judge(score)
        hashes = digest(codes.tobytes()), digest(out.tobytes())
        self.log.predictions(
            [(position, event["pump"], event["time"], score, threshold, verdict, *hashes)]
        )
        self.at += 1

    def run(self, count: int) -> int:
        for _ in range(count):
            self.one()
        return golden_sum()


class Frames:
    """Batches over a data frame of the last hour; subclasses say which library."""

    log: SqliteLog | LmdbLog

    def __init__(self, settings: dict[str, Any]) -> None:
        import numpy as np

        self.np = np
        self.model = LiteRt(BATCH)
        self.threshold = Threshold()
        events = readings()
        self.temps = np.array([event["temp"] for event in events])
        self.at = 0
        self.tail = max(WINDOWS.values())
        self.log = LmdbLog() if settings["log"] == "lmdb" else SqliteLog()
        self.open()
        for _ in range(-(-DAY // BATCH)):
            self.batch()

    def open(self) -> None:
        raise NotImplementedError

    def features(self, times: Any, temps: Any) -> Any:
        raise NotImplementedError

    def batch(self) -> None:
        np = self.np
        first = max(0, self.at - self.tail)
        index = np.arange(first, self.at + BATCH)
        times = START_NS + index * 1_000_000_000
        temps = self.temps[index % len(self.temps)]
        fresh = times[-BATCH:].tolist()
        rows = list(zip(fresh, ["p0"] * BATCH, temps[-BATCH:].tolist(), strict=True))
        self.log.events(rows)
        values = self.features(times, temps)[-BATCH:]
        values = np.column_stack([values, temps[-BATCH:], np.zeros(BATCH)])
        scores, codes, out = self.model.score(np.where(np.isfinite(values), values, 0.0))
        predictions = []
        for i, score in enumerate(scores.round(6).tolist()):
            threshold, verdict = self.threshold.judge(score)
            hashes = digest(codes[i].tobytes()), digest(out[i].tobytes())
            predictions.append((self.at + i, "p0", fresh[i], score, threshold, verdict, *hashes))
        self.log.predictions(predictions)
        self.at += BATCH

    def run(self, count: int) -> int:
        for _ in range(count):
            self.batch()
        return golden_sum()


class Polars(Frames):
    def open(self) -> None:
        import os

        os.environ["POLARS_MAX_THREADS"] = "1"
        import polars as pl

        self.pl = pl
        self.version = f"polars {pl.__version__}, litert {version('ai-edge-litert')}"

    def features(self, times: Any, temps: Any) -> Any:
        pl = self.pl
        frame = pl.DataFrame({"time": times, "temp": temps}).with_columns(
            pl.col("time").cast(pl.Datetime("ns")), pl.lit(1.0).alias("one")
        )
        columns = []
        for label, seconds in WINDOWS.items():
            for op in OPS:
                source = pl.col("one" if op == "count" else "temp")
                name = "sum" if op == "count" else op
                function = getattr(source, f"rolling_{name}_by")
                columns.append(function("time", f"{seconds}s", closed="right").alias(op + label))
        return frame.select(columns).to_numpy()


class Pandas(Frames):
    def open(self) -> None:
        import pandas as pd

        self.pd = pd
        self.version = f"pandas {pd.__version__}, litert {version('ai-edge-litert')}"

    def features(self, times: Any, temps: Any) -> Any:
        series = self.pd.Series(temps, index=self.pd.to_datetime(times))
        columns = []
        for seconds in WINDOWS.values():
            rolling = series.rolling(f"{seconds}s", closed="right")
            columns += [getattr(rolling, op)().to_numpy() for op in OPS]
        return self.np.column_stack(columns)
