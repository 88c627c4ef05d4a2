"""Exact conversions between units: value' = value * factor + offset, both rational.

Small on purpose: what telemetry is commonly measured in. A unit is a symbol as schemas write it;
one that is not here can be compared, but not converted (write the expression instead).
"""

from __future__ import annotations

from edgecore.errors import Incompatible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fractions import Fraction

# Of one kind, to its first unit: factor and offset.
_KINDS: tuple[dict[str, tuple[str, str]], ...] = (
    {"K": ("1", "0"), "degC": ("1", "273.15"), "degF": ("5/9", "45967/180")},
    {"Pa": ("1", "0"), "hPa": ("100", "0"), "kPa": ("1000", "0"), "MPa": ("1000000", "0"),
     "mbar": ("100", "0"), "bar": ("100000", "0")},
    {"m/s": ("1", "0"), "km/h": ("5/18", "0")},
    {"1": ("1", "0"), "%": ("1/100", "0")},
    {"m": ("1", "0"), "mm": ("1/1000", "0"), "cm": ("1/100", "0"), "km": ("1000", "0")},
    {"s": ("1", "0"), "ms": ("1/1000", "0"), "min": ("60", "0"), "h": ("3600", "0")},
    {"Hz": ("1", "0"), "1/s": ("1", "0"), "1/min": ("1/60", "0"), "kHz": ("1000", "0")},
    {"g": ("1", "0"), "kg": ("1000", "0"), "t": ("1000000", "0")},
    {"V": ("1", "0"), "mV": ("1/1000", "0"), "kV": ("1000", "0")},
    {"A": ("1", "0"), "mA": ("1/1000", "0")},
    {"W": ("1", "0"), "mW": ("1/1000", "0"), "kW": ("1000", "0")},
)  # fmt: skip


def conversion(source: str, target: str) -> tuple[Fraction, Fraction]:
    """(factor, offset) from one unit to another. Raises ``Incompatible`` where there is none."""
    from fractions import Fraction

    for kind in _KINDS:
        if source in kind and target in kind:
            (up, above), (down, below) = (map(Fraction, kind[unit]) for unit in (source, target))
            return up / down, (above - below) / down
    raise Incompatible(
        f"no exact conversion from {source!r} to {target!r} in this build: write it as an "
        "expression"
    )


__all__ = ["conversion"]
