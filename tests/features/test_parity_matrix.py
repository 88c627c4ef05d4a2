"""The parity matrix in its short form; the long one is parity_matrix.py itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("parity_matrix.py")
ARCHIVE = Path(__file__).resolve().parents[2] / "build" / "dev" / "libedgecore_core.a"


@pytest.mark.skipif(
    shutil.which("g++") is None or not ARCHIVE.exists() or os.uname().machine != "x86_64",
    reason="no x86 compiler and build to compare with",
)
def test_parity_matrix_is_0_bits_and_sees_what_is_planted() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--short", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    facts = json.loads(done.stdout)
    assert all(bits == 0 for column in facts["differing"].values() for bits in column.values())
    assert len(facts["differing"]) == 7
    assert len(facts["mutants"]) == 2
    assert all(bits > 0 for bits in facts["mutants"].values())
