"""`edgecore hub`: init, key, serve, invite, publish, order, request-raw, requests, summaries,
export."""

from __future__ import annotations

from edgecore.cli import hub_requests, hub_summaries

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from edgecore.trust.keys import Ed25519Signer


def register(subparsers: Any) -> None:
    """Adds the command's parsers; each sets ``run``, a function of the arguments."""
    hub = subparsers.add_parser("hub", help="the hub: init, serve, invite, publish, order, export")
    commands = hub.add_subparsers(dest="hub_command", required=True)
    hub_requests.register(commands)
    hub_summaries.register(commands)
    for name, run, what in (
        ("init", _init, "make a hub's directory and keys"),
        ("key", _key, "print the public key that a releaser's root is to name"),
        ("serve", _serve, "answer devices until stopped"),
        ("invite", _invite, "make an invite file for one device"),
        ("publish", _publish, "take a releaser's signed releases and offer them to devices"),
        ("order", _order, "order a published release for the fleet"),
        ("export", _export, "print everything held as JSON lines"),
    ):
        parser = commands.add_parser(name, help=what)
        parser.add_argument("directory", metavar="DIR")
        parser.add_argument("--json", action="store_true", help="one JSON object (export: lines)")
        parser.set_defaults(run=run)
        if name == "serve":
            parser.add_argument("--host", default="127.0.0.1")
            parser.add_argument("--port", type=int, default=8080)
        if name == "invite":
            parser.add_argument("--url", default="http://127.0.0.1:8080")
            parser.add_argument("--out", metavar="FILE")
        if name == "publish":
            parser.add_argument("public", metavar="PUBLIC", help="a releaser's public directory")
        if name == "order":
            parser.add_argument("name", metavar="NAME")
            parser.add_argument("version", type=int, metavar="VERSION")
            parser.add_argument("--ring", default="all")


def _say(arguments: argparse.Namespace, text: str, **facts: object) -> int:
    import json

    print(json.dumps(facts) if arguments.json else text, flush=True)
    return 0


def _init(arguments: argparse.Namespace) -> int:
    from edgecore.hub.server import Hub

    directory = arguments.directory
    Hub.init(directory)
    key = _online(directory).public.hex()
    return _say(arguments, f"hub made in {directory}", directory=directory, key=key)


def _online(directory: str) -> Ed25519Signer:
    """The hub's key for what it signs without a person, and without opening its stores."""
    from pathlib import Path

    from edgecore.errors import Invalid
    from edgecore.trust.keys import signer_from_file

    path = Path(directory) / "keys" / "online.key"
    if not path.exists():
        raise Invalid(f"{directory} holds no hub: run `edgecore hub init {directory}`")
    return signer_from_file(path.read_bytes())


def _key(arguments: argparse.Namespace) -> int:
    key = _online(arguments.directory).public.hex()
    return _say(arguments, key, key=key)


def _publish(arguments: argparse.Namespace) -> int:
    import time
    from pathlib import Path

    from edgecore.hub.publish import publish

    signer = _online(arguments.directory)
    paths = publish(Path(arguments.directory), Path(arguments.public), signer, time.time_ns())
    return _say(arguments, f"published {', '.join(paths) or 'the root'}", published=paths)


def _order(arguments: argparse.Namespace) -> int:
    import time
    from pathlib import Path

    from edgecore.errors import Invalid
    from edgecore.hub.publish import listed
    from edgecore.hub.stores.registry import Registry

    _online(arguments.directory)
    directory, path = Path(arguments.directory), f"{arguments.name}/{arguments.version}"
    known = listed(directory)
    if path not in known:
        there = ", ".join(sorted(known)) or "nothing"
        raise Invalid(f"{path} is not published here; published: {there}")
    registry = Registry(directory / "registry.db")  # the server may be running
    wanted = (arguments.name, arguments.version, path)
    order = registry.order(time.time_ns(), wanted, arguments.ring)
    registry.close()
    digest = known[path].hex()
    return _say(
        arguments, f"order {order}: {path} {digest}", order=order, path=path, manifest=digest
    )


def _serve(arguments: argparse.Namespace) -> int:
    from edgecore.hub.asgi import listen
    from edgecore.hub.server import Hub

    # A directory without a hub and a busy port are named before anything is opened.
    _online(arguments.directory)
    bound = listen(arguments.host, arguments.port)
    host, port = bound.getsockname()[:2]
    hub = Hub.open(arguments.directory)
    try:
        text = f"hub {hub.id.hex()} serves on {host} port {port}"
        _say(arguments, text, hub=hub.id.hex(), host=host, port=port)
        hub.serve(bound=bound)
    finally:
        hub.close()
        bound.close()
    return 0


def _invite(arguments: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from edgecore.digest import blake3
    from edgecore.errors import Invalid
    from edgecore.fs import write_private
    from edgecore.hub.server import Hub

    _online(arguments.directory)
    out = arguments.out
    if out and Path(out).exists():
        raise Invalid(f"{out} exists: choose another name, an invite is for one device")
    if arguments.json and not out:
        raise Invalid("--json needs --out FILE: without it the invite itself is the output")
    root = Path(arguments.directory) / "tuf" / "1.root.json"
    root_hash = blake3(root.read_bytes()) if root.exists() else bytes(32)
    data = Hub.invitation(arguments.directory, arguments.url, root_hash)
    if not out:
        sys.stdout.buffer.write(data)
        return 0
    write_private(Path(out), data)
    return _say(arguments, f"invite for {arguments.url} in {out}", file=out, url=arguments.url)


def _export(arguments: argparse.Namespace) -> int:
    from edgecore.hub.export import lines
    from edgecore.hub.server import Hub

    hub = Hub.open(arguments.directory)
    try:
        for line in lines(hub):
            print(line)
    finally:
        hub.close()
    return 0
