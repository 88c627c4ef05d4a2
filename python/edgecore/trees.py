"""Tree ensembles: gradient boosting, random forests and isolation forests of xgboost, lightgbm and
scikit-learn, in a compact form that the core runs with the source library's margins to the bit.

:func:`convert` turns a fitted model into bytes (docs/formats/tree-ensemble.md) where its library is
installed; :meth:`TreeEnsemble.load` runs them where it is not.
"""

from __future__ import annotations

import math
import struct
from array import array

from edgecore._core import inference as _inference
from edgecore._core.base import crc32c
from edgecore.errors import Incompatible, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from typing_extensions import Buffer

MAGIC = b"ECTE"
VERSION = 1
THRESHOLDS_MAX = 0xFFFE  # of one feature
FEATURES_MAX = 32767


class Tree:
    """One tree as arrays over its nodes, from the root, node 0. `left` is negative at a leaf.

    :param target: the output that the tree adds to; 0 where a leaf holds a value for each.
    :param values: per node, the values of a leaf; read at leaves alone.
    """

    __slots__ = ("feature", "left", "missing_left", "right", "target", "threshold", "values")

    def __init__(
        self,
        target: int,
        feature: Sequence[int],
        threshold: Sequence[float],
        left: Sequence[int],
        right: Sequence[int],
        missing_left: Sequence[bool],
        values: Sequence[Sequence[float]],
    ) -> None:
        self.target = target
        self.feature = feature
        self.threshold = threshold
        self.left = left
        self.right = right
        self.missing_left = missing_left
        self.values = values

    def preorder(self) -> Iterable[int]:
        """Nodes from the root, each before its children, the left one first."""
        waiting = [0]
        while waiting:
            node = waiting.pop()
            yield node
            if self.left[node] >= 0:
                waiting += (self.right[node], self.left[node])


class Source:
    """What a library's model computes: the sum, in the order of `trees`, of `base` and the leaves
    that a row reaches, over `divisor`.

    :param less: a value goes left when it is less than the threshold; else when it is not above.
    :param narrow_inputs: values are rounded to f32 before they are compared.
    :param narrow_leaves: leaves are f32, and sums are made in f32.
    :param isolation: the margin is that of an isolation forest.
    """

    def __init__(
        self,
        trees: Sequence[Tree],
        *,
        features: int,
        base: Sequence[float],
        divisor: float = 1.0,
        less: bool = False,
        narrow_inputs: bool = False,
        narrow_leaves: bool = False,
        isolation: bool = False,
    ) -> None:
        self.trees = trees
        self.features = features
        self.base = base
        self.divisor = divisor
        self.less = less
        self.narrow_inputs = narrow_inputs
        self.narrow_leaves = narrow_leaves
        self.isolation = isolation

    def to_bytes(self) -> bytes:
        """The bytes of docs/formats/tree-ensemble.md: the same for the same model.

        :raises Incompatible: when the format can't hold the model.
        """
        thresholds = self._thresholds()
        ranks = [{value: at for at, value in enumerate(of, 1)} for of in thresholds]
        nodes = array("H")
        leaves = array("f" if self.narrow_leaves else "d")
        width = splits = 0
        for tree in self.trees:
            for node in tree.preorder():
                if tree.left[node] < 0:
                    nodes.append(0)
                    leaves.extend(tree.values[node])
                    width = len(tree.values[node])
                else:
                    feature = tree.feature[node]
                    nodes.append(ranks[feature][tree.threshold[node]])
                    nodes.append(2 * feature + (not tree.missing_left[node]))
                    splits += 1
        if not all(map(math.isfinite, [*leaves, *self.base])):
            raise Incompatible("trees: a leaf or a base is not finite")
        body = struct.pack(
            "<4sHBBIIBBHIIIIId", MAGIC, VERSION, not self.less, self.isolation, 0, 0,
            not self.narrow_inputs, not self.narrow_leaves, width, self.features, len(self.base),
            len(self.trees), splits, sum(map(len, thresholds)), self.divisor,
        )  # fmt: skip
        flat = array("f" if self.narrow_inputs else "d", [v for of in thresholds for v in of])
        targets = array("H", [tree.target for tree in self.trees])
        counts = array("H", map(len, thresholds))
        body += b"".join(
            part.tobytes() for part in (array("d", self.base), counts, flat, targets, nodes, leaves)
        )
        return body + struct.pack("<I", crc32c(body))

    def _thresholds(self) -> list[list[float]]:
        """Per feature, ascending."""
        if not 0 < self.features <= FEATURES_MAX:
            raise Incompatible(f"trees: {self.features} features; 1 to {FEATURES_MAX} are held")
        found: list[set[float]] = [set() for _ in range(self.features)]
        for tree in self.trees:
            for node in tree.preorder():
                if tree.left[node] >= 0:
                    if math.isnan(tree.threshold[node]):
                        raise Incompatible("trees: a threshold is not a number")
                    found[tree.feature[node]].add(tree.threshold[node])
        for feature, values in enumerate(found):
            if len(values) > THRESHOLDS_MAX:
                raise Incompatible(
                    f"trees: feature {feature} has {len(values)} thresholds; "
                    f"{THRESHOLDS_MAX} are held"
                )
        return [sorted(value + 0.0 for value in values) for values in found]  # -0.0 is 0.0


