"""`edgecore features show`: what a view computes, in a table a person can check."""

from __future__ import annotations

import json
from pathlib import Path

from edgecore.cli.features import read_view
from edgecore.device import schema_file
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.feature_spec import Feature, duration_text
from edgecore.feature_view import FeatureView
from edgecore.schema import Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

_COUNTS = ("count", "distinct", "bin")
_SECONDS = ("recency", "time_in")
_INTEGER, _UNSIGNED, _FLOAT, _CATEGORY = 1, 2, 3, 4  # cpp/features/plan.hpp


def add(commands: Any) -> None:
    """Adds the parser of the command."""
    parser = commands.add_parser("show", help="a view's features, units, grids and fingerprints")
    parser.add_argument("path", metavar="FILE|RELEASE",
                        help="a definition (TOML or CBOR), a bundle directory, or a manifest "
                             "beside its blobs")  # fmt: skip
    parser.add_argument("--schema", metavar="FILE",
                        help="of the stream: adds units, grids, errors, fingerprints, state; a "
                             "release has its own")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def read(path: str, schema: str | None) -> tuple[FeatureView, Schema | None]:
    """The view of a file or release, and the schema it is to be seen over."""
    objects = _release(Path(path))
    if objects is None:
        view, known = read_view(path), None
    else:
        view, known = FeatureView.from_bytes(objects[0]), Schema.from_bytes(objects[1])
    if schema is not None:
        known = schema_file.load(schema).schema
    if known is not None and known.stream != view.source:
        raise Invalid(f"view {view.name!r} reads stream {view.source!r}, the schema is of "
                      f"{known.stream!r}")  # fmt: skip
    return view, known


def _release(path: Path) -> tuple[bytes, bytes] | None:
    """View and schema of a bundle directory or of a manifest; None for anything else."""
    from edgecore.fs import PosixFs
    from edgecore.release import MANIFEST_BYTES_MAX, OBJECT_BYTES_MAX, OBJECTS, Manifest

    fs = PosixFs()
    if path.is_dir():
        view, schema = (
            fs.read_file(str(path / OBJECTS[name]), OBJECT_BYTES_MAX) for name in ("view", "schema")
        )
        return view, schema
    if path.suffix == ".toml" or not path.is_file() or path.stat().st_size > MANIFEST_BYTES_MAX:
        return None
    try:
        manifest = Manifest.decode(fs.read_file(str(path), MANIFEST_BYTES_MAX))
    except (Corrupt, Incompatible):
        return None
    for blobs in (path.parent, path.parent.parent / "public" / "blobs"):
        files = [blobs / manifest.objects[name][0].hex() for name in ("view", "schema")]
        if all(file.is_file() for file in files):
            view, schema = (fs.read_file(str(file), OBJECT_BYTES_MAX) for file in files)
            return view, schema
    raise Invalid(f"{path}: a release whose view and schema are not beside it")


# ---------------------------------------------------------------- what is said of a feature


def _unit(feature: Feature, units: dict[str, str]) -> str:
    """Of its answers; "" where it has none, or an expression leaves it open."""
    if feature.op in _SECONDS:
        return "s"
    if feature.op in _COUNTS or feature.op == "ratio":
        return ""
    unit = feature.unit or units.get(feature.field, "")
    if not unit:
        return ""
    return {"variance": f"({unit})^2", "rate": f"{unit}/s"}.get(feature.op, unit)


def _window(feature: Feature) -> str:
    if feature.op == "ratio":
        return ""
    said = [duration_text(feature.window)]
    said += [
        f"{key} {duration_text(value)}"
        for key in ("hop", "gap", "hold")
        if (value := getattr(feature, key))
    ]
    return ", ".join(said)


def _reads(feature: Feature) -> str:
    if feature.operands:
        return " / ".join(feature.operands)
    if feature.expression is not None:
        return str(feature.expression)
    return feature.field + (f" from {feature.convert}" if feature.convert else "")


def _operator(feature: Feature) -> str:
    """With the parameters that make one of many."""
    said = f"{feature.op}@{feature.version}"
    if feature.op == "quantile":
        return f"{said} {feature.permille / 10:g} %"
    if feature.op == "bin":
        ends = ("" if one is None else f"{one:g}" for one in (feature.at_least, feature.below))
        return f"{said} [{', '.join(ends)})"
    return said


