"""Recording changes: durable, once each, from the chunks of a file and from events.

A chunk of a file carries the checkpoint of its import. A run of an event source has no checkpoint: its source remembers
what was acknowledged, and an event that comes again is known by its key. So several processes may write to one run, and
a commit whose answer was lost may be repeated.

What is published as it comes (events, and files that are read as streams) takes one way, `record_and_publish`. A file
that must be read whole first is only recorded, and so are the opt-ins of a stream, held until they are checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Row, bindparam, update

from consent.change import Action, ConsentChange, Origin
from consent.errors import ImportUnderWay
from consent.imports import Accepted, Checkpoint, EventsAccepted, RejectedRow, RunEvents
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.locks import MergeLock, RecordingLock
from consent.ledger.dialects.statements import NEW, bulk
from consent.ledger.intake.batch import KEY, IncomingBatch
from consent.ledger.intake.imports import (
    IMPORT_LOCKED,
    UPDATE_IMPORT,
    ReassertTerms,
    count_times,
    find_export_time,
    reassert_terms,
)
from consent.ledger.intake.reassign import note_pending_duplicates, reassign_known
from consent.ledger.keys import KEY_BYTES
from consent.ledger.merge_sql import merge_pending
from consent.ledger.queue.enqueue import enqueue
from consent.ledger.rejected_events import keep
from consent.ledger.review.event_guards import set_optins_aside
from consent.ledger.schema import imports, rejects
from consent.outcome import State


class Recorder(LedgerPart):
    """Records changes: durable, once each."""

    def accept(
        self, import_id: str, incoming: Sequence[ConsentChange], refused: Sequence[RejectedRow], checkpoint: Checkpoint
    ) -> Accepted:
        """Record a chunk and move the import's checkpoint, in one transaction; return what was new and what was known.

        Raises ImportUnderWay if another process has moved the checkpoint since, LedgerUnavailable if the database
        fails, LedgerRefused, naming them, if it refuses some of the changes: in all cases nothing of the chunk has been
        recorded.
        """
        before = checkpoint.changes - len(incoming) - len(refused)
        secret, now = self.database.hash_key, self.core.now()

        def take(tx: Connection, incoming: Sequence[ConsentChange]) -> Accepted:
            batch = IncomingBatch.of(secret, incoming, now, self.core.deadline_rules)
            lock = RecordingLock.acquire(tx)
            row = _claim_checkpoint(tx, import_id, before)
            rows = checkpoint.records - checkpoint.skipped
            times = count_times(row.own_times, batch.own_times(rows - (row.records - row.skipped) - len(refused)))
            terms = reassert_terms(row, self.core.reassert)
            noops = 0
            if row.stream:
                terms = replace(terms, export_time=find_export_time(times, rows))
                batch.lookup_existing(tx)
                batch.resend_known_optouts(tx, import_id, terms.rules)
                recorded = _hold_optins(lock, import_id, batch)
                reassigned, new = record_and_publish(lock, import_id, batch, Origin.BULK, now=now, reassert=terms)
                recorded += new + len(reassigned)
            else:
                noops = batch.set_noops_aside(lock, import_id, before + 1, terms.rules)
                if row.replaces is not None:
                    batch.rename_known(tx, batch.places_of(tx, row.replaces), import_id)
                recorded = noops + batch.record(lock, import_id, Origin.BULK)
                if batch.known:
                    note_pending_duplicates(lock, import_id, batch)
            counts = {"recorded": recorded, "duplicates": len(incoming) - recorded, "noops": noops}
            _move_checkpoint(tx, import_id, checkpoint, times, counts | {"rejected": len(refused)})
            return Accepted(recorded, len(incoming) - recorded)

        def work(tx: Connection) -> Accepted:
            accepted = take(tx, incoming)
            # A row of a file is known by its line: no other import's place is its own.
            _record_rejects(tx, secret, import_id, [replace(storable(reject), place=None) for reject in refused])
            return accepted

        return self.database.write_or_name(incoming, work, take)

    def accept_events(
        self, run_id: str, incoming: Sequence[ConsentChange], refused: Sequence[RejectedRow]
    ) -> EventsAccepted:
        """Record what the events of one run say: see `accept_runs`."""
        return self.accept_runs([RunEvents(run_id, incoming, refused)])[0]

    def accept_runs(self, runs: Sequence[RunEvents]) -> list[EventsAccepted]:
        """Record what some events say, and which were refused, in one transaction, and publish it.

        The `line` of a change or reject is its event's number in the run. Raises LedgerUnavailable: nothing was
        recorded, or all of it was and may be handed over again; LedgerRefused names the changes that the database
        refuses, by their places in all runs together, and nothing was recorded. Opt-ins of a sender that overrules too
        many opt-outs are recorded and held.
        """
        runs = [one._replace(refused=[storable(reject) for reject in one.refused]) for one in runs]
        incoming = [change for one in runs for change in one.changes]
        secret, now = self.database.hash_key, self.core.now()

        def work(tx: Connection) -> list[EventsAccepted]:
            return self._take_runs(tx, runs, secret, now)

        def attempt(tx: Connection, some: Sequence[ConsentChange]) -> object:
            return self._take_runs(tx, [RunEvents(runs[0].run_id, some, ())], secret, now)

        return self.database.write_or_name(incoming, work, attempt)

    def _take_runs(self, tx: Connection, runs: Sequence[RunEvents], secret: bytes, now: int) -> list[EventsAccepted]:
        """Record each run's events by themselves, and merge all of them together."""
        # Anew with each try: the numbers of a batch are those of its transaction.
        incoming = [change for one in runs for change in one.changes]
        batch = IncomingBatch.of(secret, incoming, now, self.core.deadline_rules)
        lock, first, found, numbers = RecordingLock.acquire(tx), 0, list[EventsAccepted](), list[int]()
        batch.lookup_existing(tx)
        rows = batch.rows
        for run in runs:
            mine = replace(batch, rows=rows[first : first + len(run.changes)])
            accepted, recorded = self._take_run(lock, run, mine, secret, now)
            batch.known.update(row[KEY] for row in rows[first : first + len(run.changes)])
            found.append(accepted)
            numbers += recorded
            first += len(run.changes)
        publish_now(lock, [one.run_id for one in runs], numbers, now=now, reassert=ReassertTerms(self.core.reassert))
        return found

    def _take_run(
        self, lock: RecordingLock, run: RunEvents, batch: IncomingBatch, secret: bytes, now: int
    ) -> tuple[EventsAccepted, list[int]]:
        """Record the events of one run, but merge nothing; return also the numbers of what is to be merged."""
        tx = lock.tx
        keys, ids, known = batch.keys, batch.public_ids, set(batch.known)
        optins = any(one.action is Action.OPTIN for one in run.changes)
        aside = set_optins_aside(lock, run.run_id, batch, run.changes, now, self.core.guards_of) if optins else []
        reassigned, _, numbers = _record(lock, run.run_id, batch, Origin.EVENT)
        rejected = _record_rejects(tx, secret, run.run_id, run.refused)
        if run.refused:
            keep(tx, run.run_id, run.refused, [_place_key(secret, reject) for reject in run.refused], now)
        fresh = _first_of_each(keys, known.difference(reassigned))
        recorded = sum(fresh) - sum(one.recorded for one in aside) + len(reassigned.keys() - known)
        left = len(run.changes) - sum(one.changes for one in aside)
        for one in aside:
            count_events(tx, *one, 0)
        count_events(tx, run.run_id, left + len(run.refused), recorded, rejected)
        return EventsAccepted(ids, fresh, rejected), numbers

    def check_writable(self) -> None:
        """Raise LedgerUnavailable if nothing can be recorded now, LedgerOutdated if it is for another version."""
        self.database.write(lambda _tx: None)


