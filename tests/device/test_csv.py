"""CSV: what a schema file says is obeyed, what does not fit is refused, counted and named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgecore._core.rows import Batch
from edgecore.device.csv_source import CsvSource
from edgecore.device.schema_file import SchemaFile, load, parse
from edgecore.device.times import instant, reader
from edgecore.errors import EdgecoreError, Invalid, Unavailable
from edgecore.schema import Field, Schema

PUMP = Schema(
    "pump",
    tier="bulk",
    fields=[
        Field("temp", "decimal(2)", range=(-40.0, 150.0)),
        Field("rpm", "i32"),
        Field("mode", "category"),
    ],
)
HOW = SchemaFile(PUMP, time="at")
HEAD = "at,temp,rpm,mode\n"
GOOD = "2024-03-01 00:00:{:02},20.{:02},{},run\n"


def written(path: Path, text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(data)
    return str(path)


def drained(source: CsvSource) -> Batch:
    batch, now = Batch(PUMP), 0
    while not source.finished:
        now = max(source.take(now, batch), now + 1)
    return batch


def test_csv_rows_carry_the_line_and_the_files_time(tmp_path: Path) -> None:
    path = written(tmp_path / "p.csv", HEAD + GOOD.format(1, 5, 7) + "\n" + GOOD.format(2, 6, ""))
    source = CsvSource(path, HOW, source="p.csv")
    rows = drained(source).rows(exact=True)
    assert [(row["source_seq"], row["temp"], row.get("rpm")) for row in rows] == [
        (2, "20.05", 7), (4, "20.06", None),
    ]  # fmt: skip
    assert rows[0]["time"] == 1_709_251_201 * 10**9
    assert {row["source"] for row in rows} == {"p.csv"}
    assert (source.counts.accepted, source.counts.through) == (2, 4)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("2024-03-01 00:00:01,x,7,run", "temp"),
        ("2024-03-01 00:00:01,150.01,7,run", "temp"),
        ("2024-03-01 00:00:01,nan,7,run", "temp"),
        ("2024-03-01 00:00:01,1e400,7,run", "temp"),
        ("2024-03-01 00:00:01,1.5,7.5,run", "rpm"),
        ("2024-03-01 00:00:01,1.5,3000000000,run", "rpm"),
        ("2024-03-01 00:00:01,1.5,7", "3 cells, the header has 4"),
        ("2024-03-01 00:00:01,1.5,7,run,9", "5 cells, the header has 4"),
        ("yesterday,1.5,7,run", "no time"),
        ("9999-03-01 00:00:01,1.5,7,run", "1678 to 2262"),
        (b"2024-03-01 00:00:01,1.5,7,\xff\xfe", "utf-8"),
        ('2024-03-01 00:00:01,1.5,7,"' + "x" * 200_000 + '"', "field larger"),
    ],
)
def test_csv_line_that_does_not_fit_is_refused_and_the_next_is_taken(
    tmp_path: Path, line: str | bytes, says: str
) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    text = HEAD.encode() + raw + b"\n" + GOOD.format(2, 6, 8).encode()
    source = CsvSource(written(tmp_path / "p.csv", text), HOW)
    assert [row["source_seq"] for row in drained(source).rows()] == [3]
    assert (source.counts.accepted, source.counts.rejected) == (1, 1)
    (reason,) = source.counts.reasons
    assert reason.startswith("line 2: ")
    assert says in reason
    assert len(reason) < 200


def test_csv_off_grid_and_backward_rows_are_logged_and_counted(tmp_path: Path) -> None:
    text = HEAD + GOOD.format(9, 6, 1) + "2024-03-01 00:00:03,20.125,2,run\n"
    source = CsvSource(written(tmp_path / "p.csv", text), HOW)
    rows = drained(source).rows(exact=True)
    assert [row["temp"] for row in rows] == ["20.06", "20.12"]  # ties to even
    counts = source.counts
    assert (counts.accepted, counts.off_grid, counts.late) == (2, 1, 1)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("at,temp,rpm\n", "'mode'"),
        ("at,temp,rpm,mode,extra\n", "'extra'"),
        ("when,temp,rpm,mode\n", "'at'"),
        ("at,temp,temp,mode\n", "'temp'"),
        ("", "empty"),
    ],
)
def test_csv_header_that_is_not_the_schemas_stops_the_source(
    tmp_path: Path, head: str, says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        CsvSource(written(tmp_path / "p.csv", head), HOW)


def test_csv_unreadable_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"gone\.csv"):
        CsvSource(str(tmp_path / "gone.csv"), HOW)
    with pytest.raises(Unavailable, match="directory"):
        CsvSource(str(tmp_path), HOW)


def test_csv_endless_line_is_refused_before_it_is_held(tmp_path: Path) -> None:
    source = CsvSource(written(tmp_path / "p.csv", HEAD + "x" * (3 << 20)), HOW)
    with pytest.raises(Invalid, match="line 2 is over"):
        drained(source)


def test_csv_pace_gives_no_more_rows_than_are_due(tmp_path: Path) -> None:
    text = HEAD + "".join(GOOD.format(n, n, n) for n in range(50))
    source = CsvSource(written(tmp_path / "p.csv", text), HOW, rows_per_second=10.0)
    batch = Batch(PUMP)
    assert source.take(5, batch) == 5 + 10**8
    assert source.take(5 + 10**8, batch) == 5 + 2 * 10**8
    assert len(batch) == 2
    source.take(5 + 10**9, batch)
    assert len(batch) == 11
    source.close()


def test_csv_restart_at_any_line_gives_each_row_once(tmp_path: Path, seed: int) -> None:
    """Kill after any prefix of rows reached the log and any earlier account of it: the second run
    gives exactly the rest, and both accounts together are one whole run's."""
    rng = random.Random(seed)
    lines = [
        GOOD.format(n % 60, n % 60, n) if rng.random() < 0.7
        else rng.choice(["bad\n", "x,1,2,run\n", "\n", GOOD.format(n % 60, n % 60, "x")])
        for n in range(80)
    ]  # fmt: skip
    path = written(tmp_path / "p.csv", HEAD + "".join(lines))
    whole = CsvSource(path, HOW)
    expected = [row["source_seq"] for row in drained(whole).rows()]
    for _ in range(40):
        first = CsvSource(path, HOW, rows_per_second=1.0)
        logged = Batch(PUMP)
        accounts = [0, 0, 0]
        through = 0
        for now in range(rng.randrange(1, 60)):
            first.take(now * 10**9, logged)
            if rng.random() < 0.2:  # an account is written after the rows that it counts
                counts = first.counts
                accounts = [accounts[0] + counts.accepted, accounts[1] + counts.rejected,
                            accounts[2] + counts.late]  # fmt: skip
                through = counts.through
                counts.clear()
        first.close()
        held = [row["source_seq"] for row in logged.rows()]
        second = CsvSource(path, HOW, through=through, held=[seq for seq in held if seq > through])
        rest = [row["source_seq"] for row in drained(second).rows()]
        assert held + rest == expected
        assert accounts[0] + second.counts.accepted == whole.counts.accepted
        assert accounts[1] + second.counts.rejected == whole.counts.rejected
        assert accounts[2] + second.counts.late == whole.counts.late


