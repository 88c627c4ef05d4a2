"""`log export` as tables, and `log repair --report`, as a person meets them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore.cli import log_export

FIRST_NS = 1_764_050_564_123_456_789
FIELDS = [
    ec.Field("pump", "category"),
    ec.Field("temp", "decimal(3)", unit="degC"),
    ec.Field("note", "utf8"),
    ec.Field("raw", "bytes"),
    ec.Field("level", "f64"),
    ec.Field("on", "bool"),
    ec.Field("position", "i32"),
]
FIRST = ec.Schema("pumps", tier="bulk", fields=FIELDS)
SECOND = ec.Schema(
    "pumps", tier="bulk", version=2,
    fields=[ec.Field("temp", "decimal(4)", unit="degC"), ec.Field("extra", "u8")],
)  # fmt: skip
NOTES = ["", None, 'say "hi", twice\nthen stop', " padded "]


def edgecore(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "edgecore.cli", "log", *map(str, words)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def row(i: int) -> dict[str, Any]:
    return {
        "time": FIRST_NS + i, "source": "s", "source_seq": i + 1, "pump": f"p{i % 3}",
        "temp": 20.1 + i / 1000, "note": NOTES[i % 4], "raw": bytes([i]),
        "level": float("nan") if i == 4 else i / 7, "on": i % 2 == 0, "position": i,
    }  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A log of 20 events of one schema and one of the next."""
    with ec.Log.open(tmp_path / "log", schemas=[FIRST], flusher="manual") as log:
        for i in range(20):
            log.append("pumps", row(i))
        log.register(SECOND)
        log.append("pumps", {"time": -1, "temp": 1.2345, "extra": 7})
    return tmp_path / "log"


# ---------------------------------------------------------------- bounded error


def test_inspect_and_parquet_say_which_fields_are_rounded_and_by_how_much(tmp_path: Path) -> None:
    fields = [ec.Field("x", "f64", unit="g", max_error=0.01), ec.Field("n", "i32", max_error=2)]
    first = ec.Schema("waves", tier="bulk", fields=[*fields, ec.Field("plain", "f64")])
    finer = ec.Schema("waves", tier="bulk", version=2,
                      fields=[ec.Field("x", "f64", unit="g", max_error=0.001)])  # fmt: skip
    with ec.Log.open(tmp_path / "log", schemas=[first], flusher="manual") as log:
        log.append("waves", {"x": 0.12345, "n": 3})
        log.register(finer)
    text = edgecore("inspect", tmp_path / "log").stdout
    assert "rounded when appended: x by at most 0.01, n by at most 2" in text
    facts = json.loads(edgecore("inspect", tmp_path / "log", "--json").stdout)
    assert [item["max_errors"] for item in facts["partitions"] if item["stream"] == "waves"] == [
        {"x": 0.01, "n": 2.0}
    ]
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "waves.parquet"
    edgecore("export", tmp_path / "log", "--format", "parquet", "--stream", "waves", "--out", out)
    schema = parquet.read_schema(out)
    assert schema.field("x").metadata == {b"unit": b"g", b"max_error": b"0.01"}
    assert schema.field("plain").metadata is None


# ---------------------------------------------------------------- CSV


def test_csv_has_every_event_exactly_and_tells_null_from_empty(directory: Path) -> None:
    text = edgecore("export", directory, "--format", "csv", "--stream", "pumps").stdout
    head, first, second, third = text.split("\n")[:4]
    assert head == (
        "partition,sequence,position,time,source,source_seq,temp,extra,pump,note,raw,level,on,"
        "values.position"
    )
    assert first.startswith('2,1,4,2025-11-25T06:02:44.123456789Z,s,1,20.100,,p0,"",00,0.0,true,')
    assert ",p1,,01," in second
    assert third.endswith('"say ""hi"", twice')
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [r["note"] for r in rows[:20]] == [NOTES[i % 4] or "" for i in range(20)]
    assert [Decimal(r["temp"]) for r in rows[:20]] == [Decimal(20100 + i) / 1000 for i in range(20)]
    assert [r["values.position"] for r in rows[:20]] == [str(i) for i in range(20)]
    assert rows[4]["level"] == "nan"
    assert [float(r["level"]) for r in rows[5:20]] == [i / 7 for i in range(5, 20)]
    assert rows[20] == {
        "partition": "2", "sequence": "21", "position": rows[20]["position"],
        "time": "1969-12-31T23:59:59.999999999Z", "source": "", "source_seq": "0",
        "temp": "1.2345", "extra": "7", "pump": "", "note": "", "raw": "", "level": "", "on": "",
        "values.position": "",
    }  # fmt: skip


