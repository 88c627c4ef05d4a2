"""Bytes per value of whole sendable blocks beside JSON + zstd and Parquet, and decode speed.

A block is what one append call brought: header, run digest, arrival and all. Peers get time and
value (and sensor) alone: JSON lines at zstd level 19, and the smallest Parquet file over the
encodings its users would try. Speed is MB/s of doubles by process CPU: `columns.decode/<coding>`
reads one f64 column of the whole machine temperature series into an array, `/rows` decodes every
column to canonical rows and compares the run digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from columns_series import SERIES, START_NS, Row
from pair import LOOP_NS_MIN, Case

CASES: dict[str, Case] = {}  # bytes have no pair, decoding no peer
CODINGS = ("fast", "dense")
COUNTS = (100, 1000, 10_000)
STORE = bytes(range(16))
GOALS = {
    ("fast", "nab1"): "<= 4.5", ("fast", "nab6"): "<= 4.3",
    ("dense", "nab1"): "<= 4.0", ("dense", "nab6"): "<= 3.5",
}  # fmt: skip


def schema_of(rows: list[Row]) -> Any:
    import edgecore as ec

    sensor = [ec.Field("sensor", "category")] if rows[0][1] else []
    return ec.Schema("bench", tier="bulk", fields=[*sensor, ec.Field("value", "f64")])


def canonical(rows: list[Row]) -> bytes:
    out = bytearray()
    for at, sensor, value in rows:
        out += struct.pack("<qIQ", at, 0, 0)
        if sensor:
            out += b"\1" + len(sensor).to_bytes(4, "little") + sensor.encode()
        out += b"\1" + struct.pack("<d", value)
    return bytes(out)


def block_of(rows: list[Row], coding: str) -> bytes:
    from edgecore._core import columns

    arrivals = [(len(rows), 1, START_NS // 1_000_000 << 16, 1)]
    return columns.encode(
        schema_of(rows), STORE, 7, 1, len(rows), canonical(rows), arrivals, coding
    )


def json_zstd(rows: list[Row]) -> tuple[int, str]:
    import pyarrow

    lines = []
    for at, sensor, value in rows:
        named = {"sensor": sensor} if sensor else {}
        lines.append(json.dumps({"ts": at // 1_000_000} | named | {"value": value}))
    text = "\n".join(lines).replace(", ", ",").replace(": ", ":").encode()
    return len(pyarrow.Codec("zstd", compression_level=19).compress(text)), pyarrow.__version__


def parquet(rows: list[Row]) -> tuple[int, str]:
    import pyarrow
    from pyarrow import parquet as pq

    columns: dict[str, Any] = {
        "ts": [at // 1_000_000 for at, _, _ in rows],
        "value": [value for _, _, value in rows],
    }
    if rows[0][1]:
        columns["sensor"] = [sensor for _, sensor, _ in rows]
    table = pyarrow.table(columns)
    sizes = []
    for split in (True, False):
        for whole in ("sensor", "sensor value"):
            dictionary = [name for name in whole.split() if name in columns]
            encodings = {"ts": "DELTA_BINARY_PACKED"}
            if "value" not in dictionary:
                encodings["value"] = "BYTE_STREAM_SPLIT" if split else "PLAIN"
            out = io.BytesIO()
            pq.write_table(
                table, out, compression="zstd", compression_level=19, write_statistics=False,
                use_dictionary=dictionary or False, column_encoding=encodings, store_schema=False,
            )  # fmt: skip
            sizes.append(len(out.getvalue()))
    return min(sizes), pyarrow.__version__


PEERS: dict[str, Callable[[list[Row]], tuple[int, str]]] = {
    "json+zstd19": json_zstd,
    "parquet": parquet,
}


def bytes_rows() -> Iterator[dict[str, Any]]:
    for series, make in SERIES.items():
        everything = make()
        for count in COUNTS:
            rows = everything[:count]
            if len(rows) < count:
                continue
            for coding in CODINGS:
                ours = len(block_of(rows, coding)) / count
                base = {
                    "id": f"columns.bytes/{coding}/{series}/{count}", "unit": "B/value",
                    "better": "lower", "ours": ours, "settings": {"arrivals": 1}, "rounds": 1,
                    "input_sha256": hashlib.sha256(canonical(rows)).hexdigest(),
                    "goal": GOALS.get((coding, series)) if count == 1000 else None,
                }  # fmt: skip
                for peer, measure in PEERS.items():
                    try:
                        size, version = measure(rows)
                    except ImportError as error:
                        yield base | {"peer": None, "ratio": None, "reason": f"{peer}: {error}"}
                        continue
                    theirs = size / count
                    yield base | {"peer": peer, "theirs": theirs, "ratio": theirs / ours,
                                  "peer_version": version}  # fmt: skip


def speed(work: Callable[[], object], size: int, rounds: int) -> float:
    """Median MB/s over rounds of at least LOOP_NS_MIN."""
    found = []
    for _ in range(rounds + 1):
        count, start = 0, time.process_time_ns()
        while time.process_time_ns() - start < LOOP_NS_MIN:
            work()
            count += 1
        found.append(size * count * 1000 / (time.process_time_ns() - start))
    return statistics.median(found[1:])


def decode_rows(rounds: int) -> Iterator[dict[str, Any]]:
    from edgecore._core import columns

    series, make = next(iter(SERIES.items()))
    rows = make()
    schema = schema_of(rows)
    for coding in CODINGS:
        block = block_of(rows, coding)
        assert list(columns.column(block, schema, "value")) == [row[2] for row in rows]
        works: dict[str, Callable[[], object]] = {
            "": lambda block=block: columns.column(block, schema, "value"),
            "/rows": lambda block=block: columns.decode_to_rows(block, schema),
        }
        for kind, work in works.items():
            goal = {"fast": ">= 1000", "dense": ">= 20"}[coding] if not kind else None
            yield {
                "id": f"columns.decode/{coding}{kind}", "unit": "MB/s", "better": "higher",
                "ours": speed(work, 8 * len(rows), rounds), "peer": None, "ratio": None,
                "settings": {"series": series, "rows": len(rows)}, "rounds": rounds,
                "input_sha256": hashlib.sha256(block).hexdigest(), "goal": goal,
            }  # fmt: skip


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    yield from bytes_rows()
    yield from decode_rows(rounds)
