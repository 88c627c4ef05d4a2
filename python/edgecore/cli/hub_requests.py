"""`edgecore hub request-raw` and `requests`: raw rows that a device keeps, asked for and followed.

The server may be running: both work beside it."""

from __future__ import annotations

from edgecore.errors import Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from edgecore.hub.answers import Answers
    from edgecore.hub.stores.registry import Registry
    from edgecore.wire.desired import Request

    Ranges = dict[tuple[bytes, int], list[tuple[int, int]]]

SHOWN_BYTES = 6  # of a device id, in hex


def register(commands: Any) -> None:
    ask = commands.add_parser("request-raw", help="ask a device for raw rows that it keeps")
    ask.add_argument("directory", metavar="DIR")
    ask.add_argument("device", metavar="DEVICE", help="its id, or the beginning of it")
    ask.add_argument("stream", metavar="STREAM", help="with --summary: the stream that it is in")
    ask.add_argument("--from", dest="low", metavar="TIME", help="rows later than this; ISO 8601 "
                     "(UTC unless it says) or nanoseconds since 1970")  # fmt: skip
    ask.add_argument("--to", dest="high", metavar="TIME", help="up to this, included")
    ask.add_argument("--summary", type=int, metavar="SEQUENCE",
                     help="the rows behind this summary, or this row of a told view, instead of "
                     "--from and --to")  # fmt: skip
    ask.add_argument("--expires", default="7d", metavar="DURATION", help="default 7d")
    ask.add_argument("--json", action="store_true")
    ask.set_defaults(run=_ask)
    show = commands.add_parser("requests", help="what devices were asked for, and what came of it")
    show.add_argument("directory", metavar="DIR")
    show.add_argument("--cancel", metavar="REQUEST", help="take one back")
    show.add_argument("--json", action="store_true")
    show.set_defaults(run=_show)


def registry_of(directory: str) -> Registry:
    from pathlib import Path

    from edgecore.hub.stores.registry import Registry

    if not (Path(directory) / "keys" / "online.key").exists():
        raise Invalid(f"{directory} holds no hub: run `edgecore hub init {directory}`")
    return Registry(Path(directory) / "registry.db")


def time_ns(where: str, text: str | None) -> int:
    """Raises ``Invalid``, also where there is none."""
    from edgecore.device.times import instant

    if text is None:
        raise Invalid(f"{where} is missing: say --from and --to, or --summary")
    try:
        return instant(text)
    except Invalid as error:
        raise Invalid(f"{where}: {error}") from None


def device_of(registry: Registry, text: str) -> bytes:
    found = [device for device in registry.devices() if device.hex().startswith(text.lower())]
    if len(found) != 1 or not text:
        known = ", ".join(device.hex() for device in registry.devices()[:8]) or "none"
        raise Invalid(f"device {text!r}: {len(found)} begin so; enrolled: {known}")
    return found[0]


def _ask(arguments: argparse.Namespace) -> int:
    import json
    import os
    import time

    from edgecore.features import duration_ns

    registry = registry_of(arguments.directory)
    try:
        device = device_of(registry, arguments.device)
        if arguments.summary is not None:
            stores = registry.stores_of(device)
            stream, low, high = _behind(arguments, stores)
        else:
            stream = arguments.stream
            low, high = time_ns("--from", arguments.low), time_ns("--to", arguments.high)
        if not -(1 << 63) <= low < high < 1 << 63:
            raise Invalid("--from is not before --to")
        now = time.time_ns()
        expires = now + duration_ns(arguments.expires)
        if not now < expires < 1 << 63:
            raise Invalid(f"--expires {arguments.expires}: e.g. 12h, 7d")
        new = int.from_bytes(os.urandom(6), "little")
        number = registry.request(new, device, stream, (low, high), now, expires)
    finally:
        registry.close()
    facts = {"request": f"{number:012x}", "device": device.hex(), "stream": stream, "from": low,
             "to": high, "expires": expires}  # fmt: skip
    shown = f"request {facts['request']}: {stream} of {device.hex()[: 2 * SHOWN_BYTES]}, until "
    print(json.dumps(facts) if arguments.json else shown + when(expires))
    return 0


