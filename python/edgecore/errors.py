"""The outcome words as exceptions. The tree, whole:

    EdgecoreError
    ├── Stale          right, but older than the caller allows
    ├── Incompatible   well-formed, but this build or device cannot use it
    ├── Corrupt        bytes that fail their checksum or structure
    ├── Untrusted      bytes that fail their signature or authority
    ├── Exhausted      out of space, quota, budget or memory
    ├── Unavailable    disk, peer or link did not answer; trying again may help
    └── Invalid        the caller's argument or input data is wrong

The same words are the C++ ``Outcome``, the labels of metrics, the first word of every error line
the command prints, and (through ``exit_code``) its exit status.
"""

from __future__ import annotations


class EdgecoreError(Exception):
    """Base of all errors edgecore raises on purpose."""

    exit_code = 1

    @property
    def word(self) -> str:
        """The outcome word, e.g. ``"Corrupt"``."""
        return type(self).__name__


class Stale(EdgecoreError):
    exit_code = 10


class Incompatible(EdgecoreError):
    exit_code = 11


class Corrupt(EdgecoreError):
    exit_code = 12


class Untrusted(EdgecoreError):
    exit_code = 13


class Exhausted(EdgecoreError):
    exit_code = 14


class Unavailable(EdgecoreError):
    exit_code = 15


class Invalid(EdgecoreError):
    exit_code = 16


OUTCOMES: tuple[type[EdgecoreError], ...] = (
    Stale,
    Incompatible,
    Corrupt,
    Untrusted,
    Exhausted,
    Unavailable,
    Invalid,
)


def from_os(error: OSError, what: str = "") -> EdgecoreError:
    """What a failed call of the operating system is: ``Exhausted`` for a full disk, a quota or a
    limit on a file's size, else ``Unavailable``.

    :param what: what the line begins with; by default the file that the error names."""
    import errno

    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    place = what or error.filename
    said = error.strerror or str(error)
    return (Exhausted if full else Unavailable)(f"{place}: {said}" if place else said)


__all__ = [
    "OUTCOMES",
    "Corrupt",
    "EdgecoreError",
    "Exhausted",
    "Incompatible",
    "Invalid",
    "Stale",
    "Unavailable",
    "Untrusted",
    "from_os",
]
