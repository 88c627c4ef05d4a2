"""The entry script: what it says it can do it can do, and what is missing it names."""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("edgecore_dev", str(ROOT / "dev"))
    spec = importlib.util.spec_from_loader("edgecore_dev", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_dev_every_command_of_its_page_is_accepted(dev: ModuleType) -> None:
    page = dev.__doc__ or ""
    lines = re.findall(r"^ {4}\./dev (\w+(?: \| \w+)*)", page, re.M)
    named = {word for line in lines for word in line.split(" | ")}
    assert {"demo", "test", "bench", "lint", "asan", "tsan", "fuzz", "arm64", "wheel"} <= named
    for word in sorted(named):
        assert dev.parser().parse_known_args([word])[0].command == word


def test_dev_names_everything_that_is_missing_in_one_line(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "compiler", lambda: None)
    monkeypatch.setattr(dev, "MEMORY_BYTES_MIN", 1 << 60)
    with pytest.raises(dev.Failed) as failure:
        dev.check_machine()
    text = str(failure.value)
    assert "\n" not in text
    assert "C++20 compiler" in text
    assert "memory" in text


def test_dev_failed_command_shows_its_last_lines_and_where_the_rest_is(
    dev: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(dev, "CACHE", tmp_path)
    words = [sys.executable, "-c", "print('the last line'); raise SystemExit(3)"]
    with pytest.raises(dev.Failed, match=r"exited 3.*failing\.log"):
        dev.run(words, log="failing")
    assert "the last line" in capsys.readouterr().out
