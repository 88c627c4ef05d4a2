"""The native executor against the field's reference kernels and a plain integer reference."""

from __future__ import annotations

import importlib
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecore import inference, tflite_writer
from edgecore._core import inference as core
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid, Unavailable
from edgecore.inference import PROFILES, Interpreter, Model

pytest.importorskip("flatbuffers")
sys.path.insert(0, str(Path(__file__).parent))
models = importlib.import_module("written_models")
graphs = importlib.import_module("graphs")
runtimes = importlib.import_module("runtimes")

SHAPES = [[16, 32, 16, 1], [64, 64, 64, 8], [1, 1], [3, 5, 2], [17, 33, 65, 31], [130, 16]]


@pytest.mark.parametrize("widths", SHAPES, ids=lambda w: "-".join(map(str, w)))
@pytest.mark.parametrize("profile", PROFILES)
def test_model_written_mlp_equals_the_integer_reference_on_every_kernel(
    widths: list[int], profile: str, seed: int
) -> None:
    layers, tensors = models.random_layers(widths, random.Random(seed))
    data = models.write_tflite(layers, tensors, "written")
    rows = models.random_rows(widths[0], 12, seed)
    expected = [
        code
        for i in range(0, len(rows), widths[0])
        for code in models.reference(layers, tensors, rows[i : i + widths[0]], profile)
    ]
    for model in runtimes.served(data, profile):
        found = model.run_batch(rows, 12)
        assert [models.signed(code) for code in found] == expected, model.describe()
        for i in range(12):
            one = model.run(rows[i * widths[0] : (i + 1) * widths[0]])
            assert one == found[i * widths[-1] : (i + 1) * widths[-1]]


@pytest.mark.parametrize("widths", SHAPES, ids=lambda w: "-".join(map(str, w)))
def test_model_written_mlp_equals_litert_reference_kernels(widths: list[int], seed: int) -> None:
    data = models.write(widths, seed)
    rows = models.random_rows(widths[0], 40, seed)
    expected = runtimes.litert(data, rows, "BUILTIN_REF")
    for model in runtimes.served(data, "litert-single"):
        assert model.run_batch(rows, 40) == expected, model.describe()


def test_model_profiles_differ_and_say_so(seed: int) -> None:
    differing = 0
    for i in range(10):
        data = models.write([64, 64, 64, 8], seed + i)
        rows = models.random_rows(64, 20, seed + i)
        single, double = (Model.load(data, profile=profile) for profile in PROFILES)
        differing += single.run_batch(rows, 20) != double.run_batch(rows, 20)
        assert [single.describe()["profile"], double.describe()["profile"]] == list(PROFILES)
    assert differing


@pytest.mark.data
@pytest.mark.parametrize("resolver", ["BUILTIN_REF", "AUTO"])
def test_model_ad01_real_windows_equal_litert(
    data_file: Callable[[str], Path], resolver: str
) -> None:
    numpy = pytest.importorskip("numpy")
    data = data_file("mlperf_tiny/ad01_int8.tflite").read_bytes()
    clip = data_file("mlperf_tiny/ad01_sample_normal_id_01_f32_640.bin").read_bytes()
    frames = numpy.frombuffer(clip, "<f4").reshape(-1, 128)
    windows = numpy.stack([frames[i : i + 5].reshape(-1) for i in range(len(frames) - 4)])
    scale, zero = Model.load(data).input_quantisation
    rows = numpy.clip(numpy.round(windows / scale) + zero, -128, 127).astype(numpy.int8).tobytes()
    expected = runtimes.litert(data, rows, resolver)
    for model in runtimes.served(data, "litert-single"):
        assert model.run_batch(rows, len(windows)) == expected, model.describe()


