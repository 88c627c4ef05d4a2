"""The hub's registry in SQLite: devices, their keys and stores, tokens, orders."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from shutil import disk_usage

from edgecore.digest import blake3
from edgecore.errors import Corrupt, Exhausted, Unavailable, Untrusted
from edgecore.wire.desired import REQUESTS_MAX, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FULL_BYTES = 64 << 10  # of its index of the journal: SQLite calls their lack an I/O error
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (hash BLOB PRIMARY KEY, device BLOB);
CREATE TABLE IF NOT EXISTS keys (
  device BLOB, generation INTEGER, key BLOB NOT NULL, PRIMARY KEY (device, generation));
CREATE TABLE IF NOT EXISTS stores (store BLOB PRIMARY KEY, device BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS orders (
  id INTEGER PRIMARY KEY, issued INTEGER NOT NULL, name TEXT, version INTEGER, target TEXT,
  ring TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
  id INTEGER PRIMARY KEY, device BLOB NOT NULL, stream TEXT NOT NULL, low INTEGER NOT NULL,
  high INTEGER NOT NULL, issued INTEGER NOT NULL, expires INTEGER NOT NULL);
"""


class Registry:
    """Every change is one transaction, durable on return. Other processes may have it open.

    Raises ``Corrupt`` for a file that is no registry, ``Unavailable`` while it is locked,
    ``Exhausted`` on a full disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA)
        except sqlite3.Error as error:
            raise self._outcome(error) from None
        self._owners: dict[bytes, bytes] = {}
        self._keys: dict[tuple[bytes, int], bytes] = {}

    def close(self) -> None:
        self._db.close()

    def _outcome(self, error: sqlite3.Error) -> Exception:
        text = f"{self._path}: {error}"
        if "full" in str(error):
            return Exhausted(text)
        if "I/O error" in str(error) and disk_usage(self._path.parent).free < FULL_BYTES:
            return Exhausted(f"{self._path}: No space left on device")
        return (Unavailable if isinstance(error, sqlite3.OperationalError) else Corrupt)(text)

    def _run(self, statement: str, values: tuple[object, ...] = ()) -> Any:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise self._outcome(error) from None

    def fact(self, name: str) -> bytes | None:
        row = self._run("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_fact(self, name: str, value: bytes) -> None:
        self._run("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def add_token(self, token: bytes) -> None:
        self._run("INSERT INTO tokens VALUES (?, NULL)", (blake3(token),))

    def enrol(self, token: bytes, device: bytes, key: bytes) -> None:
        """Binds token, device and first key; the same three again change nothing."""
        row = self._run("SELECT device FROM tokens WHERE hash = ?", (blake3(token),)).fetchone()
        if row is None or row[0] not in (None, device):
            raise Untrusted("enrolment: the token is unknown or was used by another device")
        known = self.key(device, 1)
        if known not in (None, key):
            raise Untrusted("enrolment: the device is enrolled with another key")
        if known is None and row[0] is not None:
            raise Untrusted("enrolment: the token was used")
        if known is None:
            self._run("BEGIN IMMEDIATE")
            try:
                update = "UPDATE tokens SET device = ? WHERE hash = ?"
                self._run(update, (device, blake3(token)))
                self._run("INSERT INTO keys VALUES (?, 1, ?)", (device, key))
                self._run("COMMIT")
            except BaseException:
                self._db.rollback()
                raise

    def key(self, device: bytes, generation: int) -> bytes | None:
        key = self._keys.get((device, generation))
        if key is None:
            row = self._run(
                "SELECT key FROM keys WHERE device = ? AND generation = ?", (device, generation)
            ).fetchone()
            if row is None:
                return None
            key = self._keys[device, generation] = bytes(row[0])
        return key

    def claim_store(self, store: bytes, device: bytes) -> None:
        """A store belongs to the first device that wrote to it. Raises ``Untrusted``."""
        if self._owners.get(store) != device:
            self._run("INSERT OR IGNORE INTO stores VALUES (?, ?)", (store, device))
            row = self._run("SELECT device FROM stores WHERE store = ?", (store,)).fetchone()
            self._owners[store] = bytes(row[0])
        if self._owners[store] != device:
            raise Untrusted("the store belongs to another device")

    def order(self, issued_ns: int, release: tuple[str, int, str] | None, ring: str) -> int:
        """A new wish for the fleet. Returns its id."""
        name, version, target = release or (None, None, None)
        cursor = self._run(
            "INSERT INTO orders (issued, name, version, target, ring) VALUES (?, ?, ?, ?, ?)",
            (issued_ns, name, version, target, ring),
        )
        return cursor.lastrowid or 0

    def latest_order(self) -> tuple[int, int, tuple[str, int, str] | None, str]:
        row = self._run(
            "SELECT id, issued, name, version, target, ring FROM orders ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return 0, 0, None, ""
        release = (row[2], row[3], row[4]) if row[2] is not None else None
        return row[0], row[1], release, row[5]

    def request(
        self, number: int, device: bytes, stream: str, window: tuple[int, int], issued_ns: int,
        expires_ns: int,
    ) -> int:  # fmt: skip
        """Asks a device for the raw rows of a stream with times in (window]. Returns the request's
        number: of the one that stands already, if there is one for the same rows, which then
        expires no sooner. Raises ``Exhausted`` when the device is asked for too much at once."""
        asked = self.requests(device, issued_ns)
        for request in asked:
            if (request.stream, request.low, request.high) == (stream, *window):
                longer = max(expires_ns, request.expires_ns)
                self._run("UPDATE requests SET expires = ? WHERE id = ?", (longer, request.id))
                return request.id
        if len(asked) >= REQUESTS_MAX:
            raise Exhausted(
                f"the device is asked for {REQUESTS_MAX} stretches already; cancel one, or wait"
            )
        self._run(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)",
            (number, device, stream, *window, issued_ns, expires_ns),
        )
        return number

    def requests(self, device: bytes, now_ns: int) -> list[Request]:
        """What the device is asked for, as far as it has not expired."""
        found = self._run(
            "SELECT id, stream, low, high, expires FROM requests "
            "WHERE device = ? AND expires > ? ORDER BY rowid",
            (device, now_ns),
        )
        return [Request(*row) for row in found]

    def all_requests(self) -> list[tuple[bytes, Request]]:
        """Of every device, expired ones too."""
        found = self._run("SELECT device, id, stream, low, high, expires FROM requests "
                          "ORDER BY issued")  # fmt: skip
        return [(bytes(row[0]), Request(*row[1:])) for row in found]

    def cancel(self, number: int) -> bool:
        """Takes a request back; False where there is none."""
        return bool(self._run("DELETE FROM requests WHERE id = ?", (number,)).rowcount)

    def stores_of(self, device: bytes) -> list[bytes]:
        found = self._run("SELECT store FROM stores WHERE device = ?", (device,))
        return [bytes(row[0]) for row in found]

    def devices(self) -> list[bytes]:
        return [bytes(row[0]) for row in self._run("SELECT DISTINCT device FROM keys")]


__all__ = ["Registry"]
