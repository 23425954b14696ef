"""From people to as few blocklist calls as there can be, at one call a second."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from consent.change import Action
from consent.ledger.work import CustomerTask
from consent.settings import ConnectionSettings
from worker.providers.contract import Calls, Request
from worker.providers.infobip.blocklist_calls import Search, block, lookup
from worker.providers.infobip.sharing import companies

LOOKUPS = 5
"""People who are looked up in one stroke, before one DELETE for all of them.

A row of lookups has to end within the stroke's lease, even where several strokes share one call a second; and an
opt-out that comes meanwhile should not wait for long. The others are given back and come next.
"""


def series_of_people(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> list[tuple[Request, ...]]:
    """Return a call for each batch of opt-outs, and the first of a row of lookups for opt-ins.

    An opt-in needs a lookup, because only an entry's exact properties remove it. With `verify` an opt-out that was
    sent before is looked up as well, and sent again only if its entry is not there.
    """
    with_changes = [task for task in tasks if task.changes]
    fresh = [task for task in with_changes if not _is_sought(task, connection)]
    sought = [task for task in with_changes if _is_sought(task, connection)]
    batches = companies(fresh, connection.blocklist_batch, _attempts)
    rows = islice(companies(sought, LOOKUPS, _attempts), 1)
    return [*((block(batch, connection),) for batch in batches), *((lookup(Search(row), connection),) for row in rows)]


def calls_for_people(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Calls:
    """Foretell how many calls people need: one for each batch of opt-outs; for opt-ins a look each, then a removal.

    With `verify` each of them is looked up afterwards, too.
    """
    with_changes = [task for task in tasks if task.changes]
    fresh = [task for task in with_changes if not _is_sought(task, connection)]
    sought = [task for task in with_changes if _is_sought(task, connection)]
    batches = sum(1 for _ in companies(fresh, connection.blocklist_batch, _attempts))
    rows = sum(1 for _ in companies(sought, LOOKUPS, _attempts))
    least = batches + len(sought) + (len(fresh) if connection.verify else 0)
    return Calls(least, least + rows + (len(sought) if connection.verify else 0))


def _is_sought(task: CustomerTask, connection: ConnectionSettings) -> bool:
    return task.changes[0].action is Action.OPTIN or (connection.verify and task.tries > 0)


def _attempts(task: CustomerTask) -> int:
    return max(change.attempts for change in task.changes)
