"""What the README shows runs as shown, and it quotes no figure but those of the benchmark file."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_readme_example_runs_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    said = [line.partition("# prints ")[2] for line in code.splitlines() if "# prints " in line]
    assert said
    assert out.getvalue().splitlines() == said


def test_readme_names_the_two_commands_and_only_files_that_exist() -> None:
    assert "./dev demo" in README
    assert "./dev test" in README
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_readme_quotes_every_row_of_the_benchmark_file_and_no_other() -> None:
    spec = importlib.util.spec_from_file_location("bench_run", ROOT / "bench" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    rows = json.loads((ROOT / "bench" / "results.json").read_text())
    assert run.markdown(rows) in README
