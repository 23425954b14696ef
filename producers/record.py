"""What comes from outside before it is understood: a row or an event by our column names, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class RawRecord(NamedTuple):
    """A row or an event under our own column names, without the ones that nobody filled.

    `line` is the physical line of a file where it starts, None for an event.
    """

    fields: Mapping[str, Any]
    line: int | None = None


class Fault(NamedTuple):
    """Why a record is refused: a code, a sentence with a remedy and without any cell's value, and the column."""

    code: str
    message: str
    column: str | None = None
