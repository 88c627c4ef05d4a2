"""Views that read other streams as of the same times, against an oracle that looks at all rows."""

from __future__ import annotations

import math
import random
from array import array
from pathlib import Path
from typing import Any

import pytest

import edgecore as ec
from edgecore import feature_join
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid, Stale
from edgecore.features import FRESH, MISSING, REASONS, FeatureStore
from edgecore.fs import MemoryFs

SECOND = 10**9
START = 1_700_000_000 * SECOND
LATENESS = 60

Step = tuple[str, dict[str, Any]]


def telemetry() -> ec.Schema:
    fields = [ec.Field("pump", "category"), ec.Field("temp", "decimal(3)", range=(-40, 150))]
    return ec.Schema("telemetry", tier="bulk", fields=fields)


def weather(**outside: Any) -> ec.Schema:
    field = {"dtype": "decimal(1)", "range": (-50, 60), **outside}
    return ec.Schema("weather", tier="bulk", fields=[ec.Field("outside", **field)])


def orders() -> ec.Schema:
    fields = [ec.Field("line", "category"), ec.Field("units", "i32", range=(0, 1000))]
    return ec.Schema("orders", tier="bulk", fields=fields)


SCHEMAS = {schema.stream: schema for schema in (telemetry(), weather(), orders())}


def view(**more: Any) -> ec.FeatureView:
    return ec.FeatureView("pump", entity="pump", source="telemetry", lateness="30s", features=[
        ec.AsOf("weather", ec.Last("outside", within="10m")),
        ec.Agg("temp", "mean", window="1m"),
        ec.AsOf("orders", ec.Agg("units", ["sum", "count"], window="5m"), entity="line"),
        ec.Constant("bias", 0.5),
    ], **more)  # fmt: skip


def steps(seed: int, count: int) -> list[Step]:
    """In order of arrival: disorder within the lateness, ties between streams."""
    chance = random.Random(seed)
    out: list[Step] = []
    time = START
    for number in range(count):
        time += chance.choice([0, 0, 1, 5, 20, 200]) * SECOND
        stream = chance.choice(["telemetry", "telemetry", "weather", "orders"])
        row: dict[str, Any] = {"time": time, "source_seq": number + 1}
        if stream == "telemetry":
            row |= {"pump": chance.choice("ab"), "temp": chance.randrange(100) / 8}
        elif stream == "weather":
            row |= {"outside": chance.randrange(-100, 100) / 10}
        else:
            row |= {"line": chance.choice("abc"), "units": chance.randrange(1000)}
        if stream != "telemetry" and chance.random() < 0.3:
            row["time"] -= chance.randrange(LATENESS * SECOND)
        out.append((stream, row))
    return out


def want(rows: list[Step], pump: str, as_of: int) -> list[float | None]:
    """Of all rows given, whatever their order."""

    def found(stream: str, key: str, window: int, **of: str) -> list[float]:
        inside = [
            row for name, row in rows
            if name == stream and as_of - window * SECOND < row["time"] <= as_of
            and all(row[k] == v for k, v in of.items())
        ]  # fmt: skip
        inside.sort(key=lambda row: (row["time"], row["source_seq"]))
        return [row[key] for row in inside]

    outside = found("weather", "outside", 600)
    temp = found("telemetry", "temp", 60, pump=pump)
    units = found("orders", "units", 300, line=pump)
    ever = found("orders", "units", 600, line=pump)
    return [
        outside[-1] if outside else None, sum(temp) / len(temp) if temp else None,
        sum(units) if units else None, len(units) if ever else None, 0.5,
    ]  # fmt: skip


def said(values: Any, states: Any) -> list[float | None]:
    assert all(state in (FRESH, MISSING) for state in states)
    assert all(math.isnan(v) == (s == MISSING) for v, s in zip(values, states, strict=True))
    return [None if s == MISSING else v for v, s in zip(values, states, strict=True)]


def opened(fs: MemoryFs) -> FeatureStore:
    return FeatureStore.open("f", views=[view()], schemas=SCHEMAS.values(), fs=fs)


