"""`edgecore device`: init, run, status, check-upgrade."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from signal import Signals
    from threading import Event, Thread
    from typing import Any

    from edgecore.device.agent import Device

JOIN_S = 2.0
DRAIN_NS = 3_000_000_000  # for the last exchanges with the hub
LINK_FAULT_WAIT_S = 5.0


def register(subparsers: Any) -> None:
    """Adds the command's parsers; each sets ``run``, a function of the arguments."""
    device = subparsers.add_parser("device", help="a device: init, run, status, check-upgrade")
    commands = device.add_subparsers(dest="device_command", required=True)
    init = commands.add_parser("init", help="make a device's directory, edge.toml and identity")
    init.add_argument("directory", metavar="DIR")
    init.add_argument("--invite", metavar="FILE", required=True)
    init.add_argument("--name", help="the source id of its rows (default: the directory's name)")
    init.add_argument("--source", choices=("host", "csv", "none"), default="host")
    init.add_argument("--csv", metavar="FILE")
    init.add_argument("--schema", metavar="FILE", help="of `edgecore schema infer`")
    init.add_argument("--rows-per-second", type=float, default=0.0, metavar="N")
    init.add_argument("--json", action="store_true")
    init.set_defaults(run=_init)
    run = commands.add_parser("run", help="capture, answer and synchronise until stopped")
    run.add_argument("config", metavar="edge.toml")
    run.add_argument("--json", action="store_true", help="at the end, its status as one object")
    run.set_defaults(run=_run)
    upgrade = commands.add_parser(
        "check-upgrade", help="whether this build can serve the releases of a stopped device"
    )
    upgrade.add_argument("config", metavar="edge.toml|DIR")
    upgrade.add_argument("--json", action="store_true")
    upgrade.set_defaults(run=_check_upgrade)
    status = commands.add_parser("status", help="what the device last said of itself")
    status.add_argument("config", metavar="edge.toml|DIR")
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)


# ---------------------------------------------------------------- init


def _init(arguments: argparse.Namespace) -> int:
    import os
    from pathlib import Path

    from edgecore.device import config, enrol
    from edgecore.device.agent import http_transport
    from edgecore.errors import Unavailable
    from edgecore.fs import PosixFs

    fs, directory = PosixFs(), Path(arguments.directory)
    invitation = fs.read_file(arguments.invite, 8192)
    keys, path = directory / "keys", directory / "edge.toml"
    for made in (directory, keys):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _check_source(arguments)
        text = config.example(
            arguments.name or directory.resolve().name,
            arguments.source,
            os.path.abspath(arguments.csv or ""),  # noqa: PTH100 - links stay links
            os.path.abspath(arguments.schema or ""),  # noqa: PTH100
            arguments.rows_per_second,
        )
        config.parse(str(path), str(directory), text)  # what cannot work is not written
        fs.write_atomic(str(path), text.encode())
    settings = config.load(str(path))
    if not (keys / "identity").exists():
        fs.write_atomic(str(keys / "invite"), invitation)
    transport = http_transport(fs, settings)
    try:
        identity = enrol.enrol(fs, str(keys), invitation, transport, os.urandom)
    except Unavailable as error:
        raise Unavailable(
            f"{error}; the device is made in {directory} and enrols when `edgecore device run` "
            "reaches the hub"
        ) from None
    finally:
        transport.close()
    if arguments.json:
        import json

        print(json.dumps({"device": identity.device.hex(), "config": str(path)}))
    else:
        print(f"device {identity.device.hex()} enrolled; run it with `edgecore device run {path}`")
    return 0


def _check_source(arguments: argparse.Namespace) -> None:
    from edgecore.errors import Invalid

    if arguments.source == "csv" and not (arguments.csv and arguments.schema):
        raise Invalid("--source csv needs --csv FILE and --schema FILE (`edgecore schema infer`)")


# ---------------------------------------------------------------- run