def test_model_golden_vectors_accept_this_backend_and_refuse_other_outputs(seed: int) -> None:
    data = models.write([16, 8, 4], seed)
    model = Model.load(data)
    rows = models.random_rows(16, 16, seed)
    outputs = model.run_batch(rows, 16)
    model.check_golden(rows, blake3(outputs))
    changed = bytes([outputs[0] ^ 1]) + outputs[1:]
    with pytest.raises(Incompatible, match="golden vectors: native"):
        model.check_golden(rows, blake3(changed))
    with pytest.raises(Invalid):
        model.check_golden(rows[:-1], blake3(outputs))
    manifest = {"golden_output": blake3(outputs), "profile": "litert-single"}
    Model.load(data, manifest, golden=rows)
    with pytest.raises(Incompatible, match="golden vectors"):
        Model.load(data, manifest | {"golden_output": blake3(changed)}, golden=rows)
    with pytest.raises(Invalid, match="golden_output"):
        Model.load(data, golden=rows)


def test_model_manifest_digest_or_profile_wrong_then_refused(seed: int) -> None:
    data = models.write([4, 2], seed)
    good = {"objects": {"model": [blake3(data), len(data)]}, "profile": "tflite-double"}
    assert Model.load(data, good).describe()["profile"] == "tflite-double"
    with pytest.raises(Corrupt, match="digest"):
        Model.load(data, good | {"objects": {"model": [blake3(b""), 0]}})
    with pytest.raises(Incompatible, match="profile"):
        Model.load(data, good | {"profile": "xnn-fp32"})


def test_model_wrong_input_size_or_bytes_then_invalid_or_corrupt(seed: int) -> None:
    model = Model.load(models.write([4, 2], seed))
    assert (model.input_size, model.output_size) == (4, 2)
    for call in (lambda: model.run(b"123"), lambda: model.run_batch(b"12345678", 3)):
        with pytest.raises(Invalid, match="rows of 4 int8"):
            call()
    with pytest.raises(Corrupt):
        Model.load(b"not a model")
    with pytest.raises(Invalid):
        Model.load(b"", backend="abacus")


