"""`edgecore log summaries`: each summary and each told view that the log holds, recomputed from the
raw rows that it still keeps. Exit 1 when one is not what its rows give, to the bit, or a row is in
none that should have it. Changes nothing."""

from __future__ import annotations

import json
from bisect import bisect_right
from itertools import pairwise

from edgecore.cli import log_open
from edgecore.cli.log_view_summaries import ViewAudit
from edgecore.device.summaries import raw_rows, read_rule
from edgecore.device.view_summaries import is_view, view_summary_of
from edgecore.errors import Corrupt, Incompatible
from edgecore.rules.summary import Pane, pane_of_row
from edgecore.streams import SUMMARIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from edgecore.log import Log
    from edgecore.rules.summary import Rule

SHOWN = 10  # of what is wrong


class Audit:
    """Of one rule. `differ`: what is wrong, in words; `gone`: parts whose rows are not all kept;
    `waiting`: rows that no part has yet, of those that came while the rule stood: at positions
    in `spans`, (after, until]."""

    def __init__(self, log: Log, rule: Rule, spans: list[tuple[int, int]]) -> None:
        self.rule = rule
        self._spans = spans
        self.differ: list[str] = []
        self.parts = self.rows = self.equal = self.gone = self.waiting = 0
        self._held: dict[tuple[int, str], list[tuple[int, Pane, Pane]]] = {}
        self._load(log)
        self._recompute(log)
        gaps = gaps_of(log, rule.source.stream)
        for held in self._held.values():
            for before, after in pairwise(held):
                if before[1].last >= after[0]:
                    self.differ.append(f"{_name(after[1])}: overlaps another part of the period")
            for _, part, again in held:
                self._judge(part, again, gaps)

    def _load(self, log: Log) -> None:
        for schema in [schema for schema in log.schemas() if schema.stream == self.rule.name]:
            for position, _, row in raw_rows(log, schema):
                if row["rule"] != self.rule.id:
                    continue
                self.parts += 1
                try:
                    part = pane_of_row(self.rule, row)
                except Corrupt as error:
                    self.differ.append(f"the row at position {position}: {error}")
                    continue
                self.rows += part.rows
                again = Pane(self.rule, part.entity, part.k)
                self._held.setdefault(part.key, []).append((part.first, part, again))
        for held in self._held.values():
            held.sort(key=lambda item: item[0])

    def _recompute(self, log: Log) -> None:
        rule = self.rule
        begin = min((held[0][0] for held in self._held.values()), default=0)
        for position, _, row in raw_rows(log, rule.source, begin - 1 if begin else 0):
            key = rule.pane_of(row["time"]), rule.entity_of(row)
            held = self._held.get(key, [])
            at = bisect_right(held, position, key=lambda item: item[0]) - 1
            if at >= 0 and position <= held[at][1].last:
                held[at][2].add(position, row)
            elif held and held[0][0] <= position < held[-1][1].last:
                self.differ.append(f"position {position}: a row that no part of its period has")
            elif any(low < position <= high for low, high in self._spans):
                self.waiting += 1

    def _judge(self, part: Pane, again: Pane, gaps: list[tuple[int, int]]) -> None:
        if again.row() == part.row():
            self.equal += 1
        elif any(low < part.last and part.first < high for low, high in gaps):
            self.gone += 1
        else:
            mine, its = part.row(), again.row()
            wrong = [name for name in {**mine, **its} if mine.get(name) != its.get(name)]
            self.differ.append(f"{_name(part)}: {', '.join(wrong)}")

    def facts(self) -> dict[str, Any]:
        return {
            "name": self.rule.name, "stream": self.rule.source.stream, "rule": self.rule.id,
            "period_ns": self.rule.period, "summaries": self.parts, "rows": self.rows,
            "equal": self.equal, "gone": self.gone, "differ": self.differ,
            "waiting": self.waiting,
        }  # fmt: skip

    def lines(self) -> list[str]:
        rule = self.rule
        out = [f"{rule.name}: {self.parts} summaries of {self.rows} rows of {rule.source.stream}, "
               f"every {rule.period / 1e9:g} s"]  # fmt: skip
        out.append(f"  {self.equal} are what their rows give, to the bit")
        if self.gone:
            out.append(f"  {self.gone} can't be recomputed: not all of their rows are kept")
        if self.waiting:
            out.append(f"  {self.waiting} rows are in none: their period is open")
        return out