def _run(arguments: argparse.Namespace) -> int:
    """The device until SIGINT or SIGTERM: capture here, the link in a thread of its own.

    Both signals are blocked and waited for, so that none arrives in the middle of anything."""
    import signal
    from threading import Event, Thread

    from edgecore.device.agent import Device

    signal.pthread_sigmask(signal.SIG_BLOCK, _ends())
    try:
        stop = Event()
        device = Device.open(arguments.config)
        thread = Thread(target=_link_loop, args=(device, stop), name="link", daemon=True)
        try:
            thread.start()
            _capture_loop(device)
        finally:
            stop.set()
            _end(device, thread)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ends())
    return _status(arguments) if arguments.json else 0


def _ends() -> set[Signals]:
    from signal import Signals

    return {Signals.SIGINT, Signals.SIGTERM}


def _capture_loop(device: Device) -> None:
    from signal import sigtimedwait
    from time import monotonic_ns

    ends = _ends()
    wait_s = 0.0
    while sigtimedwait(ends, wait_s) is None:
        deadline = device.poll_capture(monotonic_ns())
        _say(device)
        wait_s = max(0, deadline - monotonic_ns()) / 1e9


def _link_loop(device: Device, stop: Event) -> None:
    """A fault of ours here is printed and tried again: the device goes on capturing."""
    import sys
    import traceback
    from time import monotonic_ns

    link = device.link
    while link is not None and not stop.is_set():
        try:
            deadline = link.poll(monotonic_ns())
        except Exception:
            if stop.is_set():
                return
            print(traceback.format_exc(), file=sys.stderr, flush=True)
            stop.wait(LINK_FAULT_WAIT_S)
            continue
        stop.wait(max(0, deadline - monotonic_ns()) / 1e9)


def _say(device: Device) -> None:
    import sys

    for notice in device.notices:
        print(notice, file=sys.stderr, flush=True)
    device.notices.clear()


def _end(device: Device, thread: Thread) -> None:
    """The link's thread ends with its exchange, or is cut off in it; then the rest goes out."""
    from time import monotonic_ns

    thread.join(JOIN_S)
    if thread.is_alive():
        device.abort_link()
        thread.join(JOIN_S)
    if not thread.is_alive():
        device.drain(monotonic_ns() + DRAIN_NS)
    device.close(leave_log=thread.is_alive())
    _say(device)


# ---------------------------------------------------------------- check-upgrade


def _check_upgrade(arguments: argparse.Namespace) -> int:
    """Exits with the outcome of the first release that this build would not start."""
    import json
    from pathlib import Path

    from edgecore import errors
    from edgecore.device import config, upgrade
    from edgecore.device.agent import further_schemas, schema_of, source_schema
    from edgecore.fs import PosixFs

    path = Path(arguments.config)
    if path.is_dir():
        path = path / "edge.toml"
    settings = config.load(str(path))
    schema, further = source_schema(settings, schema_of(settings)), further_schemas(settings)
    found = upgrade.check(settings, PosixFs(), schema, further)
    bad = [one for one in found if one.word != "Ok"]
    if arguments.json:
        print(json.dumps({"releases": [one.facts() for one in found]}))
    else:
        for one in found:
            print(f"{one.role:9} {one.release} {one.word}" + (f": {one.why}" if one.why else ""))
        print(f"this build can serve {len(found) - len(bad)} of {len(found)} releases")
    return int(getattr(errors, bad[0].word).exit_code) if bad else 0


# ---------------------------------------------------------------- status


def _status(arguments: argparse.Namespace) -> int:
    import json
    from pathlib import Path
    from time import time_ns

    from edgecore.device import config, status
    from edgecore.fs import PosixFs

    path = Path(arguments.config)
    if path.is_dir():
        path = path / "edge.toml"
    report = status.read(PosixFs(), config.load(str(path)).state)
    if arguments.json:
        print(json.dumps(report))
    else:
        print("\n".join(status.render(report, time_ns())))
    return 0
