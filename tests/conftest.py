"""Shared test plumbing: real data, seeds, and an honest count of what was skipped."""

from __future__ import annotations

import collections
import hashlib
import os
import random
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-data", action="store_true", help="missing real data fails")


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    """The directory of real data named by EDGECORE_DATA; skips where there is none."""
    where = os.environ.get("EDGECORE_DATA")
    if where and Path(where).is_dir():
        return Path(where)
    if request.config.getoption("--require-data"):
        pytest.fail("EDGECORE_DATA names no directory and --require-data was given")
    pytest.skip("no real data: EDGECORE_DATA is not set")


@pytest.fixture
def data_file(data_dir: Path):  # type: ignore[no-untyped-def]
    """A function from a name listed in tests/data.toml to a path whose digest was checked."""
    listed = tomllib.loads((TESTS / "data.toml").read_text())["file"]

    def find(name: str) -> Path:
        entry = next(item for item in listed if item["path"] == name)
        path = data_dir / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest == entry["sha256"], f"{name} is not the file that tests/data.toml describes"
        return path

    return find


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed that is printed when the test fails; EDGECORE_SEED replays it."""
    value = int(os.environ.get("EDGECORE_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed {value} (EDGECORE_SEED={value} replays it)")
    return value


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons: collections.Counter[str] = collections.Counter()
    for report in terminalreporter.stats.get("skipped", []):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ")] += 1
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")