def test_model_operator_not_served_then_incompatible_natively(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(tflite_writer, "FULLY_CONNECTED", 39)  # TRANSPOSE
    with pytest.raises(Incompatible, match="operator 39"):
        Model.load(models.write([4, 2], seed), backend="native")


def transposed() -> bytes:
    """A network with an operator that is not served natively."""
    graph = graphs.Graph()
    like = {"scale": 0.1, "zero": 3}
    source, target = graph.tensor([1, 4, 6], **like), graph.tensor([1, 6, 4], **like)
    order = graph.tensor([3], graphs.INT32, data=bytes([0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]))
    graph.add("TRANSPOSE", [source, order], target)
    return bytes(graph.build(source, target))


def test_model_auto_serves_what_is_not_native_by_litert_as_its_interpreter_does(seed: int) -> None:
    pytest.importorskip("ai_edge_litert")
    data = transposed()
    with pytest.raises(Incompatible, match="operator"):
        Model.load(data, backend="native")
    model = Model.load(data)
    assert model.describe()["backend"] == "litert"
    rows = models.random_rows(model.input_size, 5, seed)
    assert model.run_batch(rows, 5) == runtimes.litert(data, rows, "AUTO")
    with pytest.raises(Incompatible, match="round"):
        Model.load(data, backend="litert", profile="tflite-double")


def test_model_litert_and_native_agree_on_a_written_mlp(seed: int) -> None:
    pytest.importorskip("ai_edge_litert")
    data = models.write([64, 64, 64, 8], seed)
    native, foreign = Model.load(data, backend="native"), Model.load(data, backend="litert")
    assert foreign.core is not None
    assert foreign.input_quantisation == native.input_quantisation
    assert foreign.output_quantisation == native.output_quantisation
    rows = models.random_rows(64, 20, seed)
    assert foreign.run_batch(rows, 20) == native.run_batch(rows, 20)
    assert foreign.run(rows[:64]) == native.run(rows[:64])


def test_model_that_leaves_its_rows_open_is_run_by_litert_one_row_at_a_time(seed: int) -> None:
    pytest.importorskip("ai_edge_litert")
    graph = graphs.Graph()
    like = {"scale": 0.1, "zero": 3, "any_batch": True}
    source, target = graph.tensor([1, 5, 3], **like), graph.tensor([1, 5, 3], **like)
    graph.add("RELU", [source], target)
    data = graph.build(source, target)
    native, foreign = Model.load(data, backend="native"), Model.load(data, backend="litert")
    assert (foreign.input_size, foreign.output_size) == (15, 15)
    rows = models.random_rows(15, 4, seed)
    assert foreign.run_batch(rows, 4) == native.run_batch(rows, 4)


def test_model_file_that_kills_the_runtime_is_refused_and_we_live(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> None:
    """The library named here ends the process that opens it, as a hostile file does."""
    compiler = shutil.which("cc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C compiler")
    package = tmp_path / "deadly"
    package.mkdir()
    (package / "__init__.py").touch()
    source = tmp_path / "deadly.c"
    source.write_text(
        "#include <signal.h>\n"
        "__attribute__((constructor)) static void die(void) { raise(SIGSEGV); }\n"
    )
    library = package / "libLiteRt.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", source, "-o", library], check=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(inference.PACKAGES, "litert", "deadly")
    with pytest.raises(Corrupt, match=r"does not survive it.*SIGSEGV"):
        Model.load(models.write([4, 2], seed), backend="litert")


def test_model_no_runtime_installed_then_unavailable(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setitem(inference.PACKAGES, "litert", "no_such_package")
    with pytest.raises(Unavailable, match=r"edgecore\[litert\]"):
        Model.load(models.write([4, 2], seed), backend="litert")
    with pytest.raises(Unavailable, match="LiteRT"):
        core.load_litert(b"", "/nowhere/libLiteRt.so")


def test_model_interpreter_backend_runs_as_the_runtime_does(seed: int) -> None:
    pytest.importorskip("ai_edge_litert.interpreter")
    data = models.write([16, 8, 4], seed)
    backend = Interpreter(data, "ai_edge_litert.interpreter")
    rows = models.random_rows(16, 6, seed)
    assert backend.run_batch(rows, 6) == runtimes.litert(data, rows, "BUILTIN_REF")
    assert backend.run(rows[:16]) == backend.run_batch(rows, 6)[:4]
    assert (backend.input_size, backend.output_size) == (16, 4)
    with pytest.raises(Invalid):
        backend.run(b"short")
    with pytest.raises(Incompatible):
        Interpreter(b"not a model", "ai_edge_litert.interpreter")


def test_model_describes_what_each_operator_costs_and_where_it_runs(seed: int) -> None:
    about = Model.load(models.write([16, 8, 4], seed)).describe()
    assert [one["op"] for one in about["operators"]] == ["FULLY_CONNECTED"] * 2
    assert [one["shape"] for one in about["operators"]] == [[1, 8], [1, 4]]
    assert [one["products"] for one in about["operators"]] == [16 * 8, 8 * 4]
    assert about["multiply_adds"] == 16 * 8 + 8 * 4
    assert about["packed_bytes"] == sum(one["packed_bytes"] for one in about["operators"]) > 160
    assert "core" in about["runs_on"]


def test_model_run_by_litert_says_so_and_tells_of_no_operators(seed: int) -> None:
    pytest.importorskip("ai_edge_litert")
    about = Model.load(models.write([16, 8, 4], seed), backend="litert").describe()
    assert (about["backend"], about["operators"], about["multiply_adds"]) == ("litert", [], 0)
    assert "XNNPACK" in about["runs_on"]


@pytest.mark.data
def test_model_multiply_adds_of_mlperf_tiny_are_those_of_their_shapes(
    data_file: Callable[[str], Path],
) -> None:
    for name, expected in (
        ("ad01_int8", 264_192), ("kws_ref_model_int8", 2_656_768), ("vww_96_int8", 7_489_664),
        ("ic01_resnet8_int8", 12_501_632), ("sww_ref_model", 826_368),
    ):  # fmt: skip
        about = Model.load(data_file(f"mlperf_tiny/{name}.tflite").read_bytes()).describe()
        assert about["multiply_adds"] == expected, name
