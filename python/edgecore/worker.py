"""A killable child process for work that may crash, hang or eat memory: foreign model loaders,
hostile files. One call, bytes in, bytes out; the parent outlives whatever happens.
"""

from __future__ import annotations

from edgecore.errors import OUTCOMES, EdgecoreError, Invalid, Unavailable

# In the child: limits first, then the work, then one status byte and its answer on standard output.
_CHILD = """
import os, resource, sys
memory, target = int(sys.argv[1]), sys.argv[2]
out = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if memory:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
from importlib import import_module
from edgecore.errors import EdgecoreError
module, name = target.split(":")
try:
    answer = b"\\0" + getattr(import_module(module), name)(sys.stdin.buffer.read())
except EdgecoreError as error:
    answer = bytes([error.exit_code]) + str(error).encode()
out.write(answer)
out.flush()
os._exit(0)
"""


class Crashed(Unavailable):
    """The child ended without an answer: a crash, a kill, or its limits."""


def run_in_child(
    target: str, payload: bytes, *, seconds: float = 10.0, memory_bytes: int = 0
) -> bytes:
    """``module:function`` of the payload, in a fresh interpreter.

    :param target: a function from bytes to bytes, named so that the child can import it.
    :param seconds: wall time after which the child is killed.
    :param memory_bytes: limit of its address space; 0 for none.
    :raises Crashed: it crashed, was killed, or took too long.
    :raises EdgecoreError: what the function raised, by its word.
    """
    import os
    import signal
    import subprocess
    import sys

    if ":" not in target:
        raise Invalid(f"worker target {target!r}: module:function")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    command = [sys.executable, "-c", _CHILD, str(memory_bytes), target]
    try:
        done = subprocess.run(
            command, input=payload, capture_output=True, env=environment, timeout=seconds,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Crashed(f"worker {target}: no answer in {seconds:g} s; it was killed") from None
    except OSError as error:
        raise Unavailable(f"worker {target}: {error}") from None
    if done.returncode != 0 or not done.stdout:
        code = done.returncode
        name = signal.Signals(-code).name if code < 0 else f"exit {code}"
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise Crashed(f"worker {target}: {name}" + (f": {lines[-1]}" if lines else ""))
    if done.stdout[0] == 0:
        return done.stdout[1:]
    raise _outcome(done.stdout[0], done.stdout[1:].decode(errors="replace"))


def _outcome(code: int, text: str) -> EdgecoreError:
    for outcome in OUTCOMES:
        if outcome.exit_code == code:
            return outcome(text)
    return EdgecoreError(text)


__all__ = ["Crashed", "run_in_child"]
