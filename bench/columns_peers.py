"""What the peers of column blocks make of a series: bytes, and the settings that gave the fewest.

Peers get times in milliseconds and the fields, none of a block's header, identity, digest or
arrival. JSON has the shortest digits of each value; Parquet the best encoding for each column of
those its users would try (decimal fields also as decimals); Gorilla and Chimp one stream of bits
per sensor, nothing else counted, and a null costs them what a repeated value does.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import xor_codes
from columns_series import MS, Series

Found = tuple[int, str, dict[str, Any]]  # bytes, version, settings
TIME = "ts"


def json_lines(series: Series) -> bytes:
    rows = [
        {TIME: row.pop("time") // MS} | {k: v for k, v in row.items() if v is not None}
        for row in series.rows()
    ]
    return "\n".join(json.dumps(row, separators=(",", ":")) for row in rows).encode()


def json_gzip(series: Series) -> Found:
    return len(gzip.compress(json_lines(series), 9, mtime=0)), "zlib", {"level": 9}


def json_zstd(series: Series) -> Found:
    import pyarrow

    codec = pyarrow.Codec("zstd", compression_level=19)
    return len(codec.compress(json_lines(series))), pyarrow.__version__, {"level": 19}


def arrow_columns(series: Series, decimals: bool) -> dict[str, Any]:
    """pyarrow arrays; ``decimals``: decimal fields as decimals, not as doubles."""
    import pyarrow

    kinds = {"f64": pyarrow.float64(), "u32": pyarrow.uint32(), "category": pyarrow.string()}
    out = {TIME: pyarrow.array([at // MS for at in series.times], pyarrow.int64())}
    for name, values in series.columns.items():
        dtype = series.dtypes[name]
        kind = kinds.get(dtype, pyarrow.float64())
        scale = int(dtype[8:-1]) if dtype.startswith("decimal(") else None
        if decimals and scale is not None:
            kind = pyarrow.decimal128(18, scale)
            step = Decimal(1).scaleb(-scale)
            values = [None if v is None else Decimal(repr(v)).quantize(step) for v in values]
        out[name] = pyarrow.array(values, kind)
    return out


def arrow_table(series: Series) -> Any:
    import pyarrow

    columns = arrow_columns(series, decimals=False)
    for name, dtype in series.dtypes.items():
        if dtype == "category":
            columns[name] = columns[name].dictionary_encode()
    return pyarrow.table(columns)


def arrow_bytes(table: Any) -> bytes:
    import pyarrow
    from pyarrow import ipc

    out = io.BytesIO()
    options = ipc.IpcWriteOptions(compression=pyarrow.Codec("zstd", compression_level=19))
    with ipc.new_stream(out, table.schema, options=options) as writer:
        writer.write_table(table)
    return out.getvalue()


def arrow_ipc(series: Series) -> Found:
    import pyarrow

    return len(arrow_bytes(arrow_table(series))), pyarrow.__version__, {"level": 19}


# ---------------------------------------------------------------- Parquet

ENCODINGS = ("PLAIN", "DICTIONARY", "BYTE_STREAM_SPLIT", "DELTA_BINARY_PACKED")
LEAST = {
    "compression": "zstd", "compression_level": 19, "write_statistics": False,
    "store_schema": False, "store_decimal_as_integer": True, "version": "2.6",
}  # fmt: skip


def written(table: Any, encodings: dict[str, str]) -> bytes:
    from pyarrow import parquet

    out = io.BytesIO()
    by_dictionary = [name for name, encoding in encodings.items() if encoding == "DICTIONARY"]
    others = {name: how for name, how in encodings.items() if how != "DICTIONARY"}
    parquet.write_table(
        table, out, use_dictionary=by_dictionary or False, column_encoding=others or None, **LEAST
    )
    return out.getvalue()


def candidates(series: Series, name: str) -> Iterator[tuple[int, str, Any]]:
    """(bytes alone in a file, encoding, array) of a column in every form that Parquet takes."""
    import pyarrow

    for decimals in (False, True):
        if decimals and not series.dtypes.get(name, "").startswith("decimal("):
            continue
        array = arrow_columns(series, decimals)[name]
        table = pyarrow.table({name: array})
        for encoding in ENCODINGS:
            try:
                yield len(written(table, {name: encoding})), encoding, array
            except (OSError, pyarrow.ArrowException):
                continue  # not an encoding of this type


def tuned(series: Series) -> tuple[Any, dict[str, str]]:
    """The table and the encodings that made the smallest file."""
    import pyarrow

    arrays, encodings = {}, {}
    for name in (TIME, *series.columns):
        _, encodings[name], arrays[name] = min(candidates(series, name), key=lambda c: c[0])
    return pyarrow.table(arrays), encodings


def parquet(series: Series) -> Found:
    import pyarrow

    table, encodings = tuned(series)
    settings = {"level": 19, "encodings": encodings}
    return len(written(table, encodings)), pyarrow.__version__, settings


# ---------------------------------------------------------------- Gorilla, Chimp


def sensors(series: Series) -> Iterator[tuple[bytes, list[int], list[list[float]]]]:
    """(name, times, columns of doubles) of each of the interleaved series."""
    category = series.category()
    keys = series.columns[category] if category else [""] * len(series)
    unit = 1000 * MS if all(at % (1000 * MS) == 0 for at in series.times) else MS
    for key in dict.fromkeys(keys):
        rows = [i for i, found in enumerate(keys) if found == key]
        columns = []
        for name, values in series.columns.items():
            column, last = [], 0.0
            for i in rows if name != category else []:
                last = last if values[i] is None else float(values[i])
                column.append(last)
            if column:
                columns.append(column)
        yield str(key).encode(), [series.times[i] // unit for i in rows], columns


def xor_coded(code: str) -> Callable[[Series], Found]:
    def measure(series: Series) -> Found:
        size = sum(
            len(key) + xor_codes.size_of(code, times, columns)
            for key, times, columns in sensors(series)
        )
        return size, "bench/xor_codes.py", {}

    return measure


PEERS: dict[str, Callable[[Series], Found]] = {
    "json+gzip": json_gzip,
    "json+zstd19": json_zstd,
    "parquet": parquet,
    "arrow-ipc+zstd19": arrow_ipc,
    "gorilla": xor_coded("gorilla"),
    "chimp": xor_coded("chimp"),
    "chimp128": xor_coded("chimp128"),
}
