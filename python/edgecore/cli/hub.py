"""`edgecore hub`: init, serve, invite, export."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


def register(subparsers: Any) -> None:
    """Adds the command's parsers; each sets ``run``, a function of the arguments."""
    hub = subparsers.add_parser("hub", help="the hub: init, serve, invite, export")
    commands = hub.add_subparsers(dest="hub_command", required=True)
    for name, run, what in (
        ("init", _init, "make a hub's directory and keys"),
        ("serve", _serve, "answer devices until stopped"),
        ("invite", _invite, "make an invite file for one device"),
        ("export", _export, "print everything held as JSON lines"),
    ):
        parser = commands.add_parser(name, help=what)
        parser.add_argument("directory", metavar="DIR")
        parser.set_defaults(run=run)
        if name == "serve":
            parser.add_argument("--host", default="127.0.0.1")
            parser.add_argument("--port", type=int, default=8080)
        if name == "invite":
            parser.add_argument("--url", default="http://127.0.0.1:8080")
            parser.add_argument("--out", metavar="FILE")


def _init(arguments: argparse.Namespace) -> int:
    from edgecore.hub.server import Hub

    Hub.init(arguments.directory)
    print(f"hub made in {arguments.directory}")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from edgecore.hub.asgi import listen
    from edgecore.hub.server import Hub

    listen(arguments.host, arguments.port).close()  # a busy port is named before stores open
    hub = Hub.open(arguments.directory)
    try:
        hub.serve(arguments.host, arguments.port)
    finally:
        hub.close()
    return 0


def _invite(arguments: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from edgecore.digest import blake3
    from edgecore.hub.server import Hub, write_private

    hub = Hub.open(arguments.directory)
    root = Path(arguments.directory) / "tuf" / "1.root.json"
    root_hash = blake3(root.read_bytes()) if root.exists() else bytes(32)
    data = hub.invite(arguments.url, root_hash)
    hub.close()
    if arguments.out:
        write_private(Path(arguments.out), data)
    else:
        sys.stdout.buffer.write(data)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from edgecore.hub.export import lines
    from edgecore.hub.server import Hub

    hub = Hub.open(arguments.directory)
    for line in lines(hub):
        print(line)
    hub.close()
    return 0
