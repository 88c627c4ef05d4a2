"""The killable child: an answer, an error by its word, or a crash that stays in the child."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecore.errors import Corrupt, Invalid
from edgecore.worker import Crashed, run_in_child

WORK = """
import os, time
from edgecore.errors import Corrupt
def double(data): print("noise"); return data * 2
def refuse(data): raise Corrupt("not " + data.decode())
def die(data): os.abort()
def hang(data): time.sleep(60)
def fail(data): raise KeyError("lost")
def grow(data): return b"x" * (1 << 30)
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "child_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "child_work"


def test_worker_answer_comes_back_without_what_was_printed(work: str) -> None:
    assert run_in_child(f"{work}:double", b"\0ab") == b"\0ab\0ab"


def test_worker_error_keeps_its_word(work: str) -> None:
    with pytest.raises(Corrupt, match="not this"):
        run_in_child(f"{work}:refuse", b"this")


def test_worker_crash_hang_or_memory_then_crashed(work: str) -> None:
    with pytest.raises(Crashed, match="SIGABRT"):
        run_in_child(f"{work}:die", b"")
    with pytest.raises(Crashed, match=r"no answer in 0\.5 s"):
        run_in_child(f"{work}:hang", b"", seconds=0.5)
    with pytest.raises(Crashed, match="lost"):
        run_in_child(f"{work}:fail", b"")
    with pytest.raises(Crashed, match="MemoryError"):
        run_in_child(f"{work}:grow", b"", memory_bytes=1 << 29)
    with pytest.raises(Invalid):
        run_in_child("nothing", b"")
