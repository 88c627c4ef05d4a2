"""The vectors of docs/formats/summary.md, read by what the page says alone, and made again."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import cbor2

from edgecore.digest import blake3
from edgecore.rules.panes import Panes
from edgecore.rules.summary import Pane, merge, rule_of
from edgecore.schema import Schema

PAGE = Path(__file__).resolve().parents[2] / "docs/formats/vectors/summary.json"
VECTOR: dict[str, Any] = json.loads(PAGE.read_text())
STEP = {"temp": Fraction(1, 100), "flow": Fraction(1), "big": Fraction(1)}


def exact(text: str) -> Fraction:
    data = bytes.fromhex(text)
    exponent = int.from_bytes(data[:2], "little", signed=True)
    assert len(data) == 4 + int.from_bytes(data[2:4], "little")
    return int.from_bytes(data[4:], "little", signed=True) * Fraction(2) ** exponent


def values(name: str, rows: list[dict[str, Any]]) -> list[Fraction]:
    key = "temp_steps" if name == "temp" else name
    return [Fraction(row[key]) * STEP[name] for row in rows if row[key] is not None]


def check_part(part: dict[str, Any], period: int) -> None:
    rows = [
        row
        for row in VECTOR["rows"]
        if part["first"] <= row["position"] <= part["last"]
        and row["id"] == part["entity"]
        and part["start"] < row["seconds"] * 10**9 <= part["time"]
    ]
    assert part["time"] - part["start"] == period
    assert part["time"] % period == 0
    assert part["rows"] == len(rows)
    for name, step in STEP.items():
        found = values(name, rows)
        assert part[f"{name}.n"] == len(found)
        for end, power in (("sum", 1), ("sq", 2)):
            wide, narrow = part.get(f"{name}.{end}x"), part.get(f"{name}.{end}")
            total = exact(wide) if wide is not None else Fraction(narrow)
            assert total * step**power == sum(value**power for value in found)
        if f"{name}.min" in part:
            assert Fraction(Decimal(part[f"{name}.min"])) == min(found)
            assert Fraction(Decimal(part[f"{name}.max"])) == max(found)
    counts = [0] * 6
    for value in values("temp", rows):
        counts[0 if value < 0 else 5 if value > 100 else 1 + min(int(value / 25), 3)] += 1
    assert part["temp.hist"] == bytes(counts).hex()
    modes = Counter(row["mode"] for row in rows if row["mode"] is not None)
    assert part["mode.n"] == modes.total()
    told = bytes([len(modes)]) + b"".join(
        bytes([len(text)]) + text + bytes([count])
        for text, count in sorted((mode.encode(), count) for mode, count in modes.items())
    )
    assert part.get("mode.vals") == (told.hex() if len(modes) <= 2 else None)


def plain(pane: Pane) -> dict[str, Any]:
    return {
        key: value.hex()
        if isinstance(value, bytes)
        else str(value)
        if isinstance(value, Decimal)
        else value
        for key, value in pane.row().items()
    }


def test_vectors_summary_parts_are_what_the_page_says_of_their_rows() -> None:
    rule = cbor2.loads(bytes.fromhex(VECTOR["rule"]))
    assert rule["schema"] == blake3(bytes.fromhex(VECTOR["source_schema"]))
    number = int.from_bytes(blake3(bytes.fromhex(VECTOR["rule"]))[:6], "little")
    assert number == VECTOR["number"]
    for part in VECTOR["parts"]:
        assert part["rule"] == number
        check_part(part, rule["period"])
    assert {part["entity"] for part in VECTOR["parts"]} == {"a", "b"}


def test_vectors_summary_is_made_again_to_the_bit() -> None:
    source = Schema.from_bytes(bytes.fromhex(VECTOR["source_schema"]))
    rule = rule_of(bytes.fromhex(VECTOR["rule"]), source)
    assert rule.schema().canonical_bytes.hex() == VECTOR["summary_schema"]
    panes, made = Panes(rule), []
    for row in VECTOR["rows"]:
        at = row["position"]
        event = {"time": row["seconds"] * 10**9, "temp": row["temp_steps"], **row}
        made += panes.add(at, (1_700_000_000_000 + 1000 * at) << 16, event)
    assert [plain(part) for part in made] == VECTOR["parts"]
    assert panes.to_bytes().hex() == VECTOR["state"]
    assert [plain(pane) for pane in merge(made, 3600 * 10**9)] == VECTOR["merged_1h"]
