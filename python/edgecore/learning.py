"""Training: from the rows that a device has seen to a bundle that a releaser signs.

    view = learning.detection_view(schema, interval_ns)
    bundle = learning.fit(view, schema, rows)
    learning.write_bundle(bundle, "bundle")

:func:`fit` is the whole method of anomaly detection, a pure function of its arguments (same rows,
same bytes, on every machine): features by the kernel that serves, normalisation slot by slot, a
small autoencoder (Hinton and Salakhutdinov, 2006), post-training quantisation to int8 (Jacob et
al., 2018), and a running threshold over its reconstruction error (docs/formats/verdict.md).

Nothing here needs numpy; ``flatbuffers`` (extra ``train``) writes the model.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from itertools import pairwise

from edgecore import golden_making, limits, tflite_writer
from edgecore._core import learning as _learning
from edgecore._core import verdict as _verdict
from edgecore.digest import blake3
from edgecore.errors import Incompatible, Invalid
from edgecore.inference import Binding, Model, Slot, score
from edgecore.release import FACTS_FILE, JOINED, STREAMS, Bundle, joined_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from typing_extensions import Buffer

    from edgecore.features import Backfilled, FeatureView
    from edgecore.schema import Field, Schema

PROFILE = "litert-single"
WINDOWS = (12, 60, 288)  # of a detection view, in median intervals between rows
FEW_FIELDS = 3  # up to so many, each field has every operator over every window
NUMERIC = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64", "decimal")

TEXTS = ("category", "utf8", "bytes")
CODED = ("first", "last", "most_frequent")  # operators whose value of a text is its code
VOCABULARY_MAX = 64  # rarer texts are unknown
UNKNOWN = -1.0

ROWS_MIN = 32
PRESENT_SHARE = 0.5  # a feature missing in more of the rows has nothing to teach
SCALE_SHARE = 0.01  # the least divisor of a slot, as a share of its centre
PERCENT_SCALE = 1.0  # and of a field in percent, in its unit
BATCH = 32
LEARNING_RATE = 3e-3
EPOCHS = 15
STEPS_MIN, STEPS_MAX = 400, 3000
TRAINED_SHARE = 0.8  # of the rows, the earliest; the floor is found on all of them

FLOOR_PERMILLE = 950  # quantile of the fit's own scores ...
FLOOR_FACTOR = 4  # ... and how far above it the least threshold lies
GAP_ROWS = 72  # an episode within so many median intervals of the last one continues it
STALE, MISSING = 1, 2


class Trainer:
    """Training of a multi-layer perceptron that stops after any step and resumes bit-identically.

    Hidden layers are ReLU, the last one is linear; Adam (Kingma and Ba, 2015) on the mean squared
    error, the same bits on every machine.

    :param widths: of the layers, input first.
    :param inputs: rows x widths[0] f32, row-major; :param targets: rows x widths[-1] f32, the
        inputs themselves when absent (an autoencoder).
    :param parameters: f32, layer by layer weights [out][in] then biases; by default from the seed.
    :raises Invalid: shapes that do not fit, values that are not finite.
    """

    __slots__ = ("core", "widths")

    def __init__(
        self,
        widths: Sequence[int],
        inputs: Buffer,
        targets: Buffer | None = None,
        *,
        parameters: Buffer | None = None,
        seed: int = 1,
        batch: int = BATCH,
        learning_rate: float = LEARNING_RATE,
    ) -> None:
        self.widths = tuple(widths)
        plan = _learning.TrainingPlan(seed=seed, batch=batch, learning_rate=learning_rate)
        self.core = _learning.Trainer(
            self.widths, parameters, inputs, inputs if targets is None else targets, plan
        )

    def step(self, count: int = 1) -> float:
        """Takes `count` optimiser steps of one batch each; returns their mean loss."""
        return self.core.step(count)

    @property
    def steps(self) -> int:
        return self.core.steps

    def parameters(self) -> bytes:
        """f32, little-endian, in the order that the constructor takes."""
        return self.core.parameters()

    def state(self) -> bytes:
        """Everything that :meth:`restore` goes on from (docs/formats/trainer-state.md)."""
        return self.core.state()

    def restore(self, state: Buffer) -> None:
        """Raises ``Corrupt``, or ``Incompatible`` for other rows, widths or settings; then
        nothing has changed."""
        self.core.restore(state)

    def quantise(self, name: str) -> bytes:
        """The network as an int8 ``.tflite`` file, its activation ranges taken over the inputs."""
        ranges = self.core.activation_ranges()
        layers, tensors = tflite_writer.quantise(self.widths, self.parameters(), ranges)
        return tflite_writer.write_tflite(layers, tensors, name)


# ------------------------------------------------------------------ views


def median_interval(times: Iterable[int]) -> int:
    """The median time between consecutive rows, in ns, rounded to milliseconds, at least one.

    :raises Invalid: fewer than two distinct times."""
    ordered = sorted(times)
    steps = sorted(b - a for a, b in pairwise(ordered) if b > a)
    if not steps:
        raise Invalid("an interval needs rows at two different times")
    return max(1, round(steps[len(steps) // 2] / 10**6)) * 10**6


def detection_view(
    schema: Schema,
    interval_ns: int,
    *,
    fields: Sequence[str] | None = None,
    entity: str = "",
    name: str = "detection",
) -> FeatureView:
    """A view for anomaly detection: each numeric field over windows of 12, 60 and 288 intervals.

    Up to three fields have mean, std, min and max over all windows and their last value; more
    have mean and std over the two shorter windows and their last value. A field without a declared
    grid and range has no std, which could not be exact.

    :param interval_ns: the median time between two rows of one entity.
    :param fields: all numeric ones by default, but the entity.
    :raises Invalid: no numeric field, or one that is not there."""
    from edgecore.features import Agg, FeatureView, Last

    numeric = [field.name for field in schema.fields if field.dtype in NUMERIC]
    chosen = [name for name in numeric if name != entity] if fields is None else list(fields)
    for wanted in chosen:
        if wanted not in numeric:
            raise Invalid(f"stream {schema.stream!r} has no numeric field {wanted!r}")
    if not chosen:
        raise Invalid(f"stream {schema.stream!r} has no numeric field")
    few = len(chosen) <= FEW_FIELDS
    windows = [count * interval_ns for count in (WINDOWS if few else WINDOWS[:2])]
    features: list[Agg | Last] = []
    for field in chosen:
        ops = ["mean", "std", "min", "max"] if few else ["mean", "std"]
        if not _has_std(schema, field):
            ops.remove("std")
        features += [Agg(field, ops, window=windows), Last(field)]
    return FeatureView(
        name,
        entity=entity,
        source=schema.stream,
        lateness=WINDOWS[0] * interval_ns,
        features=features,
    )


def _has_std(schema: Schema, field: str) -> bool:
    """Whether the engine can be exact about it: that takes a grid, and a range that bounds it."""
    from edgecore.features import Agg, FeatureView

    deviation = Agg(field, "std", window="1h")
    view = FeatureView("probe", entity="", source=schema.stream, features=[deviation])
    try:
        view.plan(schema)
    except Incompatible:
        return False
    return True


# ------------------------------------------------------------------ the fit


def quantile(values: Sequence[int], permille: int) -> int:
    """Of the ascending values, the one with `permille` of the others below it."""
    return sorted(values)[(len(values) - 1) * permille // 1000]


def _least_scale(field: Field | None, centre: float) -> float:
    """What a slot is at least divided by: a change smaller than that is no news, however still
    the feature was while the model was fitted."""
    least = SCALE_SHARE * abs(centre)
    if field is None:
        return least
    step = 10.0**-field.scale if field.dtype == "decimal" else field.resolution
    if field.dtype not in ("decimal", "f32", "f64"):
        step = 1.0
    return max(least, step, PERCENT_SCALE if field.unit == "%" else 0.0)


class _Table:
    """What is learned from: the kept rows of a backfill, in order of time.

    :param refusing: columns of features that are refused when they are stale; no model answers such
        a row, so none learns from it.
    """

    def __init__(
        self, found: Backfilled, exclude: Iterable[tuple[int, int]], refusing: Sequence[int]
    ) -> None:
        out = list(exclude)
        self.names = list(found.names)
        self.width = len(self.names)
        self.values = memoryview(found.values).cast("B").cast("d")
        self.states = memoryview(found.states).cast("B")
        self.times = list(found.times)
        self.entities = list(found.entities)
        self.rows = [
            row
            for row, time in enumerate(self.times)
            if not any(start <= time <= end for start, end in out)
            and not any(self.states[row * self.width + at] == STALE for at in refusing)
        ]
        self._check()

    def _check(self) -> None:
        self.excluded = len(self.times) - len(self.rows)
        if len(self.rows) < ROWS_MIN:
            raise Invalid(f"{len(self.rows)} rows to learn from: at least {ROWS_MIN} are needed")

    def row(self, row: int, columns: Sequence[int]) -> tuple[array[float], bytes]:
        """Values and states of some columns."""
        cells = [row * self.width + at for at in columns]
        return array("d", [self.values[c] for c in cells]), bytes([self.states[c] for c in cells])

    def keep_full(self, slots: Sequence[Slot], columns: Sequence[int], min_full: float) -> None:
        """Leaves out the rows that a binding of these slots finds too sparse."""
        if not min_full:
            return
        held = Binding(slots, min_full=min_full)
        self.rows = [row for row in self.rows if not held.refusal(*self.row(row, columns))]
        self._check()

    def column(self, at: int) -> list[float]:
        """The present values of a feature."""
        values, states, width = self.values, self.states, self.width
        cells = (row * width + at for row in self.rows)
        return [
            values[cell]
            for cell in cells
            if states[cell] != MISSING and math.isfinite(values[cell])
        ]

    def notes(self, columns: Sequence[int]) -> dict[str, Any]:
        return {
            "rows": len(self.rows), "excluded": self.excluded, "interval_ns": self.interval(),
            "slots": [self.names[at] for at in columns],
        }  # fmt: skip

    def interval(self) -> int:
        """The median time between rows of one entity."""
        by_entity: dict[Any, list[int]] = {}
        for time, entity in zip(self.times, self.entities, strict=True):
            by_entity.setdefault(entity, []).append(time)
        longest = max(by_entity.values(), key=len)
        return median_interval(longest)


def _vocabulary(field: Field | None, op: str, present: Sequence[float]) -> list[int] | None:
    """Of a feature that answers with the codes of texts, the most frequent ones, ascending."""
    if field is None or field.dtype not in TEXTS or op not in CODED:
        return None
    counts = Counter(int(code) for code in present)
    return sorted(sorted(counts, key=lambda code: (-counts[code], code))[:VOCABULARY_MAX])


def _slots(
    view: FeatureView, schemas: Sequence[Schema], table: _Table
) -> tuple[list[Slot], list[int]]:
    """A slot for each feature that moved, and which column it reads."""
    by_stream = {one.stream: {field.name: field for field in one.fields} for one in schemas}
    slots, columns = [], []
    prints = view.fingerprints_for(schemas[0], schemas[1:])
    for at, (feature, fingerprint) in enumerate(zip(view.specs, prints, strict=True)):
        fields = by_stream[str(feature.join["stream"]) if feature.join else view.source]
        present = table.column(at)
        if len(present) < PRESENT_SHARE * len(table.rows) or min(present) == max(present):
            continue
        known = _vocabulary(fields.get(feature.field), feature.op, present)
        if known is not None:  # what the model sees is the place in the vocabulary
            places = {code: float(place) for place, code in enumerate(known)}
            present = [places.get(int(code), UNKNOWN) for code in present]
        centre = math.fsum(present) / len(present)
        spread = math.sqrt(math.fsum((v - centre) ** 2 for v in present) / len(present))
        least = _least_scale(fields.get(feature.field), centre)
        kind = "value" if known is None else "category"
        slots.append(
            Slot(fingerprint, kind, centre=centre, scale=spread, scale_floor=least,
                 vocabulary=known or (), unknown=UNKNOWN)
        )  # fmt: skip
        columns.append(at)
    if not slots:
        raise Invalid("no feature of the view ever changed: there is nothing to learn")
    return slots[: limits.BINDING_SLOTS_MAX], columns[: limits.BINDING_SLOTS_MAX]


class _Inputs:
    """The kept rows as the binding sees them: bound values and states, row by row."""

    def __init__(self, table: _Table, binding: Binding, columns: Sequence[int]) -> None:
        self.binding = binding
        rows = [table.row(row, columns) for row in table.rows]
        self.values = [values for values, _ in rows]
        self.states = [states for _, states in rows]

    def __len__(self) -> int:
        return len(self.values)

    def normalised(self) -> list[bytes]:
        """Before the clip, one f64 per slot."""
        pairs = zip(self.values, self.states, strict=True)
        return [self.binding.normalise(values, states) for values, states in pairs]

    def clipped(self, normalised: Sequence[bytes]) -> array[float]:
        """As f32 within each slot's clip, what the network is trained on."""
        bounds = [slot.clip for slot in self.binding.slots]
        out = array("f")
        for row in normalised:
            numbers = zip(memoryview(row).cast("d"), bounds, strict=True)
            out.extend([min(max(x, low), high) for x, (low, high) in numbers])
        return out

    def codes(self, model: Model) -> bytes:
        """As int8 codes, all rows one after another."""
        to = model.input_quantisation
        pairs = zip(self.values, self.states, strict=True)
        return b"".join([self.binding.quantise(v, s, to)[0] for v, s in pairs])


