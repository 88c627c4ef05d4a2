"""The demo whole, on this machine and on a series; and that its judge sees every breach."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecore.cli.checker import INVARIANTS
from edgecore.cli.demo import judge
from edgecore.cli.demo_breaks import BREAKS, plant

KEYS = {"invariants", "events", "releases", "bytes", "timings"}


def demo(*words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the object that `edgecore demo --json WORDS` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "edgecore.cli", "demo", "--json", *words],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return done.returncode, found


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[str, Any]]:
    """One run on the host's telemetry, its stores and evidence kept."""
    root = tmp_path_factory.mktemp("demo") / "kept"
    code, result = demo("--seconds", "8", "--keep", str(root))
    return root, code, result


def test_demo_on_the_host_holds_every_invariant(kept: tuple[Path, int, dict[str, Any]]) -> None:
    _, code, result = kept
    assert result["invariants"] == dict.fromkeys(INVARIANTS, True), result["says"]
    assert code == 0
    assert result.keys() >= KEYS
    assert (result["events"]["unaccounted"], result["events"]["doubled"]) == (0, 0)
    assert result["events"]["captured"] > 160
    assert {r["version"]: r["states"][-1] for r in result["releases"]} == {
        1: "stable", 2: "rolled_back",
    }  # fmt: skip
    assert result["alarms"]["inside"] >= 1


def test_demo_every_invariant_has_its_breach() -> None:
    assert {invariant for _, invariant in BREAKS.values()} == set(INVARIANTS)


@pytest.mark.parametrize("name", BREAKS)
def test_demo_planted_breach_makes_exactly_its_invariant_false(
    kept: tuple[Path, int, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    evidence = tmp_path / "evidence"
    shutil.copytree(kept[0] / "evidence", evidence)
    invariant = plant(name, evidence)
    verdict = judge(evidence)["invariants"]
    broken = {name: item["says"] for name, item in verdict.items() if not item["holds"]}
    assert list(broken) == [invariant], broken


def series(path: Path, rows: int, anomalies: list[tuple[int, int]]) -> None:
    """A generated series: a slow wave with noise, and spans where it is something else."""
    chance = random.Random(11)
    lines = ["timestamp,value"]
    for i in range(rows):
        phase = i % 288 / 288
        value = 70 + 6 * abs(phase - 0.5) + chance.gauss(0, 0.4)
        if any(start <= i < end for start, end in anomalies):
            value += 25 + chance.gauss(0, 4)
        day, minute = divmod(i * 5, 1440)
        month, day = divmod(day, 28)
        stamp = f"2023-{month + 1:02}-{day + 1:02} {minute // 60:02}:{minute % 60:02}:00"
        lines.append(f"{stamp},{value:.3f}")
    path.write_text("\n".join(lines) + "\n")


def test_demo_on_a_generated_series_finds_its_anomalies(tmp_path: Path) -> None:
    path, labels = tmp_path / "series.csv", tmp_path / "labels.json"
    spans = [(2_600, 2_700), (3_600, 3_720)]
    series(path, 4_500, spans)
    times = [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
    windows = [[times[start - 20], times[end + 60]] for start, end in spans]
    labels.write_text(json.dumps({"generated/series.csv": windows}))
    code, result = demo("--csv", str(path), "--labels", str(labels))
    assert result["invariants"] == dict.fromkeys(INVARIANTS, True), result["says"]
    assert code == 0
    methods = result["evaluation"]["methods"]
    assert methods["ours"]["hit"] == 2
    assert methods["ours"]["precision"] >= 3 * methods["random"]["precision"]


@pytest.mark.data
def test_demo_on_the_machine_temperature_series_meets_its_mark(
    data_file: Callable[[str], Path],
) -> None:
    data_file("nab/labels/combined_windows.json")
    path = data_file("nab/data/realKnownCause/machine_temperature_system_failure.csv")
    code, result = demo("--csv", str(path))
    assert code == 0, result["says"]
    found = result["evaluation"]
    ours, random_flagger = found["methods"]["ours"], found["methods"]["random"]
    assert ours["hit"] >= 2
    assert ours["precision"] >= 3 * random_flagger["precision"]
    assert ours["false_episodes"] <= found["days"] / 5


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--break", "nothing"], 16, "Invalid: no breach 'nothing'"),
        (["--seconds", "1"], 16, "Invalid: --seconds is 5 to 600"),
        (["--csv", "/no/such/file.csv"], 15, "Unavailable: /no/such/file.csv"),
    ],
)
def test_demo_bad_arguments_are_one_line_and_an_exit_code(
    words: list[str], code: int, says: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgecore.cli", "demo", *words], capture_output=True, text=True
    )
    assert done.returncode == code
    assert done.stderr.strip().startswith(says)
    assert len(done.stderr.strip().splitlines()) == 1
