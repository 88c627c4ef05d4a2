"""Every operator natively, to the bit as the field's reference kernels compute it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecore.inference import Model

pytest.importorskip("flatbuffers")
sys.path.insert(0, str(Path(__file__).parent))
cases = importlib.import_module("operator_cases")
graphs = importlib.import_module("graphs")
runtimes = importlib.import_module("runtimes")

SEEDS = 12  # of each operator
TINY = {
    "ad01_int8.tflite": 1000, "kws_ref_model_int8.tflite": 1000, "sww_ref_model.tflite": 1000,
    "ic01_resnet8_int8.tflite": 1000, "vww_96_int8.tflite": 1000,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(cases.MAKERS))
def test_operator_random_graphs_equal_the_reference_kernels(name: str, seed: int) -> None:
    for at in range(SEEDS):
        data, rows, count = cases.case(name, seed + at)
        expected = runtimes.litert(data, rows)
        for model in runtimes.served(data):
            assert model.describe()["ops"] == [name]
            found = model.run_batch(rows, count)
            assert found == expected, (seed + at, model.describe()["isa"])
            assert model.run(rows[: model.input_size]) == expected[: model.output_size]


@pytest.mark.data
@pytest.mark.parametrize("name", TINY)
def test_operator_mlperf_tiny_models_equal_the_reference_kernels(
    name: str, data_file: Callable[[str], Path], seed: int
) -> None:
    data, count = data_file(f"mlperf_tiny/{name}").read_bytes(), TINY[name]
    models = runtimes.served(data)
    rows = cases.Chance(f"{name} {seed}").codes(count * models[0].input_size)
    expected = runtimes.litert(data, rows)
    for model in models:
        if model.describe()["isa"] != "portable" or model.input_size < 10_000:
            assert model.run_batch(rows, count) == expected, model.describe()["isa"]


@pytest.mark.data
def test_operator_mlperf_tiny_real_inputs_equal_the_reference_kernels(
    data_file: Callable[[str], Path],
) -> None:
    numpy = pytest.importorskip("numpy")
    data = data_file("mlperf_tiny/sww_ref_model.tflite").read_bytes()
    samples = numpy.load(data_file("mlperf_tiny/sww_calibration_samples.npz"))
    models = runtimes.served(data)
    scale, zero = models[0].input_quantisation
    met = 0
    for real in samples.values():
        if real.size % models[0].input_size:
            continue
        codes = numpy.clip(numpy.round(real / scale) + zero, -128, 127).astype(numpy.int8)
        count = codes.size // models[0].input_size
        expected = runtimes.litert(data, codes.tobytes())
        for model in models:
            assert model.run_batch(codes.tobytes(), count) == expected
        met += count
    assert met >= 40


def test_operator_a_near_tie_of_a_real_is_rounded_as_the_runtime_rounds() -> None:
    """Sums whose products lie next to a half, and on it: what tells the roundings apart."""
    scales = cases.f32(0.0123), cases.f32(1.1e-5), cases.f32(1.7)
    real = scales[0] * scales[1] / scales[2]
    near = [round((k + 0.5) / real) + d for k in range(-80, 80) for d in range(-3, 4)]
    for (before, weight, after), sums in (
        (scales, near),
        ((1.0, 1.0, 2.0), list(range(-255, 256))),
    ):
        graph = graphs.Graph()
        source = graph.tensor([1, 1], scale=before)
        weights = graph.tensor([len(sums), 1], scale=weight, data=bytes(len(sums)))
        bias = graph.tensor([len(sums)], graphs.INT32, scale=before * weight, data=cases.ints(sums))
        target = graph.tensor([1, len(sums)], scale=after)
        graph.add("FULLY_CONNECTED", [source, weights, bias], target, {0: b"\0"})
        data = graph.build(source, target)
        expected = runtimes.litert(data, b"\0")
        for model in runtimes.served(data):
            assert model.run(b"\0") == expected, model.describe()["isa"]


def test_operator_models_in_f32_agree_with_the_reference_to_a_last_place(seed: int) -> None:
    numpy = pytest.importorskip("numpy")
    data, shape = float_network(seed)
    model = Model.load(data, backend="native")
    assert model.dtypes == ("float32", "float32")
    rows = numpy.random.default_rng(seed).normal(size=(9, *shape)).astype("<f4")
    expected = numpy.frombuffer(runtimes.litert(data, rows.tobytes()), "<f4")
    found = numpy.frombuffer(model.run_batch(rows.tobytes(), 9), "<f4")
    assert numpy.abs(found - expected).max() < 1e-6
    assert found.tobytes() == b"".join(
        model.run(row.tobytes()) for row in rows
    )  # the same bits one at a time


def float_network(seed: int) -> tuple[bytes, list[int]]:
    """Filters, a sum, a pool and a classifier in f32."""
    numpy = pytest.importorskip("numpy")
    chance = numpy.random.default_rng(seed)
    graph = graphs.Graph()

    def weights(*shape: int) -> int:
        data = (chance.normal(size=shape) * 0.4).astype("<f4").tobytes()
        return int(graph.tensor(list(shape), graphs.FLOAT32, data=data))

    def step(name: str, inputs: list[int], shape: list[int], **options: Any) -> int:
        numbers = {int(key[1:]): value for key, value in options.items()}
        return int(graph.add(name, inputs, graph.tensor(shape, graphs.FLOAT32), numbers))

    shape = [1, 8, 9, 3]
    source = graph.tensor(shape, graphs.FLOAT32)
    at = step("CONV_2D", [source, weights(6, 3, 3, 3), weights(6)], [1, 4, 5, 6],
              o0=b"\0", o1=2, o2=2, o3=b"\1", o4=1, o5=1)  # fmt: skip
    next_ = step("DEPTHWISE_CONV_2D", [at, weights(1, 3, 3, 6), weights(6)], [1, 4, 5, 6],
                 o0=b"\0", o1=1, o2=1, o3=1, o4=b"\3", o5=1, o6=1)  # fmt: skip
    at = step("ADD", [next_, at], [1, 4, 5, 6], o0=b"\0")
    at = step("AVERAGE_POOL_2D", [at], [1, 2, 2, 6], o0=b"\1", o1=2, o2=2, o3=2, o4=2, o5=b"\0")
    to = graph.tensor([2], graphs.INT32, data=cases.ints([1, 24]))
    at = step("TANH", [step("RESHAPE", [at, to], [1, 24])], [1, 24])
    at = step("FULLY_CONNECTED", [at, weights(5, 24), weights(5)], [1, 5], o0=b"\0")
    return graph.build(source, step("SOFTMAX", [at], [1, 5], o0=1.0)), shape


def test_operator_reals_become_codes_and_back_as_the_reference_does(seed: int) -> None:
    numpy = pytest.importorskip("numpy")
    graph = graphs.Graph()
    source = graph.tensor([1, 256], graphs.FLOAT32)
    first = graph.tensor([1, 256], scale=0.0373, zero=-11)
    second = graph.tensor([1, 256], scale=0.05, zero=3)
    target = graph.tensor([1, 256], graphs.FLOAT32)
    graph.add("QUANTIZE", [source], first)
    graph.add("QUANTIZE", [first], second)
    graph.add("DEQUANTIZE", [second], target)
    data = graph.build(source, target)
    rows = (numpy.random.default_rng(seed).normal(size=(50, 256)) * 4).astype("<f4")
    rows[0] = (numpy.arange(256) - 127.5).astype("<f4") * numpy.float32(0.0373)  # ties
    expected = runtimes.litert(data, rows.tobytes())
    for model in runtimes.served(data):
        assert model.run_batch(rows.tobytes(), 50) == expected
