"""Views as TOML: the bytes of the Python definition, and errors that name line and key."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

import edgecore as ec
from edgecore.errors import EdgecoreError, Incompatible, Invalid
from edgecore.expressions import col, expression
from edgecore.feature_kinds import (
    Constant,
    Distinct,
    Ewma,
    Histogram,
    MostFrequent,
    Ratio,
    TimeIn,
    Vector,
)
from edgecore.features import Feature, FeatureView

EVERY = """
name = "pump_health"
entity = "pump"
source = "telemetry"
lateness = "30s"
max_ahead = "5m"
idle = 1000000000
max_entities = 100

# what is warm
[[features]]
field = "temp"
ops = ["mean", "std", "p95"]
window = ["1m", "10m"]
ttl = "5m"
on_stale = "default"
min_coverage = 0.8
unit = "degC"
convert = "degF"

[[features]]
kind = "agg"
expr = "round(volt * amp, 0.01)"
name = "power"
ops = "max"
window = "1h"
hop = "1h"
min_count = 3

[[features]]
kind = "time_in"
expr = "mode == 'run' and rpm > 100"
name = "running"
window = "1h"
hold = "10s"

[[features]]
kind = "histogram"
field = "temp"
edges = [10, 20.5]
window = "1h"

[[features]]
kind = "distinct"
field = "code"
window = "1h"
[[features]]
kind = "most_frequent"
field = "code"
window = "1h"
[[features]]
kind = "ewma"
field = "temp"
half_life = "60s"
default = 1
[[features]]
kind = "last"
field = "mode"
within = "5m"
[[features]]
kind = "ratio"
name = "hot_share"
numerator = "temp_bin2_1h"
denominator = "temp_distinct_1h"
[[features]]
kind = "distinct"
field = "temp"
window = "1h"
[[features]]
kind = "recency"
[[features]]
kind = "constant"
name = "bias"
value = [1, 2.5]
[[features]]
kind = "vector"
name = "embedding"
fields = ["volt", "amp"]
[[features]]
kind = "as_of"
stream = "weather"
lateness = "2m"
[[features.features]]
field = "outside"
ops = "mean"
window = "1h"
[[features.features]]
kind = "last"
expr = "wind * 2"
name = "wind"
[[features]]
kind = "feature"
op = "count"
name = "rows"
window = "90s"
version = 1
"""


def in_python() -> FeatureView:
    return FeatureView(
        "pump_health", entity="pump", source="telemetry", lateness="30s", max_ahead="5m",
        idle="1s", max_entities=100,
        features=[
            ec.Agg("temp", ["mean", "std", "p95"], window=["1m", "10m"], ttl="5m",
                   on_stale="default", min_coverage=0.8, unit="degC", convert="degF"),
            ec.Agg((col("volt") * col("amp")).round(0.01), "max", name="power", window="1h",
                   hop="1h", min_count=3),
            TimeIn((col("mode") == "run") & (col("rpm") > 100), name="running", window="1h",
                   hold="10s"),
            Histogram("temp", edges=[10, 20.5], window="1h"), Distinct("code", window="1h"),
            MostFrequent("code", window="1h"), Ewma("temp", half_life="60s", default=1),
            ec.Last("mode", within="5m"),
            Ratio("hot_share", "temp_bin2_1h", "temp_distinct_1h"),
            Distinct("temp", window="1h"), ec.Recency(), Constant("bias", [1, 2.5]),
            Vector("embedding", ["volt", "amp"]),
            ec.AsOf("weather", ec.Agg("outside", "mean", window="1h"),
                    ec.Last(col("wind") * 2, name="wind"), lateness="2m"),
            Feature("rows", "count", "", "90s", version=1),
        ],
    )  # fmt: skip


def test_toml_gives_the_bytes_of_the_python_definition_of_every_kind() -> None:
    made = FeatureView.from_toml(EVERY)
    assert made.to_bytes() == in_python().to_bytes()
    assert FeatureView.from_bytes(made.to_bytes()) == made
    assert made.names[7] == "running_time_in_1h_hold_10s"


def broken(old: str, new: str) -> str:
    assert EVERY.count(old) >= 1
    return EVERY.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "pump_health"', "", "key 'name' is missing"),
        ('lateness = "30s"', 'latenes = "30s"', "line 5, key 'latenes': no key of a view"),
        ('lateness = "30s"', 'lateness = "30 s"', "line 5, key 'lateness': duration"),
        ("max_entities = 100", "max_entities = true", "line 8, key 'max_entities': a whole number"),
        ('ttl = "5m"', 'tll = "5m"', "line 15, key 'tll': no parameter of 'agg'"),
        ('ttl = "5m"', "ttl = 1.5", "line 15, key 'ttl': a duration"),
        ('["1m", "10m"]', '["1m", "x"]', "line 14, key 'window': duration 'x'"),
        ('["1m", "10m"]', "[]", "line 14, key 'window': one value is needed"),
        ('ops = ["mean", "std", "p95"]', "", "line 11: 'agg' needs 'ops'"),
        ('"p95"', '"p2000"', "line 11: Agg of 'temp': 'p2000' is none of"),
        ('unit = "degC"', 'unit = "V"', "line 11: feature 'temp_mean_1m': no exact conversion"),
        ('expr = "round(volt * amp, 0.01)"', 'expr = "volt ** 2"',
         "line 23, key 'expr': .* at column 1"),
        ('name = "power"', 'field = "temp"', "line 23, key 'expr': a feature reads a field or an"),
        ('name = "power"', "", "line 21: a feature of the expression .* needs a name="),
        ('kind = "time_in"', 'kind = "timein"', "line 31, key 'kind': 'timein'"),
        ('kind = "time_in"', "kind = [1]", "line 31, key 'kind'"),
        ("[10, 20.5]", '[10, "x"]', "line 40, key 'edges': a number is needed"),
        ('field = "code"\nwindow = "1h"\n[[features]]\nkind = "most_frequent"',
         'field = "temp"\nwindow = "1h"\n[[features]]\nkind = "most_frequent"',
         "defined twice, also at line 43"),
        ('op = "count"', 'op = "median"', "line 91: feature 'rows': operator 'median' is none of"),
        ("idle = 1000000000", "idle = ", "at line 7"),
        ('expr = "wind * 2"', 'expr = "wind * * 2"', "line 89, key 'expr'"),
        ('stream = "weather"', "", "line 79: 'as_of' needs 'stream'"),
        ('field = "outside"', 'feild = "outside"', "line 84, key 'feild': no parameter of 'agg'"),
    ],
)  # fmt: skip
def test_toml_errors_name_the_line_and_the_key(old: str, new: str, said: str) -> None:
    with pytest.raises((Invalid, Incompatible), match=said) as caught:
        FeatureView.from_toml(broken(old, new), "pump.toml")
    assert str(caught.value).startswith("pump.toml: ")


def test_toml_of_a_hostile_file_is_refused() -> None:
    for text in ("[" * 100_000, "features = " + "[" * 5000, "a" * (1 << 21), "\x00",
                 'name="v"\nentity=""\nsource="s"\nfeatures=[1]',
                 'name="v"\nentity=""\nsource="s"\nfeatures={a=1}',
                 'name="v"\nentity=""\nsource="s"\nfeatures=[]'):  # fmt: skip
        with pytest.raises(Invalid):
            FeatureView.from_toml(text)
    chance = random.Random(11)
    marks = '"[]=\n#x1.'
    for _ in range(400):
        text = list(EVERY)
        for _ in range(chance.randint(1, 4)):
            text[chance.randrange(len(text))] = chance.choice(marks)
        with contextlib.suppress(EdgecoreError):  # and nothing else
            FeatureView.from_toml("".join(text))


def test_toml_of_tables_in_one_line_is_the_same() -> None:
    text = (
        'name = "v"\nentity = ""\nsource = "s"\n'
        'features = [{ field = "a", ops = "max", window = "1m" }, { kind = "recency" }]'
    )
    wanted: list[Any] = [ec.Agg("a", "max", window="1m"), ec.Recency()]
    assert FeatureView.from_toml(text) == FeatureView("v", entity="", source="s", features=wanted)
    with pytest.raises(Invalid, match="line 4"):
        FeatureView.from_toml(text.replace("max", "most"))


def test_toml_and_python_expressions_are_one_language() -> None:
    text = 'name = "v"\nentity = ""\nsource = "s"\n[[features]]\nkind = "last"\nname = "x"\n'
    for said in ("where(mode == 'run', temp, 0)", "bucket(temp, 1, 2.5)", "-a + 0.1"):
        view = FeatureView.from_toml(text + f'expr = "{said}"')
        assert view == FeatureView("v", entity="", source="s",
                                   features=[ec.Last(expression(said), name="x")])  # fmt: skip
