"""The fields of an event under our own names, as the text that a cell of a file would hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers.parsing.columns import Vocabulary
from producers.parsing.error_messages import RowError

SEPARATOR = "|"
_LOST = "\ufffd"
_MOST_SPELLINGS = 1000


class FieldNames:
    """Our name for each spelling of a field that events use; what was found once is not looked for again."""

    def __init__(self, known: Vocabulary) -> None:
        self._known = known
        self._found: dict[str, str | None] = {}

    def find(self, name: str) -> str | None:
        """Return our name for a spelling, None if it is not ours."""
        if name not in self._found:
            if len(self._found) >= _MOST_SPELLINGS:
                self._found.clear()  # someone invents names: they must not fill our memory
            self._found[name] = self._known.find(name)
        return self._found[name]


def as_cells(said: Mapping[str, Any], names: FieldNames) -> tuple[dict[str, str], dict[str, str]] | RowError:
    """Return what an event says by our names, and its own spelling of each; names that are not ours are left out.

    Lists become `a|b`, numbers and true or false their text, null and empty text nothing.
    """
    cells: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for name, value in said.items():
        if (ours := names.find(name)) is None:
            continue
        cell = value.strip() if isinstance(value, str) else _cell(value)
        if cell is None:
            return RowError("unusable_value", "write text, a whole number, true or false, or a list of these", name)
        if not (cell.isascii() and cell.isprintable()) and _is_damaged(cell):
            return RowError("bad_encoding", "some characters are damaged: send the value again as UTF-8", name)
        if ours in spelled:
            return RowError("named_twice", f"{spelled[ours]} and {name} mean the same: keep one", name)
        spelled[ours] = name
        if cell:
            cells[ours] = cell
    return cells, spelled


def _is_damaged(cell: str) -> bool:
    """Whether a text has lost a character, or has one that no database takes: NUL, half of a surrogate pair."""
    return any(one in {_LOST, "\0"} or "\ud800" <= one <= "\udfff" for one in cell)


def _cell(value: object) -> str | None:
    if not isinstance(value, list):
        return _scalar(value)
    members = [_scalar(one) for one in value]
    if any(member is None or SEPARATOR in member for member in members):
        return None
    return SEPARATOR.join(member for member in members if member)


def _scalar(value: object) -> str | None:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value.strip()
        case int():
            return str(value)
        case _:
            return None
