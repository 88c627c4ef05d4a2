"""Verdicts on release metadata: (what is trusted, new bytes, time) -> what is trusted then.

Pure. The protocol is TUF's and the parsing and signature checks are ``tuf.api``'s; state, order
and outcome are ours, so that every step can be made durable by the shell before the next.

The first word of a refusal names what was tried, the exception what is to be thought of it:

    signature      Untrusted   not signed by the keys that the root names
    root           Untrusted   not the root that the invite pins, or no successor of the one known
    rollback       Stale       metadata older than what was accepted before
    freeze         Stale       the hub's word has run out: old metadata is being replayed
    expired        Stale       a releaser's word has run out
    mix_and_match  Untrusted   signed parts that do not belong together
    unlisted       Untrusted   no releaser stands for the release
    downgrade      Stale       a lower version than a releaser allows
    truncated      Corrupt     fewer bytes than were signed
    content        Corrupt     other bytes than were signed
    manifest       Corrupt     a manifest that contradicts what vouches for it
    metadata       Corrupt     bytes that are no metadata

Expired metadata blocks new installs. It never touches a release that is on the device: the proof
that was kept with it is checked against the chain of roots alone (:func:`recheck`).
"""

from __future__ import annotations

from edgecore.digest import blake3
from edgecore.errors import Corrupt, Stale, Untrusted
from edgecore.release import MANIFEST_BYTES_MAX, Manifest, VerifiedRelease
from edgecore.trust.repository import moment, read
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Metadata = Any  # of tuf.api

BYTES_MAX = {
    "root": 16 * 1024,
    "timestamp": 16 * 1024,
    "snapshot": 16 * 1024,
    "targets": 256 * 1024,
}
ROOTS_MAX = 32
PROOF_BYTES_MAX = ROOTS_MAX * BYTES_MAX["root"] + BYTES_MAX["targets"] + 1024
TIME_STEP_NS = 400 * 86_400 * 1_000_000_000  # signed time moves the floor by at most this


class Floor:
    """What may never be undercut, kept apart from the metadata that raised it.

    ``roles``: role -> (digest of its key ids, highest version accepted from those keys): other
    keys start anew, or a stolen key could push a fleet beyond reach. ``minimum`` and ``accepted``:
    release name -> lowest version a releaser allows, highest version that became stable."""

    __slots__ = ("accepted", "minimum", "roles", "time_ns")

    def __init__(self) -> None:
        self.time_ns = 0
        self.roles: dict[str, tuple[bytes, int]] = {}
        self.minimum: dict[str, int] = {}
        self.accepted: dict[str, int] = {}

    def copy(self) -> Floor:
        made = Floor()
        made.time_ns = self.time_ns
        made.roles = dict(self.roles)
        made.minimum = dict(self.minimum)
        made.accepted = dict(self.accepted)
        return made

    def at(self, time_ns: int) -> Floor:
        """With signed time taken in, by a bounded step. The device's own clock is no such time."""
        made = self.copy()
        step = time_ns if not self.time_ns else min(time_ns, self.time_ns + TIME_STEP_NS)
        made.time_ns = max(self.time_ns, step)
        return made

    def after(self, release: VerifiedRelease) -> Floor:
        """With `release` having proved itself."""
        made = self.copy()
        made.accepted[release.name] = max(release.version, self.accepted.get(release.name, 0))
        return made

    def body(self) -> dict[str, Any]:
        return {
            "version": 1,
            "time": self.time_ns,
            "roles": {role: [keys, number] for role, (keys, number) in self.roles.items()},
            "minimum": self.minimum,
            "accepted": self.accepted,
        }

    @staticmethod
    def from_body(body: Any) -> Floor:
        made = Floor()
        _known(body)
        made.time_ns = cbor.unsigned(body.get("time"), 63)
        roles = cbor.field(body, "roles", dict)
        made.roles = {role: (pair[0], cbor.unsigned(pair[1])) for role, pair in roles.items()}
        made.minimum = cbor.field(body, "minimum", dict)
        made.accepted = cbor.field(body, "accepted", dict)
        return made


