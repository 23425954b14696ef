"""A provider that keeps what it was told, and can be late: a call may land long after its caller has given up."""

from __future__ import annotations

from dataclasses import dataclass, field

from consent.ledger.queue.tasks import ClaimedChange
from tests.model.changes import OVERLAPPING, Slot
from tests.support.providers.blocklist import Blocklist
from worker.providers.contract import Request

TIMEOUT = 20.0
LATEST = 4 * TIMEOUT
"""Seconds after which a call that was made, and timed out, has landed or never will: what the product counts on."""


@dataclass(slots=True)
class Call:
    """One call on its way: for which customer, what it says of each slot, and when it lands at the latest (seconds).

    `writes` is a call to the blocklist, which may touch more slots than it is about. One that is `cut` is over for its
    caller: what it was `asked` may be asked again while it is under way. Calls are numbered as they come.
    """

    customer: str
    actions: dict[Slot, str]
    lands_by: float
    writes: Request | None = None
    asked: frozenset[int] = frozenset()
    cut: bool = False
    number: int = 0


@dataclass(slots=True)
class LateProvider:
    """What is held, slot by slot, and what is still under way."""

    held: dict[Slot, str] = field(default_factory=dict)
    blocklists: dict[str, Blocklist] = field(
        default_factory=lambda: {name: Blocklist(destination=f"{name}@example.com") for name in OVERLAPPING}
    )
    under_way: list[Call] = field(default_factory=list)
    calls: int = 0
    overlaps: int = 0

    def receive(
        self, customer: str, changes: tuple[ClaimedChange, ...], now: float, writes: Request | None = None
    ) -> Call:
        """Take a call in; it changes nothing before it lands."""
        self.calls += 1
        self.overlaps += any(call.customer == customer for call in self.under_way)
        actions = {(customer, c.slot): c.action.value for c in changes}
        call = Call(customer, actions, now + LATEST, writes, frozenset(c.id for c in changes), number=self.calls)
        self.under_way.append(call)
        return call

    def land(self, call: Call) -> None:
        """Do what a call says."""
        self.under_way.remove(call)
        if call.writes is None:
            self.held.update(call.actions)
        else:
            self.blocklists[call.customer](call.writes)

    def lose(self, call: Call) -> None:
        """Forget a call that never arrived."""
        self.under_way.remove(call)

    def land_until(self, now: float) -> None:
        """Do what has been under way for so long that it must have landed."""
        for call in [call for call in self.under_way if call.lands_by <= now]:
            self.land(call)
