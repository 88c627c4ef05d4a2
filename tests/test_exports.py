"""The public names are a contract, and importing them is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest

import edgecore

PROBE = """
import sys
before = set(sys.modules)
import edgecore
loaded = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(loaded & {"numpy", "asyncio", "flatbuffers", "cbor2", "dataclasses", "typing"}))
"""


def test_exports_every_public_name_loads() -> None:
    for name in edgecore.__all__:
        assert getattr(edgecore, name) is not None


def test_exports_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = edgecore.no_such_name


def test_exports_import_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
