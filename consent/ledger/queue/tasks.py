"""What passes between the ledger and a delivery: targets under lease, and what became of their changes.

No code alters one. They are not frozen because thousands are made a second, and a frozen one takes many times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from consent.change import Action
from consent.ledger.merge import Version
from consent.outcome import Outcome

IN_DOUBT = "a call may still be under way"
"""Stands where a lease's token stands while no process may call a target."""

WITNESS = "witness"
"""The purpose of a call that only finds out whether the provider serves another customer."""


@dataclass(slots=True)
class ClaimedChange:
    """The newest change of one slot, held by a delivery: what must be told to the provider.

    `confirms` says whether its slot holds nothing else once it has been applied.
    """

    id: int
    import_id: str
    slot: str
    action: Action
    effective_at: int
    details: Mapping[str, Any] = field(repr=False)
    attempts: int = 0
    value: str = ""
    confirms: bool = True


@dataclass(slots=True)
class CustomerTask:
    """A target under lease, with its changes that are due, oldest first.

    `newest_by_slot` is the newest change of each of the target's slots, where a write may touch several of them: so
    what is newer can be left alone, and what older changes have made be told apart from what others have. `withheld`
    are the changes that are due as well and must not be sent, because opt-ins are paused or a fuse holds them.
    """

    target_id: int
    address: Mapping[str, str] = field(repr=False)
    changes: tuple[ClaimedChange, ...]
    tries: int = 0
    newest_by_slot: Mapping[str, Version] = field(default_factory=dict)
    withheld: frozenset[int] = frozenset()

    @property
    def touched(self) -> set[str]:
        """The slots of which nothing is known any more once the provider is called."""
        return {change.slot for change in self.changes}.union(self.newest_by_slot)


@dataclass(slots=True)
class Attempt:
    """One call that was made: when (microseconds), how long (milliseconds), what was answered, for which changes.

    A call that carried several targets is an attempt for each of them; only one of these `counts` as a call.
    """

    target_id: int
    at: int
    milliseconds: int
    purpose: str
    status: int | None
    code: str
    change_ids: tuple[int, ...]
    counts: bool = True


@dataclass(slots=True)
class Settlement:
    """What became of a target's claimed changes; those without an outcome are given back untouched.

    `put_off_until` (microseconds) is when what is left should be tried again. Until `in_doubt_until` the provider
    may still do what the last call asked for, though its answer never came: no process may call this target before, not
    even for a fresh change. If that call's connection broke, the same changes `may_repeat`, and nothing else.
    """

    task: CustomerTask
    outcomes: Mapping[int, Outcome]
    attempts: tuple[Attempt, ...] = ()
    put_off_until: int = 0
    tried: bool = field(default=True)
    in_doubt_until: int = 0
    may_repeat: bool = False
