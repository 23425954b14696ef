"""How much of what stands in the ledger now, for graphs and alarms: each a count, without any person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, func, select, union_all

from consent.change import Bucket, Lane
from consent.guards.rules import without_addresses
from consent.ledger.database import LedgerPart
from consent.ledger.schema import changes, customer_tasks, dead_letters, imports, is_due, is_put_off, targets
from consent.outcome import State

T = TypeVar("T")

LOOK_SECONDS = 2.0
"""For how long the database may work at one of these questions."""


class GaugeQueries(LedgerPart):
    """Counts of what stands in the ledger. Each raises LedgerUnavailable, also if it takes LOOK_SECONDS."""

    def waiting(self) -> Mapping[tuple[Bucket, Lane], int]:
        """Return how many customers wait, whether due, put off or under lease, by bucket and lane."""
        found: Counter[tuple[Bucket, Lane]] = Counter()
        for key, count in self._by_lane(func.count()):
            found[key] += count
        return found

    def waiting_since(self) -> Mapping[tuple[Bucket, Lane], int]:
        """Return since when the one that waits longest has waited (microseconds), by bucket and lane.

        No index says it: all who wait are looked at.
        """
        found: dict[tuple[Bucket, Lane], int] = {}
        for key, since in self._by_lane(func.min(customer_tasks.c.enqueued_at)):
            found[key] = min(found.get(key, since), since)
        return found

    def _by_lane(self, *facts: ColumnElement[int]) -> Iterator[tuple[Any, ...]]:
        """Give facts about the tasks of each bucket and lane, of those that are due and of the others."""
        place = (customer_tasks.c.connection, customer_tasks.c.bucket, customer_tasks.c.lane)
        halves = [select(*place, *facts).where(half).group_by(*place) for half in (is_due, is_put_off)]
        for connection, bucket, lane, *values in self._look(lambda tx: tx.execute(union_all(*halves)).all()):
            yield (Bucket(connection, bucket), Lane(lane)), *values

    def dead_letters_by_code(self) -> Mapping[tuple[str, str], int]:
        """Return how many dead letters no person has decided upon, by connection and code."""
        what = (targets.c.connection, func.coalesce(changes.c.code, ""))
        query = (
            select(*what, func.count())
            .select_from(dead_letters)
            .join(changes, changes.c.id == dead_letters.c.change_id)
            .join(targets, targets.c.id == changes.c.target_id)
            .where(changes.c.state == State.DEAD.value, changes.c.discarded_at.is_(None))
            .group_by(*what)
        )
        return {(connection, code): n for connection, code, n in self._look(lambda tx: tx.execute(query).all())}

    def imports_held(self) -> int:
        """Return how many imports wait for a person; one that was approved in part is not counted."""
        query = select(func.count()).where(imports.c.state == "held")
        return self._look(lambda tx: tx.execute(query).scalar_one())

    def held_ids(self, limit: int = 200) -> list[str]:
        """Return the imports that wait for a person as a whole, oldest first, without looking at their changes."""
        query = select(imports.c.id).where(imports.c.state == "held").order_by(imports.c.started_at).limit(limit)
        return list(self._look(lambda tx: tx.execute(query).scalars().all()))

    def last_published(self) -> Mapping[str, int]:
        """Return when the latest file of each feed was published (microseconds); imports of before name addresses."""
        query = select(imports.c.feed, func.max(imports.c.released_at)).where(
            imports.c.feed.is_not(None), imports.c.state == "released"
        )
        rows = self._look(lambda tx: tx.execute(query.group_by(imports.c.feed)).all())
        latest: dict[str, int] = {}
        for feed, moment in rows:
            label = without_addresses(feed)
            latest[label] = max(moment or 0, latest.get(label, 0))
        return {label: moment for label, moment in latest.items() if moment}

    def rows_read(self) -> Mapping[str, int]:
        """Return what all imports counted: rows accepted, rejected, duplicates and skipped."""
        names = {"accepted": "recorded", "rejected": "rejected", "duplicates": "duplicates", "skipped": "skipped"}
        query = select(*(func.coalesce(func.sum(imports.c[column]), 0) for column in names.values()))
        found = self._look(lambda tx: tx.execute(query).one())
        return Counter({name: int(count) for name, count in zip(names, found, strict=True)})

    def _look(self, work: Callable[[Connection], T]) -> T:
        return self.database.read(work, within=LOOK_SECONDS)
