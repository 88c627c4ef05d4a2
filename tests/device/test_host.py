"""The host source: /proc and /sys from given text, rates over given time, and its cost."""

from __future__ import annotations

import time

import pytest

from edgecore._core.rows import Batch
from edgecore.clock import ManualClock, SystemClock
from edgecore.device.host import (
    HOST,
    HostSource,
    ProcFiles,
    parse_diskstats,
    parse_meminfo,
    parse_net,
    parse_pressure,
    parse_stat,
    whole_disks,
)
from edgecore.device.sources import Ticker

SECOND = 1_000_000_000
STAT = b"""cpu  18612 100 3114 80797 327 5 77 25 11 13
cpu0 7198 0 1130 43101 14 0 5 10 0 0
intr 229465 0 0 0 ctxt 9 0
ctxt 418005
btime 1790000000
processes 7863
procs_running 4
procs_blocked 0
"""
MEMINFO = b"""MemTotal:        1000000 kB
MemFree:          200000 kB
MemAvailable:     250000 kB
SwapTotal:         50000 kB
SwapFree:          40000 kB
"""
PRESSURE = b"""some avg10=1.42 avg60=1.20 avg300=4.38 total=47682749
full avg10=0.00 avg60=0.00 avg300=0.00 total=9
"""
DISKSTATS = b"""   7       0 loop0 9 9 9 9 9 9 9 9 9 9 9 0 0 0 0 0 0
 254       0 vda 34221 7962 3044226 9874 35561 52386 5081600 13204 0 7208 24083 7021 49
 254       1 vda1 34221 7962 3044226 9874 35561 52386 5081600 13204 0 7208 24083 7021 49
   8       0 sda 1 0 8 0 1 0 16 0 0 9999 0
"""
NET = b"""Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0
  eth0: 409951506 10458    0    0    0     0          0         0   418487    4265    0    0
wlan0:7 1    0    0    0     0          0         0   5    1    0    0
docker0: 888 10458    0    0    0     0          0         0   777    4265    0    0
"""


def test_host_parsers_read_what_the_kernel_writes() -> None:
    stat = parse_stat(STAT)
    assert stat["busy"] == 18612 + 100 + 3114 + 5 + 77 + 25
    assert stat["total"] == stat["busy"] + 80797 + 327
    assert (stat["switches"], stat["runnable"]) == (418005, 4)
    assert parse_meminfo(MEMINFO) == (75.0, 20.0)
    assert parse_pressure(PRESSURE) == 47682749
    disks = whole_disks(["dm-0", "loop0", "sda", "vda", "zram0"])
    assert disks == {b"sda", b"vda"}
    assert parse_diskstats(DISKSTATS, disks) == {
        "disk_read": (3044226 + 8) * 512, "disk_write": (5081600 + 16) * 512, "disk_busy": 9999,
    }  # fmt: skip
    assert parse_net(NET) == {"net_in": 409951506 + 7, "net_out": 418487 + 5}


