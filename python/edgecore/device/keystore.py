"""Where a device key lives, how it gets there, and how much that protects.

    cipher = open_cipher("file:/media/key/device.key", PosixFs(), entropy=os.urandom)
    log = Log.open("state/log", cipher=cipher)

A key store is named by ``kind:place``:

- ``file:PATH``: docs/formats/keys.md, mode 0600. It protects what lies on a card or disk that is
  lost only if the file lies elsewhere; on the same file system it protects nothing but an early
  erasure, and says so.
- ``keyring:NAME``: a ``user`` key of the kernel's keyring of this user. It is in memory alone and
  gone when the machine restarts; somebody has to bring it, e.g. a service that unseals it.

A TPM is not spoken to. What deletion erases: docs/adr/0024-encryption-at-rest.md.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgecore.errors import Incompatible, Invalid, Unavailable, Untrusted
from edgecore.trust import at_rest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from edgecore.fs import Fs

    class KeyStore(Protocol):
        """One place of one device key."""

        def load(self) -> bytes | None:
            """The key, or None when there is none. Raises ``Unavailable``, ``Corrupt``."""

        def store(self, key: bytes) -> None:
            """Puts a key where there was none."""

        def describe(self, beside: str) -> str:
            """Where it lives and what that protects, for what lies in directory `beside`."""


_FILE_BYTES_MAX = 4096
# add_key, keyctl
_CALLS = {"x86_64": (248, 250), "aarch64": (217, 219), "armv7l": (309, 311), "armv6l": (309, 311)}
_USER_KEYRING = -4
_SETPERM, _UNLINK, _SEARCH, _READ = 5, 9, 10, 11
_PERMISSIONS = 0x3F0B0000  # the possessor everything, this user view, read and search


class FileKeyStore:
    """A file that its owner alone may read."""

    def __init__(self, path: str, fs: Fs) -> None:
        self._path, self._fs = path, fs

    def load(self) -> bytes | None:
        if not self._fs.exists(self._path):
            return None
        mode = _stat(self._path)
        if mode is not None and mode.st_mode & 0o077:
            raise Untrusted(
                f"{self._path}: others may read it; chmod 600 it, and think of a new key"
            )
        return at_rest.device_key_from_file(self._fs.read_file(self._path, _FILE_BYTES_MAX))

    def store(self, key: bytes) -> None:
        parent = self._path.rpartition("/")[0]
        if parent:
            self._fs.make_directories(parent)
        self._fs.write_atomic(self._path, at_rest.device_key_file(key))

    def describe(self, beside: str) -> str:
        mine, other = _stat(self._path), _stat(beside)
        if mine is None or other is None:
            where = "whoever has the file can read what it protects"
        elif mine.st_dev == other.st_dev:
            where = "on the same file system as the log: no protection for a lost card or disk"
        else:
            where = "on another file system than the log: protects while the two are kept apart"
        return f"file {self._path}: {where}"


class KeyringKeyStore:
    """A key of the kernel's keyring of this user."""

    def __init__(self, name: str) -> None:
        self._name = f"edgecore:{name}".encode()

    def _call(self, number: int, *arguments: object) -> int:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.restype = ctypes.c_long
        found = int(libc.syscall(ctypes.c_long(number), *arguments))
        return found if found >= 0 else -ctypes.get_errno()

    def _keyctl(self, operation: int, *arguments: object) -> int:
        return self._call(_calls()[1], operation, *arguments)

    def _find(self) -> int:
        """The key's serial number; 0: there is none."""
        import errno

        serial = self._keyctl(_SEARCH, _USER_KEYRING, b"user", self._name, 0)
        if serial in (-errno.ENOKEY, -errno.EKEYEXPIRED, -errno.EKEYREVOKED):
            return 0
        if serial < 0:
            raise self._failed("search", -serial)
        return serial

    def load(self) -> bytes | None:
        import ctypes

        serial = self._find()
        if not serial:
            return None
        buffer = ctypes.create_string_buffer(at_rest.KEY_BYTES)
        size = self._keyctl(_READ, serial, buffer, ctypes.c_size_t(len(buffer)))
        if size < 0:
            raise self._failed("read", -size)
        if size != at_rest.KEY_BYTES:
            raise Untrusted(f"{self._name.decode()}: a key of {size} bytes in the keyring")
        return buffer.raw

    def store(self, key: bytes) -> None:
        import ctypes

        size = ctypes.c_size_t(len(key))
        serial = self._call(_calls()[0], b"user", self._name, key, size, _USER_KEYRING)
        if serial < 0:
            raise self._failed("add", -serial)
        done = self._keyctl(_SETPERM, serial, ctypes.c_uint32(_PERMISSIONS))
        if done < 0:
            raise self._failed("set permissions", -done)

    def remove(self) -> None:
        """Takes the key away; the kernel wipes it when nobody holds it any more."""
        done = self._keyctl(_UNLINK, self._find(), _USER_KEYRING)
        if done < 0:
            raise self._failed("remove", -done)

    def _failed(self, what: str, number: int) -> Unavailable:
        return Unavailable(f"kernel keyring: {what} {self._name.decode()}: {os.strerror(number)}")

    def describe(self, beside: str) -> str:
        return (
            f"kernel keyring {self._name.decode()}: in memory until the machine restarts; "
            "protects as well as whatever brings it there"
        )


