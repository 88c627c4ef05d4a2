"""`edgecore model train`: the same rows give the same bundle, wherever they lie."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from edgecore.cli.main import main
from edgecore.hub.stores.events import EventStore
from edgecore.log import Log
from edgecore.schema import Field, Schema
from edgecore.wire import rowbatch

START = 1_388_534_400  # 2014-01-01
SCHEMA_TOML = """stream = "pump"
tier = "bulk"

[csv]
time = "when"
time_format = "iso"

[[field]]
name = "temp"
dtype = "decimal(2)"
range = [-1000.0, 1000.0]
"""
PUMP = Schema("pump", tier="bulk", fields=[Field("temp", "decimal(2)", range=(-1000.0, 1000.0))])


def values(count: int) -> list[str]:
    chance = random.Random(12)
    return [f"{20 + i % 60 / 10 + chance.randrange(100) / 100:.2f}" for i in range(count)]


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    lines = ["when,temp"]
    for i, value in enumerate(values(300)):
        lines.append(f"2014-01-01T{i // 60:02}:{i % 60:02}:00,{value}")
    path = tmp_path / "pump.csv"
    path.write_text("\n".join(lines) + "\n")
    (tmp_path / "pump.toml").write_text(SCHEMA_TOML)
    return path


def write_log(path: Path, count: int = 300) -> Log:
    rows = [
        {"time": (START + i * 60) * 10**9, "temp": value, "source": "csv", "source_seq": i + 2}
        for i, value in enumerate(values(count))
    ]
    log = Log.open(path, schemas=[PUMP])
    log.append("pump", rows)
    log.sync()
    return log


def write_packs(log: Log, hub: Path) -> None:
    """What the hub would hold once the log was synchronised, in small blocks."""
    hub.mkdir()
    store = EventStore(hub)
    for partition, _, _ in log.partitions():
        after = 0
        while runs := log.runs(partition, after, 2000):
            for run in runs:
                data = rowbatch.RowBatch(run.schema_fingerprint, run.payload, run.arrivals).encode()
                store.append(log.store_id, partition, run.first, run.count, run.digest, data)
                after = run.first + run.count - 1
    store.commit()


def train(capsys: pytest.CaptureFixture[str], out: Path, *words: str) -> dict[str, Any]:
    code = main(["model", "train", *words, "--out", str(out), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    found = json.loads(said.out)
    assert isinstance(found, dict)
    return found


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_model_train_gives_one_bundle_from_csv_log_and_hub(
    tmp_path: Path, csv_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = str(tmp_path / "pump.toml")
    notes = train(capsys, tmp_path / "a", "--csv", str(csv_file), "--schema", schema)
    assert notes["rows"] == 300
    with write_log(tmp_path / "log") as log:  # read beside its writer
        train(capsys, tmp_path / "b", "--log", str(tmp_path / "log"), "--stream", "pump")
        write_packs(log, tmp_path / "hub")  # the store stays open: read beside a running hub
        train(capsys, tmp_path / "c", "--hub", str(tmp_path / "hub"), "--stream", "pump")
    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")


def test_model_train_leaves_out_and_takes_the_first_share(
    tmp_path: Path, csv_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--csv", str(csv_file), "--schema", str(tmp_path / "pump.toml"), "--first", "0.5"]
    span = ["2014-01-01T00:10:00", "2014-01-01T00:19:00"]
    notes = train(capsys, tmp_path / "a", *words, "--exclude", *span)
    assert (notes["rows"], notes["excluded"]) == (140, 10)
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"set/pump.csv": [span]}))
    train(capsys, tmp_path / "b", *words, "--labels", str(labels), "pump.csv")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_model_train_from_a_torn_pack_takes_the_whole_blocks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with write_log(tmp_path / "log") as log:
        write_packs(log, tmp_path / "hub")
    pack = next((tmp_path / "hub" / "packs").glob("*.pack"))
    pack.write_bytes(pack.read_bytes()[:-5])
    notes = train(capsys, tmp_path / "c", "--hub", str(tmp_path / "hub"), "--stream", "pump")
    assert 200 < notes["rows"] < 300


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--csv", "gone.csv", "--schema", "pump.toml"], 15, "gone.csv"),
        (["--csv", "pump.csv"], 16, "--schema"),
        (["--hub", "nowhere", "--stream", "pump"], 16, "holds no hub"),
        (["--log", "nowhere", "--stream", "pump"], 15, "nowhere"),
        (["--log", "nowhere"], 16, "--stream"),
        (["--csv", "pump.csv", "--schema", "pump.toml", "--fields", "rpm"], 16, "rpm"),
        (["--csv", "pump.csv", "--schema", "pump.toml", "--first", "1.5"], 16, "--first"),
        (["--csv", "pump.csv", "--schema", "pump.toml", "--first", "0.01"], 16, "rows"),
        (["--csv", "pump.csv", "--schema", "pump.toml", "--exclude", "soon", "later"], 16, "soon"),
        (["--csv", "pump.csv", "--schema", "pump.toml", "--view", "pump.csv"], 12, ""),
    ],
)
def test_model_train_says_in_one_line_what_is_wrong(
    words: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    csv_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["model", "train", *words, "--out", "bundle"]) == code
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert says in said
    assert not (tmp_path / "bundle").exists()
