"""cpp/bindings/bind_features.cpp: plans, engines and the batch kernel of features.

Answers are flat bytearrays, row-major: values f64, states u8, ages i64 ns (-1: never), coverage
f64, reasons u8; times i64 ns, row numbers u32. Gaps: (row, from, to), known before that row came.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import Buffer

from edgecore._core.rows import Batch
from edgecore._core.rows import Schema as CoreSchema
from edgecore.schema import Schema

# A feature's map in docs/formats/feature-definition.md, and its fingerprint
Spec = Mapping[str, object]

# (name, version, family, ddof or None, value of an empty window, of a single event v)
Operator = tuple[str, int, int, int | None, str, str]

def operators() -> list[Operator]: ...
def category_code(text: bytes) -> int: ...

# (kind: cpp/features/plan.hpp, denominator, unit) of what a feature reads
Grid = tuple[int, int, float]

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
        rules: tuple[int, int, int, int] = ...,
    ) -> None: ...
    @property
    def width(self) -> int: ...
    @property
    def horizon_ns(self) -> int: ...
    @property
    def fingerprints(self) -> list[bytes]: ...
    @property
    def errors(self) -> list[float]: ...
    @property
    def relative_errors(self) -> list[float]: ...
    @property
    def horizons(self) -> list[int]: ...
    @property
    def grids(self) -> list[Grid | None]: ...
    @property
    def entity_bytes(self) -> int: ...
    @property
    def event_bytes(self) -> int: ...
    @property
    def state_digest(self) -> bytes: ...

# The plan of a part, the columns of the view that it answers, whether its entities are the view's
StreamPart = tuple[Plan, Sequence[int], bool]
Plans = Plan | Sequence[StreamPart]  # of a view of one stream, of several

class Engine:
    def __init__(self, plan: Plans) -> None: ...
    @staticmethod
    def restore(plan: Plans, data: Buffer) -> Engine: ...
    def update(self, batch: Batch, first: int, count: int, position: int) -> None: ...
    def read(
        self, entities: Sequence[str], as_of: int
    ) -> tuple[bytearray, bytearray, bytearray, bytearray, bytearray]: ...
    def follow(
        self,
        batch: Batch,
        first: int,
        count: int,
        position: int,
        gaps: Sequence[tuple[int, int, int]] = ...,
    ) -> tuple[bytearray, bytearray]: ...
    def gap(self, from_ns: int, to_ns: int, position: int, stream: str = "") -> None: ...
    def take_set_aside(self) -> list[tuple[int, int, int, int]]: ...
    def snapshot(self) -> bytes: ...
    @property
    def position(self) -> int: ...
    @property
    def late_rows(self) -> int: ...
    @property
    def ahead_rows(self) -> int: ...
    @property
    def evicted(self) -> int: ...
    @property
    def state_bytes(self) -> int: ...
    @property
    def final_before(self) -> int | None: ...
    @property
    def undefined_values(self) -> int: ...
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
    gaps: Sequence[tuple[int, int, int]] = ...,
) -> tuple[bytearray, bytearray, bytearray, bytearray, bytearray, int]: ...
def backfill_joined(
    parts: Plans,
    histories: Sequence[tuple[Batch, Sequence[int], Sequence[tuple[int, int, int]]]],
    arrival: bool,
    since: int,
    until: int,
) -> tuple[bytearray, bytearray, bytearray, bytearray, bytearray, int]: ...
def entities(plan: Plan, batch: Batch, numbers: Buffer) -> list[str]: ...
def expression_fields(data: Buffer) -> list[str]: ...
