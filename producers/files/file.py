"""A file that is ready to be read, and its rows as chunks of changes and rejected rows, one transaction each."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, NamedTuple

from consent.change import ConsentChange
from consent.errors import UnreadableFile
from consent.imports import REFUSED, Checkpoint, RejectedRow
from consent.row import WARNINGS
from producers.feeds.mapping import RowMapping
from producers.files.cells import FileRow, RowShape
from producers.files.inspect import Inspection
from producers.files.lines import LONGEST_LINE, PushBackLines
from producers.files.ndjson import NdjsonReader
from producers.files.rows import CsvReader, RowReader
from producers.files.sheet.rows import SheetReader
from producers.options import CHUNK_ROWS, IngestOptions
from producers.parsing.columns import FALLBACK_TIME, FREE_TEXT, MAPPING, Header
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import ParseContext, RowCache

Format = Literal["csv", "ndjson", "sheet"]


class Columns(NamedTuple):
    """The names of a file's columns, and how its rows are found.

    `header_lines` are the physical lines up to and with its header. `delimiter` is its rejects file's, too.
    """

    format: Format
    names: list[str]
    header_lines: int
    delimiter: str


@dataclass(frozen=True)
class PreparedFile:
    """A file of which changes can be made.

    `undated` says that neither the options nor a column tell since when its rows hold: so they hold since the file's
    own time. `mapping` is that of its feed, if it needs one, and `last_line` the line of its last row.
    `manifest_rows` is how many rows its manifest promises, if it has one, and `zoneless` says that times without a zone
    are among the first.
    """

    inspection: Inspection
    options: IngestOptions
    columns: Columns
    header: Header
    context: ParseContext
    undated: bool = False
    mapping: RowMapping | None = None
    last_line: int = sys.maxsize
    manifest_rows: int | None = None
    zoneless: bool = False

    @property
    def name(self) -> str:
        """The name that people know it by."""
        return self.inspection.file.name

    @property
    def notes(self) -> list[str]:
        """What a person should know about how the file is read."""
        encoding = self.inspection.encoding.note
        feed = f"it is read as the feed {self.options.feed}" if self.options.feed else None
        zone = f"times are read in {self.context.zone}; --timezone or the feed's timezone says it otherwise"
        zoneless = zone if self.zoneless else None
        sheet = self.inspection.sheet.note if self.inspection.sheet and not self.options.sheet else None
        unseen = self.inspection.sheet.unseen_note if self.inspection.sheet else None
        return [*filter(None, (encoding, sheet, unseen, feed, zoneless)), *self.header.notes]

    @property
    def row_header(self) -> Header:
        """The header of its rows as they are parsed: behind the mapping, if it has one."""
        mapping = self.mapping
        return self.header if mapping is None else Header(mapping.names, tuple(enumerate(mapping.columns)))

    @property
    def mapping_column(self) -> str:
        """The name of the column in which its rejects file carries the mapping; "" if its rows need none."""
        if not any(self.options.as_feed().stated()):
            return ""
        found = {theirs: ours for ours, theirs in self.header.ours.items() if ours != FALLBACK_TIME}
        carried = self.options.as_feed().model_copy(update={"columns": found}).stated()
        return f"{MAPPING} {json.dumps(carried, ensure_ascii=False, sort_keys=True)}"

    def held_since(self, cells: Sequence[str], default: str) -> str:
        """Return since when a rejected row holds if it is imported again without a time, "" if it must bring one.

        The file's own time is no answer for what may be an opt-in.
        """
        if self.mapping is not None and self.mapping.may_opt_in(cells):
            default = ""
        return self.header.held_since(cells, default)

    def error_of_joined_files(self, cells: Sequence[str]) -> RowError | None:
        """Return what is wrong with a row that holds the header again, because files were joined; None for others."""
        names, row = _bare(self.header.names), _bare(cells)
        if row == names:
            return _HEADER_AGAIN
        if (
            len(row) == 2 * len(names) - 1
            and row[-len(names) + 1 :] == names[1:]
            and row[-len(names)].endswith(names[0])
        ):
            return _JOINED_WITHOUT_END
        return None

    @contextmanager
    def open(self) -> Iterator[RowReader]:
        """Open the file behind its header; raise UnstableFile if it is not the inspected one any more."""
        columns = self.header.columns
        used = {index for index, _ in columns} | (self.mapping.used if self.mapping else set())
        shape = RowShape(
            names=self.header.names,
            used=tuple(sorted(used)),
            one_line=tuple(index for index, column in columns if column not in FREE_TEXT),
            mixed=self.inspection.encoding.mixed,
        )
        with self.inspection.open() as text:
            lines = PushBackLines(text, self.columns.header_lines)
            if (sheet := self.inspection.sheet) is not None:
                yield SheetReader(lines, sheet, shape)
            elif self.columns.format == "ndjson":
                yield NdjsonReader(lines, shape)
            else:
                yield CsvReader(lines, self.columns.delimiter, shape, escaped=bool(self.header.own))

    def times(self) -> Iterator[str]:
        """Give the cells of effective_at, of all rows that can be read; none if the file has no such column."""
        places = [index for index, column in self.header.columns if column == "effective_at"]
        return (cells[places[0]] for cells in self.rows()) if places else iter(())

    def lacks_zone(self) -> bool:
        """Whether times are read in a zone that they do not name: by their format, else by the first of them."""
        if self.options.time_format:
            return self.mapping is not None and self.mapping.zoneless
        first = islice(self.times(), _FIRST_TIMES)
        return any(cell and not _NAMES_ZONE.search(cell, len("2026-11-20")) for cell in first)

    def rows(self) -> Iterator[list[str]]:
        """Give the cells of all rows that can be read."""
        with self.open() as reader:
            while rows := reader.some():
                yield from (row.cells for row in rows if row.error is None and row.line <= self.last_line)


_FIRST_TIMES = 100
_NAMES_ZONE = re.compile(r"[Zz]$|[+-]\d\d(?::?\d\d)?$")


def _bare(cells: Sequence[str]) -> list[str]:
    return [cell.replace("\ufeff", "").strip() for cell in cells]


_HEADER_AGAIN = RowError(
    "repeated_header",
    "this line is the header again, because several files were joined: remove it, or import the files one by one",
)
_JOINED_WITHOUT_END = RowError(
    "repeated_header",
    "the header of another file follows this row, because files were joined without a line break between them: put the "
    "row into a line of its own, or import the files one by one",
)


MOST_CHANGES = 20_000
"""Changes of one chunk, and those of one row more: a row that names the members of a list may be several hundred."""


@dataclass(slots=True)
class Chunk:
    """Some rows that follow each other: the changes, the rejected rows with their cells, and the place behind them.

    `cells` runs beside `rejects`, and `rows` holds all rows as they were read. `warnings` counts rows whose target may
    be a slip, `skipped` those that a feed leaves out. The part of the checkpoint that concerns the rejects file is
    filled in when that has been written.
    """

    changes: list[ConsentChange] = field(default_factory=list)
    rejects: list[RejectedRow] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    rows: list[FileRow] = field(default_factory=list)
    warnings: Counter[str] = field(default_factory=Counter)
    skipped: int = 0

    def reject(self, members: Collection[int]) -> None:
        """Make rejected rows of those that hold the changes at these places: the ledger cannot keep them."""
        lines = {self.changes[place].line for place in members}
        kept = [change for change in self.changes if change.line not in lines]
        code, message = REFUSED
        found = [row for row in self.rows if row.line in lines]
        count = self.checkpoint.changes - (len(self.changes) - len(kept)) + len(found)
        self.changes, self.checkpoint = kept, replace(self.checkpoint, changes=count)
        self.rejects.extend(RejectedRow(row.line, None, code, message) for row in found)
        self.cells.extend(row.cells for row in found)


def read_chunks(
    file: PreparedFile, start: Checkpoint | None = None, chunk_rows: int = CHUNK_ROWS, since: int | None = None
) -> Iterator[Chunk]:
    """Read a file from a checkpoint on, `chunk_rows` rows at a time, fewer where rows are very long.

    Rows without a time hold since `since` (microseconds), or else since the file's own time. While a chunk is recorded,
    which is mostly waiting for the database, a thread reads the next one.

    Every row that is not blank is in exactly one chunk, either as changes (one for each slot that it names) or as a
    rejected row. Before each chunk and after the last the file is compared with the inspected one: raises UnstableFile
    once it differs, and UnreadableFile if it turns out damaged.
    """
    place, parser = start or Checkpoint(), _RowParser(file, since)
    done, count, skipped = place.records, place.changes, place.skipped
    try:
        with file.open() as reader, ThreadPoolExecutor(1, "reading") as ahead:
            reader.skip(done)
            chunk = _next_chunk(file, reader, parser, chunk_rows)
            while chunk.rows:
                file.inspection.confirm()
                done, skipped = done + len(chunk.rows), skipped + chunk.skipped
                # Counted in the chunk's checkpoint, since rows may become rejected while the chunk is recorded.
                count += len(chunk.changes) + len(chunk.rejects)
                chunk.checkpoint = Checkpoint(done, reader.line, changes=count, skipped=skipped)
                following = ahead.submit(_next_chunk, file, reader, parser, chunk_rows)
                yield chunk
                count = chunk.checkpoint.changes
                chunk = following.result()
    except UnreadableFile:
        file.inspection.confirm()
        raise
    file.inspection.confirm()


def warning_notes(warnings: Mapping[str, int]) -> list[str]:
    """Return what to say of rows whose target may be a slip, given how many there are of each kind."""
    return [f"{WARNINGS[kind]}: {count:,}; they are delivered all the same" for kind, count in sorted(warnings.items())]


def _next_chunk(file: PreparedFile, reader: RowReader, parser: _RowParser, chunk_rows: int) -> Chunk:
    chunk = Chunk()
    enough = reader.lines.chars + LONGEST_LINE
    while (left := chunk_rows - len(chunk.rows)) > 0 and reader.lines.chars <= enough:
        rows = reader.some(left)
        taken = _add(rows, file, parser, chunk)
        chunk.rows += rows[:taken]
        if taken < len(rows):
            reader.give_back(rows[taken:])
        if not rows or len(chunk.changes) >= MOST_CHANGES:
            break
    return chunk


def _add(rows: list[FileRow], file: PreparedFile, parser: _RowParser, chunk: Chunk) -> int:
    """Parse rows into a chunk until it is full; return how many rows were taken."""
    changes, parse, last_line, may_warn = chunk.changes, parser.parse, file.last_line, parser.may_warn
    for number, (line, cells, error) in enumerate(rows, 1):
        result = (error or parse(cells, line)) if line <= last_line else None
        if result is None:
            chunk.skipped += 1
            continue
        if isinstance(result, RowError):
            code, message, column = file.error_of_joined_files(cells) or result
            chunk.rejects.append(RejectedRow(line, column, code, message))
            chunk.cells.append(cells)
            continue
        changes.extend(result)
        if may_warn and (warning := parser.warning(result[0])):
            chunk.warnings[warning] += 1
        if len(changes) >= MOST_CHANGES:
            return number
    return len(rows)


class _RowParser:
    """Parses the rows of a file, by way of its feed's mapping if it has one."""

    def __init__(self, file: PreparedFile, since: int | None) -> None:
        context = file.context if since is None else replace(file.context, effective_at=since)
        self._cache = RowCache(context, file.row_header)
        self._mapping = file.mapping
        self.may_warn, self.warning = self._cache.may_warn, self._cache.warning
        self.parse: Callable[[list[str], int], tuple[ConsentChange, ...] | RowError | None] = (
            self._cache.parse if self._mapping is None else self._parse_mapped
        )

    def _parse_mapped(self, cells: list[str], line: int) -> tuple[ConsentChange, ...] | RowError | None:
        mapped = self._mapping.row(cells) if self._mapping is not None else cells
        return mapped if mapped is None or isinstance(mapped, RowError) else self._cache.parse(mapped, line)