class Trusted:
    """The metadata last accepted, as bytes: the chain of roots from the pinned one, and one of
    each other role (empty: none yet)."""

    __slots__ = ("roots", "snapshot", "targets", "timestamp")

    def __init__(
        self,
        roots: tuple[bytes, ...],
        timestamp: bytes = b"",
        snapshot: bytes = b"",
        targets: bytes = b"",
    ) -> None:
        self.roots = roots
        self.timestamp = timestamp
        self.snapshot = snapshot
        self.targets = targets

    @property
    def root(self) -> bytes:
        return self.roots[-1]

    def body(self) -> dict[str, Any]:
        return {
            "version": 1,
            "roots": list(self.roots),
            "timestamp": self.timestamp,
            "snapshot": self.snapshot,
            "targets": self.targets,
        }

    @staticmethod
    def from_body(body: Any) -> Trusted:
        _known(body)
        return Trusted(
            tuple(cbor.field(body, "roots", list)),
            cbor.field(body, "timestamp", bytes),
            cbor.field(body, "snapshot", bytes),
            cbor.field(body, "targets", bytes),
        )


class Target:
    """What targets metadata says of one release."""

    __slots__ = ("digest", "length", "minimum", "path", "rollback", "sha256")

    def __init__(self, path: str, file: Any) -> None:
        custom = file.custom if isinstance(file.custom, dict) else {}
        rollback = custom.get("rollback")
        try:
            self.digest = bytes.fromhex(custom["blake3"])
            self.sha256 = str(file.hashes["sha256"])
        except (KeyError, ValueError, TypeError):
            raise Corrupt(f"metadata: the entry of {path} has no digest") from None
        if len(self.digest) != 32 or not 0 < file.length <= MANIFEST_BYTES_MAX:
            raise Corrupt(f"metadata: the entry of {path} is out of bounds")
        if not isinstance(rollback, list):
            raise Corrupt(f"metadata: the entry of {path} lists no rollback targets")
        self.path = path
        self.length: int = file.length
        self.minimum = cbor.unsigned(custom.get("minimum"), 32)
        self.rollback = tuple(cbor.unsigned(item, 32) for item in rollback)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def version(self) -> int:
        digits = self.path.rpartition("/")[2]
        return int(digits) if digits.isdigit() else 0


# ------------------------------------------------------------------ roots


def start(root_hash: bytes, data: bytes) -> Trusted:
    """Trust in the first root, because its BLAKE3 is the one that the invite pins."""
    if blake3(data) != root_hash:
        raise Untrusted("root: it is not the root that the invite names")
    _signed_by(read("root", data), "root", _bounded("root", data))
    return Trusted((data,))


def next_root(trusted: Trusted, data: bytes) -> Trusted:
    """The successor of the newest root, signed by its keys and by its own."""
    known = read("root", trusted.root)
    new = _bounded("root", data)
    if new.signed.version != known.signed.version + 1:
        raise Untrusted(
            f"root: version {new.signed.version} does not follow {known.signed.version}"
        )
    if len(trusted.roots) >= ROOTS_MAX:
        raise Untrusted(f"root: more than {ROOTS_MAX} roots; enrol the device again")
    _signed_by(known, "root", new)
    _signed_by(new, "root", new)
    kept = {
        role: held if _keys(known, role) == _keys(new, role) else b""
        for role, held in (
            ("timestamp", trusted.timestamp),
            ("snapshot", trusted.snapshot),
            ("targets", trusted.targets),
        )
    }
    return Trusted((*trusted.roots, data), **kept)


# ------------------------------------------------------------------ timestamp, snapshot, targets


def take_timestamp(
    trusted: Trusted, floor: Floor, data: bytes, now_ns: int
) -> tuple[Trusted, Floor]:
    root = read("root", trusted.root)
    new = _bounded("timestamp", data)
    _signed_by(root, "timestamp", new)
    raised = _not_older(root, floor, "timestamp", new.signed.version)
    _not_older(root, floor, "snapshot", new.signed.snapshot_meta.version)
    if trusted.timestamp and trusted.timestamp != data:
        known = read("timestamp", trusted.timestamp).signed
        if known.version == new.signed.version:
            raise Untrusted(f"mix_and_match: two timestamps of version {known.version}")
    _not_expired("freeze", "timestamp", new, now_ns)
    return Trusted(trusted.roots, data, trusted.snapshot, trusted.targets), raised