def _calls() -> tuple[int, int]:
    machine = os.uname().machine
    if machine not in _CALLS:
        raise Incompatible(
            f"the kernel's keyring on {machine}: its system calls are not known here"
        )
    return _CALLS[machine]


def _stat(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except OSError:
        return None


def key_store(spec: str, fs: Fs) -> KeyStore:
    """The store that ``kind:place`` names. Raises ``Invalid``, ``Unavailable`` for a TPM."""
    kind, _, place = spec.partition(":")
    if kind == "tpm":
        raise Unavailable(f"key store {spec}: {kinds()['tpm']}")
    if kind not in ("file", "keyring") or not place:
        raise Invalid(f"key store {spec!r}: file:PATH or keyring:NAME")
    return FileKeyStore(place, fs) if kind == "file" else KeyringKeyStore(place)


def kinds() -> dict[str, str]:
    """Each kind of key store, and why it can't be had here; "" when it can."""
    found = {"file": "", "keyring": "", "tpm": "no TPM here: /dev/tpmrm0 is not there"}
    try:
        KeyringKeyStore("probe").load()
    except (Incompatible, Unavailable, Untrusted) as error:
        found["keyring"] = str(error)
    if _stat("/dev/tpmrm0") is not None:
        found["tpm"] = "a TPM is here, and edgecore has no way to it yet; unseal into a keyring"
    return found


def cpu_has_aes(cpuinfo: str | None = None) -> bool:
    """Whether AES-GCM runs on instructions made for it; without them it is slow, and it may tell
    keys by its timing."""
    if cpuinfo is None:
        try:
            with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
                cpuinfo = file.read(1 << 16)
        except OSError:
            return False
    for line in cpuinfo.splitlines():
        name, _, words = line.partition(":")
        if name.strip() in ("flags", "Features"):
            found = set(words.split())
            return "aes" in found and bool(found & {"pclmulqdq", "pmull"})
    return False


CIPHERS = {"chacha20-poly1305": at_rest.CHACHA20_POLY1305, "aes-256-gcm": at_rest.AES_256_GCM}


def open_cipher(
    spec: str,
    fs: Fs,
    *,
    entropy: Callable[[int], bytes],
    cipher: str = "auto",
    make: bool = False,
    older: Iterable[str] = (),
    beside: str = "",
) -> at_rest.Cipher:
    """The cipher whose device key is in a key store.

    :param cipher: ``chacha20-poly1305``, ``aes-256-gcm``, or ``auto``: the second where the CPU
        has AES.
    :param make: a key that is not there is made, of `entropy`; else that is ``Unavailable``.
    :param older: key stores of device keys from before a change.
    :param beside: the directory that it protects, for what :attr:`Cipher.storage` says.
    Raises ``Invalid``, ``Unavailable``, ``Corrupt``; ``Untrusted`` for one that others may read."""
    if cipher != "auto" and cipher not in CIPHERS:
        raise Invalid(f"cipher {cipher!r}: auto, {' or '.join(CIPHERS)}")
    number = CIPHERS.get(cipher) or (
        at_rest.AES_256_GCM if cpu_has_aes() else at_rest.CHACHA20_POLY1305
    )
    store = key_store(spec, fs)
    before = [_loaded(old, key_store(old, fs)) for old in older]
    key = store.load()
    if key is None and make:
        key = entropy(at_rest.KEY_BYTES)
        store.store(key)
    return at_rest.Cipher(
        key or _loaded(spec, store), entropy=entropy, cipher=number, older=before,
        storage=store.describe(beside),
    )  # fmt: skip


def _loaded(spec: str, store: KeyStore) -> bytes:
    key = store.load()
    if key is None:
        raise Unavailable(f"key store {spec}: no device key; without it what is encrypted stays so")
    return key


__all__ = ["CIPHERS", "FileKeyStore", "KeyringKeyStore", "cpu_has_aes", "key_store", "kinds",
           "open_cipher"]  # fmt: skip
