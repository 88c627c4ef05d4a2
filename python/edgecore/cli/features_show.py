"""`edgecore features show`: what a view computes, in a table a person can check."""

from __future__ import annotations

import json
from pathlib import Path

from edgecore.cli.features import read_view
from edgecore.device import schema_file
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.feature_join import fingerprints, parts_of
from edgecore.feature_spec import Feature, duration_text
from edgecore.feature_view import FeatureView
from edgecore.release import joined_schemas
from edgecore.schema import Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
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
    parser.add_argument("--schema", metavar="FILE", action="append", default=[],
                        help="of the stream, once for each that is read: adds units, grids, "
                             "errors, fingerprints, state; a release has its own")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def read(path: str, schemas: Iterable[str]) -> tuple[FeatureView, dict[str, Schema]]:
    """The view of a file or release, and the schemas it is to be seen over, by stream."""
    objects = _release(Path(path))
    known = []
    if objects is None:
        view = read_view(path)
    else:
        view = FeatureView.from_bytes(objects[0])
        known = [Schema.from_bytes(objects[1])]
        known += joined_schemas(objects[2]) if len(objects) > 2 else []
    known += [schema_file.load(file).schema for file in schemas]
    for one in known:
        if one.stream != view.source and one.stream not in view.joins:
            raise Invalid(f"view {view.name!r} reads stream {view.source!r}, a schema is of "
                          f"{one.stream!r}")  # fmt: skip
    return view, {one.stream: one for one in known}


def _release(path: Path) -> list[bytes] | None:
    """View, schema and, if it has them, schemas of other streams of a bundle directory or of a
    manifest; None for anything else."""
    from edgecore.fs import PosixFs
    from edgecore.release import (
        JOINED,
        JOINED_FILE,
        MANIFEST_BYTES_MAX,
        OBJECT_BYTES_MAX,
        OBJECTS,
        Manifest,
    )

    fs = PosixFs()
    if path.is_dir():
        files = [path / OBJECTS["view"], path / OBJECTS["schema"]]
        files += [path / JOINED_FILE] if (path / JOINED_FILE).is_file() else []
        return [fs.read_file(str(file), OBJECT_BYTES_MAX) for file in files]
    if path.suffix == ".toml" or not path.is_file() or path.stat().st_size > MANIFEST_BYTES_MAX:
        return None
    try:
        manifest = Manifest.decode(fs.read_file(str(path), MANIFEST_BYTES_MAX))
    except (Corrupt, Incompatible):
        return None
    for blobs in (path.parent, path.parent.parent / "public" / "blobs"):
        names = [name for name in ("view", "schema", JOINED) if name in manifest.objects]
        files = [blobs / manifest.objects[name][0].hex() for name in names]
        if all(file.is_file() for file in files):
            return [fs.read_file(str(file), OBJECT_BYTES_MAX) for file in files]
    raise Invalid(f"{path}: a release whose view and schema are not beside it")


# ---------------------------------------------------------------- what is said of a feature


def _unit(feature: Feature, units: dict[str, str]) -> str:
    """Of its answers; "" where it has none, or an expression leaves it open."""
    if feature.op in _SECONDS:
        return "s"
    if feature.op in (*_COUNTS, "ratio", "constant"):
        return ""
    unit = feature.unit or units.get(feature.field, "")
    if not unit:
        return ""
    return {"variance": f"({unit})^2", "rate": f"{unit}/s"}.get(feature.op, unit)


def _stream(feature: Feature, view: FeatureView) -> str:
    return str(feature.join["stream"]) if feature.join else view.source


def _window(feature: Feature) -> str:
    if feature.op in ("constant", "ratio"):
        return ""
    said = [duration_text(feature.window)]
    said += [
        f"{key} {duration_text(value)}"
        for key in ("hop", "gap", "hold")
        if (value := getattr(feature, key))
    ]
    return ", ".join(said)


def _reads(feature: Feature) -> str:
    if feature.join:
        return f"{feature.join['stream']}: {_what(feature)}"
    return _what(feature)


def _what(feature: Feature) -> str:
    if feature.op == "constant":
        return f"{feature.value or 0:g}"
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
    if feature.approx:
        return f"{said} approx"
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


def facts(view: FeatureView, schemas: dict[str, Schema]) -> dict[str, Any]:
    """All that is known of the view, as JSON has it; over schemas more than without them."""
    units = {
        stream: {field.name: field.unit for field in schema.fields}
        for stream, schema in schemas.items()
    }
    told: dict[str, Any] = {
        "view": view.name, "stream": view.source, "entity": view.entity,
        "fingerprint": view.fingerprint.hex(), "bytes": len(view.to_bytes()),
        "lateness": view.lateness, **view.rules.canonical(),
    }  # fmt: skip
    features: list[dict[str, Any]] = [
        {
            "name": one.name, "op": _operator(one), "reads": _reads(one), "window": _window(one),
            "unit": _unit(one, units.get(_stream(one, view), {})),
            **{key: value for key, value in one.canonical().items()
               if key in ("ttl", "on_stale", "default", "min_coverage", "min_count")},
        }
        for one in view.specs
    ]  # fmt: skip
    told["features"] = features
    if not schemas:
        return told
    prints = fingerprints(view, schemas)
    told |= {"entity_bytes": 0, "event_bytes": 0}
    for part in parts_of(view):
        plan = part.plan(schemas)
        columns = zip(part.columns, plan.grids, plan.horizons, plan.errors, plan.relative_errors,
                      strict=True)  # fmt: skip
        for at, grid, horizon, error, relative in columns:
            features[at] |= {
                "grid": _grid(grid), "horizon": horizon, "fingerprint": prints[at].hex(),
                "error": error if error == error else None, "relative_error": relative,
            }  # fmt: skip
        told["entity_bytes"] += plan.entity_bytes
        told["event_bytes"] += plan.event_bytes
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
        if one["relative_error"]:
            said = f"±{one['relative_error']:.2%}" + (" (1 sigma)" if error is None else "")
        row += [one["grid"], duration_text(one["horizon"]), said, one["fingerprint"][:12]]
    return [*row, _judged(one)]


def run(options: argparse.Namespace) -> int:
    view, schemas = read(options.path, options.schema)
    told = facts(view, schemas)
    if options.json:
        print(json.dumps(told))
        return 0
    entity = f"by {view.entity}" if view.entity else "one entity"
    print(f"view {view.name} of stream {view.source}, {entity}; {told['fingerprint'][:12]}")
    rules = [f"lateness {duration_text(view.lateness) if view.lateness else 0}"]
    rules += [f"{key} {duration_text(value) if key in ('max_ahead', 'idle') else value}"
              for key, value in view.rules.canonical().items()]  # fmt: skip
    print("  " + ", ".join(rules))
    heads = ["feature", "operator", "reads", "window", "unit"]
    heads += ["grid", "horizon", "error", "fingerprint"] if schemas else []
    table = [[*heads, "judged"]] + [_row(one, bool(schemas)) for one in told["features"]]
    filled = [at for at in range(len(table[0])) if any(row[at] for row in table[1:])]
    widths = {at: max(len(row[at]) for row in table) for at in filled}
    for row in table:
        print("  " + "  ".join(f"{row[at]:<{widths[at]}}" for at in filled).rstrip())
    if schemas:
        print(f"state of an entity: {told['entity_bytes']} bytes, and {told['event_bytes']} for "
              "each event it holds, before what minima, ranks and late rows need")  # fmt: skip
    return 0