def take_snapshot(
    trusted: Trusted, floor: Floor, data: bytes, now_ns: int
) -> tuple[Trusted, Floor]:
    root = read("root", trusted.root)
    new = _bounded("snapshot", data)
    _signed_by(root, "snapshot", new)
    named = read("timestamp", trusted.timestamp).signed.snapshot_meta
    _named("snapshot", new, data, named)
    raised = _not_older(root, floor, "snapshot", new.signed.version)
    targets = new.signed.meta.get("targets.json")
    if targets is None:
        raise Corrupt("metadata: the snapshot names no targets")
    _not_older(root, floor, "targets", targets.version)
    _not_expired("freeze", "snapshot", new, now_ns)
    return Trusted(trusted.roots, trusted.timestamp, data, trusted.targets), raised


def take_targets(trusted: Trusted, floor: Floor, data: bytes, now_ns: int) -> tuple[Trusted, Floor]:
    root = read("root", trusted.root)
    new = _bounded("targets", data)
    _signed_by(root, "targets", new)
    named = read("snapshot", trusted.snapshot).signed.meta["targets.json"]
    _named("targets", new, data, named)
    raised = _not_older(root, floor, "targets", new.signed.version)
    _not_expired("expired", "targets", new, now_ns)
    for path, file in new.signed.targets.items():
        target = Target(path, file)
        known = raised.minimum.get(target.name, 0)
        raised.minimum[target.name] = max(known, target.minimum)
    return Trusted(trusted.roots, trusted.timestamp, trusted.snapshot, data), raised


def check_targets(trusted: Trusted, data: bytes, now_ns: int) -> list[Target]:
    """The releases that targets metadata lists, for a hub that takes it from a releaser."""
    new = _bounded("targets", data)
    _signed_by(read("root", trusted.root), "targets", new)
    _not_expired("expired", "targets", new, now_ns)
    return [Target(path, file) for path, file in new.signed.targets.items()]


def current(trusted: Trusted, now_ns: int) -> None:
    """Raises ``Stale`` unless all four roles still speak: asked before every install."""
    for role, data, word in (
        ("root", trusted.root, "expired"),
        ("timestamp", trusted.timestamp, "freeze"),
        ("snapshot", trusted.snapshot, "freeze"),
        ("targets", trusted.targets, "expired"),
    ):
        _not_expired(word, role, read(role, data), now_ns)


def root_version(trusted: Trusted) -> int:
    """The version of the newest root."""
    return int(read("root", trusted.root).signed.version)


def snapshot_name(trusted: Trusted) -> str:
    """The file that the timestamp names."""
    return f"{read('timestamp', trusted.timestamp).signed.snapshot_meta.version}.snapshot.json"


def targets_name(trusted: Trusted) -> str:
    """The file that the snapshot names."""
    return f"{read('snapshot', trusted.snapshot).signed.meta['targets.json'].version}.targets.json"


# ------------------------------------------------------------------ releases


def choose(trusted: Trusted, floor: Floor, path: str) -> Target:
    """The release that the hub ordered, if a releaser stands for it and allows it here."""
    listed = read("targets", trusted.targets).signed.targets
    if path not in listed:
        raise Untrusted(f"unlisted: no releaser stands for {path}")
    target = Target(path, listed[path])
    name, version = target.name, target.version
    least, reached = floor.minimum.get(name, 0), floor.accepted.get(name, 0)
    if version < least:
        raise Stale(f"downgrade: {path} is below the minimum version {least}")
    if version < reached:
        newest = listed.get(f"{name}/{reached}")
        allowed = Target(path, newest).rollback if newest is not None else ()
        if version not in allowed:
            raise Stale(f"downgrade: {name}/{reached} may not be replaced by {path}")
    return target


