"""Making customer tasks: this target has changes to deliver, this urgent, before then."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Executable, case, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from consent.change import Action, Origin, lane_of
from consent.ledger.bulk import portions, run_many
from consent.ledger.register import NewWord
from consent.ledger.schema import customer_tasks, targets

HONOUR_WITHIN_SECONDS = 48 * 3600
"""Until when a change should be delivered: bulk senders must honour an unsubscribe within 48 hours.

Source: Google's and Yahoo's sender guidelines of 2024 (laws give more: CAN-SPAM ten business days).
"""


def make_due(tx: Connection, words: Iterable[NewWord], *, now: int) -> None:
    """Make, or make more urgent, the customer tasks of these standing words: due at once unless under lease."""
    urgent: dict[bytes, int] = {}
    for word in words:
        lane = int(lane_of(Action(word.action), Origin(word.origin)))
        urgent[word.target_key] = min(lane, urgent.get(word.target_key, lane))
    keys = sorted(urgent)
    connections = _connections(tx, keys)
    deadline = now + HONOUR_WITHIN_SECONDS * 1_000_000
    rows = [
        {
            "target_key": key,
            "connection": connections[key],
            "lane": urgent[key],
            "deadline": deadline,
            "waiting": 1,
            "next_at": now,
        }
        for key in keys
    ]
    run_many(tx, _UPSERTS[tx.dialect.name], rows)


def _connections(tx: Connection, keys: list[bytes]) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for some in portions(keys):
        query = select(targets.c.target_key, targets.c.connection).where(targets.c.target_key.in_(some))
        found.update((row.target_key, row.connection) for row in tx.execute(query))
    return found


def _upsert(dialect: str) -> Executable:
    insert = (postgresql_insert if dialect == "postgresql" else sqlite_insert)(customer_tasks)
    old, new = customer_tasks.c, insert.excluded
    free = old.lease_token.is_(None)
    return insert.on_conflict_do_update(
        index_elements=["target_key"],
        set_={
            "lane": case((new.lane < old.lane, new.lane), else_=old.lane),
            "deadline": case((new.deadline < old.deadline, new.deadline), else_=old.deadline),
            "waiting": case((free, 1), else_=old.waiting),
            "next_at": case((free, new.next_at), else_=old.next_at),
        },
    )


_UPSERTS = {name: _upsert(name) for name in ("postgresql", "sqlite")}
