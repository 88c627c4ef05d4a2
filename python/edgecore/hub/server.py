"""The hub in one process: what each request does, and the ASGI application around it.

``handle`` is synchronous and complete: tests and simulations call it without a socket. The server
drains waiting envelopes into one group, so that one sync serves them all.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgecore.clock import SystemClock
from edgecore.digest import blake3
from edgecore.errors import (
    Corrupt,
    EdgecoreError,
    Exhausted,
    Invalid,
    Unavailable,
    Untrusted,
    from_os,
)
from edgecore.fs import write_private
from edgecore.hub import files
from edgecore.hub.ingest import Ingest
from edgecore.hub.stores.events import EventStore
from edgecore.hub.stores.registry import Registry
from edgecore.trust.keys import Ed25519Signer, Ed25519Verifier, signer_from_file
from edgecore.wire import cbor, envelope, invite, signed
from edgecore.wire.ack import RANGES_MAX, Ack
from edgecore.wire.desired import Desired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from socket import socket

    from edgecore.clock import Clock
    from edgecore.hub.files import Reply

KEY_FILES = ("operator.key", "online.key")
TAKEN = envelope.TAKES_BLOCKS | envelope.TAKES_BOUNDED  # what a hello is answered with
RENEW_CHECK_NS = 3600 * 1_000_000_000


class Hub:
    """One directory: `keys/` (operator, online), `registry.db`, `packs/`, `index/`, `tuf/`,
    `blobs/`. Not thread-safe; the server calls it from one thread."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.directory = directory
        self._clock = clock
        self.registry = Registry(directory / "registry.db")
        self.signer = signer_from_file((directory / "keys" / "online.key").read_bytes())
        self.id = self.registry.fact("hub") or b""
        if len(self.id) != 16:
            raise Corrupt(f"{directory}/registry.db: it names no hub; restore it")
        self.incarnation = int.from_bytes(self.registry.fact("incarnation") or b"", "little")
        self.events = EventStore(directory)
        self.ingest = Ingest(self.events)
        self._renewed_ns = 0
        self.renewal: EdgecoreError | None = None  # why the last one failed, if it did
        self.counts = {"envelopes": 0, "refused": 0}

    @staticmethod
    def init(directory: str | Path, entropy: Callable[[int], bytes] = os.urandom) -> None:
        """Makes keys, id and registry. Raises ``Invalid`` where there is a hub already."""
        directory = Path(directory)
        keys = directory / "keys"
        if (keys / KEY_FILES[-1]).exists():
            raise Invalid(f"{directory} holds a hub already")
        keys.mkdir(parents=True, mode=0o700, exist_ok=True)
        for name in ("tuf", "blobs"):
            (directory / name).mkdir(exist_ok=True)
        registry = Registry(directory / "registry.db")
        registry.set_fact("hub", entropy(16))
        registry.set_fact("incarnation", entropy(7))
        registry.close()
        for name in KEY_FILES:  # the last one makes it a hub: an attempt cut short is repeated
            (keys / name).unlink(missing_ok=True)
            write_private(keys / name, Ed25519Signer(entropy(32)).key_file())

    @staticmethod
    def open(directory: str | Path, clock: Clock | None = None) -> Hub:
        directory = Path(directory)
        if not (directory / "keys" / "online.key").exists():
            raise Invalid(f"{directory} holds no hub: run `edgecore hub init {directory}`")
        return Hub(directory, clock or SystemClock())

    def close(self) -> None:
        self.events.close()
        self.registry.close()

    def invite(
        self, url: str, root_hash: bytes, entropy: Callable[[int], bytes] = os.urandom
    ) -> bytes:
        """The bytes of an invite file for one device."""
        return _invitation(self.registry, self.signer.public, url, root_hash, entropy)

    @staticmethod
    def invitation(
        directory: str | Path,
        url: str,
        root_hash: bytes,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> bytes:
        """:meth:`invite` of a hub that may be serving in another process."""
        directory = Path(directory)
        key = directory / "keys" / KEY_FILES[-1]
        if not key.exists():
            raise Invalid(f"{directory} holds no hub: run `edgecore hub init {directory}`")
        registry = Registry(directory / "registry.db")
        try:
            public = signer_from_file(key.read_bytes()).public
            return _invitation(registry, public, url, root_hash, entropy)
        finally:
            registry.close()

    def order(self, release: tuple[str, int, str] | None, ring: str = "all") -> int:
        """Wishes a release (name, version, TUF target path) for the fleet; returns the order."""
        return self.registry.order(self._clock.wall_ns(), release, ring)

    def rows(self, store: bytes, stream: str) -> Iterator[tuple[int, dict[str, object]]]:
        """(sequence, row) of a stream of a store: all its partitions, in order."""
        for partition in self.ingest.partitions(store):
            schema = self.ingest.stream_of(store, partition)
            if schema is not None and schema.stream == stream:
                yield from self.ingest.rows(store, partition)

    # ------------------------------------------------------------ requests

    def _verifier(self, device: bytes, generation: int) -> Ed25519Verifier:
        key = self.registry.key(device, generation)
        if key is None:
            raise Untrusted("the device or its key generation is not enrolled here")
        return Ed25519Verifier(key)

    def _ack(
        self, device: bytes, store: bytes, nonce: bytes, forks: dict[int, int], features: int = 0,
        came: Sequence[envelope.Payload] = (),
    ) -> bytes:  # fmt: skip
        ranges = {p: _named(p, held, came) for p, held in self.events.ranges(store).items()}
        release = {p: held[0][1] for p, held in ranges.items() if held[0][0] == 1}
        now = self._clock.wall_ns()
        return Ack(
            self.id,
            self.incarnation,
            device,
            store,
            nonce,
            ranges,
            release,
            now,
            forks,
            features,
        ).encode(self.signer)

    def _reopen_broken(self) -> None:
        """After a failed sync only the disk knows what is held: it is read anew."""
        if self.events.broken:
            self.events.close()
            try:
                self.events = EventStore(self.directory)
            except OSError as error:
                raise Unavailable(f"event packs: {error.strerror}") from None
            self.ingest = Ingest(self.events)

    def ingest_group(self, messages: list[bytes]) -> list[Reply]:
        """Answers a group of envelopes after one sync. Acks name only what is durable."""
        taken: list[tuple[envelope.Envelope, dict[int, int]] | Exception] = []
        try:
            self._reopen_broken()
        except EdgecoreError as error:
            return [_refusal(error) for _ in messages]
        for message in messages:
            try:
                sender = envelope.claimed_sender(message)
                read = envelope.decode(message, self._verifier(*sender))
                self.registry.claim_store(read.store, read.device)
                taken.append((read, self.ingest.accept(read)))
            except Exception as error:  # one message never spoils its group
                taken.append(error)
        try:
            self.events.commit()
        except EdgecoreError as error:
            return [_refusal(error) for _ in messages]
        replies = []
        for outcome in taken:
            self.counts["envelopes"] += 1
            if isinstance(outcome, Exception):
                self.counts["refused"] += 1
                replies.append(_refusal(outcome))
            else:
                read, forks = outcome
                body = self._ack(read.device, read.store, read.nonce, forks, 0, read.payloads)
                replies.append((200, {}, body))
        return replies

    def _hello(self, message: bytes) -> bytes:
        body = cbor.decode(message[: -signed.SIGNATURE_BYTES], 4096)
        device = cbor.field(body, "device", bytes, 16)
        verifier = self._verifier(device, cbor.unsigned(body.get("generation"), 32))
        signed.unseal(signed.HELLO, message, verifier)
        store = cbor.field(body, "store", bytes, 16)
        self.registry.claim_store(store, device)
        self._reopen_broken()
        self.events.commit()
        told = cbor.unsigned(body.get("features", 0), 32) & envelope.HELLO_TELLS_FEATURES
        nonce = cbor.field(body, "nonce", bytes, 16)
        return self._ack(device, store, nonce, {}, TAKEN if told else 0)

    def _enrol(self, message: bytes) -> bytes:
        body = cbor.decode(message[: -signed.SIGNATURE_BYTES], 4096)
        key = cbor.field(body, "key", bytes, 32)
        signed.unseal(signed.ENROL, message, Ed25519Verifier(key))
        device = cbor.field(body, "device", bytes, 16)
        self.registry.enrol(cbor.field(body, "token", bytes, 32), device, key)
        answer = {
            "version": 1, "device": device, "hub": self.id, "time": self._clock.wall_ns(),
            "nonce": cbor.field(body, "nonce", bytes, 16),
        }  # fmt: skip
        return signed.seal(signed.ENROLLED, cbor.encode(answer), self.signer)

    def _desired(self, headers: dict[str, str]) -> Reply:
        order, issued, release, ring = self.registry.latest_order()
        device = _device_of(headers)
        asked = self.registry.requests(device, self._clock.wall_ns()) if device else []
        if asked:
            stores, answers = self.registry.stores_of(device), self.ingest.answers
            asked = [r for r in asked if not answers.fulfilled(stores, r.id, self.events.held)]
        body = Desired(
            order, issued, release, ring, requests=asked, device=device
        ).encode(self.signer)  # fmt: skip
        tag = f'"{blake3(body).hex()[:16]}"'
        if headers.get("if-none-match") == tag:
            return 304, {"etag": tag}, b""
        return 200, {"etag": tag}, body

    def _renew(self) -> None:
        """Looks once an hour whether snapshot and timestamp are to be signed anew. Where that
        fails (a full disk), it is said, and the old ones are served while they last."""
        now = self._clock.wall_ns()
        if abs(now - self._renewed_ns) >= RENEW_CHECK_NS:
            from edgecore.hub.publish import renew

            self._renewed_ns = now
            self.renewal = None
            try:
                renew(self.directory, self.signer, now)
            except (EdgecoreError, OSError) as error:
                self.renewal = from_os(error) if isinstance(error, OSError) else error
                _log_error(f"snapshot and timestamp are not signed anew: {self.renewal}")

    def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """One request, answered whole."""
        status, extra, content = self.answer(method, path, headers, body)
        return status, extra, bytes(content)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """One request, answered; a published file in pieces that are still to be read. Errors are
        one line of text: never an ack."""
        try:
            if method == "POST" and path == "/v1/ingest":
                return self.ingest_group([body])[0]
            if method == "POST" and path == "/v1/hello":
                return 200, {}, self._hello(body)
            if method == "POST" and path == "/v1/enrol":
                return 200, {}, self._enrol(body)
            if method == "GET" and path == "/v1/desired":
                return self._desired(headers)
            if method == "GET" and path == "/v1/tuf/timestamp.json":
                self._renew()
            if method == "GET" and path.startswith("/v1/tuf/"):
                return files.reply(self.directory / "tuf", path.removeprefix("/v1/tuf/"), headers)
            if method == "GET" and path.startswith("/v1/blob/"):
                return files.reply(
                    self.directory / "blobs", path.removeprefix("/v1/blob/"), headers
                )
            if method == "GET" and path == "/healthz":
                return 200, {}, b"ok\n"
            if method == "GET" and path == "/metrics":
                lines = [f"edgecore_hub_{name}_total {n}\n" for name, n in self.counts.items()]
                lines.append(f"edgecore_hub_renewal_failing {int(self.renewal is not None)}\n")
                return 200, {"content-type": "text/plain"}, "".join(lines).encode()
        except Exception as error:
            return _refusal(error)
        return 404, {}, b"Invalid: no such resource\n"

    def serve(self, host: str = "127.0.0.1", port: int = 8080, bound: socket | None = None) -> None:
        """Runs until SIGINT or SIGTERM, on `bound` if given (the caller closes it). Raises
        ``Unavailable`` when the port is in use."""
        from edgecore.hub.asgi import listen, serve

        own = listen(host, port) if bound is None else bound
        try:
            serve(self, own)
        finally:
            if bound is None:
                own.close()


def _named(
    partition: int, held: list[tuple[int, int]], came: Sequence[envelope.Payload]
) -> list[tuple[int, int]]:
    """The ranges that an ack has room for: the lowest, then those of what has just come, then the
    next ones. What is not named is sent again at worst, and the gaps close from below."""
    if len(held) <= RANGES_MAX:
        return held
    spans = [(p.first, p.first + p.count - 1) for p in came if p.partition == partition]
    touched = [pair for pair in held[1:] if any(a <= pair[1] and pair[0] <= b for a, b in spans)]
    others = [pair for pair in held[1:] if pair not in touched]
    return sorted([held[0], *touched, *others][:RANGES_MAX])


def _device_of(headers: dict[str, str]) -> bytes:
    """The device that asks, if it says so: it chooses what is told, and vouches for nothing."""
    text = headers.get("edgecore-device", "")
    try:
        device = bytes.fromhex(text)
    except ValueError:
        return b""
    return device if len(device) == 16 else b""


def _invitation(
    registry: Registry, hub_key: bytes, url: str, root_hash: bytes, entropy: Callable[[int], bytes]
) -> bytes:
    token = entropy(32)
    data = invite.Invite(url, registry.fact("hub") or b"", hub_key, root_hash, token).encode()
    invite.decode(data)  # an URL that no device takes is refused here
    registry.add_token(token)
    return data


def _log_error(text: str, error: Exception | None = None) -> None:
    import logging

    logging.getLogger("edgecore.hub").error(text, exc_info=error)


def _unexpected(error: Exception) -> Reply:
    """A defect of the hub, met by one request: that request fails, the hub goes on."""
    _log_error("a request failed", error)
    text = f"Unavailable: the hub failed on this request ({type(error).__name__})\n"
    return 500, {"content-type": "text/plain"}, text.encode()


_STATUS = {Untrusted: 403, Corrupt: 400, Invalid: 400, Unavailable: 503, Exhausted: 507}


def _refusal(error: Exception) -> Reply:
    if not isinstance(error, EdgecoreError):
        return _unexpected(error)
    text = " ".join(f"{error.word}: {error}".split())
    return _STATUS.get(type(error), 422), {"content-type": "text/plain"}, f"{text}\n".encode()


__all__ = ["KEY_FILES", "Hub"]
