"""`edgecore demo`: the whole path on this machine, judged by another process.

A hub and a device run as real processes. The device captures this machine's telemetry (or a CSV
file, fed to it line by line), a model is trained from what the hub holds, signed, published and
rolled out; the hub is killed, the device is killed during the outage, both come back and agree; a
release that must fail its trial is rolled back; one alarm is rebuilt from its lineage. What is left
behind goes to `edgecore.cli.checker`, whose word decides the exit code.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edgecore.errors import EdgecoreError, Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any


def register(subparsers: Any) -> None:
    """Adds the command's parser; sets ``run``, a function of the arguments."""
    demo = subparsers.add_parser("demo", help="the whole path on this machine, checked")
    demo.add_argument("--csv", type=Path, metavar="FILE", help="this series instead of the host's")
    demo.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="JSON: file name -> [[start, end], …]; found beside NAB data by itself",
    )
    demo.add_argument(
        "--seconds", type=float, default=15.0, help="of quiet capture before training (host)"
    )
    demo.add_argument("--keep", type=Path, metavar="DIR", help="leave stores and evidence there")
    demo.add_argument("--break", dest="breach", metavar="NAME", help="plant a breach; must fail")
    demo.add_argument("--json", action="store_true", help="print one object")
    demo.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from edgecore.cli import demo_breaks
    from edgecore.cli.demo_show import Show, print_result

    if options.breach is not None and options.breach not in demo_breaks.BREAKS:
        raise Invalid(f"no breach {options.breach!r}: one of {', '.join(demo_breaks.BREAKS)}")
    if not 5 <= options.seconds <= 600:
        raise Invalid("--seconds is 5 to 600")
    show = Show(quiet=options.json)
    root = _directory(options.keep)
    try:
        scenario = _scenario(options, root, show)
        try:
            scenario.live()
        finally:
            scenario.world.stop()
        with show.stage("exports, and what the outside saw"):
            scenario.leave_evidence()
        if options.breach:
            demo_breaks.plant(options.breach, scenario.world.evidence_dir)
            show.note(f"planted: {options.breach}")
        with show.stage("another process recomputes every invariant"):
            result = scenario.result(judge(scenario.world.evidence_dir))
    finally:
        if options.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    print_result(show, result)
    if options.json:
        print(json.dumps(result))
    return 0 if all(result["invariants"].values()) else 1


def _directory(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="edgecore-demo-"))
    if keep.exists() and any(keep.iterdir()):
        raise Invalid(f"--keep {keep}: the directory is not empty")
    keep.mkdir(parents=True, exist_ok=True)
    return keep


def _scenario(options: argparse.Namespace, root: Path, show: Any) -> Any:
    if options.csv is not None:
        from edgecore.cli.demo_csv import CsvScenario

        return CsvScenario(root, show, options.csv, options.labels)
    from edgecore.cli.demo_host import HostScenario

    return HostScenario(root, show, options.seconds)


def judge(evidence: Path) -> dict[str, Any]:
    """The checker's word, from its own process."""
    words = [sys.executable, "-m", "edgecore.cli.checker", str(evidence)]
    done = subprocess.run(words, capture_output=True, text=True)
    if not done.stdout.strip():
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise EdgecoreError(f"the checker failed: {lines[-1]}")
    verdict = json.loads(done.stdout)
    assert isinstance(verdict, dict)
    return verdict


__all__ = ["judge", "register", "run"]
