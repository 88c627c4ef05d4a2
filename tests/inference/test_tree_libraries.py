"""Converted ensembles against the libraries that trained them: the same margins to the bit, over
random models and rows with missing values, infinities and values that are thresholds. They are in
the environment that `./dev bench --all-peers` makes, `.venv/peers`; run this file by its pytest.
Without them tests/inference/test_trees.py holds the same to stored vectors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgecore.errors import Incompatible
from edgecore.tree_sources import source_of
from edgecore.trees import TreeEnsemble, convert

np = pytest.importorskip("numpy")
SEED = 20240611
FEATURES = 6


def training(rng: Any, rows: int = 300, missing: float = 0.1) -> Any:
    """Features of several kinds: continuous, few values, exact zeros, large and tiny."""
    table = rng.normal(size=(rows, FEATURES))
    table[:, 1] = rng.integers(-3, 4, rows)
    table[:, 2] *= 1e6
    table[:, 3] *= 1e-30
    table[rng.random(table.shape) < 0.1] = 0.0
    table[rng.random(table.shape) < missing] = np.nan
    return table


def target(rng: Any, table: Any) -> Any:
    clean = np.nan_to_num(table)
    return clean[:, 0] + np.abs(clean[:, 1]) + clean[:, 2] / 1e6 + rng.normal(size=len(table)) / 3


def asked(rng: Any, model: Any, *, nan: bool = True, inf: bool = True) -> Any:
    """Rows like the training's, and rows whose values are thresholds or their neighbours."""
    rows = training(rng, 400, 0.1 if nan else 0.0)
    source = source_of(model)
    for feature, values in enumerate(source._thresholds()):
        if not values:
            continue
        kind = np.float32 if source.narrow_inputs else np.float64
        ties = np.asarray(values, kind)
        near = np.concatenate(
            [ties, np.nextafter(ties, kind(-np.inf)), np.nextafter(ties, kind(9))]
        )
        near = near[np.isfinite(near)]
        rows[100:300, feature] = rng.choice(near, 200)
    if inf:
        rows[:30][rng.random((30, FEATURES)) < 0.3] = np.inf
        rows[30:60][rng.random((30, FEATURES)) < 0.3] = -np.inf
    if nan:
        rows[60:90][rng.random((30, FEATURES)) < 0.6] = np.nan
    rows[90:100] = rng.choice([0.0, -0.0, 1e-35, -1e-35, 9e-36, -9e-36, 1e-40], (10, FEATURES))
    return rows


def differing(model: Any, margins: Any, rows: Any) -> int:
    """Margins that are not the library's."""
    ours = np.asarray(TreeEnsemble.load(convert(model)).margins(np.ascontiguousarray(rows)))
    theirs = np.asarray(margins, np.float64).reshape(len(rows), -1)
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    return int((ours != theirs).sum())


# ---------------------------------------------------------------- xgboost

XGBOOST = [
    ("reg:squarederror", {}),
    ("binary:logistic", {}),
    ("binary:logitraw", {}),
    ("count:poisson", {}),
    ("reg:gamma", {}),
    ("multi:softprob", {"num_class": 3}),
    ("rank:pairwise", {}),
    ("reg:squarederror", {"tree_method": "exact"}),
    ("reg:squarederror", {"num_parallel_tree": 3, "subsample": 0.6}),
    ("reg:squarederror", {"grow_policy": "lossguide", "max_leaves": 40, "max_depth": 0}),
    ("reg:logistic", {"base_score": 0.3}),
]


@pytest.mark.parametrize(("objective", "params"), XGBOOST)
@pytest.mark.parametrize("seed", range(3))
def test_trees_of_xgboost_give_its_margins(
    objective: str, params: dict[str, Any], seed: int
) -> None:
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng([SEED, seed])
    table = training(rng)
    y = target(rng, table)
    if objective in ("binary:logistic", "binary:logitraw", "reg:logistic"):
        y = (y > rng.normal()).astype(float)
    elif objective == "multi:softprob":
        y = np.clip(np.round(y), 0, 2)
    elif objective != "reg:squarederror":
        y = np.round(np.abs(y)) + 1
    given = {"objective": objective, "max_depth": 5, "seed": seed, "nthread": 1} | params
    model = xgboost.train(given, xgboost.DMatrix(table, y), 30)
    rows = asked(rng, model)
    margins = model.inplace_predict(rows, predict_type="margin")
    assert differing(model, margins, rows) == 0
    assert convert(model) == convert(model.save_raw("json"))


