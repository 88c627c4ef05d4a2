"""Whether this build can serve what a device has: asked before a wheel is changed, with the new
wheel's own code, on a device that is stopped.

    pip install --target /tmp/new edgecore-….whl
    PYTHONPATH=/tmp/new python -m edgecore.cli device check-upgrade edge.toml

Every release that may run, or be rolled back to, is opened as a start would open it: signatures,
objects, operators of its features and their versions, golden vectors and streams. Nothing is
written.
"""

from __future__ import annotations

from functools import partial

from edgecore.artifacts import ArtifactStore
from edgecore.device import enrol
from edgecore.device.serving import load
from edgecore.errors import Corrupt, EdgecoreError, Invalid
from edgecore.trust import releases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgecore.artifacts import Release
    from edgecore.device.config import Config
    from edgecore.device.serving import Loaded
    from edgecore.fs import Fs
    from edgecore.schema import Schema

ROLES = ("active", "previous", "staged", "trial")


class Finding:
    """Of one release: ``role`` in the journal, ``release`` its path (its digest where it can't be
    read), ``word`` Ok or the outcome that a start would have, ``why``."""

    __slots__ = ("release", "role", "why", "word")

    def __init__(self, role: str, release: str, word: str, why: str) -> None:
        self.role, self.release, self.word, self.why = role, release, word, why

    def facts(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("role", "release", "word", "why")}


def check(
    config: Config, fs: Fs, schema: Schema | None, further: Iterable[Schema] = ()
) -> list[Finding]:
    """What this build makes of the releases in the device's journal, in the order of
    :data:`ROLES`; empty before the first.

    :param schema: of the stream that releases answer; :param further: of its other streams.
    :raises Invalid: the device is not enrolled. :raises Unavailable: its state can't be opened: it
        is running."""
    identity = enrol.load(fs, f"{config.state}/keys")
    if identity is None:
        raise Invalid(f"{config.state} holds no identity: the device has not enrolled")
    store = ArtifactStore.open(f"{config.state}/artifacts", fs=fs, quota_bytes=config.quota_bytes)
    opened = partial(load, schema=schema, backend=config.backend, further=tuple(further))
    try:
        state = store.journal.state()
        return [
            _judge(store, identity.invite.root_hash, role, found, opened)
            for role in ROLES
            if (found := getattr(state, role)) is not None
        ]
    finally:
        store.close()


def _judge(
    store: ArtifactStore,
    root_hash: bytes,
    role: str,
    release: Release,
    opened: Callable[..., Loaded],
) -> Finding:
    name = release.digest.hex()[:12]
    try:
        proof, data = (store.get(digest) for digest in release.objects[:2])
        verified = releases.recheck(root_hash, proof, data)
        name = verified.path
        if verified.digest != release.digest:
            raise Corrupt(f"{name}: the journal and the manifest name different objects")
        opened(verified, store.get)
    except EdgecoreError as error:
        return Finding(role, name, error.word, str(error))
    return Finding(role, name, "Ok", "")


__all__ = ["ROLES", "Finding", "check"]
