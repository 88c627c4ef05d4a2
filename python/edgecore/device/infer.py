"""`edgecore schema infer`: what a CSV file seems to hold, proposed once for a person to complete.

Numbers are proposed on decimal grids: the fewest digits after the point that keep every value as
it was meant. A value of 15 or more digits that lies within a few units in the last place of a
shorter one is taken as the shorter (74.93588199999998 is 74.935882 after a sum in doubles); every
value that the grid would change is counted and the largest change is stated. Units are never
guessed. What could be read in two ways is refused in one line that says how to decide it.
"""

from __future__ import annotations

import csv
import math
from decimal import Decimal

from edgecore.device.csv_source import Lines, open_text
from edgecore.device.schema_file import DELIMITERS, SchemaFile, quoted
from edgecore.device.times import UNIX_NS, reader, written_formats
from edgecore.errors import Invalid
from edgecore.limits import NAME_BYTES_MAX
from edgecore.schema import RESERVED_KEYS, Field, Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNIFICANT_MAX = 15  # every decimal of so many digits is one double, and back
CATEGORIES_MAX = 256
NOISE_ULPS = 8
RATIO_SEEN = 1000  # the greatest is so many times the least: worth a word about ratio scales
_TIME_NAMES = {"time", "timestamp", "ts", "date", "datetime", "epoch", "unix", "unix_time"}
_UNIX_MIN_S, _UNIX_MAX_S = 631_152_000, 4_102_444_800  # 1990 to 2100


def grid_digits(text: str) -> int | None:
    """Digits after the point that keep the number `text`; None when it is no finite number."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value) or "_" in text:
        return None
    exact = Decimal(text)
    exponent = exact.as_tuple().exponent
    written = max(0, -exponent) if isinstance(exponent, int) else 0
    if len(exact.as_tuple().digits) >= SIGNIFICANT_MAX:
        for digits in range(written):
            if abs(round(value, digits) - value) <= NOISE_ULPS * math.ulp(value):
                return digits
    return written


class Column:
    """What was seen in one column."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.filled = self.numbers = self.digits = 0
        self.largest = Decimal(0)
        self.pointed = False
        self.odd: tuple[int, str] | None = None  # the first cell that is no number
        self.distinct: set[str] = set()
        self.formats: dict[str, Callable[[str], int]] = {
            name: reader(name) for name in written_formats()
        }

    def see(self, line: int, text: str) -> None:
        if not text:
            return
        self.filled += 1
        if len(self.distinct) <= CATEGORIES_MAX:
            self.distinct.add(text)
        digits = grid_digits(text)
        if digits is None:
            self.odd = self.odd or (line, text)
        else:
            self.numbers += 1
            self.digits = max(self.digits, digits)
            self.pointed = self.pointed or "." in text or "e" in text.lower()
            self.largest = max(self.largest, abs(Decimal(text)))
        for name in list(self.formats):
            try:
                self.formats[name](text)
            except (ValueError, OverflowError):
                del self.formats[name]

    @property
    def is_date(self) -> bool:
        return bool(self.filled and self.formats)

    def unix_format(self) -> str | None:
        """The epoch unit that puts every value between 1990 and 2100, by the largest."""
        if self.numbers != self.filled or not self.filled or self.name.lower() not in _TIME_NAMES:
            return None
        for name, unit in UNIX_NS.items():
            if _UNIX_MIN_S <= self.largest * unit / 1_000_000_000 <= _UNIX_MAX_S:
                return name
        return None

    def dtype(self) -> str:
        if self.numbers == self.filled and self.filled:
            if not self.pointed and self.largest < 10**SIGNIFICANT_MAX:
                return "i64"
            whole = len(str(int(self.largest))) if self.largest >= 1 else 0
            return f"decimal({max(0, min(self.digits, SIGNIFICANT_MAX - whole))})"
        line, text = self.odd or (0, "")
        pointed = (grid_digits(cell.replace(",", ".")) for cell in self.distinct)
        if self.filled and all(digits is not None for digits in pointed):
            raise Invalid(
                f"column {self.name!r}: decimal commas (line {line}: {text[:40]!a}); write "
                f"points, or keep it as text with --as {self.name}=utf8"
            )
        if self.numbers:
            raise Invalid(
                f"column {self.name!r}: {self.filled - self.numbers} of {self.filled} cells are no "
                f"numbers (line {line}: {text[:40]!a}); say which with --as {self.name}=DTYPE"
            )
        if self.distinct and self.distinct <= {"true", "false"}:
            return "bool"
        few = len(self.distinct) <= CATEGORIES_MAX and 2 * len(self.distinct) <= self.filled
        return "category" if few else "utf8"

    def range(self, dtype: str) -> tuple[float, float] | None:
        """At least a hundred times the largest value seen, both ways: generous, but a bound."""
        if dtype != "i64" and not dtype.startswith("decimal"):
            return None
        digits = len(str(int(self.largest))) if self.largest >= 1 else 0
        bound = float(10 ** min(digits + 2, SIGNIFICANT_MAX))
        return -bound, bound


