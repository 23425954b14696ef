"""The question whether people may be contacted: on which channel, by which names, and what forbids it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

NAME_KINDS = ("user_id", "email", "mobile", "externalId", "cardExternalId", "cardNumber")
"""The kinds of names by which providers know persons."""


class Question(NamedTuple):
    """A channel in the spelling of `SuppressionRules.channels`, and a priority, "" for any."""

    channel: str
    priority: str = ""


class Unknown(StrEnum):
    """What becomes of people who may have opted out by a name that is not given."""

    ALLOW = "allow"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class SuppressionRules:
    """How a provider names persons, and which of its slots stand for a channel.

    * `kinds` are those of `NAME_KINDS` by which it knows persons.
    * `channels` are its own channels, by the name that all providers share, in capital letters.
    * `priorities` are its priorities; () if it has none, so that a slot holds for all of them.
    * `addresses` returns what a person of this kind of name and this text is in the ledger, for numbers without a
      country code in a region; the columns that say where a name is looked up are left out. Raises UnusableIdentifier.
    * `kind` returns which kind of name a form of address is (`address_forms`), None if no person has it.
    * `stops` says whether an opt-out of this slot forbids what the question is about.
    * `covers` says whether the first slot means all that the second means; every slot covers itself.
    * `overlaps` says whether any slot covers another one. Such a slot is called `name:["SMS","SHOP"]`, and `""` stands
      for any; `name` alone covers all of them.
    """

    kinds: frozenset[str]
    channels: Mapping[str, str]
    priorities: tuple[str, ...]
    addresses: Callable[[str, str, str], Sequence[Mapping[str, str]]]
    kind: Callable[[Mapping[str, str]], str | None]
    stops: Callable[[str, Question], bool]
    covers: Callable[[str, str], bool]
    overlaps: bool = False


@dataclass(frozen=True, slots=True)
class StandingOptOut:
    """An opt-out that stands: in which slot of which connection, since when (microseconds), and how far it has come.

    `state` is that of the change (`consent.outcome.State`); `import_id` is where it came from.
    """

    connection: str
    slot: str
    since: int
    state: str
    import_id: str


@dataclass(frozen=True, slots=True)
class SuppressionCheck:
    """One check that was made, as the ledger records it: who asked what of how many, and what came of it.

    `source` is a file's name or "http", `sha256` the hash of the bytes that were asked about. `connections` is empty
    for all of them.
    """

    who: str
    source: str
    sha256: str
    question: Question
    connections: Sequence[str]
    unknown: Unknown | None
    clean: int
    stopped: int
