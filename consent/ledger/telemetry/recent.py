"""The last hours: what was settled in each quarter of one, how many waited, and until when event sources were read.

Outcomes are added up with the other counters, by the moment that the outcome log holds: exactly once, however late.
How many wait is looked at when counters are added up, which the sweep does each minute; the last look stands.

A listener writes down until when it has read its source: the moment at which the newest event that it has recorded was
published, or at which it found nothing more. The lag is the time since. So it is the age of what waits if a listener
cannot keep up, and the time since it stopped if it was killed or cannot reach the source.
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
from consent.ledger.telemetry.tallies import READ_TO, SETTLED_THEN, WAITED_THEN, tallies

KEPT = 4 * 48
"""Quarters of an hour that are kept."""

MOST_SOURCES = 200
"""Sources that are told apart; of more, those that were read last."""

FORGOTTEN_MICROS = 7 * 86_400_000_000
"""After so long a source that no listener reads is taken for one that was given up on purpose."""


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


class EventSources(LedgerPart):
    """How far sources have been read. Each method raises LedgerUnavailable."""

    def note_read(self, source: str, until: int) -> None:
        """Note that a source has been read up to a moment (microseconds); an earlier one than is known changes nothing.

        Several listeners may read one source: the one that has come farthest counts.
        """
        now = self.core.now()
        row = (READ_TO, orjson.dumps([source]).decode(), min(until, now))  # the publisher's clock may be ahead

        def work(tx: Connection) -> None:
            renew = (
                "ON CONFLICT (name, labels) DO UPDATE SET value = excluded.value WHERE excluded.value > tallies.value"
            )
            bulk(tx).insert(tallies, ("name", "labels", "value"), [row], renew)
            tx.execute(delete(tallies).where(_READ, tallies.c.value < now - FORGOTTEN_MICROS))

        self.database.write(work)

    def lag_seconds(self) -> Mapping[str, float]:
        """Return for each source how long ago it had been read to its end, as far as is known."""
        now = self.core.now()
        recent = select(tallies.c.labels, tallies.c.value).where(_READ, tallies.c.value >= now - FORGOTTEN_MICROS)
        query = recent.order_by(tallies.c.value.desc()).limit(MOST_SOURCES)
        rows = self.database.read(lambda tx: tx.execute(query).all())
        return {orjson.loads(labels)[0]: max(0, now - until) / 1e6 for labels, until in rows}


_READ = tallies.c.name == READ_TO
_MINE = tallies.c.name.in_((SETTLED_THEN, WAITED_THEN))


def _quarter(labels: str) -> int:
    return int(orjson.loads(labels)[0])


def _label(quarter: int) -> str:
    return orjson.dumps([str(quarter)]).decode()
