"""Backfills: where rows come from, what was known when, and partitions of time."""

from __future__ import annotations

import pickle
import random
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgecore.errors import Invalid, Unavailable
from edgecore.feature_backfill import read_parquet, warm_from
from edgecore.feature_parity import parity
from edgecore.features import (
    MISSING,
    Agg,
    Backfilled,
    FeatureStore,
    FeatureView,
    Last,
    Recency,
    backfill,
    prepare,
)
from edgecore.schema import Field, Schema

SECOND = 10**9
START = 1_700_000_000 * SECOND
SCHEMA = Schema(
    "telemetry",
    tier="bulk",
    fields=[Field("pump", "category"), Field("temp", "decimal(3)", range=(-40, 150))],
)
VIEW = FeatureView(
    "pump_health",
    entity="pump",
    source="telemetry",
    lateness="30s",
    features=[
        Agg("temp", ["count", "mean", "std", "min"], window=["1m", "10m"], ttl="90s"),
        Agg("temp", "max", window="5m", min_coverage=0.5),
        Last("temp", within="10m"),
        Recency(within="10m"),
    ],
)


def rows_of(seed: int, count: int = 600) -> list[dict[str, Any]]:
    """In order of arrival: some late, of them some too late; silences of many minutes."""
    chance = random.Random(seed)
    time = START
    rows = []
    for i in range(count):
        time += chance.randrange(9 * SECOND)
        time += chance.randrange(1800) * SECOND if chance.random() < 0.01 else 0
        late = chance.randrange(50) * SECOND if chance.random() < 0.2 else 0
        rows.append(
            {
                "time": time - late,
                "pump": chance.choice("abc"),
                "source_seq": i + 1,
                "temp": chance.randrange(-40_000, 150_000) / 1000,
            }
        )
    return rows


def same(one: Backfilled, other: Backfilled) -> bool:
    """To the bit."""
    bits = [(bytes(found.values.cast("B")), bytes(found.states)) for found in (one, other)]
    return bits[0] == bits[1] and list(one.times) == list(other.times)


def test_known_at_ingest_is_what_the_stream_answered(tmp_path: Path, seed: int) -> None:
    rows = rows_of(seed)
    found = backfill(VIEW, rows, schema=SCHEMA, known="ingest")
    store = FeatureStore.open(str(tmp_path), views=[VIEW], schemas=[SCHEMA])
    width = len(VIEW.names)
    late = 0
    for at, row in enumerate(rows):
        store.update("telemetry", row)
        answer = found.values[at * width : (at + 1) * width].tolist()
        if store.late_rows > late:
            late = store.late_rows
            assert set(found.states[at * width : (at + 1) * width]) == {MISSING}
            continue
        reading = store.read(VIEW, row["pump"], as_of=row["time"])
        assert repr(reading.values.tolist()) == repr(answer)
        assert bytes(reading.states) == bytes(found.states[at * width : (at + 1) * width])
    assert found.late == late > 0
    assert list(found.numbers) == list(range(len(rows)))


def test_known_by_event_time_takes_rows_in_any_order(seed: int) -> None:
    rows = rows_of(seed, 300)
    whole = backfill(VIEW, rows, schema=SCHEMA)
    random.Random(seed).shuffle(rows)
    assert same(whole, backfill(VIEW, rows, schema=SCHEMA))
    assert whole.late == 0
    assert not same(whole, backfill(VIEW, rows, schema=SCHEMA, known="ingest"))


@pytest.mark.parametrize("known", ["event", "ingest"])
def test_partitions_warmed_by_a_horizon_are_the_whole(seed: int, known: str) -> None:
    rows = rows_of(seed)
    whole = backfill(VIEW, rows, schema=SCHEMA, known=known)
    chance = random.Random(seed)
    times = sorted(chance.choice(rows)["time"] for _ in range(4))
    width = len(VIEW.names)
    answered = 0
    for since, until in zip([None, *times], [*times, None], strict=True):
        low = rows[0]["time"] - 100 * SECOND if since is None else since
        warm = [row for row in rows if row["time"] >= warm_from(VIEW, SCHEMA, low)]
        part = backfill(VIEW, warm, schema=SCHEMA, known=known, since=since, until=until)
        wanted = [
            at for at, time in enumerate(whole.times)
            if (since is None or time >= since) and (until is None or time < until)
        ]  # fmt: skip
        assert [whole.times[at] for at in wanted] == list(part.times)
        for place, at in enumerate(wanted):
            want, own = whole.values[at * width :][:width], part.values[place * width :][:width]
            assert bytes(want.cast("B")) == bytes(own.cast("B"))
        answered += len(part)
    assert answered == len(rows)


