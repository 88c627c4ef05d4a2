"""The clock seam in Python: the same objects the core reads time through."""

from __future__ import annotations

from edgecore._core import base as _base

Clock = _base.Clock
ManualClock = _base.ManualClock
SystemClock = _base.SystemClock

__all__ = ["Clock", "ManualClock", "SystemClock"]