def test_trees_of_xgboost_that_stopped_early_end_where_its_model_does() -> None:
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(SEED)
    table = training(rng, 500)
    y = target(rng, table)
    model = xgboost.XGBRegressor(n_estimators=200, early_stopping_rounds=3, n_jobs=1)
    model.fit(table[:300], y[:300], eval_set=[(table[300:], y[300:])], verbose=False)
    assert model.best_iteration < 150
    rows = training(rng, 200)
    assert differing(model, model.predict(rows, output_margin=True), rows) == 0


def test_trees_of_xgboost_that_are_not_held_are_refused_by_name() -> None:
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(SEED)
    table = training(rng)
    y = target(rng, table)
    many = np.stack([y, -y], 1)
    plain = xgboost.DMatrix(table, y)
    numbers = np.abs(np.nan_to_num(np.round(table[:, 1:2])))
    kinds = xgboost.DMatrix(numbers, y, feature_types=["c"], enable_categorical=True)
    for word, params, data in [
        ("dart", {"booster": "dart"}, plain),
        ("gblinear", {"booster": "gblinear"}, plain),
        ("categorical", {"tree_method": "hist", "max_cat_to_onehot": 1}, kinds),
        ("many targets", {"multi_strategy": "multi_output_tree", "tree_method": "hist"},
         xgboost.DMatrix(table, many)),
    ]:  # fmt: skip
        with pytest.raises(Incompatible, match=word):
            convert(xgboost.train(params, data, 3))
    sparse = xgboost.XGBRegressor(n_estimators=2, missing=0.0).fit(np.nan_to_num(table), y)
    with pytest.raises(Incompatible, match="only NaN is missing"):
        convert(sparse)


# ---------------------------------------------------------------- lightgbm

