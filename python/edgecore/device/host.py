"""The host source: what /proc and /sys say of this machine, ten times a second.

Counters become rates over the monotonic time between two readings. A reading that is absent on
this machine (no pressure information, no thermal zone) is a null, never a zero; so is a rate over
a counter that went backwards (a device was unplugged).
"""

from __future__ import annotations

from contextlib import suppress

from edgecore.device.sources import SECOND, Counts, Ticker
from edgecore.schema import Field, Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecore._core.rows import Batch
    from edgecore.clock import Clock

    Read = Callable[[str], bytes]  # a path's bytes; OSError when there is none
    Counters = dict[str, int]

_RATE = (0.0, 1e12)
_PERCENT = (0.0, 100.0)

HOST = Schema(
    "host",
    tier="bulk",
    fields=[
        Field("cpu_busy", "decimal(2)", unit="%", range=_PERCENT),
        Field("cpu_system", "decimal(2)", unit="%", range=_PERCENT),
        Field("cpu_iowait", "decimal(2)", unit="%", range=_PERCENT),
        Field("runnable", "u32", unit="1", range=(0, 1_000_000)),
        Field("switches", "decimal(1)", unit="1/s", range=_RATE),
        Field("mem_used", "decimal(2)", unit="%", range=_PERCENT),
        Field("swap_used", "decimal(2)", unit="%", range=_PERCENT),
        Field("psi_cpu", "decimal(2)", unit="%", range=_PERCENT),
        Field("psi_memory", "decimal(2)", unit="%", range=_PERCENT),
        Field("psi_io", "decimal(2)", unit="%", range=_PERCENT),
        Field("disk_read", "decimal(1)", unit="By/s", range=_RATE),
        Field("disk_write", "decimal(1)", unit="By/s", range=_RATE),
        Field("disk_busy", "decimal(2)", unit="%", range=_PERCENT),
        Field("net_in", "decimal(1)", unit="By/s", range=_RATE),
        Field("net_out", "decimal(1)", unit="By/s", range=_RATE),
        Field("temperature", "decimal(3)", unit="Cel", range=(-100.0, 300.0)),
    ],
)

SECTOR_BYTES = 512  # of /proc/diskstats, whatever the device's own sector is
_VIRTUAL_DISKS = (b"loop", b"ram", b"zram", b"dm-", b"md", b"sr", b"fd")
_VIRTUAL_NETS = (b"lo", b"ifb", b"veth", b"docker", b"br-", b"virbr", b"tun", b"tap", b"dummy")


def parse_stat(text: bytes) -> Counters:
    """/proc/stat: jiffies of all processors together, context switches, runnable tasks."""
    end = text.index(b"\n")
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, text[:end].split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    return {
        "busy": busy,
        "system": system + irq + softirq,
        "iowait": iowait,
        "total": busy + idle + iowait,
        "switches": _after(text, b"\nctxt "),
        "runnable": _after(text, b"\nprocs_running "),
    }


def _after(text: bytes, label: bytes) -> int:
    """The whole number that follows `label`."""
    start = text.index(label) + len(label)
    return int(text[start : start + 24].split(None, 1)[0])


def parse_meminfo(text: bytes) -> tuple[float, float]:
    """/proc/meminfo: percent of memory, and of swap, in use. Without swap, 0."""
    total, available = _after(text, b"MemTotal:"), _after(text, b"MemAvailable:")
    swap, free = _after(text, b"SwapTotal:"), _after(text, b"SwapFree:")
    return 100.0 * (total - available) / total, 100.0 * (swap - free) / swap if swap else 0.0


def parse_pressure(text: bytes) -> int:
    """/proc/pressure/X: microseconds in which some task waited for it, since boot."""
    return int(text[: text.index(b"\n")].rsplit(b"total=", 1)[1])


def parse_diskstats(text: bytes, disks: set[bytes]) -> Counters:
    """/proc/diskstats: bytes read and written by `disks`, and the busiest one's milliseconds."""
    read = write = busy = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 14 and words[2] in disks:
            read += int(words[5]) * SECTOR_BYTES
            write += int(words[9]) * SECTOR_BYTES
            busy = max(busy, int(words[12]))
    return {"disk_read": read, "disk_write": write, "disk_busy": busy}


def parse_net(text: bytes) -> Counters:
    """/proc/net/dev: bytes in and out of everything that is no loopback or software bridge."""
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(b":")
        if not name.strip().startswith(_VIRTUAL_NETS):
            words = rest.split()
            received += int(words[0])
            sent += int(words[8])
    return {"net_in": received, "net_out": sent}


def whole_disks(names: list[str]) -> set[bytes]:
    """Of the entries of /sys/block those that are hardware (a virtual machine's included)."""
    return {name.encode() for name in names if not name.encode().startswith(_VIRTUAL_DISKS)}


class Snapshot:
    """One reading of everything: counters since boot, and levels in the fields' own units."""

    __slots__ = ("counters", "levels", "monotonic_ns")

    def __init__(self, monotonic_ns: int) -> None:
        self.monotonic_ns = monotonic_ns
        self.counters: Counters = {}
        self.levels: dict[str, float] = {}