def test_csv_followed_file_growing_by_any_pieces_gives_each_row_once(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    whole = HEAD + "".join(GOOD.format(i % 60, i % 100, i) for i in range(120))
    path = tmp_path / "grows.csv"
    path.write_text(HEAD)
    source, batch, now, at = CsvSource(str(path), HOW, follow=True), Batch(PUMP), 0, len(HEAD)
    while at < len(whole):
        size = chance.choice([1, 3, 40, 400])
        with path.open("a") as file:
            file.write(whole[at : at + size])
        at += size
        later = source.take(now, batch)
        assert later > now
        assert not source.finished
        now = later
    rows = batch.rows(exact=True)
    assert [row["source_seq"] for row in rows] == list(range(2, 122))
    assert [row["rpm"] for row in rows] == list(range(120))
    source.close()


def test_csv_followed_file_keeps_back_a_line_without_its_end(tmp_path: Path) -> None:
    path = written(tmp_path / "p.csv", HEAD + GOOD.format(1, 5, 7) + "2024-03-01 00:00:02,20.0")
    source, batch = CsvSource(path, HOW, follow=True), Batch(PUMP)
    source.take(0, batch)
    assert (len(batch), source.counts.rejected, source.finished) == (1, 0, False)
    with Path(path).open("a") as file:
        file.write("1,9,run\n")
    source.take(1, batch)
    assert [row["temp"] for row in batch.rows(exact=True)] == ["20.05", "20.01"]
    source.close()


@pytest.mark.parametrize(
    ("text", "form", "ns"),
    [
        ("2014-02-14 14:30:00", "iso", 1_392_388_200 * 10**9),
        ("2014-02-14T14:30:00.123456789Z", "iso", 1_392_388_200_123_456_789),
        ("2014-02-14T15:30:00.5+01:00", "iso", 1_392_388_200_500_000_000),
        ("2014-02-14", "iso", 1_392_336_000 * 10**9),
        ("1392388200.000000001", "unix_s", 1_392_388_200_000_000_001),
        ("-1.5", "unix_s", -1_500_000_000),
        ("1392388200123", "unix_ms", 1_392_388_200_123_000_000),
        ("14/02/2014 14:30", "%d/%m/%Y %H:%M", 1_392_388_200 * 10**9),
    ],
)
def test_time_is_read_to_the_nanosecond(text: str, form: str, ns: int) -> None:
    assert reader(form)(text) == ns


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", "iso"), ("20140214", "iso"), ("2014-02-30", "iso"), ("2014-02-14 14:30:00.", "iso"),
        ("2014-02-14 14:30:00.1234567890", "iso"), ("1.0000000001", "unix_s"), ("1e9", "unix_s"),
        ("1.5", "unix_ns"), ("", "unix_ms"), ("--1", "unix_s"), ("1392_388", "unix_s"),
    ],
)  # fmt: skip
def test_time_that_is_none_is_refused(text: str, form: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller says what was wrong with which line
        reader(form)(text)


SCHEMA_FILE = """
stream = "pump"
[csv]
time = "at"
[[field]]
name = "temp"
dtype = "decimal(2)"
range = [-40, 150.0]
"""


def test_schema_file_is_read_and_every_key_is_checked(tmp_path: Path) -> None:
    how = parse("s.toml", SCHEMA_FILE)
    assert (how.schema.stream, how.time, how.delimiter) == ("pump", "at", ",")
    assert how.schema.fields[0].range == (-40.0, 150.0)
    for planted, says in [
        (SCHEMA_FILE + "unti = 'x'\n", "unti"),
        (SCHEMA_FILE.replace("time =", "tiem ="), "tiem"),
        (SCHEMA_FILE.replace("stream =", "streem ="), "streem"),
        (SCHEMA_FILE.replace('"decimal(2)"', "3"), "dtype"),
        (SCHEMA_FILE.replace('"decimal(2)"', '"decimal(99)"'), "decimal"),
        (SCHEMA_FILE.replace("[-40, 150.0]", "[-40]"), "range"),
        (SCHEMA_FILE.replace("[-40, 150.0]", "[150, -40]"), "empty"),
        (SCHEMA_FILE.replace("= [-40", "= [[-40"), "s.toml"),
    ]:
        with pytest.raises(Invalid, match=says):
            parse("s.toml", planted)
    with pytest.raises(EdgecoreError):
        load(written(tmp_path / "s.cbor", b"\xff"))
    with pytest.raises(Invalid, match="UTF-8"):
        load(written(tmp_path / "s.toml", b"\xff"))
    with pytest.raises(Unavailable):
        load(str(tmp_path / "none.toml"))


def test_csv_times_that_a_person_gives_are_read_to_the_nanosecond() -> None:
    at = 1_709_294_400_123_456_789
    assert instant("2024-03-01T12:00:00.123456789") == at
    assert instant("2024-03-01T13:00:00.123456789+01:00") == at
    assert instant(str(at)) == at
    assert instant("-5") == -5
    for text in ("yesterday", "", "2024-13-01T00:00:00", "12:00"):
        with pytest.raises(Invalid, match="nanoseconds since 1970"):
            instant(text)
