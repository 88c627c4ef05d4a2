"""How good alerts are, against labelled windows: windows hit, precision, false episodes; beside a
rolling z-score and a random flagger that alert as often.

    python -m edgecore.cli.evaluate EXPORT.jsonl FIELD LABELS.json NAME [--json]

EXPORT is `edgecore log export` (docs/formats/export.md); LABELS maps a file's name to its windows,
as the Numenta Anomaly Benchmark has them (Lavin and Ahmad, 2015). Only rows that a verdict was
given for count, and only windows that end after the first of them. The z-score gets the benefit of
hindsight: its limit is the one at which it flags as many rows as we do.
"""

from __future__ import annotations

import datetime
import json
import math
import random
import sys
from bisect import bisect_left, bisect_right
from pathlib import Path

from edgecore.errors import Invalid, Unavailable
from edgecore.wire import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Window = tuple[int, int]  # inclusive, ns
    Span = tuple[int, int]  # first and last row, as indices

Z_ROWS = 288  # rows that the rolling mean and deviation are taken over
GAP_ROWS = 72  # flagged rows closer than this are one episode
DRAWS = 200
DAY_NS = 86_400 * 10**9


class Measures:
    """One flagger over the judged rows. Averages where it was drawn at random."""

    NAMES = ("hit", "precision", "recall", "flagged", "episodes", "false_episodes")
    __slots__ = NAMES

    def __init__(
        self, hit: float, precision: float, recall: float, flagged: float, episodes: float,
        false_episodes: float,
    ) -> None:  # fmt: skip
        self.hit = hit  # labelled windows with at least one flagged row
        self.precision = precision  # share of the flagged rows that lie in a window; 0 of none
        self.recall = recall  # share of the windows' rows that are flagged
        self.flagged = flagged
        self.episodes = episodes
        self.false_episodes = false_episodes  # those that touch no window

    def body(self) -> dict[str, float]:
        return {name: round(getattr(self, name), 4) for name in self.NAMES}


def load_windows(path: str, name: str) -> list[Window]:
    """The labelled windows of a file in a label file; times without a zone are UTC."""
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise Invalid(f"{path}: {error}") from None
    entry = next((found[key] for key in sorted(found) if key.endswith(name)), None)
    if entry is None:
        raise Invalid(f"{path}: no windows for {name!r}")
    return [(nanoseconds(start), nanoseconds(end)) for start, end in entry]


