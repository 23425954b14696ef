"""Numbers with their nouns, lengths of time, slots, as people write and read them: 2,000 calls, 15m, channel EMAIL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from consent.errors import ConfigurationError
from consent.times import duration_text as duration_text  # noqa: PLC0414 - the words of a screen are together here

if TYPE_CHECKING:
    from consent.settings import Settings

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)", re.IGNORECASE)
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def parse_duration(text: str, option: str) -> float:
    """Read "90s", "15m", "2h", "2d" or "1h30m" as seconds; raise ConfigurationError that names the option."""
    parts = _FORM.findall(text)
    if not parts or _FORM.sub("", text).strip():
        raise ConfigurationError(f"{option} is written like 90s, 15m, 2h or 2d, not {text!r}")
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it belongs."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def origin_text(name: str, kind: str, number: int | None) -> str:
    """Return an import's name, and which line or event of it; the name alone where a command made the change."""
    if number is None or kind in _MADE_BY_COMMANDS:
        return name
    return f"{name}, {'line' if kind == 'csv' else 'event'} {number:,}"


_MADE_BY_COMMANDS = frozenset({"undo", "correction"})
"""Kinds of imports that have neither lines nor events."""


def slot_text(settings: Settings, connection: str, slot: str) -> str:
    """Return a slot by the columns that name it, like "channel EMAIL, priority BULK"; else as the ledger has it."""
    known = settings.connections.get(connection)
    return _in_words((known.provider if known else connection).lower(), slot) or _SLOTS.get(slot, slot)


def spoken(text: str) -> str:
    """Return a text of the ledger's for people: each slot like `["EMAIL","","BULK",-1]` by the columns that name it."""
    from worker.providers import PROVIDERS  # noqa: PLC0415 - see below

    def described(slot: re.Match[str]) -> str:
        found = (_in_words(name, slot[0]) for name in PROVIDERS)
        return next((f"({text})" for text in found if text), slot[0])

    return _LIKE_SLOT.sub(described, text)


def _in_words(provider: str, slot: str) -> str:
    """Return the columns of a provider that name a slot, "" if it is none of its slots."""
    from worker.providers import PROVIDERS  # noqa: PLC0415 - the models of rows take long to make

    known = PROVIDERS.get(provider)
    try:
        columns = {} if known is None else known.export({}, slot, {})
    except (ValueError, TypeError):  # it was written for another provider, or by another version
        columns = {}
    if known is None or not columns.keys() <= known.row.model_fields.keys():
        return ""
    return ", ".join(f"{name} {value}" for name, value in columns.items() if value not in _UNSAID)


_LIKE_SLOT = re.compile(r'(?:\w+:)?\["(?:[^"\\]|\\.)*"(?:,(?:"(?:[^"\\]|\\.)*"|-?\d+))*\]')

_UNSAID = {"", "-1"}
"""What a slot holds where its row leaves a column empty."""

_SLOTS = {"blocked": "every channel and sender", "active": "active: its webhook receives"}
