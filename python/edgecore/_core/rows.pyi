"""cpp/bindings/bind_rows.cpp: schemas, and Python rows to and from row batches."""

class Schema:
    def __init__(
        self,
        stream: str,
        tier: int,
        version: int,
        fields: list[tuple[str, int, int, bool, float, tuple[float, float] | None]],
        canonical: bytes,
    ) -> None: ...
    @property
    def fingerprint(self) -> bytes: ...
    @property
    def stream(self) -> str: ...
    @property
    def tier(self) -> int: ...
    @property
    def version(self) -> int: ...
