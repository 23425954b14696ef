"""Recording changes: durable, once each, from the chunks of a file and from events.

A chunk of a file carries the checkpoint of its import. A run of an event source has no checkpoint: its source remembers
what was acknowledged, and an event that comes again is known by its key. So several processes may write to one run, and
a commit whose answer was lost may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from sqlalchemy import Connection, func, select, update

from consent.change import ConsentChange, Origin
from consent.imports import Accepted, Checkpoint, EventsAccepted, RejectedRow
from consent.ledger.bulk import among, insert_new
from consent.ledger.database import Database
from consent.ledger.intake.batch import Heard, hear, recognise, record, say_again, set_repeats_aside
from consent.ledger.intake.bisect import write_or_name
from consent.ledger.intake.export_time import count_times, find_stamp
from consent.ledger.intake.imports import claim_checkpoint, move_checkpoint, stamp_columns
from consent.ledger.intake.reassign import adopt, note_said_again
from consent.ledger.keys import KEY_BYTES
from consent.ledger.merge_sql import Reasserting, fold, one_at_a_time
from consent.ledger.queue.enqueue import make_these_due
from consent.ledger.rejected_events import keep
from consent.ledger.schema import changes, imports, rejects
from consent.reassert import ReassertRules


def accept(
    database: Database,
    import_id: str,
    chunk: tuple[Sequence[ConsentChange], Sequence[RejectedRow]],
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
        row = claim_checkpoint(tx, import_id, before)
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
        move_checkpoint(tx, import_id, checkpoint, times, counts | {"rejected": len(refused)})
        return Accepted(recorded, len(wishes) - recorded)

    def work(tx: Connection) -> Accepted:
        accepted = take(tx, wishes)
        rows = [_reject_row(secret, import_id, storable(reject)) for reject in refused]
        insert_new(tx, rejects, _REJECT_COLUMNS, rows)
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


def storable(reject: RejectedRow) -> RejectedRow:
    """Return a reject that any database takes: it is recorded, whatever its source calls its columns or places."""
    column, message, place = reject.column, _storable(reject.message), reject.place
    return replace(reject, column=column and _storable(column), message=message, place=place and _storable(place))


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def latest_change(tx: Connection) -> int:
    """Return the number of the change recorded last; to be asked under the recording lock."""
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
    tx.execute(update(imports).where(imports.c.id == import_id).values(**reached, **stamp_columns(reassert.stamp)))


def accept_events(
    database: Database,
    run_id: str,
    wishes: Sequence[ConsentChange],
    refused: Sequence[RejectedRow],
    *,
    now: int,
    rules: ReassertRules,
) -> EventsAccepted:
    """Record what some events say, and which were refused, in one transaction, and let what stands become due.

    The `line` of a change or reject is its event's number in the run. Raises LedgerUnavailable: nothing was recorded,
    or all of it was and may be handed over again; LedgerRefused names the changes that the database refuses, and
    nothing was recorded.
    """
    secret, refused = database.hash_key, [storable(reject) for reject in refused]

    def take(tx: Connection, wishes: Sequence[ConsentChange], refused: Sequence[RejectedRow]) -> EventsAccepted:
        heard = hear(secret, wishes, now)  # anew with each try: the numbers of targets are those of a transaction
        one_at_a_time(tx)
        recognise(tx, heard)
        keys = heard.keys
        adopted = adopt(tx, run_id, heard)
        latest = latest_change(tx)
        record(tx, heard, run_id, Origin.EVENT)
        rows = [_reject_row(secret, run_id, reject) for reject in refused]
        rejected = insert_new(tx, rejects, _REJECT_COLUMNS, rows)
        keep(tx, run_id, refused, [_place_key(secret, reject) for reject in refused], now)
        fresh = _first_of_each(keys, heard.known.difference(adopted))
        new = sum(fresh)
        if new:
            due = [*adopted.values(), *newer_than(tx, latest)]
            make_due_now(tx, run_id, due, now=now, reassert=Reasserting(rules))
        _count(tx, run_id, len(wishes) + len(refused), new, rejected)
        return EventsAccepted(heard.public_ids, fresh, rejected)

    return write_or_name(database, wishes, lambda tx: take(tx, wishes, refused), lambda tx, some: take(tx, some, ()))


_REJECT_COLUMNS = ("import_id", "line", "column_name", "code", "message", "place", "dedupe_key")


def _reject_row(secret: bytes, run_id: str, reject: RejectedRow) -> tuple[object, ...]:
    key = _place_key(secret, reject)
    return run_id, reject.line, reject.column, reject.code, reject.message, reject.place, key


def _place_key(secret: bytes, reject: RejectedRow) -> bytes | None:
    """Return the hash by which a refused event that comes again is known: where it stands in its source, what it says.

    A place alone would not do: publishers begin their message ids anew, and senders use an Idempotency-Key twice.
    """
    if reject.place is None:
        return None
    told = blake2b(reject.place.encode(), key=secret, digest_size=KEY_BYTES)
    if reject.content is not None:
        told.update(f"\0{reject.content.published_at}\0".encode() + reject.content.body)
    return told.digest()


def _first_of_each(keys: Sequence[bytes], known: set[bytes]) -> tuple[bool, ...]:
    seen, first = set(known), []
    for key in keys:
        first.append(key not in seen)
        seen.add(key)
    return tuple(first)


def _count(tx: Connection, run_id: str, rows: int, recorded: int, rejected: int) -> None:
    counted = update(imports).where(imports.c.id == run_id)
    tx.execute(
        counted.values(
            records=imports.c.records + rows,
            wishes=imports.c.wishes + rows,
            recorded=imports.c.recorded + recorded,
            rejected=imports.c.rejected + rejected,
            duplicates=imports.c.duplicates + (rows - recorded - rejected),
        )
    )
