"""What the names and cells of other systems are likely to mean, by `words.toml`: it proposes, and a person confirms."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from consent.change import Action
from producers.feeds.mapping import SKIP
from producers.parsing.columns import plain

OPTOUT, OPTIN = Action.OPTOUT.value, Action.OPTIN.value
_DENIES = re.compile(r"\b(?:no|not|non|never|kein\w*|nicht)(?:\b|_)|withdr|revok|refus|declin|denied|ablehn|abgelehnt")


@cache
def _read(table: str) -> dict[str, frozenset[str]]:
    text = files(__package__).joinpath("words.toml").read_text(encoding="utf-8")
    return {name: frozenset(names) for name, names in tomllib.loads(text)[table].items()}


def has_name(name: str, *kinds: str) -> bool:
    """Whether a column's name holds a word of one of these kinds of `[names]`."""
    bare = plain(name)
    return any(word in bare for kind in kinds for word in _read("names")[kind])


def tells_reason(name: str) -> bool:
    """Whether a column's name ends like one of reasons."""
    return plain(name).endswith(tuple(_read("names")["reason"]))


def names_column(name: str, ours: str) -> bool:
    """Whether a column is called like a column of ours that may be proposed by its name: those of `[columns]`."""
    words = _read("columns").get(ours)
    return words is not None and (plain(name) == plain(ours) or plain(name) in words)


def cell_means(cell: str, *kinds: str) -> bool:
    """Whether a cell says one of these kinds of `[cells]`."""
    return any(plain(cell) in _read("cells")[kind] for kind in kinds)


def is_coded(cells: Sequence[str]) -> bool:
    """Whether all of a column's cells are words that say who opts in or out, and say so at least once."""
    return any(cells) and all(not cell or cell_means(cell, "out", "in", "yes", "no") for cell in cells)


def is_certain(cell: str) -> bool:
    """Whether a cell says by itself who opts in or out: `unsubscribed` does, and `yes` does not."""
    return cell_means(cell, "out", "in")


def are_our_actions(cells: Sequence[str]) -> bool:
    """Whether these are our words for an action, and nothing else."""
    return any(cells) and {plain(cell) for cell in cells if cell} <= {"optin", "optout"}


def meaning(cell: str, column: str) -> str | None:
    """Return the likeliest meaning of a cell under a column of this name, None if it is not likely enough."""
    if is_certain(cell):
        return OPTOUT if cell_means(cell, "out") else OPTIN
    if not plain(cell):
        return SKIP
    if _DENIES.search(column.casefold()) or not cell_means(cell, "yes", "no"):
        return None  # a yes to "no newsletter" is a no: only a person can say
    if has_name(column, "out"):
        return OPTOUT if cell_means(cell, "yes") else SKIP
    if has_name(column, "in"):
        return OPTIN if cell_means(cell, "yes") else OPTOUT
    return None


def channel_named(cell: str) -> str | None:
    """Return the channel that a cell names, in the spelling that providers share; "" for one that none has."""
    found = next((channel for channel, names in _read("channels").items() if plain(cell) in names), None)
    return "" if found == "OTHER" else found


def spells_channel(cell: str) -> bool:
    """Whether a cell is a channel's own name in any spelling: `E-Mail` is, and `Mail` may be a letter."""
    return plain(cell).upper() in _read("channels").keys() - {"OTHER"}


def tells_channel(name: str, cells: Sequence[str]) -> bool:
    """Whether a column may say by which channel a row is meant, by its name or by all of its cells."""
    known = any(cells) and all(not cell or channel_named(cell) is not None for cell in cells)
    return known or has_name(name, "channel")