def test_join_store_equals_the_oracle_at_every_row_and_across_restarts(seed: int) -> None:
    fs = MemoryFs()
    store = opened(fs)
    rows = steps(seed, 160)
    joined = 0
    for at, (stream, row) in enumerate(rows):
        store.update(stream, row, position=at + 1)
        if at % 23 == 7:
            store.snapshot()
            store = opened(fs)
            assert not store.rebuilt
            assert store.position == at + 1
        as_of = max(row["time"] for _, row in rows[: at + 1])
        reading = store.read("pump", ["a", "b"], as_of)
        for entity, pump in enumerate("ab"):
            cells = slice(entity * 5, entity * 5 + 5)
            expected = want(rows[: at + 1], pump, as_of)
            assert said(reading.values[cells], reading.states[cells]) == expected, at
            joined += expected[0] is not None and expected[2] is not None
    assert joined > 20
    assert store.late_rows == 0


def split(rows: list[Step]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, array[int]]]:
    out: dict[str, list[dict[str, Any]]] = {stream: [] for stream in SCHEMAS}
    positions = {stream: array("Q") for stream in SCHEMAS}
    for at, (stream, row) in enumerate(rows):
        out[stream].append(row)
        positions[stream].append(at + 1)
    return out, positions


def test_join_backfill_answers_with_all_that_had_happened_by_each_time(seed: int) -> None:
    rows = steps(seed, 200)
    tables, _ = split(rows)
    found = ec.backfill(
        view(), tables["telemetry"], schema=telemetry(),
        joined=[(SCHEMAS[one], tables[one]) for one in ("weather", "orders")],
    )  # fmt: skip
    assert len(found) == len(tables["telemetry"])
    for at in range(len(found)):
        row = tables["telemetry"][found.numbers[at]]
        # Of its own stream a row sees those before it in total order, of the others all.
        seen = [
            (name, one) for name, one in rows
            if name != "telemetry"
            or (one["time"], one["source_seq"]) <= (row["time"], row["source_seq"])
        ]  # fmt: skip
        cells = slice(at * 5, at * 5 + 5)
        got = said(found.values[cells], found.states[cells])
        assert got == want(seen, row["pump"], row["time"])


def test_join_backfill_final_answers_stay_what_they_are_when_more_rows_come(seed: int) -> None:
    def found(rows: list[Step]) -> ec.features.Backfilled:
        tables, _ = split(rows)
        return ec.backfill(
            view(), tables["telemetry"], schema=telemetry(), since=START + 40 * SECOND,
            joined=[(SCHEMAS[one], tables[one]) for one in ("weather", "orders")],
        )  # fmt: skip

    final = changed = 0
    for number in range(8):
        rows = steps(seed + number, 160)
        whole = found(rows)
        later = {number: at for at, number in enumerate(whole.numbers)}
        for upto in range(20, 160, 7):
            part = found(rows[:upto])
            for at, number in enumerate(part.numbers):
                cells, then = (slice(5 * one, 5 * one + 5) for one in (at, later[number]))
                same = part.values[cells].tobytes() == whole.values[then].tobytes()
                assert same or not part.final[at]
                final += part.final[at]
                changed += not same
    assert final
    assert changed


def test_join_backfill_as_known_at_ingest_has_the_bits_of_the_stream(seed: int) -> None:
    rows = steps(seed, 200)
    # Late rows of the view's own stream too, some of them too late.
    chance = random.Random(seed + 1)
    for stream, row in rows:
        if stream == "telemetry" and chance.random() < 0.3:
            row["time"] -= chance.randrange(60 * SECOND)
        if stream == "weather" and chance.random() < 0.3:  # ahead, and what follows is late
            row["time"] += chance.randrange(150 * SECOND)
    tables, positions = split(rows)
    found = ec.backfill(
        view(), tables["telemetry"], schema=telemetry(), known="ingest", positions=positions,
        joined=[(SCHEMAS[one], tables[one]) for one in ("weather", "orders")],
    )  # fmt: skip
    store = opened(MemoryFs())
    at = missed = behind = 0
    for position, (stream, row) in enumerate(rows, 1):
        late = store.late_rows
        store.update(stream, row, position=position)
        if stream != "telemetry":
            continue
        cells = slice(at * 5, at * 5 + 5)
        at += 1
        if store.late_rows > late:
            assert bytes(found.states[cells]) == bytes([MISSING] * 5)
            missed += 1
            continue
        reading = store.read("pump", row["pump"], row["time"])
        assert found.values[cells].tobytes() == reading.values.tobytes()
        assert found.states[cells].tobytes() == reading.states.tobytes()
        behind += "behind" in [REASONS[one] for one in reading.reasons]
    assert at == len(found)
    assert found.late == store.late_rows >= missed
    assert missed
    assert behind