def convert(model: Any) -> bytes:
    """A fitted model as the bytes that :class:`TreeEnsemble` loads.

    :param model: of xgboost a ``Booster``, a scikit-learn style model, or what
        ``save_raw("json")`` gave; of lightgbm a ``Booster``, a scikit-learn style model, or what
        ``dump_model()`` gave; of scikit-learn a fitted ``GradientBoosting*``,
        ``HistGradientBoosting*``, ``RandomForest*``, ``ExtraTrees*``, ``DecisionTree*`` or
        ``IsolationForest``.
    :raises Incompatible: what can't be held exactly, by name: categorical splits, linear leaves,
        boosters that are no sums of trees, other models.
    """
    from edgecore.tree_sources import source_of

    return source_of(model).to_bytes()


class TreeEnsemble:
    """A loaded ensemble. Immutable; threads may share it. Made by :meth:`load`.

    A margin is what the source library computes before any link function: for xgboost
    ``predict(output_margin=True)``; for lightgbm ``predict(raw_score=True)``, of a forest its mean;
    for gradient boosting of scikit-learn ``decision_function`` or a regressor's ``predict``, for a
    forest ``predict`` or ``predict_proba``; for an isolation forest the mean path length over c(n).
    """

    __slots__ = ("_core", "features", "isolation", "outputs", "trees")

    def __init__(self, core: _inference.TreeEnsemble) -> None:
        self._core = core
        self.features, self.outputs, self.trees, _, _ = core.sizes
        self.isolation = core.isolation

    @staticmethod
    def load(data: Buffer) -> TreeEnsemble:
        """Verifies and opens what :func:`convert` made.

        :raises Corrupt: malformed bytes. :raises Incompatible: a later version, or too large.
        """
        return TreeEnsemble(_inference.TreeEnsemble(data))

    def margins(self, rows: Any) -> memoryview[float]:
        """Margins of rows of ``features`` values, NaN where one is missing.

        :param rows: a C-contiguous buffer of f64 or f32 (a numpy array, an ``array``), one row or
            rows one after another; or a sequence of rows of floats.
        :returns: f64, shape (rows, ``outputs``); ``numpy.asarray`` takes it as it is.
        :raises Invalid: when the values are not whole rows, or of another type.
        """
        view, narrow = _values(rows, self.features)
        count, rest = divmod(view.nbytes // view.itemsize, self.features)
        if rest:
            raise Invalid(f"trees: values are not whole rows of {self.features}")
        if not count:
            return memoryview(array("d"))
        made = self._core.margins(view, count, narrow)
        return memoryview(made).cast("d", shape=(count, self.outputs))

    def scores(self, rows: Any) -> list[float]:
        """Of an isolation forest: 2^-margin of each row, above 0.5 where it is easier to isolate
        than most (scikit-learn's ``-score_samples``). The same bits on every machine.

        :raises Incompatible: of another ensemble. :raises Invalid: as :meth:`margins`.
        """
        if not self.isolation:
            raise Incompatible("trees: only an isolation forest has scores")
        margins = array("d", self.margins(rows).tobytes())
        return [_inference.isolation_score(margin) for margin in margins]

    def describe(self) -> dict[str, int]:
        """``features``, ``outputs``, ``trees``, ``steps`` (comparisons of a row, at most) and
        ``memory_bytes``."""
        names = ("features", "outputs", "trees", "steps", "memory_bytes")
        return dict(zip(names, self._core.sizes, strict=True))


def _values(rows: Any, width: int) -> tuple[memoryview, bool]:
    """(the values, whether they are f32). What has a shape has rows of `width` values."""
    try:
        view = memoryview(rows)
    except TypeError:
        rows = [[float(value) for value in row] for row in rows]
        if any(len(row) != width for row in rows):
            raise Invalid(f"trees: a row has not {width} values") from None
        view = memoryview(array("d", [value for row in rows for value in row]))
    if view.format not in ("d", "f") or not view.c_contiguous:
        raise Invalid(f"trees: rows are contiguous f64 or f32 values, not {view.format!r}")
    if view.ndim > 1 and view.shape is not None and view.shape[-1] != width:
        raise Invalid(f"trees: rows of {view.shape[-1]} values, {width} are needed")
    return view, view.format == "f"


__all__ = ["Source", "Tree", "TreeEnsemble", "convert"]
