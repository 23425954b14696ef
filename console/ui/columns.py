"""The columns of a change as a person types them: NAME=VALUE, or JSON objects on standard input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from consent.errors import ConfigurationError
from producers.parsing.strict_json import BYTE_ORDER_MARK, NamedTwice, parse

STANDARD_INPUT = "-"


def pairs_of(columns: Iterable[str]) -> dict[str, str]:
    """Read NAME=VALUE arguments; raise ConfigurationError for one of another form."""
    pairs = {}
    for column in columns:
        name, equals, value = column.partition("=")
        if not equals:
            raise ConfigurationError(
                "columns are written NAME=VALUE, like user_id=387006417 or channel=EMAIL; - reads standard input"
            )
        pairs[name] = value
    return pairs


def json_lines(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the JSON object of each line that is not blank, and the line's name; raise ConfigurationError."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text = line.encode(errors="surrogateescape")
            found = parse(text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConfigurationError(f"line {number} is no JSON object")
        if isinstance(found, NamedTwice):
            raise ConfigurationError(f"line {number}: {found.error.column!r}: {found.error.message}")
        yield f"line {number}: ", found
