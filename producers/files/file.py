"""A file that is ready to be read: inspected, its header read, and the place where its rows begin."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Literal, NamedTuple

from consent.errors import UnreadableFile, UnusableHeader, UnusableInput
from consent.feed import Feed
from consent.row import ConsentRow
from consent.time_formats import AUTO
from producers.feeds.choice import mapping_column, reading_its_header, with_its_feed
from producers.feeds.mapping import RowMapping, row_mapping, settled_format
from producers.files.csv.encoding import scan
from producers.files.csv.rows import CsvReader, parse_delimiter, read_first_row
from producers.files.header import Header, read_header, require_columns
from producers.files.inspect import Inspection, inspect_file, last_line
from producers.files.lines import PushBackLines, RowReader, RowShape
from producers.files.ndjson import NdjsonReader, read_names
from producers.files.sheet.rows import SheetReader, last_row
from producers.files.sources import Manifest, SourceFile
from producers.options import IngestOptions
from producers.parsing.columns import FREE_TEXT, Vocabulary, vocabulary
from producers.parsing.row_parser import ParseContext, parse_context

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
        return mapping_column(self.options, self.header.ours)

    def held_since(self, cells: Sequence[str], default: str) -> str:
        """Return since when a rejected row holds if it is imported again without a time, "" if it must bring one.

        The file's own time is no answer for what may be an opt-in.
        """
        if self.mapping is not None and self.mapping.may_opt_in(cells):
            default = ""
        return self.header.held_since(cells, default)

    @property
    def defaults(self) -> dict[str, Mapping[str, str]]:
        """What fills the columns that its rows leave empty, by connection."""
        named = self.context.candidates("connection" in self.row_header.ours)
        return {name: self.context.defaults[name] for name in named if name in self.context.defaults}

    def since(self, default: datetime | None) -> PreparedFile:
        """Return the same file with another moment for rows that have none."""
        return replace(self, context=replace(self.context, effective_at=default))

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

    def rows(self) -> Iterator[list[str]]:
        """Give the cells of all rows that can be read."""
        with self.open() as reader:
            while rows := reader.some():
                yield from (row.cells for row in rows if row.error is None and row.line <= self.last_line)


def prepare(
    file: SourceFile,
    options: IngestOptions,
    rows: Mapping[str, type[ConsentRow]],
    defaults: Mapping[str, Mapping[str, str]],
    feeds: Mapping[str, Feed] = MappingProxyType({}),
) -> PreparedFile:
    """Inspect a file, find its feed, and read its header; nothing is recorded yet.

    `rows` holds the row model of each connection, `defaults` what fills empty columns, by connection. Raises
    UnreadableFile, UnstableFile or UnusableHeader for the file, ConfigurationError for the options.
    """
    inspection, options, columns = _inspected(file, options, rows, feeds)
    if options.region:
        rows = {name: model.in_region(options.region) for name, model in rows.items()}
    known = vocabulary(rows.values(), options.maps, only_maps=options.only_maps)
    given = options.effective_at_utc
    effective_at = given or inspection.modified_at
    context = parse_context(rows, defaults, options.connection, effective_at, options.zone)
    context = replace(context, given=given, or_give=", or give --effective-at")
    columns = columns or _read_columns(inspection, options, known)
    try:
        header = read_header(columns.names, known, file.name)
        found = _with_mapping(PreparedFile(inspection, options, columns, header, context), known)
        require_columns(header, found.row_header, context, known, file.name)
    except UnusableHeader as error:
        sheet = inspection.sheet
        made = "" if options.feed or options.maps else reading_its_header(columns.names, feeds)
        raise UnusableHeader(f"{error}{sheet.instead(known.find) if sheet else ''}{made}") from None
    if effective_at is None and not header.has_time:
        clock = "has no modification time" if file.spooled else "has a modification time that cannot be right"
        raise UnreadableFile(f"{file.name} {clock}: add a column effective_at, or give --effective-at")
    undated = given is None and not header.has_time
    promised = _promised_rows(inspection, columns.header_lines)
    return replace(found, undated=undated, manifest_rows=promised, zoneless=_lacks_zone(found))


def _lacks_zone(file: PreparedFile) -> bool:
    """Whether times are read in a zone that they do not name: by their format, else by the first of them."""
    if file.options.time_format:
        return file.mapping is not None and file.mapping.zoneless
    return any(cell and not _NAMES_ZONE.search(cell, len("2026-11-20")) for cell in islice(file.times(), _FIRST_TIMES))


_FIRST_TIMES = 100
_NAMES_ZONE = re.compile(r"[Zz]$|[+-]\d\d(?::?\d\d)?$")


def _promised_rows(found: Inspection, header_lines: int) -> int | None:
    """Return how many rows the manifest beside a file promises, if it has one; raises UnreadableFile."""
    manifest = Manifest.beside(found.file)
    if manifest is None:
        return None
    manifest.check_digest(found.sha256)
    manifest.check_most(found.lines - header_lines)
    return manifest.rows


def look_at(file: SourceFile, options: IngestOptions, rows: Mapping[str, type[ConsentRow]]) -> PreparedFile:
    """Return a file of which only names and cells are known: no change can be made of it yet.

    Raises UnusableInput for the file, ConfigurationError for the options.
    """
    inspection = inspect_file(file, options.encoding, options.patience)
    columns = _read_columns(inspection, options, vocabulary(rows.values()))
    context = parse_context(rows, {}, None, None, options.zone)
    return _without_end(PreparedFile(inspection, options, columns, Header(tuple(columns.names), ()), context))


def _inspected(
    file: SourceFile, options: IngestOptions, rows: Mapping[str, type[ConsentRow]], feeds: Mapping[str, Feed]
) -> tuple[Inspection, IngestOptions, Columns | None]:
    """Inspect a file; return the options with what its feed says, and its columns if they were read as these say."""
    inspection = inspect_file(file, options.encoding, options.patience)
    read: list[tuple[IngestOptions, Columns]] = []

    def header_of(candidate: IngestOptions) -> list[str]:
        seen = inspection
        if candidate.encoding and candidate.encoding != options.encoding and inspection.sheet is None:
            seen = replace(inspection, encoding=scan(candidate.encoding).encoding)
        try:
            columns = _read_columns(
                seen, candidate, vocabulary(rows.values(), candidate.maps, only_maps=candidate.only_maps)
            )
        except UnusableInput:
            return []
        read.append((candidate, columns))
        return columns.names

    found = with_its_feed(file.name, options, feeds, header_of)
    if found.encoding != options.encoding:
        inspection = inspect_file(file, found.encoding, found.patience)
    return inspection, found, next((columns for candidate, columns in read if candidate is found), None)


def _with_mapping(file: PreparedFile, known: Vocabulary) -> PreparedFile:
    """Return a file with the mapping of its feed, and with the end of its rows."""
    file, options = _without_end(file), file.options
    if options.time_format == AUTO:
        options = replace(options, time_format=settled_format(file.times(), file.name))
        file = replace(file, options=options)
    if not (options.constants or options.values or options.time_format):
        return file  # its rows stand in our columns as they are
    return replace(file, mapping=row_mapping(file.header.names, file.header.columns, options, known, file.name))


def _without_end(file: PreparedFile) -> PreparedFile:
    if not file.options.skip_end:
        return file
    with file.inspection.open() as text:
        last = last_line if file.inspection.sheet is None else last_row
        return replace(file, last_line=last(text, file.options.skip_end))


def _read_columns(inspection: Inspection, options: IngestOptions, known: Vocabulary) -> Columns:
    """Find out by its content how a file names its columns: in a header, or in each record."""
    name = inspection.file.name
    delimiter = parse_delimiter(options.delimiter) if options.delimiter else None
    with inspection.open() as text:
        if inspection.sheet is not None:
            lines = PushBackLines(text)
            names = SheetReader(lines, inspection.sheet).first(options.skip_top)
            return Columns("sheet", names, lines.line, delimiter or ",")
        lines = PushBackLines(text, options.skip_top)
        if _is_ndjson(lines.peek().removeprefix("\ufeff"), name):
            names = list(_record_names(inspection, options.skip_top))
            return Columns("ndjson", names, options.skip_top, delimiter or ",")
        names, delimiter = read_first_row(lines, delimiter, known, name)
        return Columns("csv", names, lines.line, delimiter)


def _is_ndjson(first_line: str, file: str) -> bool:
    """Whether a text whose first line is this one holds JSON lines; raise UnreadableFile if it is one JSON array."""
    if _BEGINS_ARRAY.match(first_line):
        raise UnreadableFile(f"{file} is one JSON array: write one object a line, as `jq -c '.[]'` does")
    return _BEGINS_OBJECT.match(first_line) is not None


_BEGINS_OBJECT = re.compile(r'\s*\{\s*(?:["}]|$)')
_BEGINS_ARRAY = re.compile(r"\s*\[\s*(?:\{|$)")


@lru_cache(maxsize=4)
def _record_names(inspection: Inspection, skip_top: int) -> tuple[str, ...]:
    """Return the names of a file's records, which takes reading it all; the choice of a feed asks for them again."""
    with inspection.open() as text:
        return tuple(read_names(PushBackLines(text, skip_top), inspection.file.name))