class Proposal:
    """A schema file, and what a person should know of it: one line per column and for the time."""

    def __init__(self, how: SchemaFile, path: str, rows: int) -> None:
        self.how = how
        self.path = path
        self.rows = rows
        self.interval_ns = 0
        self.backwards = 0
        self.notes: dict[str, str] = {}

    def toml(self) -> str:
        """The schema file, commented."""
        how, schema = self.how, self.how.schema
        lines = [
            f"# Proposed from {self.path}, {self.rows} rows. Fill in units; narrow the ranges",
            "# you know: a value outside its range is refused and counted, never clipped.",
            f"stream = {quoted(schema.stream)}",
            f"tier = {quoted(schema.tier)}",
            f"version = {schema.version}",
            "",
            "[csv]",
            f"# {self.notes['']}",
            f"time = {quoted(how.time)}",
            f"time_format = {quoted(how.time_format)}",
            f"delimiter = {quoted(how.delimiter)}",
        ]
        for field in schema.fields:
            lines += ["", "[[field]]"]
            note = self.notes.get(field.name)
            lines += [f"# {note}"] if note else []
            lines.append(f"name = {quoted(field.name)}")
            if how.columns[field.name] != field.name:
                lines.append(f"column = {quoted(how.columns[field.name])}")
            lines.append(f"dtype = {quoted(field.dtype_text)}")
            if field.dtype not in ("category", "utf8", "bytes", "bool"):
                lines.append(f"unit = {quoted(field.unit)}  # unknown")
            if field.range:
                lines.append(f"range = [{field.range[0]!r}, {field.range[1]!r}]")
        return "\n".join(lines) + "\n"


def find_delimiter(path: str) -> str:
    """The one mark that cuts header and first rows into the same number (> 1) of cells."""
    with open_text(path) as file:
        head = [line for _, line in zip(range(20), Lines(path, file), strict=False)]
    if not head:
        raise Invalid(f"{path}: the file is empty")
    fitting = []
    for mark in DELIMITERS:
        rows = [row for row in csv.reader(head, delimiter=mark) if row]
        if rows and len(rows[0]) > 1 and {len(row) for row in rows} == {len(rows[0])}:
            fitting.append(mark)
    if len(fitting) != 1:
        marks = " and ".join(repr(mark) for mark in fitting) or "none of , ; tab |"
        raise Invalid(f"{path}: {marks} cut its first lines evenly; say which with --delimiter")
    return fitting[0]


