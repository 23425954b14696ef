"""Recording events: durable, once each, and due in the same transaction.

A run of an event source has no checkpoint: its source remembers what was acknowledged, and an event that comes again
is known by its key. So several processes may write to one run, and a commit whose answer was lost may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from sqlalchemy import Connection, update

from consent.change import ConsentChange, Origin
from consent.imports import EventsAccepted, Reject
from consent.ledger.accept import latest_change, make_due_now, newer_than, storable
from consent.ledger.adopt import adopt
from consent.ledger.bulk import insert_new
from consent.ledger.database import Database
from consent.ledger.hearing import hear, recognise, record
from consent.ledger.keys import KEY_BYTES
from consent.ledger.reasserting import Reasserting
from consent.ledger.refusals import write_or_name
from consent.ledger.register import one_at_a_time
from consent.ledger.rejected_events import keep
from consent.ledger.schema import imports, rejects
from consent.reassert import ReassertRules


def accept_events(
    database: Database,
    run_id: str,
    wishes: Sequence[ConsentChange],
    refused: Sequence[Reject],
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

    def take(tx: Connection, wishes: Sequence[ConsentChange], refused: Sequence[Reject]) -> EventsAccepted:
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


def finish_run(database: Database, run_id: str, now: int) -> None:
    """Note that a run has ended; it is sealed once nothing of it is pending."""
    ended = update(imports).where(imports.c.id == run_id, imports.c.state == "reading")
    database.write(lambda tx: tx.execute(ended.values(state="released", read_at=now, released_at=now)))


def finish_abandoned_runs(database: Database, kind: str, name: str, now: int) -> None:
    """Note that the runs of a source whose process was killed have ended."""
    mine = (imports.c.kind == kind, imports.c.name == name, imports.c.state == "reading")
    ended = update(imports).where(*mine).values(state="released", read_at=now, released_at=now)
    database.write(lambda tx: tx.execute(ended))


_REJECT_COLUMNS = ("import_id", "line", "column_name", "code", "message", "place", "dedupe_key")


def _reject_row(secret: bytes, run_id: str, reject: Reject) -> tuple[object, ...]:
    key = _place_key(secret, reject)
    return run_id, reject.line, reject.column, reject.code, reject.message, reject.place, key


def _place_key(secret: bytes, reject: Reject) -> bytes | None:
    """Return the hash by which a refused event that comes again is known: where it stands in its source, what it says.

    A place alone would not do: publishers begin their message ids anew, and senders use an Idempotency-Key twice.
    """
    if reject.place is None:
        return None
    told = blake2b(reject.place.encode(), key=secret, digest_size=KEY_BYTES)
    if reject.said is not None:
        told.update(f"\0{reject.said.published_at}\0".encode() + reject.said.body)
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
