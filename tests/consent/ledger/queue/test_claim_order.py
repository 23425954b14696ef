"""Within a lane the customer whose opt-out is due first is called first, whenever it became due."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from consent.change import Action, ConsentChange
from consent.ledger.ledger import Ledger
from consent.ledger.schema import customer_tasks
from consent.outcome import Applied
from tests.support.ledgers import BUCKET, change_of, imported, settlement


def claimed(ledger: Ledger, count: int = 10) -> list[str]:
    """Claim, and return who is called, in order."""
    return [task.address["user_id"] for task in ledger.queue.claim(BUCKET, count, "token", 60)]


def new_change(ledger: Ledger, who: str, hours_ago: float, action: str = "OPTOUT") -> ConsentChange:
    """What a person said so long ago."""
    return replace(change_of(who, action), effective_at=round(ledger.now() - hours_ago * 3_600_000_000))


def test_the_earliest_deadline_goes_first(ledger: Ledger) -> None:
    """A file of today that holds what was said three days ago goes before the file of yesterday."""
    imported(ledger, new_change(ledger, "1", 1), new_change(ledger, "2", 2))
    imported(ledger, new_change(ledger, "3", 70), new_change(ledger, "4", 0.5))

    assert claimed(ledger) == ["3", "2", "1", "4"]


def test_an_opt_in_does_not_hide_when_the_opt_out_is_due(ledger: Ledger) -> None:
    """The customer stands where the opt-out stands; once that is settled, he stands in line for the opt-in."""
    imported(ledger, new_change(ledger, "1", 5), replace(new_change(ledger, "1", 900, "OPTIN"), slot="b"))
    deadlines = select(customer_tasks.c.deadline, customer_tasks.c.rule, customer_tasks.c.lane)
    [before] = ledger.database.read(lambda tx: tx.execute(deadlines).all())
    [task] = ledger.queue.claim(BUCKET, 1, "token", 60)
    done = settlement(task, Applied(), ledger.now(), 0)
    out = {one.id: Applied() for one in task.changes if one.action is Action.OPTOUT}
    ledger.queue.settle("token", [replace(done, outcomes=out)])
    [after] = ledger.database.read(lambda tx: tx.execute(deadlines).all())

    assert (before.rule, before.lane) == ("gmail-48h", 1)
    assert (after.rule, after.lane) == ("none", 3)
    assert after.deadline != before.deadline
