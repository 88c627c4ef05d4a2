"""What a log hands out and is told: rows as they are scanned, runs as they leave the device, what
opening found, and the words for durability. Public names of ``edgecore.log``."""

from __future__ import annotations

from edgecore.errors import Invalid
from edgecore.schema import TIERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from edgecore._core import log as _log
    from edgecore._core import rows as _rows
    from edgecore.schema import Schema

    Column = array[float] | array[int] | list[Any]
    Arrival = tuple[int, int, int, int]  # rows, first position, HLC, clock trust
    Range = tuple[int, int, int, str]  # partition, first, last, reason

SEGMENTS_MIN = 16  # what a log's `max_bytes` must leave room for
ON_FULL = ("refuse", "drop oldest", "drop newest", "thin")
LEVELS = ("process", "kernel", "group", "sync")
GROUP = "group(50ms,32KiB)"
IDENTITY = ("partition", "sequence", "position")  # columns of a table that are no field's


def parse_durability(text: str) -> tuple[int, int, int]:
    """``"process" | "kernel" | "sync" | "group(50ms,32KiB)"`` -> (level, ns, bytes)."""
    name, _, rest = text.partition("(")
    if name not in LEVELS or bool(rest) != (name == "group") or (rest and not rest.endswith(")")):
        raise Invalid(f"durability {text!r}: process, kernel, sync or e.g. {GROUP}")
    if name != "group":
        return LEVELS.index(name), 50_000_000, 32 << 10
    try:
        time_text, bytes_text = rest[:-1].split(",")
        milliseconds = int(time_text.strip().removesuffix("ms"))
        size = int(bytes_text.strip().removesuffix("KiB")) << 10
    except ValueError:
        raise Invalid(f"durability {text!r}: e.g. {GROUP}") from None
    if milliseconds < 0 or not 0 <= size < 1 << 31:
        raise Invalid(f"durability {text!r}: a time and a size that are not negative")
    return LEVELS.index(name), milliseconds * 1_000_000, size


def durabilities(words: dict[str, str]) -> list[tuple[int, int, int]]:
    """By tier; of those that are not named ``sync`` for critical, ``group`` else. Raises
    ``Invalid``."""
    unknown = set(words) - set(TIERS)
    if unknown:
        raise Invalid(f"durability: no tier {min(unknown)!r}")
    found = {**dict.fromkeys(TIERS, GROUP), "critical": "sync", **words}
    return [parse_durability(found[tier]) for tier in TIERS]


class Retention:
    """What a tier may take of the disk, and what gives way when it is more.

    :param max_bytes: of its packs, at most; :meth:`Log.maintain` sees to it.
    :param ttl_ns: packs whose newest row came longer ago go, acknowledged or not.
    :param on_full: ``"refuse"``: its appends raise ``Exhausted`` until there is room again;
        ``"drop oldest"``: packs go, also those that nobody has acknowledged; ``"drop newest"``:
        what is sealed from then on is not kept; ``"thin 1-in-10"``: from half of `max_bytes` on one
        block of (any) ten is kept, a block being at most 1,024 consecutive rows of a partition, and
        at `max_bytes` the oldest go.

    Every row that goes is told of in ``edgecore.losses``: ``dropped``, ``expired``, ``thinned``."""

    __slots__ = ("full", "max_bytes", "thin", "ttl_ns")

    def __init__(
        self, *, max_bytes: int | None = None, ttl_ns: int | None = None, on_full: str = "refuse"
    ) -> None:
        word, _, share = on_full.partition(" 1-in-")
        if word not in ON_FULL or (word == "thin") != bool(share):
            raise Invalid(f"on_full {on_full!r}: {', '.join(ON_FULL[:3])} or e.g. thin 1-in-10")
        if share and not (share.isdecimal() and 2 <= int(share) <= 1 << 20):
            raise Invalid(f"on_full {on_full!r}: 1 in 2 to 1,048,576")
        for name, limit in (("max_bytes", max_bytes), ("ttl_ns", ttl_ns)):
            if limit is not None and not 0 <= limit < 1 << 63:
                raise Invalid(f"{name} {limit}: not negative, below 2^63")
        self.max_bytes, self.ttl_ns = max_bytes, ttl_ns
        self.full, self.thin = ON_FULL.index(word), int(share or 1)


