"""`edgecore COMMAND`: parses, runs, and turns an outcome into one line and an exit code.

Exit codes: 0 Ok, 1 an invariant failed, 2 usage, 10 Stale, 11 Incompatible, 12 Corrupt,
13 Untrusted, 14 Exhausted, 15 Unavailable, 16 Invalid.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from edgecore.errors import EdgecoreError, Unavailable, from_os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Command -> module with `register(subparsers)`; a module is loaded only for its own command, so
# that `edgecore device` on a small board does not pay for the hub.
HOMES = {
    "demo": "edgecore.cli.demo",
    "device": "edgecore.cli.device",
    "features": "edgecore.cli.features",
    "hub": "edgecore.cli.hub",
    "lineage": "edgecore.cli.lineage",
    "log": "edgecore.cli.log",
    "model": "edgecore.cli.model",
    "release": "edgecore.cli.release",
    "schema": "edgecore.cli.schema",
}
SUMMARIES = {
    "demo": "the whole path on this machine, checked",
    "device": "init, run, status of a device",
    "features": "show views; backfill over history; parity of all paths",
    "hub": "init, serve, invite, publish, order, export",
    "lineage": "rebuild a prediction from the log",
    "log": "inspect, verify, export a log",
    "model": "train, publish and verify models",
    "release": "create and sign releases",
    "schema": "propose a schema for a CSV file",
}


def usage() -> str:
    lines = [f"  {name:<10}{text}" for name, text in SUMMARIES.items()]
    return "usage: edgecore COMMAND …\n\n" + "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has seen enough, as in `… | head`
        _let_go_of_output()
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        known = outcome(error)
        if known is None:
            raise
        print(f"{known.word}: {' '.join(str(known).split())}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            _let_go_of_output()
        return known.exit_code


class _Parser(argparse.ArgumentParser):
    """The standard one passes over a full output when it prints its help."""

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        import edgecore

        print(f"edgecore {edgecore.__version__}")
        return 0
    home = HOMES.get(words[0])
    if home is None:
        print(f"edgecore: no command {words[0]!r}\n{usage()}", file=sys.stderr)
        return 2
    parser = _Parser(prog="edgecore")
    importlib.import_module(home).register(parser.add_subparsers(dest="command", required=True))
    try:
        options = parser.parse_args(words)
    except SystemExit as ended:  # help that was asked for, or words that are none
        return int(ended.code or 0)
    return int(options.run(options))


def _let_go_of_output() -> None:
    """What is still buffered goes nowhere, or the interpreter's last flush would fail on it and
    replace our exit code by its own."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def outcome(error: Exception) -> EdgecoreError | None:
    """What an error is to the operator; None for a defect of ours."""
    if isinstance(error, EdgecoreError):
        return error
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("edgecore"):
        return Unavailable(f"this command needs the package {error.name}: pip install {error.name}")
    if isinstance(error, OSError) and error.strerror:
        return from_os(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