def nanoseconds(text: str) -> int:
    """An ISO 8601 time as ns since 1970; without a zone it is UTC. Raises ``Invalid``."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text!r} is no ISO 8601 time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (since // datetime.timedelta(microseconds=1)) * 1000


class Labels:
    """Which of the judged rows lie in which labelled window, and how many do before each row."""

    def __init__(self, times: Sequence[int], windows: Sequence[Window]) -> None:
        inside = [any(start <= time <= end for start, end in windows) for time in times]
        self.before = [0]
        for label in inside:
            self.before.append(self.before[-1] + label)
        self.rows = [
            (bisect_left(times, start), bisect_right(times, end) - 1) for start, end in windows
        ]

    def within(self, span: Span) -> int:
        """How many rows of the span lie in a window."""
        return self.before[span[1] + 1] - self.before[span[0]]


def measure(flagged: Sequence[Span], episodes: Sequence[Span], labels: Labels) -> Measures:
    """`flagged`: disjoint runs of flagged rows; `episodes` may hold rows that are not."""
    count = sum(last - first + 1 for first, last in flagged)
    true = sum(labels.within(span) for span in flagged)
    hit = sum(
        any(first <= end and start <= last for first, last in flagged) for start, end in labels.rows
    )
    return Measures(
        hit,
        true / count if count else 0.0,
        true / labels.before[-1] if labels.before[-1] else 0.0,
        count,
        len(episodes),
        sum(not labels.within(span) for span in episodes),
    )


def joined(flags: Sequence[bool], gap: int = GAP_ROWS) -> list[Span]:
    """Flagged rows as episodes: a pause of more than `gap` rows begins another. With a gap of one
    row, the runs of flagged rows."""
    found: list[list[int]] = []
    for row, flag in enumerate(flags):
        if flag and found and row - found[-1][1] <= gap:
            found[-1][1] = row
        elif flag:
            found.append([row, row])
    return [(first, last) for first, last in found]


def episodes_of(numbers: Sequence[int]) -> list[Span]:
    """Episodes as the verdicts number them (0 = none): first and last row of each."""
    found: dict[int, list[int]] = {}
    for row, number in enumerate(numbers):
        if number:
            found.setdefault(number, [row, row])[1] = row
    return [(first, last) for first, last in found.values()]


def z_scores(values: Sequence[float]) -> list[float]:
    """|value - mean| / deviation over the Z_ROWS rows before it; 0 where there are too few."""
    grid = [round(value * 10**9) for value in values]  # integers: running sums stay exact
    out, total, squares = [], 0, 0
    for row, value in enumerate(grid):
        count = min(row, Z_ROWS)
        deviation = math.sqrt(max(0, count * squares - total * total)) / max(1, count)
        mean = total / max(1, count)
        out.append(abs(value - mean) / max(deviation, 1.0) if count >= Z_ROWS // 4 else 0.0)
        total, squares = total + value, squares + value * value
        if row >= Z_ROWS:
            old = grid[row - Z_ROWS]
            total, squares = total - old, squares - old * old
    return out


def rate_matched(scores: Sequence[float], count: int) -> list[bool]:
    """Flags the `count` highest (ties above the last one's score alone)."""
    if count == 0:
        return [False] * len(scores)
    limit = sorted(scores, reverse=True)[count - 1]
    return [score >= limit > 0 for score in scores]


def at_random(rows: int, flagged: Sequence[Span], labels: Labels, seed: int) -> Measures:
    """Runs of the same lengths at random places: as many alerts, and as many flagged rows but for
    overlaps. Averages over DRAWS draws."""
    chance = random.Random(seed)
    drawn = []
    for _ in range(DRAWS):
        placed: list[Span] = []
        for first, last in flagged:
            start = chance.randrange(rows - (last - first))
            placed.append((start, start + last - first))
        drawn.append(measure(_merged(placed), placed, labels))
    return Measures(*(sum(getattr(one, name) for one in drawn) / DRAWS for name in Measures.NAMES))


def _merged(spans: list[Span]) -> list[Span]:
    out: list[Span] = []
    for first, last in sorted(spans):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return out


def evaluate(
    times: Sequence[int],
    values: Sequence[float],
    verdicts: Sequence[int],
    episodes: Sequence[int],
    windows: Sequence[Window],
    *,
    seed: int = 1,
) -> dict[str, Any]:
    """Judges our alerts beside the two baselines.

    :param times: event times, ns, ascending; :param values: the field as it was logged.
    :param verdicts: 0 normal, 1 anomalous, 2 not judged (or not predicted), one per row.
    :param episodes: number of the episode, 0 for none, one per row.
    :returns: ``windows``, ``days``, ``rows``, ``base_rate``, and ``ours``, ``z_score``, ``random``
        as :class:`Measures`. :raises Invalid: when no row was judged.
    """
    first = next((row for row, verdict in enumerate(verdicts) if verdict != 2), None)
    if first is None:
        raise Invalid("evaluate: no row was judged")
    judged = [row for row in range(first, len(times)) if verdicts[row] != 2]
    at = [times[row] for row in judged]
    later = [window for window in windows if window[1] >= at[0]]
    labels = Labels(at, later)
    runs = joined([verdicts[row] == 1 for row in judged], 1)
    numbered = episodes_of([episodes[row] for row in judged])
    scores = z_scores(values)
    rivals = rate_matched([scores[row] for row in judged], sum(b - a + 1 for a, b in runs))
    return {
        "windows": len(later),
        "days": (at[-1] - at[0]) / DAY_NS,
        "rows": len(at),
        "base_rate": labels.before[-1] / len(at),
        "ours": measure(runs, numbered, labels),
        "z_score": measure(joined(rivals, 1), joined(rivals), labels),
        "random": at_random(len(at), numbered, labels, seed),
    }


def shown(found: dict[str, Any]) -> dict[str, Any]:
    """The result of :func:`evaluate` as JSON values."""
    return {key: v.body() if isinstance(v, Measures) else round(v, 4) for key, v in found.items()}


def table(found: dict[str, Any]) -> str:
    lines = [
        f"{found['rows']} judged rows over {found['days']:.1f} days, {found['windows']} labelled "
        f"windows ({found['base_rate']:.1%} of the rows)",
        f"{'':<12}{'windows hit':>12}{'precision':>11}{'recall':>8}{'episodes':>10}{'false':>7}",
    ]
    for name in ("ours", "z_score", "random"):
        one = found[name]
        lines.append(
            f"{name:<12}{one.hit:>12.3g}{one.precision:>11.3f}{one.recall:>8.3f}"
            f"{one.episodes:>10.3g}{one.false_episodes:>7.3g}"
        )
    return "\n".join(lines)


def from_export(path: str, field: str) -> tuple[list[int], list[float], list[int], list[int]]:
    """Times, values, verdicts and episodes of the stream that the predictions of an export name.
    A row without a prediction of the active role, or without the field, is not judged."""
    serving: set[int] = set()
    streams: dict[str, dict[int, tuple[int, float]]] = {}
    answers: dict[int, tuple[int, int]] = {}
    with Path(path).open() as lines:
        for line in lines:
            event = json.loads(line)
            body = event.get("values", {})
            if event.get("stream") == "edgecore.context":
                if cbor.decode(bytes.fromhex(body["body"])).get("role") == "active":
                    serving.add(int(body["context"]))
            elif event.get("stream") == "edgecore.prediction":
                if int(body["context"]) not in serving:
                    continue
                answers[int(body["position"])] = (int(body["verdict"]), int(body["episode"] or 0))
            elif body.get(field) is not None:
                found = streams.setdefault(event["stream"], {})
                found[int(event["position"])] = (int(event["time"]), float(body[field]))
    rows = max(streams.values(), key=lambda found: len(found.keys() & answers), default={})
    ordered = sorted(rows, key=lambda position: (rows[position][0], position))
    judged = [answers.get(position, (2, 0)) for position in ordered]
    return (
        [rows[position][0] for position in ordered],
        [rows[position][1] for position in ordered],
        [verdict for verdict, _ in judged],
        [episode for _, episode in judged],
    )


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--json"]
    if len(words) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    export, field, labels, name = words
    found = evaluate(*from_export(export, field), load_windows(labels, name))
    print(json.dumps(shown(found)) if "--json" in sys.argv else table(found))
    return 0


__all__ = [
    "Labels", "Measures", "evaluate", "from_export", "load_windows", "measure", "nanoseconds",
    "shown", "table",
]  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
