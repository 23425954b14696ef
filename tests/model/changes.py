"""What people say in the model: a few customers and slots, so that words collide all the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import NamedTuple

from hypothesis import strategies as st

from consent.change import Action, ConsentChange
from consent.times import to_micros
from worker.providers.infobip.blocklist_slots import Place, blocked_text
from worker.providers.infobip.row import InfobipRow

MORNING = datetime(2026, 11, 22, 8, tzinfo=UTC)
Slot = tuple[str, str]

OVERLAPPING = "DE"
"""The customers for which everything, a channel or a sender can be blocked: a part of each other's slots."""

SPELLINGS = {name: (f"{name}@Example.com", f"{name.lower()}@example.com\u200b") for name in "ABC" + OVERLAPPING}
"""How the customers are named: each of them is one, however it is written."""

PLACES = {blocked_text(Place(*place)): place for place in (("", ""), ("SMS", ""), ("SMS", "SHOP"), ("", "SHOP"))}
"""Channel and sender of the slots that overlap, each empty for all of them."""

CELLS = tuple(product(("SMS", "EMAIL"), ("SHOP", "CLUB")))
"""Where a message may come from: EMAIL and CLUB stand for every channel and sender that no one names."""


def who(address: Mapping[str, str]) -> str:
    """Return the customer who an address names, in whichever spelling it was recorded first."""
    return (address.get("destination") or address["identifier_value"])[0].upper()


class Statement(NamedTuple):
    """One change: who, about what, what, when, and a reason that tells two changes apart.

    `minute` and `micros` are minutes after eight, and the microseconds by which what undoes a change comes later.
    """

    customer: str
    slot: str
    action: str
    minute: int
    reason: str
    micros: int = 0

    @property
    def where(self) -> Slot:
        """The slot that it is about."""
        return self.customer, self.slot

    @property
    def rank(self) -> tuple[int, int, bool]:
        """The rule, said again independently of the product: the latest change wins, on a tie the opt-out."""
        return self.minute, self.micros, self.action == "OPTOUT"

    @property
    def place(self) -> tuple[str, str]:
        """Channel and sender of a slot that overlaps with others."""
        return PLACES[self.slot]

    def covers(self, cell: tuple[str, str]) -> bool:
        """The rule, said again independently of the product: an empty part names everything."""
        return all(mine in ("", there) for mine, there in zip(self.place, cell, strict=True))

    def change(self, line: int) -> ConsentChange:
        """The same as a producer hands it over."""
        moment = to_micros(MORNING + timedelta(minutes=self.minute, microseconds=self.micros))
        spellings, details = SPELLINGS[self.customer], {"reason": self.reason}
        value = spellings[(self.minute + len(self.reason)) % len(spellings)]
        if self.customer in OVERLAPPING:
            row = InfobipRow.model_validate({"destination": value, "action": self.action})
            action, bucket = Action(self.action), row.changes().bucket
            return ConsentChange(
                "infobip", row.changes().address, self.slot, action, moment, details, line=line, bucket=bucket
            )
        address = {"identifier_name": "email", "identifier_value": value}
        return ConsentChange("capillary", address, self.slot, Action(self.action), moment, details, line=line)


def _statements(customers: str, slots: Iterable[str]) -> st.SearchStrategy[Statement]:
    return st.builds(
        Statement,
        st.sampled_from(customers),
        st.sampled_from(tuple(slots)),
        st.sampled_from(("OPTIN", "OPTOUT")),
        st.integers(0, 4),
        st.sampled_from(("x", "xy")),
        st.just(0),
    )


changes = _statements("ABC", ("EMAIL", "MOBILE")) | _statements(OVERLAPPING, PLACES)


def _to_and_fro(name: str, narrow: str, wide: str, action: str) -> list[Statement]:
    opposite = "OPTIN" if action == "OPTOUT" else "OPTOUT"
    return [
        Statement(name, narrow, action, n, "x") if n % 2 else Statement(name, wide, opposite, n, "x")
        for n in range(1, 5)
    ]


_names, _places = st.sampled_from(OVERLAPPING), st.sampled_from(tuple(PLACES))
minds = _names.flatmap(lambda name: st.lists(_statements(name, PLACES), min_size=2, max_size=4)) | st.builds(
    _to_and_fro, _names, _places, _places, st.sampled_from(("OPTIN", "OPTOUT"))
)
"""What one person says of slots that overlap, one after the other: anything, or of two slots by turns."""


def newest(statements: Iterable[Statement]) -> dict[Slot, Statement]:
    """The word that must stand in each slot; of words of one rank any, since they say the same."""
    standing: dict[Slot, Statement] = {}
    for change in statements:
        if change.where not in standing or standing[change.where].rank < change.rank:
            standing[change.where] = change
    return standing
