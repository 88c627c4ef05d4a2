"""The metadata a device trusts, and the floor it never undercuts: fetched, judged, kept.

The floor is durable before what raised it is acted upon, in a file of its own; both are kept
twice (``device.twofold``). Metadata that is lost is fetched again under the pinned root; a floor
that is lost blocks installs, for nothing else can tell an old release from a new one.
"""

from __future__ import annotations

from edgecore.device.twofold import Twofold
from edgecore.errors import Corrupt, Unavailable, Untrusted
from edgecore.trust import releases
from edgecore.trust.releases import BYTES_MAX, Floor, Trusted
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgecore.clock import Clock
    from edgecore.device.transport import Transport
    from edgecore.fs import Fs
    from edgecore.release import VerifiedRelease
    from edgecore.trust.releases import Target

HEARD_STEP_NS = 3600 * 1_000_000_000  # signed time is written down once an hour at most
STATE_BYTES_MAX = 1 << 20


class Metadata:
    """What this device believes of releases. Not thread-safe."""

    def __init__(
        self, root_hash: bytes, transport: Transport, fs: Fs, directory: str, clock: Clock
    ) -> None:
        self._root_hash = root_hash
        self._transport = transport
        self._clock = clock
        self._trusted_slots = Twofold(fs, f"{directory}/trusted")
        self._floor_slots = Twofold(fs, f"{directory}/floor")
        self._fault: Corrupt | None = None
        self._trusted = self._load_trusted()
        self._floor = self._load_floor()

    def _load_trusted(self) -> Trusted | None:
        try:
            kept = self._trusted_slots.load()
            return Trusted.from_body(cbor.decode(kept)) if kept is not None else None
        except Corrupt:
            return None

    def _load_floor(self) -> Floor:
        try:
            kept = self._floor_slots.load()
            return Floor.from_body(cbor.decode(kept)) if kept is not None else Floor()
        except Corrupt as error:
            self._fault = Corrupt(f"floor: {error}; no release is installed until it is enrolled")
            return Floor()

    # ------------------------------------------------------------ time and floor

    def now_ns(self) -> int:
        """The device's clock, but never before a time that the hub has signed."""
        return max(self._clock.wall_ns(), self._floor.time_ns)

    @property
    def floor_ns(self) -> int:
        """A signed time, which has passed; 0 for none."""
        return self._floor.time_ns

    def heard(self, time_ns: int) -> None:
        """Signed time. Raises what a full or failing disk raises."""
        if self._fault is None and time_ns > self._floor.time_ns + HEARD_STEP_NS:
            self._keep_floor(self._floor.at(time_ns))

    def accept(self, release: VerifiedRelease) -> None:
        """Raises the floor to a release that has proved itself."""
        if self._fault is None:
            self._keep_floor(self._floor.after(release))

    def _keep_floor(self, floor: Floor) -> None:
        if floor.body() != self._floor.body():
            self._floor_slots.save(cbor.encode(floor.body()))
            self._floor = floor

    def _keep_trusted(self, trusted: Trusted) -> None:
        self._trusted_slots.save(cbor.encode(trusted.body()))
        self._trusted = trusted

    # ------------------------------------------------------------ fetching

    def refresh(self) -> Iterator[None]:
        """Brings metadata up to date; each `yield` ends one exchange. Raises as
        ``trust.releases`` says, ``Unavailable`` without an answer."""
        if self._fault is not None:
            raise self._fault
        if self._trusted is None:
            if not any(self._root_hash):
                raise Untrusted("root: the invite names none; enrol again with a newer invite")
            self._keep_trusted(releases.start(self._root_hash, self._get("1.root.json", "root")))
            yield
        assert self._trusted is not None
        timestamp = self._get("timestamp.json", "timestamp")
        yield
        if timestamp != self._trusted.timestamp:
            yield from self._follow_roots()
            yield from self._take(timestamp)
        releases.current(self._trusted, self.now_ns())

    def _follow_roots(self) -> Iterator[None]:
        assert self._trusted is not None
        while True:
            name = f"{releases.root_version(self._trusted) + 1}.root.json"
            body = self._get(name, "root", optional=True)
            if not body:
                return
            self._keep_trusted(releases.next_root(self._trusted, body))
            yield

    def _take(self, timestamp: bytes) -> Iterator[None]:
        """Timestamp, snapshot, targets; they are trusted together or not at all."""
        assert self._trusted is not None
        now = self.now_ns()
        trusted, floor = releases.take_timestamp(self._trusted, self._floor, timestamp, now)
        self._keep_floor(floor)
        data = self._get(releases.snapshot_name(trusted), "snapshot")
        yield
        trusted, floor = releases.take_snapshot(trusted, self._floor, data, now)
        self._keep_floor(floor)
        data = self._get(releases.targets_name(trusted), "targets")
        yield
        trusted, floor = releases.take_targets(trusted, self._floor, data, now)
        self._keep_floor(floor)
        self._keep_trusted(trusted)

    def _get(self, name: str, role: str, optional: bool = False) -> bytes:
        status, _, body = self._transport.request("GET", f"/v1/tuf/{name}")
        if status == 404 and optional:
            return b""
        if status != 200:
            raise Unavailable(f"{name}: the hub answered {status}")
        if not body.startswith(b"{"):
            raise Unavailable(f"{name}: the answer is not a hub's (a captive portal?)")
        if len(body) > BYTES_MAX[role]:
            raise Corrupt(f"metadata: {name} has {len(body)} bytes of at most {BYTES_MAX[role]}")
        return body

    # ------------------------------------------------------------ releases

    def choose(self, path: str) -> Target:
        """What a releaser says of `path`, after :meth:`refresh`."""
        assert self._trusted is not None
        return releases.choose(self._trusted, self._floor, path)

    def proof(self, target: Target) -> bytes:
        assert self._trusted is not None
        return releases.proof(self._trusted, target)


__all__ = ["Metadata"]
