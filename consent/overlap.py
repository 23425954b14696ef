"""Where one slot means a part of what another means: which of their changes holds, and what cannot be told.

Somebody may be opted out of everything, and of one channel alone. What holds for a slot is then the newest of its own
change and of those whose slots cover it. The order is the one of `consent.newest`, in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from consent.change import Action
from consent.newest import Word, rank
from consent.outcome import Rejected


@dataclass(frozen=True, slots=True)
class Overlap:
    """How the slots of a target overlap at a provider whose writes can touch several of them.

    `covers` says whether the first slot means all that the second means; every slot covers itself. `meets` says whether
    they have anything in common. `inexpressible` is what becomes of an opt-in to a part of what is opted out.
    """

    covers: Callable[[str, str], bool]
    meets: Callable[[str, str], bool]
    inexpressible: Rejected


@dataclass(frozen=True, slots=True)
class Resolved:
    """What becomes of the newest changes of a target's slots, by slot.

    `overruled` are those that a newer change of a wider slot has overtaken, each with that change. `cut_off` are
    opt-ins to a part of what an older change opts out of: the provider cannot be told of them. `mixed` are opt-ins in
    which an opt-out stands that is newer: what the provider holds there is not one thing.
    """

    overruled: Mapping[str, Word] = field(default_factory=dict)
    cut_off: frozenset[str] = frozenset()
    mixed: frozenset[str] = frozenset()


def resolve(standing: Mapping[str, Word], overlap: Overlap) -> Resolved:
    """Hold the newest changes of a target's slots against each other."""
    overruled: dict[str, Word] = {}
    for slot, word in standing.items():
        newer = [other for wide, other in standing.items() if rank(other) > rank(word) and overlap.covers(wide, slot)]
        if newer:
            overruled[slot] = max(newer, key=rank)
    stands = {slot: word for slot, word in standing.items() if slot not in overruled}
    opted_out = {slot: word for slot, word in stands.items() if word.action is Action.OPTOUT}
    cut_off, mixed = set(), set()
    for slot, word in stands.items():
        if word.action is Action.OPTIN:
            met = [other for other_slot, other in opted_out.items() if overlap.meets(slot, other_slot)]
            if any(rank(other) < rank(word) for other in met):
                cut_off.add(slot)
            elif met:
                mixed.add(slot)
    return Resolved(overruled, frozenset(cut_off), frozenset(mixed))
