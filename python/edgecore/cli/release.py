"""`edgecore release` and `edgecore model`: a releaser's desk, offline.

RELEASER/keys/      root.key, releaser.key: readable by their owner alone, never by a hub
RELEASER/public/    N.root.json, N.targets.json, blobs/: what a hub takes
RELEASER/drafts/    manifests that were created and not signed yet
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from edgecore.cli.model_show import described, is_model, lines
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Invalid, Stale, from_os
from edgecore.fs import PosixFs, write_public
from edgecore.release import FACTS_FILE, OBJECTS, OPTIONAL, Bundle, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping
    from typing import Any

    from edgecore.trust.keys import Ed25519Signer

LIMITS = ("min_predictions", "max_seconds", "max_alarm_share", "max_errors")


def register(subparsers: Any) -> None:
    """Adds the commands' parsers; each sets ``run``, a function of the arguments."""
    release = subparsers.add_parser("release", help="create and sign releases")
    commands = release.add_subparsers(dest="release_command", required=True)
    init = commands.add_parser("init", help="make a releaser's keys and the first root")
    init.add_argument("directory", metavar="RELEASER")
    init.add_argument("--hub-key", required=True, metavar="HEX", help="from `edgecore hub key DIR`")
    init.add_argument("--json", action="store_true")
    init.set_defaults(run=_init)
    create = commands.add_parser("create", help="draft a release from a bundle")
    _release_options(create)
    create.set_defaults(run=_create)
    sign = commands.add_parser("sign", help="sign all drafts into the next targets")
    sign.add_argument("directory", metavar="RELEASER")
    _schema_option(sign)
    sign.add_argument("--json", action="store_true")
    sign.set_defaults(run=_sign)
    model = subparsers.add_parser("model", help="publish, verify and inspect models")
    add_model_commands(model.add_subparsers(dest="model_command", required=True))


def add_model_commands(commands: Any) -> None:
    """publish, verify, inspect: to be added to whatever else `edgecore model` does."""
    publish = commands.add_parser("publish", help="create and sign in one step")
    _release_options(publish)
    publish.set_defaults(run=_publish)
    verify = commands.add_parser("verify", help="check releases against a root, offline")
    verify.add_argument("directory", metavar="PUBLIC", help="a releaser's public directory")
    verify.add_argument("--root", metavar="HEX", help="BLAKE3 of 1.root.json as devices pin it")
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=_verify)
    inspect = commands.add_parser(
        "inspect", help="print a manifest, check a bundle, or say what a model costs"
    )
    inspect.add_argument("path", metavar="MANIFEST|BUNDLE|MODEL")
    inspect.add_argument("--json", action="store_true", help="on one line")
    inspect.set_defaults(run=_inspect)


def _schema_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--schema", metavar="FILE", action="append", default=[],
        help="as a stream of the devices is now, to be checked against; may be repeated",
    )  # fmt: skip


def _release_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="RELEASER")
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--minimum", type=int, default=0, help="lowest version from now on")
    parser.add_argument(
        "--rollback", type=int, nargs="*", default=[], help="lower versions that may replace it"
    )
    _schema_option(parser)
    parser.add_argument("--min-predictions", type=int)
    parser.add_argument("--max-seconds", type=int)
    parser.add_argument("--max-alarm-share", type=float)
    parser.add_argument("--max-errors", type=int)
    parser.add_argument("--json", action="store_true")


# ------------------------------------------------------------------ commands


def _init(arguments: argparse.Namespace) -> int:
    from edgecore.trust.keys import Ed25519Signer
    from edgecore.trust.repository import make_root

    directory = Path(arguments.directory)
    keys, public = directory / "keys", directory / "public"
    try:
        hub_key = bytes.fromhex(arguments.hub_key)
    except ValueError:
        raise Invalid("--hub-key is 64 hexadecimal digits: `edgecore hub key DIR`") from None
    if (keys / "releaser.key").exists():
        raise Invalid(f"{directory} holds a releaser already")
    root, releaser = Ed25519Signer(os.urandom(32)), Ed25519Signer(os.urandom(32))
    data = make_root(1, time.time_ns(), [root.public], [releaser.public], hub_key, [root])
    keys.mkdir(parents=True, mode=0o700, exist_ok=True)
    (public / "blobs").mkdir(parents=True, exist_ok=True)
    (directory / "drafts").mkdir(exist_ok=True)
    write_public(public / "1.root.json", data)
    # The last key makes it a releaser: an attempt cut short is repeated whole.
    for name, signer in (("root.key", root), ("releaser.key", releaser)):
        PosixFs().write_atomic(str(keys / name), signer.key_file())
    digest = blake3(data).hex()
    if arguments.json:
        print(json.dumps({"releaser": str(directory), "root": digest}))
    else:
        print(f"releaser made in {directory}; root {digest}")
    return 0


