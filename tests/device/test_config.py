"""edge.toml: what is written is obeyed, what is not known is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecore.device.config import duration_ns, example, load, parse
from edgecore.errors import Invalid, Unavailable


def test_config_examples_parse_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "edge.toml").write_text(example('pump "7"', "csv", "p.csv", "/etc/p.toml", 50.0))
    config = load(str(tmp_path / "edge.toml"))
    assert (config.name, config.kind, config.rows_per_second) == ('pump "7"', "csv", 50.0)
    assert (config.path, config.schema) == (f"{tmp_path}/p.csv", "/etc/p.toml")
    assert config.backoff_max_ns == 60 * 10**9
    for kind in ("host", "none"):
        assert parse("edge.toml", "/x", example("d", kind)).kind == kind


def test_config_empty_file_is_a_host_with_defaults() -> None:
    config = parse("edge.toml", "/x", "")
    assert (config.kind, config.interval_ns, config.state) == ("host", 10**8, "/x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[devcie]", "unknown key 'devcie'"),
        ("[hub]\nbackof = '1s'", "unknown key 'backof'"),
        ("hub = 3", "hub is a int"),
        ("[hub]\nbackoff = 5", "backoff is a int"),
        ("[hub]\nenvelope_bytes = true", "envelope_bytes is a bool"),
        ("[hub]\nenvelope_bytes = 1", "outside 4096"),
        ("[hub]\nbackoff = '5 parsecs'", "no duration"),
        ("[hub]\nbackoff = '1ns'", "outside"),
        ("[hub]\nbackoff = 'nans'", "no duration"),
        ("[hub]\nbackoff = '2h'\nbackoff_max = '1h'", "below"),
        ("[source]\nkind = 'modbus'", "none of host, csv, none"),
        ("[source]\nkind = 'csv'", "source.path"),
        ("[source]\nrows_per_second = -1.0", "not negative"),
        ("[source]\nrows_per_second = nan", "not negative"),
        ("[source]\nrows_per_second = inf", "not negative"),
        ("[log.durability]\nbluk = 'sync'", "'bluk'"),
        ("[log]\npriority = ['bulk', 'bluk']", "log.priority: 'bluk'"),
        ("[log]\npriority = ['bulk', 'critical']", "critical is always the first"),
        ("[model]\nbackend = 'cuda'", "'cuda'"),
        ("[device]\nname = ''", "device.name"),
        ("[device", "edge.toml"),
    ],
)
def test_config_what_is_wrong_is_named_in_one_line(text: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse("edge.toml", "/x", text)
    message = str(caught.value)
    assert message.startswith("edge.toml: ")
    assert says in message
    assert "\n" not in message


def test_config_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        load(str(tmp_path / "edge.toml"))
    (tmp_path / "edge.toml").write_bytes(b"\xff")
    with pytest.raises(Invalid, match="UTF-8"):
        load(str(tmp_path / "edge.toml"))


@pytest.mark.parametrize(
    ("text", "ns"), [("100ms", 10**8), ("1.5s", 1_500_000_000), ("2m", 12 * 10**10), ("0s", 0)]
)
def test_config_durations(text: str, ns: int) -> None:
    assert duration_ns("x", text) == ns
