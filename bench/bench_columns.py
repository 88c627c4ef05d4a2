"""Bytes per event of whole sendable blocks beside what others make of the same events, and speed.

`columns.bytes/<coding>/<series>/<n>`: a block as the log's runs give it: header, identity, digest,
arrivals and all. The row names the best peer; ``peers`` has every one's bytes per event, ``parts``
where our bytes are, ``encode`` and ``decode`` MB/s of fields (8 bytes each) to a block from
canonical rows and from it to arrays. A series that ends before n events is taken whole.
`columns.decode|encode/<coding>` are the machine temperature series beside Parquet and Arrow, the
value column to an array of doubles, in one paired run; `/rows` is all of a block to canonical
rows, its run digest compared, with ``parts``: where the time goes.
"""

from __future__ import annotations

import hashlib
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import columns_peers
import pair
from columns_series import Recording, Series, stored
from pair import LOOP_NS_MIN, Case

CODINGS = ("fast", "dense")
COUNTS = (100, 1000, 10_000)
HOST_EVENTS, HOST_INTERVAL_MS = 1000, 50  # 50 s, while the others are measured
GOALS = {
    ("fast", "nab1"): "<= 4.5", ("fast", "nab6"): "<= 4.3",
    ("dense", "nab1"): "<= 4.0 and ratio >= 1.6; 3.7",
    ("dense", "nab6"): "<= 3.5 and ratio >= 1.6; 2.7",
}  # fmt: skip
SHOWN = ("nab1", "nab6", "host", "twin")  # in the README; the others in bench/results.json


def schema_of(series: Series) -> Any:
    import edgecore as ec

    fields = [ec.Field(name, dtype) for name, dtype in series.dtypes.items()]
    return ec.Schema("bench", tier="bulk", fields=fields)


class Blocks:
    """A run of the series out of a log, and its blocks."""

    def __init__(self, series: Series) -> None:
        from edgecore import Log
        from edgecore.clock import ManualClock
        from edgecore.fs import MemoryFs

        clock = ManualClock(series.times[0])
        self.schema, self.series = schema_of(series), series
        with Log.open(
            "log", schemas=[self.schema], flusher="manual", fs=MemoryFs(), clock=clock,
            durability={"bulk": "kernel"}, entropy=lambda size: bytes(range(size)),
        ) as log:  # fmt: skip
            for rows in [[row] for row in series.rows()] if series.single else [series.rows()]:
                clock.jump_wall(rows[-1]["time"])
                done = log.append("bench", rows)
            log.sync()
            (self.run,) = log.runs(done.partition, 0, 1 << 24)
            self.store = log.store_id

    def make(self, coding: str) -> bytes:
        from edgecore import columns

        return columns.encode(self.run, self.store, self.schema, coding)

    def names(self) -> list[str]:
        return [name for name, dtype in self.series.dtypes.items() if dtype != "category"]

    def decode(self, block: bytes) -> list[Any]:
        from edgecore import columns

        return columns.arrays(block, self.schema, self.names())


