"""Events as the tests of producers make them, and an intake that takes them into a real ledger."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from consent.change import Bucket
from consent.errors import LedgerRefused
from consent.ledger.ledger import Ledger
from consent.ledger.schema import changes, rejects
from producers.events import event_parser
from producers.events.event import Event, EventChange
from producers.events.ingest import EventIngest, Result
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import parse_context
from worker.providers import PROVIDERS

OPT_OUT = {"user_id": "387006417", "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT"}
MORNING = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)


def parsed(body: Any, **headers: str) -> list[EventChange | RowError]:
    """What an event says, given as JSON unless it is bytes already."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return event_parser.read(Event(body if isinstance(body, bytes) else json.dumps(body).encode(), named))


def codes(found: list[EventChange | RowError]) -> list[str]:
    """The code of each fault, and `said` for what could be read."""
    return [one.code if isinstance(one, RowError) else "said" for one in found]


class Taker:
    """An intake for Capillary's rows, and the buckets that it has woken."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.woken = ledger, []
        context = parse_context({"capillary": PROVIDERS["capillary"].row}, {}, None, None, UTC)
        self.intake = EventIngest(ledger.intake, context, "redis stream", "consent", self.wake)

    def wake(self, buckets: Iterable[Bucket]) -> None:
        """Note who is woken."""
        self.woken.extend(buckets)

    def take(self, *events: Any) -> list[list[Result]]:
        """Take events, given as such or as what they say."""
        return self.intake.take([one if isinstance(one, Event) else event(one) for one in events])

    def refused(self) -> list[tuple[str, str | None, str | None]]:
        """Code, field and place of each refused event in the ledger."""
        query = select(rejects.c.code, rejects.c.column_name, rejects.c.place).order_by(rejects.c.line)
        return [tuple(row) for row in self.ledger.database.read(lambda tx: tx.execute(query).all())]

    def times(self) -> list[datetime]:
        """Since when each recorded change holds."""
        query = select(changes.c.effective_at).order_by(changes.c.id)
        found = self.ledger.database.read(lambda tx: tx.execute(query).scalars().all())
        return [datetime.fromtimestamp(one / 1_000_000, UTC) for one in found]


def event(content: Any, **more: Any) -> Event:
    """An event that was published this morning."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return replace(Event(body, since=MORNING), **more)


class Refusing:
    """The intake of a real ledger whose database refuses what is said about some customers."""

    def __init__(self, ledger: Ledger, customers: set[str]) -> None:
        self._intake, self._customers = ledger.intake, customers
        self.calls: list[int] = []

    def __getattr__(self, name: str) -> Any:
        """Everything else is the ledger's own."""
        return getattr(self._intake, name)

    def accept_events(self, run: str, changes: Any, rejects: Any) -> Any:
        """Name the changes that are refused, or record all."""
        self.calls.append(len(changes))
        found = tuple(n for n, one in enumerate(changes) if one.address["user_id"] in self._customers)
        if found:
            error = LedgerRefused("no")
            error.members = found
            raise error
        return self._intake.accept_events(run, changes, rejects)

    def accept_runs(self, runs: Any) -> Any:
        """The same of several runs."""
        changes = [change for run in runs for change in run.changes]
        self.calls.append(len(changes))
        found = tuple(n for n, one in enumerate(changes) if one.address["user_id"] in self._customers)
        if found:
            error = LedgerRefused("no")
            error.members = found
            raise error
        return self._intake.accept_runs(runs)
