"""The words that are still to be delivered: of each slot the newest one, if it is pending."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, any_, func, select

from consent.ledger.bulk import among
from consent.ledger.schema import changes, slots
from consent.outcome import State


def newest_pending(tx: Connection, numbers: Sequence[int], columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
    """Return a query for columns of the changes that are to be delivered to these targets."""
    newest = select(slots.c.newest_id).where(among(tx, slots.c.target_id, numbers))
    if tx.dialect.name == "postgresql":
        # An array is computed once, before anything else: as a join, the planner may begin with all changes that wait.
        among_these = changes.c.id == any_(func.array(newest.scalar_subquery()))
    else:
        among_these = changes.c.id.in_(newest)
    return select(*columns).where(among_these, changes.c.state == State.PENDING.value)