def test_a_partition_without_its_warm_up_differs(seed: int) -> None:
    rows = rows_of(seed)
    by_time = sorted(rows, key=lambda row: row["time"])
    # Not after a silence: an entity's row follows one of its own at once.
    since = next(
        later["time"]
        for row, later in pairwise(by_time[400:])
        if row["pump"] == later["pump"] and 0 < later["time"] - row["time"] < 60 * SECOND
    )
    cold = [row for row in rows if row["time"] >= since]
    whole = backfill(VIEW, rows, schema=SCHEMA, since=since)
    assert not same(whole, backfill(VIEW, cold, schema=SCHEMA, since=since))


def test_arrow_pandas_polars_and_parquet_give_the_same_bits(tmp_path: Path, seed: int) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = rows_of(seed, 200)
    want = backfill(VIEW, rows, schema=SCHEMA)
    table = pyarrow.Table.from_pylist(rows)
    assert same(want, backfill(VIEW, table, schema=SCHEMA))
    stamped = table.set_column(0, "time", table["time"].cast(pyarrow.timestamp("ns", tz="UTC")))
    parquet.write_table(stamped, tmp_path / "rows.parquet", row_group_size=64)
    assert same(want, backfill(VIEW, tmp_path / "rows.parquet", schema=SCHEMA))
    for name in ("pandas", "polars"):
        if name in sys.modules or _has(name):
            module = __import__(name)
            assert same(want, backfill(VIEW, module.DataFrame(rows), schema=SCHEMA)), name


def _has(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def test_view_that_was_planned_goes_to_another_process_as_one_that_was_not() -> None:
    planned = FeatureView.from_bytes(VIEW.to_bytes())
    assert planned.plan(SCHEMA) is planned.plan(SCHEMA)
    there = pickle.loads(pickle.dumps(planned))
    assert there == VIEW
    found, want = (backfill(view, rows_of(1), schema=SCHEMA) for view in (there, VIEW))
    assert bytes(found.values) == bytes(want.values)


def test_parquet_with_positions_is_replayed_in_order_of_arrival(tmp_path: Path, seed: int) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = rows_of(seed, 200)
    want = backfill(VIEW, rows, schema=SCHEMA, known="ingest")
    placed = [{**row, "position": at + 1, "partition": 7} for at, row in enumerate(rows)]
    random.Random(seed).shuffle(placed)
    parquet.write_table(pyarrow.Table.from_pylist(placed), tmp_path / "rows.parquet")
    found = backfill(VIEW, str(tmp_path / "rows.parquet"), schema=SCHEMA, known="ingest")
    assert same(want, found)


def test_arrow_out_holds_values_states_and_nulls(seed: int) -> None:
    pytest.importorskip("pyarrow")
    found = backfill(VIEW, rows_of(seed, 100), schema=SCHEMA)
    table = found.to_arrow()
    assert table.num_rows == len(found)
    assert table["entity"].to_pylist() == found.entities
    for name in VIEW.names:
        values = [None if value != value else value for value in found.column(name)]
        assert table[name].to_pylist() == values
    states = table["temp_std_1m.state"].to_pylist()
    assert (MISSING in states) == (None in table["temp_std_1m"].to_pylist())


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Unavailable, match="pip install pyarrow"):
        read_parquet("rows.parquet", SCHEMA)


def test_parquet_that_is_none_is_invalid(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(Invalid, match=r"rows\.parquet"):
        backfill(VIEW, tmp_path / "rows.parquet", schema=SCHEMA)
    with pytest.raises(Unavailable):
        backfill(VIEW, tmp_path / "absent.parquet", schema=SCHEMA)
    with pytest.raises(Invalid, match="known="):
        backfill(VIEW, [], schema=SCHEMA, known="later")


def test_parity_is_0_bits_and_sees_a_planted_difference(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    from edgecore._core import features as core

    rows = prepare(SCHEMA, rows_of(seed))
    report = parity(VIEW, rows, SCHEMA)
    assert report.bits == 0
    assert report.late > 0
    assert min(report.compared.values()) > 0
    real = core.backfill

    def planted(*given: Any) -> Any:
        found = real(*given)
        found[1][8 * 3] ^= 1  # the last bit of one value of the fourth feature
        return found

    monkeypatch.setattr(core, "backfill", planted)
    report = parity(VIEW, rows, SCHEMA)
    assert report.bits == 1
    assert report.differing["batch"] == [int(at == 3) for at in range(len(VIEW.names))]
