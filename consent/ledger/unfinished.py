"""Which imports are not over yet."""

from __future__ import annotations

from sqlalchemy import and_, or_, select

from consent.ledger.database import Database
from consent.ledger.schema import changes, customer_tasks, imports, slots
from consent.outcome import State


def unfinished_imports(database: Database) -> list[str]:
    """Return the imports that still have something to deliver, oldest first.

    Of an import that has not been read whole these are only such as are told as they are read: event sources, streams.
    """
    # By way of the customer tasks: of the changes of an import that is over, none needs to be looked at.
    newest = select(slots.c.newest_id).where(slots.c.target_id.in_(select(customer_tasks.c.target_id)))
    waiting = select(changes.c.import_id).where(changes.c.id.in_(newest), changes.c.state == State.PENDING.value)
    told = or_(imports.c.state == "released", and_(imports.c.state == "reading", imports.c.stream == 1))
    query = select(imports.c.id).where(or_(imports.c.state.in_(("read", "folded")), told & imports.c.id.in_(waiting)))
    ordered = query.order_by(imports.c.started_at, imports.c.id)
    return list(database.read(lambda tx: tx.execute(ordered).scalars().all()))


def imports_named(database: Database, beginning: str, limit: int) -> list[str]:
    """Return the imports whose id begins like this, newest first."""
    query = select(imports.c.id).where(imports.c.id.startswith(beginning, autoescape=True))
    ordered = query.order_by(imports.c.started_at.desc(), imports.c.id).limit(limit)
    return list(database.read(lambda tx: tx.execute(ordered).scalars().all()))
