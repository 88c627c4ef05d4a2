"""The updater with the power cut before every operation of the disk, under both models."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from edgecore.errors import EdgecoreError
from edgecore.fs import MemoryFs


def install(device: Any, path: str) -> None:
    """Order, trial, active, stable, with reports until it is stable or the disk is gone."""
    device.wish(path)
    for _ in range(80):
        if device.fs.power_is_cut():
            return
        if device.updater.phase == "stable" and device.updater.current.path == path:
            return
        device.poll()
        if device.updater.phase in ("trial", "active"):
            device.updater.report(100, 0, 0)
    raise AssertionError(f"{path}: {device.updater.phase}, {device.updater.last_error!r}")


def fail_trial(device: Any, path: str) -> None:
    device.wish(path)
    for _ in range(80):
        if device.fs.power_is_cut() or device.updater.phase == "rolled_back":
            return
        device.poll()
        if device.updater.phase == "trial":
            device.updater.report(100, 100, 0)
    raise AssertionError(f"{path}: {device.updater.phase}, {device.updater.last_error!r}")


def until_dark(device: Any, deed: Any, path: str) -> bool:
    """Runs `deed` until it ends or the power is cut; whether it ended."""
    try:
        deed(device, path)
    except EdgecoreError:
        if not device.fs.power_is_cut():
            raise
    return not device.fs.power_is_cut()


def prepared(make_device: Any, model: str) -> Any:
    """A function that gives a new device on which the first release is stable."""
    device = make_device(MemoryFs(model=model))
    install(device, "anomaly/1")
    assert not device.fs.pending_units()
    return lambda: make_device(device.fs.crash(0), device.rows)


def check(device: Any, allowed: set[str]) -> None:
    """What every cut must leave: a verified release that runs, and one word on every edge."""
    current = device.updater.current
    assert current is not None
    assert current.path in allowed
    numbers = [row["source_seq"] for row in device.rows]
    assert numbers == sorted(set(numbers))
    for path in ("anomaly/2", "anomaly/3"):
        edges = [edge for edge in device.edges(path) if edge not in ("preflight", "refused")]
        for before, after in itertools.pairwise(edges):
            assert (before, after) in {
                ("staged", "trial"), ("trial", "trial"), ("trial", "active"),
                ("active", "stable"), ("staged", "rolled_back"), ("trial", "rolled_back"),
                ("active", "rolled_back"), ("rolled_back", "staged"),
            }, edges  # fmt: skip


@pytest.mark.parametrize("model", ["posix", "ext4"])
@pytest.mark.parametrize("deed", [install, fail_trial], ids=["proved", "failed"])
def test_update_power_cut_at_every_operation_leaves_a_verified_release(
    publisher: Any, make_device: Any, model: str, deed: Any, seed: int
) -> None:
    publisher.release("anomaly", 2, observation={"max_alarm_share": 0.1})
    ready = prepared(make_device, model)
    cuts = states = 0
    operation = 0
    while True:
        operation += 1
        device = ready()
        rows = list(device.rows)
        device.fs.cut_power_at(operation)
        if until_dark(device, deed, "anomaly/2"):
            break
        cuts += 1
        logged = list(device.rows)
        for image in device.fs.crash_states(2, seed + operation):
            states += 1
            again = reopened(make_device, image, logged)
            check(again, {"anomaly/1", "anomaly/2"})
            deed(again, "anomaly/2")
            check(again, {"anomaly/2"} if deed is install else {"anomaly/1"})
            ends = again.edges("anomaly/2")
            assert ends[-1] == ("stable" if deed is install else "rolled_back")
            assert ends.count("stable") == (deed is install)
            assert again.rows[: len(rows)] == rows
    assert cuts > 30, "the cuts met no operation"
    print(f"{cuts} cuts, {states} states")


def reopened(make_device: Any, image: Any, rows: list[dict[str, Any]]) -> Any:
    device = make_device(image, rows)
    device.log_rows()
    return device


@pytest.mark.parametrize("model", ["posix", "ext4"])
def test_update_power_cut_again_while_opening_is_harmless(
    publisher: Any, make_device: Any, model: str, seed: int
) -> None:
    publisher.release("anomaly", 2)
    ready = prepared(make_device, model)
    met = 0
    for operation in range(5, 90, 9):
        device = ready()
        device.fs.cut_power_at(operation)
        if until_dark(device, install, "anomaly/2"):
            break
        rows = list(device.rows)
        first = device.fs.crash(seed + operation)
        for second in range(1, 12):
            image = first.crash(seed)
            image.cut_power_at(second)
            try:
                reopened(make_device, image, rows)
            except EdgecoreError:
                assert image.power_is_cut()
            if not image.power_is_cut():
                break
            met += 1
            again = reopened(make_device, image.crash(seed + second), rows)
            check(again, {"anomaly/1", "anomaly/2"})
            install(again, "anomaly/2")
    assert met > 5


@pytest.mark.parametrize("effect", ["io_error", "no_space", "short_write"])
def test_update_disk_fault_at_every_operation_keeps_the_release_running(
    publisher: Any, make_device: Any, effect: str
) -> None:
    publisher.release("anomaly", 2)
    ready = prepared(make_device, "posix")
    fired = 0
    for skip in range(0, 400, 3):
        device = ready()
        fault = device.fs.inject(effect, skip=skip)
        try:
            install(device, "anomaly/2")
        except AssertionError:
            assert device.updater.current.path in ("anomaly/1", "anomaly/2")
        if not device.fs.fired(fault):
            break
        fired += 1
        device.fs.clear_faults()
        rows = list(device.rows)
        again = reopened(make_device, device.fs.crash(skip), rows)
        check(again, {"anomaly/1", "anomaly/2"})
        install(again, "anomaly/2")
    assert fired > 10
