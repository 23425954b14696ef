"""Which changes the rows of a reply prove, and which they only seem to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from consent.ledger.queue.tasks import ClaimedChange
from worker.providers.capillary.body import Body, Echo, folded
from worker.providers.capillary.slots import Slot, read_slot


def failed_ones(changes: Sequence[ClaimedChange], body: Body) -> tuple[list[ClaimedChange], bool]:
    """Return the changes that the reply names as failed, and whether it also names a failure that is none of them.

    In a reply about one single change, every failure is that change's.
    """
    if not body.failed:
        return [], False
    if len(changes) == 1:
        return list(changes), False
    named = {change.id: _pair(read_slot(change.slot)) for change in changes}
    stray = any(failure not in named.values() for failure in body.failed)
    return [change for change in changes if named[change.id] in body.failed], stray


def proven(changes: Sequence[ClaimedChange], echoes: Sequence[Echo]) -> set[int]:
    """Return the ids of the changes that the echoed rows prove.

    An echo that tells no account or org unit may be that of several changes: then it proves them only if there is an
    echo for each of them. An echo that can only be one change's, and says the opposite, disproves it.
    """
    said = tuple((change.slot, change.action.value) for change in changes)
    prove = _proven if len(echoes) <= _FEW else _proven.__wrapped__
    return {changes[place].id for place in prove(said, tuple(echoes))}


_FEW = 32  # longer replies are not kept


@lru_cache(maxsize=1024)  # most customers say one of a few things, and are answered alike
def _proven(said: Sequence[tuple[str, str]], echoes: Sequence[Echo]) -> frozenset[int]:
    """Return the places of the proven ones among slots and what is said of each."""
    slots = [read_slot(slot) for slot, _ in said]
    fitting = [(echo, [place for place, slot in enumerate(slots) if fits(slot, echo)]) for echo in echoes]
    sole = [(echo.type, found[0]) for echo, found in fitting if len(found) == 1]
    certain = {place for kind, place in sole if said[place][1] == kind}
    opposed = {place for kind, place in sole if said[place][1] != kind}
    shared = [{place for place in found if said[place][1] == echo.type} for echo, found in fitting if len(found) > 1]
    return frozenset((certain | {place for place in range(len(said)) if _enough(place, shared, certain)}) - opposed)


def shown(change: ClaimedChange, others: Sequence[ClaimedChange], echoes: Sequence[Echo]) -> bool:
    """Say whether a read-back proves a change.

    The published read-back tells neither account nor org unit, so it proves nothing about a change while another
    change of the same customer, that it cannot be told from, wishes the opposite.
    """
    mine = [echo for echo in echoes if fits(read_slot(change.slot), echo)]
    opposite = [read_slot(other.slot) for other in others if other.action != change.action]
    agreed = {echo.type for echo in mine} == {str(change.action)}
    return agreed and not any(fits(slot, echo) for slot in opposite for echo in mine)


def fits(slot: Slot, echo: Echo) -> bool:
    """Say whether an echo may be that of a slot: account and org unit are compared only where the echo tells them."""
    return (
        echo.channel == folded(slot.channel)
        and echo.priority == slot.priority.casefold()
        and echo.account in (None, slot.account)
        and echo.org_unit in (None, str(slot.org_unit))
    )


def _pair(slot: Slot) -> tuple[str, str]:
    return folded(slot.channel), slot.priority.casefold()


def _enough(place: int, shared: Sequence[set[int]], certain: set[int]) -> bool:
    mine = [places for places in shared if place in places]
    rivals = set().union(*mine) - certain
    return bool(mine) and len(mine) >= len(rivals)
