"""`edgecore hub summaries`: figures of a stream from its summaries, for the periods that are asked
for. Works beside a running server."""

from __future__ import annotations

from edgecore.cli import hub_requests
from edgecore.errors import Corrupt, Incompatible, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from pathlib import Path
    from typing import Any

    from edgecore.rules.summary import Pane, Rule
    from edgecore.schema import Schema


def register(commands: Any) -> None:
    show = commands.add_parser("summaries", help="figures of a stream from its summaries, merged")
    show.add_argument("directory", metavar="DIR")
    show.add_argument("stream", metavar="STREAM", help="the summary stream, e.g. pump.summary")
    show.add_argument("--device", metavar="DEVICE", default="", help="of this one alone")
    show.add_argument("--period", metavar="DURATION", default="", help="merged to, e.g. 1h, 1d")
    show.add_argument("--field", metavar="NAME", default="", help="this one alone")
    show.add_argument("--json", action="store_true", help="a JSON line per period and field")
    show.set_defaults(run=_run)


def _rules(directory: Path) -> dict[int, Rule]:
    """Every rule that the hub holds and this build reads."""
    from edgecore.hub import history
    from edgecore.rules.summary import rule_of
    from edgecore.streams import SUMMARIES
    from edgecore.wire import catalogue, rowbatch

    schemas: list[Schema] = []
    bodies: set[bytes] = set()
    described = catalogue.read_schema(SUMMARIES.canonical_bytes)
    for _, partition, _, batch in history.blocks(directory):
        if partition == catalogue.PARTITION:
            schemas += _schemas(batch.rows)
        elif batch.fingerprint == SUMMARIES.fingerprint:
            found = [row["body"] for _, row in rowbatch.read_rows(described, batch.rows)]
            bodies |= {body for body in found if isinstance(body, bytes)}
    rules = {}
    for body in bodies:
        for schema in schemas:
            try:
                rule = rule_of(body, schema)
            except (Incompatible, Corrupt):
                continue
            rules[rule.id] = rule
    return rules


def _schemas(rows: bytes) -> list[Schema]:
    from edgecore.schema import Schema
    from edgecore.wire import catalogue, rowbatch

    found = []
    for _, row in rowbatch.read_rows(catalogue.CATALOGUE, rows):
        if isinstance(row["schema"], bytes):
            try:
                found.append(Schema.from_bytes(row["schema"]))
            except (Corrupt, Incompatible):
                continue  # of a later build
    return found


def _panes(
    directory: Path, stream: str, stores: dict[bytes, bytes]
) -> dict[tuple[bytes, int], list[Pane]]:
    """By (device, rule), the parts that the hub holds of a summary stream. What is none is said on
    stderr, and left out."""
    import sys

    from edgecore.rules.summary import pane_of_row

    rules = _rules(directory)
    out: dict[tuple[bytes, int], list[Pane]] = {}
    for store, name, _, row in hub_requests.rows(directory):
        number = row.get("rule")
        if name == stream and store in stores and isinstance(number, int) and number in rules:
            try:
                pane = pane_of_row(rules[number], row)
            except Corrupt as error:
                print(f"Corrupt: {stores[store].hex()}: {error}", file=sys.stderr)
                continue
            out.setdefault((stores[store], number), []).append(pane)
    return out


def _run(arguments: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from edgecore.features import duration_ns
    from edgecore.rules.summary import merge

    registry = hub_requests.registry_of(arguments.directory)
    try:
        devices = registry.devices()
        if arguments.device:
            devices = [hub_requests.device_of(registry, arguments.device)]
        stores = {store: device for device in devices for store in registry.stores_of(device)}
    finally:
        registry.close()
    found = _panes(Path(arguments.directory), arguments.stream, stores)
    if not found:
        raise Invalid(f"the hub holds no summaries {arguments.stream!r} that this build reads")
    wanted = duration_ns(arguments.period) if arguments.period else 0
    for (device, _), panes in sorted(found.items()):
        for pane in merge(panes, wanted or panes[0].rule.period):
            for facts in _facts(device, pane, arguments.field):
                print(json.dumps(facts) if arguments.json else _line(facts, pane))
    return 0


def _facts(device: bytes, pane: Pane, field: str) -> list[dict[str, Any]]:
    names = [column.field.name for column in pane.rule.columns]
    if field and field not in names:
        raise Invalid(f"{pane.rule.name} has no field {field!r}; it has {', '.join(names)}")
    about = {
        "device": device.hex(), "entity": pane.entity,
        "from": (pane.k - 1) * pane.rule.period, "to": pane.k * pane.rule.period,
        "first": pane.first, "last": pane.last, "rows": pane.rows,
    }  # fmt: skip
    return [
        {**about, "field": name, **pane.stats(name), "p50": _between(pane, name, 0.5),
         "p95": _between(pane, name, 0.95), "values": pane.values(name)}
        for name in names if name == field or not field
    ]  # fmt: skip


def _between(pane: Pane, name: str, share: float) -> list[float | None] | None:
    """As :meth:`Pane.quantile`, with null where nothing bounds it."""
    found = pane.quantile(name, share)
    return None if found is None else [v if abs(v) != float("inf") else None for v in found]


def _line(facts: dict[str, Any], pane: Pane) -> str:
    known = [(name, facts[name]) for name in ("mean", "std", "min", "max")]
    shown = "".join(f"  {name} {value:.6g}" for name, value in known if value is not None)
    for name in ("p50", "p95"):
        if facts[name] is not None:
            low, high = ("…" if edge is None else f"{edge:.6g}" for edge in facts[name])
            shown += f"  {name} {low} to {high}"
    if facts["values"]:
        most = sorted(facts["values"].items(), key=lambda item: (-item[1], item[0]))
        shown += "  " + ", ".join(f"{text} {count:,}" for text, count in most[:5])
        shown += f" and {len(most) - 5} more" if most[5:] else ""
    entity = f"  {facts['entity']}" if pane.rule.entity else ""
    device = facts["device"][: 2 * hub_requests.SHOWN_BYTES]
    return (
        f"{device}  {hub_requests.when(facts['to'])}{entity}  {facts['field']}  n {facts['n']:,}"
        f" of {facts['rows']:,}{shown}"
    )
