"""tflite-runtime really run, in an environment of its own (`./dev` makes it: it wants numpy 1),
and held against the native executor under its profile."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecore import inference
from edgecore.errors import Unavailable
from edgecore.inference import Interpreter, Model

pytest.importorskip("flatbuffers")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
cases = importlib.import_module("operator_cases")
models = importlib.import_module("written_models")
runtimes = importlib.import_module("runtimes")

SEEDS = 4  # of each operator
TINY = {
    "ad01_int8.tflite": 100, "kws_ref_model_int8.tflite": 30, "sww_ref_model.tflite": 100,
    "ic01_resnet8_int8.tflite": 20, "vww_96_int8.tflite": 10,
}  # fmt: skip
Asked = tuple[bytes, bytes, int, bool]  # file, rows, how many, whether a child tries it first


def tflite(asked: list[Asked]) -> list[tuple[bytes, dict[str, Any]]]:
    """What tflite-runtime answers; skips where its environment can't be had."""
    python = os.environ.get("EDGECORE_TFLITE_PYTHON", "")
    if not python:
        pytest.skip("tflite-runtime: ./dev made no environment for it (EDGECORE_TFLITE_PYTHON)")
    source = str(Path(inference.__file__).parent.parent)
    done = subprocess.run(
        [python, str(HERE / "tflite_side.py")], input=pickle.dumps(asked), capture_output=True,
        check=False, env=os.environ | {"PYTHONPATH": source},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    answers: list[tuple[bytes, dict[str, Any]]] = pickle.loads(done.stdout)
    return answers


def assert_native_gives(expected: bytes, data: bytes, rows: bytes, count: int, name: str) -> None:
    """On every kernel of this processor; the portable one is slow, and runs what is small."""
    met = 0
    for model in runtimes.served(data, "tflite-double"):
        isa = model.describe()["isa"]
        if isa != "portable" or model.input_size < 10_000:
            assert model.run_batch(rows, count) == expected, (name, isa)
            met += 1
    assert met


def test_tflite_operators_equal_the_native_executor_under_its_profile(seed: int) -> None:
    named = [(name, seed + at) for name in sorted(cases.MAKERS) for at in range(SEEDS)]
    made = [cases.case(*one) for one in named]
    answers = tflite([(data, rows, count, False) for data, rows, count in made])
    for one, (data, rows, count), (expected, _) in zip(named, made, answers, strict=True):
        assert_native_gives(expected, data, rows, count, str(one))


@pytest.mark.data
def test_tflite_mlperf_tiny_models_equal_the_native_executor_under_its_profile(
    data_file: Callable[[str], Path], seed: int
) -> None:
    asked = []
    for name, count in TINY.items():
        data = data_file(f"mlperf_tiny/{name}").read_bytes()
        size = Model.load(data, backend="native").input_size
        rows = cases.Chance(f"{name} {seed}").codes(count * size)
        asked.append((data, rows, count, name.startswith("ad01")))
    for (data, rows, count, _), (expected, _), name in zip(asked, tflite(asked), TINY, strict=True):
        assert_native_gives(expected, data, rows, count, name)


def test_tflite_model_is_tried_in_a_child_and_says_what_runs_it(seed: int) -> None:
    data, rows = models.write([16, 8, 4], seed), models.random_rows(16, 5, seed)
    [(expected, about)] = tflite([(data, rows, 5, True)])
    assert_native_gives(expected, data, rows, 5, "mlp")
    assert (about["backend"], about["profile"]) == ("tflite-runtime", "tflite-double")


def fake_runtime(home: Path, at_load: str) -> None:
    """A package that imports as tflite-runtime does, and then does what is given."""
    package = home / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(
        "import enum\n"
        "OpResolverType = enum.Enum('OpResolverType', 'AUTO BUILTIN_REF')\n"
        "class Interpreter:\n"
        "    def __init__(self, **options):\n"
        f"        {at_load}\n"
    )


@pytest.mark.parametrize(
    "at_load",
    [
        "raise SystemError('<built-in method CreateWrapperFromBuffer> returned a result with an "
        "exception set') from AttributeError('_ARRAY_API not found')",
        "raise ImportError('numpy.core.multiarray failed to import')",
    ],
    ids=["as of numpy 2", "numpy broken"],
)
def test_tflite_beside_numpy_2_is_unavailable_in_one_line_and_the_model_before_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at_load: str, seed: int
) -> None:
    """Import alone succeeds then; what fails is making an interpreter."""
    fake_runtime(tmp_path, at_load)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    data, rows = models.write([16, 8, 4], seed), models.random_rows(16, 5, seed)
    before = Model.load(data)
    expected = before.run_batch(rows, 5)
    for load in (
        lambda: Model.load(data, backend="tflite", profile="tflite-double"),
        lambda: Interpreter(data),
    ):
        with pytest.raises(Unavailable, match=r"numpy.*edgecore\[tflite\]") as caught:
            load()
        assert "\n" not in str(caught.value)
    assert before.run_batch(rows, 5) == expected


def test_tflite_itself_beside_the_numpy_2_of_here_is_unavailable_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> None:
    """The real package, which does not mind being imported there."""
    numpy = pytest.importorskip("numpy")
    python = os.environ.get("EDGECORE_TFLITE_PYTHON", "")
    if not python or numpy.__version__.startswith("1."):
        pytest.skip("tflite-runtime and a numpy 2: not both are here")
    found = next(Path(python).parent.parent.glob("lib/python*/site-packages/tflite_runtime"))
    (tmp_path / "tflite_runtime").symlink_to(found)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Unavailable, match=r"numpy 2.*edgecore\[tflite\]"):
        Model.load(models.write([4, 2], seed), backend="tflite", profile="tflite-double")