def admit(target: Target, data: bytes) -> VerifiedRelease:
    """The release whose manifest is `data`, if these are the bytes that were signed."""
    from hashlib import sha256

    if len(data) < target.length:
        raise Corrupt(f"truncated: manifest of {target.path}: {len(data)} of {target.length} bytes")
    if blake3(data) != target.digest or sha256(data).hexdigest() != target.sha256:
        raise Corrupt(f"content: the manifest of {target.path} is not the one that was signed")
    manifest = Manifest.decode(data)
    said = (manifest.path, manifest.minimum, manifest.rollback, manifest.trust)
    if said != (target.path, target.minimum, target.rollback, "released"):
        raise Corrupt(f"manifest: {target.path} contradicts the targets that vouch for it")
    return VerifiedRelease(manifest, target.digest)


def proof(trusted: Trusted, target: Target) -> bytes:
    """What to keep beside a release, so that it can be verified again from disk alone."""
    return cbor.encode(
        {
            "version": 1,
            "roots": list(trusted.roots),
            "targets": trusted.targets,
            "path": target.path,
        }
    )


def recheck(root_hash: bytes, kept: bytes, data: bytes) -> VerifiedRelease:
    """The release of a proof and a manifest read back from disk. Time plays no part: a release
    that was accepted stays usable offline, whatever has expired or was re-keyed since."""
    body = cbor.decode(kept, PROOF_BYTES_MAX)
    roots = cbor.field(body, "roots", list)
    if not roots or not all(isinstance(root, bytes) for root in roots):
        raise Corrupt("metadata: a proof without roots")
    trusted = start(root_hash, roots[0])
    for successor in roots[1:]:
        trusted = next_root(trusted, successor)
    targets = _bounded("targets", cbor.field(body, "targets", bytes))
    _signed_by(read("root", trusted.root), "targets", targets)
    path = cbor.field(body, "path", str)
    if path not in targets.signed.targets:
        raise Untrusted(f"unlisted: the proof of {path} does not list it")
    return admit(Target(path, targets.signed.targets[path]), data)


# ------------------------------------------------------------------ single questions


def _known(body: Any) -> None:
    if cbor.field(body, "version", int) != 1:
        raise Corrupt("metadata: kept in a version that is not known here")


def _bounded(role: str, data: bytes) -> Metadata:
    if len(data) > BYTES_MAX[role]:
        raise Corrupt(f"metadata: {role} of {len(data)} bytes: at most {BYTES_MAX[role]}")
    return read(role, data)


def _signed_by(root: Metadata, role: str, metadata: Metadata) -> None:
    from tuf.api.exceptions import UnsignedMetadataError

    try:
        root.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError as error:
        raise Untrusted(f"signature: {error}") from None


def _keys(root: Metadata, role: str) -> bytes:
    return blake3(",".join(sorted(root.signed.roles[role].keyids)).encode())


def _not_older(root: Metadata, floor: Floor, role: str, version: int) -> Floor:
    """The floor raised to `version`; ``Stale`` if it lies below."""
    keys = _keys(root, role)
    held, reached = floor.roles.get(role, (keys, 0))
    if held == keys and version < reached:
        raise Stale(f"rollback: {role} version {version} after {reached}")
    raised = floor.copy()
    raised.roles[role] = (keys, version)
    return raised


def _not_expired(word: str, role: str, metadata: Metadata, now_ns: int) -> None:
    if metadata.signed.is_expired(moment(now_ns)):
        ended = metadata.signed.expires.strftime("%Y-%m-%d %H:%M:%S")
        raise Stale(f"{word}: {role} version {metadata.signed.version} ended at {ended} UTC")


def _named(role: str, metadata: Metadata, data: bytes, named: Any) -> None:
    """Whether signed metadata is the very one that the role above it names."""
    from tuf.api.exceptions import LengthOrHashMismatchError

    try:
        named.verify_length_and_hashes(data)
    except LengthOrHashMismatchError:
        raise Untrusted(f"mix_and_match: {role} is not the one that is named") from None
    if metadata.signed.version != named.version:
        raise Untrusted(
            f"mix_and_match: {role} version {metadata.signed.version}, {named.version} is named"
        )


__all__ = [
    "BYTES_MAX",
    "PROOF_BYTES_MAX",
    "Floor",
    "Target",
    "Trusted",
    "admit",
    "check_targets",
    "choose",
    "current",
    "next_root",
    "proof",
    "recheck",
    "root_version",
    "snapshot_name",
    "start",
    "take_snapshot",
    "take_targets",
    "take_timestamp",
    "targets_name",
]
