"""Tree ensembles without the libraries that grow them: the vectors read by what their page alone
says (docs/formats/tree-ensemble.md), models written by hand in each library's form, refusals."""

from __future__ import annotations

import json
import math
import random
import struct
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.tree_sources import LIGHTGBM_ZERO, _not_above_f32, source_of
from edgecore.trees import Source, Tree, TreeEnsemble, convert

VECTORS = Path(__file__).resolve().parents[2] / "docs/formats/vectors/tree-ensemble.txt"
NAN, INF = math.nan, math.inf


def f32(value: float) -> float:
    return array("f", [value])[0]


def doubles(text: str) -> list[float]:
    return array("d", bytes.fromhex(text)).tolist()


class Page:
    """A reader that knows the page, and computes one comparison after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4
        _, self.not_above, self.isolation, _, _ = self.take("HBBII")
        wide_values, wide_leaves, self.width = self.take("BBH")
        self.features, outputs, trees, splits, thresholds = self.take("IIIII")
        (self.divisor,) = self.take("d")
        self.base = self.take(f"{outputs}d")
        counts = self.take(f"{self.features}H")
        flat = iter(self.take(f"{thresholds}{'d' if wide_values else 'f'}"))
        self.thresholds = [[next(flat) for _ in range(count)] for count in counts]
        self.targets = self.take(f"{trees}H")
        self.leaves = 0
        self.trees = [self.tree() for _ in range(trees)]
        assert self.leaves == splits + trees
        self.values = self.take(f"{self.leaves * self.width}{'d' if wide_leaves else 'f'}")
        self.narrow, self.narrow_sum = not wide_values, not wide_leaves
        assert self.at == len(data) - 4

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def tree(self) -> Any:
        (rank,) = self.take("H")
        if not rank:
            self.leaves += 1
            return self.leaves - 1
        (slot,) = self.take("H")
        return slot // 2, self.thresholds[slot // 2][rank - 1], slot % 2, self.tree(), self.tree()

    def margins(self, row: list[float]) -> list[float]:
        values = [f32(value) if self.narrow else value for value in row]
        sums = list(self.base)
        for node, target in zip(self.trees, self.targets, strict=True):
            while isinstance(node, tuple):
                feature, threshold, missing_right, left, right = node
                value = values[feature]
                if math.isnan(value):
                    node = right if missing_right else left
                elif value < threshold or (self.not_above and value == threshold):
                    node = left
                else:
                    node = right
            for k in range(self.width):
                value = sums[target + k] + self.values[node * self.width + k]
                sums[target + k] = f32(value) if self.narrow_sum else value
        return [value / self.divisor for value in sums]


def vectors() -> dict[str, tuple[bytes, list[dict[str, list[float]]]]]:
    found: dict[str, tuple[bytes, list[dict[str, list[float]]]]] = {}
    name = ""
    for line in VECTORS.read_text().splitlines():
        words = line.split()
        if words[0] == "model":
            name = words[1]
        elif words[0] == "bytes":
            found[name] = bytes.fromhex(words[1]), []
        elif words[0] == "row":
            found[name][1].append(
                {key: doubles(text) for key, text in zip(words[::2], words[1::2], strict=True)}
            )
    return found


@pytest.mark.parametrize("name", vectors())
def test_trees_vectors_give_the_margins_of_their_library(name: str) -> None:
    data, rows = vectors()[name]
    page, made = Page(data), TreeEnsemble.load(data)
    for row in rows:
        assert page.margins(row["row"]) == row["margins"]
        assert made.margins(array("d", row["row"])).tolist() == [row["margins"]]
        if "score" in row:
            assert made.scores([row["row"]]) == row["score"]
            assert abs(row["score"][0] / 2 ** -row["margins"][0] - 1) < 2**-51
    together = made.margins([row["row"] for row in rows])
    assert together.shape == (len(rows), made.outputs)
    assert together.tolist() == [row["margins"] for row in rows]


def random_source(chance: random.Random) -> Source:
    """Trees of any shape over few thresholds, so that ties are frequent."""
    narrow = chance.random() < 0.5
    width = chance.choice([1, 1, 3])
    outputs = width if width > 1 else chance.randint(1, 3)
    features = chance.randint(1, 5)
    grid = [f32(chance.gauss(0, 1)) for _ in range(9)] + [0.0, INF, 1.0]
    trees = []
    for _ in range(chance.randint(1, 20)):
        columns: list[list[Any]] = [[], [], [], [], [], []]
        waiting = 1
        for _ in range(100):
            if not waiting:
                break
            waiting -= 1
            at = len(columns[0])
            split = chance.random() < 0.6 and at < 30
            left = at + waiting + 1 if split else -1
            node = (
                chance.randrange(features), chance.choice(grid), left, left + 1,
                chance.random() < 0.5, tuple(f32(chance.gauss(0, 1)) for _ in range(width)),
            )  # fmt: skip
            for column, part in zip(columns, node, strict=True):
                column.append(part)
            waiting += 2 * split
        trees.append(Tree(0 if width > 1 else chance.randrange(outputs), *columns))
    return Source(
        trees,
        features=features,
        base=[f32(chance.gauss(0, 1)) for _ in range(outputs)],
        divisor=chance.choice([1.0, 3.0]),
        less=chance.random() < 0.5,
        narrow_inputs=narrow,
        narrow_leaves=chance.random() < 0.5,
    )


def test_trees_of_any_shape_are_computed_as_the_page_says() -> None:
    chance = random.Random(77)
    for _ in range(120):
        source = random_source(chance)
        data = source.to_bytes()
        assert source.to_bytes() == data
        page, made = Page(data), TreeEnsemble.load(data)
        ties = [v for of in page.thresholds for v in of] or [0.0]
        special = [NAN, INF, -INF, 0.0, -0.0, 1e300, 5e-324, *ties]
        rows = [[chance.choice(special) for _ in range(made.features)] for _ in range(30)]
        assert made.margins(rows).tolist() == [page.margins(row) for row in rows]


# ---------------------------------------------------------------- the libraries' forms


def xgboost_json(**learner: Any) -> dict[str, Any]:
    """One stump, on feature 1 at 0.5, and one leaf."""
    stump = {
        "tree_param": {"size_leaf_vector": "1"}, "split_indices": [1, 0, 0],
        "split_conditions": [0.5, 0.1, -0.2], "left_children": [1, -1, -1],
        "right_children": [2, -1, -1], "default_left": [1, 0, 0], "split_type": [0, 0, 0],
    }  # fmt: skip
    leaf = {
        "tree_param": {}, "split_indices": [0], "split_conditions": [0.3], "left_children": [-1],
        "right_children": [-1], "default_left": [0],
    }  # fmt: skip
    model = {"trees": [stump, leaf], "tree_info": [0, 0], "iteration_indptr": [0, 1, 2]}
    return {
        "learner": {
            "learner_model_param": {"base_score": "5E-1", "num_class": "0", "num_feature": "2"},
            "objective": {"name": "reg:squarederror"},
            "gradient_booster": {"name": "gbtree", "model": model},
        }
        | learner
    }


def test_trees_of_xgboost_json_are_summed_in_f32_from_the_base() -> None:
    made = TreeEnsemble.load(convert(json.dumps(xgboost_json())))
    left = f32(f32(0.5 + f32(0.1)) + f32(0.3))
    right = f32(f32(0.5 + f32(-0.2)) + f32(0.3))
    rows = [[0, 0.5], [0, 0.49999999], [0, 0.4999], [9, NAN], [9, INF], [9, -INF]]
    expected = [right, right, left, left, right, left]  # 0.49999999 is 0.5 in f32
    assert made.margins(rows).tolist() == [[value] for value in expected]


def test_trees_of_an_xgboost_model_end_at_its_best_iteration() -> None:
    whole = json.dumps(xgboost_json(attributes={"best_iteration": "0"}))
    booster = SimpleNamespace(save_raw=lambda form: whole.encode() if form == "json" else b"")
    model = SimpleNamespace(get_booster=lambda: booster, missing=NAN)
    assert len(source_of(model).trees) == 1
    assert len(source_of(booster).trees) == 2
    with pytest.raises(Incompatible, match="missing=0"):
        convert(SimpleNamespace(get_booster=lambda: booster, missing=0))


def test_trees_of_lightgbm_take_tiny_values_for_zero_and_nan_as_trained() -> None:
    def stump(threshold: float, missing: str) -> dict[str, Any]:
        return {
            "num_cat": 0,
            "tree_structure": {
                "split_feature": 0, "threshold": threshold, "decision_type": "<=",
                "default_left": False, "missing_type": missing,
                "left_child": {"leaf_value": 1.0}, "right_child": {"leaf_value": 2.0},
            },
        }  # fmt: skip

    def margins(threshold: float, missing: str = "NaN") -> list[float]:
        model = {
            "num_tree_per_iteration": 1, "max_feature_idx": 0,
            "tree_info": [stump(threshold, missing)],
        }  # fmt: skip
        rows = [[-1e-36], [1e-36], [LIGHTGBM_ZERO], [2e-35], [-2e-35], [NAN], [INF]]
        made = TreeEnsemble.load(convert(model)).margins(rows).tolist()
        return [value for (value,) in made]

    assert margins(0.0) == [1, 1, 1, 2, 1, 2, 2]
    assert margins(-LIGHTGBM_ZERO) == [2, 2, 2, 2, 1, 2, 2]
    assert margins(0.0, "None") == [1, 1, 1, 2, 1, 1, 2]
    assert margins(-1.0, "None") == [2, 2, 2, 2, 2, 2, 2]
    assert margins(1e300) == [1, 1, 1, 1, 1, 2, 1]  # a dump's infinity
    with pytest.raises(Incompatible, match="zero_as_missing"):
        margins(0.0, "Zero")


def test_trees_thresholds_of_f64_part_f32_values_where_they_did() -> None:
    chance = random.Random(5)
    special = [0.0, -1e-50, 1e-50, 1e300, -1e300, INF, -INF, 3.4028235677973366e38]
    for _ in range(3000):
        wide = chance.choice(
            [chance.gauss(0, 1), chance.uniform(-1, 1) * 10 ** chance.uniform(-46, 39)]
        )
        for threshold in [wide, f32(wide), special[chance.randrange(len(special))]]:
            made = _not_above_f32(threshold)
            assert f32(made) == made
            assert made <= threshold
            bits = struct.unpack("<i", struct.pack("<f", made))[0]
            if made != INF:
                step = bits - 1 if bits < 0 else bits + 1
                above = 2.0**-149 if made == 0 else struct.unpack("<f", struct.pack("<i", step))[0]
                assert above > threshold


# ---------------------------------------------------------------- refusals


def test_trees_of_other_things_are_refused_by_the_right_word() -> None:
    for model, word in [
        ({"a": 1}, "neither"),
        (SimpleNamespace(), "SimpleNamespace"),
        (xgboost_json(gradient_booster={"name": "dart"}), "dart"),
        (xgboost_json(objective={"name": "my:own"}), "my:own"),
    ]:
        with pytest.raises(Incompatible, match=word):
            convert(model)
    with pytest.raises(Invalid, match="no JSON"):
        convert("tree\nversion=v4\n")
    data = bytearray(convert(xgboost_json()))
    made = TreeEnsemble.load(data)
    wide: Any = memoryview(array("d", [1.0] * 12)).cast("B").cast("d", (3, 4))
    for rows in (array("d", [1.0] * 3), array("i", [1, 2]), wide, [[1.0], [1.0, 2.0, 3.0]]):
        with pytest.raises(Invalid):
            made.margins(rows)
    assert made.margins([]).nbytes == 0
    with pytest.raises(Incompatible, match="isolation"):
        made.scores([[0.0, 0.0]])
    data[60] ^= 1
    with pytest.raises(Corrupt, match="checksum"):
        TreeEnsemble.load(data)


def test_trees_that_the_format_cannot_hold_are_refused() -> None:
    def source(thresholds: list[float], leaf: float = 1.0) -> Source:
        trees = [Tree(0, [0] * 3, [t] * 3, [1, -1, -1], [2, -1, -1], [False] * 3, [(leaf,)] * 3)
                 for t in thresholds]  # fmt: skip
        return Source(trees, features=1, base=[0.0])

    many = [float(value) for value in range(65534)]
    assert TreeEnsemble.load(source(many).to_bytes()).margins([[INF]]).tolist() == [[65534.0]]
    for bad in (source([*many, -1.0]), source([NAN]), source([0.0], INF)):
        with pytest.raises(Incompatible):
            bad.to_bytes()
