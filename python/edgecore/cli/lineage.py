"""`edgecore lineage show ID`: makes a prediction again and says whether it comes out the same."""

from __future__ import annotations

from edgecore.cli.log_open import add_key, open_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from edgecore.lineage import Lineage

VERDICTS = {0: "normal", 1: "anomalous", 2: "not judged"}
STATES = {0: "", 1: "stale", 2: "missing"}


def register(subparsers: Any) -> None:
    """Adds the command's parsers; each sets ``run``, a function of the arguments."""
    lineage = subparsers.add_parser("lineage", help="rebuild a prediction from the log")
    commands = lineage.add_subparsers(dest="lineage_command", required=True)
    show = commands.add_parser("show", help="one prediction: recorded, rebuilt, compared")
    show.add_argument("identity", metavar="ID", help="[store:]partition:sequence")
    show.add_argument("--log", required=True, metavar="DIR", help="the log (read only)")
    show.add_argument(
        "--objects", action="append", default=[], metavar="DIR",
        help="an artifact store or a directory of objects by digest; may be given again",
    )  # fmt: skip
    add_key(show)
    show.add_argument("--json", action="store_true")
    show.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> int:
    import json

    from edgecore.lineage import objects_in, rebuild

    with open_log(arguments.log, arguments.key) as log:
        found = rebuild(log, arguments.identity, objects_in(*arguments.objects))
    if arguments.json:
        print(json.dumps(found.to_dict()))
    else:
        print("\n".join(lines(found)))
    return 0 if found.holds else 1


def lines(found: Lineage) -> list[str]:
    """What a person reads."""
    body, was = found.context.body, found.recorded
    out = [
        f"prediction {found.identity}",
        f"  answers    position {was['position']}, entity {was['entity']!r}, as of {was['as_of']}",
        f"  release    {body['release'].hex()[:16]} as {body['role']}, context "
        f"{found.context.number}",
        f"  ran on     {body['backend']} {body['isa']} {body['profile']}, epoch "
        f"{body['epoch']:016x}",
        f"  verdict    {VERDICTS.get(was['verdict'], was['verdict'])}: score {was['score']}, "
        f"threshold {was['threshold']}, episode {was['episode']}",
    ]
    if was["reason"]:
        out.append(f"  reason     {was['reason']}")
    out.append("  features")
    for name, (value, state) in found.features.items():
        out.append(f"    {name:<24}{value:>16.6g}  {STATES.get(state, state)}")
    if found.note:
        out.append(f"  {found.note}")
    if found.holds:
        out.append("  rebuilt    the same: input, output, score, threshold, verdict")
    for name, (recorded, rebuilt) in found.differences.items():
        out.append(f"  DIFFERS    {name}: recorded {_text(recorded)}, rebuilt {_text(rebuilt)}")
    return out


def _text(value: object) -> str:
    return value.hex()[:16] if isinstance(value, bytes) else str(value)
