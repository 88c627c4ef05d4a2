"""`edgecore model`: train; and publish, verify, inspect (see release.py).

`model train` reads rows from one place, learns what is normal, and writes a bundle directory:

    --log DIR     a device's log, also beside the device that writes it
    --hub DIR     everything a hub's packs hold of the stream, also beside a hub that runs
    --csv FILE    a CSV file with its schema file (--schema), as the device's source reads it
"""

from __future__ import annotations

import json
from pathlib import Path

from edgecore._core.rows import Batch
from edgecore.cli.log_open import add_key, open_log
from edgecore.errors import Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from typing import Any

    from edgecore.features import FeatureView
    from edgecore.schema import Schema


def register(subparsers: Any) -> None:
    """Adds the command's parsers; each sets ``run``, a function of the arguments."""
    from edgecore.cli.release import add_model_commands

    model = subparsers.add_parser("model", help="train, publish, verify and inspect models")
    commands = model.add_subparsers(dest="model_command", required=True)
    train = commands.add_parser("train", help="learn from rows; writes a bundle directory")
    source = train.add_mutually_exclusive_group(required=True)
    source.add_argument("--log", metavar="DIR", help="a device's log")
    source.add_argument("--hub", metavar="DIR", help="a hub's directory")
    add_key(train)
    source.add_argument("--csv", metavar="FILE", help="a CSV file; needs --schema")
    train.add_argument("--schema", metavar="FILE", help="from `edgecore schema infer`")
    train.add_argument("--stream", help="which stream; with --csv the schema's")
    train.add_argument("--view", metavar="FILE", help="a view as its bytes (default: made here)")
    train.add_argument("--fields", metavar="A,B", help="of the default view")
    train.add_argument("--entity", default="", metavar="FIELD", help="of the default view")
    train.add_argument("--first", type=float, default=1.0, metavar="SHARE", help="of the rows")
    train.add_argument(
        "--exclude", nargs=2, action="append", default=[], metavar=("FROM", "TO"),
        help="ISO 8601 times; rows within are not learned from",
    )  # fmt: skip
    train.add_argument(
        "--labels", nargs=2, metavar=("FILE", "NAME"), help="exclude a file's labelled windows"
    )
    train.add_argument(
        "--max-age", default="0s", metavar="TIME", help="of a value that is decided on, e.g. 5m"
    )
    train.add_argument(
        "--min-full", type=float, default=0.0, metavar="SHARE",
        help="of the features that must be fresh to decide",
    )  # fmt: skip
    train.add_argument("--seed", type=int, default=1)
    train.add_argument("--family", default="anomaly")
    train.add_argument("--out", required=True, metavar="BUNDLE")
    train.add_argument("--json", action="store_true")
    train.set_defaults(run=_train)
    add_model_commands(commands)


def _train(arguments: argparse.Namespace) -> int:
    from edgecore import learning
    from edgecore.cli.evaluate import load_windows, nanoseconds

    schema, rows = read_rows(arguments)
    rows = earliest(rows, arguments.first)
    exclude = [(nanoseconds(start), nanoseconds(end)) for start, end in arguments.exclude]
    if arguments.labels:
        exclude += load_windows(*arguments.labels)
    batch = Batch(schema)
    batch.extend(rows)
    view = _view(arguments, schema, rows)
    bundle = learning.fit(
        view, schema, batch, exclude=exclude, seed=arguments.seed, family=arguments.family,
        max_age=arguments.max_age, min_full=arguments.min_full,
    )  # fmt: skip
    learning.write_bundle(bundle, arguments.out)
    notes = bundle.facts["notes"]
    if arguments.json:
        print(json.dumps({"bundle": arguments.out, **notes}))
    else:
        print(
            f"trained on {notes['rows']} rows ({notes['excluded']} left out), "
            f"{len(notes['slots'])} features, loss {notes['loss']:.3g}: {arguments.out}"
        )
    return 0


def read_rows(arguments: argparse.Namespace) -> tuple[Schema, list[dict[str, Any]]]:
    """The schema and rows (decimals as exact text) of the place that was named."""
    if arguments.csv:
        if not arguments.schema:
            raise Invalid("--csv needs --schema FILE: `edgecore schema infer` proposes one")
        return _from_csv(arguments.csv, arguments.schema)
    if not arguments.stream:
        raise Invalid("--stream NAME is needed: a log holds many")
    if arguments.hub:
        return _from_hub(Path(arguments.hub), arguments.stream)
    return _from_log(arguments.log, arguments.key, arguments.stream)


def _from_log(directory: str, key: str | None, stream: str) -> tuple[Schema, list[dict[str, Any]]]:
    with open_log(directory, key) as log:
        schema = log.schema(stream)
        rows = [
            row
            for scanned in log.scan(stream)
            if scanned.schema == schema
            for row in scanned.rows(exact=True)
        ]
    return schema, rows


def _from_hub(directory: Path, stream: str) -> tuple[Schema, list[dict[str, Any]]]:
    from edgecore.hub import history
    from edgecore.wire.export import decimal_text

    schema, rows = history.rows(directory, stream)
    for field in schema.fields:
        if field.dtype == "decimal":
            for row in rows:
                value = row[field.name]
                if isinstance(value, int):
                    row[field.name] = decimal_text(value, field.scale)
    return schema, rows


def _from_csv(path: str, schema_path: str) -> tuple[Schema, list[dict[str, Any]]]:
    from edgecore.device.csv_source import CsvSource
    from edgecore.device.schema_file import load

    source = CsvSource(path, load(schema_path))
    batch = Batch(source.schema)
    try:
        while not source.finished:
            source.take(0, batch)
    finally:
        source.close()
    return source.schema, batch.rows(exact=True)


def earliest(rows: list[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """The first share of the rows in order of time."""
    if not 0 < share <= 1:
        raise Invalid("--first is a share above 0, at most 1")
    ordered = sorted(rows, key=lambda row: row["time"])
    return ordered[: int(len(ordered) * share)]


def _view(
    arguments: argparse.Namespace, schema: Schema, rows: Iterable[dict[str, Any]]
) -> FeatureView:
    from edgecore import learning
    from edgecore.features import FeatureView

    if arguments.view:
        from edgecore.fs import PosixFs

        return FeatureView.from_bytes(PosixFs().read_file(arguments.view, 1 << 20))
    by_entity: dict[Any, list[int]] = {}
    for row in rows:
        by_entity.setdefault(row.get(arguments.entity), []).append(row["time"])
    if not by_entity:
        raise Invalid("there are no rows to learn from")
    longest = max(by_entity.values(), key=len)
    return learning.detection_view(
        schema,
        learning.median_interval(longest),
        fields=arguments.fields.split(",") if arguments.fields else None,
        entity=arguments.entity,
    )


__all__ = ["earliest", "read_rows", "register"]