def test_csv_of_positions_after_one_begins_there(directory: Path) -> None:
    words = ("export", directory, "--format", "csv", "--stream", "pumps", "--after", 20)
    rows = list(csv.DictReader(io.StringIO(edgecore(*words).stdout)))
    assert [r["sequence"] for r in rows] == ["18", "19", "20", "21"]


def test_csv_times_are_read_back_by_the_device_s_own_reader() -> None:
    from edgecore.device.times import reader

    for at in (0, 1, -1, FIRST_NS, -(10**18), 2**63 - 1, -(2**63)):
        text = log_export.time_text(at)
        assert reader("iso")(text) == at, text


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_table_without_a_stream_names_those_there_are(directory: Path, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    out = directory.parent / "out"
    done = edgecore("export", directory, "--format", form, "--out", out, code=16)
    assert done.stderr.startswith("Invalid: --format")
    assert "pumps" in done.stderr
    done = edgecore("export", directory, "--format", form, "--stream", "x", "--out", out, code=16)
    assert done.stderr == "Invalid: the log has no stream 'x'\n"
    assert list(out.parent.glob("out*")) == []


def test_export_file_has_its_name_only_when_it_is_whole(directory: Path) -> None:
    out = directory.parent / "events.csv"
    out.write_text("of yesterday")
    segment = max(directory.glob("wal-*"))
    whole = segment.read_bytes()
    words = ("export", directory, "--format", "csv", "--stream", "pumps", "--out", out)
    schema = FIRST.canonical_bytes
    catalogue = directory / "catalogue"
    before = catalogue.read_bytes()
    catalogue.write_bytes(before.replace(schema, schema[:-1] + b"\0"))
    assert edgecore(*words, code=12).stderr.startswith("Corrupt: ")
    assert out.read_text() == "of yesterday"
    catalogue.write_bytes(before)
    assert segment.read_bytes() == whole
    edgecore(*words)
    assert len(out.read_text().splitlines()) == 1 + 21 + 5  # five notes hold a line break
    assert list(out.parent.glob("*.part")) == []


# ---------------------------------------------------------------- Parquet


def test_parquet_has_the_types_and_values_of_the_schema(directory: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    out = directory.parent / "events.parquet"
    edgecore("export", directory, "--format", "parquet", "--stream", "pumps", "--out", out)
    table = parquet.read_table(out)
    assert table.num_rows == 21
    assert table.schema.field("time").type == pyarrow.timestamp("ns", tz="UTC")
    assert table.schema.field("temp").type == pyarrow.decimal128(20, 4)
    assert table.schema.field("temp").metadata[b"unit"] == b"degC"
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert about["edgecore.stream"] == "pumps"
    assert bytes.fromhex(about["edgecore.schema"]) == SECOND.canonical_bytes
    times = table["time"].cast(pyarrow.int64()).to_pylist()
    assert times == [*range(FIRST_NS, FIRST_NS + 20), -1]
    temps = table["temp"].to_pylist()
    assert temps == [*(Decimal(20100 + i) / 1000 for i in range(20)), Decimal("1.2345")]
    assert table["note"].to_pylist() == [*(NOTES[i % 4] for i in range(20)), None]
    assert table["pump"].to_pylist() == [*(f"p{i % 3}" for i in range(20)), None]
    assert table["raw"].to_pylist() == [*(bytes([i]) for i in range(20)), None]
    assert table["extra"].to_pylist() == [None] * 20 + [7]
    assert table["values.position"].to_pylist() == [*range(20), None]


def test_parquet_row_groups_are_written_as_they_fill(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(log_export, "GROUP_ROWS", 8)
    out = io.BytesIO()
    with ec.Log.open(directory, read_only=True) as log:
        log_export.write_parquet(log, "pumps", 0, out)
    file = parquet.ParquetFile(io.BytesIO(out.getvalue()))
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sizes == [8, 8, 5]
    assert file.read()["sequence"].to_pylist() == list(range(1, 22))


def test_parquet_of_a_field_with_two_dtypes_is_refused_by_name(directory: Path) -> None:
    pytest.importorskip("pyarrow")
    other = ec.Schema("pumps", tier="bulk", version=3, fields=[ec.Field("temp", "f64")])
    with ec.Log.open(directory, schemas=[other]):
        pass
    out = directory.parent / "out"
    words = ("export", directory, "--stream", "pumps", "--out", out, "--format")
    line = edgecore(*words, "parquet", code=16).stderr
    assert line.startswith("Invalid: field temp: decimal(3) and decimal(4) and f64")
    assert not out.exists()
    edgecore(*words, "csv")


def test_parquet_without_pyarrow_or_file_is_one_line(directory: Path, tmp_path: Path) -> None:
    line = edgecore("export", directory, "--format", "parquet", "--stream", "pumps", code=16).stderr
    assert line == "Invalid: --format parquet: a Parquet table is a file; add --out FILE\n"
    (tmp_path / "hidden" / "pyarrow").mkdir(parents=True)
    missing = "raise ModuleNotFoundError('no', name='pyarrow')"
    (tmp_path / "hidden" / "pyarrow" / "__init__.py").write_text(missing)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'hidden')!r})\n"
        "from edgecore.cli.main import main\n"
        f"sys.exit(main(['log', 'export', {str(directory)!r}, '--format', 'parquet', '--stream', "
        f"'pumps', '--out', {str(tmp_path / 'out')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 15
    assert (
        done.stderr == "Unavailable: this command needs the package pyarrow: pip install pyarrow\n"
    )
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- repair --report


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_report_of_a_whole_log_says_that_nothing_is_to_be_done(directory: Path) -> None:
    before = files(directory)
    text = edgecore("repair", "--report", directory).stdout
    assert "closed in order\n" in text
    assert "\nnothing is lost\n" in text
    assert "the next opening" not in text
    facts = json.loads(edgecore("repair", "--report", directory, "--json").stdout)
    assert (facts["clean"], facts["rows"], facts["lost"], facts["missing"]) == (True, 25, [], 0)
    assert files(directory) == before


