"""docs/features.md: every block runs as it stands, on the real series and on a generated one."""

from __future__ import annotations

import contextlib
import io
import random
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgecore.cli.main import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"
SERIES = "nab/data/realKnownCause/machine_temperature_system_failure.csv"


def run_page(home: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the blocks print, one text each."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("EDGECORE_DATA", str(data))
    names: dict[str, Any] = {"__name__": "page"}
    told = []
    for language, text in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.S):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if language == "python":
                exec(compile(text, PAGE.name, "exec"), names)
            else:
                run_shell(text.replace("$EDGECORE_DATA", str(data)), out)
        told.append(out.getvalue())
    return told


def run_shell(text: str, out: io.StringIO) -> None:
    for line in text.splitlines():
        words, _, file = line.partition(" > ")
        name, *rest = shlex.split(words)
        assert name == "edgecore"
        assert main(rest) == 0, line
        if file:
            Path(file).write_text(out.getvalue())


def check(told: list[str], rows: int) -> None:
    assert len(told) == 11
    assert told[5].startswith("view derived of stream machine, one entity; ")
    told = told[4:]
    assert told[2].startswith(f"{rows} rows, ")
    lines = told[3].splitlines()
    assert len(lines) == 20
    assert [line.split()[2] for line in lines[:10]] == ["FRESH"] * 10
    assert [line.split()[2:4] for line in lines[10:18]] == [["STALE", "ttl"]] * 8
    assert told[5].startswith(f"{rows} rows answered")
    assert "\n0 differing bits" in told[6]


def test_features_page_runs_on_a_generated_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data" / SERIES
    path.parent.mkdir(parents=True)
    chance = random.Random(7)
    start = datetime(2013, 12, 2, 21, 15, tzinfo=UTC)
    lines = ["timestamp,value"]
    for i in range(1500):
        behind = 30 if i % 97 == 96 else 0
        time = start + timedelta(minutes=5 * i - behind)
        lines.append(f"{time:%Y-%m-%d %H:%M:%S},{chance.randrange(70_000, 90_000) / 1000}")
    path.write_text("\n".join(lines) + "\n")
    (tmp_path / "home").mkdir()
    check(run_page(tmp_path / "home", tmp_path / "data", monkeypatch), 1500)
    assert len((tmp_path / "home" / "features.csv").read_text().splitlines()) == 1501


def test_features_page_runs_on_the_real_series(
    tmp_path: Path, data_dir: Path, data_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_file(SERIES)
    check(run_page(tmp_path, data_dir, monkeypatch), 22_695)
