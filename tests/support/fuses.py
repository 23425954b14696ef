"""Files whose customers all die alike, and the fuses that they trip."""

from __future__ import annotations

from consent.change import ConsentChange
from consent.guards.fuse import FuseRules, FuseState
from consent.ledger.ledger import Ledger
from consent.ledger.review.fuse_counts import FuseCounter
from consent.ledger.review.holds import Decision
from consent.outcome import Applied, Outcome, PermanentFailure
from tests.support.ledgers import BUCKET, change_of, imported, settlement

RULES = FuseRules(in_a_row=5, share_from=20, share=0.5)
WRONG_ACCOUNT = PermanentFailure("8011", "no such account", ours=True)
UNKNOWN = PermanentFailure("1012", "no such customer")
WHY = Decision("ann", "checked")


def people(first: int, count: int, action: str = "OPTOUT", minute: int = 0) -> list[ConsentChange]:
    """So many customers, each with one change."""
    return [change_of(str(number), action, minute) for number in range(first, first + count)]


def answer(ledger: Ledger, *outcomes: Outcome, token: str = "delivery", rules: FuseRules = RULES) -> list[str]:
    """Claim as many customers as there are answers and settle them all at once; return who was called."""
    tasks = ledger.queue.claim(BUCKET, len(outcomes), token, 60)
    settled = [settlement(task, outcome, ledger.now()) for task, outcome in zip(tasks, outcomes, strict=False)]
    ledger.queue.settle(token, settled, FuseCounter(BUCKET, rules))
    return [task.address["user_id"] for task in tasks]


def trip(ledger: Ledger, first: int = 1, count: int = 12) -> str:
    """A file of which five customers have drawn a failure of our request."""
    file = imported(ledger, *people(first, count))
    answer(ledger, *[WRONG_ACCOUNT] * 5)
    assert [one.state for one in ledger.fuses.tripped() if one.origin == file] == [FuseState.HELD]
    return file


def drain(ledger: Ledger, outcome: Outcome | None = None) -> list[str]:
    """Deliver all that may be."""
    called: list[str] = []
    while some := answer(ledger, *[outcome or Applied()] * 50):
        called += some
    return called
