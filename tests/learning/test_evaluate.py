"""The evaluation, on histories small enough to count by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecore.cli import evaluate
from edgecore.errors import Invalid
from edgecore.wire import cbor

HOUR = 3600 * 10**9


def history() -> tuple[list[int], list[float], list[int], list[int], list[tuple[int, int]]]:
    """100 hours; windows at 20-29 and 60-69; alerts at 25-34 (one episode) and 80-84 (another);
    the first ten rows are not judged."""
    times = [i * HOUR for i in range(100)]
    values = [float(i % 7) for i in range(100)]
    verdicts = [2] * 10 + [int(25 <= i <= 34 or 80 <= i <= 84) for i in range(10, 100)]
    episodes = [1 if 25 <= i <= 34 else 2 if 80 <= i <= 84 else 0 for i in range(100)]
    return times, values, verdicts, episodes, [(20 * HOUR, 29 * HOUR), (60 * HOUR, 69 * HOUR)]


def test_evaluate_counts_what_can_be_counted_by_hand() -> None:
    found = evaluate.evaluate(*history())
    ours = found["ours"]
    assert (ours.hit, ours.flagged, ours.episodes, ours.false_episodes) == (1, 15, 2, 1)
    assert ours.precision == pytest.approx(5 / 15)
    assert ours.recall == pytest.approx(5 / 20)
    assert found["windows"] == 2
    assert found["rows"] == 90
    assert found["base_rate"] == pytest.approx(20 / 90)


def test_evaluate_windows_before_the_first_judged_row_do_not_count() -> None:
    times, values, verdicts, episodes, windows = history()
    found = evaluate.evaluate(times, values, verdicts, episodes, [(0, 5 * HOUR), *windows])
    assert found["windows"] == 2


def test_evaluate_random_flagger_is_as_precise_as_windows_are_frequent() -> None:
    found = evaluate.evaluate(*history())
    assert found["random"].episodes == 2
    assert found["random"].precision == pytest.approx(found["base_rate"], abs=0.07)
    assert found["random"].body() == evaluate.evaluate(*history())["random"].body()  # seeded


def test_evaluate_z_score_flags_as_many_rows_as_we_do() -> None:
    times, _, verdicts, episodes, windows = history()
    values = [float(i * 7919 % 97) + (500 if i == 90 else 0) for i in range(100)]
    found = evaluate.evaluate(times, values, verdicts, episodes, windows)
    assert found["z_score"].flagged == found["ours"].flagged
    # With no alert of ours it may raise none.
    silent = evaluate.evaluate(times, values, [0] * 100, [0] * 100, windows)
    assert silent["z_score"].flagged == silent["ours"].flagged == 0
    assert silent["ours"].precision == 0


def test_evaluate_z_score_sees_a_spike_and_forgets_it() -> None:
    values = [10.0 + (i % 3) / 10 for i in range(1000)]
    values[500] = 99.0
    scores = evaluate.z_scores(values)
    assert max(range(1000), key=scores.__getitem__) == 500
    again = evaluate.z_scores(values[501:])
    assert scores[-1] == again[-1]  # running sums leave nothing behind


def test_evaluate_with_no_judged_row_is_invalid() -> None:
    times, values, _, episodes, windows = history()
    with pytest.raises(Invalid, match="no row was judged"):
        evaluate.evaluate(times, values, [2] * 100, episodes, windows)


def test_evaluate_reads_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times, values, verdicts, episodes, windows = history()
    lines = []
    for number, role in ((1, "active"), (2, "shadow")):
        said = {"context": number, "body": cbor.encode({"role": role}).hex()}
        lines.append({"stream": "edgecore.context", "position": 0, "values": said})
    for i, (time, value) in enumerate(zip(times, values, strict=True)):
        row = {"stream": "s", "position": i + 1, "time": time, "sequence": i + 1}
        lines.append({**row, "values": {"value": str(value), "episode": 0}})
        if verdicts[i] != 2:
            body = {"position": i + 1, "verdict": verdicts[i], "episode": episodes[i] or None}
            other = {"stream": "edgecore.prediction", "position": 1000 + i, "sequence": i + 1}
            lines.append({**other, "time": time, "values": {**body, "context": 1}})
            # What a release on trial says is not ours yet.
            trial = {**body, "context": 2, "verdict": 1, "episode": i + 1}
            lines.append({**other, "time": time, "values": trial})
    export = tmp_path / "device.jsonl"
    export.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = evaluate.from_export(str(export), "value")
    assert read == (times, values, verdicts, episodes)
    assert evaluate.evaluate(*read, windows)["ours"].hit == 1


def test_evaluate_labels_are_read_by_name_and_bad_ones_named(tmp_path: Path) -> None:
    labels = tmp_path / "labels.json"
    labels.write_text('{"a/x.csv": [["2014-01-01 00:00:01.5", "2014-01-01T00:00:02"]]}')
    first = 1_388_534_400 * 10**9
    found = evaluate.load_windows(str(labels), "x.csv")
    assert found == [(first + 1_500_000_000, first + 2 * 10**9)]
    with pytest.raises(Invalid, match="no windows"):
        evaluate.load_windows(str(labels), "y.csv")
    labels.write_text('{"x.csv": [["soon", "later"]]}')
    with pytest.raises(Invalid, match="soon"):
        evaluate.load_windows(str(labels), "x.csv")
