"""`./dev bench [AREA …] [--json FILE] [--smoke]`: runs the areas and prints their rows.

An area is a module in bench/ with ``CASES`` (see pair.py) and ``rows(rounds) -> iterator of
rows``. A losing row is a row; a peer that cannot be installed is a row with its reason.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

AREAS = ("base", "log", "columns", "features", "inference", "pipeline", "footprint")


LAYOUT = "{:<40}{:>10} {:<20}{:>10}{:>8}  {:<5} {}"
HEADER = ("row", "ours", "peer", "theirs", "ratio", "unit", "goal or note")


def figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def shown(row: dict[str, Any]) -> str:
    ratio = "-" if row.get("ratio") is None else f"{row['ratio']:.2f}"
    words = (row.get("reason") or row.get("skipped") or row.get("goal"), row.get("note"))
    note = "; ".join(word for word in words if word)
    sides = (figure(row.get("ours")), row.get("peer") or "-", figure(row.get("theirs")))
    return LAYOUT.format(row["id"], *sides, ratio, row["unit"], note)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table that the README quotes: every row but those of detail, and the other sizes of
    column blocks."""
    lines = ["| row | ours | peer | theirs | ratio | goal |", "|---|--:|---|--:|--:|---|"]
    for row in rows:
        if row.get("detail") or row["id"].endswith(("/100", "/10000")):
            continue
        ratio = "" if row.get("ratio") is None else f"{row['ratio']:.2f}"
        theirs = "" if row.get("theirs") is None else figure(row["theirs"])
        cells = (f"`{row['id']}`", f"{figure(row.get('ours'))} {row['unit']}",
                 row.get("peer") or "", theirs, ratio, row.get("goal") or "")  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench")
    parser.add_argument("areas", nargs="*", default=[], metavar="AREA", help=", ".join(AREAS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of A B B A")
    parser.add_argument("--smoke", action="store_true", help="one round: the rows run, no figures")
    parser.add_argument(
        "--all-peers",
        action="store_true",
        help="also those with an environment of their own (feast, duckdb: 700 MB)",
    )
    parser.add_argument("--table", type=Path, metavar="JSON", help="print a file's rows for README")
    options = parser.parse_args()
    if options.table:
        print(markdown(json.loads(options.table.read_text())))
        return 0
    sys.path.insert(0, str(Path(__file__).parent))
    unknown = set(options.areas) - set(AREAS)
    if unknown:
        parser.error(f"unknown area: {', '.join(sorted(unknown))}")
    rows: list[dict[str, Any]] = []
    print(LAYOUT.format(*HEADER))
    for area in options.areas or AREAS:
        for row in importlib.import_module(f"bench_{area}").rows(
            1 if options.smoke else options.rounds
        ):
            rows.append(row)
            print(shown(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    broken = [row["id"] for row in rows if row.get("ours") is None and not row.get("skipped")]
    if broken:
        print(f"rows without a figure: {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
