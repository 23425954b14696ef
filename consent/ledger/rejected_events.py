"""What refused events said: kept for a set time, listed, closed once they were sent again or put away, and purged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, delete, func, select, update

from consent.imports import MOST_KEPT, EventContent, RejectedRow
from consent.ledger.database import Database, LedgerPart
from consent.ledger.dialects.statements import among, bulk, plain_numbers, portions
from consent.ledger.personal_data import rejected_events
from consent.ledger.schema import imports
from consent.times import from_micros, to_micros

_AT_ONCE = 1_000
"""Rejected events that are read, or purged, at a time: little memory, and short transactions."""


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """A refused change of an event: why, where it came from, and what became of it. Moments are in microseconds.

    `kind` and `source` name the run that it came in; `size` is in bytes, `is_cut` says that only its beginning is kept.
    """

    id: int
    kind: str
    source: str
    import_id: str
    line: int
    place: str | None
    code: str
    message: str
    column: str | None
    size: int
    is_cut: bool
    rejected_at: int
    closed_at: int | None
    closed_as: str | None
    closed_by: str | None
    closed_why: str | None


@dataclass(frozen=True, slots=True)
class RejectedFilter:
    """Which rejected events are meant: all of these together. `source` is a part of the source's kind or name.

    `place` is a part of the place in the source, and `line` the number in the import.
    Without `ids` (None) an event of any id is meant; an empty list of ids means none.
    """

    ids: Sequence[int] | None = None
    source: str | None = None
    code: str | None = None
    import_id: str | None = None
    before: int | None = None
    after: int | None = None
    closed: bool = False
    place: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Closing:
    """How rejected events are closed, by who and why."""

    how: Literal["resent", "discarded"]
    who: str
    why: str = ""


def keep(
    tx: Connection, run_id: str, refused: Sequence[RejectedRow], dedupe_keys: Sequence[bytes | None], now: int
) -> None:
    """Keep what refused events said, each place in a source once; `dedupe_keys` are those of the places."""
    insert = bulk(tx).upsert(rejected_events)
    for reject, key in zip(refused, dedupe_keys, strict=True):
        if reject.content is not None:
            row = _row(run_id, reject, reject.content) | {"dedupe_key": key, "rejected_at": now}
            tx.execute(insert.on_conflict_do_nothing(), row)


class RejectedEvents(LedgerPart):
    """What refused events said."""

    def find(self, which: RejectedFilter, limit: int | None = None) -> list[RejectedEvent]:
        """Return the rejected events that a filter means, oldest first, without what they said."""

        def work(tx: Connection) -> list[RejectedEvent]:
            query = _of_these(_query(which), which)
            return [RejectedEvent(*row) for row in tx.execute(query.limit(limit))]

        return self.database.read(work)

    def search(self, which: RejectedFilter, *, by_source: bool = False) -> FoundEvents:
        """Return the rejected events that a filter means, to be counted and gone through however many they are."""
        return FoundEvents(self.database, which, by_source=by_source)

    def content_of(self, id_: int) -> EventContent:
        """Return what one rejected event said."""
        c = rejected_events.c
        query = select(c.body, c.size, c.envelope, c.published_at, c.position).where(c.id == id_)
        row = self.database.read(lambda tx: tx.execute(query).one())
        published_at = None if row.published_at is None else from_micros(row.published_at)
        envelope = json.loads(row.envelope)
        facts = (envelope["headers"], published_at, envelope["key"], row.position)
        return EventContent(
            bytes(row.body), row.size, *facts, envelope.get("own_time", False), envelope.get("sender", "")
        )

    def close(self, ids: Sequence[int], closing: Closing) -> int:
        """Note that these need no one's attention any more; return how many were open."""
        values = {
            "closed_at": self.core.now(),
            "closed_as": closing.how,
            "closed_by": closing.who,
            "closed_why": closing.why,
        }

        def work(tx: Connection) -> int:
            open_ones = (among(rejected_events.c.id, ids), rejected_events.c.closed_at.is_(None))
            return tx.execute(update(rejected_events).where(*open_ones).values(values)).rowcount

        return self.database.write(work)

    def purge(self, before: int) -> int:
        """Remove what was rejected before a moment, closed or not; return how many that were.

        That they were rejected, where and why stays in `rejects`, where no one is quoted.
        """
        old = select(rejected_events.c.id).where(rejected_events.c.rejected_at < before).limit(_AT_ONCE)
        some = delete(rejected_events).where(rejected_events.c.id.in_(old))
        purged = 0
        while self.database.read(lambda tx: tx.execute(old.limit(1)).all()):  # who only looks is in no one's way
            purged += self.database.write(lambda tx: tx.execute(some).rowcount)
        return purged


