"""cpp/bindings/bind_columns.cpp: column blocks."""

from array import array
from typing import Any

from edgecore._core.rows import Batch
from edgecore._core.rows import Schema as CoreSchema
from edgecore.schema import Schema

def encode(
    schema: Schema | CoreSchema,
    store: bytes,
    partition: int,
    first: int,
    count: int,
    rows: bytes | bytearray | memoryview,
    arrivals: list[tuple[int, int, int, int]],
    coding: str = "fast",
) -> bytes: ...
def decode(
    block: bytes | bytearray | memoryview, schema: Schema | CoreSchema
) -> tuple[Batch, list[tuple[int, int, int, int]]]: ...
def decode_to_rows(
    block: bytes | bytearray | memoryview, schema: Schema | CoreSchema
) -> tuple[bytes, list[tuple[int, int, int, int]]]: ...
def header(
    block: bytes | bytearray | memoryview,
) -> tuple[bytes, int, int, int, bytes, bytes, str, int, dict[int, float]]: ...
def arrays(
    block: bytes | bytearray | memoryview, schema: Schema | CoreSchema, names: list[str]
) -> list[array[float] | array[int] | list[Any]]: ...
def column(
    block: bytes | bytearray | memoryview, schema: Schema | CoreSchema, name: str
) -> array[float] | array[int] | list[Any]: ...