def _scores(model: Model, codes: bytes, normalised: Sequence[bytes]) -> list[int]:
    size = model.output_size
    outputs = model.run_batch(codes, len(normalised))
    how = model.output_quantisation
    return [
        score("reconstruction", row, outputs[i * size : (i + 1) * size], how)
        for i, row in enumerate(normalised)
    ]


def layer_widths(slots: int) -> tuple[int, ...]:
    """The autoencoder's layers for so many inputs: 13 give 13-16-4-16-13."""
    outer = max(16, min(64, slots))
    return (slots, outer, max(2, slots // 3), outer, slots)


def fit(
    view: FeatureView,
    schema: Schema,
    rows: Any,
    *,
    joined: Iterable[tuple[Schema, Any]] = (),
    exclude: Iterable[tuple[int, int]] = (),
    seed: int = 1,
    hidden: Sequence[int] | None = None,
    steps: int | None = None,
    family: str = "anomaly",
    observation: dict[str, Any] | None = None,
    max_age: str | int = 0,
    min_full: float = 0.0,
) -> Bundle:
    """Learns what is normal and packs it for a releaser. Deterministic: same rows, same bytes.

    :param rows: as ``edgecore.backfill`` takes them, of `schema`; at least 32 are kept.
    :param joined: schema and rows of each other stream that the view reads.
    :param exclude: (start, end) in ns, inclusive: rows within are not learned from, though they
        count in the windows of others.
    :param hidden: widths of the hidden layers; by default from the number of slots.
    :param steps: of the optimiser; by default 15 passes over the rows, 400 to 3000 steps.
    :param observation: limits of a trial that differ from half of the judged as alarms.
    :param max_age: and `min_full`: the binding's decision window. Rows that are less full, or of
        which the view refuses a value, are not learned from.
    :raises Invalid: too few rows, or none that differ; :raises Unavailable: no ``flatbuffers``.
    """
    from edgecore.feature_backfill import backfill, taken

    refusing = [at for at, spec in enumerate(view.specs) if spec.on_stale == "refuse"]
    batch, others = taken(schema, rows), list(joined)
    table = _Table(backfill(view, batch, schema=schema, joined=others), exclude, refusing)
    besides = [one for one, _ in others if one.stream in view.joins]
    slots, columns = _slots(view, [schema, *besides], table)
    table.keep_full(slots, columns, min_full)
    binding = Binding(slots, max_age=max_age, min_full=min_full)
    inputs = _Inputs(table, binding, columns)
    normalised = inputs.normalised()
    learned = max(ROWS_MIN, int(len(inputs) * TRAINED_SHARE))
    n = len(slots)
    widths = layer_widths(n) if hidden is None else (n, *hidden, n)
    trainer = Trainer(widths, inputs.clipped(normalised[:learned]), seed=seed)
    passes = EPOCHS * -(-learned // BATCH)
    loss = trainer.step(max(STEPS_MIN, min(STEPS_MAX, passes)) if steps is None else steps)
    tflite = trainer.quantise(family)
    model = Model.load(tflite, backend="native", profile=PROFILE)
    codes = inputs.codes(model)
    scores = _scores(model, codes, normalised)
    spec = _verdict.VerdictSpec(
        floor=FLOOR_FACTOR * max(1, quantile(scores, FLOOR_PERMILLE)),
        gap_ns=GAP_ROWS * table.interval(),
    )
    objects = {
        "model": tflite, "binding": binding.to_bytes(), "view": view.to_bytes(),
        "schema": schema.canonical_bytes, "verdict": spec.to_bytes(),
        "golden": golden_making.vectors(codes, n, model.input_quantisation[1]),
        STREAMS: golden_making.streams(view, [schema, *besides], spec.to_bytes(), batch),
        **({JOINED: joined_bytes(besides)} if besides else {}),
    }  # fmt: skip
    notes = {
        **table.notes(columns), "widths": list(widths), "seed": seed, "steps": trainer.steps,
        "loss": loss, "floor": spec.floor, "score_median": quantile(scores, 500),
        "parameters": blake3(trainer.parameters()).hex(),
    }  # fmt: skip
    limit = {"max_alarm_share": 0.5, **(observation or {})}
    return _bundle(objects, model, family, slots, limit, notes)


def _bundle(
    objects: dict[str, bytes],
    model: Model,
    family: str,
    slots: Sequence[Slot],
    observation: dict[str, Any],
    notes: dict[str, Any],
) -> Bundle:
    golden = objects["golden"]
    about: Any = model.describe()
    return Bundle(
        objects,
        family=family,
        profile=PROFILE,
        ops=about["ops"],
        arena_bytes=about["arena_bytes"],
        features=[slot.feature for slot in slots],
        score="reconstruction",
        golden_output=blake3(model.run_batch(golden, len(golden) // model.input_size)),
        observation=observation,
        notes=notes,
    )


def write_bundle(bundle: Bundle, directory: str) -> None:
    """Writes the bundle's files into `directory`, which is made if absent; ``bundle.json`` comes
    last, so that a directory that has it is whole. Raises ``Unavailable``, ``Exhausted``."""
    from edgecore.fs import PosixFs

    fs = PosixFs()
    fs.make_directories(directory)
    files = bundle.files()
    if fs.exists(f"{directory}/{FACTS_FILE}"):
        fs.remove(f"{directory}/{FACTS_FILE}")
    for name in sorted(files, key=lambda name: (name == FACTS_FILE, name)):
        fs.write_atomic(f"{directory}/{name}", files[name])


__all__ = ["Trainer", "detection_view", "fit", "layer_widths", "median_interval", "quantile",
           "write_bundle"]  # fmt: skip
