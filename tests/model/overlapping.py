"""What must hold where slots overlap: the rule, said again independently of the product."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from consent.guards.fuse import NOT_SENT
from tests.model.changes import CELLS, OVERLAPPING, PLACES, Slot, Statement, newest
from tests.support.providers.blocklist import Blocklist

UNDER_WIDER_BLOCK = "under_wider_block"


def is_part(narrow: str, wide: str) -> bool:
    """Whether one slot is a part of another one, or the same."""
    return all(outer in ("", inner) for outer, inner in zip(PLACES[wide], PLACES[narrow], strict=True))


def wrongs(statements: Iterable[Statement], lists: Mapping[str, Blocklist], dead: Mapping[Slot, str]) -> list[str]:
    """Return what is not as the newest changes want it; `dead` are the slots whose newest change is dead, and why.

    On each channel and for each sender the newest of all words that cover it holds, and an opt-in that cannot be told
    is dead. An entry stands only where someone opted out of just that.
    """
    statements = list(statements)
    standing = newest(statements)
    found = [
        f"{where} should be dead: {dead.get(where)}"
        for where in must_be_dead(statements)
        if where not in dead or (dead[where] != UNDER_WIDER_BLOCK and dead[where] not in REJECTIONS)
    ]
    for name in OVERLAPPING:
        blocked = lists[name].blocks
        for cell in CELLS:
            mine = [change for change in standing.values() if change.customer == name and change.covers(cell)]
            best = max((change.rank for change in mine), default=(0, 0, False))
            if any(change.where in dead for change in mine if change.rank == best):
                continue
            if blocked(cell) != best[-1]:
                found.append(f"{name} {cell}: {mine}, entries {lists[name].entries}, dead {dict(dead)}")
        opted_out = {change.place for change in statements if change.customer == name and change.action == "OPTOUT"}
        found += [f"{name}: no one said {entry}" for entry in lists[name].entries if entry[:2] not in opted_out]
    return found


REJECTIONS = {"1012", "403", NOT_SENT}
"""Why a change may be dead before anybody finds out that it cannot be told."""


def must_be_dead(statements: Iterable[Statement]) -> list[Slot]:
    """Return the opt-ins to a part of what stays opted out by an older change: the blocklist cannot be told of them.

    Words of one rank are left out of account: which of them came first is not known here.
    """
    standing = list(newest(statements).values())
    out = [change for change in standing if change.action == "OPTOUT" and not _overtaken(change, standing)]
    ins = [change for change in standing if change.action == "OPTIN" and not _overtaken(change, standing)]
    return [
        change.where
        for change in ins
        if any(o.customer == change.customer and o.rank < change.rank and _meet(o, change) for o in out)
    ]


def _overtaken(change: Statement, standing: Iterable[Statement]) -> bool:
    """Whether a wider slot's word is newer, or may count as newer."""
    mine = (one for one in standing if one.customer == change.customer and one.slot != change.slot)
    return any(one.rank >= change.rank and is_part(change.slot, one.slot) for one in mine)


def _meet(one: Statement, other: Statement) -> bool:
    return any(one.covers(cell) and other.covers(cell) for cell in CELLS)
