"""Where device keys live: files, the kernel's keyring, and what is said of each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecore.cli import main
from edgecore.device import keystore
from edgecore.device.agent import Device
from edgecore.errors import Corrupt, EdgecoreError, Invalid, Unavailable, Untrusted
from edgecore.fs import MemoryFs, PosixFs
from edgecore.trust.at_rest import AES_256_GCM, CHACHA20_POLY1305, Cipher, device_key_file

X86 = "processor\t: 0\nflags\t\t: fpu sse2 aes pclmulqdq avx2\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd aes pmull sha1 crc32\n"


def entropy(size: int) -> bytes:
    return bytes(range(size))


def test_keystore_file_is_made_once_and_read_again(tmp_path: Path) -> None:
    spec, fs = f"file:{tmp_path}/keys/device.key", PosixFs()
    with pytest.raises(Unavailable, match="no device key"):
        keystore.open_cipher(spec, fs, entropy=entropy)
    made = keystore.open_cipher(spec, fs, entropy=entropy, make=True)
    path = tmp_path / "keys" / "device.key"
    assert path.read_bytes() == device_key_file(bytes(range(32)))
    assert path.stat().st_mode & 0o777 == 0o600
    again = keystore.open_cipher(spec, fs, entropy=os.urandom, make=True)
    assert again.device_id == made.device_id
    wrapped = made.make_key(b"context")
    key, data = again.open_key(made.id, wrapped, b"context"), b"data"
    assert key.open(bytes(12), key.seal(bytes(12), data, b""), b"") == data


@pytest.mark.parametrize(
    ("data", "raised"),
    [
        (b"", Corrupt),
        (b"edgecore device key v1\n", Corrupt),
        (b"edgecore device key v1\nzz\n", Corrupt),
        (b"edgecore device key v1\n" + b"00" * 31 + b"\n", Corrupt),
        (b"edgecore device key v1\n\xff\n", Corrupt),
        (b"x" * 5000, Corrupt),
    ],
)
def test_keystore_file_that_is_none_is_refused(
    tmp_path: Path, data: bytes, raised: type[EdgecoreError]
) -> None:
    path = tmp_path / "device.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(raised):
        keystore.open_cipher(f"file:{path}", PosixFs(), entropy=entropy, make=True)
    assert path.read_bytes() == data


def test_keystore_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    path.write_bytes(device_key_file(bytes(32)))
    path.chmod(0o640)
    with pytest.raises(Untrusted, match="others may read it"):
        keystore.open_cipher(f"file:{path}", PosixFs(), entropy=entropy)


def test_keystore_says_what_a_file_beside_the_log_protects(tmp_path: Path) -> None:
    fs = PosixFs()
    spec = f"file:{tmp_path}/device.key"
    near = keystore.open_cipher(spec, fs, entropy=entropy, make=True, beside=str(tmp_path))
    assert "on the same file system as the log: no protection" in near.storage
    if Path("/proc/self").stat().st_dev != tmp_path.stat().st_dev:
        far = keystore.open_cipher(spec, fs, entropy=entropy, beside="/proc/self")
        assert "protects while the two are kept apart" in far.storage


def test_keystore_words_that_name_none_are_invalid() -> None:
    for spec in ("", "file:", "keyring", "usb:key", "tpm"):
        with pytest.raises((Invalid, Unavailable)):
            keystore.key_store(spec, MemoryFs())
    with pytest.raises(Invalid, match="auto, chacha20"):
        keystore.open_cipher("file:k", MemoryFs(), entropy=entropy, cipher="des")
    assert "TPM" in keystore.kinds()["tpm"]
    with pytest.raises(Unavailable, match="TPM"):
        keystore.key_store("tpm:0x81000001", MemoryFs())


def test_keystore_aes_is_taken_where_the_cpu_has_it() -> None:
    assert keystore.cpu_has_aes(X86)
    assert keystore.cpu_has_aes(ARM)
    assert not keystore.cpu_has_aes(X86.replace("pclmulqdq", ""))
    assert not keystore.cpu_has_aes(ARM.replace("aes", ""))
    assert not keystore.cpu_has_aes("")
    fs = MemoryFs()
    auto = keystore.open_cipher("file:k", fs, entropy=entropy, make=True)
    assert auto.id == (AES_256_GCM if keystore.cpu_has_aes() else CHACHA20_POLY1305)
    named = keystore.open_cipher("file:k", fs, entropy=entropy, cipher="chacha20-poly1305")
    assert named.id == CHACHA20_POLY1305


def test_keystore_of_the_kernel_keeps_a_key_in_memory() -> None:
    if reason := keystore.kinds()["keyring"]:
        pytest.skip(f"no kernel keyring here: {reason}")
    store = keystore.KeyringKeyStore(f"test-{os.getpid()}")
    assert store.load() is None
    key = os.urandom(32)
    store.store(key)
    assert store.load() == key
    assert "in memory until the machine restarts" in store.describe("")
    store.remove()
    assert store.load() is None


def test_cipher_refuses_what_another_device_or_use_has_wrapped() -> None:
    mine, other = (Cipher(bytes([n]) * 32, entropy=os.urandom) for n in (1, 2))
    wrapped = mine.make_key(b"for this")
    for cipher, given, context in (
        (other, wrapped, b"for this"),
        (mine, wrapped, b"for that"),
        (mine, wrapped[:-1], b"for this"),
        (mine, wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"for this"),
        (mine, b"", b"for this"),
    ):
        with pytest.raises(Untrusted):
            cipher.open_key(CHACHA20_POLY1305, given, context)
    key = mine.open_key(CHACHA20_POLY1305, wrapped, b"for this")
    sealed = key.seal(bytes(12), b"data", b"here")
    for nonce, data, place in (
        (bytes(11) + b"\1", sealed, b"here"),
        (bytes(12), sealed, b"there"),
        (bytes(12), sealed[:-1], b"here"),
        (bytes(12), b"", b"here"),
    ):
        with pytest.raises(Untrusted):
            key.open(nonce, data, place)


def test_cipher_opens_what_an_older_device_key_has_wrapped() -> None:
    old = Cipher(bytes(32), entropy=os.urandom)
    wrapped = old.make_key(b"use")
    new = Cipher(bytes([1]) * 32, entropy=os.urandom, older=[bytes(32)])
    key = new.open_key(new.id, wrapped, b"use")
    assert (
        old.open_key(1, wrapped, b"use").open(bytes(12), key.seal(bytes(12), b"x", b""), b"")
        == b"x"
    )
    with pytest.raises(Untrusted):  # new keys are wrapped by the new one alone
        old.open_key(1, new.make_key(b"use"), b"use")


CONFIG = """
[device]
state = "."
[source]
kind = "none"
[hub]
enabled = false
[encryption]
key = "file:key/device.key"
"""


def test_device_encrypts_its_log_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edge.toml").write_text(CONFIG)
    path = str(tmp_path / "edge.toml")
    for _ in range(2):
        with Device.open(path, flusher="manual") as device:
            device.poll(0)
            facts = device.status()["log"]["encryption"]
        assert facts["cipher"] in ("ChaCha20-Poly1305", "AES-256-GCM")
        assert facts["encrypted"] == facts["segments"] > 0
        assert "no protection for a lost card" in facts["storage"]
    assert main.main(["device", "status", path]) == 0
    assert "at rest   " in capsys.readouterr().out
    key = tmp_path / "key" / "device.key"
    key.rename(tmp_path / "away")
    with pytest.raises(Unavailable, match="no device key"):  # none is made: it would open nothing
        Device.open(path, flusher="manual")
    assert not key.exists()
    (tmp_path / "edge.toml").write_text(CONFIG + 'older = ["file:away"]\n')
    with Device.open(path, flusher="manual") as device:
        assert device.status()["log"]["encryption"]["encrypted"] > 0
    assert key.read_bytes() != (tmp_path / "away").read_bytes()
