"""What a file's columns look like: which name persons, which hold times, and which have few different cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from consent.identifiers.phones import looks_like_number
from consent.time_formats import FormatFinder, names_zone
from consent.times import UnusableTime, read_time
from producers.feeds.presets import Kind
from producers.feeds.words import has_name, is_coded, tells_channel

MOST_VALUES = 10
"""Different cells of a column that may say who opts out."""

_MOSTLY = 0.8
_LEAST_DIGITS = 7  # of a telephone number; the number of a row or a ticket has fewer

_LIKE_TIME = re.compile(r"\d{4}-\d\d?-\d\d?([T ]\d\d?:\d\d.*)?|\d\d?([./])\d\d?\2\d{4}(,? \d\d?:\d\d.*)?")
"""Dates as exports write them, with or without a time of the day; telephone numbers and addresses are none."""

_LIKE_EPOCH = re.compile(r"\d{9,10}|\d{13}")


@dataclass
class FileLook:
    """What a draft knows of a file: its columns' names, its first rows, and all cells of a column on demand."""

    names: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    column: Callable[[int], Iterable[str]]
    _values: dict[str, list[str]] = field(default_factory=dict)
    _formats: dict[str, str] = field(default_factory=dict)

    @property
    def named(self) -> list[str]:
        """The names of its columns, without the columns that have none."""
        return [name for name in self.names if name.strip()]

    def filled(self, name: str) -> list[str]:
        """Return the cells of a column among the first rows that are not empty."""
        place = self.names.index(name)
        return [cell for row in self.rows if (cell := row[place].strip())]

    def values(self, name: str) -> list[str]:
        """Return the different cells of a column of the whole file, [] if there are more than MOST_VALUES."""
        if name not in self._values:
            found: dict[str, str] = {}
            for cell in self.column(self.names.index(name)):
                found.setdefault(cell.strip().casefold(), cell.strip())
                if len(found) > MOST_VALUES:
                    found = {}
                    break
            self._values[name] = list(found.values())
        return self._values[name]

    def format(self, name: str) -> str:
        """Return the format of a column of times, by all of its cells; "" for ISO 8601 or where none is settled."""
        if name not in self._formats:
            finder = FormatFinder()
            finder.add(self.column(self.names.index(name)))
            self._formats[name] = finder.settle() or ""
        return self._formats[name]

    def kind(self, name: str) -> Kind:
        """Return what most of a column's cells are; a customer's number or a date is no telephone number."""
        cells = self.filled(name)
        if cells and sum("@" in cell for cell in cells) >= _MOSTLY * len(cells):
            return "email"
        if has_name(name, "customer") or self.holds_times(name):
            return "any"
        numbers = sum(looks_like_number(cell) and sum(map(str.isdigit, cell)) >= _LEAST_DIGITS for cell in cells)
        return "phone" if cells and numbers >= _MOSTLY * len(cells) else "any"

    def names_person(self, name: str) -> bool:
        """Whether a column's cells are addresses; telephone numbers that may be seconds since 1970 do not count."""
        kind = self.kind(name)
        return kind == "email" or (kind == "phone" and not all(map(_LIKE_EPOCH.fullmatch, self.filled(name))))

    def holds_times(self, name: str) -> bool:
        """Whether a cell of each row is a time by its marks: two pairs of digits with `.`, `/`, `-` or `:` between."""
        cells = self.filled(name)
        return bool(cells) and all(_LIKE_TIME.fullmatch(cell) for cell in cells)

    def is_time(self, name: str) -> bool:
        """Whether all of a column's cells are times of one form, or of two possible orders."""
        cells = self.filled(name)
        finder = FormatFinder()
        finder.add(cells)
        found = finder.settle()
        is_number = found == "epoch" and (self.kind(name) == "phone" or has_name(name, "customer"))
        return bool(cells) and found is not None and not is_number

    def may_hold_times(self, name: str) -> bool:
        """Whether a column has a cell that can be read as a time, or no cell at all: it may be filled another day."""
        cells = dict.fromkeys(self.filled(name))
        return not cells or self.holds_times(name) or any(map(_is_readable, cells))

    def lacks_zone(self, name: str, form: str) -> bool:
        """Whether a column's times name no zone as a format has them, "" for ISO 8601, or some of them do not."""
        return not names_zone(form) if form else any(map(_is_local, self.filled(name)))

    def describe(self, name: str) -> str:
        """Say in a word or two what a column looks like, "" if it looks like nothing that is known."""
        if not (cells := self.filled(name)):
            return "empty"
        if (kind := self.kind(name)) != "any":
            return {"email": "e-mail addresses", "phone": "telephone numbers"}[kind]
        if self.is_time(name):
            return "times"
        if self.holds_times(name):
            return "dates"
        if is_coded(cells):
            return "in or out, yes or no"
        return "channels" if tells_channel("", cells) else ""


def _is_readable(cell: str) -> bool:
    finder = FormatFinder()
    finder.add([cell])
    return finder.settle() is not None


def _is_local(cell: str) -> bool:
    """Whether a cell is a time in ISO 8601 that names no zone."""
    try:
        return read_time(cell).tzinfo is None
    except UnusableTime:
        return False