def test_join_a_stream_that_is_too_far_ahead_is_missing_and_says_so() -> None:
    store = opened(MemoryFs())
    store.update("telemetry", {"time": START, "pump": "a", "temp": 20})
    store.update("weather", {"time": START, "outside": 3})
    store.update("weather", {"time": START + LATENESS * SECOND, "outside": 9})
    assert store.read("pump", "a", START).values[0] == 3.0
    store.update("weather", {"time": START + LATENESS * SECOND + 1, "outside": 9})
    found = store.read("pump", ["a", "b"], START)
    assert [REASONS[found.reasons[at]] for at in (0, 5)] == ["behind", "behind"]
    assert found.states[0] == MISSING
    assert found.values[1] == 20.0
    store.update("telemetry", {"time": START + 31 * SECOND, "pump": "a", "temp": 20})
    with pytest.raises(Stale):
        store.read("pump", "a", START)


def test_join_fingerprints_cover_the_other_streams_definition_and_nothing_else() -> None:
    before = view().fingerprints_for(telemetry(), [weather(), orders()])
    assert len(set(before)) == 5
    after = view().fingerprints_for(telemetry(), [weather(unit="degC"), orders()])
    assert [one != other for one, other in zip(before, after, strict=True)] == [True] + [False] * 4
    alone = ec.FeatureView("pump", entity="pump", source="telemetry", lateness="30s",
                           features=[ec.Agg("temp", "mean", window="1m")])  # fmt: skip
    assert alone.fingerprints_for(telemetry()) == [before[1]]
    plain = ec.FeatureView("w", entity="", source="weather", lateness="1m",
                           features=[ec.Last("outside", within="10m")])  # fmt: skip
    assert plain.fingerprints_for(weather())[0] != before[0]
    assert ec.FeatureView.from_bytes(view().to_bytes()) == view()


def test_join_is_refused_by_name_where_a_stream_is_not_there() -> None:
    log = ec.Log.open("log", schemas=[telemetry(), weather()], flusher="manual", fs=MemoryFs())
    with pytest.raises(Incompatible, match="also reads stream 'orders'"):
        ec.Pipeline(log, view(), schema=telemetry())
    with pytest.raises(Incompatible, match="also reads stream 'weather': give its schema"):
        view().fingerprints_for(telemetry())
    with pytest.raises(Incompatible, match="also reads stream 'orders': give its schema"):
        FeatureStore.open("f", views=[view()], schemas=[telemetry(), weather()], fs=MemoryFs())
    with pytest.raises(Invalid, match="several streams: give the rows' positions="):
        ec.backfill(view(), [], schema=telemetry(), known="ingest")
    for features in ([ec.AsOf("telemetry", ec.Last("temp"))], [ec.AsOf("weather", ec.Recency())]):
        with pytest.raises(Invalid, match="reads its own stream, and others"):
            ec.FeatureView("v", entity="", source="telemetry", features=features)
    with pytest.raises(Invalid, match="place it beside"):
        ec.AsOf("weather", ec.Constant("c", 1))


