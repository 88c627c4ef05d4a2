"""`edgecore schema infer FILE`: proposes a schema for a CSV file, once; a person completes it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


def register(subparsers: Any) -> None:
    """Adds the command's parsers; each sets ``run``, a function of the arguments."""
    schema = subparsers.add_parser("schema", help="propose a schema for a CSV file")
    commands = schema.add_subparsers(dest="schema_command", required=True)
    parser = commands.add_parser("infer", help="propose grids and types; units stay empty")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--out", metavar="FILE", help="a .toml to complete, or a .cbor to use")
    parser.add_argument("--stream", help="the stream's name (default: the file's, without suffix)")
    parser.add_argument("--tier", default="bulk")
    parser.add_argument("--time", metavar="COLUMN")
    parser.add_argument("--time-format", metavar="FORMAT", help="iso, unix_s … unix_ns, or %%d/%%m")
    parser.add_argument("--delimiter", metavar="MARK", help="one of , ; | or tab")
    parser.add_argument("--as", metavar="COLUMN=DTYPE", action="append", default=[], dest="dtypes")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_infer)


def _dtypes(words: list[str]) -> dict[str, str]:
    from edgecore.errors import Invalid

    out = {}
    for word in words:
        name, equals, dtype = word.rpartition("=")
        if not equals:
            raise Invalid(f"--as {word}: COLUMN=DTYPE, e.g. --as temp=decimal(2)")
        out[name] = dtype
    return out


def _infer(arguments: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from edgecore.device.infer import infer
    from edgecore.errors import Invalid

    mark = {"tab": "\t"}.get(arguments.delimiter, arguments.delimiter)
    if mark is not None and len(mark) != 1:
        raise Invalid(f"--delimiter {mark!r}: one of , ; | or tab")
    proposal = infer(
        arguments.file,
        arguments.stream or Path(arguments.file).stem,
        tier=arguments.tier,
        time=arguments.time,
        time_format=arguments.time_format,
        delimiter=mark,
        dtypes=_dtypes(arguments.dtypes),
    )
    how, text = proposal.how, proposal.toml()
    if arguments.out:
        _write(arguments.out, text, proposal)
    if arguments.json:
        answer = {
            "file": proposal.path,
            "rows": proposal.rows,
            "stream": how.schema.stream,
            "fingerprint": how.schema.fingerprint.hex(),
            "time": how.time,
            "time_format": how.time_format,
            "delimiter": how.delimiter,
            "interval_ns": proposal.interval_ns,
            "backwards": proposal.backwards,
            "fields": [field.canonical() for field in how.schema.fields],
            "columns": how.columns,
            "notes": proposal.notes,
        }
        print(json.dumps(answer))
    elif not arguments.out:
        print(text, end="")
    else:
        print(f"schema of {len(how.schema.fields)} fields in {arguments.out}; fill in its units")
    return 0


def _write(out: str, text: str, proposal: Any) -> None:
    from edgecore.errors import Invalid
    from edgecore.fs import PosixFs

    how = proposal.how
    if out.endswith(".cbor"):
        renamed = [name for name, column in how.columns.items() if name != column]
        if renamed:
            raise Invalid(f"{out}: column {how.columns[renamed[0]]!r} needs a .toml to be named")
        PosixFs().write_atomic(out, how.schema.canonical_bytes)
    else:
        PosixFs().write_atomic(out, text.encode())
