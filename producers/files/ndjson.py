"""JSON lines as rows: one object a line, whose names are its columns; what lies deeper has dotted names.

`{"user": {"id": 7}}` has the column `user.id`. Records may differ in their names: a file's columns are all that occur,
in the order in which they do. A number keeps the digits that it is written with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from consent.errors import UnusableHeader
from producers.files.cells import LONGEST_CELL, FileRow, RowShape, cells_error
from producers.files.lines import PushBackLines
from producers.files.rows import LineReader
from producers.parsing.error_messages import RowError
from producers.parsing.strict_json import parse_text

MOST_NAMES = 1_000
"""Different names of a file's records; where there are more, names hold values."""


class Record(NamedTuple):
    """The cells of a record by their dotted names; `unreadable` names those that are no text, number or list of them.

    Such a cell is its JSON text. Cells that are null are "". `objects` names what holds others.
    """

    cells: dict[str, str]
    unreadable: list[str]
    objects: list[str]


def read_names(lines: PushBackLines, file: str) -> list[str]:
    """Return the names of all records, in the order in which they first occur.

    Raises UnusableHeader if no line is an object, or there are more than MOST_NAMES names.
    """
    names: dict[str, None] = {}
    reader, shapes = _NameReader(lines), set[tuple[str, ...]]()
    while rows := reader.some():
        for shape in {tuple(row.cells) for row in rows} - shapes:
            names |= dict.fromkeys(filter(str.strip, shape))
            if len(shapes) < MOST_NAMES:
                shapes.add(shape)
        if len(names) > MOST_NAMES:
            raise UnusableHeader(f"{file}: its records have more than {MOST_NAMES:,} names: export only what is needed")
    if not names:
        raise UnusableHeader(f"{file}: none of its lines is a JSON object: write one object a line, as `jq -c .` does")
    return list(names)


class NdjsonReader(LineReader):
    """Reads each line as a row of a shape; a line that is no JSON object is an error in its place."""

    def __init__(self, lines: PushBackLines, shape: RowShape) -> None:
        super().__init__(lines)
        self._shape = shape
        self._used = {shape.names[place] for place in shape.used}
        parts = [name.split(".") for name in self._used if "." in name]
        self._holders = {".".join(part[:length]) for part in parts for length in range(1, len(part))} - self._used

    def _row(self, text: str, line: int) -> FileRow:
        found = read_record(text)
        if isinstance(found, RowError):
            return FileRow(line, [text.strip()], found)
        cells = [found.cells.get(name, "") for name in self._shape.names]
        if odd := self._misplaced(found):
            return FileRow(line, cells, _UNUSABLE._replace(column=odd))
        sound = len(text) <= LONGEST_CELL and text.isascii() and "\\u" not in text
        return FileRow(line, cells, None if sound else cells_error(cells, self._shape))

    def _misplaced(self, record: Record) -> str | None:
        """Return the name of a used column whose value is of another kind than a cell, or lies elsewhere than others'.

        An object where other rows have text, and text where others have an object, would be read as an empty cell.
        """
        odd = [name for name in (*record.unreadable, *record.objects) if name in self._used]
        odd += [name for name in self._holders if record.cells.get(name)]
        return odd[0] if odd else None


def read_record(text: str) -> Record | RowError:
    """Return what a line holds, or what is wrong with it."""
    try:
        found = parse_text(text)
        if isinstance(found, RowError):
            return found
        if not isinstance(found, dict):
            return _NO_OBJECT
        if set(map(type, found.values())) == _TEXT:
            return Record(found, [], [])  # nothing lies deeper, as is most often so
        record = Record({}, [], [])
        return _flatten(found, "", record) or record
    except (ValueError, RecursionError):
        return _NO_OBJECT


class _NameReader(LineReader):
    """Reads the names of each line's record as its cells, none where it is no object."""

    def _row(self, text: str, line: int) -> FileRow:
        found = read_record(text)
        return FileRow(line, [], found) if isinstance(found, RowError) else FileRow(line, list(found.cells), None)


def _flatten(value: Mapping[str, Any], prefix: str, record: Record) -> RowError | None:
    cells = record.cells
    for key, one in value.items():
        name = prefix + key
        if type(one) is dict:
            record.objects.append(name)
            if (error := _flatten(one, f"{name}.", record)) is not None:
                return error
            continue
        if name in cells:
            return RowError("named_twice", "this name stands twice in one JSON object: keep one", name)
        cells[name] = one if type(one) is str else _cell(one, name, record)
    return None


def _cell(value: object, name: str, record: Record) -> str:
    if not isinstance(value, list):
        return _scalar(value) or ""
    members = [_scalar(one) for one in value]
    if any(one is None or "|" in one for one in members):
        record.unreadable.append(name)
        return json.dumps(value, ensure_ascii=False)
    return "|".join(one for one in members if one)


def _scalar(value: object) -> str | None:
    if isinstance(value, str):  # a number, too
        return value
    return "" if value is None else str(value).lower() if isinstance(value, bool) else None


_TEXT = {str}
_NO_OBJECT = RowError("bad_json", "this line is no JSON object: write one object a line, with quotes around its names")
_UNUSABLE = RowError("unusable_value", "write text, a number, true or false, or a list of these without |")
