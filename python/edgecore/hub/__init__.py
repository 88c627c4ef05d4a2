"""The hub: enrolment, ingest, desired state; the shell of the hub side."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgecore.hub.server import Hub as Hub


def __getattr__(name: str) -> object:
    if name == "Hub":
        from edgecore.hub.server import Hub

        return Hub
    raise AttributeError(name)
