"""From lines to rows, whatever their format, and those of CSV: what separates cells, the header, and broken rows."""

from __future__ import annotations

import csv
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from consent.errors import ConfigurationError, UnreadableFile, UnusableHeader
from producers.files.cells import LONGEST_CELL, RAGGED, TOO_MANY_CELLS, FileRow, RowShape, cells_error
from producers.files.csv_injection import unescape
from producers.files.lines import LONGEST_LINE, LineTooLong, PushBackLines, SpanTooLong
from producers.parsing.columns import OWN, REJECT_COLUMNS, Vocabulary
from producers.parsing.error_messages import RowError

_DUBIOUS = re.compile(r"[\0\ud800-\udfff\ufffd]")
_LINE_BREAK = re.compile(r"[\r\n]")
_SOUND = re.compile(r'"([^"]*)"')

# The csv module has one limit for the whole process, and breaks off in mid-record when a cell is longer. It is set
# beyond what a record can hold here, so that long cells are refused by us, one row at a time.
csv.field_size_limit(max(csv.field_size_limit(), 2 * LONGEST_LINE + 2))


TOGETHER = 256
"""Rows that are read at once."""

LINE_TOO_LONG = RowError(
    "line_too_long",
    f"the line is longer than {LONGEST_LINE} characters: end each row with a line break, and export the file again",
)


class RowReader(ABC):
    """Reads the rows of a text in their order; each row that is not blank comes exactly once."""

    def __init__(self, lines: PushBackLines) -> None:
        self.lines = lines
        self._given_back: deque[FileRow] = deque()

    @property
    def line(self) -> int:
        """The place after which the next row starts."""
        return self._given_back[0].line - 1 if self._given_back else self.lines.line

    def some(self, most: int = TOGETHER) -> list[FileRow]:
        """Read some of the next rows that are not blank, at most `most`; [] at the end."""
        if self._given_back:
            return [self._given_back.popleft() for _ in range(min(most, len(self._given_back)))]
        try:
            while lines := self.lines.some(min(most, TOGETHER)):
                if found := self._rows(lines):
                    return found
        except LineTooLong:
            return [FileRow(self.lines.finish(), [], LINE_TOO_LONG)]
        return []

    def give_back(self, rows: Sequence[FileRow]) -> None:
        """Let these rows, which were read last, come again."""
        self._given_back.extendleft(reversed(rows))

    def skip(self, rows: int) -> None:
        """Leave out this many rows."""
        while rows and (some := self.some(rows)):
            rows -= len(some)

    @abstractmethod
    def _rows(self, lines: list[str]) -> list[FileRow]:
        """Make rows of the lines that were handed out; [] if all of them are blank."""


class LineReader(RowReader):
    """Reads rows of which each is one line."""

    def _rows(self, lines: list[str]) -> list[FileRow]:
        first = self.lines.line - len(lines) + 1
        return [self._row(text, line) for line, text in enumerate(lines, first) if not text.isspace()]

    @abstractmethod
    def _row(self, text: str, line: int) -> FileRow:
        """Make a row of a line that is not blank."""


