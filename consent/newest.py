"""The one rule that orders everything: the newest word wins, and on a tie the opt-out does.

A slot is a last-writer-wins register. Words are ordered by (effective_at, opt-out before opt-in, arrival), so any order
of arrival, any duplication and any interleaving leave the same word standing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from consent.change import Action

FUTURE_TOLERANCE_SECONDS = 300
"""A word from more than five minutes in the future is a broken clock, and would win for ever: it is rejected."""


class Word(NamedTuple):
    """What was said about a slot: since when (microseconds), what, and its number in the order of arrival.

    `value` is what the slot is to hold, where that is more than in or out.
    """

    effective_at: int
    action: Action
    arrival: int
    value: str = ""

    @property
    def says(self) -> str:
        """What the slot holds once this word has been applied."""
        return self.action + self.value


@dataclass(frozen=True, slots=True)
class Register:
    """What is known of a slot: its newest word, and what the provider is confirmed to hold (None: not known)."""

    newest: Word | None = None
    confirmed: str | None = None


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
    """The word is older than the word that arrived as `by`, and is never sent."""

    by: int


Verdict = Stands | Unchanged | Superseded


def rank(word: Word) -> tuple[int, bool, int]:
    """Return the key by which words are ordered: the greater one wins."""
    return word.effective_at, word.action is Action.OPTOUT, word.arrival


def judge(register: Register, word: Word, *, reassert: bool = False) -> tuple[Register, Verdict]:
    """Hold a word against a slot's register; return the register afterwards and what becomes of the word.

    With `reassert` an opt-out is delivered again even if the provider is confirmed to hold it.
    """
    old = register.newest
    if old is not None and rank(old) >= rank(word):
        return register, Superseded(old.arrival)
    over = None if old is None else old.arrival
    if register.confirmed is None or register.confirmed != word.says or (reassert and word.action is Action.OPTOUT):
        return Register(word, register.confirmed), Stands(over)
    return Register(word, register.confirmed), Unchanged(over)