def parts_of(block: bytes, schema: Any) -> dict[str, int]:
    """Bytes by column, read from the block's directory (docs/formats/column-block.md)."""
    names = ["time", "source", "source_seq", "arrivals", *(f.name for f in schema.fields)]
    at, lengths = 126, []
    for _ in names:
        at += 1
        length = shift = 0
        while True:
            byte = block[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        lengths.append(length)
    assert at + sum(lengths) == len(block)
    return {"header": at} | dict(zip(names, lengths, strict=True))


def speed(work: Callable[[], object], size: int, rounds: int, loop_ns: int) -> float:
    """Median MB/s over rounds of at least `loop_ns`."""
    found = []
    for _ in range(rounds + 1):
        count, start = 0, time.process_time_ns()
        while time.process_time_ns() - start < loop_ns:
            work()
            count += 1
        found.append(size * count * 1000 / (time.process_time_ns() - start))
    return statistics.median(found[1:])


# ---------------------------------------------------------------- bytes


def peers_of(series: Series) -> tuple[dict[str, float], dict[str, Any], dict[str, str]]:
    """Bytes per event of each peer that is installed, the settings, and why others are missing."""
    sizes, settings, missing = {}, {}, {}
    for name, measure in columns_peers.PEERS.items():
        try:
            size, version, how = measure(series)
        except ImportError as error:
            missing[name] = str(error)
            continue
        sizes[name], settings[name] = size / len(series), {"version": version, **how}
    return sizes, settings, missing


def bytes_of(name: str, count: int, series: Series, rounds: int) -> Iterator[dict[str, Any]]:
    blocks = Blocks(series)
    sizes, settings, missing = peers_of(series)
    best = min(sizes, key=lambda peer: sizes[peer])
    events, fields = len(series), 8 * len(series) * len(blocks.names())
    notes = [f"all {events:,} of its events"] if events < count else []
    notes += [f"{peer}: {why}" for peer, why in missing.items()]
    for coding in CODINGS:
        block = blocks.make(coding)
        goal = GOALS.get((coding, name)) if count == 1000 else None
        loop_ns, quick = LOOP_NS_MIN // 4, min(rounds, 3)
        yield {
            "id": f"columns.bytes/{coding}/{name}/{count}", "unit": "B/event",
            "better": "lower", "ours": len(block) / events, "peer": best,
            "theirs": sizes[best], "ratio": sizes[best] * events / len(block),
            "peer_version": settings[best]["version"], "peers": sizes,
            "settings": {"events": events, "arrivals": len(blocks.run.arrivals),
                         "peer": settings[best]},
            "parts": parts_of(block, blocks.schema),
            "encode": speed(lambda c=coding: blocks.make(c), fields, quick, loop_ns),
            "decode": speed(lambda b=block: blocks.decode(b), fields, quick, loop_ns),
            "rounds": 1, "goal": goal, "note": "; ".join(notes),
            "detail": name not in SHOWN,
            "input_sha256": hashlib.sha256(blocks.run.payload).hexdigest(),
        }  # fmt: skip


def bytes_rows(rounds: int) -> Iterator[dict[str, Any]]:
    smoke = rounds == 1
    host = Recording(100, 10) if smoke else Recording(HOST_EVENTS, HOST_INTERVAL_MS)
    for name, make in stored().items():
        whole = make()
        for count in COUNTS[:1] if smoke else COUNTS:
            yield from bytes_of(name, count, whole.head(count), rounds)
    telemetry = host.series()
    for count in COUNTS:
        if count <= len(telemetry):
            for row in bytes_of("host", count, telemetry.head(count), rounds):
                row["settings"]["interval_ms"] = host.interval_ms
                yield row


# ---------------------------------------------------------------- speed


class Side:
    """`what` is encode or decode; a run ends with the checksum of the values that it gave."""

    version = ""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.decodes = settings["what"] == "decode"
        self.coding = settings["coding"]
        self.series = next(iter(stored().values()))()
        self.open()
        self.data = self.encode()

    def run(self, count: int) -> int:
        if self.decodes:
            for _ in range(count):
                values = self.decode(self.data)
            return zlib.crc32(values)
        for _ in range(count):
            data = self.encode()
        if len(data) != len(self.data):
            raise RuntimeError("the same events gave other bytes")
        return len(self.series)

    def open(self) -> None:
        raise NotImplementedError

    def encode(self) -> bytes:
        raise NotImplementedError

    def decode(self, data: bytes) -> Any:
        raise NotImplementedError


class Ours(Side):
    def open(self) -> None:
        import edgecore as ec

        self.version = ec.__version__
        self.blocks = Blocks(self.series)

    def encode(self) -> bytes:
        return self.blocks.make(self.coding)

    def decode(self, data: bytes) -> Any:
        return self.blocks.decode(data)[0]


class Parquet(Side):
    def open(self) -> None:
        import pyarrow

        self.version = pyarrow.__version__
        pyarrow.set_cpu_count(1)
        self.table, self.encodings = columns_peers.tuned(self.series)

    def encode(self) -> bytes:
        return columns_peers.written(self.table, self.encodings)

    def decode(self, data: bytes) -> Any:
        import pyarrow
        from pyarrow import parquet

        table = parquet.read_table(pyarrow.BufferReader(data), columns=["value"], use_threads=False)
        return table["value"].to_numpy()


class Arrow(Side):
    def open(self) -> None:
        import pyarrow

        self.version = pyarrow.__version__
        pyarrow.set_cpu_count(1)
        self.table = columns_peers.arrow_table(self.series)

    def encode(self) -> bytes:
        return columns_peers.arrow_bytes(self.table)

    def decode(self, data: bytes) -> Any:
        from pyarrow import ipc

        options = ipc.IpcReadOptions(included_fields=[1], use_threads=False)
        return ipc.open_stream(data, options=options).read_all()["value"].to_numpy()


CASES = {
    f"{what}_{coding}": Case(
        {"ours": Ours, "parquet": Parquet, "arrow-ipc+zstd19": Arrow},
        settings={"what": what, "coding": coding},
    )
    for what in ("decode", "encode")
    for coding in CODINGS
}
SPEED_PEERS = ("parquet", "arrow-ipc+zstd19")
SPEED_GOALS = {"decode_fast": ">= 1000", "decode_dense": ">= 20"}


def paired(what: str, coding: str, peer: str, rounds: int) -> dict[str, Any]:
    name = f"{what}_{coding}"
    row = pair.row(f"columns.{what}/{coding}", "columns", name, CASES[name], peer, rounds)
    events = len(next(iter(stored().values()))())
    row |= {"unit": "MB/s", "better": "higher", "goal": SPEED_GOALS.get(name)}
    for side in ("ours", "theirs"):
        row.pop(side + "_wall", None)
        if row.get(side):
            row[side] = 8 * events * 1000 / row[side]
    return row


def verified(rounds: int) -> Iterator[dict[str, Any]]:
    """All of a block to canonical rows, and how its time divides."""
    from edgecore import columns

    name, make = next(iter(stored().items()))
    blocks = Blocks(make())
    size = 8 * len(blocks.series)
    for coding in CODINGS:
        block = blocks.make(coding)
        works: dict[str, Callable[[], object]] = {
            "checksum": lambda b=block: columns.Block(b),
            "times": lambda b=block: columns.column(b, blocks.schema, "time"),
            "values": lambda b=block: columns.column(b, blocks.schema, "value"),
            "rows": lambda b=block: columns.decode_to_rows(b, blocks.schema),
        }
        rates = {key: speed(work, size, rounds, LOOP_NS_MIN) for key, work in works.items()}
        spent = {key: size * 1000 / rate / len(blocks.series) for key, rate in rates.items()}
        check = spent["checksum"]
        rest = spent["rows"] + check - spent["times"] - spent["values"]
        parts = {"checksum": check, "times": spent["times"] - check,
                 "values": spent["values"] - check, "rows and digest": rest}  # fmt: skip
        yield {
            "id": f"columns.decode/{coding}/rows", "unit": "MB/s", "better": "higher",
            "ours": rates["rows"], "peer": None, "ratio": None, "rounds": rounds,
            "settings": {"series": name, "events": len(blocks.series)},
            "parts_ns": parts, "goal": None,
            "note": ", ".join(f"{key} {value:.2f}" for key, value in parts.items()) + " ns/event",
            "input_sha256": hashlib.sha256(block).hexdigest(),
        }  # fmt: skip


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    yield from bytes_rows(rounds)
    for what, coding in (name.split("_") for name in CASES):
        for peer in SPEED_PEERS:
            if rounds > 1 or (coding, peer) == ("fast", "parquet"):
                yield paired(what, coding, peer, rounds)
    yield from verified(rounds)
