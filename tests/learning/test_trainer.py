"""Training and the written model: resumed, restored, quantised, read by the field's runtime."""

from __future__ import annotations

import random
from array import array
from itertools import pairwise

import pytest

from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.inference import Model
from edgecore.learning import Trainer

WIDTHS = (6, 8, 3, 8, 6)


def waves(rows: int, width: int = WIDTHS[0], seed: int = 5) -> array[float]:
    """Rows that lie near a curve, so that a bottleneck can learn them."""
    chance = random.Random(seed)
    out = array("f")
    for _ in range(rows):
        t = chance.random() * 4 - 2
        out.extend(t * (c + 1) / width + chance.random() * 0.1 for c in range(width))
    return out


def trainer(rows: int = 200, seed: int = 3) -> Trainer:
    return Trainer(WIDTHS, waves(rows), seed=seed)


def test_trainer_stopped_and_restored_goes_on_bit_identically() -> None:
    whole = trainer()
    whole.step(60)
    for cut in (0, 1, 6, 7, 30, 60):
        first = trainer()
        first.step(cut)
        second = trainer()
        second.restore(first.state())
        second.step(60 - cut)
        assert second.steps == 60
        assert second.parameters() == whole.parameters()
        assert second.state() == whole.state()


def test_trainer_hostile_state_is_refused_and_changes_nothing(seed: int) -> None:
    chance = random.Random(seed)
    mine = trainer()
    mine.step(5)
    good = mine.state()
    for _ in range(200):
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        with pytest.raises(Corrupt):
            mine.restore(bytes(bad[: chance.choice([len(bad), chance.randrange(len(bad))])]))
    with pytest.raises(Corrupt):
        mine.restore(b"")
    with pytest.raises(Incompatible, match="other data"):
        trainer(rows=201).restore(good)
    with pytest.raises(Incompatible, match="other data"):
        trainer(seed=4).restore(good)
    assert mine.state() == good


def test_trainer_refuses_what_does_not_fit() -> None:
    with pytest.raises(Invalid):
        Trainer(WIDTHS, waves(10)[:-1])
    with pytest.raises(Invalid):
        Trainer((6, 0, 6), waves(10))
    with pytest.raises(Invalid, match="finite"):
        Trainer(WIDTHS, array("f", [float("nan")] * 60))


def forward(parameters: bytes, row: list[float]) -> list[float]:
    """The network in plain doubles."""
    numbers = array("f")
    numbers.frombytes(parameters)
    at = 0
    for layer, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
        weights, biases = numbers[at : at + inputs * outputs], at + inputs * outputs
        row = [
            numbers[biases + o]
            + sum(w * x for w, x in zip(weights[o * inputs : (o + 1) * inputs], row, strict=True))
            for o in range(outputs)
        ]
        if layer + 2 < len(WIDTHS):
            row = [max(0.0, value) for value in row]
        at = biases + outputs
    return row


def test_learning_quantised_model_reconstructs_like_the_f32_one() -> None:
    mine = trainer(rows=400)
    mine.step(1500)
    model = Model.load(mine.quantise("waves"), backend="native")
    scale, zero = model.input_quantisation
    scale_out, zero_out = model.output_quantisation
    exact_error = own_error = distance = 0.0
    rows = waves(100, seed=6)
    for start in range(0, len(rows), WIDTHS[0]):
        row = list(rows[start : start + WIDTHS[0]])
        codes = bytes(max(-128, min(127, round(x / scale) + zero)) & 0xFF for x in row)
        output = memoryview(model.run(codes)).cast("b")
        found = [(code - zero_out) * scale_out for code in output]
        exact = forward(mine.parameters(), row)
        exact_error += sum((a - b) ** 2 for a, b in zip(row, exact, strict=True))
        own_error += sum((a - b) ** 2 for a, b in zip(row, found, strict=True))
        distance += sum((a - b) ** 2 for a, b in zip(exact, found, strict=True))
    power = sum(x * x for x in rows)
    assert exact_error < 0.02 * power  # it learned
    assert distance < 0.002 * power  # and quantising it moved its answers little
    assert own_error < exact_error + 0.004 * power


def test_learning_model_that_is_always_zero_inside_is_written_and_loads() -> None:
    parameters = array("f", [0.0] * sum((a + 1) * b for a, b in pairwise(WIDTHS)))
    parameters[-1] = 7.5  # a bias of the last layer
    mine = Trainer(WIDTHS, waves(40), parameters=parameters)
    model = Model.load(mine.quantise("dead"), backend="native")
    scale, zero = model.output_quantisation
    codes = memoryview(model.run(bytes(WIDTHS[0]))).cast("b")
    assert [(code - zero) * scale for code in codes[:5]] == [0.0] * 5
    assert abs((codes[5] - zero) * scale - 7.5) < 0.3


def test_learning_litert_computes_the_same_bytes(seed: int) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    numpy = pytest.importorskip("numpy")
    mine = trainer(rows=300)
    mine.step(300)
    data = mine.quantise("waves")
    model = Model.load(data, backend="native", profile="litert-single")
    theirs = interpreter.Interpreter(
        model_content=data,
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
    )
    theirs.allocate_tensors()
    inputs, outputs = theirs.get_input_details()[0], theirs.get_output_details()[0]
    for name, ours in (("input", model.input_quantisation), ("output", model.output_quantisation)):
        details = inputs if name == "input" else outputs
        assert details["quantization"] == pytest.approx(ours)
    chance = random.Random(seed)
    for _ in range(500):
        codes = chance.randbytes(WIDTHS[0])
        theirs.set_tensor(inputs["index"], numpy.frombuffer(codes, numpy.int8).reshape(1, -1))
        theirs.invoke()
        assert theirs.get_tensor(outputs["index"]).tobytes() == model.run(codes)


def test_learning_same_parameters_give_the_same_file() -> None:
    one, two = trainer(), trainer()
    one.step(50), two.step(50)
    assert one.quantise("waves") == two.quantise("waves")