def crashed(directory: Path, rows: int) -> Path:
    """A copy of a log as a crash would leave it."""
    copy = directory.parent / "crashed"
    with ec.Log.open(
        directory, schemas=[FIRST], flusher="manual", durability={"bulk": "kernel"}
    ) as log:
        for i in range(rows):
            log.append("pumps", row(i))
        log.sync()
        shutil.copytree(directory, copy)
    return copy


def test_report_says_beforehand_what_the_next_opening_gives_up(tmp_path: Path) -> None:
    log_dir = crashed(tmp_path / "log", 30)
    before = files(log_dir)
    done = edgecore("repair", "--report", log_dir)
    facts = json.loads(edgecore("repair", "--report", log_dir, "--json").stdout)
    assert files(log_dir) == before
    assert "gives up numbers" in done.stdout
    assert (facts["clean"], facts["lost"]) == (False, [])
    told = {(r["partition"], r["first"], r["last"]) for r in facts["to_give_up"]}
    with ec.Log.open(log_dir, flusher="manual") as log:
        assert {r[:3] for r in log.recovery.ranges} == told
        assert {r[3] for r in log.recovery.ranges} == {"burnt"}
    facts = json.loads(edgecore("repair", "--report", log_dir, "--json").stdout)
    assert {(r["partition"], r["first"], r["last"]) for r in facts["given_up"]} == told
    assert "given up by earlier openings" in edgecore("repair", "--report", log_dir).stdout


def test_report_of_damage_names_the_rows_and_what_the_hub_has_of_them(tmp_path: Path) -> None:
    log_dir = crashed(tmp_path / "log", 30)
    (segment,) = log_dir.glob("wal-*")
    data = bytearray(segment.read_bytes())
    data[data.index(b"say", data.index(b"say") + 1)] ^= 1  # the note of the seventh event
    segment.write_bytes(bytes(data))
    with ec.Log.open(log_dir, read_only=True) as log:
        ((_, first, last, _),) = log.verify()[3]
    from edgecore.cursor import Cursor
    from edgecore.fs import PosixFs

    cursor = Cursor(PosixFs(), str(log_dir), "sync")
    cursor.ack(2, first)
    cursor.close()
    before = files(log_dir)
    text = edgecore("repair", "--report", log_dir, code=12).stdout
    assert f"lost to damage: {last - first + 1} row" in text
    held = "all of them" if first == last else "1"
    assert f"pumps (bulk, partition 2): {first}" in text
    assert f"the hub has acknowledged {held}\n" in text
    facts = json.loads(edgecore("repair", "--report", log_dir, "--json", code=12).stdout)
    (lost,) = facts["lost"]
    assert (lost["stream"], lost["first"], lost["last"]) == ("pumps", first, last)
    assert (lost["reason"], lost["acked"]) == ("lost", 1)
    assert files(log_dir) == before


def test_report_of_a_log_that_cannot_be_read_says_what_to_keep(directory: Path) -> None:
    catalogue = directory / "catalogue"
    catalogue.write_bytes(catalogue.read_bytes()[:-3])
    done = edgecore("repair", "--report", directory, code=12)
    assert done.stdout.startswith("not readable: ")
    assert "Keep the directory" in done.stdout
    facts = json.loads(edgecore("repair", "--report", directory, "--json", code=12).stdout)
    assert facts["outcome"] == "Corrupt"


def test_repair_without_report_is_usage_and_changes_nothing(directory: Path) -> None:
    before = files(directory)
    assert "--report" in edgecore("repair", directory, code=2).stderr
    assert files(directory) == before
