"""Long lists, a page at a time: imports, their rejects, dead letters, the audit log.

A page begins behind the last row of the one before it (a keyset), so the thousandth costs what the first does. Nothing
is counted that an index or a stored count does not tell, but the groups of dead letters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import bulk, first_change
from consent.ledger.review.guard_checks import PARTLY_HELD
from consent.ledger.schema import audit_log, changes, dead_letters, imports, rejects, targets
from consent.outcome import State

PAGE = 50
"""Rows of one page."""

_IS_HELD = changes.c.state == State.HELD.value


@dataclass(frozen=True, slots=True)
class ImportLine:
    """One import as a list shows it: what its own row tells. Moments are in microseconds.

    `checked_at` and `undone_at` are None for what has not happened. `findings` is what the guards said. `is_held` says
    that a person has to decide about all of it or a part, `is_open` that more may come, and what has come is due.
    """

    import_id: str
    name: str
    kind: str
    state: str
    rows: int
    accepted: int
    rejected: int
    duplicates: int
    started_at: int
    checked_at: int | None
    undone_at: int | None
    findings: Sequence[Mapping[str, Any]] = ()
    is_held: bool = False
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class RejectLine:
    """One rejected row: where it stands and why it was rejected, never what it says."""

    line: int
    column: str | None
    code: str
    message: str
    place: str | None


@dataclass(frozen=True, slots=True)
class AuditLine:
    """Who did what, when (microseconds) and why, to an import or to a change (by its number in the ledger)."""

    id: int
    at: int
    who: str
    what: str
    why: str
    change_id: int
    import_id: str | None


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """Dead letters of one connection, code and reason."""

    connection: str
    code: str
    reason: str
    count: int


class PageQueries(LedgerPart):
    """Lists a page at a time; all raise LedgerUnavailable."""

    def imports_page(self, before: str | None = None, limit: int = PAGE) -> list[ImportLine]:
        """Return the newest imports, newest first; with `before` those that began before that import."""
        query = select(imports).order_by(imports.c.started_at.desc(), imports.c.id.desc()).limit(limit)
        if before is not None:
            began = select(imports.c.started_at).where(imports.c.id == before).scalar_subquery()
            same = and_(imports.c.started_at == began, imports.c.id < before)
            query = query.where(or_(imports.c.started_at < began, same))

        def work(tx: Connection) -> list[ImportLine]:
            rows = tx.execute(query).all()
            halves = PARTLY_HELD.where(audit_log.c.import_id.in_([row.id for row in rows]))
            held = {one for one in tx.execute(halves).scalars() if first_change(tx, str(one), 0, _IS_HELD) is not None}
            return [_line(row, is_held=row.id in held) for row in rows]

        return self.database.read(work)

    def held_lines(self, limit: int = PAGE) -> list[ImportLine]:
        """Return the imports of which something waits for a person, the oldest first."""
        query = select(imports).where((imports.c.state == "held") | imports.c.id.in_(PARTLY_HELD))
        query = query.order_by(imports.c.started_at, imports.c.id)

        def work(tx: Connection) -> list[ImportLine]:
            rows = (
                row
                for row in tx.execute(query).all()
                if row.state == "held" or first_change(tx, row.id, 0, _IS_HELD) is not None
            )
            return [_line(row, is_held=True) for row in islice(rows, limit)]

        return self.database.read(work)

    def rejects_page(self, import_id: str, after: int = -1, limit: int | None = PAGE) -> list[RejectLine]:
        """Return the rejected rows of an import behind a line, in their order; without a limit all of them."""
        c = rejects.c
        query = select(c.line, c.column_name, c.code, c.message, c.place).where(
            c.import_id == import_id, c.line > after
        )
        rows = self.database.read(lambda tx: tx.execute(query.order_by(c.line).limit(limit)).all())
        return [RejectLine(*row) for row in rows]

    def letters_page(
        self, connection: str = "", code: str = "", import_id: str = "", before: int | None = None, limit: int = PAGE
    ) -> list[int]:
        """Return the numbers of dead letters that have not been discarded, the latest changes first."""
        filters: list[tuple[object, ColumnElement[bool]]] = [
            (before is not None, dead_letters.c.change_id < (before or 0)),
            (connection, func.coalesce(targets.c.connection, "") == connection),
            (code, func.coalesce(changes.c.code, "") == code),
            (import_id, func.coalesce(changes.c.import_id, "") == import_id),
        ]
        which = (condition for wanted, condition in filters if wanted)
        query = select(dead_letters.c.change_id).select_from(_LETTERS).where(*_OPEN, *which)
        ordered = query.order_by(dead_letters.c.change_id.desc()).limit(limit)
        return list(self.database.read(lambda tx: tx.execute(ordered).scalars().all(), by_key=True))

    def letter_groups(self) -> list[LetterGroup]:
        """Count the dead letters that have not been discarded by connection, code and reason, most first."""
        what = [func.coalesce(one, "") for one in (targets.c.connection, changes.c.code, changes.c.reason)]
        query = select(*what, func.count()).join_from(changes, targets, targets.c.id == changes.c.target_id)
        query = query.where(changes.c.state == State.DEAD.value, changes.c.discarded_at.is_(None)).group_by(*what)

        def work(tx: Connection) -> Sequence[Any]:
            letters = bulk(tx).among_found(changes.c.id, select(dead_letters.c.change_id))
            return tx.execute(query.where(letters)).all()

        rows = self.database.read(work, by_key=True)
        return sorted((LetterGroup(*row) for row in rows), key=lambda one: (-one.count, one.connection, one.code))

    def audit_page(self, before: int | None = None, limit: int = PAGE, import_id: str | None = None) -> list[AuditLine]:
        """Return what people did, the latest first, to anything or to one import."""
        c = audit_log.c
        query = select(c.id, c.at, c.who, c.what, c.why, c.change_id, c.import_id).order_by(c.id.desc()).limit(limit)
        query = query if before is None else query.where(c.id < before)
        query = query if import_id is None else query.where(c.import_id == import_id)
        return [AuditLine(*row) for row in self.database.read(lambda tx: tx.execute(query).all())]


_LETTERS = dead_letters.outerjoin(changes, changes.c.id == dead_letters.c.change_id).outerjoin(
    targets, targets.c.id == changes.c.target_id
)
"""Every dead letter with its change and target. Outer joins, with conditions that take a missing row, are gone through
in this order: of an inner join SQLite makes a walk through all changes."""

_OPEN = (func.coalesce(changes.c.state, "") == State.DEAD.value, changes.c.discarded_at.is_(None))


def _line(row: Row[Any], *, is_held: bool = False) -> ImportLine:
    return ImportLine(
        import_id=row.id,
        name=row.name,
        kind=row.kind,
        state=row.state,
        rows=row.changes + row.skipped,
        accepted=row.recorded,
        rejected=row.rejected,
        duplicates=row.duplicates,
        started_at=row.started_at,
        checked_at=row.checked_at,
        undone_at=row.undone_at,
        findings=tuple(json.loads(row.findings or "[]")),
        is_held=is_held or row.state == "held",
        is_open=bool(row.stream) and row.state == "reading",
    )
