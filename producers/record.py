"""What comes from outside before it is understood: a row or an event by our column names, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class RawRecord(NamedTuple):
    """A row or an event under our own column names, without the ones that nobody filled.

    `line` is the physical line of a file where it starts, None for an event. `sender` says in whose name its change_id
    is unique; "" stands for all files.
    """

    fields: Mapping[str, Any]
    line: int | None = None
    sender: str = ""


class Fault(NamedTuple):
    """Why a record is refused: a code, a sentence with a remedy and without any cell's value, and the column."""

    code: str
    message: str
    column: str | None = None
