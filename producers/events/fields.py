"""The fields of an event under our own names, as the text that a cell of a file would hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers.columns import Vocabulary
from producers.record import Fault

SEPARATOR = "|"


def as_cells(said: Mapping[str, Any], known: Vocabulary) -> tuple[dict[str, str], dict[str, str]] | Fault:
    """Return what an event says by our names, and its own spelling of each; names that are not ours are left out.

    Lists become `a|b`, numbers and true or false their text, null and empty text nothing.
    """
    cells: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for name, value in said.items():
        if (ours := known.find(name)) is None:
            continue
        if (cell := _cell(value)) is None:
            return Fault("unusable_value", "write text, a whole number, true or false, or a list of these", name)
        if ours in spelled:
            return Fault("named_twice", f"{spelled[ours]} and {name} mean the same: keep one", name)
        spelled[ours] = name
        if cell:
            cells[ours] = cell
    return cells, spelled


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