def limits_of(
    retention: dict[str, Retention], max_bytes: int | None, segment_bytes: int
) -> list[Retention]:
    """By tier, checked. Raises ``Invalid``."""
    unknown = set(retention) - set(TIERS)
    if unknown:
        raise Invalid(f"retention: no tier {min(unknown)!r}")
    if max_bytes is not None and not SEGMENTS_MIN * segment_bytes <= max_bytes < 1 << 63:
        raise Invalid(f"max_bytes {max_bytes}: at least {SEGMENTS_MIN} segments, below 2^63")
    return [retention.get(tier, Retention()) for tier in TIERS]


def ranked(priority: Sequence[str]) -> tuple[str, ...]:
    """All tiers in order of worth: `critical`, those that are named, the others in their own order.
    Raises ``Invalid``."""
    for at, tier in enumerate(priority):
        if tier not in TIERS or tier in priority[:at]:
            raise Invalid(f"priority: {tier!r} is no tier, or is named twice")
        if tier == "critical" and at:
            raise Invalid("priority: critical is always the first")
    named = [tier for tier in priority if tier != "critical"]
    return ("critical", *named, *(tier for tier in TIERS[1:] if tier not in named))


class Maintained:
    """What :meth:`Log.maintain` did, in rows: ``released`` (acknowledged, and nobody wants them),
    ``sealed`` (moved into packs), ``dropped`` (to make room, not acknowledged)."""

    __slots__ = ("dropped", "released", "sealed")

    def __init__(self, released: int, sealed: int, dropped: int) -> None:
        self.released, self.sealed, self.dropped = released, sealed, dropped


class Recovery:
    """What opening found. ``ranges`` are (partition, first, last, reason) of sequences that will
    never be read: ``lost`` to damage, ``burnt`` (a crash may have lost them after they were handed
    out), ``uncertain`` (burnt, but durable rows were among them). ``burnt``: those that earlier
    opens have burnt. ``tail_uncertain``: bytes behind the end of the data that may have been
    rows. ``missing``: positions that were durable and now lie behind the end of the data."""

    __slots__ = ("burnt", "clean", "missing", "ranges", "tail_uncertain")

    def __init__(
        self, clean: bool, tail_uncertain: bool, ranges: list[Range], burnt: list[Range],
        missing: int,
    ) -> None:  # fmt: skip
        self.clean, self.tail_uncertain, self.missing = clean, tail_uncertain, missing
        self.ranges = ranges
        self.burnt = burnt


class Run:
    """Consecutive sequences of one partition and schema, as they leave the device: canonical rows
    with their arrivals, or the column ``block`` that they are stored as."""

    __slots__ = (
        "arrivals", "block", "count", "digest", "first", "partition", "payload",
        "schema_fingerprint",
    )  # fmt: skip

    def __init__(
        self, partition: int, first: int, count: int, schema_fingerprint: bytes, digest: bytes,
        payload: bytes, arrivals: list[Arrival], block: bytes = b"",
    ) -> None:  # fmt: skip
        self.block = block
        self.partition = partition
        self.first = first
        self.count = count
        self.schema_fingerprint = schema_fingerprint
        self.digest = digest
        self.payload = payload
        self.arrivals = arrivals


