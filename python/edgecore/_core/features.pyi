"""cpp/bindings/bind_features.cpp: plans, engines and the batch kernel of features.

Answers are flat bytearrays, row-major: values f64, states u8, ages i64 ns (-1: never), coverage
f64, reasons u8; times i64 ns, row numbers u32.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import Buffer

from edgecore._core.rows import Batch
from edgecore._core.rows import Schema as CoreSchema
from edgecore.schema import Schema

Spec = tuple[str, int, int, str, int, int, int, float | None, float, int, bytes]

# (name, version, family, ddof or None, value of an empty window, of a single event v)
Operator = tuple[str, int, int, int | None, str, str]

def operators() -> list[Operator]: ...

class Plan:
    def __init__(
        self,
        name: str,
        entity: str,
        stream: str,
        lateness_ns: int,
        features: list[Spec],
        fingerprint: bytes,
        schema: Schema | CoreSchema,
    ) -> None: ...
    @property
    def width(self) -> int: ...
    @property
    def horizon_ns(self) -> int: ...
    @property
    def fingerprints(self) -> list[bytes]: ...
    @property
    def state_digest(self) -> bytes: ...

class Engine:
    def __init__(self, plan: Plan) -> None: ...
    @staticmethod
    def restore(plan: Plan, data: Buffer) -> Engine: ...
    def update(self, batch: Batch, first: int, count: int, position: int) -> None: ...
    def read(
        self, entities: Sequence[str], as_of: int
    ) -> tuple[bytearray, bytearray, bytearray, bytearray, bytearray]: ...
    def follow(
        self, batch: Batch, first: int, count: int, position: int
    ) -> tuple[bytearray, bytearray]: ...
    def snapshot(self) -> bytes: ...
    @property
    def position(self) -> int: ...
    @property
    def late_rows(self) -> int: ...
    @property
    def entities(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...

class Feed:
    def __init__(self, schema: Schema | CoreSchema, engines: Sequence[Engine]) -> None: ...
    def update(self, row: Mapping[str, Any], position: int, /) -> None: ...
    def update_batch(self, batch: Batch, position: int) -> None: ...

def backfill(
    plan: Plan,
    batch: Batch,
    arrival: bool = False,
    since: int = ...,
    until: int = ...,
) -> tuple[bytearray, bytearray, bytearray, bytearray, int]: ...
def entities(plan: Plan, batch: Batch, numbers: Buffer) -> list[str]: ...
