"""One member that the database refuses does not stop the others: it is found by halving, and named.

A batch is one transaction, so a text that an index cannot hold, or a character that the database does not know, takes
all of it back, each time that it is handed over. Nothing of this costs anything where nothing is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from consent.errors import LedgerRefused
from consent.ledger.database import Database

T = TypeVar("T")
Member = TypeVar("Member")


def write_or_name(
    database: Database,
    members: Sequence[Member],
    work: Callable[[Connection], T],
    attempt: Callable[[Connection, Sequence[Member]], object],
) -> T:
    """Run `work` in a writing transaction; raise LedgerRefused with the members that the database refuses, if any.

    `attempt` does to some of the members what `work` does to all; nothing of it is kept. Nothing was recorded when this
    raises, so that the caller can leave those members out and hand the others over again.
    """
    try:
        return database.write(work)
    except LedgerRefused as error:
        error.members = refused(database, members, attempt)
        raise


def refused(
    database: Database, members: Sequence[Member], attempt: Callable[[Connection, Sequence[Member]], object]
) -> tuple[int, ...]:
    """Return the places of the members that the database refuses even alone; it tries halves, and keeps nothing."""

    def is_refused(some: range) -> bool:
        def work(tx: Connection) -> None:
            attempt(tx, members[some.start : some.stop])
            raise _Undone

        try:
            database.write(work)
        except _Undone:
            return False
        except LedgerRefused:
            return True
        return False

    found: list[int] = []
    waiting = [range(len(members))]
    while waiting:
        some = waiting.pop()
        if not some or not is_refused(some):
            continue
        if len(some) == 1:
            found.extend(some)
            continue
        half = some.start + len(some) // 2
        waiting.extend((range(half, some.stop), range(some.start, half)))
    return tuple(found)


class _Undone(Exception):
    """Takes back what was only an attempt."""
