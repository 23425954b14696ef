"""Which character stands between the cells of a file."""

from __future__ import annotations

import csv
import re

from consent.errors import ConfigurationError
from producers.columns import Vocabulary

DELIMITERS = (",", ";", "\t", "|")
_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_TOLD = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


def named_delimiter(argument: str) -> str:
    """Read a `--delimiter`: one character, or its name; raise ConfigurationError for what cannot be one."""
    character = _WORDS.get(argument.lower(), argument)
    if len(character) != 1 or character in '"\r\n\0':
        raise ConfigurationError(f"--delimiter is one character or one of {', '.join(_WORDS)}, not {argument!r}")
    return character


def told_delimiter(line: str) -> str | None:
    """Return the delimiter that a spreadsheet's `sep=;` line tells, None if the line is no such line."""
    match = _TOLD.fullmatch(line.strip("\ufeff \r\n"))
    return match[1] if match else None


def likeliest_delimiter(line: str, known: Vocabulary) -> str:
    """Return the delimiter that finds most of our columns in a header line, and of equals the one with most cells."""
    return max(DELIMITERS, key=lambda delimiter: _score(line, delimiter, known))


def _score(line: str, delimiter: str, known: Vocabulary) -> tuple[int, int]:
    names = next(csv.reader([line], delimiter=delimiter), [])
    return sum(known.find(name) is not None for name in names), len(names)