def records(path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of the header and of every record. Raises ``Invalid`` for uneven ones."""
    width = 0
    with open_text(path) as file:
        lines = csv.reader(Lines(path, file), delimiter=delimiter)
        try:
            for cells in lines:
                if not cells:
                    continue
                width = width or len(cells)
                if len(cells) != width:
                    raise Invalid(
                        f"{path}: line {lines.line_num} has {len(cells)} cells, "
                        f"the header has {width}"
                    )
                yield lines.line_num, [cell.strip() for cell in cells]
        except csv.Error as error:
            raise Invalid(f"{path}: line {lines.line_num}: {error}") from None


def choose_time(
    path: str, columns: list[Column], time: str | None, time_format: str | None
) -> tuple[Column, str]:
    """The time column and its format. Refuses none, more than one, and dates of two readings."""
    if time is not None:
        found = [column for column in columns if column.name == time]
    else:
        found = [column for column in columns if column.is_date]
        found = found or [column for column in columns if column.unix_format()]
    if len(found) != 1:
        names = ", ".join(column.name for column in found or columns)
        what = "several time columns" if found else "no time column"
        raise Invalid(f"{path}: {what} among {names}; say which with --time")
    column = found[0]
    if time_format is not None:
        reader(time_format)
        return column, time_format
    if len(column.formats) > 1:
        both = " and ".join(list(column.formats)[:2])
        raise Invalid(f"{path}: {column.name} reads as {both}; say which with --time-format")
    unix = column.unix_format()
    if not column.formats and unix is None:
        raise Invalid(f"{path}: {column.name} is in no time format known; give --time-format")
    return column, next(iter(column.formats), None) or str(unix)


def _field_names(path: str, columns: list[Column]) -> dict[str, str]:
    """Column -> field name: itself, cut to the bytes that a field name may have."""
    names: dict[str, str] = {}
    for column in columns:
        name = column.name.encode()[:NAME_BYTES_MAX].decode(errors="ignore")
        name += "_" if name in RESERVED_KEYS else ""
        if not name or name in names.values():
            raise Invalid(
                f"{path}: column {column.name!r} gives no field name of its own in "
                f"{NAME_BYTES_MAX} bytes; rename it in the header"
            )
        names[column.name] = name
    return names


def infer(
    path: str,
    stream: str,
    *,
    tier: str = "bulk",
    time: str | None = None,
    time_format: str | None = None,
    delimiter: str | None = None,
    dtypes: dict[str, str] | None = None,
) -> Proposal:
    """Reads the file twice and proposes. Raises ``Invalid`` for what could be read in two ways,
    ``Unavailable`` where it cannot be read."""
    mark = delimiter or find_delimiter(path)
    rows = records(path, mark)
    _, header = next(rows, (0, []))
    if not header:
        raise Invalid(f"{path}: the file is empty")
    if len(set(header)) != len(header) or "" in header:
        raise Invalid(f"{path}: the header has an empty or a repeated name")
    columns = [Column(name) for name in header]
    count = 0
    for line, cells in rows:
        count += 1
        for column, cell in zip(columns, cells, strict=True):
            column.see(line, cell)
    if not count:
        raise Invalid(f"{path}: it has a header and no rows")
    asked = dtypes or {}
    for name in asked:
        if name not in header:
            raise Invalid(f"{path}: --as {name}: no such column")
    clock, known_format = choose_time(path, columns, time, time_format)
    values = [column for column in columns if column is not clock]
    if not values:
        raise Invalid(f"{path}: nothing but the time column {clock.name}")
    names = _field_names(path, values)
    fields = []
    for column in values:
        dtype = asked.get(column.name) or column.dtype()
        fields.append(Field(names[column.name], dtype, range=column.range(dtype)))
    how = SchemaFile(
        Schema(stream, tier=tier, fields=fields),
        time=clock.name,
        time_format=known_format,
        delimiter=mark,
        columns={names[column.name]: column.name for column in values},
    )
    proposal = Proposal(how, path, count)
    _losses(proposal, header)
    return proposal


class _Loss:
    """What a field's type would do to the column's cells."""

    def __init__(self) -> None:
        self.changed = self.refused = self.empty = 0
        self.largest = Decimal(0)
        self.least = self.most = Decimal(0)  # of those that are not 0

    def see(self, field: Field, text: str) -> None:
        if not text:
            self.empty += 1
        elif field.dtype in ("decimal", "i64"):
            if grid_digits(text) is None:
                self.refused += 1
                return
            exact = Decimal(text)
            if exact:
                self.least = min(self.least or exact, exact)
                self.most = max(self.most, exact)
            change = abs(exact - round(exact, field.scale))
            self.changed += change != 0
            self.largest = max(self.largest, change)

    def note(self, rows: int) -> str:
        said = []
        if self.changed:
            said.append(
                f"{self.changed} of {rows} values are off this grid, "
                f"the largest change is {self.largest:.1e}"
            )
        if self.refused:
            said.append(f"{self.refused} cells are no numbers: their lines will be refused")
        if self.empty:
            said.append(f"{self.empty} cells are empty: null")
        if self.least > 0 and self.most >= self.least * RATIO_SEEN:
            said.append(
                f"from {self.least} to {self.most} and nothing below 0: if 0 is none of it, "
                "a range from 0 and ratio = true make quantiles relative"
            )
        return "; ".join(said)


def _losses(proposal: Proposal, header: list[str]) -> None:
    """The second reading: what the proposed grids would change, and how the time runs."""
    how = proposal.how
    losses = {field.name: _Loss() for field in how.schema.fields}
    at = {field.name: header.index(how.columns[field.name]) for field in how.schema.fields}
    parse, time_at = reader(how.time_format), header.index(how.time)
    latest: int | None = None
    steps: list[int] = []
    unread = 0
    rows = records(proposal.path, how.delimiter)
    next(rows)
    for _, cells in rows:
        for field in how.schema.fields:
            losses[field.name].see(field, cells[at[field.name]])
        try:
            moment = parse(cells[time_at])
        except (ValueError, OverflowError):
            unread += 1
            continue
        if latest is not None:
            steps.append(moment - latest)
            proposal.backwards += moment < latest
        latest = moment if latest is None else max(latest, moment)
    if latest is None:
        raise Invalid(f"{proposal.path}: no cell of {how.time} is a time of {how.time_format}")
    steps.sort()
    proposal.interval_ns = steps[len(steps) // 2] if steps else 0
    said = [f"median interval {proposal.interval_ns / 1e9:g} s"]
    if how.time_format not in UNIX_NS and "%z" not in how.time_format:
        said.append("times without a zone are read as UTC")
    if proposal.backwards:
        said.append(f"{proposal.backwards} rows lie before an earlier row: logged, counted late")
    if unread:
        said.append(f"{unread} times cannot be read: their lines will be refused")
    proposal.notes[""] = "; ".join(said)
    for name, loss in losses.items():
        note = loss.note(proposal.rows)
        if note:
            proposal.notes[name] = note


__all__ = ["Proposal", "find_delimiter", "grid_digits", "infer"]
