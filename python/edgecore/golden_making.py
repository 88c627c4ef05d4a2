"""Golden vectors and golden streams, made by whoever releases; :mod:`edgecore.golden_streams` says
what they are for.

    bundle, answers = complete(bundle)            # what `edgecore model publish` does

:func:`vectors` and :func:`streams` take rows that a model was trained on; where there are none, the
streams are made from the schema.
"""

from __future__ import annotations

from edgecore import golden_streams
from edgecore._core import verdict as _verdict
from edgecore.digest import blake3
from edgecore.errors import Incompatible, Invalid
from edgecore.features import FeatureView
from edgecore.golden_streams import Stream
from edgecore.inference import Binding, Model
from edgecore.pipeline import LocalModel
from edgecore.release import JOINED, STREAMS, Bundle, joined_schemas
from edgecore.schema import Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from edgecore._core.rows import Batch
    from edgecore.golden_streams import Cells, Event
    from edgecore.schema import Field

VECTORS_MIN = 16
VECTORS = 24  # of the rows that were learned from

ROWS = 96  # of a stream; three times the verdict's warm-up where that is more
ROWS_MIN = 8
ROWS_MAX = 256
BYTES = 32 * 1024  # what the object should take; wide streams are shorter
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
FRACTIONS = ("f32", "f64", "decimal")
TEXTS = ("category", "utf8", "bytes")


