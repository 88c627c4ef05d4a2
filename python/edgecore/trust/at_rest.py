"""Encryption at rest: the core's ``Cipher`` seam over the AEADs of the `cryptography` package.

    log = Log.open("state/log", cipher=Cipher(key, entropy=os.urandom))

A device key wraps the keys that files are encrypted with, and nothing else. What is encrypted, with
which nonce and bound to what: docs/formats/segment.md and keys.md; why: docs/adr/0024.

Pure: the device key and entropy come from the shell (edgecore/device/keystore.py knows the places
where a device key may live). Python cannot wipe the bytes of a key from memory.
"""

from __future__ import annotations

from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid, Untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
DEVICE_ID_BYTES = 8
CHACHA20_POLY1305 = 1
AES_256_GCM = 2
NAMES = {0: "none", CHACHA20_POLY1305: "ChaCha20-Poly1305", AES_256_GCM: "AES-256-GCM"}
_MAGIC = b"edgecore device key v1\n"


def _aead(cipher: int, key: bytes) -> AESGCM | ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers import aead

    if cipher == CHACHA20_POLY1305:
        return aead.ChaCha20Poly1305(key)
    if cipher == AES_256_GCM:
        return aead.AESGCM(key)
    raise Incompatible(f"cipher {cipher} is not known here")


class Key:
    """One key that seals spans. The caller never gives it a nonce twice."""

    __slots__ = ("_aead",)

    def __init__(self, cipher: int, key: bytes) -> None:
        self._aead = _aead(cipher, key)

    def seal(self, nonce: bytes, data: bytes | memoryview, associated: bytes) -> bytes:
        """Ciphertext as long as `data`, then a tag of 16 bytes."""
        return self._aead.encrypt(nonce, data, associated)

    def open(self, nonce: bytes, data: bytes | memoryview, associated: bytes) -> bytes:
        """What :meth:`seal` was given. Raises ``Untrusted`` for anything it did not make."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._aead.decrypt(nonce, data, associated)
        except InvalidTag:
            raise Untrusted("not what this key has sealed in this place") from None


class Cipher:
    """Makes, wraps and opens keys; give it to ``Log.open(cipher=…)``.

    :param device_key: 32 random bytes, kept apart from the log.
    :param entropy: of the operating system; ``os.urandom``.
    :param cipher: ``CHACHA20_POLY1305``, or ``AES_256_GCM`` where the CPU has AES. What the other
        has sealed is opened all the same.
    :param older: device keys from before a change: what they have wrapped is opened still.
    :param storage: where the device key lives, in words for an operator."""

    __slots__ = ("_devices", "_entropy", "device_id", "id", "storage")

    def __init__(
        self,
        device_key: bytes,
        *,
        entropy: Callable[[int], bytes],
        cipher: int = CHACHA20_POLY1305,
        older: Iterable[bytes] = (),
        storage: str = "not said",
    ) -> None:
        keys = [device_key, *older]
        for key in keys:
            if len(key) != KEY_BYTES:
                raise Invalid(f"a device key of {len(key)} bytes: {KEY_BYTES}")
        if cipher not in (CHACHA20_POLY1305, AES_256_GCM):
            raise Invalid(f"cipher {cipher}: 1 or 2")
        self.id = cipher
        self.storage = storage
        self.device_id = device_key_id(device_key)
        self._devices = {device_key_id(key): Key(CHACHA20_POLY1305, key) for key in keys}
        self._entropy = entropy

    @property
    def name(self) -> str:
        return NAMES[self.id]

    def make_key(self, context: bytes) -> bytes:
        """A new key, wrapped; it opens with the same `context` alone."""
        nonce = self._entropy(NONCE_BYTES)
        key = self._entropy(KEY_BYTES)
        return self.device_id + nonce + self._devices[self.device_id].seal(nonce, key, context)

    def open_key(self, cipher: int, wrapped: bytes, context: bytes) -> Key:
        """Raises ``Untrusted`` when another device key has wrapped it, or for another context."""
        device, rest = wrapped[:DEVICE_ID_BYTES], wrapped[DEVICE_ID_BYTES:]
        if len(rest) != NONCE_BYTES + KEY_BYTES + TAG_BYTES:
            raise Untrusted(f"a wrapped key of {len(wrapped)} bytes")
        if device not in self._devices:
            raise Untrusted(
                f"wrapped by device key {device.hex()}, and this one is {self.device_id.hex()}"
            )
        key = self._devices[device].open(rest[:NONCE_BYTES], rest[NONCE_BYTES:], context)
        return Key(cipher, key)


def device_key_id(key: bytes) -> bytes:
    """8 bytes that name a device key and tell nothing of it."""
    return blake3(b"edgecore device key id 1" + key)[:DEVICE_ID_BYTES]


def device_key_file(key: bytes) -> bytes:
    """What a device key's file holds; it is to be readable by its owner alone."""
    return _MAGIC + key.hex().encode() + b"\n"


def device_key_from_file(data: bytes) -> bytes:
    """The key of :func:`device_key_file`. Raises ``Corrupt``."""
    if not data.startswith(_MAGIC):
        raise Corrupt("device key file: not one")
    try:
        key = bytes.fromhex(data[len(_MAGIC) :].decode("ascii"))
    except ValueError:
        raise Corrupt("device key file: the key is not hexadecimal") from None
    if len(key) != KEY_BYTES:
        raise Corrupt(f"device key file: a key of {len(key)} bytes, not {KEY_BYTES}")
    return key


__all__ = [
    "AES_256_GCM",
    "CHACHA20_POLY1305",
    "NAMES",
    "Cipher",
    "Key",
    "device_key_file",
    "device_key_from_file",
    "device_key_id",
]
