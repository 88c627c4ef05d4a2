"""Golden streams: short runs of events with what a release makes of them, stage by stage.

docs/formats/golden-streams.md is the form of the object. Golden vectors prove the model; these
prove what is before and behind it: events, features, model input, model output, score, verdict, on
the machine and with the backend that will serve. The releaser computes the answers by
:func:`answers`, the device holds its own against them by :func:`check`, both over a log in memory
and by the pipeline that serves.
"""

from __future__ import annotations

import struct

from edgecore._core.rows import Batch
from edgecore.digest import blake3
from edgecore.errors import Corrupt, Incompatible, Invalid
from edgecore.feature_backfill import backfill
from edgecore.features import MISSING
from edgecore.fs import MemoryFs
from edgecore.release import ANSWER_BYTES, STREAMS_MAX, STREAMS_MIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from edgecore.feature_view import FeatureView
    from edgecore.pipeline import LocalModel, Prediction
    from edgecore.schema import Schema

    Cells = list[Any]
    Event = tuple[int, int, Cells]  # number of its stream, time (ns), the fields in order

STAGES = ("features", "input", "output", "score", "verdict")
STAGE_BYTES = ANSWER_BYTES // len(STAGES)
EVENTS_MAX = 512  # of one stream
STREAMS_BYTES_MAX = 256 * 1024
NAME_BYTES_MAX = 23
SOURCE = "golden"
TIME_BITS = 63
CELLS = (type(None), bool, int, float, str, bytes)


class Stream:
    """One golden stream: ``name``, and ``events`` in order of arrival, as (number of the stream
    that it is a row of, event time in ns, its fields in the order of the schema)."""

    __slots__ = ("events", "name")

    def __init__(self, name: str, events: Iterable[Event]) -> None:
        self.name = name
        self.events = list(events)

    def batches(self, schemas: Sequence[Schema]) -> list[tuple[int, Batch]]:
        """The events as they are taken in: runs of rows of one stream. Raises ``Invalid``."""
        runs: list[tuple[int, Batch]] = []
        for order, (number, time, cells) in enumerate(self.events, 1):
            if not runs or runs[-1][0] != number:
                runs.append((number, Batch(schemas[number])))
            runs[-1][1].append(row_of(schemas[number], order, time, cells))
        return runs

    def whole(self, number: int, schema: Schema) -> Batch:
        """Its events of one stream."""
        batch = Batch(schema)
        for order, (of, time, cells) in enumerate(self.events, 1):
            if of == number:
                batch.append(row_of(schema, order, time, cells))
        return batch


def row_of(schema: Schema, order: int, time: int, cells: Cells) -> dict[str, Any]:
    """An event as a row; `order` is its place in the stream, and so its source sequence."""
    fields = zip((field.name for field in schema.fields), cells, strict=True)
    return {"time": time, "source": SOURCE, "source_seq": order, **dict(fields)}


# ------------------------------------------------------------------ the object


def encode(schemas: Sequence[Schema], streams: Iterable[Stream]) -> bytes:
    """The object: deterministic CBOR. `schemas`: of the view's source stream, then of the others
    that it reads, by name. Raises ``Invalid`` beyond a limit."""
    from cbor2 import dumps

    given = list(streams)
    _check(schemas, given)
    body = {
        "version": 1,
        "schemas": [one.fingerprint for one in schemas],
        "streams": [[one.name, _steps(one.events)] for one in given],
    }
    data = dumps(body, canonical=True)
    if len(data) > STREAMS_BYTES_MAX:
        raise Invalid(f"golden streams of {len(data)} bytes: at most {STREAMS_BYTES_MAX}")
    return data


def _steps(events: list[Event]) -> list[Cells]:
    """Events with their times as differences: they are close to each other, and so shorter."""
    out, before = [], 0
    for number, time, cells in events:
        out.append([number, time - before, *cells])
        before = time
    return out


