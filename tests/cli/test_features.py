"""`edgecore features`: backfill and parity as a person runs them."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from edgecore.cli.main import main
from edgecore.features import Agg, FeatureView, Last, Recency
from edgecore.log import Log
from edgecore.schema import Field, Schema
from edgecore.streams import GAP

SECOND = 10**9
START = 1_700_000_000 * SECOND
SCHEMA = Schema(
    "telemetry",
    tier="bulk",
    fields=[Field("pump", "category"), Field("temp", "decimal(3)", range=(-40, 150))],
)
SCHEMA_TOML = """
stream = "telemetry"
[csv]
time = "at"
time_format = "unix_s"
[[field]]
name = "pump"
dtype = "category"
[[field]]
name = "temp"
dtype = "decimal(3)"
range = [-40, 150]
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A view, and the same rows as a log, a CSV file and its schema; a few are late."""
    view = FeatureView(
        "pump_health", entity="pump", source="telemetry", lateness="30s",
        features=[Agg("temp", ["mean", "std"], window=["1m", "5m"]), Last("temp", within="5m"),
                  Recency(within="5m")],
    )  # fmt: skip
    (tmp_path / "view.cbor").write_bytes(view.to_bytes())
    (tmp_path / "rows.toml").write_text(SCHEMA_TOML)
    chance = random.Random(5)
    lines = ["at,pump,temp"]
    with Log.open(str(tmp_path / "log"), schemas=[SCHEMA], flusher="manual") as log:
        for i in range(400):
            at = START // SECOND + 5 * i - (chance.randrange(60) if chance.random() < 0.2 else 0)
            pump, temp = chance.choice("ab"), chance.randrange(20_000, 30_000) / 1000
            log.append("telemetry", {"time": at * SECOND, "pump": pump, "temp": temp})
            lines.append(f"{at},{pump},{temp}")
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_features_parity_of_a_log_is_0_bits(made: Path, capsys: Any) -> None:
    assert run("features", "parity", made / "view.cbor", made / "log") == 0
    told = capsys.readouterr().out
    assert "400 rows, 2 entities" in told
    assert "\n0 differing bits" in told
    assert run("features", "parity", made / "view.cbor", made / "log", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["differing_bits"] == 0
    assert facts["late"] > 0
    assert set(facts["features"]["temp_std_1m"]) == {"batch", "restore", "cut"}


def test_features_parity_exits_1_when_bits_differ(
    made: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecore._core import features as core

    real = core.backfill

    def planted(*given: Any) -> Any:
        found = real(*given)
        found[1][0] ^= 1
        return found

    monkeypatch.setattr(core, "backfill", planted)
    assert run("features", "parity", made / "view.cbor", made / "log", "--json") == 1
    assert json.loads(capsys.readouterr().out)["differing_bits"] == 1


def test_features_backfill_of_a_log_and_a_csv_file_are_the_same(made: Path, capsys: Any) -> None:
    assert run("features", "backfill", made / "view.cbor", made / "log") == 0
    of_log = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    words = [made / "view.cbor", made / "rows.csv", "--schema", made / "rows.toml"]
    assert run("features", "backfill", *words, "--out", made / "found.csv") == 0
    with (made / "found.csv").open() as file:
        of_csv = list(csv.DictReader(file))
    # A CSV row has its line for a sequence, so that ties in time have an order of their own.
    assert len(of_log) == len(of_csv) == 400
    assert [row["time"] for row in of_log] == [row["time"] for row in of_csv]
    assert of_log[0]["temp_mean_1m.state"] == "fresh"
    assert of_log[0]["temp_std_1m"] == ""
    assert of_log[0]["temp_std_1m.state"] == "missing"


def test_features_backfill_knows_what_had_arrived(made: Path, capsys: Any) -> None:
    words = [made / "view.cbor", made / "log", "--known", "ingest", "--format", "jsonl"]
    assert run("features", "backfill", *words) == 0
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    late = [line for line in lines if set(line["states"].values()) == {"missing"}]
    assert f"{len(late)} rows came too late to count" in told.err
    assert len(lines) == 400
    since = lines[200]["time"]
    assert run("features", "backfill", *words, "--since", since) == 0
    part = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert part == [line for line in lines if line["time"] >= since]


def test_features_backfill_writes_parquet(made: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    words = [made / "view.cbor", made / "log", "--format", "parquet"]
    assert run("features", "backfill", *words) == 16
    assert run("features", "backfill", *words, "--out", made / "found.parquet") == 0
    assert parquet.read_table(made / "found.parquet").num_rows == 400


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["view.cbor", "nowhere"], 15, "no such file"),
        (["nowhere.cbor", "log"], 15, "nowhere.cbor"),
        (["view.cbor", "rows.csv"], 16, "--schema"),
        (["rows.csv", "log"], 12, "feature view"),
        (["view.cbor", "log", "--since", "soon"], 16, "soon"),
    ],
)
def test_features_backfill_bad_words_are_one_line(
    made: Path, capsys: Any, words: list[str], code: int, said: str
) -> None:
    given = [made / word if (made / word).exists() or "nowhere" in word else word for word in words]
    assert run("features", "backfill", *given) == code
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


VIEW_TOML = """
name = "pump_health"
entity = "pump"
source = "telemetry"
lateness = "30s"
[[features]]
field = "temp"
ops = ["mean", "variance", "p95"]
window = "1m"
ttl = "5m"
[[features]]
kind = "time_in"
expr = "temp * 5 / 9 > 20"
name = "hot"
window = "1h"
[[features]]
kind = "recency"
"""


def test_features_show_of_a_toml_file_says_what_each_feature_is(made: Path, capsys: Any) -> None:
    (made / "view.toml").write_text(VIEW_TOML)
    assert run("features", "show", made / "view.toml") == 0
    told = capsys.readouterr().out
    assert told.startswith("view pump_health of stream telemetry, by pump; ")
    assert "lateness 30s" in told
    assert "temp_p95_1m       quantile@1 95 %" in told
    assert "fingerprint" not in told
    assert run("features", "show", made / "view.toml", "--schema", made / "rows.toml") == 0
    told = capsys.readouterr().out
    view = FeatureView.from_toml(VIEW_TOML)
    for name, fingerprint in zip(view.names, view.fingerprints_for(SCHEMA), strict=True):
        row = next(line for line in told.splitlines() if line.split()[:1] == [name])
        assert fingerprint.hex()[:12] in row
    assert "state of an entity: " in told


def test_features_show_as_json_has_units_grids_horizons_and_errors(made: Path, capsys: Any) -> None:
    (made / "view.toml").write_text(VIEW_TOML)
    (made / "units.toml").write_text(SCHEMA_TOML + 'unit = "degC"\n')
    assert run("features", "show", made / "view.toml", "--schema", made / "units.toml",
               "--json") == 0  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    mean, variance, p95, hot, recency = told["features"]
    assert (mean["unit"], variance["unit"], hot["unit"], recency["unit"]) == (
        "degC", "(degC)^2", "s", "s")  # fmt: skip
    assert (mean["grid"], hot["grid"], recency["grid"]) == ("0.001", "1", "")
    assert mean["horizon"] == 300 * SECOND
    assert hot["horizon"] == 7200 * SECOND
    assert (mean["error"], mean["ttl"], hot["reads"]) == (0, 300 * SECOND, "temp * 5 / 9 > 20")
    assert 0 < p95["error"] <= 0.1
    assert told["event_bytes"] == 12 + 12 + 8
    assert told["entity_bytes"] > 0


def test_features_show_of_a_release_uses_the_schema_in_it(made: Path, capsys: Any) -> None:
    bundle = made / "bundle"
    bundle.mkdir()
    view = FeatureView.from_toml(VIEW_TOML)
    (bundle / "view.cbor").write_bytes(view.to_bytes())
    (bundle / "schema.cbor").write_bytes(SCHEMA.canonical_bytes)
    assert run("features", "show", bundle) == 0
    assert view.fingerprints_for(SCHEMA)[0].hex()[:12] in capsys.readouterr().out
    assert run("features", "show", made) == 15
    (made / "other.toml").write_text(SCHEMA_TOML.replace("telemetry", "other"))
    assert run("features", "show", made / "view.cbor", "--schema", made / "other.toml") == 16
    assert "reads stream 'telemetry'" in capsys.readouterr().err


def test_features_backfill_takes_a_toml_view_and_names_the_line_it_cannot_read(
    made: Path, capsys: Any
) -> None:
    (made / "view.toml").write_text(VIEW_TOML)
    assert run("features", "parity", made / "view.toml", made / "log") == 0
    assert "\n0 differing bits" in capsys.readouterr().out
    (made / "view.toml").write_text(VIEW_TOML.replace("window", "widnow", 1))
    assert run("features", "show", made / "view.toml") == 16
    assert "line 9, key 'widnow'" in capsys.readouterr().err


def test_features_show_of_several_streams_takes_a_schema_of_each(made: Path, capsys: Any) -> None:
    joined = '[[features]]\nkind = "as_of"\nstream = "weather"\n[[features.features]]\n' \
             'kind = "last"\nfield = "outside"\n'  # fmt: skip
    (made / "view.toml").write_text(VIEW_TOML + joined)
    (made / "weather.toml").write_text(
        'stream = "weather"\n[[field]]\nname = "outside"\ndtype = "decimal(1)"\nunit = "degC"\n'
    )
    first = ("features", "show", made / "view.toml", "--json", "--schema", made / "rows.toml")
    assert run(*first) == 11
    assert "stream 'weather': give its schema" in capsys.readouterr().err
    assert run(*first, "--schema", made / "weather.toml") == 0
    told = json.loads(capsys.readouterr().out)
    outside = told["features"][-1]
    assert (outside["name"], outside["reads"]) == ("weather_outside_last", "weather: outside")
    assert (outside["unit"], outside["grid"]) == ("degC", "0.1")
    view = FeatureView.from_toml((made / "view.toml").read_text())
    weather = Schema("weather", tier="bulk",
                     fields=[Field("outside", "decimal(1)", unit="degC")])  # fmt: skip
    prints = view.fingerprints_for(SCHEMA, [weather])
    assert [one["fingerprint"] for one in told["features"]] == [one.hex() for one in prints]


def test_features_of_a_log_know_of_its_gaps(made: Path, capsys: Any) -> None:
    view = FeatureView("pump_health", entity="pump", source="telemetry", lateness="30s", features=[
        Agg("temp", "mean", window="5m", min_coverage=0.8), Recency(within="5m")])  # fmt: skip
    (made / "view.cbor").write_bytes(view.to_bytes())

    def table(*words: str) -> tuple[int, list[str]]:
        assert run("features", "backfill", made / "view.cbor", made / "log", *words) == 0
        rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        states = [row["temp_mean_5m.state"] for row in rows]
        return states.count("missing"), [row["recency.state"] for row in rows]

    words = ((), ("--known", "ingest"))
    before = [table(*one) for one in words]
    with Log.open(str(made / "log"), schemas=[SCHEMA, GAP], flusher="manual") as log:
        begin = START + 1000 * SECOND
        for stream, end in (("telemetry", begin + 90 * SECOND), ("other", begin + 900 * SECOND)):
            log.append(GAP.stream, {"stream": stream, "begin": begin, "end": end, "kind": "off"})
    assert run("features", "parity", made / "view.cbor", made / "log", "--json") == 0
    assert json.loads(capsys.readouterr().out)["differing_bits"] == 0
    after = [table(*one) for one in words]
    assert after[0][0] > before[0][0] + 40  # as of event time a gap was always there
    assert after[1] == before[1]  # as known on arrival it came behind all rows
    assert after[0][1] == before[0][1]
