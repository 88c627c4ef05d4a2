"""The fit: one pure function from rows to a bundle."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fitting import SECOND, START, TEMP, batch, fitted, judged, readings

from edgecore import learning
from edgecore._core.verdict import VerdictSpec
from edgecore.cli.evaluate import evaluate
from edgecore.digest import blake3
from edgecore.errors import Invalid
from edgecore.features import Agg, FeatureView, Last
from edgecore.inference import Binding, Model
from edgecore.release import Bundle
from edgecore.schema import Field, Schema

HERE = Path(__file__).parent


def test_fit_finds_a_shift_and_is_quiet_before_it() -> None:
    rows = readings(3000, seed=1, shift_at=2500)
    bundle = fitted(rows[:1500])
    decisions = judged(bundle, batch(rows), 1500)
    flagged = [1500 + i for i, (_, verdict, _) in enumerate(decisions) if verdict == 1]
    assert flagged, "the shift was not found"
    assert 2500 <= flagged[0] <= 2520
    assert all(row >= 2500 for row in flagged)


def test_fit_same_rows_give_the_same_bytes() -> None:
    rows = readings(400, seed=2)
    one, two = fitted(rows), fitted(rows)
    assert one.files() == two.files()
    assert fitted(rows, seed=2).files() != one.files()


def test_fit_works_without_numpy_and_gives_the_same_bytes(tmp_path: Path) -> None:
    """In a Python that has of all installed packages only the two that training needs."""
    for name in ("flatbuffers", "cbor2"):
        package = pytest.importorskip(name)
        installed = Path(package.__file__ or "").parent
        (tmp_path / name).symlink_to(installed)
        for part in installed.parent.glob(f"_{name}*"):
            (tmp_path / part.name).symlink_to(part)
    code = (
        "import importlib.util\n"
        "assert importlib.util.find_spec('numpy') is None\n"
        "from fitting import fitted, readings\n"
        "from edgecore.digest import blake3\n"
        "files = fitted(readings(400, seed=2)).files()\n"
        "print(blake3(repr(sorted(files.items())).encode()).hex())\n"
    )
    source = Path(learning.__file__).parent.parent
    path = ":".join(str(where) for where in (tmp_path, source, HERE))
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    files = fitted(readings(400, seed=2)).files()
    assert done.stdout.strip() == blake3(repr(sorted(files.items())).encode()).hex()


def test_fit_learns_from_no_row_that_the_model_would_not_answer() -> None:
    """What is refused or sparse changes nothing that is learned, and the binding asks for it."""
    readings_now = readings(400, seed=4)
    for at in range(200, 260):
        del readings_now[at]["temp"]
    at = readings_now[0]["time"]

    def told(**judged: Any) -> FeatureView:
        features = [Agg("temp", ["mean", "std", "max"], window="20s"), Last("temp", **judged)]
        return FeatureView("told", entity="", source="pump", features=features)

    plain, refusing = told(ttl="9s"), told(ttl="9s", on_stale="refuse")
    rows = batch(readings_now)
    whole = learning.fit(plain, TEMP, rows)
    held = learning.fit(refusing, TEMP, rows, max_age="15s", min_full=0.75)
    assert (whole.facts["notes"]["excluded"], held.facts["notes"]["excluded"]) == (0, 51)
    # As if exactly these rows had been left out by name: (209, 259) are more than 9 s old.
    named = learning.fit(plain, TEMP, rows, exclude=[(at + 209 * SECOND, at + 259 * SECOND)])
    assert held.objects["model"] == named.objects["model"]
    binding = Binding.from_bytes(held.objects["binding"])
    assert (binding.max_age, binding.min_full) == (15 * SECOND, 0.75)
    sparse = learning.fit(plain, TEMP, rows, min_full=0.75)
    assert 0 < sparse.facts["notes"]["excluded"] < 51
    with pytest.raises(Invalid, match="min_full is a share"):
        learning.fit(plain, TEMP, rows, min_full=2.0)


def test_fit_golden_inputs_are_reproduced_by_every_kernel() -> None:
    bundle = fitted(readings(400, seed=3))
    expected = bytes.fromhex(bundle.facts["golden_output"])
    for isa in ("portable", "best"):
        model = Model.load(bundle.objects["model"], backend="native", isa=isa)
        assert len(bundle.objects["golden"]) >= 16 * model.input_size
        model.check_golden(bundle.objects["golden"], expected)


def test_fit_excluded_rows_are_not_learned_from() -> None:
    rows = readings(1500, seed=4, shift_at=700)
    window = (START + 690 * SECOND, START + 1250 * SECOND)
    bundle = fitted(rows, exclude=[window])
    assert bundle.facts["notes"]["excluded"] == 561
    assert bundle.facts["notes"]["rows"] == 1500 - 561
    with_them = fitted(rows)
    floors = [VerdictSpec.from_bytes(b.objects["verdict"]).floor for b in (bundle, with_them)]
    assert floors[0] != floors[1]
    flagged = [row for row, d in enumerate(judged(bundle, batch(rows), 0)) if d[1] == 1]
    assert flagged[0] in range(700, 720)


def test_fit_features_that_say_nothing_are_not_bound() -> None:
    fields = [Field(name, "decimal(2)", range=(-1000, 1000)) for name in ("temp", "still", "rare")]
    schema = Schema("pump", tier="bulk", fields=fields)
    rows = readings(300, seed=5)
    for i, row in enumerate(rows):
        row["still"] = 7.5
        row["rare"] = float(i) if i == 299 else None
    view = learning.detection_view(schema, SECOND)
    bundle = learning.fit(view, schema, batch(rows, schema))
    slots = bundle.facts["notes"]["slots"]
    assert slots
    assert all(name.startswith("temp") for name in slots)


def test_fit_missing_values_are_learned_over() -> None:
    rows = readings(600, seed=6)
    for row in rows[::5]:
        row["temp"] = None
    bundle = fitted(rows)
    assert "temp_last" in bundle.facts["notes"]["slots"]


def test_fit_a_still_percentage_does_not_alarm_at_its_first_step() -> None:
    schema = Schema(
        "host",
        tier="bulk",
        fields=[Field("cpu", "decimal(2)", unit="%", range=(0, 100)),
                Field("mem", "decimal(2)", unit="%", range=(0, 100))],
    )  # fmt: skip
    chance = random.Random(7)
    rows = [
        {"time": START + i * SECOND, "cpu": round(chance.uniform(5, 40), 2),
         "mem": 52.31 + (i % 2) / 100 + (0.4 if i > 900 else 0)}
        for i in range(1500)
    ]  # fmt: skip
    view = learning.detection_view(schema, SECOND)
    bundle = learning.fit(view, schema, batch(rows[:600], schema))
    decisions = judged(bundle, batch(rows, schema), 600, schema)
    assert not any(verdict == 1 for _, verdict, _ in decisions)


def test_fit_refuses_what_can_not_be_learned_from() -> None:
    with pytest.raises(Invalid, match="at least 32"):
        fitted(readings(20, seed=8))
    with pytest.raises(Invalid, match="at least 32"):
        fitted(readings(200, seed=8), exclude=[(START, START + 190 * SECOND)])
    still = [{**row, "temp": 1.0} for row in readings(100, seed=8)]
    with pytest.raises(Invalid, match="nothing to learn"):
        fitted(still)


def test_detection_view_has_every_operator_for_few_fields_and_less_for_many() -> None:
    fields = [Field(f"f{i}", "decimal(1)", range=(0, 1000)) for i in range(8)]
    few = Schema("few", tier="bulk", fields=[*fields[:1], Field("who", "category")])
    names = [spec.name for spec in learning.detection_view(few, 300 * SECOND).specs]
    assert len(names) == 13
    assert {"f0_mean_1h", "f0_max_1d", "f0_std_5h", "f0_last"} <= set(names)
    many = Schema("many", tier="bulk", fields=fields)
    assert len(list(learning.detection_view(many, SECOND // 10).specs)) == 40
    chosen = learning.detection_view(many, SECOND, fields=["f3"])
    assert all(spec.name.startswith("f3") for spec in chosen.specs)
    with pytest.raises(Invalid, match="no numeric field 'who'"):
        learning.detection_view(few, SECOND, fields=["who"])


def test_detection_view_leaves_out_what_can_not_be_exact() -> None:
    fields = [Field("grid", "decimal(1)", range=(0, 9)), Field("free", "f64"), Field("n", "i64")]
    schema = Schema("mixed", tier="bulk", fields=fields)
    view = learning.detection_view(schema, SECOND)
    view.plan(schema)
    assert {spec.field for spec in view.specs if spec.op == "std"} == {"grid"}
    assert {spec.field for spec in view.specs if spec.op == "mean"} == {"grid", "free", "n"}


def test_median_interval_is_the_median_of_the_steps() -> None:
    assert learning.median_interval([0, 10**9, 2 * 10**9, 9 * 10**9]) == 10**9
    with pytest.raises(Invalid):
        learning.median_interval([5, 5])


def test_bundle_directory_is_whole_when_it_names_itself(tmp_path: Path) -> None:
    bundle = fitted(readings(200, seed=9))
    where = tmp_path / "bundle"
    for _ in range(2):  # a second time over the first
        learning.write_bundle(bundle, str(where))
        files = {path.name: path.read_bytes() for path in where.iterdir()}
        assert Bundle.from_files(files).files() == bundle.files()


def test_fit_is_quick_enough_for_a_demo() -> None:
    """2,000 rows of 40 features; the processor time of this process alone."""
    fields = [Field(f"f{i}", "decimal(2)", range=(0, 1000)) for i in range(8)]
    schema = Schema("wide", tier="bulk", fields=fields)
    chance = random.Random(10)
    rows = [
        {"time": START + i * SECOND // 10, **{f.name: chance.randrange(9999) / 100 for f in fields}}
        for i in range(2000)
    ]
    view = learning.detection_view(schema, SECOND // 10)
    data = batch(rows, schema)
    start = time.process_time()
    bundle = learning.fit(view, schema, data)
    spent = time.process_time() - start
    assert len(bundle.facts["notes"]["slots"]) == 40
    assert spent < 3.0, f"{spent:.2f} s"


def test_fit_on_a_day_with_one_fault_beats_chance() -> None:
    """The generated twin of the test on real data: a fault that creeps in and goes."""
    chance = random.Random(11)
    rows, level = [], 60.0
    for i in range(6000):
        level += (60 - level) * 0.02 + chance.gauss(0, 0.5)
        fault = 12 * min(1.0, max(0.0, (i - 4000) / 100)) if i < 4400 else 0
        rows.append({"time": START + i * 300 * SECOND, "temp": round(level - fault, 2)})
    view = learning.detection_view(TEMP, 300 * SECOND)
    first = 900
    bundle = learning.fit(view, TEMP, batch(rows[:first]))
    decisions = judged(bundle, batch(rows), first)
    windows = [(START + 3950 * 300 * SECOND, START + 4450 * 300 * SECOND)]
    found = evaluate(
        [row["time"] for row in rows],
        [row["temp"] for row in rows],
        [2] * first + [verdict for _, verdict, _ in decisions],
        [0] * first + [episode for _, _, episode in decisions],
        windows,
    )
    assert found["ours"].hit == 1
    assert found["ours"].precision >= 3 * found["random"].precision
    assert found["ours"].false_episodes <= found["days"] / 5