def _name(part: Pane) -> str:
    entity = f"entity {part.entity!r}, " if part.rule.entity else ""
    end = part.k * part.rule.period
    return f"{entity}period up to {end} ns, positions {part.first} to {part.last}"


def gaps_of(log: Log, stream: str) -> list[tuple[int, int]]:
    """Between which positions rows of the stream have gone, whatever the reason."""
    found: list[tuple[int, int]] = []
    seen: dict[int, tuple[int, int]] = {}
    for scanned in log.scan(stream):
        sequence, position = seen.get(scanned.partition, (0, 0))
        if scanned.first != sequence + 1:
            found.append((position, scanned.position))
        last = scanned.count - 1
        seen[scanned.partition] = (scanned.first + last, scanned.position + last)
    for partition, name, _ in log.partitions():
        sequence, position = seen.get(partition, (0, 0))
        if name == stream and log.next_sequence(partition) != sequence + 1:
            found.append((position, log.position + 1))
    return found


def audits(log: Log) -> tuple[list[Audit], list[ViewAudit], list[str]]:
    """Of every rule that the log names: of summaries, and of told views; and what can't be read of
    them."""
    found: list[Audit] = []
    views: list[ViewAudit] = []
    unread: list[str] = []
    for (name, body), spans in _standing(log).items():
        try:
            if is_view(body):
                told = view_summary_of(body, log.schemas())
                gaps, own = gaps_of(log, told.source.stream), gaps_of(log, name)
                views.append(ViewAudit(log, told, spans, gaps, own))
            else:
                found.append(Audit(log, read_rule(log, body), spans))
        except (Corrupt, Incompatible) as error:
            unread.append(f"{error.word}: {name}: {error}")
    return found, views, unread


def _standing(log: Log) -> dict[tuple[str, bytes], list[tuple[int, int]]]:
    """Of each rule, from which position to which it stood: until the next of its name, or its
    end."""
    out: dict[tuple[str, bytes], list[tuple[int, int]]] = {}
    last: dict[str, tuple[bytes, int]] = {}
    if any(stream == SUMMARIES.stream for _, stream, _ in log.partitions()):
        for scanned in log.scan(SUMMARIES.stream):
            for at, row in enumerate(scanned.rows(), scanned.position):
                name, body = row["name"], bytes(row["body"] or b"")
                before, since = last.get(name, (b"", 0))
                if before:
                    out[name, before].append((since, at))
                if body:
                    out.setdefault((name, body), [])
                last[name] = (body, at)
    for name, (body, since) in last.items():
        if body:
            out[name, body].append((since, log.position))
    return out


def run(arguments: argparse.Namespace) -> int:
    with log_open.open_log(arguments.directory, arguments.key) as log:
        found, views, unread = audits(log)
    everything: list[Audit | ViewAudit] = [*found, *views]
    failed = any(audit.differ for audit in everything)
    if arguments.json:
        print(json.dumps({
            "summaries": [audit.facts() for audit in found],
            "views": [audit.facts() for audit in views], "unread": unread,
        }))  # fmt: skip
        return int(failed)
    if not everything and not unread:
        print("the log has no summaries")
    for audit in everything:
        for text in audit.lines():
            print(text)
        for text in audit.differ[:SHOWN]:
            print(f"  ! {text}")
        if audit.differ[SHOWN:]:
            print(f"  ! and {len(audit.differ) - SHOWN} more")
        if audit.differ:
            print(f"  ! {len(audit.differ)} differ")
    for text in unread:
        print(f"  ! {text}")
    return int(failed)


__all__ = ["Audit", "audits", "gaps_of", "run"]
