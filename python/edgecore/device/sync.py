"""Synchronisation: durable runs go out in order of worth, signed ranges come back.

Step-driven: :meth:`Syncer.poll` does one exchange and says when it wants to be called again. The
hub's ranges decide what is sent; an interrupted exchange is repeated and counts once.
"""

from __future__ import annotations

from contextlib import suppress

from edgecore.columns import Block
from edgecore.device.enrol import checked
from edgecore.digest import blake3
from edgecore.errors import (
    OUTCOMES,
    Corrupt,
    EdgecoreError,
    Exhausted,
    Incompatible,
    Invalid,
    Unavailable,
)
from edgecore.schema import TIERS
from edgecore.wire import ack, cbor, envelope, rowbatch, signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from edgecore.device.enrol import Files, Identity
    from edgecore.device.raw import RawRows
    from edgecore.device.transport import Transport
    from edgecore.wire.ack import Ack
    from edgecore.wire.rowbatch import Arrival

    class Run(Protocol):
        partition: int
        first: int
        count: int
        schema_fingerprint: bytes
        digest: bytes
        payload: bytes  # canonical rows
        arrivals: list[Arrival]
        block: bytes  # the column block that it is stored as, instead of both

    class Log(Protocol):
        @property
        def store_id(self) -> bytes: ...
        @property
        def epoch(self) -> int: ...
        def partitions(self) -> list[tuple[int, str, str]]: ...  # partition, stream, tier
        def runs(
            self, partition: int, after: int, bytes_max: int, *, blocks: bool = False
        ) -> Sequence[Run]: ...
        def block_of(self, run: Any, *, dense: bool = False) -> bytes: ...
        def acknowledge(self, partition: int, upto: int) -> None: ...


SECOND = 1_000_000_000
BLOCK_ROWS_MIN = 8  # fewer are not made a column block of
SENDABLE_BYTES_MAX = envelope.BYTES_MAX - envelope.HEAD_BYTES - signed.SIGNATURE_BYTES - 1024
_REFUSALS = {kind.__name__.encode() for kind in OUTCOMES}


class Policy:
    """Sizes in bytes, times in seconds. Waits after failures are uniform in [0, bound), with a
    bound that doubles from `backoff_s` to `backoff_max_s`. `dense`: rows that are not sealed yet
    go in the smaller coding. `priority`: the tiers, those to be sent first in front."""

    __slots__ = ("backoff_max_s", "backoff_s", "dense", "envelope_bytes", "idle_s", "priority")

    def __init__(
        self,
        envelope_bytes: int = 64 * 1024,
        idle_s: float = 1.0,
        backoff_s: float = 0.5,
        backoff_max_s: float = 60.0,
        dense: bool = False,
        priority: Sequence[str] = TIERS,
    ) -> None:
        self.dense = dense
        self.priority = tuple(priority)
        self.envelope_bytes = envelope_bytes
        self.idle_s = idle_s
        self.backoff_s = backoff_s
        self.backoff_max_s = backoff_max_s


class Room:
    """What is left of an envelope: its bytes, and those of the canonical rows in it."""

    __slots__ = ("bytes", "rows")

    def __init__(self, size: int) -> None:
        self.bytes = size
        self.rows = envelope.ROW_BYTES_MAX


