"""What became of changes since a reader looked last: a page of the outcome log, and the cursor behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import orjson
from sqlalchemy import Connection, func, select

from consent.errors import UnusableCursor
from consent.ledger.database import LedgerPart
from consent.ledger.queries.changes import ChangeReport, reports_by_number
from consent.ledger.queue.outcome_log import outcome_log, stamp
from consent.outcome import State

MOST_OUTCOMES = 10_000
"""Outcomes in one page, at most."""

_CURSOR = re.compile(r"([0-9]{1,18})\.([0-9]{1,6})")
_ROWS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """A change as it was when it came into a state, `at` that moment (microseconds).

    `change` has that state with its code and reason; its number of attempts and whether it was discarded are today's.
    """

    at: int
    change: ChangeReport


@dataclass(frozen=True, slots=True)
class OutcomePage:
    """Some outcomes, the cursor behind the last of them, and whether there are more already."""

    outcomes: Sequence[Outcome]
    cursor: str
    more: bool


class OutcomeQueries(LedgerPart):
    """What became of changes, in the order in which it became visible."""

    def outcomes_after(self, cursor: str | None, limit: int) -> OutcomePage:
        """Return the next outcomes behind a cursor (None: the oldest that are kept), in the order of their visibility.

        Each outcome of each change stands behind every cursor that was given before it became visible, so none is
        missed, whatever commits late. Of one change they stand in the order in which they came. Raises UnusableCursor
        if it is no cursor of this ledger, or what stood behind it is not kept any more; and LedgerUnavailable.
        """
        place = None if cursor is None else _parse(cursor)
        stamp(self.database)
        return self.database.read(lambda tx: _page(tx, place, limit), by_key=True)


def _parse(cursor: str) -> tuple[int, int]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise UnusableCursor("this is no cursor: give the one that the last page ended with, or none to begin")
    return int(found[1]), int(found[2])


def _page(tx: Connection, place: tuple[int, int] | None, limit: int) -> OutcomePage:
    ends = select(func.min(outcome_log.c.position), func.max(outcome_log.c.position))
    first, last = tx.execute(ends).one()
    position, given = place or (first or 1, 0)
    _check(position, first or 1, (last or 0) + 1)
    entries: list[tuple[int, _LogRow]] = []
    more = False
    for row in _rows_from(tx, position):
        ids = orjson.loads(row.change_ids)
        start = given if row.position == position else 0
        some = ids[start : start + limit - len(entries)]
        entries += [(number, row) for number in some]
        position, given = (row.position, start + len(some)) if start + len(some) < len(ids) else (row.position + 1, 0)
        if len(entries) >= limit:
            more = position <= last
            break
    found = reports_by_number(tx, list({number for number, _ in entries}))
    outcomes = [_outcome(found[number], row) for number, row in entries if number in found]
    return OutcomePage(outcomes, f"{position}.{given}", more)


def _check(position: int, first: int, end: int) -> None:
    if position > end:
        raise UnusableCursor(
            "this cursor is ahead of the ledger, which was restored from a backup or is another one: begin without a "
            "cursor, and take what comes for what holds",
            gone=True,
        )
    if position < first:
        raise UnusableCursor(
            "what stood behind this cursor is not kept any more (OPTRELAY_KEEP_OUTCOMES): begin without a cursor; "
            "`optrelay history` and GET /v1/changes/ID tell what you have missed",
            gone=True,
        )


def _rows_from(tx: Connection, position: int) -> Iterator[_LogRow]:
    facts = (outcome_log.c[name] for name in ("position", "at", "state", "code", "reason", "change_ids"))
    query = select(*facts).order_by(outcome_log.c.position).limit(_ROWS_AT_ONCE)
    while rows := tx.execute(query.where(outcome_log.c.position >= position)).all():
        yield from (_LogRow(*row) for row in rows)
        position = rows[-1].position + 1


@dataclass(frozen=True, slots=True)
class _LogRow:
    position: int
    at: int
    state: str
    code: str | None
    reason: str | None
    change_ids: str


def _outcome(now: ChangeReport, row: _LogRow) -> Outcome:
    then = replace(
        now,
        state=State(row.state),
        code=row.code,
        reason=row.reason,
        settled_at=None if row.state == State.PENDING.value else row.at,
        superseded_by=now.superseded_by if row.state == State.SUPERSEDED.value else None,
    )
    return Outcome(row.at, then)
