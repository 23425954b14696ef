"""From lines to rows of cells, so that a broken row harms no other."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from producers.csv_lines import LONGEST_LINE, LineTooLong, PushBackLines, SpanTooLong
from producers.record import Fault

LONGEST_CELL = 64 * 1024
_DAMAGED = re.compile(r"[\ud800-\udfff]")
_LINE_BREAK = re.compile(r"[\r\n]")
_SOUND = re.compile(r'"([^"]*)"')
_LOST = "\ufffd"

# The csv module has one limit for the whole process, and breaks off in mid-record when a cell is longer. It is set
# beyond what a record can hold here, so that long cells are refused by us, one row at a time.
csv.field_size_limit(max(csv.field_size_limit(), 2 * LONGEST_LINE + 2))


class CsvRow(NamedTuple):
    """One row: the physical line where it starts, its cells as they stand there, and what is wrong with them."""

    line: int
    cells: list[str]
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a row must look like: the columns' names, which of them are used, and which may not hold a line break."""

    names: tuple[str, ...]
    used: tuple[int, ...]
    one_line: tuple[int, ...]


class CsvReader:
    """Reads rows from a text whose lines keep their ends (`newline=""`).

    A record that spans several lines and then turns out ragged, too long, or broken in a cell that holds one line only,
    is a quote that nobody closed: its first line is refused, and the lines after it are read again as rows.
    """

    def __init__(self, lines: PushBackLines, delimiter: str) -> None:
        self.lines = lines
        self._delimiter = delimiter
        self._rows = self._fresh()

    def first(self) -> list[str]:
        """Return the cells of the first row that is not blank, [] if there is none; raise csv.Error if it is broken."""
        try:
            for cells in self._rows:
                self.lines.finish()
                if any(map(str.strip, cells)):
                    return cells
        except (LineTooLong, SpanTooLong) as error:
            raise csv.Error from error
        return []

    def rows(self, shape: Shape) -> Iterator[CsvRow]:
        """Read the rows after the first; each row that is not blank comes exactly once."""
        while True:
            try:
                yield from self._unbroken(shape)
            except (csv.Error, LineTooLong, SpanTooLong) as error:
                yield self._broken(error)
            else:
                return

    def _unbroken(self, shape: Shape) -> Iterator[CsvRow]:
        lines, taken, width = self.lines, self.lines.taken, len(shape.names)
        plain = all(map(str.strip, shape.names))
        for cells in self._rows:
            text = taken[0]
            if (
                plain
                and len(cells) == width
                and len(taken) == 1
                and text.isascii()
                and len(text) <= LONGEST_CELL
                and "\0" not in text
                and any(map(str.strip, cells))
            ):
                lines.line += 1
                taken.clear()
                yield CsvRow(lines.line, cells, None)
            elif any(map(str.strip, cells)):
                fault = _fault(cells, shape, taken)
                yield CsvRow(lines.finish(), cells, fault)
            else:
                lines.finish()

    def _broken(self, error: Exception) -> CsvRow:
        alone = len(self.lines.taken) == 1
        ended = self.lines.ended
        first = self.lines.give_back()
        self._rows = self._fresh()
        if alone and isinstance(error, LineTooLong):
            fault = _LINE_TOO_LONG
        else:
            fault = _BROKEN_QUOTE if alone and not ended else _UNCLOSED_QUOTE
        return CsvRow(self.lines.finish(), as_it_stands(first, self._delimiter), fault)

    def _fresh(self) -> Iterator[list[str]]:
        return csv.reader(self.lines, delimiter=self._delimiter, strict=True)


def as_it_stands(line: str, delimiter: str) -> list[str]:
    """Split a line whose quotes are broken at every delimiter.

    Cells whose own quotes are sound lose them; a broken cell keeps its quote marks, so that a person sees what to mend.
    """
    cells = line.rstrip("\r\n").split(delimiter) if line else []
    return [match[1] if (match := _SOUND.fullmatch(cell)) else cell for cell in cells]


def _fault(cells: list[str], shape: Shape, lines: list[str]) -> Fault | None:
    if len(lines) > 1 and not _plausible(cells, shape):
        raise csv.Error
    if (ragged := _ragged(cells, shape)) is not None:
        return ragged
    for index, cell in enumerate(cells):
        if (fault := _cell_fault(cell, shape.names[index])) is not None:
            return fault
    lost = next((index for index in shape.used if _LOST in cells[index]), None)
    return None if lost is None else _BAD_ENCODING._replace(column=shape.names[lost])


def _plausible(cells: list[str], shape: Shape) -> bool:
    if len(cells) != len(shape.names) or any(len(cell) > LONGEST_CELL for cell in cells):
        return False
    return not any(_LINE_BREAK.search(cells[index].strip()) for index in shape.one_line)


def _ragged(cells: list[str], shape: Shape) -> Fault | None:
    width = len(shape.names)
    if len(cells) < width:
        return Fault("too_few_cells", f"the row has {len(cells)} cells and the header {width}: {_RAGGED}")
    if len(cells) > width:
        return Fault("too_many_cells", f"the row has {len(cells)} cells and the header {width}: {_RAGGED}")
    if any(cell.strip() and not name.strip() for cell, name in zip(cells, shape.names, strict=True)):
        return Fault("too_many_cells", f"a cell stands under a column without a name: {_RAGGED}")
    return None


def _cell_fault(cell: str, column: str) -> Fault | None:
    if len(cell) > LONGEST_CELL:
        return Fault("cell_too_long", f"the cell has more than {LONGEST_CELL} characters: shorten it", column)
    if "\0" in cell:
        return Fault("stray_nul", "the cell holds a NUL character: export the file again, or remove it", column)
    if not cell.isascii() and _DAMAGED.search(cell):
        return _BAD_ENCODING._replace(column=column)
    return None


_RAGGED = "put each value under its column, and quote a value that holds the delimiter"
_BAD_ENCODING = Fault("bad_encoding", "some characters are damaged: write the cell again and save the file as UTF-8")
_UNCLOSED_QUOTE = Fault(
    "unclosed_quote", 'a quote is opened here and not closed: close it, or write "" for a quote mark'
)
_BROKEN_QUOTE = Fault("broken_quote", 'text follows a closing quote: write "" for a quote mark inside a quoted cell')
_LINE_TOO_LONG = Fault("line_too_long", f"the line is longer than {LONGEST_LINE} characters: see the original file")