class Syncer:
    """One store's synchronisation with one hub. Not thread-safe.

    :param path: where the hash of the last acknowledged envelope is kept, through `fs`.
    :param uniform: the Rng seam: floats in [0, 1). :param entropy: nonces.
    :param heard: is given path and bytes of every answer that was checked, before it is acted on.
    :param raw: which streams are withheld, and what of them the hub asked for.
    :param monotonic: ns, for ``last_asked``: when the request of ``last_ack`` went, and its answer
        had come.
    ``last_error`` is the outcome of the last exchange; ``forks`` names partitions whose content
    the hub holds otherwise: they are not sent until the store is forked; ``stuck`` those whose next
    row is too large for an envelope, or of a schema that this build can't cut. Column blocks go to
    a hub that has said that it takes them."""

    def __init__(
        self,
        log: Log,
        transport: Transport,
        identity: Identity,
        fs: Files,
        path: str,
        uniform: Callable[[], float],
        entropy: Callable[[int], bytes],
        policy: Policy | None = None,
        heard: Callable[[str, bytes], None] | None = None,
        raw: RawRows | None = None,
        monotonic: Callable[[], int] = lambda: 0,
    ) -> None:
        self._log = log
        self._transport = transport
        self._identity = identity
        self._fs = fs
        self._path = path
        self._uniform = uniform
        self._entropy = entropy
        self._policy = policy or Policy()
        self._heard = heard
        self._raw = raw
        self._monotonic = monotonic
        self._previous = _kept_hash(fs, path)
        self._after: dict[int, int] = {}
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        self._deadline_ns = 0
        self._failures = 0
        self._taken = 0  # features of the hub, as its answer to the last hello says
        self.connected = False
        self.last_error: EdgecoreError | None = None
        self.last_ack: Ack | None = None
        self.last_asked = (0, 0)
        self.forks: dict[int, int] = {}
        self.stuck: dict[int, EdgecoreError] = {}

    def poll(self, now_ns: int) -> int:
        """At most one exchange; returns the monotonic time (ns) of the next useful call."""
        if now_ns < self._deadline_ns:
            return self._deadline_ns
        try:
            if not self.connected:
                self._hello()
                wait_s = 0.0
            else:
                wait_s = 0.0 if self._send() else self._policy.idle_s
            self._failures = 0
            self.last_error = next(iter(self.stuck.values()), None)
        except EdgecoreError as error:
            self.connected = False
            self.last_error = error
            bound = self._policy.backoff_s * 2 ** min(self._failures, 30)
            wait_s = self._uniform() * min(bound, self._policy.backoff_max_s)
            self._failures += 1
        self._deadline_ns = now_ns + int(wait_s * SECOND)
        return self._deadline_ns

    def _answer(self, path: str, message: bytes, nonce: bytes) -> Ack:
        asked = self._monotonic()
        _, _, body = self._transport.request("POST", path, body=message)
        answered = self._monotonic()
        if body.partition(b": ")[0] in _REFUSALS:
            raise Unavailable(f"the hub refused: {body[:200].decode(errors='replace').strip()}")
        checked(signed.ACK, body, self._identity.verifier)
        answer = ack.decode(
            body, self._identity.verifier, self._identity.device, self._log.store_id, nonce
        )
        if answer.hub != self._identity.invite.hub:
            raise Corrupt("ack: of another hub")
        if self._heard is not None:
            self._heard(path, body)
        self.last_ack, self.last_asked = answer, (asked, answered)
        self._ranges = answer.ranges
        return answer

    def _hello(self) -> None:
        nonce = self._entropy(16)
        body = {
            "version": 1, "device": self._identity.device,
            "generation": self._identity.generation, "store": self._log.store_id,
            "nonce": nonce, "protocol": [1, 1],
            "features": envelope.HELLO_TELLS_FEATURES,
        }  # fmt: skip
        message = signed.seal(signed.HELLO, cbor.encode(body), self._identity.signer)
        answer = self._answer("/v1/hello", message, nonce)
        # The hub's word, even where it is less than it said before: it may have been restored.
        self._after = {}
        self._taken = answer.features
        self._settle(answer)
        self.connected = True

    def _settle(self, answer: Ack) -> None:
        """Takes over what the hub holds without a gap, burnt sequences included."""
        for partition in answer.ranges:
            if partition not in self.forks:
                self._advance(partition, answer.through(partition), 0)

    def _held(self, run: Run) -> bool:
        last = run.first + run.count - 1
        return any(
            low <= run.first and last <= high for low, high in self._ranges.get(run.partition, [])
        )

    def _collect(self) -> list[tuple[Run, envelope.Payload]]:
        """Runs worth sending, the most worthy tier first, the catalogue before all."""
        room = Room(self._policy.envelope_bytes - envelope.HEAD_BYTES - signed.SIGNATURE_BYTES)
        out: list[tuple[Run, envelope.Payload]] = []
        worth = self._policy.priority.index
        ranked = sorted(self._log.partitions(), key=lambda p: (p[0] != 0, worth(p[2]), p[0]))
        withheld = self._raw.withheld if self._raw is not None else set()
        for partition, _, _ in ranked:
            if partition not in self.forks:
                collect = self._collect_asked if partition in withheld else self._collect_from
                try:
                    collect(partition, room, out)
                except (Exhausted, Incompatible) as error:  # it waits, the others go on
                    self.stuck[partition] = error
        return out

    def _collect_from(
        self, partition: int, room: Room, out: list[tuple[Run, envelope.Payload]]
    ) -> None:
        """Adds a partition's runs to `out` while there is room."""
        after = self._after.get(partition, 0)
        blocks = self._taken & envelope.TAKES_BLOCKS != 0
        while room.bytes > 0 and len(out) < envelope.PAYLOADS_MAX:
            runs = self._log.runs(partition, after, room.bytes, blocks=blocks)
            if not runs:
                return
            for run in runs:
                upto = run.first + run.count - 1
                if self._held(run):
                    after = upto
                    self._advance(partition, after, len(out))
                    continue
                if run.block and not self._takes(run.block):
                    blocks = False
                    break
                try:
                    if not self._offer(run, room, out):
                        return
                except Exhausted:
                    if run.block and run.count > 1:  # its rows may go one by one
                        blocks = False
                        break
                    raise
                after = upto

    def _collect_asked(
        self, partition: int, room: Room, out: list[tuple[Run, envelope.Payload]]
    ) -> None:
        """Of a partition that is withheld: what the hub asked for, and no other row."""
        assert self._raw is not None
        for low, high in self._raw.wanted(partition):
            while low <= high and room.bytes > 0 and len(out) < envelope.PAYLOADS_MAX:
                runs = self._log.runs(partition, low - 1, room.bytes)
                if not runs or runs[0].first > high:  # what was there has gone since
                    self._raw.sent(partition, low, high)
                    break
                if runs[0].first < low:  # a record that can't be cut
                    raise Incompatible(f"partition {partition}: a schema that can't be read")
                run = self._raw.cut(runs[0], high)
                if not self._offer(run, room, out):
                    return
                if run.first > low:
                    self._raw.sent(partition, low, run.first - 1)
                low = run.first + run.count

    def _offer(self, run: Run, room: Room, out: list[tuple[Run, envelope.Payload]]) -> bool:
        """Adds a run if there is room. Raises ``Exhausted`` for one that no envelope takes."""
        payload, rows = self._payload(run)
        size = envelope.ENTRY_BYTES + len(payload.data)
        if size > SENDABLE_BYTES_MAX or rows > envelope.ROW_BYTES_MAX:
            raise Exhausted(
                f"partition {run.partition}: the row at sequence {run.first} has {rows} bytes, "
                f"{SENDABLE_BYTES_MAX} can be sent"
            )
        if out and (size > room.bytes or rows > room.rows):
            room.bytes = 0
            return False
        out.append((run, payload))
        room.bytes -= size
        room.rows -= rows
        return True

    def _takes(self, block: bytes) -> bool:
        """Whether the hub takes a block like this one."""
        needed = envelope.TAKES_BLOCKS
        if Block(block).max_errors:
            needed |= envelope.TAKES_BOUNDED
        return self._taken & needed == needed

    def _payload(self, run: Run) -> tuple[envelope.Payload, int]:
        """The smaller of the run's codings, and the bytes of its canonical rows."""
        if run.block:
            data, rows = run.block, Block(run.block).row_bytes
            kind = envelope.COLUMN_BLOCK
        else:
            kind, rows = envelope.ROW_BATCH, len(run.payload)
            data = rowbatch.RowBatch(run.schema_fingerprint, run.payload, run.arrivals).encode()
            if run.count >= BLOCK_ROWS_MIN and self._taken & envelope.TAKES_BLOCKS:
                with suppress(Incompatible, Invalid):  # rows go as rows
                    block = self._log.block_of(run, dense=self._policy.dense)
                    if len(block) < len(data) and self._takes(block):
                        kind, data = envelope.COLUMN_BLOCK, block
        made = envelope.Payload(kind, run.partition, run.first, run.count, run.digest, data)
        return made, rows

    def _advance(self, partition: int, upto: int, unsent: int) -> None:
        if not unsent and upto > self._after.get(partition, 0):
            self._after[partition] = upto
            self._log.acknowledge(partition, upto)

    def _send(self) -> bool:
        """One envelope out, one ack in; False when there is nothing to send."""
        collected = self._collect()
        if not collected:
            return False
        runs = [run for run, _ in collected]
        payloads = [payload for _, payload in collected]
        identity, nonce = self._identity, self._entropy(16)
        message = envelope.Envelope(
            identity.device, identity.generation, self._log.store_id, self._log.epoch, nonce,
            payloads, self._previous,
        ).encode(identity.signer)  # fmt: skip
        answer = self._answer("/v1/ingest", message, nonce)
        progress = False
        open_partitions = set()
        withheld = self._raw.withheld if self._raw is not None else set()
        for run in runs:
            if run.partition in open_partitions:
                continue
            if not self._held(run):
                open_partitions.add(run.partition)
                continue
            progress = True
            if self._raw is not None and run.partition in withheld:
                self._raw.sent(run.partition, run.first, run.first + run.count - 1)
            else:
                self._advance(run.partition, run.first + run.count - 1, 0)
        self._settle(answer)
        self._previous = blake3(message)
        with suppress(Exhausted):  # acks count on a full disk too; the chain starts anew then
            self._fs.write_atomic(self._path, self._previous)
        self.forks.update(answer.forks)
        if answer.forks:
            partition, common = next(iter(answer.forks.items()))
            raise Invalid(f"fork: partition {partition} differs from the hub after {common}")
        if not progress:
            raise Unavailable("the hub took none of the envelope")
        return True


def _kept_hash(fs: Files, path: str) -> bytes:
    """What was kept at `path`; zeros when that is no hash: the chain begins anew."""
    kept = b""
    if fs.exists(path):
        with suppress(Corrupt):  # too long
            kept = fs.read_file(path, 32)
    return kept if len(kept) == 32 else bytes(32)


__all__ = ["Policy", "Syncer"]