def _create(arguments: argparse.Namespace) -> int:
    manifest = create(Path(arguments.directory), Path(arguments.bundle), arguments)
    _tell(arguments, "drafted", [manifest])
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    _tell(arguments, "signed", sign(Path(arguments.directory), arguments.schema))
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    create(Path(arguments.directory), Path(arguments.bundle), arguments)
    return _sign(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    found = verify(Path(arguments.directory), arguments.root, time.time_ns())
    _tell(arguments, "verified", found)
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    path = Path(arguments.path)
    if path.is_file() and is_model(path):
        facts = described(path.read_bytes())
        print(json.dumps(facts) if arguments.json else "\n".join(lines(facts)))
        return 0
    if path.is_dir():
        bundle = read_bundle(path)
        sizes = {name: len(data) for name, data in bundle.objects.items()}
        runs = described(bundle.objects["model"], str(bundle.facts["profile"]))
        shown: dict[str, Any] = {**bundle.facts, "objects": sizes, "runs": runs}
        if window := _decision_window(bundle.objects["binding"]):
            shown["decision_window"] = window
    else:
        manifest = Manifest.decode(_read(path))
        shown = {name: getattr(manifest, name) for name in Manifest.__slots__}
        shown["objects"] = {name: list(value) for name, value in manifest.objects.items()}
        shown["observation"] = manifest.observation.body()
        shown["digest"] = blake3(manifest.encode())
    print(
        json.dumps(shown, indent=None if arguments.json else 1, default=lambda value: value.hex())
    )
    return 0


def _decision_window(data: bytes) -> dict[str, Any]:
    """What a binding asks of a row, by name; durations in ns."""
    from edgecore.inference import Binding

    binding = Binding.from_bytes(data)
    slots = {str(at): slot.max_age for at, slot in enumerate(binding.slots) if slot.max_age}
    asked = {"max_age": binding.max_age, "min_full": binding.min_full, "slots": slots}
    return {name: value for name, value in asked.items() if value}


# ------------------------------------------------------------------ deeds


def create(directory: Path, bundle_directory: Path, options: argparse.Namespace) -> Manifest:
    """Drafts a release: its blobs become public, its manifest waits for :func:`sign`.

    Raises what ``check_features`` and ``golden_making.complete`` do, and then nothing was written.
    """
    from edgecore.golden_making import complete

    bundle = read_bundle(bundle_directory)
    _check(FACTS_FILE, bundle.objects, map(bytes.fromhex, bundle.facts["features"]), options.schema)
    bundle, answers = complete(bundle)
    given = {name: getattr(options, name) for name in LIMITS}
    manifest = bundle.manifest(
        options.name,
        options.version,
        minimum=options.minimum,
        rollback=options.rollback,
        observation={name: value for name, value in given.items() if value is not None},
        streams_output=answers,
    )
    public = directory / "public"
    if not public.is_dir():
        raise Invalid(f"{directory} holds no releaser: run `edgecore release init {directory}`")
    known = _entries(public)[1].get(manifest.path)
    data = manifest.encode()
    if known is not None and known["custom"]["blake3"] != blake3(data).hex():
        raise Invalid(f"{manifest.path} was signed already; give the release another --version")
    for content in (*bundle.objects.values(), data):
        write_public(public / "blobs" / blake3(content).hex(), content)
    write_public(directory / "drafts" / f"{manifest.name}-{manifest.version}.cbor", data)
    return manifest


def _check(
    where: str, objects: Mapping[str, bytes], features: Iterable[bytes], schemas: Iterable[str]
) -> None:
    """That a device can serve what is released. Raises as ``check_features``, which says more."""
    from edgecore.device.schema_file import load
    from edgecore.release_features import check_features

    here = [load(path).schema for path in schemas]
    streams = [schema.stream for schema in here]
    if len(set(streams)) < len(streams):
        raise Invalid(f"two --schema files are of stream {max(streams, key=streams.count)!r}")
    try:
        check_features(objects, features, here)
    except Corrupt as error:
        raise Corrupt(f"{where}: {error}") from None


def _check_draft(public: Path, manifest: Manifest, schemas: Iterable[str]) -> None:
    """Of a draft, which may be written by hand: its blobs are here and are what it says, and a
    device can serve it."""
    objects = {}
    for name, (digest, size) in manifest.objects.items():
        objects[name] = _read(public / "blobs" / digest.hex())
        if len(objects[name]) != size or blake3(objects[name]) != digest:
            raise Corrupt(f"{manifest.path}: blob {digest.hex()} is not its {name}")
    if _read(public / "blobs" / blake3(manifest.encode()).hex()) != manifest.encode():
        raise Corrupt(f"{manifest.path}: its blob is not the draft")
    _check(manifest.path, objects, manifest.features, schemas)


def sign(directory: Path, schemas: Iterable[str] = ()) -> list[Manifest]:
    """Signs every draft into the next targets metadata.

    :param schemas: files with the devices' streams as they are now. Raises what ``check_features``
        does, and then nothing is signed."""
    from edgecore.trust.repository import make_targets, target_entry

    signer = releaser_key(directory)
    drafts = sorted((directory / "drafts").glob("*.cbor"))
    if not drafts:
        raise Invalid(f"{directory} holds no drafts: run `edgecore release create`")
    version, entries = _entries(directory / "public")
    manifests = [Manifest.decode(_read(path)) for path in drafts]
    for manifest in manifests:
        _check_draft(directory / "public", manifest, schemas)
        entries[manifest.path] = target_entry(manifest)
    data = make_targets(version + 1, time.time_ns(), entries, signer)
    write_public(directory / "public" / f"{version + 1}.targets.json", data)
    for path in drafts:
        path.unlink()
    return manifests


def verify(public: Path, root_hash: str | None, now_ns: int) -> list[Manifest]:
    """Every release that the newest targets list, its signatures and blobs checked."""
    from edgecore.trust import releases

    first = _read(public / "1.root.json")
    pinned = bytes.fromhex(root_hash) if root_hash else blake3(first)
    trusted = releases.start(pinned, first)
    while (successor := public / f"{len(trusted.roots) + 1}.root.json").exists():
        trusted = releases.next_root(trusted, _read(successor))
    version = _entries(public)[0]
    if not version:
        raise Stale(f"{public} lists no release yet: run `edgecore release sign`")
    found = []
    for target in releases.check_targets(
        trusted, _read(public / f"{version}.targets.json"), now_ns
    ):
        release = releases.admit(target, _read(public / "blobs" / target.digest.hex()))
        for digest, _ in release.manifest.objects.values():
            if blake3(_read(public / "blobs" / digest.hex())) != digest:
                raise Corrupt(f"content: blob {digest.hex()} of {release.path}")
        found.append(release.manifest)
    return found


def read_bundle(directory: Path) -> Bundle:
    names = [*OBJECTS.values(), *OPTIONAL.values(), FACTS_FILE]
    if not directory.is_dir():
        raise Invalid(f"{directory} is no bundle directory")
    return Bundle.from_files(
        {name: _read(directory / name) for name in names if (directory / name).exists()}
    )


def releaser_key(directory: Path) -> Ed25519Signer:
    from edgecore.trust.keys import signer_from_file

    return signer_from_file(_read(directory / "keys" / "releaser.key"))


def _entries(public: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    from edgecore.trust.repository import target_entries

    names = (path.name.split(".")[0] for path in public.glob("*.targets.json"))
    version = max((int(name) for name in names if name.isdigit()), default=0)
    if not version:
        return 0, {}
    return version, target_entries(_read(public / f"{version}.targets.json"))


def _tell(arguments: argparse.Namespace, what: str, manifests: list[Manifest]) -> None:
    shown = [
        {"path": manifest.path, "digest": blake3(manifest.encode()).hex()} for manifest in manifests
    ]
    if arguments.json:
        print(json.dumps({what: shown}))
        return
    for item in shown:
        print(f"{what} {item['path']} {item['digest']}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise from_os(error, str(path)) from None