def decode(data: bytes, schemas: Sequence[Schema]) -> list[Stream]:
    """The inverse of :func:`encode`. Raises ``Corrupt`` for anything that it would not make, or
    whose rows are not rows of `schemas`."""
    from cbor2 import CBORDecodeError, loads

    if len(data) > STREAMS_BYTES_MAX:
        raise Corrupt(f"golden streams of {len(data)} bytes: at most {STREAMS_BYTES_MAX}")
    try:
        body = loads(data)
        if body["version"] != 1:
            raise Corrupt("golden streams: unknown version")
        if body["schemas"] != [one.fingerprint for one in schemas]:
            raise Corrupt("golden streams: they are of other schemas than the release")
        streams = [Stream(name, _events(steps)) for name, steps in body["streams"]]
        again = encode(schemas, streams)
    except (
        CBORDecodeError, Invalid, KeyError, IndexError, TypeError, ValueError, AttributeError,
        OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise Corrupt(f"golden streams: {error}") from None
    if again != data:
        raise Corrupt("golden streams: the encoding is not the canonical one")
    return streams


def _events(steps: list[Cells]) -> list[Event]:
    if len(steps) > EVENTS_MAX:
        raise Invalid(f"{len(steps)} events in one stream: at most {EVENTS_MAX}")
    out, time = [], 0
    for number, step, *cells in steps:
        time += step
        out.append((number, time, cells))
    return out


def _check(schemas: Sequence[Schema], streams: list[Stream]) -> None:
    """Raises ``Invalid`` for what breaks a limit, and for what is no row of its schema."""
    if not STREAMS_MIN <= len(streams) <= STREAMS_MAX:
        raise Invalid(f"{len(streams)} golden streams: {STREAMS_MIN} to {STREAMS_MAX} are needed")
    names = [one.name for one in streams]
    if len(set(names)) < len(names):
        raise Invalid("two streams share a name")
    for one in streams:
        if type(one.name) is not str or not 0 < len(one.name.encode()) <= NAME_BYTES_MAX:
            raise Invalid(f"the name of a stream has 1 to {NAME_BYTES_MAX} bytes")
        if not 0 < len(one.events) <= EVENTS_MAX:
            raise Invalid(f"stream {one.name!r}: 1 to {EVENTS_MAX} events are needed")
        for number, time, cells in one.events:
            if type(number) is not int or not 0 <= number < len(schemas):
                raise Invalid(f"stream {one.name!r}: an event is of no stream of the view")
            if type(time) is not int or time.bit_length() > TIME_BITS:
                raise Invalid(f"stream {one.name!r}: a time is no integer of 64 bits")
            if any(type(cell) not in CELLS for cell in cells):
                raise Invalid(f"stream {one.name!r}: a value is of no type of a field")
        if all(number for number, _, _ in one.events):
            raise Invalid(f"stream {one.name!r}: no event that is answered")
        one.batches(schemas)


# ------------------------------------------------------------------ what becomes of them


def answers(
    model: LocalModel, view: FeatureView, schemas: Sequence[Schema], stream: Stream
) -> bytes:
    """What the release makes of a stream: of each stage in :data:`STAGES` the first 16 bytes of
    the BLAKE3 of all that it gave, event by event."""
    from edgecore.log import Log
    from edgecore.pipeline import Pipeline

    source, *others = schemas
    positions: dict[str, list[int]] = {one.stream: [] for one in schemas}
    found: list[Prediction] = []
    with Log.open("golden", fs=MemoryFs(), flusher="manual") as log:
        pipeline = Pipeline(log, view, schema=source, joined=others)
        pipeline.set_role("active", model)
        for number, batch in stream.batches(schemas):
            if number:
                first = pipeline.observe(schemas[number].stream, batch).position
                positions[schemas[number].stream] += range(first, first + len(batch))
                continue
            made = pipeline.process(batch)
            found += [made[at] for at in range(len(made))]
            positions[source.stream] += made.position
    stages = (_features(view, schemas, stream, positions), *_stages(found))
    return b"".join(blake3(part)[:STAGE_BYTES] for part in stages)


def _features(
    view: FeatureView, schemas: Sequence[Schema], stream: Stream, positions: dict[str, list[int]]
) -> bytes:
    """Values (f64, 0 where MISSING) and states of all features, as they were known at each row."""
    source, *others = schemas
    found = backfill(
        view, stream.whole(0, source), schema=source, known="ingest",
        joined=[(one, stream.whole(at, one)) for at, one in enumerate(others, 1)],
        positions=positions if others else None,
    )  # fmt: skip
    pairs = zip(found.values, found.states, strict=True)
    values = [0.0 if state == MISSING else value for value, state in pairs]
    return struct.pack(f"<{len(values)}d", *values) + bytes(found.states)


def _stages(found: list[Prediction]) -> tuple[bytes, bytes, bytes, bytes]:
    """Model input, model output, score and verdict of each prediction, one after the other."""
    taken, given, scores, verdicts = [], [], [], []
    for one in found:
        taken.append(one.input_hash + struct.pack("<qII", one.as_of, one.clipped, one.substituted))
        given.append(one.output_hash + f"{one.role} {one.reason or ''}\n".encode())
        scores.append(_number(one.score))
        verdicts.append(_number(one.threshold) + struct.pack("<BQ", one.verdict, one.episode))
    return b"".join(taken), b"".join(given), b"".join(scores), b"".join(verdicts)


def _number(value: float | None) -> bytes:
    return struct.pack("<?d", value is not None, value or 0.0)


def check(
    model: LocalModel,
    view: FeatureView,
    schemas: Sequence[Schema],
    data: bytes,
    expected: Sequence[bytes],
) -> None:
    """Replays the streams of a release as they would be served here.

    :param schemas: those of the release, as :func:`encode` takes them.
    :param data: the object; :param expected: the manifest's answers, one per stream.
    :raises Corrupt: malformed, or not as many answers as streams.
    :raises Incompatible: this device computes something else; it names the stream and the first
        stage that differs.
    """
    streams = decode(data, schemas)
    if len(streams) != len(expected):
        raise Corrupt(f"{len(streams)} golden streams, and answers to {len(expected)}")
    for stream, wanted in zip(streams, expected, strict=True):
        made = answers(model, view, schemas, stream)
        if made == wanted:
            continue
        at = range(0, ANSWER_BYTES, STAGE_BYTES)
        differing = [
            stage
            for stage, start in zip(STAGES, at, strict=True)
            if made[start : start + STAGE_BYTES] != wanted[start : start + STAGE_BYTES]
        ]
        what = model.model.describe()
        raise Incompatible(
            f"golden stream {stream.name!r}: stage {differing[0]!r} is not what it was where this "
            f"was released, by {what['backend']} {what['isa']} ({what['profile']})"
        )


__all__ = [
    "EVENTS_MAX",
    "STAGES",
    "STREAMS_BYTES_MAX",
    "Stream",
    "answers",
    "check",
    "decode",
    "encode",
]
