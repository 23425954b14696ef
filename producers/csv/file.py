"""A CSV file made ready: surveyed, its header understood, its rows one by one."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TextIO

from consent.errors import ConfigurationError, UnreadableFile, UnusableHeader
from consent.row import ConsentRow
from producers.csv.csv_injection import unescape
from producers.csv.encoding import likeliest_delimiter, named_delimiter, told_delimiter
from producers.csv.header import Header, demand, read_header, refuse_misspelt_time
from producers.csv.inspect import Inspection, inspect_file, reading
from producers.csv.lines import LineTooLong, PushBackLines
from producers.csv.rows import TOGETHER, CsvReader, CsvRow, Shape
from producers.csv.sources import SourceFile
from producers.options import IngestOptions
from producers.parsing.columns import FREE_TEXT, OWN, Vocabulary, vocabulary
from producers.parsing.row_parser import ParseContext, parse_context


@dataclass(frozen=True)
class CsvFile:
    """A CSV file of which changes can be made."""

    inspection: Inspection
    delimiter: str
    header: Header
    context: ParseContext
    undated: bool = False
    """No one says since when its rows hold: so they hold since the file's own time."""

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

    def since(self, default: datetime | None) -> CsvFile:
        """Return the same file with another moment for rows that have none."""
        return replace(self, context=replace(self.context, effective_at=default))

    @contextmanager
    def open(self) -> Iterator[CsvReader]:
        """Open the file behind its header."""
        with self.inspection.open() as text:
            with reading(self.inspection.file):
                reader = CsvReader(_begin(text)[0], self.delimiter)
                reader.first()
            yield reader

    @cached_property
    def shape(self) -> Shape:
        """What a row must look like."""
        used = tuple(index for index, _ in self.header.columns)
        one_line = tuple(index for index, column in self.header.columns if column not in FREE_TEXT)
        return Shape(self.header.names, used, one_line)

    def some_rows(self, reader: CsvReader, most: int) -> list[CsvRow]:
        """Read some of the next rows, at most `most`, [] at the end; raise UnreadableFile if the file is damaged."""
        with reading(self.inspection.file):
            rows = reader.some(self.shape, min(most, TOGETHER))
        return list(map(_rearmed, rows)) if self.header.own else rows


def _rearmed(row: CsvRow) -> CsvRow:
    """Return a row of a file that we wrote as it was before it was disarmed."""
    return row._replace(cells=[unescape(cell) for cell in row.cells])


def prepare(
    file: SourceFile | Inspection,
    options: IngestOptions,
    rows: Mapping[str, type[ConsentRow]],
    defaults: Mapping[str, Mapping[str, str]],
) -> CsvFile:
    """Look over a file and understand its header; nothing is recorded yet.

    `rows` holds the row model of each connection, `defaults` what fills empty columns, by connection. Raises
    UnreadableFile, UnstableFile or UnusableHeader for the file, ConfigurationError for the options.
    """
    known = vocabulary(rows.values(), options.maps)
    found = file if isinstance(file, Inspection) else inspect_file(file, options.encoding, options.patience)
    told = options.told_at or (None if found.file.spooled else found.stamp.modified_at)
    context = parse_context(rows, defaults, options.connection, told, options.zone)
    context = replace(context, told=options.told_at, or_tell=", or give --effective-at")
    delimiter, names = _header(found, options.delimiter, known)
    if any(known.find(name) in OWN for name in names):
        names = [unescape(name) for name in names]  # as the names were before we disarmed them
    header = read_header(names, known, found.file.name)
    demand(header, context, known, found.file.name)
    if options.told_at is None:
        refuse_misspelt_time(header, known, found.file.name)
    if told is None and not header.tells_time:
        clock = "has no modification time" if found.file.spooled else "was last written at a time that cannot be so"
        raise ConfigurationError(f"{found.file.name} {clock}: add a column effective_at, or give --effective-at")
    return CsvFile(found, delimiter, header, context, undated=options.told_at is None and not header.tells_time)


def _header(found: Inspection, wanted: str | None, known: Vocabulary) -> tuple[str, list[str]]:
    delimiter = named_delimiter(wanted) if wanted else None
    try:
        with found.open() as text, reading(found.file):
            lines, told = _begin(text)
            delimiter = delimiter or told or likeliest_delimiter(lines.peek(), known)
            names = CsvReader(lines, delimiter).first()
    except (csv.Error, LineTooLong):
        raise UnusableHeader(
            f"{found.file.name}: its first line is no header: a quote is broken or it has no end"
        ) from None
    if not names:
        raise UnreadableFile(f"{found.file.name} is empty: there is not even a header")
    return delimiter, [name.removeprefix("\ufeff") for name in names]


def _begin(text: TextIO) -> tuple[PushBackLines, str | None]:
    lines = PushBackLines(text)
    if (told := told_delimiter(lines.peek())) is not None:
        lines.skip()
    return lines, told