def snapshot(read: Read, disks: set[bytes], zones: list[str], monotonic_ns: int) -> Snapshot:
    """Reads and parses. What is absent or unreadable is left out."""
    out = Snapshot(monotonic_ns)
    counters, levels = out.counters, out.levels
    for path, parse in (
        ("/proc/stat", parse_stat),
        ("/proc/diskstats", lambda text: parse_diskstats(text, disks)),
        ("/proc/net/dev", parse_net),
        ("/proc/pressure/cpu", lambda text: {"psi_cpu": parse_pressure(text)}),
        ("/proc/pressure/memory", lambda text: {"psi_memory": parse_pressure(text)}),
        ("/proc/pressure/io", lambda text: {"psi_io": parse_pressure(text)}),
    ):
        try:
            counters.update(parse(read(path)))
        except (OSError, ValueError, IndexError):
            continue
    with suppress(OSError, ValueError, ZeroDivisionError):
        levels["mem_used"], levels["swap_used"] = parse_meminfo(read("/proc/meminfo"))
    for zone in zones:
        try:
            degrees = int(read(zone)) / 1000.0
        except (OSError, ValueError):
            continue
        levels["temperature"] = max(degrees, levels.get("temperature", degrees))
    return out


def rates(before: Snapshot, after: Snapshot) -> dict[str, float | int | None]:
    """The row between two snapshots. Percents are held to 0…100, because counters and clock are
    not read at one instant."""
    elapsed = after.monotonic_ns - before.monotonic_ns

    def grown(name: str) -> int | None:
        old, new = before.counters.get(name), after.counters.get(name)
        return None if old is None or new is None or new < old else new - old

    def rate(name: str) -> float | None:
        delta = grown(name)
        return None if delta is None or elapsed <= 0 else round(delta * SECOND / elapsed, 1)

    def percent(name: str, whole: float | None) -> float | None:
        delta = grown(name)
        return None if delta is None or not whole else min(100.0, round(100.0 * delta / whole, 2))

    jiffies = grown("total")
    row: dict[str, float | int | None] = {
        "cpu_busy": percent("busy", jiffies),
        "cpu_system": percent("system", jiffies),
        "cpu_iowait": percent("iowait", jiffies),
        "runnable": after.counters.get("runnable"),
        "disk_busy": percent("disk_busy", elapsed / 1_000_000),
    }
    for name in ("psi_cpu", "psi_memory", "psi_io"):
        row[name] = percent(name, elapsed / 1_000)
    for name in ("switches", "disk_read", "disk_write", "net_in", "net_out"):
        row[name] = rate(name)
    for name, digits in (("mem_used", 2), ("swap_used", 2), ("temperature", 3)):
        level = after.levels.get(name)
        row[name] = None if level is None else round(level, digits)
    return row


class ProcFiles:
    """Reads from the start of files that are kept open: half the cost of opening them again."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def __call__(self, path: str) -> bytes:
        import os

        descriptor = self._open.get(path)
        if descriptor is None:
            descriptor = self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(descriptor, 1 << 16, 0)

    def close(self) -> None:
        import os

        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


def _names(directory: str) -> list[str]:
    from pathlib import Path

    try:
        return sorted(path.name for path in Path(directory).iterdir())
    except OSError:
        return []


class HostSource:
    """This machine as a stream. The first reading makes no row: a rate needs two.

    :param interval_ns: time between rows; :param source: the rows' source id.
    :param read, disks, zones: what is read, for tests; by default the machine's own."""

    schema = HOST
    finished = False

    def __init__(
        self,
        clock: Clock,
        *,
        interval_ns: int = SECOND // 10,
        source: str = "host",
        read: Read | None = None,
        disks: set[bytes] | None = None,
        zones: list[str] | None = None,
    ) -> None:
        self.counts = Counts()
        self._clock = clock
        self._source = source
        self._ticker = Ticker(interval_ns)
        self._read = read or ProcFiles()
        self._disks = whole_disks(_names("/sys/block")) if disks is None else disks
        self._zones = zones
        if zones is None:
            thermal = "/sys/class/thermal"
            names = [name for name in _names(thermal) if name.startswith("thermal_zone")]
            self._zones = [f"{thermal}/{name}/temp" for name in names]
        self._before: Snapshot | None = None

    def take(self, now_ns: int, batch: Batch) -> int:
        passed = self._ticker.due(now_ns)
        if passed:
            after = snapshot(self._read, self._disks, self._zones or [], self._clock.monotonic_ns())
            if self._before is not None:
                self.counts.missed += passed - 1
                row: dict[str, object] = dict(rates(self._before, after))
                row["time"] = self._clock.wall_ns()
                row["source"] = self._source
                batch.append(row)
                self.counts.accepted += 1
            self._before = after
        return self._ticker.next_ns or now_ns


__all__ = [
    "HOST",
    "HostSource",
    "ProcFiles",
    "Snapshot",
    "parse_diskstats",
    "parse_meminfo",
    "parse_net",
    "parse_pressure",
    "parse_stat",
    "rates",
    "snapshot",
    "whole_disks",
]
