"""What a view asks of its stream as a whole, beside the lateness of each entity. The rules are
docs/formats/feature-definition.md's; the core keeps them (cpp/features/rules.hpp)."""

from __future__ import annotations

from edgecore.errors import Invalid

KEYS = ("max_ahead", "idle", "max_entities", "max_bytes")
_ENTITIES_MAX = 1 << 20
_BYTES_MAX = 1 << 40


class Rules:
    """All 0: none of it.

    max_ahead (ns): a row further ahead of the stream's newest is set aside, until three in a row
    agree. idle (ns): lateness is judged by the watermark too, the lowest newest time of the sources
    heard within `idle` of the newest of all, minus the lateness; answers before it are FINAL.
    max_entities, max_bytes: beyond either, entities go, the least recently updated first.
    """

    __slots__ = KEYS

    def __init__(
        self, max_ahead: int = 0, idle: int = 0, max_entities: int = 0, max_bytes: int = 0
    ) -> None:
        self.max_ahead = max_ahead
        self.idle = idle
        self.max_entities = max_entities
        self.max_bytes = max_bytes
        if not 0 <= max_entities <= _ENTITIES_MAX or not 0 <= max_bytes <= _BYTES_MAX:
            raise Invalid(f"max_entities is at most {_ENTITIES_MAX}, max_bytes {_BYTES_MAX}")
        if max_ahead < 0 or idle < 0:
            raise Invalid("max_ahead and idle are durations of 0 or more")

    def canonical(self) -> dict[str, int]:
        """What is encoded: only what is not 0."""
        return {key: getattr(self, key) for key in KEYS if getattr(self, key)}

    def of_time(self) -> dict[str, int]:
        """Those that decide which events count, so that they are part of a feature's identity."""
        return {key: value for key, value in self.canonical().items() if key in KEYS[:2]}

    def core(self) -> tuple[int, int, int, int]:
        return (self.max_ahead, self.idle, self.max_entities, self.max_bytes)


__all__ = ["KEYS", "Rules"]
