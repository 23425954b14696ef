"""The rows of a sheet, read from the lines that the program `workbook` has made of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TextIO

import orjson

from consent.errors import UnreadableFile, unreadable
from producers.files.cells import LONGEST_CELL, TOO_MANY_CELLS, FileRow, RowShape, cells_error
from producers.files.lines import PushBackLines
from producers.files.rows import LINE_TOO_LONG, LineReader
from producers.parsing.error_messages import RowError

_OUR_SETTINGS = "OPTRELAY_"


@dataclass(frozen=True, slots=True)
class Sheet:
    """The sheet that is read, with the number of its last row, and the other visible ones with their first rows.

    `unseen` counts rows that are hidden, by a filter or by hand; they are rows all the same.
    """

    name: str
    others: tuple[str, ...]
    rows: int
    heads: tuple[tuple[str, ...], ...] = ()
    unseen: int = 0

    @property
    def note(self) -> str | None:
        """What a person should know about the choice."""
        others = ", ".join(map(repr, self.others))
        return f"sheet {self.name!r} is read, not {others}; --sheet names another one" if others else None

    @property
    def unseen_note(self) -> str | None:
        """What a person should know who has filtered the sheet."""
        rows = (
            f"{self.unseen:,} rows are hidden or filtered out" if self.unseen > 1 else "a row is hidden or filtered out"
        )
        return (
            f"{rows} in the sheet {self.name!r}, and read like the others: delete what is not meant"
            if self.unseen
            else None
        )

    def instead(self, known: Callable[[str], object]) -> str:
        """Return what to do if it was the wrong sheet, "" if there is no other; `known` says whether a column is."""
        if not self.others:
            return ""
        apt = [name for name, head in zip(self.others, self.heads, strict=False) if any(map(known, head))]
        if len(apt) == 1:
            return f" This is the sheet {self.name!r}; the sheet {apt[0]!r} has known columns: give --sheet {apt[0]!r}."
        others = ", ".join(map(repr, apt or self.others))
        return f" This is the sheet {self.name!r}: if another one is meant, give it with --sheet: {others}."


def convert(workbook: BinaryIO, spool: BinaryIO, file: str, wanted: str | None, megabytes: int) -> Sheet:
    """Write the rows of a sheet into a private file, by a process that may use so much memory.

    `wanted` names the sheet; the first one is meant without it. Raises UnreadableFile if it cannot be read.
    """
    workbook.seek(0)
    command = [sys.executable, "-P", "-m", "producers.files.sheet.workbook", str(megabytes)]
    done = subprocess.run(  # noqa: S603 - our own program
        [*command, *([] if wanted is None else [wanted])],
        stdin=workbook,
        stdout=spool,
        stderr=subprocess.PIPE,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith(_OUR_SETTINGS)},
    )
    found = _result(done.stderr)
    if "failed" in found:
        raise unreadable(f"{file} cannot be unpacked", OSError(*found["failed"]))
    if "refused" in found:
        raise UnreadableFile(f"{file} {found['refused']}")
    if done.returncode or "sheet" not in found:
        raise UnreadableFile(
            f"{file} needs more than {megabytes} MB of memory: save its sheet as CSV, or set OPTRELAY_SHEET_MEMORY_MB"
        )
    return Sheet(
        found["sheet"], tuple(found["others"]), found["rows"], tuple(map(tuple, found["heads"])), found["unseen"]
    )


def _result(written: bytes) -> dict[str, Any]:
    *_, last = [b"", *written.splitlines()]
    try:
        found = json.loads(last)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class SheetReader(LineReader):
    """Reads the rows of a sheet; a cell that cannot be read matters only in a column that is used."""

    def __init__(self, lines: PushBackLines, sheet: Sheet, shape: RowShape | None = None) -> None:
        super().__init__(lines)
        self._sheet = sheet
        self._shape = shape
        self._last = 0

    @property
    def line(self) -> int:
        """The number of the row after which the next one starts."""
        return self._given_back[0].line - 1 if self._given_back else self._last

    def first(self, skip_top: int = 0) -> list[str]:
        """Return the cells of the first row below the first `skip_top` that is not blank, [] if there is none."""
        while rows := self.some(1):
            if rows[0].line > skip_top:
                return rows[0].cells
        return []

    def _row(self, text: str, line: int) -> FileRow:  # noqa: ARG002 - the sheet has its own numbers
        number, cells, errors = orjson.loads(text)
        self._last = number
        shape = self._shape
        if shape is None:
            return FileRow(number, cells, None)
        width = len(shape.names)
        if len(cells) < width:
            cells += [""] * (width - len(cells))
        elif len(cells) > width and not any(map(str.strip, cells[width:])):
            del cells[width:]
        if error := self._error(number, cells, errors, shape):
            return FileRow(number, cells, error)
        sound = len(text) <= LONGEST_CELL and "\\u" not in text  # what is beyond ASCII is escaped
        return FileRow(number, cells, None if sound else cells_error(cells, shape))

    def _error(self, number: int, cells: list[str], errors: list[Any], shape: RowShape) -> RowError | None:
        if errors and errors[0][0] < 0:
            return LINE_TOO_LONG
        names = shape.names
        if len(cells) > len(names) or any(cells[place].strip() for place, name in enumerate(names) if not name.strip()):
            return TOO_MANY_CELLS
        code, place = next(((code, place) for place, code in errors if place in shape.used), (None, 0))
        if code is None:
            return None
        where = f"sheet {self._sheet.name!r}, row {number}, column {_letters(place)}"
        return RowError(_CODES.get(code, code), f"{where}: {_MESSAGES[code]}", names[place])


def last_row(text: TextIO, skip_end: int) -> int:
    """Return the number of the row before the last `skip_end` that are not blank."""
    tail = deque(text, skip_end + 1)
    return int(orjson.loads(tail[0])[0]) if len(tail) > skip_end else 0


def _letters(place: int) -> str:
    """Return a column's letters as a sheet shows them, given its number from 0."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


_CODES = {"no_value": "unusable_value", "formula_error": "unusable_value", "merged": "unusable_value"}
_MESSAGES = {
    "damaged_number": "the sheet holds a decimal, a number of more than 15 digits, or one in scientific notation, "
    "which may have been rounded: format the column as text, and write the number again",
    "unreadable_time": "the sheet holds a time that is no date: write ISO 8601, such as 2026-11-22T08:30:00Z",
    "no_value": "the sheet holds a formula without its value: open the workbook in a spreadsheet program and save it",
    "merged": "the cell is merged with others, and only the first of these holds their value: undo the merging, and "
    "write the value into each row",
    "formula_error": "the formula has an error for a value: fix it, or write the value",
}
