"""The CSV source: a file replayed as a stream, each row under its line number.

``source_seq`` is the line on which the record ends, so a restart resumes without a duplicate:
lines up to the last accounted one are passed over, lines after it that the log holds already are
counted and not given again. A line that does not fit the schema is refused, counted and named; the
file keeps it. The header must be the schema's: a column too many or too few stops the source.
"""

from __future__ import annotations

import csv

from edgecore.device.sources import SECOND, Counts
from edgecore.device.times import reader
from edgecore.errors import EdgecoreError, Invalid, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import TextIO

    from edgecore._core.rows import Batch
    from edgecore.device.schema_file import SchemaFile
    from edgecore.schema import Schema

LINE_CHARS_MAX = 1 << 20
BATCH_ROWS_MAX = 1_000
FOLLOW_NS = 100_000_000  # a file that is followed is looked at so often
LINES_PER_STEP_MAX = 10_000  # refused lines and lines passed over count too: a step stays short
TIME_MIN, TIME_MAX = -(1 << 63), (1 << 63) - 1
_TEXT = ("category", "utf8", "bytes")


def open_text(path: str) -> TextIO:
    """The file as text; undecodable bytes become lone surrogates, which no row accepts."""
    from pathlib import Path

    try:
        return Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}") from None


class Lines:
    """The file's lines, as an iterator. A line of more than a mebibyte is no CSV: ``Invalid``.

    With `follow` the end of the file is not the end of the lines: what stands there may grow, so
    iteration stops, a line without its end is kept back, and asking again goes on from there."""

    def __init__(self, path: str, file: TextIO, follow: bool = False) -> None:
        self._path = path
        self._file = file
        self._follow = follow
        self._partial = ""
        self._number = 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        try:
            line = self._partial + self._file.readline(LINE_CHARS_MAX)
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}") from None
        if len(line) >= LINE_CHARS_MAX:
            number = self._number + 1
            raise Invalid(f"{self._path}: line {number} is over {LINE_CHARS_MAX} characters")
        self._partial = ""
        if self._follow and not line.endswith("\n"):
            self._partial = line
            raise StopIteration
        if not line:
            raise StopIteration
        self._number += 1
        return line


def plan_columns(
    path: str, header: Sequence[str], how: SchemaFile, ignore: Collection[str]
) -> tuple[int, list[int]]:
    """Index of the time column, and of each field's. Raises ``Invalid`` naming the column."""
    if not header:
        raise Invalid(f"{path}: the file is empty")
    names = [name.strip() for name in header]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise Invalid(f"{path}: two columns are called {twice[0]!r}")
    if how.time not in names:
        raise Invalid(f"{path}: no time column {how.time!r}; it has {', '.join(names)}")
    for field in how.schema.fields:
        if how.columns[field.name] not in names:
            raise Invalid(f"{path}: no column {how.columns[field.name]!r} for the schema's field")
    known = {how.time, *how.columns.values(), *ignore}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Invalid(
            f"{path}: column {unknown[0]!r} is not in the schema; add it, or name it in ignore"
        )
    return names.index(how.time), [names.index(how.columns[f.name]) for f in how.schema.fields]