def _claim_checkpoint(tx: Connection, import_id: str, expected: int) -> Row[Any]:
    """Lock an import that is at this checkpoint and return what is known of it; raise ImportUnderWay."""
    row = tx.execute(IMPORT_LOCKED, {"its": import_id}).one()
    if row.changes != expected or row.state != "reading":
        message = f"another process is recording import {import_id} at this moment: let it finish, or stop it first"
        raise ImportUnderWay(message)
    return row


def _move_checkpoint(
    tx: Connection, import_id: str, checkpoint: Checkpoint, times: str | None, counts: Mapping[str, int]
) -> None:
    """Move the checkpoint of an import, and add to its counts."""
    place = {name: getattr(checkpoint, name) for name in ("records", "line", "rejects_offset", "rejects_digest")}
    place |= {"changes": checkpoint.changes, "skipped": checkpoint.skipped}
    more = {f"more_{name}": count for name, count in counts.items()}
    tx.execute(_MOVE_CHECKPOINT, {"its": import_id, **place, **more, "own_times": times})


_COUNTED = ("recorded", "duplicates", "noops", "rejected")
_MOVE_CHECKPOINT = UPDATE_IMPORT.values({name: imports.c[name] + bindparam(f"more_{name}") for name in _COUNTED})


def count_events(tx: Connection, run_id: str, rows: int, recorded: int, rejected: int) -> None:
    """Add to the counts of a run."""
    more = {"rows": rows, "new": recorded, "refused": rejected, "known": rows - recorded - rejected}
    tx.execute(_COUNT_EVENTS, {"its": run_id, **more})


