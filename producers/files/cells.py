"""A row of a file, what it must look like, and what can be wrong with its cells by their characters alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from producers.parsing.error_messages import RowError

LONGEST_CELL = 64 * 1024
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