def _behind(arguments: argparse.Namespace, stores: list[bytes]) -> tuple[str, int, int]:
    """(stream, from, to) of the rows behind a summary, or a told view's row, that the hub holds."""
    from pathlib import Path

    from edgecore.errors import Corrupt
    from edgecore.streams import SUMMARIES
    from edgecore.wire import cbor

    wanted, sources = None, dict[int, str]()
    for store, stream, sequence, row in rows(Path(arguments.directory)):
        if store not in stores:
            continue
        if stream == SUMMARIES.stream and isinstance(row["body"], bytes):
            number = row["rule"]
            if isinstance(number, int):
                sources[number] = str(cbor.field(cbor.decode(row["body"]), "stream", str))
        elif stream == arguments.stream and sequence == arguments.summary:
            wanted = row
    if wanted is None or not {"rule", "start"} <= set(wanted):
        raise Invalid(
            f"the hub holds no summary {arguments.summary} of {arguments.stream!r} of this device"
        )
    rule, low, high = wanted["rule"], wanted["start"], wanted["time"]
    if not (isinstance(rule, int) and isinstance(low, int) and isinstance(high, int)):
        raise Corrupt(f"summary {arguments.summary} of {arguments.stream!r} is malformed")
    if rule not in sources:
        raise Invalid(f"the hub does not hold the rule of summary {arguments.summary} yet")
    return sources[rule], low, high


def rows(directory: Path) -> Iterator[tuple[bytes, str, int, dict[str, object]]]:
    """(store, stream, sequence, row) of all that the hub holds."""
    from edgecore.hub import history
    from edgecore.wire import catalogue, rowbatch

    schemas = {}
    for _, partition, _, batch in history.blocks(directory):
        if partition == catalogue.PARTITION:
            for _, row in rowbatch.read_rows(catalogue.CATALOGUE, batch.rows):
                if isinstance(row["schema"], bytes):
                    schema = catalogue.read_schema(row["schema"])
                    schemas[schema.fingerprint] = schema
    for store, _, first, batch in history.blocks(directory):
        known = schemas.get(batch.fingerprint)
        if known is not None:
            for at, (_, row) in enumerate(rowbatch.read_rows(known, batch.rows), first):
                yield store, known.stream, at, row


def when(ns: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _held(directory: Path) -> tuple[Answers, Ranges]:
    """What devices said, and which sequences are here, of all whole blocks."""
    from edgecore.hub import history
    from edgecore.hub.answers import Answers
    from edgecore.streams import RAW
    from edgecore.wire import catalogue

    answers, held = Answers(), dict[tuple[bytes, int], list[tuple[int, int]]]()
    schema = catalogue.read_schema(RAW.canonical_bytes)
    for store, partition, first, count, batch in history.spans(directory):
        held.setdefault((store, partition), []).append((first, first + count - 1))
        if batch is not None and batch.fingerprint == RAW.fingerprint:
            answers.hear(store, schema, batch.rows)
    return answers, {key: sorted(ranges) for key, ranges in held.items()}


def _show(arguments: argparse.Namespace) -> int:
    import json
    import time
    from pathlib import Path

    registry = registry_of(arguments.directory)
    try:
        if arguments.cancel and not registry.cancel(_number(arguments.cancel)):
            raise Invalid(f"no request {arguments.cancel}")
        asked = registry.all_requests()
        stores = {device: registry.stores_of(device) for device, _ in asked}
    finally:
        registry.close()
    answers, held = _held(Path(arguments.directory))
    found = [_facts(device, request, stores[device], answers, held, time.time_ns())
             for device, request in asked]  # fmt: skip
    if arguments.json:
        print(json.dumps({"requests": found}))
        return 0
    if not found:
        print("no device was asked for raw rows")
    for facts in found:
        print(
            f"{facts['request']}  {facts['device'][: 2 * SHOWN_BYTES]}  {facts['stream']}  "
            f"{when(facts['from'])} to {when(facts['to'])}: {facts['state']}"
            + (f", {facts['rows']:,} rows" if facts["state"] in ("answered", "coming") else "")
            + (f", {facts['lacking']:,} numbers to come" if facts["lacking"] else "")
            + (f", {facts['gone']:,} numbers gone" if facts["gone"] else "")
        )
    return 0


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise Invalid(f"request {text!r}: its number is twelve hex digits") from None


def _facts(
    device: bytes, request: Request, stores: list[bytes], answers: Answers, held: Ranges, now: int
) -> dict[str, Any]:
    from edgecore.hub.answers import lacking

    found = answers.of(stores, request.id)
    facts: dict[str, Any] = {
        "request": f"{request.id:012x}", "device": device.hex(), "stream": request.stream,
        "from": request.low, "to": request.high, "expires": request.expires_ns,
        "state": "expired" if request.expires_ns <= now else "waiting", "rows": 0, "lacking": 0,
        "gone": 0,
    }  # fmt: skip
    if found is not None:
        store, answer = found
        left = lacking(store, answer, lambda s, p: held.get((s, p), []))
        facts["rows"], facts["lacking"] = answer.rows, left
        facts["gone"] = sum(last - first + 1 for _, first, last in answer.gone)
        facts["state"] = answer.state
        if left:
            facts["state"] = "coming" if facts["state"] == "answered" else facts["state"]
    return facts
