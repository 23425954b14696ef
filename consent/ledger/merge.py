"""The one rule that orders everything: the newest word wins, and on a tie the opt-out does.

A slot is a last-writer-wins register. Words are ordered by (effective_at, opt-out before opt-in, arrival), so any order
of arrival, any duplication and any interleaving leave the same word standing.

What a provider was confirmed to hold is as old as the confirmation. An opt-out with a time of its own that is later is
fresh: it is delivered, and what was confirmed counts as unknown from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from consent.change import Action
from consent.reassert import Reassert

FUTURE_TOLERANCE_SECONDS = 300
"""A word from more than five minutes in the future is a broken clock, and would win for ever: it is rejected."""


class Word(NamedTuple):
    """What was said about a slot: since when (microseconds), what, and its number in the order of arrival.

    `value` is what the slot is to hold, where that is more than in or out. `own_time` is False if the moment is not the
    sender's own, but a file's, or one that an export has stamped on its rows.
    """

    effective_at: int
    action: Action
    arrival: int
    value: str = ""
    own_time: bool = True

    @property
    def says(self) -> str:
        """What the slot holds once this word has been applied."""
        return self.action + self.value


@dataclass(frozen=True, slots=True)
class Register:
    """What is known of a slot: its newest word, and what the provider is confirmed to hold (None: not known).

    `confirmed_at` is when the provider confirmed it (microseconds), None if that is not known.
    """

    newest: Word | None = None
    confirmed: str | None = None
    confirmed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Stands:
    """The word is the newest and must be delivered; `over` is the arrival of the word that it overtook."""

    over: int | None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The word is the newest, and the provider is already confirmed to hold it; it overtook `over`."""

    over: int | None


@dataclass(frozen=True, slots=True)
class Superseded:
    """The word is older than the word that arrived as `by`, and is never sent.

    With `sends_again` it is fresh, and the newer word, which says the same, was never sent since: that one is now.
    """

    by: int
    sends_again: bool = False


Verdict = Stands | Unchanged | Superseded


def rank(word: Word) -> tuple[int, bool, int]:
    """Return the key by which words are ordered: the greater one wins."""
    return word.effective_at, word.action is Action.OPTOUT, word.arrival


def is_fresh(register: Register, word: Word) -> bool:
    """Whether a word is an opt-out with a time of its own that is later than the slot's confirmation."""
    later = register.confirmed_at is None or word.effective_at > register.confirmed_at
    return word.action is Action.OPTOUT and word.own_time and later


def judge(register: Register, word: Word, *, reassert: Reassert = Reassert.FRESH) -> tuple[Register, Verdict]:
    """Hold a word against a slot's register; return the register afterwards and what becomes of the word.

    `reassert` says which opt-outs are delivered again even if the provider is confirmed to hold them.
    """
    old = register.newest
    fresh = reassert is not Reassert.NEVER and is_fresh(register, word)
    if old is not None and rank(old) >= rank(word):
        if fresh and old.action is Action.OPTOUT and register.confirmed == old.says:
            return Register(old), Superseded(old.arrival, sends_again=True)
        return register, Superseded(old.arrival)
    over = None if old is None else old.arrival
    if register.confirmed is None or register.confirmed != word.says:
        return replace(register, newest=word), Stands(over)
    if fresh or (reassert is Reassert.ALWAYS and word.action is Action.OPTOUT):
        return Register(word), Stands(over)
    return replace(register, newest=word), Unchanged(over)
