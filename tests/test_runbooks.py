"""The runbooks know every word that an operator can meet."""

from __future__ import annotations

import re
from pathlib import Path

from edgecore.errors import OUTCOMES
from edgecore.rules.update import EDGES
from edgecore.trust import releases

BOOKS = Path(__file__).resolve().parents[1] / "docs" / "runbooks"


def test_runbooks_explain_every_outcome_step_and_reason() -> None:
    text = {path.stem: path.read_text() for path in BOOKS.glob("*.md")}
    whole = "\n".join(text.values())
    for kind in OUTCOMES:
        assert f"| {kind.exit_code} |" in whole or f"({kind.exit_code})" in whole, kind
        assert kind.__name__ in whole
    for edge in EDGES:
        assert f"`{edge}`" in text["update"], edge
    for reason in ("lost", "burnt", "uncertain"):
        assert f"`{reason}`" in text["device"], reason
    # The table of reasons in the module's own docstring: a word, and the outcome beside it.
    reasons = re.findall(r"(?m)^    (\w+) +(?:Stale|Untrusted|Corrupt) ", releases.__doc__ or "")
    assert len(reasons) > 5
    for reason in reasons:
        assert reason in text["update"], reason


def test_runbooks_name_only_commands_that_stand() -> None:
    from edgecore.cli.main import HOMES

    for path in BOOKS.glob("*.md"):
        for command in re.findall(r"`edgecore (\w+)", path.read_text()):
            assert command in HOMES, (path.name, command)
