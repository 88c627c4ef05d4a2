"""What a person sees of the demo: stages as they pass, then the table of what was found."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Show:
    """Stages on standard error, so that ``--json`` leaves one object on standard output."""

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console

        self.console = Console(file=sys.stderr, quiet=quiet, highlight=False)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        start = time.monotonic()
        with self.console.status(f"[bold]{title}"):
            try:
                yield
            except BaseException:
                self.console.print(f"[red]✗[/red] {title}")
                raise
        self.console.print(f"[green]✓[/green] {title} [dim]{time.monotonic() - start:.1f} s[/dim]")

    def note(self, text: str) -> None:
        self.console.print(f"  [dim]{text}[/dim]")


def _print_table(show: Show, title: str, rows: list[tuple[str, str]]) -> None:
    from rich.table import Table

    table = Table(show_header=False, pad_edge=False, box=None, padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    show.console.print(f"\n[bold]{title}[/bold]")
    show.console.print(table)


def print_result(show: Show, result: dict[str, Any]) -> None:
    """`result` is what ``--json`` prints: invariants, events, releases, bytes, timings."""
    events, sizes, timings = result["events"], result["bytes"], result["timings"]
    rows = [
        ("events", f"{events['captured']:,} captured, {events['predictions']:,} predictions"),
        ("durable", f"{events['durable']:,} rows of all streams"),
        ("acknowledged", f"{events['acked']:,} rows, signed by the hub"),
        ("unaccounted", f"{events['unaccounted']:,}"),
        ("doubled", f"{events['doubled']:,}"),
        ("bytes per event", f"{sizes['disk_per_event']:.0f} in the log, "
                            f"{sizes['wire_per_event']:.0f} on the wire, all streams and headers"),
        ("time per event", f"{timings['us_per_event']:.0f} µs of processor: the whole agent, "
                           "its two starts included"),
        ("time to recover", f"{timings['recover_s']:.2f} s from SIGKILL's restart to the next "
                            f"event, {timings['reconcile_s']:.2f} s to reconcile after the outage"),
    ]  # fmt: skip
    rows += [(f"release {r['name']} {r['version']}", " → ".join(r["states"])) for r in
             result["releases"]]  # fmt: skip
    alarms = result["alarms"]
    quiet = f"{alarms['inside']} inside an anomaly, {alarms['quiet']} in quiet time"
    rows.append(("alarm episodes", quiet))
    _print_table(show, "What happened", rows)
    if result.get("evaluation"):
        print_evaluation(show, result["evaluation"])
    shown = result["shown"]
    if shown:
        _print_table(show, "One alarm, rebuilt from its lineage", list(shown.items()))
    verdicts = result["invariants"].items()
    rows = [(("[green]holds[/green]" if ok else "[red]FALSE[/red]"), name) for name, ok in verdicts]
    _print_table(show, "Invariants, recomputed by another process", rows)
    for name, text in result["says"].items():
        show.console.print(f"[red]{name}[/red]: {text}")


METHODS = {"ours": "edgecore", "z_score": "rolling z-score", "random": "random, same rate"}


def print_evaluation(show: Show, evaluation: dict[str, Any]) -> None:
    from rich.table import Table

    title = f"Alarms on {evaluation['rows']:,} rows, {evaluation['days']:.0f} days"
    table = Table(pad_edge=False, box=None, padding=(0, 2))
    for column in ("", "windows hit", "precision", "episodes", "false episodes"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in evaluation["methods"].items():
        table.add_row(
            METHODS[name], f"{row['hit']:.2g} of {evaluation['windows']:g}",
            f"{row['precision']:.3f}", f"{row['episodes']:.2g}", f"{row['false_episodes']:.2g}",
        )  # fmt: skip
    show.console.print(f"\n[bold]{title}[/bold]")
    show.console.print(table)


__all__ = ["Show", "print_evaluation", "print_result"]
