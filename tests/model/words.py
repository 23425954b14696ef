"""What people say in the model: a few customers and slots, so that words collide all the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import strategies as st

from consent.change import Action, ConsentChange

MORNING = datetime(2026, 11, 22, 8, tzinfo=UTC)
Slot = tuple[str, str]

SPELLINGS = {name: (f"{name}@Example.com", f"{name.lower()}@example.com\u200b") for name in "ABC"}
"""How the customers are named: each of them is one, however it is written."""


def whom(address: Mapping[str, str]) -> str:
    """Return the customer whom an address names, in whichever spelling it was recorded first."""
    return next(name for name, spellings in SPELLINGS.items() if address["identifier_value"] in spellings)


class Said(NamedTuple):
    """One word: who, about what, what, when (minutes after eight), and a reason that tells two words apart."""

    customer: str
    slot: str
    action: str
    minute: int
    reason: str

    @property
    def where(self) -> Slot:
        """The slot that it is about."""
        return self.customer, self.slot

    @property
    def rank(self) -> tuple[int, bool]:
        """The rule, said again independently of the product: the latest word wins, on a tie the opt-out."""
        return self.minute, self.action == "OPTOUT"

    def change(self, line: int) -> ConsentChange:
        """The same as a producer hands it over."""
        moment = MORNING + timedelta(minutes=self.minute)
        spellings = SPELLINGS[self.customer]
        value = spellings[(self.minute + len(self.reason)) % len(spellings)]
        address, details = {"identifier_name": "email", "identifier_value": value}, {"reason": self.reason}
        return ConsentChange("capillary", address, self.slot, Action(self.action), moment, details, line=line)


words = st.builds(
    Said,
    st.sampled_from("ABC"),
    st.sampled_from(("EMAIL", "MOBILE")),
    st.sampled_from(("OPTIN", "OPTOUT")),
    st.integers(0, 4),
    st.sampled_from(("x", "xy")),
)


def newest(said: Iterable[Said]) -> dict[Slot, Said]:
    """The word that must stand in each slot; of words of one rank any, since they say the same."""
    standing: dict[Slot, Said] = {}
    for word in said:
        if word.where not in standing or standing[word.where].rank < word.rank:
            standing[word.where] = word
    return standing
