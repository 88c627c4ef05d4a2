"""What the models of xgboost, lightgbm and scikit-learn compute, read from a fitted model without
importing its library. Each function says the source's rule; anything else is refused by name.
"""

from __future__ import annotations

import math
import struct
from array import array

from edgecore.errors import Incompatible, Invalid
from edgecore.trees import Source, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

LIGHTGBM_ZERO = array("f", [1e-35])[0]  # lightgbm takes what is not beyond it for 0
LOGIT = ("binary:logistic", "reg:logistic")
LOG = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox")
IDENTITY = (
    "binary:hinge", "binary:logitraw", "multi:softmax", "multi:softprob", "rank:map", "rank:ndcg",
    "rank:pairwise", "reg:absoluteerror", "reg:linear", "reg:pseudohubererror",
    "reg:quantileerror", "reg:squarederror", "reg:squaredlogerror",
)  # fmt: skip


def source_of(model: Any) -> Source:
    """Finds out which library's model it is. Raises ``Incompatible`` for others."""
    if isinstance(model, bytes | bytearray | str):
        import json

        try:
            model = json.loads(model)
        except ValueError:
            raise Invalid(
                'trees: text that is no JSON of a model, as save_raw("json") or the dict '
                "of dump_model() are"
            ) from None
    if isinstance(model, dict):
        if "learner" in model:
            return xgboost_source(model)
        if "tree_info" in model:
            return lightgbm_source(model)
        raise Incompatible("trees: a dict that neither xgboost nor lightgbm makes")
    if hasattr(model, "get_booster"):
        return _xgboost_model(model)
    if hasattr(model, "save_raw"):
        return source_of(model.save_raw("json"))
    if hasattr(model, "booster_") or hasattr(model, "dump_model"):
        return lightgbm_source(getattr(model, "booster_", model).dump_model())
    return sklearn_source(model)


# ---------------------------------------------------------------- xgboost


def _xgboost_model(model: Any) -> Source:
    missing = getattr(model, "missing", None)
    if missing is not None and not math.isnan(missing):
        raise Incompatible(f"xgboost: missing={missing}; only NaN is missing here")
    import json

    whole = json.loads(model.get_booster().save_raw("json"))
    best = whole["learner"].get("attributes", {}).get("best_iteration")
    return xgboost_source(whole, None if best is None else int(best) + 1)


def xgboost_source(model: dict[str, Any], iterations: int | None = None) -> Source:
    """f32 values less than an f32 threshold go left; f32 leaves are added to the base in order.

    :param iterations: how many of the first ones are summed; all unless given.
    """
    learner = model["learner"]
    booster = learner["gradient_booster"]
    if booster["name"] != "gbtree":
        raise Incompatible(f"xgboost: booster {booster['name']!r}; only gbtree is held")
    shape = learner["learner_model_param"]
    outputs = max(1, int(shape["num_class"]), int(shape.get("num_target", 1)))
    trees = booster["model"]["trees"]
    targets = booster["model"]["tree_info"]
    if iterations is not None:
        indptr = booster["model"].get("iteration_indptr")
        if indptr is None:
            raise Incompatible("xgboost: stopped early, in a version that tells no iterations")
        trees = trees[: indptr[iterations]]
    made = [_xgboost_tree(tree, target) for tree, target in zip(trees, targets, strict=False)]
    text = str(shape["base_score"]).strip("[]")
    scores = [_f32(float(part)) for part in text.split(",")]
    name = learner["objective"]["name"]
    base = [_xgboost_margin(name, score) for score in scores]
    return Source(
        _some(made),
        features=int(shape["num_feature"]),
        base=base * outputs if len(base) == 1 else base,
        less=True,
        narrow_inputs=True,
        narrow_leaves=True,
    )


def _xgboost_tree(tree: dict[str, Any], target: int) -> Tree:
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise Incompatible("xgboost: leaves of many targets (multi_output_tree)")
    if any(tree.get("split_type", ())) or tree.get("categories_nodes"):
        raise Incompatible("xgboost: a categorical split")
    thresholds = array("f", tree["split_conditions"]).tolist()
    return Tree(
        target,
        tree["split_indices"],
        thresholds,
        tree["left_children"],
        tree["right_children"],
        [bool(left) for left in tree["default_left"]],
        [(value,) for value in thresholds],
    )


