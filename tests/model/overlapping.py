"""What must hold where slots overlap: the rule, said again independently of the product."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.model.words import CELLS, OVERLAPPING, PLACES, Said, Slot, newest
from tests.support.providers.blocklist import Blocklist

UNDER_WIDER_BLOCK = "under_wider_block"


def is_part(narrow: str, wide: str) -> bool:
    """Whether one slot is a part of another one, or the same."""
    return all(outer in ("", inner) for outer, inner in zip(PLACES[wide], PLACES[narrow], strict=True))


def wrongs(said: Iterable[Said], lists: Mapping[str, Blocklist], dead: Mapping[Slot, str]) -> list[str]:
    """Return what is not as the newest changes want it; `dead` are the slots whose newest change is dead, and why.

    On each channel and for each sender the newest of all words that cover it holds, and an opt-in that cannot be told
    is dead. An entry stands only where someone opted out of just that.
    """
    said = list(said)
    standing = newest(said)
    found = [
        f"{where} should be dead: {dead.get(where)}"
        for where in must_be_dead(said)
        if where not in dead or (dead[where] != UNDER_WIDER_BLOCK and dead[where] not in REJECTIONS)
    ]
    for name in OVERLAPPING:
        blocked = lists[name].blocks
        for cell in CELLS:
            mine = [word for word in standing.values() if word.customer == name and word.covers(cell)]
            best = max((word.rank for word in mine), default=(0, False))
            if any(word.where in dead for word in mine if word.rank == best):
                continue
            if blocked(cell) != best[1]:
                found.append(f"{name} {cell}: {mine}, entries {lists[name].entries}, dead {dict(dead)}")
        opted_out = {word.place for word in said if word.customer == name and word.action == "OPTOUT"}
        found += [f"{name}: no one said {entry}" for entry in lists[name].entries if entry[:2] not in opted_out]
    return found


REJECTIONS = {"1012", "403"}
"""Why a change may be dead before anybody finds out that it cannot be told."""


def must_be_dead(said: Iterable[Said]) -> list[Slot]:
    """Return the opt-ins to a part of what stays opted out by an older change: the blocklist cannot be told of them.

    Words of one rank are left out of account: which of them came first is not known here.
    """
    standing = list(newest(said).values())
    out = [word for word in standing if word.action == "OPTOUT" and not _overtaken(word, standing)]
    ins = [word for word in standing if word.action == "OPTIN" and not _overtaken(word, standing)]
    return [
        word.where
        for word in ins
        if any(o.customer == word.customer and o.rank < word.rank and _meet(o, word) for o in out)
    ]


def _overtaken(word: Said, standing: Iterable[Said]) -> bool:
    """Whether a wider slot's word is newer, or may count as newer."""
    mine = (one for one in standing if one.customer == word.customer and one.slot != word.slot)
    return any(one.rank >= word.rank and is_part(word.slot, one.slot) for one in mine)


def _meet(one: Said, other: Said) -> bool:
    return any(one.covers(cell) and other.covers(cell) for cell in CELLS)
