"""Rows of a file, whatever its format: a place, cells under the names of its columns, and what is wrong with them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from producers.files.lines import LONGEST_LINE, LineTooLong, PushBackLines
from producers.parsing.error_messages import RowError

LONGEST_CELL = 64 * 1024
TOGETHER = 256
"""Rows that are read at once."""

_DAMAGED = re.compile(r"[\ud800-\udfff]")
_LOST = "\ufffd"


class FileRow(NamedTuple):
    """One row: where it starts, its cells as they stand in the file, and what is wrong with them.

    `line` is a physical line of a text, or a sheet's own number of the row.
    """

    line: int
    cells: list[str]
    error: RowError | None


@dataclass(frozen=True, slots=True)
class RowShape:
    """What a row must look like: the columns' names, which of them are used, and which may not hold a line break.

    `mixed` says that cells may hold characters that were written in another encoding than the file's.
    """

    names: tuple[str, ...]
    used: tuple[int, ...]
    one_line: tuple[int, ...]
    mixed: bool = False

    @property
    def plain(self) -> bool:
        """Whether every column has a name."""
        return all(map(str.strip, self.names))


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
        while lines := self.lines.ahead(min(most, TOGETHER)):
            if found := self._rows(lines):
                return found
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
        """Make rows of the lines to come, which `lines` shows, and take these lines; [] if all of them are blank."""


class LineReader(RowReader):
    """Reads rows of which each is one line."""

    def _rows(self, lines: list[str]) -> list[FileRow]:
        try:
            first = self.lines.take(lines, sum(map(len, lines)))
        except LineTooLong:
            return self._first_alone()
        return [self._row(text, line) for line, text in enumerate(lines, first) if not text.isspace()]

    def _first_alone(self) -> list[FileRow]:
        try:
            text = next(self.lines)
        except LineTooLong:
            return [FileRow(self.lines.finish(), [], LINE_TOO_LONG)]
        line = self.lines.finish()
        return [] if text.isspace() else [self._row(text, line)]

    @abstractmethod
    def _row(self, text: str, line: int) -> FileRow:
        """Make a row of a line that is not blank."""


def cells_error(cells: Sequence[str], shape: RowShape) -> RowError | None:
    """Return the first error of a row's cells that lies in their characters alone."""
    for index, cell in enumerate(cells):
        if (found := _cell_error(cell, shape.names[index])) is not None:
            return found
    lost = next((index for index in shape.used if _is_lost(cells[index], mixed=shape.mixed)), None)
    return None if lost is None else _BAD_ENCODING._replace(column=shape.names[lost])


def _is_lost(cell: str, *, mixed: bool) -> bool:
    return _LOST in cell or (mixed and not cell.isascii() and _was_utf8(cell))


def _was_utf8(cell: str) -> bool:
    """Whether a cell that was read as Latin-1 or Windows-1252 is text in UTF-8, all of it.

    Parts of it prove nothing: ß and a quote, or É and a no-break space, are two bytes that UTF-8 has for one character.
    """
    try:
        cell.encode("cp1252" if _BEYOND.search(cell) else "latin-1").decode()
    except UnicodeError:
        return False
    return True


_BEYOND = re.compile("[^\x00-\xff]")


def _cell_error(cell: str, column: str) -> RowError | None:
    if len(cell) > LONGEST_CELL:
        return RowError("cell_too_long", f"the cell has more than {LONGEST_CELL} characters: shorten it", column)
    if "\0" in cell:
        return RowError("stray_nul", "the cell holds a NUL character: export the file again, or remove it", column)
    if not cell.isascii() and _DAMAGED.search(cell):
        return _BAD_ENCODING._replace(column=column)
    return None


_BAD_ENCODING = RowError("bad_encoding", "some characters are damaged: write the cell again and save the file as UTF-8")
RAGGED = "put each value under its column, and quote a value that holds the delimiter"
TOO_MANY_CELLS = RowError("too_many_cells", f"a cell stands under a column without a name: {RAGGED}")
LINE_TOO_LONG = RowError(
    "line_too_long",
    f"the line is longer than {LONGEST_LINE} characters: end each row with a line break, and export the file again",
)
