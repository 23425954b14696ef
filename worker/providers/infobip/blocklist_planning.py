"""From people to as few blocklist calls as there can be, at one call a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from consent.change import Action
from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from worker.providers.contract import Calls, Request
from worker.providers.infobip.blocklist_calls import Item, Search, block, entry_of, lookup
from worker.providers.infobip.sharing import companies

LOOKUPS = 5
"""People who are looked up in one delivery, before one DELETE for all of them.

A row of lookups has to end within the delivery's lease, even where several deliveries share one call a second; and an
opt-out that comes meanwhile should not wait for long. The others are given back and come next.
"""


def series_of_people(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> list[tuple[Request, ...]]:
    """Return a call for each batch of opt-outs, and the first of a row of lookups for opt-ins.

    An opt-in needs a lookup, because only an entry's exact properties remove it. With `verify` an opt-out that was
    sent before is looked up as well, and sent again only if its entry is not there. Of a person who said both, the
    opt-outs go now, and the opt-ins are given back.
    """
    fresh, sought = _sorted(tasks, connection)
    rows = islice(companies(sought, LOOKUPS, _attempts), 1)
    return [
        *((block(batch),) for batch in _batches(fresh, connection)),
        *((lookup(Search(row), connection),) for row in rows),
    ]


def calls_for_people(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Calls:
    """Foretell how many calls people need: one for each batch of opt-outs; for opt-ins a look each, then a removal.

    With `verify` each of them is looked up afterwards, too.
    """
    fresh, sought = _sorted(tasks, connection)
    batches = sum(1 for _ in _batches(fresh, connection))
    looked = [*sought, *(task for task in fresh if len(_opt_outs(task)) < len(task.changes))]
    rows = sum(1 for _ in companies(looked, LOOKUPS, _attempts))
    least = batches + len(looked) + (len(fresh) if connection.verify else 0)
    return Calls(least, least + rows + (len(looked) if connection.verify else 0))


def _sorted(
    tasks: Sequence[CustomerTask], connection: ConnectionSettings
) -> tuple[list[CustomerTask], list[CustomerTask]]:
    """Return those who have opt-outs to send, and those who have to be looked up."""
    fresh: list[CustomerTask] = []
    sought: list[CustomerTask] = []
    for task in tasks:
        if task.changes:
            sent = connection.verify and task.tries > 0
            (fresh if _opt_outs(task) and not sent else sought).append(task)
    return fresh, sought


def _batches(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Iterator[list[Item]]:
    """Give the entries of opt-outs in batches, all of one person in the same one."""
    for company in companies(tasks, connection.blocklist_batch, _attempts):
        batch: list[Item] = []
        for task in company:
            entries = [entry_of(task, change, connection) for change in _opt_outs(task)]
            if batch and len(batch) + len(entries) > connection.blocklist_batch:
                yield batch
                batch = []
            batch += entries
        yield batch


def _opt_outs(task: CustomerTask) -> list[ClaimedChange]:
    return [change for change in task.changes if change.action is Action.OPTOUT]


def _attempts(task: CustomerTask) -> int:
    return max(change.attempts for change in task.changes)