LIGHTGBM = [
    {"objective": "regression"},
    {"objective": "binary", "num_leaves": 63, "min_data_in_leaf": 3},
    {"objective": "multiclass", "num_class": 3},
    {"objective": "regression", "boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1},
    {"objective": "regression", "boosting": "dart"},
    {"objective": "regression", "use_missing": False},
    {"objective": "poisson", "max_depth": 3},
]


@pytest.mark.parametrize("params", LIGHTGBM, ids=str)
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_trees_of_lightgbm_give_its_margins(params: dict[str, Any], missing: float) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(SEED)
    table = training(rng, missing=missing)
    y = target(rng, table)
    if params["objective"] == "binary":
        y = (y > 0.5).astype(float)
    elif params["objective"] == "multiclass":
        y = np.clip(np.round(y), 0, 2)
    elif params["objective"] == "poisson":
        y = np.round(np.abs(y))
    given = {"verbose": -1, "num_threads": 1, "seed": 7} | params
    model = lightgbm.train(given, lightgbm.Dataset(table, y), 30)
    rows = asked(rng, model)
    mean = params.get("boosting") == "rf"  # whose raw score is a sum, its prediction the mean
    assert differing(model, model.predict(rows, raw_score=not mean), rows) == 0
    assert convert(model) == convert(json.loads(json.dumps(model.dump_model())))


def test_trees_of_lightgbm_that_are_not_held_are_refused_by_name() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(SEED)
    table = training(rng, missing=0.0)
    y = target(rng, table)
    kinds = table.copy()
    kinds[:, 1] = rng.integers(0, 9, len(table))
    for word, params, data in [
        ("linear", {"linear_tree": True}, lightgbm.Dataset(table, y)),
        ("categorical", {"min_data_per_group": 1, "cat_smooth": 0},
         lightgbm.Dataset(kinds, kinds[:, 1] % 3, categorical_feature=[1])),
        ("zero_as_missing", {"zero_as_missing": True}, lightgbm.Dataset(table, y)),
    ]:  # fmt: skip
        with pytest.raises(Incompatible, match=word):
            convert(lightgbm.train({"verbose": -1, "num_threads": 1} | params, data, 5))


# ---------------------------------------------------------------- scikit-learn


def fitted(name: str, rng: Any, missing: float, **params: Any) -> Any:
    ensemble = pytest.importorskip("sklearn.ensemble")
    tree = pytest.importorskip("sklearn.tree")
    table = training(rng, missing=missing)
    y = target(rng, table)
    if name.endswith("Classifier"):
        y = np.clip(np.round(y), 0, params.pop("classes", 3) - 1)
    kind = getattr(ensemble, name, None) or getattr(tree, name)
    if not name.startswith("Hist"):
        table = table.astype(np.float32)
    return kind(random_state=5, **params).fit(table, y)


SKLEARN = [
    ("GradientBoostingRegressor", {"n_estimators": 20}, "predict"),
    ("GradientBoostingRegressor", {"n_estimators": 9, "init": "zero"}, "predict"),
    ("GradientBoostingClassifier", {"n_estimators": 9}, "decision_function"),
    ("GradientBoostingClassifier", {"n_estimators": 9, "classes": 2}, "decision_function"),
    ("HistGradientBoostingRegressor", {"max_iter": 20}, "predict"),
    ("HistGradientBoostingClassifier", {"max_iter": 9}, "decision_function"),
    ("HistGradientBoostingClassifier", {"max_iter": 9, "classes": 2}, "decision_function"),
    ("RandomForestRegressor", {"n_estimators": 13}, "predict"),
    ("RandomForestClassifier", {"n_estimators": 13}, "predict_proba"),
    ("ExtraTreesRegressor", {"n_estimators": 13}, "predict"),
    ("DecisionTreeRegressor", {}, "predict"),
    ("DecisionTreeClassifier", {}, "predict_proba"),
]


@pytest.mark.parametrize(("name", "params", "method"), SKLEARN)
def test_trees_of_sklearn_give_its_margins(name: str, params: dict[str, Any], method: str) -> None:
    rng = np.random.default_rng(SEED)
    nan = not name.startswith("Gradient")
    model = fitted(name, rng, 0.1 if nan else 0.0, **params)
    rows = asked(rng, model, nan=nan, inf=False)
    assert differing(model, getattr(model, method)(rows), rows) == 0


@pytest.mark.parametrize("params", [{}, {"max_features": 0.5, "max_samples": 77}])
def test_trees_of_an_isolation_forest_give_its_depths_and_scores(params: dict[str, Any]) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(SEED)
    table = training(rng, missing=0.0)
    model = ensemble.IsolationForest(n_estimators=50, random_state=3, **params).fit(table)
    rows = asked(rng, model, nan=False, inf=False)
    made = TreeEnsemble.load(convert(model))
    margins = np.asarray(made.margins(np.ascontiguousarray(rows)))[:, 0]
    theirs = -model.score_samples(rows)
    assert (2.0**-margins == theirs).all()  # the same depths; the power is the library's
    assert np.abs(np.asarray(made.scores(rows)) / theirs - 1).max() < 2**-51


def test_trees_of_sklearn_that_are_not_held_are_refused_by_name() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    linear = pytest.importorskip("sklearn.linear_model").LinearRegression()
    rng = np.random.default_rng(SEED)
    table = training(rng, missing=0.0)
    y = target(rng, table)
    kinds = table.copy()
    kinds[:, 1] += 3
    for word, model, data in [
        ("initial", ensemble.GradientBoostingRegressor(n_estimators=2, init=linear), table),
        ("categorical",
         ensemble.HistGradientBoostingRegressor(max_iter=2, categorical_features=[1]), kinds),
        ("LinearRegression", linear, table),
    ]:  # fmt: skip
        with pytest.raises(Incompatible, match=word):
            convert(model.fit(data, y))
