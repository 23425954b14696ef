"""A file that is ready to be read: inspected, its header read, and the place where its rows begin."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple

from consent.errors import UnreadableFile, UnusableHeader
from consent.row import ConsentRow
from producers.files.csv.csv_injection import unescape
from producers.files.csv.encoding import guess_delimiter, parse_delimiter, sep_line_delimiter
from producers.files.csv.rows import CsvReader
from producers.files.header import Header, read_header, refuse_misspelt_time, require_columns
from producers.files.inspect import Inspection, inspect_file, reading
from producers.files.lines import LineTooLong, PushBackLines
from producers.files.ndjson import NdjsonReader, is_ndjson, read_names
from producers.files.row_reader import RowReader, RowShape
from producers.files.sources import SourceFile
from producers.options import IngestOptions
from producers.parsing.columns import FREE_TEXT, OWN, Vocabulary, vocabulary
from producers.parsing.row_parser import ParseContext, parse_context

Format = Literal["csv", "ndjson"]


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
    own time.
    """

    inspection: Inspection
    options: IngestOptions
    columns: Columns
    header: Header
    context: ParseContext
    undated: bool = False

    @property
    def name(self) -> str:
        """The name that people know it by."""
        return self.inspection.file.name

    @property
    def notes(self) -> list[str]:
        """What a person should know about how the file is read."""
        encoding = self.inspection.encoding.note
        return [*([encoding] if encoding else []), *self.header.notes]

    @property
    def defaults(self) -> dict[str, Mapping[str, str]]:
        """What fills the columns that its rows leave empty, by connection."""
        named = self.context.candidates("connection" in self.header.ours)
        return {name: self.context.defaults[name] for name in named if name in self.context.defaults}

    def since(self, default: datetime | None) -> PreparedFile:
        """Return the same file with another moment for rows that have none."""
        return replace(self, context=replace(self.context, effective_at=default))

    @contextmanager
    def open(self) -> Iterator[RowReader]:
        """Open the file behind its header; raise UnstableFile if it is not the inspected one any more."""
        columns = self.header.columns
        shape = RowShape(
            names=self.header.names,
            used=tuple(index for index, _ in columns),
            one_line=tuple(index for index, column in columns if column not in FREE_TEXT),
        )
        with self.inspection.open() as text:
            lines = PushBackLines(text)
            with reading(self.inspection.file):
                lines.skip(self.columns.header_lines)
            if self.columns.format == "ndjson":
                yield NdjsonReader(lines, shape)
            else:
                yield CsvReader(lines, self.columns.delimiter, shape, escaped=bool(self.header.own))


def prepare(
    file: SourceFile,
    options: IngestOptions,
    rows: Mapping[str, type[ConsentRow]],
    defaults: Mapping[str, Mapping[str, str]],
) -> PreparedFile:
    """Inspect a file and read its header; nothing is recorded yet.

    `rows` holds the row model of each connection, `defaults` what fills empty columns, by connection. Raises
    UnreadableFile, UnstableFile or UnusableHeader for the file, ConfigurationError for the options.
    """
    known = vocabulary(rows.values(), options.maps)
    inspection = inspect_file(file, options.encoding, options.patience)
    given = options.effective_at_utc
    effective_at = given or inspection.modified_at
    context = parse_context(rows, defaults, options.connection, effective_at, options.zone)
    context = replace(context, given=given, or_give=", or give --effective-at")
    columns = _read_columns(inspection, options.delimiter, known)
    names = columns.names
    if any(known.find(name) in OWN for name in names):
        names = [unescape(name) for name in names]  # a rejects file of ours
    header = read_header(names, known, file.name)
    require_columns(header, context, known, file.name)
    if given is None:
        refuse_misspelt_time(header, known, file.name)
    if effective_at is None and not header.has_time:
        clock = "has no modification time" if file.spooled else "has a modification time that cannot be right"
        raise UnreadableFile(f"{file.name} {clock}: add a column effective_at, or give --effective-at")
    return PreparedFile(inspection, options, columns, header, context, undated=given is None and not header.has_time)


def _read_columns(inspection: Inspection, wanted: str | None, known: Vocabulary) -> Columns:
    """Find out by its content how a file names its columns: in a header, or in each record."""
    name = inspection.file.name
    delimiter = parse_delimiter(wanted) if wanted else None
    with inspection.open() as text, reading(inspection.file):
        lines = PushBackLines(text)
        if is_ndjson(lines.peek().removeprefix("\ufeff"), name):
            return Columns("ndjson", read_names(lines, name), 0, delimiter or ",")
        return _first_row(lines, delimiter, known, name)


def _first_row(lines: PushBackLines, delimiter: str | None, known: Vocabulary, file: str) -> Columns:
    """Read the first row that is not blank as a header."""
    try:
        if (in_sep_line := sep_line_delimiter(lines.peek())) is not None:
            lines.skip_peeked()
        delimiter = delimiter or in_sep_line or guess_delimiter(lines.peek(), known)
        names = CsvReader(lines, delimiter).first()
    except (csv.Error, LineTooLong):
        raise UnusableHeader(
            f"{file}, line {lines.line + 1}: this is no header: close its quotes, and end it with a line break"
        ) from None
    if not names:
        raise UnreadableFile(f"{file} is empty: export it again, with a header")
    return Columns("csv", [cell.removeprefix("\ufeff") for cell in names], lines.line, delimiter)
