"""Ed25519 keys behind the Signer and Verifier seams. The arithmetic is the `cryptography` package.

Pure: seeds come from the caller's entropy, files are the shells' business. Keys have owners, one
directory each: releaser (offline), hub (operator and online), device.
"""

from __future__ import annotations

from edgecore.errors import Corrupt

SEED_BYTES = 32
PUBLIC_BYTES = 32
_MAGIC = b"edgecore ed25519 seed v1\n"


class Ed25519Signer:
    """Signs with one private key. Raises ``Corrupt`` for a seed of the wrong length."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if len(seed) != SEED_BYTES:
            raise Corrupt(f"a key seed of {len(seed)} bytes: {SEED_BYTES}")
        self.seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """64 bytes; deterministic."""
        return self._key.sign(data)

    def key_file(self) -> bytes:
        """What the private key file holds; it is to be readable by its owner alone."""
        return _MAGIC + self.seed.hex().encode() + b"\n"


class Ed25519Verifier:
    """Checks signatures of one public key. Raises ``Corrupt`` for bytes that are no key."""

    __slots__ = ("_key", "public")

    def __init__(self, public: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            self._key = Ed25519PublicKey.from_public_bytes(public)
        except ValueError as error:
            raise Corrupt(f"public key: {error}") from None
        self.public = public

    def verify(self, signature: bytes, data: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def signer_from_file(data: bytes) -> Ed25519Signer:
    """The key of :meth:`Ed25519Signer.key_file`. Raises ``Corrupt``."""
    if not data.startswith(_MAGIC):
        raise Corrupt("key file: not one")
    try:
        seed = bytes.fromhex(data[len(_MAGIC) :].decode("ascii"))
    except ValueError:
        raise Corrupt("key file: the seed is not hexadecimal") from None
    return Ed25519Signer(seed)


__all__ = ["PUBLIC_BYTES", "SEED_BYTES", "Ed25519Signer", "Ed25519Verifier", "signer_from_file"]