class CsvSource:
    """One CSV file as a stream.

    :param how: schema, time column, columns. :param source: the rows' source id.
    :param rows_per_second: pace of the replay; 0 = as fast as the log takes them.
    :param through: last line accounted for earlier. :param held: later lines the log holds.
    :param ignore: columns that are in the file and not wanted.
    :param follow: the file grows: its end is waited at; a line counts once it is whole.
    Raises ``Unavailable`` where the file cannot be read, ``Invalid`` for its header."""

    def __init__(
        self,
        path: str,
        how: SchemaFile,
        *,
        source: str = "csv",
        rows_per_second: float = 0.0,
        through: int = 0,
        held: Collection[int] = (),
        ignore: Collection[str] = (),
        follow: bool = False,
    ) -> None:
        self.schema: Schema = how.schema
        self.counts = Counts()
        self.finished = False
        self._path = path
        self._source = source
        self._rate = rows_per_second
        self._through = self.counts.through = through
        self._held = frozenset(held)
        self._time = reader(how.time_format)
        self._file = open_text(path)
        self._reader = csv.reader(Lines(path, self._file, follow), delimiter=how.delimiter)
        try:
            header = next(self._reader, [])
            self._time_at, self._fields_at = plan_columns(path, header, how, ignore)
        except csv.Error as error:
            self._file.close()
            raise Invalid(f"{path}: line 1: {error}") from None
        except EdgecoreError:
            self._file.close()
            raise
        self._follow = follow
        self._at_end = False
        self._cells = len(header)
        self._strip = [field.dtype not in _TEXT for field in how.schema.fields]
        self._latest = TIME_MIN
        self._start_ns: int | None = None
        self._given = 0

    @property
    def line(self) -> int:
        """The line that was read last."""
        return self._reader.line_num

    def take(self, now_ns: int, batch: Batch) -> int:
        if self._start_ns is None:
            self._start_ns = now_ns
        room = BATCH_ROWS_MAX
        if self._rate > 0:
            due = 1 + (now_ns - self._start_ns) / SECOND * self._rate
            room = int(min(room, due - self._given))
        before = batch.off_grid
        try:
            self._at_end = False
            for _ in range(LINES_PER_STEP_MAX):
                if room <= 0 or self.finished or self._at_end:
                    break
                taken = self._step(batch)
                room -= taken
                self._given += taken
        except EdgecoreError:  # the file itself: what was read before stands
            self.close()
            raise
        finally:
            self.counts.off_grid += batch.off_grid - before
        if self._at_end:
            return now_ns + FOLLOW_NS
        if self._rate <= 0:
            return now_ns
        return self._start_ns + int(self._given * SECOND / self._rate)

    def _step(self, batch: Batch) -> int:
        """One record. 1 if it counts against the pace: given or refused, not passed over."""
        try:
            cells = next(self._reader)
        except StopIteration:
            self._at_end = True
            if not self._follow:
                self.close()
            return 0
        except csv.Error as error:
            return self._account(f"line {self.line}: {error}")
        if not cells:
            return 0
        if len(cells) != self._cells:
            return self._account(
                f"line {self.line}: {len(cells)} cells, the header has {self._cells}"
            )
        try:
            time = self._time(cells[self._time_at].strip())
        except (ValueError, OverflowError):
            shown = cells[self._time_at][:40]
            return self._account(f"line {self.line}: {shown!a} is no time of the format")
        if not TIME_MIN <= time <= TIME_MAX:
            return self._account(f"line {self.line}: the time is outside 1678 to 2262")
        return self._row(cells, time, batch)

    def _row(self, cells: list[str], time: int, batch: Batch) -> int:
        late = time < self._latest
        self._latest = max(self._latest, time)
        if self.line <= self._through:
            return 0
        if self.line not in self._held:
            texts = [
                (cells[at].strip() if strip else cells[at]) or None
                for at, strip in zip(self._fields_at, self._strip, strict=True)
            ]
            try:
                batch.append_text(texts, time, self._source, self.line)
            except Invalid as error:
                return self._account(f"line {self.line}: {error}")
        self.counts.late += late
        self.counts.accepted += 1
        self.counts.through = self.line
        return self.line not in self._held

    def _account(self, reason: str) -> int:
        """Counts a refused line, unless it was counted before the restart."""
        if self.line <= self._through:
            return 0
        self.counts.refuse(reason)
        self.counts.through = self.line
        return 1

    def close(self) -> None:
        self.finished = True
        self._file.close()


__all__ = ["BATCH_ROWS_MAX", "CsvSource", "Lines", "open_text", "plan_columns"]
