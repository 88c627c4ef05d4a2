"""A device whose model reads another stream: trained, released, cut by the power, and every
prediction made again from the log."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore import learning, lineage
from edgecore.cli.main import main
from edgecore.device.schema_file import load
from edgecore.digest import blake3
from edgecore.errors import Invalid
from edgecore.streams import PREDICTION

pytest.importorskip("flatbuffers")
sys.path.insert(0, str(Path(__file__).parent))
releases: Any = importlib.import_module("test_agent_releases")
SECOND = 10**9

WEATHER = """
stream = "weather"
tier = "bulk"
[[field]]
name = "outside"
dtype = "decimal(1)"
range = [-50.0, 60.0]
"""


class Works(releases.Works):  # type: ignore[misc]
    """Its device is told the weather every second, a second or two late."""

    told = 0

    def __init__(self, root: Path) -> None:
        self.chance = random.Random(7)
        super().__init__(root)
        self.device.close()
        config = (root / "edge.toml").read_text().replace(
            'name = "pump-7"', 'name = "pump-7"\nstreams = ["weather.toml"]'
        )  # fmt: skip
        (root / "edge.toml").write_text(config)
        (root / "weather.toml").write_text(WEATHER)
        self.open()

    def run(self, seconds: float) -> dict[str, Any]:
        for _ in range(max(1, round(seconds / 0.2))):
            report: dict[str, Any] = super().run(0.2)
            self.told += 1
            if self.told % 2 == 0:
                at = 1_709_251_200 + self.told * 2 - self.chance.randrange(3)
                outside = self.chance.randrange(-50, 250) / 10
                self.device.append("weather", {"time": at * SECOND, "outside": outside})
        return report

    def bundle(self, *_: Any, **__: Any) -> Path:
        schema, weather = (load(f"{self.root}/{one}.toml").schema for one in ("pump", "weather"))
        store = self.hub.events.stores()[-1]

        def rows(stream: str, **scales: int) -> list[dict[str, Any]]:
            return [
                {**row, **{name: row[name] / 10**scale for name, scale in scales.items()}}
                for _, row in self.hub.rows(store, stream)
            ]

        plain = learning.detection_view(schema, SECOND, fields=["temp"])
        view = ec.FeatureView(
            "pump_weather", entity="", source="pump", lateness="10s",
            features=[*plain.specs, ec.AsOf("weather", ec.Last("outside"), lateness="1m"),
                      ec.AsOf("weather", ec.Agg("outside", "mean", window="1m"), lateness="1m")],
        )  # fmt: skip
        made = learning.fit(
            view, schema, rows("pump", temp=2, load=1), steps=60,
            joined=[(weather, rows("weather", outside=1))], observation={"min_predictions": 20},
        )  # fmt: skip
        assert len(made.facts["features"]) > len(plain.specs)
        learning.write_bundle(made, str(self.root / "bundle"))
        self.objects = {blake3(data): data for data in made.objects.values()}
        return self.root / "bundle"

    def first_release(self) -> None:
        def acked(report: dict[str, Any]) -> bool:
            found = {one["stream"]: one["acked"] for one in report["log"]["partitions"]}
            return bool(found["pump"] > 200 and found["weather"] > 20)

        self.run_until(acked)
        self.release(1, self.bundle())
        self.run_until(lambda report: report["release"]["phase"] == "stable")


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    made = Works(tmp_path)
    yield made
    made.device.close()
    made.hub.close()


def test_agent_joined_predictions_survive_power_cuts_and_are_made_again_from_the_log(
    works: Works, seed: int
) -> None:
    works.first_release()
    rng = random.Random(seed)
    for _ in range(2):
        works.run(rng.random() * 8)
        works.crash(rng.getrandbits(30))
    works.finish()
    releases.check_each_row_answered_once(works)
    log = works.device.log
    log.sync()
    partition = next(one for one, name, _ in log.partitions() if name == PREDICTION.stream)
    sequences = [
        scanned.first + at for scanned in log.scan(PREDICTION.stream) for at in range(scanned.count)
    ]
    met = 0
    for sequence in rng.sample(sequences, 12):
        found = lineage.rebuild(log, f"{partition}:{sequence}", works.objects.__getitem__)
        assert found.holds, found.differences
        met += found.features["weather_outside_last"][1] == 0
    assert met


def test_agent_joined_release_is_refused_where_the_stream_is_not(
    works: Works, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgecore.device import config, upgrade

    works.first_release()
    settings = config.load(str(works.root / "edge.toml"))
    schema, weather = works.device.schema, load(f"{works.root}/weather.toml").schema
    works.device.close()
    (found,) = upgrade.check(settings, works.fs, schema, [weather])
    assert found.word == "Ok", found.why
    (found,) = upgrade.check(settings, works.fs, schema)
    assert found.word == "Incompatible"
    assert "also reads the stream weather, which this device has not" in found.why
    # Who signs is told before: another weather is another feature.
    words = ["release", "create", f"{works.root}/releaser", f"{works.root}/bundle", "--name",
             "anomaly", "--version", "2", "--schema"]  # fmt: skip
    other = works.root / "other.toml"
    other.write_text(WEATHER.replace("decimal(1)", "decimal(2)"))
    assert main([*words, f"{works.root}/pump.toml", "--schema", str(other)]) == 11
    assert "dtype of field 'outside' was" in capsys.readouterr().err
    (works.root / "edge.toml").write_text(
        (works.root / "edge.toml").read_text().replace("weather.toml", "pump.toml")
    )
    with pytest.raises(Invalid, match="pump is a stream of this device already"):
        works.open()
    (works.root / "edge.toml").write_text(
        (works.root / "edge.toml").read_text().replace('["pump.toml"]', '["weather.toml"]')
    )
    works.open()
