"""THE RULE: the newest change of a slot wins, and on a tie the opt-out does. Nothing else decides order.

A slot is a last-writer-wins register. Its versions are ordered by `rank`: (effective_at, opt-out before opt-in,
arrival). So any order of arrival, any duplication and any interleaving leave the same version in it.

What a provider was confirmed to hold is as old as the confirmation. An opt-out with a time of its own that is later is
fresh: it is delivered, and what was confirmed counts as unknown from then on.

What becomes of a change that is merged into a register:

| the change is          | the provider is confirmed to hold             | result                            |
|------------------------|-----------------------------------------------|-----------------------------------|
| older than the newest  | anything                                      | Superseded by the newest          |
| older, and fresh       | the opt-out that is the newest                | Superseded; the newest is resent  |
| newest                 | something else, or it is not known what       | Wins, and is delivered            |
| newest                 | what the change says                          | NoOp                              |
| newest, and fresh      | what the change says                          | Wins, and is delivered again      |
| newest, an opt-out     | what the change says, and reassert is ALWAYS  | Wins, and is delivered again      |

This is the rule for one change. `consent.ledger.merge_sql` is the same for many in one statement, and
`tests/consent/ledger/test_interleavings.py` holds them together on both databases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from consent.change import Action
from consent.reassert import Reassert

FUTURE_TOLERANCE_SECONDS = 300
"""A change from more than five minutes in the future is a broken clock, and would win for ever: it is rejected."""


class Version(NamedTuple):
    """What a change makes of its slot: since when (microseconds), what, and its number in the order of arrival.

    `value` is what the slot is to hold, where that is more than in or out. `own_time` is False if the moment is not the
    sender's own, but a file's, or one that an export has stamped on its rows.
    """

    effective_at: int
    action: Action
    arrival: int
    value: str = ""
    own_time: bool = True

    @property
    def slot_value(self) -> str:
        """What the slot holds once this change has been applied: the action, and the value if it has one."""
        return self.action + self.value


@dataclass(frozen=True, slots=True)
class Register:
    """What is known of a slot: its newest version, and what the provider is confirmed to hold (None: not known).

    `confirmed_at` is when the provider confirmed it (microseconds), None if that is not known.
    """

    newest: Version | None = None
    confirmed: str | None = None
    confirmed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Wins:
    """The change is the newest and must be delivered; `over` is the arrival of the change that it overtook."""

    over: int | None


@dataclass(frozen=True, slots=True)
class NoOp:
    """The change is the newest, and the provider is already confirmed to hold it; it overtook `over`."""

    over: int | None


@dataclass(frozen=True, slots=True)
class Superseded:
    """The change is older than the one that arrived as `by`, and is never sent.

    With `resends` it is fresh, and the newer one, which says the same, was never sent since: that one is now.
    """

    by: int
    resends: bool = False


Result = Wins | NoOp | Superseded


def rank(version: Version) -> tuple[int, bool, int]:
    """Return the key by which versions are ordered: the greater one wins."""
    return version.effective_at, version.action is Action.OPTOUT, version.arrival


def is_fresh(register: Register, version: Version) -> bool:
    """Whether it is an opt-out with a time of its own that is later than the slot's confirmation."""
    later = register.confirmed_at is None or version.effective_at > register.confirmed_at
    return version.action is Action.OPTOUT and version.own_time and later


def merge(register: Register, version: Version, *, reassert: Reassert = Reassert.FRESH) -> tuple[Register, Result]:
    """Merge a change into its slot's register; return the register afterwards and what becomes of the change.

    `reassert` says which opt-outs are delivered again even if the provider is confirmed to hold them.
    """
    old = register.newest
    fresh = reassert is not Reassert.NEVER and is_fresh(register, version)
    if old is not None and rank(old) >= rank(version):
        if fresh and old.action is Action.OPTOUT and register.confirmed == old.slot_value:
            return Register(old), Superseded(old.arrival, resends=True)
        return register, Superseded(old.arrival)
    over = None if old is None else old.arrival
    if register.confirmed is None or register.confirmed != version.slot_value:
        return replace(register, newest=version), Wins(over)
    if fresh or (reassert is Reassert.ALWAYS and version.action is Action.OPTOUT):
        return Register(version), Wins(over)
    return replace(register, newest=version), NoOp(over)


def may_be_noop(action: str, since: int, newest_at: int, newest_action: str, confirmed: str | None) -> bool:
    """Whether a change without a value that arrives last may be a NoOp: the newest says the same and is confirmed.

    In plain values, as this is asked of each row of a dump. It is only a first look: the newest may still be pending or
    have had a value, and whether an opt-out is fresh can be said only once the file has been read whole.
    """
    return action == confirmed == newest_action and since >= newest_at


def restates(version: tuple[int, str, str], newest_at: int, newest_action: str, confirmed: str | None) -> bool:
    """Whether a change (since when, action, value) is as new as its slot's newest, says the same, and is confirmed."""
    since, action, value = version
    return since == newest_at and action == newest_action and confirmed == action + value