class CsvReader(RowReader):
    """Reads rows of a shape, or of any, from a text whose lines keep their ends; each row comes exactly once.

    A record that spans several lines and then turns out ragged, too long, or broken in a cell that holds one line only,
    has a quote that is never closed: its first line is rejected, and the lines after it are read again as rows.
    `escaped` says that the cells were escaped against CSV injection, which is undone.
    """

    def __init__(
        self, lines: PushBackLines, delimiter: str, shape: RowShape | None = None, *, escaped: bool = False
    ) -> None:
        super().__init__(lines)
        self._delimiter = delimiter
        self._shape = shape
        self._width = len(shape.names) if shape is not None and all(map(str.strip, shape.names)) else None
        self._escaped = escaped
        self._records = self._fresh()

    def _rows(self, lines: list[str]) -> list[FileRow]:
        """Read lines of which each is a row by itself together, any others one by one."""
        try:
            rows = list(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except csv.Error:
            rows = []
        if len(rows) == len(lines):
            found = self._together(rows, lines)
        else:
            self.lines.put_back()
            found = list(islice(self._one_by_one(), len(lines)))
        if self._escaped:
            return [row._replace(cells=[unescape(cell) for cell in row.cells]) for row in found]
        return found

    def _together(self, rows: list[list[str]], lines: list[str]) -> list[FileRow]:
        shape, first = self._shape, self.lines.line - len(lines) + 1
        if shape and {self._width} == set(map(len, rows)) and _is_sound("".join(lines), lines, mixed=shape.mixed):
            whole = enumerate(rows, first)
            return [FileRow(line, cells, None) for line, cells in whole if cells[0].strip() or _is_filled(cells)]
        each = zip(range(first, first + len(rows)), rows, lines, strict=True)
        return [FileRow(line, cells, _error(cells, shape, [text])) for line, cells, text in each if _is_filled(cells)]

    def _one_by_one(self) -> Iterator[FileRow]:
        while True:
            try:
                for cells in self._records:
                    filled = _is_filled(cells)
                    error = _error(cells, self._shape, self.lines.taken) if filled else None
                    line = self.lines.finish()
                    if filled:
                        yield FileRow(line, cells, error)
            except (csv.Error, LineTooLong, SpanTooLong) as error:
                yield self._broken(error)
            else:
                return

    def _broken(self, error: Exception) -> FileRow:
        alone = len(self.lines.taken) == 1
        ended = self.lines.ended
        first = self.lines.give_back()
        self._records = self._fresh()
        if alone and isinstance(error, LineTooLong):
            found = LINE_TOO_LONG
        else:
            found = _BROKEN_QUOTE if alone and not ended else _UNCLOSED_QUOTE
        return FileRow(self.lines.finish(), split_as_written(first, self._delimiter), found)

    def _fresh(self) -> Iterator[list[str]]:
        return csv.reader(self.lines, delimiter=self._delimiter, strict=True)


def split_as_written(line: str, delimiter: str) -> list[str]:
    """Split a line whose quotes are broken at every delimiter.

    Cells whose own quotes are sound lose them; a broken cell keeps its quote marks, so that a person sees what to fix.
    """
    cells = line.rstrip("\r\n").split(delimiter) if line else []
    return [match[1] if (match := _SOUND.fullmatch(cell)) else cell for cell in cells]


def _is_filled(cells: Sequence[str]) -> bool:
    return any(map(str.strip, cells))


def _is_sound(text: str, lines: Sequence[str], *, mixed: bool) -> bool:
    """Say whether nothing in these lines can be wrong with a cell: no damaged character, and none too long."""
    if "\0" in text or not (text.isascii() or (not mixed and _DUBIOUS.search(text) is None)):
        return False
    return len(text) <= LONGEST_CELL or max(map(len, lines)) <= LONGEST_CELL


def _error(cells: list[str], shape: RowShape | None, lines: list[str]) -> RowError | None:
    if shape is None:
        return None
    if len(lines) > 1 and not _plausible(cells, shape):
        raise csv.Error
    if (ragged := _ragged(cells, shape)) is not None:
        return ragged
    return cells_error(cells, shape)


def _plausible(cells: list[str], shape: RowShape) -> bool:
    if len(cells) != len(shape.names) or any(len(cell) > LONGEST_CELL for cell in cells):
        return False
    return not any(_LINE_BREAK.search(cells[index].strip()) for index in shape.one_line)


def _ragged(cells: list[str], shape: RowShape) -> RowError | None:
    width = len(shape.names)
    if len(cells) < width:
        return RowError("too_few_cells", f"the row has {len(cells)} cells and the header {width}: {_LEFT_OUT}{RAGGED}")
    if len(cells) > width:
        return RowError("too_many_cells", f"the row has {len(cells)} cells and the header {width}: {RAGGED}")
    if any(cell.strip() and not name.strip() for cell, name in zip(cells, shape.names, strict=True)):
        return TOO_MANY_CELLS
    return None


_LEFT_OUT = "Excel leaves out the separators behind a row's last filled cell: write them again; otherwise "
_UNCLOSED_QUOTE = RowError(
    "unclosed_quote", 'a quote is opened here and not closed: close it, or write "" for a quote mark'
)
_BROKEN_QUOTE = RowError("broken_quote", 'text follows a closing quote: write "" for a quote mark inside a quoted cell')


DELIMITERS = (",", ";", "\t", "|")
_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_OWN_LINE = re.compile(rf'\ufeff?"?{REJECT_COLUMNS[0]}"?(.)"?{REJECT_COLUMNS[1]}\b')
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


def parse_delimiter(argument: str) -> str:
    """Read a `--delimiter`: one character, or its name; raise ConfigurationError for what cannot be one."""
    character = _NAMES.get(argument.lower(), argument)
    if len(character) != 1 or character in '"\r\n\0':
        raise ConfigurationError(f"--delimiter is one character or one of {', '.join(_NAMES)}, not {argument!r}")
    return character


def sep_line_delimiter(line: str) -> str | None:
    """Return the delimiter that a spreadsheet's `sep=;` line names, None if the line is no such line."""
    match = _SEP_LINE.fullmatch(line.strip("\ufeff \r\n"))
    return match[1] if match else None


def guess_delimiter(line: str, known: Vocabulary) -> str:
    """Return the delimiter that finds most of our columns in a header line, and of equals the one with most cells.

    A rejects file of ours says it itself: it begins with two columns that no other file has.
    """
    if (match := _OWN_LINE.match(line)) is not None:
        return match[1]
    return max(DELIMITERS, key=lambda delimiter: _score(line, delimiter, known))


def _score(line: str, delimiter: str, known: Vocabulary) -> tuple[int, int]:
    names = next(csv.reader([line], delimiter=delimiter), [])
    return sum(known.find(name) is not None for name in names), len(names)


def read_first_row(lines: PushBackLines, delimiter: str | None, known: Vocabulary, file: str) -> tuple[list[str], str]:
    """Read the first row that is not blank as a header; return its names, and the delimiter of the file.

    Raises UnusableHeader if it is broken, UnreadableFile if there is none.
    """
    if (in_sep_line := sep_line_delimiter(lines.peek())) is not None:
        lines.skip_peeked()
    delimiter = delimiter or in_sep_line or guess_delimiter(lines.peek(), known)
    found = CsvReader(lines, delimiter).some(1)
    if not found:
        raise UnreadableFile(f"{file} is empty: export it again, with a header")
    line, names, error = found[0]
    if error is not None:
        raise UnusableHeader(
            f"{file}, line {line}: this is no header: close its quotes, and end it with a line break "
            f"(a first line of JSON may have {LONGEST_LINE // 1024**2} MiB)"
        )
    names = [cell.removeprefix("\ufeff") for cell in names]
    if any(known.find(name) in OWN for name in names):
        names = [unescape(name) for name in names]  # a rejects file of ours
    return names, delimiter
