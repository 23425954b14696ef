"""Recording changes: durable, once each, in chunks that carry the checkpoint of their import."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from sqlalchemy import Connection, Row, func, select, update

from consent.change import ConsentChange, Origin, from_micros, to_micros
from consent.errors import ImportUnderWay
from consent.intake import Accepted, Checkpoint, ImportProgress, ImportSource, ImportState, Reject
from consent.ledger.adopt import adopt, note_said_again
from consent.ledger.bulk import among, insert_new
from consent.ledger.database import Database
from consent.ledger.hearing import hear, recognise, record, set_repeats_aside
from consent.ledger.register import fold, one_at_a_time
from consent.ledger.schema import changes, imports, rejects
from consent.ledger.tasks import make_these_due


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
    place = Checkpoint(row.records, row.line, row.rejects_offset, row.wishes, row.rejects_digest or "")
    return ImportProgress(row.id, state, place, since)


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
    before = checkpoint.wishes - len(wishes) - len(refused)
    secret = database.hash_key

    def work(tx: Connection) -> Accepted:
        heard = hear(secret, wishes, now)
        one_at_a_time(tx)
        stream = _claim_checkpoint(tx, import_id, before)
        latest = latest_change(tx) if stream else 0
        if stream:
            recognise(tx, heard)
        else:
            set_repeats_aside(tx, heard, import_id, before + 1, reassert=reassert)
        recorded = record(tx, heard, import_id, Origin.BULK) + len(heard.repeated)
        if stream:
            adopted = adopt(tx, import_id, heard)
            recorded += len(adopted)
            make_due_now(tx, import_id, [*adopted.values(), *newer_than(tx, latest)], now=now, reassert=reassert)
        else:
            note_said_again(tx, import_id, heard)
        insert_new(tx, rejects, _REJECT_COLUMNS, [_reject_row(import_id, reject) for reject in refused])
        counts = {"recorded": recorded, "duplicates": len(wishes) - recorded, "repeated": len(heard.repeated)}
        _move_checkpoint(tx, import_id, checkpoint, counts | {"rejected": len(refused)})
        return Accepted(recorded, len(wishes) - recorded)

    return database.write(work)


_REJECT_COLUMNS = ("import_id", "line", "column_name", "code", "message")


def _reject_row(import_id: str, reject: Reject) -> tuple[object, ...]:
    return import_id, reject.line, reject.column, reject.code, reject.message


def _claim_checkpoint(tx: Connection, import_id: str, expected: int) -> bool:
    query = select(imports.c.wishes, imports.c.state, imports.c.stream).where(imports.c.id == import_id)
    row = tx.execute(query.with_for_update()).one()
    if row.wishes != expected or row.state != "reading":
        message = f"another process is recording import {import_id} at this moment: let it finish, or stop it first"
        raise ImportUnderWay(message)
    return bool(row.stream)


def _move_checkpoint(tx: Connection, import_id: str, checkpoint: Checkpoint, counts: Mapping[str, int]) -> None:
    place = {
        name: getattr(checkpoint, name) for name in ("records", "line", "wishes", "rejects_offset", "rejects_digest")
    }
    more = {name: imports.c[name] + count for name, count in counts.items()}
    tx.execute(update(imports).where(imports.c.id == import_id).values(**place, **more))


def latest_change(tx: Connection) -> int:
    """Return the number of the change recorded last; to be asked where nobody else can record."""
    return int(tx.execute(select(func.coalesce(func.max(changes.c.id), 0))).scalar_one())


def newer_than(tx: Connection, latest: int) -> Sequence[int]:
    """Return the numbers of the changes recorded since."""
    return tx.execute(select(changes.c.id).where(changes.c.id > latest)).scalars().all()


def make_due_now(tx: Connection, import_id: str, ids: Sequence[int], *, now: int, reassert: bool) -> None:
    """Hold an import's changes against their slots and let those that stand become due, in this transaction.

    They are named by number: whatever a database knows of its tables yet, it finds those by their key.
    """
    if not ids:
        return
    fold(tx, (among(tx, changes.c.id, ids),), now=now, reassert=reassert)
    make_these_due(tx, ids, now=now)
    tx.execute(update(imports).where(imports.c.id == import_id).values(folded_to=max(ids)))


def finish_reading(database: Database, import_id: str, now: int) -> None:
    """Note that the whole file has been read and is trusted; its changes may now become due."""
    done = update(imports).where(imports.c.id == import_id, imports.c.state == "reading")
    database.write(lambda tx: tx.execute(done.values(state="read", read_at=now)))