def test_join_state_that_is_damaged_or_of_another_view_is_not_used() -> None:
    fs = MemoryFs()
    store = opened(fs)
    for position, (stream, row) in enumerate(steps(3, 40), 1):
        store.update(stream, row, position=position)
    store.snapshot()
    name = blake3(b"pump").hex()[:16] + ".features"
    whole = fs.read_file(f"f/{name}", 1 << 20)
    for at in range(8, len(whole), 97):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        fs.write_atomic(f"f/{name}", bytes(damaged))
        again = opened(fs)
        assert again.rebuilt["pump"].startswith("Corrupt")
        assert again.position == 0
    fs.write_atomic(f"f/{name}", whole[:50])
    assert opened(fs).rebuilt["pump"].startswith("Corrupt")
    plain = ec.FeatureView("pump", entity="pump", source="telemetry", features=[ec.Last("temp")])
    single = FeatureStore.open("f", views=[plain], schemas=[telemetry()], fs=fs)
    single.snapshot()
    assert opened(fs).rebuilt["pump"].startswith("Incompatible")


TOML = """
name = "pump"
entity = "pump"
source = "telemetry"
lateness = "30s"

[[features]]
kind = "as_of"
stream = "weather"

[[features.features]]
kind = "last"
field = "outside"
within = "10m"

[[features]]
field = "temp"
ops = "mean"
window = "1m"

[[features]]
kind = "as_of"
stream = "orders"
entity = "line"

[[features.features]]
field = "units"
ops = ["sum", "count"]
window = "5m"

[[features]]
kind = "constant"
name = "bias"
value = 0.5
"""


def test_join_of_a_toml_view_is_the_same_definition() -> None:
    assert ec.FeatureView.from_toml(TOML) == view()


@pytest.mark.parametrize(
    "join",
    [1, "weather", {}, {"stream": "", "entity": "", "lateness": 1},
     {"stream": "weather", "entity": "", "lateness": "1m"},
     {"stream": "weather", "entity": 3, "lateness": 1},
     {"stream": "weather", "entity": "", "lateness": 1, "more": 1}],
)  # fmt: skip
def test_join_of_a_hostile_definition_is_corrupt(join: object) -> None:
    from cbor2 import dumps, loads

    body = loads(view().to_bytes())
    body["features"][0]["join"] = join
    with pytest.raises(Corrupt, match="feature view"):
        ec.FeatureView.from_bytes(dumps(body, canonical=True))


