"""The system streams: what a device records of itself, with schemas fixed in code.

They are ordinary streams of the log, so they are durable, exported, synchronised and checked like
any sensor. Every log has SCHEMAS and LOSSES; a device adds SYSTEM_STREAMS.
"""

from __future__ import annotations

from edgecore.schema import Field, Schema

SCORE_DIGITS = 6

# Which schema stands behind a partition: the log names its own.
SCHEMAS = Schema(
    "edgecore.schemas",
    tier="critical",
    fields=[Field("partition", "u32", required=True), Field("schema", "bytes", required=True)],
)
# Sequences that will never be read: `lost` to damage, or `burnt` because a crash may have lost
# them after they were handed out.
LOSSES = Schema(
    "edgecore.losses",
    tier="critical",
    fields=[
        Field("partition", "u32", required=True),
        Field("first", "u64", required=True),
        Field("last", "u64", required=True),
        Field("reason", "category", required=True),
    ],
)

# One row per (release, role, backend) that ever answered: what its predictions have in common.
# `body` is deterministic CBOR: release, role, view, features, binding, verdict, profile, backend.
CONTEXT = Schema(
    "edgecore.context",
    tier="feedback",
    fields=[
        Field("context", "u32", required=True),
        Field("body", "bytes", required=True),
    ],
)

# One row per prediction. With its context, it names everything that rebuilds it.
PREDICTION = Schema(
    "edgecore.prediction",
    tier="feedback",
    fields=[
        Field("context", "u32", required=True),
        Field("entity", "category", required=True),
        Field("as_of", "i64", unit="ns", required=True),
        Field("position", "u64", required=True),
        Field("score", f"decimal({SCORE_DIGITS})"),
        Field("threshold", f"decimal({SCORE_DIGITS})"),
        Field("verdict", "u8", required=True),
        Field("episode", "u32"),
        Field("clipped", "u16", required=True),
        Field("substituted", "u16", required=True),
        Field("input_hash", "bytes", required=True),
        Field("output_hash", "bytes", required=True),
        Field("reason", "category"),
    ],
)

# One row per edge of the update state machine.
UPDATE = Schema(
    "edgecore.update",
    tier="critical",
    fields=[
        Field("release", "utf8", required=True),
        Field("version", "u32", required=True),
        Field("digest", "bytes", required=True),
        Field("attempt", "u32", required=True),
        Field("edge", "category", required=True),
        Field("reason", "utf8"),
    ],
)

# One row per thing the source refused or had to round: counts since the last row.
INGEST = Schema(
    "edgecore.ingest",
    tier="diagnostic",
    fields=[
        Field("stream", "category", required=True),
        Field("accepted", "u64", required=True),
        Field("rejected", "u64", required=True),
        Field("off_grid", "u64", required=True),
        Field("late", "u64", required=True),
        Field("detail", "utf8"),
    ],
)

# How summaries are made: the newest row of a name is its rule, as bytes of edgecore.rules.summary;
# one without a body says that it is made no more. A log has it when it has summaries.
SUMMARIES = Schema(
    "edgecore.summaries",
    tier="critical",
    fields=[
        Field("name", "utf8", required=True),
        Field("rule", "u64", required=True),
        Field("body", "bytes"),
    ],
)

# What becomes of streams whose rows are not all sent. `state`: the stream's rule from here on
# (`send`, `on_request`, `keep`), or what a hub's request comes to: `sent` (sequences first to last
# of a partition are sent for it), `gone` (these are kept no more, and may have held rows that were
# asked for), then `answered` with the number of rows found, or `refused`, or `unknown` where there
# is no such stream.
RAW = Schema(
    "edgecore.raw",
    tier="critical",
    fields=[
        Field("stream", "utf8", required=True),
        Field("state", "category", required=True),
        Field("request", "u64"),
        Field("partition", "u32"),
        Field("first", "u64"),
        Field("last", "u64"),
        Field("rows", "u64"),
    ],
)

# Readings of the device's two clocks, for edgecore.corrections: at `monotonic` of the epoch the
# wall clock read `wall`. `true` and `uncertainty`: what the hub signed then, where it did. Words
# of `origin` are in edgecore.corrections.
CLOCK = Schema(
    "edgecore.clock",
    tier="diagnostic",
    fields=[
        Field("epoch", "u64", required=True),
        Field("monotonic", "i64", unit="ns", required=True),
        Field("wall", "i64", unit="ns", required=True),
        Field("true", "i64", unit="ns"),
        Field("uncertainty", "u64", unit="ns"),
        Field("origin", "category", required=True),
    ],
)

# Rows of the source that the features did not count, for whoever corrects what was told without
# them: `late`, behind the time from which on rows count, or `ahead` of where the stream stood, `by`
# so much. `event_time` is the row's own, `position` where it stands in the log. With a `count` the
# row stands for so many more, the last of which it names.
LATE = Schema(
    "edgecore.late",
    tier="diagnostic",
    fields=[
        Field("stream", "category", required=True),
        Field("view", "category", required=True),
        Field("position", "u64", required=True),
        Field("event_time", "i64", unit="ns", required=True),
        Field("by", "i64", unit="ns", required=True),
        Field("kind", "category", required=True),
        Field("count", "u32"),
    ],
)

# Spans of event time, (begin, end], in which rows of a stream may be missing: they lower the
# coverage of features, from this row's position on (docs/formats/gap.md). With `through`, rows up
# to that position went: whoever has met them has them still. `told`: the row of edgecore.losses
# that says so.
GAP = Schema(
    "edgecore.gap",
    tier="feedback",
    fields=[
        Field("stream", "category", required=True),
        Field("begin", "i64", unit="ns", required=True),
        Field("end", "i64", unit="ns", required=True),
        Field("kind", "category", required=True),
        Field("through", "u64"),
        Field("told", "u64"),
    ],
)

SYSTEM_STREAMS = (CONTEXT, PREDICTION, UPDATE, INGEST, CLOCK, LATE, GAP)

__all__ = [
    "CLOCK", "CONTEXT", "GAP", "INGEST", "LATE", "LOSSES", "PREDICTION", "RAW", "SCHEMAS",
    "SCORE_DIGITS", "SUMMARIES", "SYSTEM_STREAMS", "UPDATE",
]  # fmt: skip