def vectors(codes: bytes, size: int, zero_point: int) -> bytes:
    """Input rows that a device must reproduce: some of `codes`, rows of `size` int8, spread evenly,
    and the extremes."""
    rows = len(codes) // size
    picked = sorted({i * (rows - 1) // (VECTORS - 1) for i in range(VECTORS)})
    own = b"".join(codes[row * size : (row + 1) * size] for row in picked)
    return own + b"".join(extremes(size, zero_point))


def extremes(size: int, zero_point: int) -> list[bytes]:
    """The ends of the code range, where rounding and saturation show, and a row of zeros."""
    mixed = bytes(0x80 if i % 2 else 0x7F for i in range(size))
    return [b"\x80" * size, b"\x7f" * size, bytes([zero_point & 0xFF]) * size, mixed]


def complete(bundle: Bundle) -> tuple[Bundle, tuple[bytes, ...]]:
    """The bundle with golden vectors that reach the extremes and with golden streams, and the
    answers to these, for its manifest. Computed by the backend that serves the model here.

    :raises Invalid: fewer than 16 golden vectors. :raises Incompatible: the bundle's own golden
        outputs are not what the model gives, or its parts don't fit together.
    :raises Corrupt: an object is malformed."""
    facts = bundle.facts
    objects = dict(bundle.objects)
    model = Model.load(objects["model"], profile=facts["profile"])
    if model.dtypes != ("int8", "int8"):
        raise Incompatible(f"the model's ends are {' and '.join(model.dtypes)}: int8 is released")
    objects["golden"], output = _vectors_of(bundle, model)
    view = FeatureView.from_bytes(objects["view"])
    joined = joined_schemas(objects[JOINED]) if JOINED in objects else []
    schemas = [Schema.from_bytes(objects["schema"]), *joined]
    if STREAMS not in objects:
        objects[STREAMS] = streams(view, schemas, objects["verdict"])
    binding = Binding.from_bytes(objects["binding"])
    local = LocalModel(model, binding, objects["verdict"], facts["score"])
    answers = tuple(
        golden_streams.answers(local, view, schemas, one)
        for one in golden_streams.decode(objects[STREAMS], schemas)
    )
    said = {name: value for name, value in facts.items() if name != "version"}
    said["features"] = [bytes.fromhex(one) for one in facts["features"]]
    return Bundle(objects, **{**said, "golden_output": output}), answers


def _vectors_of(bundle: Bundle, model: Model) -> tuple[bytes, bytes]:
    """The bundle's vectors with the extremes that they lack, and the BLAKE3 of their outputs."""
    size, golden = model.input_size, bundle.objects["golden"]
    model.check_golden(golden, bytes.fromhex(bundle.facts["golden_output"]))
    rows = [golden[at : at + size] for at in range(0, len(golden), size)]
    if len(rows) < VECTORS_MIN:
        raise Invalid(f"{len(rows)} golden vectors: at least {VECTORS_MIN} are needed")
    rows += [row for row in extremes(size, model.input_quantisation[1]) if row not in rows]
    return b"".join(rows), blake3(model.run_batch(b"".join(rows), len(rows)))


# ------------------------------------------------------------------ streams


def streams(
    view: FeatureView, schemas: Sequence[Schema], verdict: bytes, rows: Batch | None = None
) -> bytes:
    """The object of golden streams: the earliest of `rows` as they are; some of them late; values
    missing; a jump of time and back; a long anomalous stretch.

    :param schemas: of the view's source stream, then of the others that it reads.
    :param rows: of the source stream; without them they are made from the schema, as those of the
        other streams always are."""
    schemas = [schemas[0], *sorted(schemas[1:], key=lambda one: one.stream)]
    warmup = _verdict.VerdictSpec.from_bytes(verdict).warmup
    count = max(ROWS, min(ROWS_MAX, 3 * warmup))
    if rows is not None and len(rows):
        try:
            return _fitting(view, schemas, _learned(schemas[0], rows, count))
        except Invalid:
            pass  # texts too long for it, times at the end of time: what the schema says will do
    return _fitting(view, schemas, _made(schemas[0], count))


def _fitting(view: FeatureView, schemas: Sequence[Schema], base: list[Event]) -> bytes:
    """The object of as many of the events as it should take. Raises ``Invalid`` when the fewest
    are too many."""
    while True:
        few = len(base) // 2 < ROWS_MIN
        try:
            data = golden_streams.encode(schemas, _five(view, schemas, base))
            if few or len(data) <= BYTES:
                return data
        except Invalid:
            if few:
                raise
        base = base[: len(base) // 2]


def _five(view: FeatureView, schemas: Sequence[Schema], base: list[Event]) -> list[Stream]:
    fields, count = schemas[0].fields, len(base)
    times = [time for _, time, _ in base]
    step = max(1, (times[-1] - times[0]) // count)
    far, jump = 4 * view.lateness + 20 * step, 600 * step

    def with_times(of: Callable[[int], int]) -> list[Event]:
        return [(0, time + of(at), cells) for at, (_, time, cells) in enumerate(base)]

    def with_cells(of: Callable[[int, Cells], Cells]) -> list[Event]:
        return [(0, time, of(at, cells)) for at, (_, time, cells) in enumerate(base)]

    def gone(at: int, cells: Cells) -> Cells:
        optional = [not one.required and one.name != view.entity for one in fields]
        return [None if optional[i] and (at + i) % 5 == 4 else cell for i, cell in enumerate(cells)]

    def odd(at: int, cells: Cells) -> Cells:
        if not count // 3 <= at < count - 8:
            return cells
        pairs = zip(fields, cells, strict=True)
        return [cell if one.name == view.entity else _odd(one, cell, at) for one, cell in pairs]

    named = {
        "plain": base,
        "late": with_times(
            lambda at: 0 if at % 7 < 6 else -(view.lateness // 2 if at % 2 else far)
        ),
        "missing": with_cells(gone),
        "jump": with_times(lambda at: jump if count // 2 <= at < count - 4 else 0),
        "anomalous": with_cells(odd),
    }
    return [Stream(name, _beside(view, schemas, events, step)) for name, events in named.items()]


def _learned(schema: Schema, rows: Batch, count: int) -> list[Event]:
    """The earliest rows, in order of time; over again behind each other where they are few."""
    times = list(rows.column("time"))
    order = sorted(range(len(times)), key=lambda at: (times[at], at))[:count]
    columns = [rows.column(one.name) for one in schema.fields]
    taken = [(times[at], [_known(column[at]) for column in columns]) for at in order]
    round_ = taken[-1][0] - taken[0][0]
    round_ += max(1, round_ // len(taken))
    return [
        (0, taken[i % len(taken)][0] + i // len(taken) * round_, taken[i % len(taken)][1])
        for i in range(count)
    ]


def _known(value: Any) -> Any:
    return None if value != value else value


def _made(schema: Schema, count: int) -> list[Event]:
    """Rows that the schema allows, a second apart: each number a slow wave about the middle of its
    range, texts one of two."""
    return [
        (0, START + at * SECOND, [_wave(one, at, i) for i, one in enumerate(schema.fields)])
        for at in range(count)
    ]


def _wave(field: Field, at: int, column: int) -> Any:
    phase = abs((at * 5 + column * 3) % 40 - 20) - 10 + at * 7 % 3
    if field.dtype in TEXTS:
        return _text(field, "ab"[at // 3 % 2])
    if field.dtype == "bool":
        return at % 4 == 0
    low, high = _range(field)
    return _grid(field, (low + high) / 2 + (high - low) * phase / 100)


def _odd(field: Field, cell: Any, at: int) -> Any:
    """What an anomalous stretch has in place of a value: near one end of its range or the other."""
    if field.dtype in TEXTS:
        return _text(field, "odd") if at % 3 == 0 else cell
    if field.dtype == "bool":
        return None if cell is None else not cell
    low, high = _range(field)
    inside = (high - low) / 50  # where no rounding leads out of it
    return _grid(field, high - inside if at // 4 % 2 else low + inside)


def _text(field: Field, text: str) -> str | bytes:
    return text.encode() if field.dtype == "bytes" else text


def _range(field: Field) -> tuple[float, float]:
    return field.range if field.range is not None else (0.0, 100.0)


def _grid(field: Field, value: float) -> float | int:
    return value if field.dtype in FRACTIONS else round(value)


def _beside(
    view: FeatureView, schemas: Sequence[Schema], events: list[Event], step: int
) -> list[Event]:
    """With a row of each other stream before every third event, of the same entity."""
    keys = {spec.join["stream"]: spec.join["entity"] for spec in view.specs if spec.join}
    own = [at for at, one in enumerate(schemas[0].fields) if one.name == view.entity]
    out: list[Event] = []
    for at, event in enumerate(events):
        for number, schema in enumerate(schemas[1:] if at % 3 == 0 else (), 1):
            cells = [_wave(one, at, i) for i, one in enumerate(schema.fields)]
            for i, one in enumerate(schema.fields):
                if own and one.name == keys[schema.stream]:
                    cells[i] = event[2][own[0]]
            out.append((number, event[1] - step // 2, cells))
        out.append(event)
    return out


__all__ = ["VECTORS_MIN", "complete", "extremes", "streams", "vectors"]