def _grid(grid: tuple[int, int, float] | None) -> str:
    if grid is None or grid[0] not in (_INTEGER, _UNSIGNED, _FLOAT, _CATEGORY):
        return ""
    kind, denominator, unit = grid
    if kind != _INTEGER:
        return {_UNSIGNED: "1", _FLOAT: "f64", _CATEGORY: "category"}[kind]
    digits = str(denominator)
    if denominator == 1:
        return f"{unit:g}"
    return f"{unit / denominator:g}" if digits.strip("0") == "1" else f"1/{digits}"


def facts(view: FeatureView, schema: Schema | None) -> dict[str, Any]:
    """All that is known of the view, as JSON has it; over a schema more than without one."""
    units = {} if schema is None else {field.name: field.unit for field in schema.fields}
    told: dict[str, Any] = {
        "view": view.name, "stream": view.source, "entity": view.entity,
        "fingerprint": view.fingerprint.hex(), "bytes": len(view.to_bytes()),
        "lateness": view.lateness, **view.rules.canonical(),
    }  # fmt: skip
    features: list[dict[str, Any]] = [
        {
            "name": one.name, "op": _operator(one), "reads": _reads(one), "window": _window(one),
            "unit": _unit(one, units),
            **{key: value for key, value in one.canonical().items()
               if key in ("ttl", "on_stale", "default", "min_coverage", "min_count")},
        }
        for one in view.specs
    ]  # fmt: skip
    told["features"] = features
    if schema is None:
        return told
    plan = view.plan(schema)
    columns = zip(plan.grids, plan.horizons, plan.errors, plan.fingerprints, strict=True)
    for one, (grid, horizon, error, fingerprint) in zip(features, columns, strict=True):
        one |= {"grid": _grid(grid), "horizon": horizon, "fingerprint": fingerprint.hex(),
                "error": error if error == error else None}  # fmt: skip
    told |= {"schema": schema.version, "entity_bytes": plan.entity_bytes,
             "event_bytes": plan.event_bytes}  # fmt: skip
    return told


# ---------------------------------------------------------------- how it is shown


def _judged(one: dict[str, Any]) -> str:
    said = [f"{key} {duration_text(one[key]) if key == 'ttl' else one[key]}"
            for key in ("ttl", "on_stale", "default", "min_coverage", "min_count")
            if key in one]  # fmt: skip
    return ", ".join(said)


def _row(one: dict[str, Any], known: bool) -> list[str]:
    row = [one["name"], one["op"], one["reads"], one["window"], one["unit"]]
    if known:
        error = one["error"]
        said = "unknown" if error is None else "exact" if error == 0 else f"±{error:g}"
        row += [one["grid"], duration_text(one["horizon"]), said, one["fingerprint"][:12]]
    return [*row, _judged(one)]


def run(options: argparse.Namespace) -> int:
    view, schema = read(options.path, options.schema)
    told = facts(view, schema)
    if options.json:
        print(json.dumps(told))
        return 0
    entity = f"by {view.entity}" if view.entity else "one entity"
    print(f"view {view.name} of stream {view.source}, {entity}; {told['fingerprint'][:12]}")
    rules = [f"lateness {duration_text(view.lateness)}"]
    rules += [f"{key} {duration_text(value) if key in ('max_ahead', 'idle') else value}"
              for key, value in view.rules.canonical().items()]  # fmt: skip
    print("  " + ", ".join(rules))
    heads = ["feature", "operator", "reads", "window", "unit"]
    heads += [] if schema is None else ["grid", "horizon", "error", "fingerprint"]
    table = [[*heads, "judged"]] + [_row(one, schema is not None) for one in told["features"]]
    filled = [at for at in range(len(table[0])) if any(row[at] for row in table[1:])]
    widths = {at: max(len(row[at]) for row in table) for at in filled}
    for row in table:
        print("  " + "  ".join(f"{row[at]:<{widths[at]}}" for at in filled).rstrip())
    if schema is not None:
        print(f"state of an entity: {told['entity_bytes']} bytes, and {told['event_bytes']} for "
              "each event it holds, before what minima, ranks and late rows need")  # fmt: skip
    return 0
