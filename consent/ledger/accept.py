"""Recording changes: durable, once each, in chunks that carry the checkpoint of their import."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Row, func, select, text, update

from consent.change import ConsentChange, Origin, from_micros, to_micros
from consent.errors import ImportUnderWay
from consent.intake import Accepted, Checkpoint, ImportProgress, ImportSource, ImportState, Reject
from consent.ledger.adopt import adopt
from consent.ledger.bulk import insert_new
from consent.ledger.database import Database
from consent.ledger.keys import canonical, dedupe_key, target_key
from consent.ledger.register import fold
from consent.ledger.schema import changes, imports, rejects, targets
from consent.ledger.tasks import make_due
from consent.outcome import State

_ACCEPT_LOCK = 7_301_127  # one acceptance at a time on PostgreSQL: two might wait for each other's keys
TARGET_COLUMNS = ("target_key", "connection", "bucket", "address")
CHANGE_COLUMNS = (
    "dedupe_key",
    "import_id",
    "line",
    "target_key",
    "slot",
    "action",
    "value",
    "effective_at",
    "details",
    "origin",
    "recorded_at",
    "state",
)


def open_import(database: Database, source: ImportSource, now: int) -> ImportProgress:
    """Find the import of these bytes, or start one; return how far it has come."""

    def work(tx: Connection) -> ImportProgress:
        query = select(imports).where(imports.c.fingerprint == source.fingerprint)
        if (row := tx.execute(query).first()) is None:
            insert_new(tx, imports, _IMPORT_COLUMNS, [_import_row(source, now)])
            row = tx.execute(query).one()
        return _progress(row)

    return database.write(work)


_IMPORT_COLUMNS = (
    "id",
    "kind",
    "name",
    "fingerprint",
    "size",
    "default_effective_at",
    "stream",
    "total_lines",
    "state",
    "started_at",
)


def _import_row(source: ImportSource, now: int) -> tuple[object, ...]:
    import_id = f"{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(4)}"
    since = None if source.default_effective_at is None else to_micros(source.default_effective_at)
    facts = (source.kind, source.name, source.fingerprint, source.size, since, int(source.stream), source.total_lines)
    return (import_id, *facts, "reading", now)


def _progress(row: Row[tuple[object, ...]]) -> ImportProgress:
    state = cast("ImportState", "read" if row.state == "folded" else row.state)
    since = None if row.default_effective_at is None else from_micros(row.default_effective_at)
    return ImportProgress(row.id, state, Checkpoint(row.records, row.line, row.rejects_offset, row.wishes), since)


def accept(
    database: Database,
    import_id: str,
    chunk: tuple[Sequence[ConsentChange], Sequence[Reject]],
    checkpoint: Checkpoint,
    *,
    now: int,
    reassert: bool,
) -> Accepted:
    """Record a chunk and move the import's checkpoint, in one transaction; return what was new and what was known.

    Raises ImportUnderWay if another process has moved the checkpoint since, LedgerUnavailable if the database fails:
    in both cases nothing of the chunk has been recorded.
    """
    wishes, refused = chunk
    target_rows, change_rows = rows_of(database.hash_key, import_id, wishes, now, Origin.BULK)

    def work(tx: Connection) -> Accepted:
        one_at_a_time(tx)
        stream = _claim_checkpoint(tx, import_id, checkpoint.wishes - len(wishes) - len(refused))
        before = tx.execute(select(func.coalesce(func.max(changes.c.id), 0))).scalar_one() if stream else 0
        insert_new(tx, targets, TARGET_COLUMNS, target_rows)
        recorded = insert_new(tx, changes, CHANGE_COLUMNS, change_rows)
        adopted: dict[bytes, int] = {}
        if recorded < len(wishes):
            adopted = adopt(tx, import_id, [row[0] for row in change_rows], [wish.line for wish in wishes])
            recorded += len(adopted)
        insert_new(tx, rejects, _REJECT_COLUMNS, [_reject_row(import_id, reject) for reject in refused])
        counts = (recorded, len(wishes) - recorded, len(refused))
        _move_checkpoint(tx, import_id, checkpoint, counts)
        if stream:
            which = changes.c.id.in_(adopted.values()) | (changes.c.id > before)
            make_due_now(tx, import_id, which, now=now, reassert=reassert)
        return Accepted(recorded, len(wishes) - recorded)

    return database.write(work)


_REJECT_COLUMNS = ("import_id", "line", "column_name", "code", "message")


def _reject_row(import_id: str, reject: Reject) -> tuple[object, ...]:
    return import_id, reject.line, reject.column, reject.code, reject.message


def one_at_a_time(tx: Connection) -> None:
    """Keep other acceptances out until this transaction ends; SQLite has one writer anyway."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ACCEPT_LOCK})


def rows_of(
    secret: bytes, import_id: str, wishes: Sequence[ConsentChange], now: int, origin: Origin
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return the rows of the targets, in the order of their keys, and of the changes, in the order of arrival."""
    target_rows: dict[bytes, tuple[Any, ...]] = {}
    change_rows: list[tuple[Any, ...]] = []
    for change in wishes:
        target = target_key(secret, change.connection, change.address)
        if target not in target_rows:
            target_rows[target] = (target, change.connection, change.bucket, canonical(change.address))
        known = dedupe_key(secret, target, change)
        wish = (change.slot, str(change.action), change.value)
        what = (*wish, to_micros(change.effective_at), canonical(change.details))
        change_rows.append((known, import_id, change.line, target, *what, origin.value, now, State.PENDING.value))
    return sorted(target_rows.values(), key=itemgetter(0)), change_rows


def _claim_checkpoint(tx: Connection, import_id: str, expected: int) -> bool:
    query = select(imports.c.wishes, imports.c.state, imports.c.stream).where(imports.c.id == import_id)
    row = tx.execute(query.with_for_update()).one()
    if row.wishes != expected or row.state != "reading":
        message = f"another process is recording import {import_id} at this moment: let it finish, or stop it first"
        raise ImportUnderWay(message)
    return bool(row.stream)


def _move_checkpoint(tx: Connection, import_id: str, checkpoint: Checkpoint, counts: tuple[int, int, int]) -> None:
    recorded, duplicates, rejected = counts
    moved = update(imports).where(imports.c.id == import_id)
    tx.execute(
        moved.values(
            records=checkpoint.records,
            line=checkpoint.line,
            wishes=checkpoint.wishes,
            rejects_offset=checkpoint.rejects_offset,
            recorded=imports.c.recorded + recorded,
            duplicates=imports.c.duplicates + duplicates,
            rejected=imports.c.rejected + rejected,
        )
    )


def make_due_now(tx: Connection, import_id: str, which: ColumnElement[bool], *, now: int, reassert: bool) -> None:
    """Hold an import's changes against their slots and let those that stand become due, in this transaction."""
    meant = (changes.c.import_id == import_id, which)
    last, standing = fold(tx, meant, _WHOLE_CHUNK, now=now, reassert=reassert)
    make_due(tx, standing, now=now)
    if last is not None:
        tx.execute(update(imports).where(imports.c.id == import_id).values(folded_to=last))


_WHOLE_CHUNK = 2**31 - 1


def finish_reading(database: Database, import_id: str, now: int) -> None:
    """Note that the whole file has been read and is trusted; its changes may now become due."""
    done = update(imports).where(imports.c.id == import_id, imports.c.state == "reading")
    database.write(lambda tx: tx.execute(done.values(state="read", read_at=now)))
