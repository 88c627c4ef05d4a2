"""How commands open a log: to read, with its device key when `--key` says where that is."""

from __future__ import annotations

import os

from edgecore.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", metavar="STORE",
                        help="where an encrypted log's device key is: file:PATH or "
                             "keyring:NAME")  # fmt: skip


def open_log(directory: str, key: str | None) -> Log:
    """Raises what ``Log.open`` and the key store raise."""
    cipher = None
    if key is not None:
        from edgecore.device.keystore import open_cipher
        from edgecore.fs import PosixFs

        cipher = open_cipher(key, PosixFs(), entropy=os.urandom, beside=directory)
    return Log.open(directory, read_only=True, cipher=cipher)