def table_facts(
    store_id: bytes, schemas: Iterable[Schema]
) -> tuple[list[tuple[str, str]], dict[str, list[tuple[str, str]]]]:
    """What the metadata of a stream's table says: of the table, and by column."""
    newest_first = sorted(schemas, key=lambda schema: -schema.version)
    newest = newest_first[0]
    facts = {
        "edgecore.store": store_id.hex(), "edgecore.stream": newest.stream,
        "edgecore.schema": newest.canonical_bytes.hex(),
    }  # fmt: skip
    units: dict[str, str] = {}
    bounds: dict[str, float] = {}
    for field in (field for schema in newest_first for field in schema.fields):
        units.setdefault(field.name, field.unit)
        bounds[field.name] = max(bounds.get(field.name, 0.0), field.max_error)
    columns = {}
    for name, unit in units.items():
        said = [("unit", unit)] if unit else []
        said += [("max_error", repr(bounds[name]))] if bounds[name] else []
        columns[f"values.{name}" if name in IDENTITY else name] = said
    return list(facts.items()), columns


class Scanned:
    """Consecutive rows of one partition from one commit. Decoded when first asked for."""

    __slots__ = ("_core", "schema")

    def __init__(self, core: _log.Scanned, schema: Schema | None) -> None:
        self._core = core
        self.schema = schema

    @property
    def partition(self) -> int:
        return self._core.partition

    @property
    def stream(self) -> str:
        return self.schema.stream if self.schema else ""

    @property
    def first(self) -> int:
        """Sequence of the first row."""
        return self._core.first

    @property
    def count(self) -> int:
        return self._core.count

    @property
    def position(self) -> int:
        """Position of the first row; the others follow."""
        return self._core.position

    @property
    def hlc(self) -> int:
        return self._core.hlc

    @property
    def clock_trust(self) -> int:
        return self._core.clock_trust

    @property
    def epoch(self) -> int:
        return self._core.epoch

    @property
    def batch(self) -> _rows.Batch:
        """The rows in the form that features and pipeline take. Raises ``Incompatible`` when the
        schema is not readable here."""
        return self._core.batch

    @property
    def payload(self) -> bytes:
        """The canonical rows (docs/formats/canonical-rows.md)."""
        return self._core.payload

    def rows(self, *, exact: bool = False) -> list[dict[str, Any]]:
        """Dicts of ``time`` (ns), ``source``, ``source_seq`` and the fields; null is None.
        Decimals are the nearest floats, or their exact text with ``exact``."""
        return self._core.batch.rows(exact)

    def column(self, name: str) -> Column:
        """One column: ``array('d')`` of floats and decimals (null is NaN), ``array('q' | 'Q')``
        of integers without nulls, else a list."""
        return self._core.column(name)

    def columns(self, *names: str) -> dict[str, Column]:
        return {name: self.column(name) for name in names}

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """A record batch, with the columns of :meth:`Log.arrow`."""
        facts = table_facts(b"", [self.schema])[1] if self.schema else {}
        return self._core.arrow(facts).__arrow_c_array__()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows())

    def __len__(self) -> int:
        return self._core.count


class Encryption:
    """How a log is encrypted. ``cipher``: the name of the one for new rows, ``""`` for none;
    ``storage``: where the device key lives and what that protects; ``""`` when no cipher
    was given. ``segments``, ``encrypted``: how many there are, and are encrypted. ``keys``,
    ``destroyed``: of those, how many can be unwrapped, and how many never again."""

    __slots__ = ("cipher", "destroyed", "encrypted", "keys", "segments", "storage")

    def __init__(
        self, cipher: Any, segments: list[tuple[int, int, int]],
        keys: list[tuple[int, int, bool, int, int, int]],
    ) -> None:  # fmt: skip
        self.cipher: str = cipher.name if cipher is not None else ""
        self.storage: str = cipher.storage if cipher is not None else ""
        self.segments = len(segments)
        self.encrypted = sum(number != 0 for _, number, _ in segments)
        self.destroyed = sum(key[2] for key in keys)
        self.keys = len(keys) - self.destroyed

    def facts(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


__all__ = ["GROUP", "LEVELS", "Recovery", "Run", "Scanned", "Encryption", "parse_durability"]
