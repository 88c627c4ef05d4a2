"""Making TUF metadata: root and targets by a releaser, snapshot and timestamp by a hub.

Pure: keys, versions and times come in, signed bytes go out. docs/formats/tuf-layout.md.
"""

from __future__ import annotations

from edgecore.errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import Any

    from edgecore.release import Manifest
    from edgecore.wire.signed import Signer

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
ROOT_DAYS = 3 * 365
TARGETS_DAYS = 365
SNAPSHOT_DAYS = 30
TIMESTAMP_DAYS = 7
LATEST_NS = 4_000_000_000 * SECOND  # the year 2096: a clock beyond it is no clock
ONLINE_ROLES = ("snapshot", "timestamp")


def moment(time_ns: int) -> datetime:
    """A UTC time in whole seconds; out of bounds it is the nearest bound."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(min(max(time_ns, 0), LATEST_NS) // SECOND, UTC)


def key_of(public: bytes) -> Any:
    """An Ed25519 public key as metadata names it. Raises ``Corrupt``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from securesystemslib import signer

    try:
        return _any(signer).SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise Corrupt(f"public key: {error}") from None


def _api() -> Any:
    """The names of ``tuf.api.metadata``; loaded when metadata is met, for it costs megabytes."""
    from tuf.api import metadata

    return _any(metadata)


def _any(module: object) -> Any:
    """A package that does not say which of its names are for others, as seen by mypy."""
    return module


def _seal(signed: Any, signers: Iterable[Signer]) -> bytes:
    from securesystemslib import signer as keys

    metadata = _api().Metadata(signed)
    payload = metadata.signed_bytes
    for signer in signers:
        keyid = key_of(signer.public).keyid
        metadata.signatures[keyid] = _any(keys).Signature(keyid, signer.sign(payload).hex())
    sealed: bytes = metadata.to_bytes()
    return sealed


def make_root(
    version: int,
    now_ns: int,
    roots: Iterable[bytes],
    releasers: Iterable[bytes],
    online: bytes,
    signers: Iterable[Signer],
    threshold: int = 1,
    days: int = ROOT_DAYS,
) -> bytes:
    """The root: whose public keys speak for which role. A successor is also signed by the keys
    of its predecessor.

    :param roots: root keys, `threshold` of which must sign; :param releasers: keys of targets;
    :param online: the hub's key, for snapshot and timestamp."""
    root = _api().Root(version, expires=moment(now_ns + days * DAY), consistent_snapshot=True)
    for role, keys in (("root", roots), ("targets", releasers)):
        for public in keys:
            root.add_key(key_of(public), role)
    for role in ONLINE_ROLES:
        root.add_key(key_of(online), role)
    root.roles["root"].threshold = threshold
    return _seal(root, signers)


def target_entry(manifest: Manifest) -> dict[str, Any]:
    """What targets metadata says of one release."""
    from hashlib import sha256

    from edgecore.digest import blake3

    data = manifest.encode()
    return {
        "length": len(data),
        "hashes": {"sha256": sha256(data).hexdigest()},
        "custom": {
            "blake3": blake3(data).hex(),
            "minimum": manifest.minimum,
            "rollback": list(manifest.rollback),
        },
    }


def make_targets(
    version: int,
    now_ns: int,
    entries: Mapping[str, dict[str, Any]],
    signer: Signer,
    days: int = TARGETS_DAYS,
) -> bytes:
    """The releases that a releaser stands for, by path."""
    # _api().TargetFile.from_dict consumes what it is given.
    files = {
        path: _api().TargetFile.from_dict(dict(entry), path) for path, entry in entries.items()
    }
    return _seal(
        _api().Targets(version, expires=moment(now_ns + days * DAY), targets=files), [signer]
    )


def target_entries(targets: bytes) -> dict[str, dict[str, Any]]:
    """The entries of targets metadata, unverified: for the releaser to add to its own."""
    return {path: file.to_dict() for path, file in read("targets", targets).signed.targets.items()}


def make_snapshot(
    version: int, now_ns: int, targets: bytes, signer: Signer, days: int = SNAPSHOT_DAYS
) -> bytes:
    """The hub's word that these targets belong to the present."""
    named = _api().MetaFile.from_data(read("targets", targets).signed.version, targets, ["sha256"])
    expires = moment(now_ns + days * DAY)
    return _seal(_api().Snapshot(version, expires=expires, meta={"targets.json": named}), [signer])


def make_timestamp(
    version: int, now_ns: int, snapshot: bytes, signer: Signer, days: int = TIMESTAMP_DAYS
) -> bytes:
    """The hub's word that this snapshot is the newest."""
    named = _api().MetaFile.from_data(
        read("snapshot", snapshot).signed.version, snapshot, ["sha256"]
    )
    expires = moment(now_ns + days * DAY)
    return _seal(_api().Timestamp(version, expires=expires, snapshot_meta=named), [signer])


def read(role: str, data: bytes) -> Any:
    """Metadata of `role`, its structure checked and its signatures not. Raises ``Corrupt``."""
    from tuf.api.serialization import DeserializationError

    try:
        metadata = _api().Metadata.from_bytes(data)
    except DeserializationError as error:
        raise Corrupt(f"metadata: {role} cannot be read: {error}") from None
    if metadata.signed.type != role:
        raise Corrupt(f"metadata: {role} wanted, {metadata.signed.type} found")
    return metadata


__all__ = [
    "DAY",
    "SECOND",
    "key_of",
    "make_root",
    "make_snapshot",
    "make_targets",
    "make_timestamp",
    "moment",
    "read",
    "target_entries",
    "target_entry",
]
