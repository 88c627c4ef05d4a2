"""Publication: a releaser's public directory into the hub's, under the hub's own word that it is
the newest. docs/formats/tuf-layout.md.

The hub adds nothing to what a releaser signed and holds no releaser's key. Files are written in
the order in which a device could need them, the timestamp last: a device sees the old whole or
the new whole, wherever the hub is cut.
"""

from __future__ import annotations

from pathlib import Path

from edgecore.digest import blake3
from edgecore.errors import Corrupt, Invalid, Stale, Untrusted
from edgecore.fs import write_public
from edgecore.release import Manifest
from edgecore.trust import releases, repository

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from edgecore.trust.releases import Trusted
    from edgecore.wire.signed import Signer

RENEW_BEFORE_NS = repository.TIMESTAMP_DAYS * repository.DAY // 2


def publish(hub: Path, public: Path, signer: Signer, now_ns: int) -> list[str]:
    """Takes what is new in a releaser's `public` directory; returns the paths that are now listed.

    Raises ``Untrusted`` for what the releaser's root does not cover, ``Stale`` for targets older
    than the hub's, ``Corrupt`` for a blob that is not what its name says."""
    if not public.is_dir():
        raise Invalid(f"{public} is no directory; give a releaser's public directory")
    with _lock(hub):
        trusted = _roots(hub, public, signer)
        newest = _newest(public, "targets")
        if not newest:
            return []
        data = (public / f"{newest}.targets.json").read_bytes()
        held = _newest(hub / "tuf", "targets")
        if newest < held:
            raise Stale(f"rollback: targets version {newest}, the hub has {held}")
        checked = releases.check_targets(trusted, data, now_ns)
        _blobs(hub, public, [target.digest for target in checked])
        _write(hub / "tuf" / f"{newest}.targets.json", data)
        _sign(hub, data, signer, now_ns)
        return [target.path for target in checked]


def renew(hub: Path, signer: Signer, now_ns: int) -> bool:
    """Signs snapshot and timestamp anew when half their time is over; whether it did."""
    path = hub / "tuf" / "timestamp.json"
    if not path.exists():
        return False
    expires = repository.read("timestamp", path.read_bytes()).signed.expires
    if repository.moment(now_ns + RENEW_BEFORE_NS) < expires:
        return False
    with _lock(hub):
        newest = _newest(hub / "tuf", "targets")
        data = (hub / "tuf" / f"{newest}.targets.json").read_bytes()
        _sign(hub, data, signer, now_ns)
    return True


def listed(hub: Path) -> dict[str, bytes]:
    """Path -> digest of every release that devices may be ordered to run."""
    newest = _newest(hub / "tuf", "targets")
    if not newest:
        return {}
    entries = repository.target_entries((hub / "tuf" / f"{newest}.targets.json").read_bytes())
    return {path: bytes.fromhex(entry["custom"]["blake3"]) for path, entry in entries.items()}


# ------------------------------------------------------------------ steps


def _roots(hub: Path, public: Path, signer: Signer) -> Trusted:
    """The chain of roots, extended by what the releaser has. The hub's first root is pinned by
    being there: another one under the same version is refused."""
    first = hub / "tuf" / "1.root.json"
    source = public / "1.root.json"
    if not first.exists():
        if not source.exists():
            raise Invalid(f"{public} holds no root: is it a releaser's public directory?")
        data = source.read_bytes()
        trusted = releases.start(blake3(data), data)
        _names_this_hub(trusted, signer)
        _write(first, data)
    known = first.read_bytes()
    trusted = releases.start(blake3(known), known)
    if source.exists() and source.read_bytes() != known:
        raise Untrusted("root: the hub follows another releaser")
    version = 2
    while True:
        here, there = (at / f"{version}.root.json" for at in (hub / "tuf", public))
        if not here.exists() and not there.exists():
            break
        data = (here if here.exists() else there).read_bytes()
        trusted = releases.next_root(trusted, data)
        if not here.exists():
            _names_this_hub(trusted, signer)
            _write(here, data)
        version += 1
    _names_this_hub(trusted, signer)
    return trusted


def _names_this_hub(trusted: Trusted, signer: Signer) -> None:
    root = repository.read("root", trusted.root).signed
    mine = repository.key_of(signer.public).keyid
    for role in repository.ONLINE_ROLES:
        if mine not in root.roles[role].keyids:
            raise Untrusted(f"root: it names another hub's key for {role}")


def _blobs(hub: Path, public: Path, manifests: list[bytes]) -> None:
    """Copies every object that the manifests name and the hub lacks."""
    for digest in manifests:
        data = _blob(hub, public, digest)
        manifest = Manifest.decode(data)
        for object_digest, length in manifest.objects.values():
            if len(_blob(hub, public, object_digest)) != length:
                raise Corrupt(f"blob {object_digest.hex()}: not the length that was signed")


def _blob(hub: Path, public: Path, digest: bytes) -> bytes:
    """The object; the releaser's copy where the hub has none, or a damaged one."""
    here, there = (at / "blobs" / digest.hex() for at in (hub, public))
    if here.exists() and blake3(data := here.read_bytes()) == digest:
        return data
    if not there.exists():
        raise Corrupt(f"blob {digest.hex()}: it is missing from {public}")
    data = there.read_bytes()
    if blake3(data) != digest:
        raise Corrupt(f"blob {digest.hex()}: its content in {public} has another digest")
    _write(here, data)
    return data


def _sign(hub: Path, targets: bytes, signer: Signer, now_ns: int) -> None:
    # Versions follow the clock, so that a hub restored from a backup does not repeat any.
    tuf = hub / "tuf"
    now_s = now_ns // repository.SECOND
    version = max(_newest(tuf, "snapshot") + 1, now_s)
    snapshot = repository.make_snapshot(version, now_ns, targets, signer)
    _write(tuf / f"{version}.snapshot.json", snapshot)
    timestamp = tuf / "timestamp.json"
    before = 0
    if timestamp.exists():
        before = repository.read("timestamp", timestamp.read_bytes()).signed.version
    made = repository.make_timestamp(max(before + 1, now_s), now_ns, snapshot, signer)
    _write(timestamp, made)
    for old in sorted(_versions(tuf, "snapshot"))[:-8]:
        (tuf / f"{old}.snapshot.json").unlink()


# ------------------------------------------------------------------ files


def _versions(directory: Path, role: str) -> list[int]:
    names = (path.name.split(".")[0] for path in directory.glob(f"*.{role}.json"))
    return [int(name) for name in names if name.isdigit()]


def _newest(directory: Path, role: str) -> int:
    return max(_versions(directory, role), default=0)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    write_public(path, data)


def _lock(hub: Path) -> AbstractContextManager[None]:
    """One publisher at a time: the command and the server may meet."""
    import fcntl
    from contextlib import contextmanager

    @contextmanager
    def held() -> Iterator[None]:
        with (hub / "tuf" / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    return held()


__all__ = ["listed", "publish", "renew"]
