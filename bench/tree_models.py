"""The row of tree ensembles beside tl2cgen, both called from C++ (bench/cpp/trees_bench.cpp).

The ensemble that trees are measured with: 100 complete trees of depth 6 over 16 features, drawn
from a seed, in the form of xgboost's JSON, so that ours and tl2cgen read the same file. As a
command, in an environment with tl2cgen, it compiles that file:

    python tree_models.py MODEL LIBRARY
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DRIVER = HERE.parent / "build" / "bench" / "trees_bench"
PEER_WITHIN = 4e-6  # tl2cgen adds its f32 leaves as shortened doubles

TREES, DEPTH, FEATURES, ROWS = 100, 6, 16, 8192
SEED = 20240601


def tree(chance: random.Random, at: int) -> dict[str, Any]:
    splits = 2**DEPTH - 1
    nodes = 2 * splits + 1
    leaf = [node >= splits for node in range(nodes)]
    drawn = [chance.gauss(0, 0.1 if end else 1) for end in leaf]
    return {
        "tree_param": {"num_deleted": "0", "num_feature": str(FEATURES), "num_nodes": str(nodes),
                       "size_leaf_vector": "1"},
        "id": at,
        "left_children": [-1 if end else 2 * node + 1 for node, end in enumerate(leaf)],
        "right_children": [-1 if end else 2 * node + 2 for node, end in enumerate(leaf)],
        "parents": [2147483647, *((node - 1) // 2 for node in range(1, nodes))],
        "split_indices": [0 if end else chance.randrange(FEATURES) for end in leaf],
        "split_conditions": array("f", drawn).tolist(),
        "default_left": [chance.randrange(2) for _ in leaf],
        "split_type": [0] * nodes,
        "base_weights": [0.0] * nodes, "loss_changes": [0.0] * nodes, "sum_hessian": [1.0] * nodes,
        "categories": [], "categories_nodes": [], "categories_segments": [],
        "categories_sizes": [],
    }  # fmt: skip


def model() -> dict[str, Any]:
    """The base score is 0: tl2cgen adds it last, xgboost and ours first."""
    chance = random.Random(SEED)
    trees = {
        "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(TREES)},
        "iteration_indptr": list(range(TREES + 1)),
        "tree_info": [0] * TREES,
        "trees": [tree(chance, at) for at in range(TREES)],
    }
    shape = {"base_score": "0E0", "boost_from_average": "1", "num_class": "0",
             "num_feature": str(FEATURES), "num_target": "1"}  # fmt: skip
    learner = {
        "attributes": {}, "feature_names": [], "feature_types": [],
        "gradient_booster": {"model": trees, "name": "gbtree"},
        "learner_model_param": shape,
        "objective": {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}},
    }  # fmt: skip
    return {"learner": learner, "version": [2, 1, 0]}


def rows_of() -> bytes:
    """f32, as many as no branch predictor learns by heart."""
    chance = random.Random(SEED + 1)
    return array("f", [chance.gauss(0, 1) for _ in range(ROWS * FEATURES)]).tobytes()


class Subject:
    """The files of a comparison, in `home`."""

    def __init__(self, home: Path) -> None:
        from edgecore.trees import TreeEnsemble, convert

        text = json.dumps(model())
        data = convert(text)
        self.source, self.ours = home / "trees.json", home / "trees.ecte"
        self.rows, self.expected = home / "trees.rows", home / "trees.margins"
        self.library = home / "trees.so"
        values = array("f", rows_of())
        margins = TreeEnsemble.load(data).margins(values).tobytes()
        self.sizes = TreeEnsemble.load(data).describe() | {"file_bytes": len(data)}
        self.digest = sha256(text.encode() + values.tobytes()).hexdigest()
        for path, content in ((self.source, text.encode()), (self.ours, data),
                              (self.rows, values.tobytes()), (self.expected, margins)):  # fmt: skip
            path.write_bytes(content)

    def command(self, side: str, within: float = 0.0) -> list[str]:
        of = self.library if side == "compiled" else self.ours
        words = (DRIVER, side, of, self.rows, self.expected, within)
        return [str(word) for word in words]


def compiled_by(python: str, subject: Subject) -> str:
    """Has tl2cgen compile the model, in the environment of `python`; returns its version."""
    done = subprocess.run(
        [python, __file__, str(subject.source), str(subject.library)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])
    return done.stdout.strip().splitlines()[-1]


def tree_rows(rounds: int) -> Iterator[dict[str, Any]]:
    """One row a call beside tl2cgen, where `./dev bench --all-peers` has it."""
    from pair import Case, Worker, calibrate, row

    with tempfile.TemporaryDirectory() as home:
        subject = Subject(Path(home))
        settings = subject.sizes | {"input_sha256": subject.digest, "peer_within": PEER_WITHIN}
        ours = subject.command("native")
        peers = os.environ.get("EDGECORE_BENCH_PEERS")
        try:
            if not peers:
                raise RuntimeError("its peer comes with --all-peers")
            version = compiled_by(peers, subject)
            commands = {"ours": ours, "tl2cgen": subject.command("compiled", PEER_WITHIN)}
            case = Case({}, settings=settings, commands=commands)
            found = row("inference.trees", "inference", "trees", case, "tl2cgen", rounds)
            yield found | {"peer_version": version}
        except RuntimeError as error:
            worker = Worker(ours)
            count = calibrate(worker, 20_000_000)
            figures = [worker.run(count)["cpu_ns"] / count for _ in range(2 * rounds)]
            worker.close()
            yield {
                "id": "inference.trees", "unit": "ns", "better": "lower", "peer": None,
                "ours": statistics.median(figures), "ratio": None, "rounds": rounds,
                "reason": str(error), "settings": settings, "input_sha256": subject.digest,
            }  # fmt: skip


def compile_library(source: str, library: str) -> None:
    import tl2cgen
    import treelite

    loaded = treelite.frontend.load_xgboost_model(source, format_choice="json")
    tl2cgen.export_lib(loaded, toolchain="gcc", libpath=library, params={})
    print(tl2cgen.__version__)


if __name__ == "__main__":
    compile_library(*sys.argv[1:])