class FoundEvents:
    """The rejected events that a filter means: their ids, and they themselves a thousand at a time.

    They come oldest first or, with `by_source`, those of one source together and the oldest first there. An event that
    has been closed meanwhile is left out when they are gone through.
    """

    def __init__(self, database: Database, which: RejectedFilter, *, by_source: bool = False) -> None:
        """Find them; raises LedgerUnavailable."""
        c = rejected_events.c
        order = (imports.c.kind, imports.c.name, c.id) if by_source else (c.id,)
        self._database, self._query = database, _query(which).order_by(None).order_by(*order)

        def work(tx: Connection) -> Sequence[int]:
            return plain_numbers(tx.execute(_of_these(self._query.with_only_columns(c.id), which)))

        self.ids: Sequence[int] = database.read(work)

    def __len__(self) -> int:
        """How many were found."""
        return len(self.ids)

    def __iter__(self) -> Iterator[RejectedEvent]:
        """Read them; raises LedgerUnavailable."""
        return self.first(len(self.ids))

    def first(self, count: int) -> Iterator[RejectedEvent]:
        """Read so many of them."""
        for some in portions(self.ids[:count], _AT_ONCE):
            for row in self._rows(some, self._query):
                yield RejectedEvent(*row)

    def groups(self) -> Counter[tuple[str, str, str, str]]:
        """Count them by the source's kind and name, code and message."""
        groups: Counter[tuple[str, str, str, str]] = Counter()
        what = (imports.c.kind, imports.c.name, rejected_events.c.code, rejected_events.c.message)
        query = self._query.with_only_columns(*what, func.count()).order_by(None).group_by(*what)
        for some in portions(self.ids):
            for kind, source, code, message, count in self._rows(some, query):
                groups[kind, source, code, message] += count
        return groups

    def _rows(self, some: Sequence[int], query: Select[Any]) -> list[Any]:
        def work(tx: Connection) -> list[Any]:
            return list(tx.execute(query.where(among(rejected_events.c.id, some))))

        return self._database.read(work)


def _row(run_id: str, reject: RejectedRow, content: EventContent) -> dict[str, Any]:
    return {
        "import_id": run_id,
        "line": reject.line,
        "place": reject.place,
        "code": reject.code,
        "message": reject.message,
        "column_name": reject.column,
        "published_at": None if content.published_at is None else to_micros(content.published_at),
        "position": content.position,
        "envelope": json.dumps(_envelope(content)),  # ASCII, whatever stands in it
        "body": content.body[:MOST_KEPT],
        "size": content.size,
    }


def _envelope(content: EventContent) -> dict[str, Any]:
    whose = {"own_time": content.is_own_time, "sender": content.sender}
    return {"headers": dict(content.headers), "key": content.key} | whose


def _query(which: RejectedFilter) -> Select[Any]:
    c = rejected_events.c
    query = select(
        *(c.id, imports.c.kind, imports.c.name, c.import_id, c.line, c.place, c.code, c.message, c.column_name),
        *(c.size, c.size > MOST_KEPT, c.rejected_at, c.closed_at, c.closed_as, c.closed_by, c.closed_why),
    ).join_from(rejected_events, imports, imports.c.id == c.import_id)
    return query.where(*_conditions(which)).order_by(c.id)


def _of_these(query: Select[Any], which: RejectedFilter) -> Select[Any]:
    return query if which.ids is None else query.where(among(rejected_events.c.id, which.ids))


def _conditions(which: RejectedFilter) -> list[ColumnElement[bool]]:
    c = rejected_events.c
    source = imports.c.kind + " " + imports.c.name
    filters: list[tuple[object, ColumnElement[bool]]] = [
        (which.source, source.contains(which.source or "", autoescape=True)),
        (which.code, c.code == which.code),
        (which.import_id, c.import_id == which.import_id),
        (which.place, c.place.icontains(which.place or "", autoescape=True)),
        (which.line is not None, c.line == which.line),
        (which.before, c.rejected_at < (which.before or 0)),
        (which.after, c.rejected_at >= (which.after or 0)),
        (not which.closed, c.closed_at.is_(None)),
    ]
    return [condition for is_given, condition in filters if is_given]
