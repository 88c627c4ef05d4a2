"""`schema infer`: grids that lose nothing that was meant, and one line for what is ambiguous."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgecore._core.rows import Batch
from edgecore.cli.main import main
from edgecore.device.csv_source import CsvSource
from edgecore.device.infer import grid_digits, infer
from edgecore.device.schema_file import load, parse
from edgecore.errors import Invalid


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("5", 0), ("5.0", 1), ("-0.250", 3), ("1e3", 0), ("1.5e-3", 4), ("74.93588199999998", 6),
        ("94.79799999999999", 3), ("51.846000000000004", 3), ("0.1234567890123456", 16),
        ("nan", None), ("inf", None), ("1_000", None), ("x", None), ("", None),
    ],
)  # fmt: skip
def test_infer_takes_a_number_as_it_was_meant(text: str, digits: int | None) -> None:
    assert grid_digits(text) == digits


FILE = """timestamp,temp,count,mode,note
2024-03-01 00:00:00,20.10,1,run,a
2024-03-01 00:05:00,20.199999999999999,2,run,
2024-03-01 00:10:00,,3,stop,c d
2024-03-01 00:08:00,-3.5,4,run,"e, f"
"""


def test_infer_proposes_grids_says_what_they_lose_and_leaves_units_empty(tmp_path: Path) -> None:
    path = written(tmp_path / "pump.csv", FILE)
    proposal = infer(path, "pump")
    fields = {field.name: field for field in proposal.how.schema.fields}
    assert {name: field.dtype_text for name, field in fields.items()} == {
        "temp": "decimal(2)", "count": "i64", "mode": "category", "note": "utf8",
    }  # fmt: skip
    assert all(field.unit == "" and not field.required for field in fields.values())
    assert fields["temp"].range == (-10_000.0, 10_000.0)
    assert "1 of 4 values are off this grid" in proposal.notes["temp"]
    assert "1 cells are empty" in proposal.notes["temp"]
    assert (proposal.interval_ns, proposal.backwards) == (300 * 10**9, 1)
    again = parse("x", proposal.toml())
    assert again.schema == proposal.how.schema
    assert again.columns == proposal.how.columns


def test_infer_then_ingest_takes_every_row(tmp_path: Path) -> None:
    path = written(tmp_path / "pump.csv", FILE)
    how = parse("x", infer(path, "pump").toml())
    source, batch = CsvSource(path, how), Batch(how.schema)
    source.take(0, batch)
    rows = batch.rows(exact=True)
    assert [row["temp"] for row in rows] == ["20.10", "20.20", None, "-3.50"]
    assert source.counts.rejected == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("time,v\n", "no rows"),
        ("a,b\n1,2\n", "--time"),
        ("a,b,v\n2024-03-01,2024-03-02,1\n", "--time"),
        ("at,v\n03/04/2024 10:00,1\n05/06/2024 10:00,2\n", "--time-format"),
        ("at,v\n2024-03-01,1.5\n2024-03-02,n/a\n", "--as v="),
        ("at,v;w\n2024,1;2\n", "--delimiter"),
        ("at;v\n2024-03-01;1,5\n2024-03-02;2,25\n", "decimal commas"),
        ("at\n2024-03-01\n", "--delimiter"),
        ("at,v\n2024-03-01,1\n2024-03-02,1,2\n", "--delimiter"),
        ("at,v\n" + "2024-03-01,1\n" * 30 + "2024-03-02,1,2\n", "line 32 has 3 cells"),
        ("at,v,v\n2024-03-01,1,2\n", "repeated"),
        ("at,\n2024-03-01,1\n", "empty"),
        ("at," + "x" * 24 + "," + "x" * 25 + "\n2024-03-01,1,2\n", "23 bytes"),
    ],
)
def test_infer_refuses_what_reads_in_two_ways_in_one_line(
    tmp_path: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "f.csv", text)
    assert main(["schema", "infer", path]) == Invalid.exit_code
    said = capsys.readouterr().err
    assert said.startswith("Invalid: ")
    assert says in said
    assert said.count("\n") == 1


def test_infer_answers_decide_what_was_ambiguous(tmp_path: Path) -> None:
    path = written(tmp_path / "f.csv", "at,v\n03/04/2024 10:00,1\n05/06/2024 10:00,n/a\n")
    proposal = infer(path, "f", time_format="%d/%m/%Y %H:%M", dtypes={"v": "decimal(1)"})
    assert proposal.how.schema.fields[0].dtype_text == "decimal(1)"
    assert "1 cells are no numbers" in proposal.notes["v"]
    assert proposal.interval_ns == 63 * 86_400 * 10**9
    with pytest.raises(Invalid, match="no such column"):
        infer(path, "f", time_format="%d/%m/%Y %H:%M", dtypes={"w": "i64"})


def test_infer_reads_epochs_by_name_and_size(tmp_path: Path) -> None:
    path = written(tmp_path / "f.csv", "ts;v\n1709251200123;1\n1709251201123;2\n")
    how = infer(path, "f").how
    assert (how.time, how.time_format, how.delimiter) == ("ts", "unix_ms", ";")


def test_infer_long_header_gets_a_field_name_and_keeps_its_column(tmp_path: Path) -> None:
    long = "temperature at the inlet of pump 7"
    path = written(tmp_path / "f.csv", f"at,{long}\n2024-03-01,1.5\n")
    out = str(tmp_path / "f.toml")
    assert main(["schema", "infer", path, "--out", out]) == 0
    how = load(out)
    assert how.columns == {"temperature at the inle": long}
    assert main(["schema", "infer", path, "--out", str(tmp_path / "f.cbor")]) == 16


def check_real(path: Path, tmp_path: Path, dtype: str, changed: int) -> None:
    out = str(tmp_path / "s.cbor")
    assert main(["schema", "infer", str(path), "--stream", "m", "--out", out]) == 0
    how = load(out)
    assert how.schema.fields[0].dtype_text == dtype
    how.time = "timestamp"
    source, batch = CsvSource(str(path), how), Batch(how.schema)
    while not source.finished:
        source.take(0, batch)
    assert (source.counts.rejected, batch.off_grid) == (0, changed)


def test_infer_machine_temperature(data_file: Any, tmp_path: Path) -> None:
    name = "nab/data/realKnownCause/machine_temperature_system_failure.csv"
    check_real(data_file(name), tmp_path, "decimal(9)", 1190)


def test_infer_generated_twin_of_machine_temperature(tmp_path: Path) -> None:
    lines = [f"2024-03-{1 + n // 24:02} {n % 24:02}:00:00,{0.1 * (700 + n)!r}" for n in range(200)]
    path = tmp_path / "f.csv"
    path.write_text("timestamp,value\n" + "\n".join(lines) + "\n")
    noisy = sum(len(line.split(",")[1]) > 6 for line in lines)
    assert noisy > 20
    check_real(path, tmp_path, "decimal(1)", noisy)


def test_infer_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "infer", written(tmp_path / "pump.csv", FILE), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["fields"][0] == {"name": "temp", "dtype": "decimal(2)", "range": [-1e4, 1e4]}