class Machine:
    """Files of a machine whose counters a test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock(1_000 * SECOND)
        self.files = {"/proc/stat": STAT, "/proc/meminfo": MEMINFO, "/proc/net/dev": NET,
                      "/proc/diskstats": DISKSTATS, "/proc/pressure/cpu": PRESSURE,
                      "/zone0": b"41500\n", "/zone1": b"43250\n"}  # fmt: skip
        self.source = HostSource(
            self.clock, source="board", read=self.read, disks={b"vda"}, zones=["/zone0", "/zone1"]
        )

    def read(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def take(self) -> list[dict[str, object]]:
        batch = Batch(HOST)
        self.source.take(self.clock.monotonic_ns(), batch)
        assert batch.off_grid == 0
        return batch.rows(exact=True)


def test_host_counters_become_rates_over_the_measured_time() -> None:
    machine = Machine()
    assert machine.take() == []
    machine.files["/proc/stat"] = STAT.replace(
        b"cpu  18612 100 3114 80797 327", b"cpu  18622 100 3116 80803 329"
    ).replace(b"418005", b"418405")
    machine.files["/proc/net/dev"] = NET.replace(b"409951506", b"409952506")
    machine.files["/proc/diskstats"] = DISKSTATS.replace(b"5081600", b"5081604")
    machine.files["/proc/pressure/cpu"] = PRESSURE.replace(b"47682749", b"47732749")
    machine.clock.advance(SECOND // 10)
    (row,) = machine.take()
    assert row["time"] == 1_000 * SECOND + SECOND // 10
    assert row["source"] == "board"
    # 12 busy of 20 jiffies, 2 in the kernel, 2 waiting; 400 switches, 1000 bytes in 0.1 s
    assert [row[name] for name in ("cpu_busy", "cpu_system", "cpu_iowait")] == [
        "60.00", "10.00", "10.00",
    ]  # fmt: skip
    assert (row["switches"], row["net_in"], row["net_out"]) == ("4000.0", "10000.0", "0.0")
    assert (row["disk_write"], row["disk_busy"]) == ("20480.0", "0.00")
    assert (row["psi_cpu"], row["mem_used"], row["swap_used"]) == ("50.00", "75.00", "20.00")
    assert (row["temperature"], row["runnable"]) == ("43.250", 4)


def test_host_absent_and_backward_readings_are_null_never_zero() -> None:
    machine = Machine()
    machine.take()
    for path in ("/proc/pressure/cpu", "/proc/meminfo", "/zone0", "/zone1"):
        del machine.files[path]
    machine.files["/proc/net/dev"] = NET.replace(b"409951506", b"5")
    machine.files["/proc/diskstats"] = b"garbage\n"
    machine.clock.advance(SECOND // 10)
    (row,) = machine.take()
    for name in ("psi_cpu", "psi_io", "mem_used", "swap_used", "temperature", "net_in"):
        assert row.get(name) is None, name
    assert row["disk_read"] is None or row["disk_read"] == "0.0"
    assert row["cpu_busy"] is None  # no jiffy has passed: no share of it


def test_host_torn_kernel_text_makes_nulls_not_errors() -> None:
    machine = Machine()
    machine.take()
    for path in list(machine.files):
        machine.files[path] = machine.files[path][:7]
    machine.clock.advance(SECOND // 10)
    (row,) = machine.take()
    assert all(row[field.name] is None for field in HOST.fields if field.name != "temperature")


def test_host_late_call_counts_what_it_missed() -> None:
    machine = Machine()
    machine.take()
    machine.clock.advance(SECOND // 2)
    assert len(machine.take()) == 1
    assert machine.source.counts.missed == 4
    assert machine.source.counts.row("host")["detail"] == "missed 4"


def test_ticker_keeps_rate_and_phase() -> None:
    ticker = Ticker(100)
    assert [ticker.due(now) for now in (7, 50, 106, 107, 399, 407)] == [1, 0, 0, 1, 2, 1]


def test_host_of_this_machine_at_ten_hertz_costs_little() -> None:
    source = HostSource(SystemClock(), interval_ns=1)
    batch = Batch(HOST)
    source.take(0, batch)
    start = time.process_time()
    rounds = 100
    for now in range(1, rounds + 1):
        source.take(now, batch)
    cost = (time.process_time() - start) / rounds
    assert len(batch) == rounds
    print(f"{cost * 1e6:.0f} us of CPU per row: {cost * 10:.2%} of one core at 10 Hz")
    assert cost < 0.005  # 5 % of a core at 10 Hz: an alarm, not the goal


def test_host_files_are_read_again_from_their_start() -> None:
    read = ProcFiles()
    if not read("/proc/uptime"):
        pytest.skip("no /proc here")
    first = read("/proc/uptime")
    time.sleep(0.02)
    assert read("/proc/uptime") != first
    read.close()