def _xgboost_margin(objective: str, score: float) -> float:
    """The base score before the link function, in f32 as xgboost computes it."""
    if objective in IDENTITY:
        return score
    if objective in LOG:
        return _f32(math.log(score))
    if objective in LOGIT:
        return _f32(-math.log(_f32(_f32(1.0 / score) - 1.0)))
    raise Incompatible(f"xgboost: the base score of objective {objective!r} is not known")


def _f32(value: float) -> float:
    return array("f", [value])[0]


# ---------------------------------------------------------------- lightgbm


def lightgbm_source(model: dict[str, Any]) -> Source:
    """f64 values not above a threshold go left; leaves are added to 0 in order, in f64; a forest's
    sum is divided by its iterations. NaN is 0 where training saw none."""
    outputs = int(model["num_tree_per_iteration"])
    made = []
    for at, info in enumerate(model["tree_info"]):
        if info.get("num_cat"):
            raise Incompatible("lightgbm: a categorical split")
        made.append(_lightgbm_tree(info["tree_structure"], at % outputs))
    mean = bool(model.get("average_output"))
    return Source(
        _some(made),
        features=int(model["max_feature_idx"]) + 1,
        base=[0.0] * outputs,
        divisor=float(len(made) // outputs) if mean else 1.0,
    )


def _lightgbm_tree(root: dict[str, Any], target: int) -> Tree:
    nodes = [root]
    rows: list[tuple[int, float, int, int, bool]] = []
    values = []
    for node in nodes:  # grows as children are found
        if "leaf_coeff" in node:
            raise Incompatible("lightgbm: linear leaves (linear_tree)")
        if "split_feature" in node:
            feature, missing_left = int(node["split_feature"]), _lightgbm_missing_left(node)
            left = len(nodes)
            rows.append((feature, _lightgbm_threshold(node), left, left + 1, missing_left))
            values.append((0.0,))
            nodes += (node["left_child"], node["right_child"])
        else:
            rows.append((0, 0.0, -1, -1, False))
            values.append((float(node["leaf_value"]),))
    features, thresholds, lefts, rights, missing = zip(*rows, strict=True)
    return Tree(target, features, thresholds, lefts, rights, missing, values)


def _lightgbm_threshold(node: dict[str, Any]) -> float:
    """The same for values that are not taken for 0; moved past all that are. A dump writes 1e300
    for infinity, which nothing is above."""
    value = float(node["threshold"])
    if value >= 1e300:
        return math.inf
    if 0.0 <= value < LIGHTGBM_ZERO:
        return LIGHTGBM_ZERO
    if -LIGHTGBM_ZERO <= value < 0.0:
        return math.nextafter(-LIGHTGBM_ZERO, -math.inf)
    return value


def _lightgbm_missing_left(node: dict[str, Any]) -> bool:
    if node["decision_type"] != "<=":
        raise Incompatible("lightgbm: a categorical split")
    if node["missing_type"] == "NaN":
        return bool(node["default_left"])
    if node["missing_type"] == "None":
        return float(node["threshold"]) >= 0.0
    raise Incompatible("lightgbm: zero_as_missing; only NaN is missing here")


# ---------------------------------------------------------------- scikit-learn


def sklearn_source(model: Any) -> Source:
    """By the name of the class, also of one derived from it."""
    readers = {
        "BaseGradientBoosting": _gradient_boosting,
        "BaseHistGradientBoosting": _hist_gradient_boosting,
        "IsolationForest": _isolation_forest,
        "BaseForest": _forest,
        "BaseDecisionTree": _forest,
    }
    for kind in type(model).__mro__:
        if kind.__name__ in readers:
            return readers[kind.__name__](model)
    raise Incompatible(f"trees: a model of class {type(model).__name__} is not known")


def _gradient_boosting(model: Any) -> Source:
    """f32 values; per stage, learning rate times leaf is added to what the initial model says."""
    initial = type(model.init_).__name__
    if initial not in ("DummyClassifier", "DummyRegressor", "str"):
        raise Incompatible(f"scikit-learn: boosting from an initial {initial}")
    import numpy as np

    features = int(model.n_features_in_)
    base = np.ravel(model._raw_predict_init(np.zeros((1, features), np.float32))).tolist()
    made = [
        _sklearn_tree(tree.tree_, target, tree.tree_.value[:, 0, 0] * model.learning_rate)
        for stage in model.estimators_
        for target, tree in enumerate(stage)
    ]
    return Source(_some(made), features=features, base=base, narrow_inputs=True)


def _hist_gradient_boosting(model: Any) -> Source:
    """f64 values; leaves, which have the learning rate in them, are added to a base."""
    if getattr(model, "is_categorical_", None) is not None:
        raise Incompatible("scikit-learn: categorical features")
    made = []
    for stage in model._predictors:
        for target, predictor in enumerate(stage):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            left = nodes["left"].astype("i8")
            left[leaf] = -1
            made.append(
                Tree(
                    target,
                    nodes["feature_idx"].tolist(),
                    nodes["num_threshold"].tolist(),
                    left.tolist(),
                    nodes["right"].tolist(),
                    nodes["missing_go_to_left"].astype(bool).tolist(),
                    nodes["value"].reshape(-1, 1).tolist(),
                )
            )
    base = model._baseline_prediction.ravel().tolist()
    return Source(_some(made), features=int(model.n_features_in_), base=base)


def _forest(model: Any) -> Source:
    """f32 values; the mean of the trees, of each output or class. A tree is a forest of one."""
    trees = list(getattr(model, "estimators_", [model]))
    first = trees[0].tree_
    classes = hasattr(model, "classes_")
    if classes and first.n_outputs > 1:
        raise Incompatible("scikit-learn: a classifier of many outputs")
    made = []
    for tree in trees:
        value = tree.tree_.value[:, 0, :] if classes else tree.tree_.value[:, :, 0]
        made.append(_sklearn_tree(tree.tree_, 0, value))
    return Source(
        made,
        features=int(model.n_features_in_),
        base=[0.0] * len(made[0].values[0]),
        divisor=float(len(made)),
        narrow_inputs=True,
    )


def _isolation_forest(model: Any) -> Source:
    """f32 values; a leaf is the length of the path to it, plus c of the rows that are in it; the
    sum over the trees' number times c of a sample (Liu, Ting, Zhou, 2008)."""
    made = []
    for tree, columns, path, mean in zip(
        model.estimators_,
        model.estimators_features_,
        model._decision_path_lengths,
        model._average_path_length_per_tree,
        strict=True,
    ):
        made.append(_sklearn_tree(tree.tree_, 0, path + mean - 1.0, columns.tolist()))
    divisor = len(made) * _mean_path(int(model._max_samples))
    if not divisor:
        raise Incompatible("scikit-learn: an isolation forest of samples of one row")
    return Source(
        made,
        features=int(model.n_features_in_),
        base=[0.0],
        divisor=divisor,
        narrow_inputs=True,
        isolation=True,
    )


def _mean_path(rows: int) -> float:
    """c(n), as scikit-learn computes it."""
    import numpy as np

    if rows <= 2:
        return float(rows == 2)
    mean = 2.0 * (np.log(rows - 1.0) + np.euler_gamma) - 2.0 * (rows - 1.0) / rows
    return float(mean)


def _sklearn_tree(tree: Any, target: int, values: Any, columns: Sequence[int] = ()) -> Tree:
    feature = tree.feature.tolist()
    if columns:
        feature = [columns[at] if at >= 0 else 0 for at in feature]
    left = tree.children_left.tolist()
    missing = getattr(tree, "missing_go_to_left", None)
    return Tree(
        target,
        feature,
        [_not_above_f32(value) for value in tree.threshold.tolist()],
        left,
        tree.children_right.tolist(),
        [False] * len(left) if missing is None else [bool(at) for at in missing.tolist()],
        values.reshape(len(left), -1).tolist(),
    )


def _not_above_f32(value: float) -> float:
    """The greatest f32 not above a threshold: an f32 is above the one when above the other."""
    near = _f32(value)
    if near <= value:
        return near
    if near == 0.0:
        return -(2.0**-149)
    bits = struct.unpack("<i", struct.pack("<f", near))[0] if math.isfinite(near) else 0x7F800000
    return float(struct.unpack("<f", struct.pack("<i", bits + (1 if near < 0 else -1)))[0])


def _some(trees: list[Tree]) -> list[Tree]:
    if not trees:
        raise Incompatible("trees: a model without trees")
    return trees


__all__ = ["lightgbm_source", "sklearn_source", "source_of", "xgboost_source"]
