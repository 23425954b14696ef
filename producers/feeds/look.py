"""What a file's columns look like: which name persons, which hold times, and which say who opts in or out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from consent.change import Action
from consent.identifiers.phones import looks_like_number
from consent.time_formats import FormatFinder
from producers.feeds.mapping import SKIP
from producers.feeds.presets import Kind
from producers.parsing.columns import plain

MOST_VALUES = 10
"""Different cells of a column that may say who opts out."""

OPTOUT, OPTIN = Action.OPTOUT.value, Action.OPTIN.value
_MOSTLY = 0.8
_LEAST_DIGITS = 7  # of a telephone number; the number of a row or a ticket has fewer
_OUT = {"unsubscribed", "optedout", "optout", "out", "cleaned", "suppressed", "blocked", "abgemeldet", "stop"}
_IN = {"subscribed", "optedin", "optin", "in", "angemeldet"}
_YES, _NO = {"true", "yes", "y", "1", "ja", "oui", "si", "x"}, {"false", "no", "n", "0", "nein", "non"}
_ASKS_OUT = ("unsub", "optout", "optedout", "suppress", "blocked", "donot", "abmeld", "abgemeldet", "widerruf")
_ASKS_IN = ("optin", "optedin", "subscri", "consent", "werbung", "newsletter", "marketing", "einwilligung")


_LIKE_TIME = re.compile(r"\d{4}-\d\d?-\d\d?([T ]\d\d?:\d\d.*)?|\d\d?([./])\d\d?\2\d{4}(,? \d\d?:\d\d.*)?")
"""Dates as exports write them, with or without a time of the day; telephone numbers and addresses are none."""
_CHANNEL_NAMES = ("channel", "kanal", "canal", "medium", "kontaktweg", "contactby")
_CHANNELS = {
    *("email", "mail", "sms", "mobile", "phone", "telefon", "anruf", "call", "post", "brief", "letter", "fax"),
    *("push", "web", "app", "whatsapp", "rcs", "viber", "line", "telegram", "voice"),
}
_DENIES = re.compile(r"\b(?:no|not|non|never|kein\w*|nicht)(?:\b|_)|withdr|revok|refus|declin|denied|ablehn|abgelehnt")


@dataclass
class FileLook:
    """What a draft knows of a file: its columns' names, its first rows, and all cells of a column on demand."""

    names: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    column: Callable[[int], Iterable[str]]
    _values: dict[str, list[str]] = field(default_factory=dict)
    _formats: dict[str, str] = field(default_factory=dict)

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
        """Return what most of a column's cells are."""
        cells = self.filled(name)
        if cells and sum("@" in cell for cell in cells) >= _MOSTLY * len(cells):
            return "email"
        numbers = sum(looks_like_number(cell) and sum(map(str.isdigit, cell)) >= _LEAST_DIGITS for cell in cells)
        return "phone" if cells and numbers >= _MOSTLY * len(cells) else "any"

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
        return bool(cells) and found is not None and not (found == "epoch" and self.kind(name) == "phone")


def is_coded(cells: Sequence[str]) -> bool:
    """Whether all of a column's cells are words that say who opts in or out, and say so at least once."""
    known = _OUT | _IN | _YES | _NO
    return any(cells) and all(not cell or plain(cell) in known for cell in cells)


def meaning(cell: str, column: str) -> str | None:
    """Return the likeliest meaning of a cell under a column of this name, None if it is not likely enough."""
    word, name = plain(cell), plain(column)
    if not word:
        return SKIP
    if word in _OUT:
        return OPTOUT
    if word in _IN:
        return OPTIN
    if _DENIES.search(column.casefold()):
        return None  # a yes to "no newsletter" is a no: only a person can say
    asks_out = any(part in name for part in _ASKS_OUT)
    if word in _YES | _NO and (asks_out or any(part in name for part in _ASKS_IN)):
        return (OPTOUT if word in _YES else SKIP) if asks_out else (OPTIN if word in _YES else OPTOUT)
    return None


def tells_channel(name: str, cells: Sequence[str]) -> bool:
    """Whether a column may say by which channel a row is meant, by its name or by all of its cells."""
    known = any(cells) and all(not cell or plain(cell) in _CHANNELS for cell in cells)
    return known or any(part in plain(name) for part in _CHANNEL_NAMES)


def is_certain(cell: str) -> bool:
    """Whether a cell says by itself who opts in or out: `unsubscribed` does, and `yes` does not."""
    return plain(cell) in _OUT | _IN


def says_ours(cells: Sequence[str]) -> bool:
    """Whether these are our words for an action, and nothing else."""
    return any(cells) and {plain(cell) for cell in cells if cell} <= {"optin", "optout"}