_MORE = {"records": "rows", "changes": "rows", "recorded": "new", "rejected": "refused", "duplicates": "known"}
_COUNT_EVENTS = UPDATE_IMPORT.values({name: imports.c[name] + bindparam(more) for name, more in _MORE.items()})


def _hold_optins(lock: RecordingLock, import_id: str, batch: IncomingBatch) -> int:
    """Record the opt-ins of a looked up batch of a stream, held until it has been read whole; leave the opt-outs in it.

    Returns how many are new or were reassigned.
    """
    optins, batch.rows = batch.split_rows(Action.OPTIN)
    if not optins.rows:
        return 0
    reassigned = reassign_known(lock, import_id, optins, State.HELD)
    return optins.record(lock, import_id, Origin.BULK, State.HELD) + len(reassigned)


def record_and_publish(
    lock: RecordingLock,
    import_id: str,
    batch: IncomingBatch,
    origin: Origin,
    *,
    now: int,
    reassert: ReassertTerms,
) -> tuple[dict[bytes, int], int]:
    """Record a batch that was looked up, merge it, and enqueue what wins, in this transaction.

    Returns the changes that were reassigned, by key, and how many others are new. All are named by number: whatever a
    database believes of its tables yet, it finds those by their key.
    """
    reassigned, new, numbers = _record(lock, import_id, batch, origin)
    publish_now(lock, [import_id], numbers, now=now, reassert=reassert)
    return reassigned, new


def _record(
    lock: RecordingLock, import_id: str, batch: IncomingBatch, origin: Origin
) -> tuple[dict[bytes, int], int, list[int]]:
    """Return the changes that were reassigned, by key, how many others are new, and the numbers of all."""
    reassigned = reassign_known(lock, import_id, batch) if batch.known else {}
    added = batch.record_numbered(lock, import_id, origin)
    return reassigned, len(added), [*reassigned.values(), *added]


def publish_now(
    lock: RecordingLock, import_ids: Sequence[str], numbers: Sequence[int], *, now: int, reassert: ReassertTerms
) -> None:
    """Merge the changes of these imports with these numbers, and enqueue what wins."""
    if not numbers:
        return
    merging = MergeLock.of_changes(lock.tx, numbers)
    stamped = merge_pending(merging, numbers, now=now, reassert=reassert)
    enqueue(merging, numbers, now=now)
    reached = {"merged_to": max(numbers), **reassert.columns}
    lock.tx.execute(_REACH, {"ids": import_ids, "more": stamped, **reached})


_REACH = (
    update(imports)
    .where(imports.c.id.in_(bindparam("ids", expanding=True)))
    .values(stamped=imports.c.stamped + bindparam("more"))
)
"""Executed with the columns of the imports that are to be set besides."""


_REJECT_COLUMNS = ("import_id", "line", "column_name", "code", "message", "place", "dedupe_key")


def _record_rejects(tx: Connection, secret: bytes, import_id: str, refused: Sequence[RejectedRow]) -> int:
    """Note what could not be understood; return how many were new."""
    rows = [
        (import_id, one.line, one.column, one.code, one.message, one.place, _place_key(secret, one)) for one in refused
    ]
    return bulk(tx).insert(rejects, _REJECT_COLUMNS, rows, NEW)


def storable(reject: RejectedRow) -> RejectedRow:
    """Return a reject that any database takes: it is recorded, whatever its source calls its columns or places."""
    column, message, place = reject.column, _storable(reject.message), reject.place
    return replace(reject, column=column and _storable(column), message=message, place=place and _storable(place))


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def _place_key(secret: bytes, reject: RejectedRow) -> bytes | None:
    """Return the hash by which a refused event that comes again is known: where it stands in its source, what it says.

    A place alone would not do: publishers begin their message ids anew, and senders use an Idempotency-Key twice.
    """
    if reject.place is None:
        return None
    hashing = blake2b(reject.place.encode(), key=secret, digest_size=KEY_BYTES)
    if reject.content is not None:
        hashing.update(f"\0{reject.content.published_at}\0".encode() + reject.content.body)
    return hashing.digest()


def _first_of_each(keys: Sequence[bytes], known: set[bytes]) -> tuple[bool, ...]:
    seen, first = set(known), []
    for key in keys:
        first.append(key not in seen)
        seen.add(key)
    return tuple(first)
