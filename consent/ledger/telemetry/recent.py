"""What was settled in each quarter of an hour of the last two days, and how many customers waited at its end.

Outcomes are added up with the other counters, by the moment that the outcome log holds: exactly once, however late.
How many wait is looked at when counters are added up, which the sweep does each minute; the last look stands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from sqlalchemy import Connection, delete, func, select

from consent.deadlines.forecast import QUARTER
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.locks import lock_tallies
from consent.ledger.dialects.statements import bulk
from consent.ledger.queue.deadlines import deadline_cells
from consent.ledger.telemetry.tallies import SETTLED_THEN, WAITED_THEN, tallies

KEPT = 4 * 48
"""Quarters of an hour that are kept."""


@dataclass(slots=True)
class QuarterHour:
    """One quarter of an hour: its beginning (microseconds), changes by outcome, and customers that waited at its end.

    `waiting` is None where no process looked.
    """

    at: int
    outcomes: dict[str, int] = field(default_factory=dict)
    waiting: int | None = None


class RecentQuarters(LedgerPart):
    """The last hours. Each method raises LedgerUnavailable."""

    def note_waiting(self) -> None:
        """Note how many customers wait now, and forget what is too old."""
        quarter = self.core.now() // QUARTER

        def work(tx: Connection) -> None:
            lock_tallies(tx)
            count = tx.execute(select(func.coalesce(func.sum(deadline_cells.c.targets), 0))).scalar_one()
            row = (WAITED_THEN, _label(quarter), int(count))
            renew = "ON CONFLICT (name, labels) DO UPDATE SET value = excluded.value"
            bulk(tx).insert(tallies, ("name", "labels", "value"), [row], renew)
            old = [
                one
                for one in tx.execute(select(tallies.c.labels).where(_MINE)).scalars()
                if _quarter(one) < quarter - KEPT
            ]
            if old:
                tx.execute(delete(tallies).where(_MINE, tallies.c.labels.in_(old)))

        self.database.write(work)

    def last_hours(self, hours: int = 6) -> list[QuarterHour]:
        """Return each quarter of an hour of the last ones, this one included, the oldest first."""
        last = self.core.now() // QUARTER
        first = last - 4 * hours + 1
        query = select(tallies.c.name, tallies.c.labels, tallies.c.value).where(_MINE)
        waited: dict[int, int] = {}
        settled: Mapping[int, dict[str, int]] = defaultdict(dict)
        for name, labels, value in self.database.read(lambda tx: tx.execute(query).all()):
            quarter, *outcome = orjson.loads(labels)
            if name == WAITED_THEN:
                waited[int(quarter)] = value
            else:
                settled[int(quarter)][outcome[0]] = value
        return [QuarterHour(one * QUARTER, settled.get(one, {}), waited.get(one)) for one in range(first, last + 1)]


_MINE = tallies.c.name.in_((SETTLED_THEN, WAITED_THEN))


def _quarter(labels: str) -> int:
    return int(orjson.loads(labels)[0])


def _label(quarter: int) -> str:
    return orjson.dumps([str(quarter)]).decode()