def test_join_parity_of_a_log_is_0_bits_and_sees_a_planted_difference(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecore.cli.main import main
    from edgecore.feature_join_parity import parity

    rows = steps(seed, 150)
    chance = random.Random(seed + 1)
    (tmp_path / "view.toml").write_text(TOML)
    with ec.Log.open(tmp_path / "log", schemas=list(SCHEMAS.values()), flusher="manual") as log:
        for stream, row in rows:
            if chance.random() < 0.2:
                row["time"] -= chance.randrange(60 * SECOND)
            log.append(stream, row)
        log.sync()
        report = parity(view(), log)
        assert report.bits == 0
        assert report.compared["batch"] == 5 * sum(stream == "telemetry" for stream, _ in rows)
        assert report.compared["restore"] > 0

        def later(view: Any, batches: Any, schemas: Any, positions: Any, *span: int) -> Any:
            moved = [position + 4 for position in positions["weather"]]
            return feature_join.backfill(
                view, batches, schemas, {**positions, "weather": moved}, *span
            )

        monkeypatch.setattr("edgecore.feature_join_parity.backfill", later)
        assert parity(view(), log).bits > 0
        monkeypatch.undo()
    out = tmp_path / "out.jsonl"
    words = ["features", "backfill", str(tmp_path / "view.toml"), str(tmp_path / "log"), "--json",
             "--out", str(out), "--known"]  # fmt: skip
    for known in ("ingest", "event"):
        assert main([*words, known]) == 0
        assert len(out.read_text().splitlines()) == report.rows
    assert main(["features", "parity", str(tmp_path / "view.toml"), str(tmp_path / "log")]) == 0


SCHEMA_FILES = {
    "telemetry": '[[field]]\nname = "pump"\ndtype = "category"\n'
                 '[[field]]\nname = "temp"\ndtype = "decimal(3)"\nrange = [-40, 150]\n',
    "weather": '[[field]]\nname = "outside"\ndtype = "decimal(1)"\nrange = [-50, 60]\n',
    "orders": '[[field]]\nname = "line"\ndtype = "category"\n'
              '[[field]]\nname = "units"\ndtype = "i32"\nrange = [0, 1000]\n',
}  # fmt: skip


def test_join_backfill_of_files_is_that_of_the_rows(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from edgecore.cli.main import main

    tables, _ = split(steps(seed, 120))  # a line of a file is its source_seq
    for stream, rows in tables.items():
        names = [field.name for field in SCHEMAS[stream].fields]
        lines = [",".join(str(row[name]) for name in ["time", *names]) for row in rows]
        (tmp_path / f"{stream}.csv").write_text("\n".join([",".join(["time", *names]), *lines]))
        (tmp_path / f"{stream}.toml").write_text(
            f'stream = "{stream}"\n[csv]\ntime = "time"\ntime_format = "unix_ns"\n'
            + SCHEMA_FILES[stream]
        )
    (tmp_path / "view.toml").write_text(TOML)
    files = {one: [str(tmp_path / f"{one}.toml"), str(tmp_path / f"{one}.csv")] for one in tables}
    words = ["features", "backfill", str(tmp_path / "view.toml"), files["telemetry"][1],
             "--schema", files["telemetry"][0], "--json"]  # fmt: skip
    others = [word for one in ("weather", "orders") for word in ("--joined", *files[one])]
    assert main([*words, *others]) == 0
    told = [json.loads(line)["values"] for line in capsys.readouterr().out.splitlines()]
    found = ec.backfill(
        view(), tables["telemetry"], schema=telemetry(),
        joined=[(SCHEMAS[one], tables[one]) for one in ("weather", "orders")],
    )  # fmt: skip
    assert [list(one.values()) for one in told] == [
        [None if value != value else value for value in row] for row in found.rows()
    ]
    assert main([*words, *others, "--known", "ingest"]) == Invalid.exit_code
    assert main(words) == Incompatible.exit_code
    assert "also reads stream 'weather': give its" in capsys.readouterr().err
    assert main([*words, *others, "--joined", *files["telemetry"]]) == Invalid.exit_code


def test_join_gaps_lower_what_is_read_of_their_stream_alone(seed: int) -> None:
    from edgecore.feature_gaps import gaps_at
    from edgecore.feature_join_parity import parity
    from edgecore.streams import GAP

    covered = ec.FeatureView("pump", entity="pump", source="telemetry", lateness="30s", features=[
        ec.Agg("temp", "mean", window="5m", min_coverage=0.5),
        ec.AsOf("orders", ec.Agg("units", "sum", window="5m", min_coverage=0.5), entity="line"),
    ])  # fmt: skip
    history = steps(seed, 300)
    missing: dict[str, list[int]] = {}
    for stream in ("", "telemetry", "orders", "weather"):
        chance = random.Random(seed)
        log = ec.Log.open("log", fs=MemoryFs(), flusher="manual", schemas=[*SCHEMAS.values(), GAP])
        for name, row in history:
            if chance.randrange(10) == 0 and stream:
                log.append(GAP.stream, {"stream": stream, "begin": row["time"] - 200 * SECOND,
                                        "end": row["time"], "kind": "off"})  # fmt: skip
            log.append(name, row)
        report = parity(covered, log, points=6)
        assert report.bits == 0
        assert report.compared["restore"] > 0
        batches = {name: [row for scanned in log.scan(name) for row in scanned.rows(exact=True)]
                   for name in SCHEMAS}  # fmt: skip
        found = ec.backfill(
            covered, batches["telemetry"], schema=telemetry(),
            joined=[(orders(), batches["orders"])],
            gaps={name: gaps_at(log, name) for name in SCHEMAS},
        )  # fmt: skip
        missing[stream] = [list(found.states[at::2]).count(MISSING) for at in (0, 1)]
    assert missing["weather"] == missing[""]
    assert missing["telemetry"][0] > missing[""][0]
    assert missing["telemetry"][1] == missing[""][1]
    assert missing["orders"][0] == missing[""][0]
    assert missing["orders"][1] > missing[""][1]
    with pytest.raises(Invalid, match="by stream"):
        ec.backfill(covered, [], schema=telemetry(), joined=[(orders(), [])], gaps=[(0, 1, 2)])
