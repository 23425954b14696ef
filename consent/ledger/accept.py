"""Recording changes: durable, once each, in chunks that carry the checkpoint of their import."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, func, select, update

from consent.change import ConsentChange, Origin, from_micros, to_micros
from consent.errors import ImportUnderWay
from consent.imports import Accepted, Checkpoint, ImportProgress, ImportSource, ImportState, Reject
from consent.ledger.adopt import adopt, note_said_again
from consent.ledger.bulk import among, insert_new
from consent.ledger.database import Database
from consent.ledger.hearing import Heard, hear, recognise, record, say_again, set_repeats_aside
from consent.ledger.reasserting import Reasserting, Stamp, count_times, find_stamp
from consent.ledger.recorded import first_of
from consent.ledger.refusals import write_or_name
from consent.ledger.register import fold, one_at_a_time
from consent.ledger.schema import changes, imports, rejects
from consent.ledger.tasks import make_these_due
from consent.outcome import State
from consent.reassert import Reassert, ReassertRules


def open_import(database: Database, source: ImportSource, now: int) -> ImportProgress:
    """Find the import of these bytes, or start one; return how far it has come.

    Where all opt-outs are to be sent again, an import that is over is not gone on with: another one of the same bytes
    is begun.
    """

    def work(tx: Connection) -> ImportProgress:
        fingerprint, row = find_import(tx, source.fingerprint, source.reassert)
        if row is None:
            insert_new(tx, imports, _IMPORT_COLUMNS, [_import_row(source, fingerprint, now)])
            row = tx.execute(_of_bytes(fingerprint)).one()
        elif source.reassert is not None and row.state in ("reading", "read"):
            tx.execute(update(imports).where(imports.c.id == row.id).values(reassert=source.reassert))
        return _progress(row)

    return database.write(work)


def find_import(tx: Connection, fingerprint: str, reassert: Reassert | None) -> tuple[str, Row[Any] | None]:
    """Return the import that goes on with these bytes, None if one is to be begun; and the fingerprint that it has."""
    row = tx.execute(_of_bytes(fingerprint)).first()
    if reassert is not Reassert.ALWAYS:
        return fingerprint, row
    own, number = fingerprint, 0
    while row is not None and not _goes_on(tx, row):
        number += 1
        own = f"{fingerprint} sent again {number}"
        row = tx.execute(_of_bytes(own)).first()
    return own, row


def _goes_on(tx: Connection, row: Row[Any]) -> bool:
    if row.state != "released":
        return True
    pending = changes.c.state == State.PENDING.value
    return bool(row.reassert == Reassert.ALWAYS.value) and first_of(tx, row.id, 0, pending) is not None


def _of_bytes(fingerprint: str) -> Select[Any]:
    return select(imports).where(imports.c.fingerprint == fingerprint)


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
    "reassert",
    "started_at",
)


def _import_row(source: ImportSource, fingerprint: str, now: int) -> tuple[object, ...]:
    import_id = f"{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(4)}"
    since = None if source.default_effective_at is None else to_micros(source.default_effective_at)
    facts = (source.kind, source.name, fingerprint, source.size, since, int(source.stream), source.total_lines)
    return (import_id, *facts, "reading", source.reassert, now)


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
    rules: ReassertRules,
) -> Accepted:
    """Record a chunk and move the import's checkpoint, in one transaction; return what was new and what was known.

    Raises ImportUnderWay if another process has moved the checkpoint since, LedgerUnavailable if the database fails,
    LedgerRefused, naming them, if it refuses some of the changes: in all cases nothing of the chunk has been recorded.
    """
    wishes, refused = chunk
    before = checkpoint.wishes - len(wishes) - len(refused)
    secret = database.hash_key

    def take(tx: Connection, wishes: Sequence[ConsentChange]) -> Accepted:
        heard = hear(secret, wishes, now)
        one_at_a_time(tx)
        row = _claim_checkpoint(tx, import_id, before)
        times = count_times(row.times, heard.own_times(checkpoint.records - row.records - len(refused)))
        told = rules.overruled_by(row.reassert)
        if row.stream:
            stamp = find_stamp(times, checkpoint.records)
            recorded = _record_and_release(tx, import_id, heard, now=now, reassert=Reasserting(told, stamp))
        else:
            set_repeats_aside(tx, heard, import_id, before + 1, rules=told)
            recorded = record(tx, heard, import_id, Origin.BULK) + len(heard.repeated)
            note_said_again(tx, import_id, heard)
        counts = {"recorded": recorded, "duplicates": len(wishes) - recorded, "repeated": len(heard.repeated)}
        _move_checkpoint(tx, import_id, checkpoint, times, counts | {"rejected": len(refused)})
        return Accepted(recorded, len(wishes) - recorded)

    def work(tx: Connection) -> Accepted:
        accepted = take(tx, wishes)
        insert_new(tx, rejects, _REJECT_COLUMNS, [_reject_row(import_id, storable(reject)) for reject in refused])
        return accepted

    return write_or_name(database, wishes, work, take)


def _record_and_release(tx: Connection, import_id: str, heard: Heard, *, now: int, reassert: Reasserting) -> int:
    """Record a chunk of a stream and let it become due; return how many changes are new."""
    recognise(tx, heard)
    say_again(tx, heard, import_id, reassert.rules)
    latest = latest_change(tx)
    recorded = record(tx, heard, import_id, Origin.BULK)
    adopted = adopt(tx, import_id, heard)
    make_due_now(tx, import_id, [*adopted.values(), *newer_than(tx, latest)], now=now, reassert=reassert)
    return recorded + len(adopted)


_REJECT_COLUMNS = ("import_id", "line", "column_name", "code", "message")


def _reject_row(import_id: str, reject: Reject) -> tuple[object, ...]:
    return import_id, reject.line, reject.column, reject.code, reject.message


def storable(reject: Reject) -> Reject:
    """Return a reject that any database takes: it is recorded, whatever its source calls its columns or places."""
    column, message, place = reject.column, _storable(reject.message), reject.place
    return replace(reject, column=column and _storable(column), message=message, place=place and _storable(place))


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def _claim_checkpoint(tx: Connection, import_id: str, expected: int) -> Row[Any]:
    facts = ("wishes", "records", "state", "stream", "times", "reassert")
    query = select(*(imports.c[name] for name in facts)).where(imports.c.id == import_id)
    row = tx.execute(query.with_for_update()).one()
    if row.wishes != expected or row.state != "reading":
        message = f"another process is recording import {import_id} at this moment: let it finish, or stop it first"
        raise ImportUnderWay(message)
    return row


def _move_checkpoint(
    tx: Connection, import_id: str, checkpoint: Checkpoint, times: str | None, counts: Mapping[str, int]
) -> None:
    place = {
        name: getattr(checkpoint, name) for name in ("records", "line", "wishes", "rejects_offset", "rejects_digest")
    }
    more = {name: imports.c[name] + count for name, count in counts.items()}
    tx.execute(update(imports).where(imports.c.id == import_id).values(**place, **more, times=times))


def latest_change(tx: Connection) -> int:
    """Return the number of the change recorded last; to be asked where nobody else can record."""
    return int(tx.execute(select(func.coalesce(func.max(changes.c.id), 0))).scalar_one())


def newer_than(tx: Connection, latest: int) -> Sequence[int]:
    """Return the numbers of the changes recorded since."""
    return tx.execute(select(changes.c.id).where(changes.c.id > latest)).scalars().all()


def make_due_now(tx: Connection, import_id: str, ids: Sequence[int], *, now: int, reassert: Reasserting) -> None:
    """Hold an import's changes against their slots and let those that stand become due, in this transaction.

    They are named by number: whatever a database knows of its tables yet, it finds those by their key.
    """
    if not ids:
        return
    stamped = fold(tx, (among(tx, changes.c.id, ids),), now=now, reassert=reassert)
    make_these_due(tx, ids, now=now)
    reached = {"folded_to": max(ids), "stamped": imports.c.stamped + stamped}
    tx.execute(update(imports).where(imports.c.id == import_id).values(**reached, **_as_columns(reassert.stamp)))


def finish_reading(database: Database, import_id: str, now: int) -> None:
    """Note that the whole file has been read and is trusted; its changes may now become due."""

    def work(tx: Connection) -> None:
        mine = (imports.c.id == import_id, imports.c.state == "reading")
        row = tx.execute(select(imports.c.times, imports.c.records).where(*mine).with_for_update()).first()
        if row is not None:
            stamp = _as_columns(find_stamp(row.times, row.records))
            tx.execute(update(imports).where(*mine).values(state="read", read_at=now, **stamp))

    database.write(work)


def _as_columns(stamp: Stamp | None) -> dict[str, int | None]:
    return {"stamp_from": None if stamp is None else stamp.first, "stamp_to": None if stamp is None else stamp.last}
