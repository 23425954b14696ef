"""A rehearsal: a private ledger that knows as much of the real one as some changes need, to see what would happen.

The real ledger is only read. The rehearsal has the same hash key, the dedupe keys that the real one has seen and the
registers of the slots that are touched, so recording and releasing there has the same results.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, event, func, select, update

from consent.change import ConsentChange, from_micros
from consent.imports import Checkpoint, ImportProgress, ImportState
from consent.ledger.aliases import aliases_of, target_aliases
from consent.ledger.database import HASH_KEY, Database
from consent.ledger.dialects import Row
from consent.ledger.dialects.statements import insert_new, select_by_key, select_changes
from consent.ledger.intake.batch import IncomingBatch
from consent.ledger.intake.imports import find_import
from consent.ledger.intake.reassign import KEEPS_BACK
from consent.ledger.ledger import Ledger
from consent.ledger.schema import changes, imports, info, slots, targets
from consent.reassert import Reassert, ReassertRules

_KNOWN_COLUMNS = (
    *("id", "dedupe_key", "import_id", "target_id", "slot", "action", "value", "effective_at"),
    *("details", "origin", "recorded_at", "state"),
)
_FACTS = "changes.id, dedupe_key, import_id, slot, action, changes.value, effective_at, details"
_FAR_AHEAD = 2**40
"""The distance between the numbers of real and of rehearsed changes: the real ledger may grow meanwhile."""

_TARGET_COLUMNS = ("target_key", "connection", "bucket", "address")
_SLOT_COLUMNS = (
    *("target_id", "slot", "newest_id", "newest_at", "newest_action", "confirmed", "confirmed_at", "newest_key"),
)
_REGISTERS = (
    f"target_key, {', '.join(_SLOT_COLUMNS[1:])} "
    "FROM targets JOIN slots ON slots.target_id = targets.id WHERE target_key"
)


def open_dry_run(path: Path, real: Database | None, *, reassert: ReassertRules) -> Ledger:
    """Return an empty ledger in a file, whose changes are numbered behind those of the real one (None: no such)."""
    ledger = Ledger(f"sqlite:///{path}", reassert=reassert)
    event.listen(ledger.database.engine, "connect", _careless)
    ledger.migrate()
    if real is not None:
        ledger.database.write(lambda tx: _follow(tx, real))
    return ledger


def found_import(real: Database | None, fingerprint: str, reassert: Reassert | None) -> ImportProgress | None:
    """Return how far the real ledger has come with these bytes, or None if it would begin with them."""
    row = None if real is None else real.read(lambda tx: find_import(tx, fingerprint, reassert)[1])
    if row is None:
        return None
    since = None if row.default_effective_at is None else from_micros(row.default_effective_at)
    state: ImportState = row.state if row.state in ("reading", "released") else "read"
    place = Checkpoint(row.records, row.line, row.rejects_offset, row.changes, row.rejects_digest or "", row.skipped)
    return ImportProgress(row.id, state, place, since)


def copy_known(real: Database, rehearsal: Ledger, incoming: Sequence[ConsentChange], unfinished: str | None) -> None:
    """Tell the rehearsal what the real ledger knows about these changes.

    Changes of the import `unfinished`, which is being gone on with, count as not seen yet, and so do those of files
    that broke off: they would be taken over.
    """
    batch = IncomingBatch.of(real.hash_key, incoming, 0)
    broken_off = select(imports.c.id).where(*KEEPS_BACK)

    def look(
        tx: Connection,
    ) -> tuple[set[str], list[Row], list[Row], dict[bytes, bytes], list[Row]]:
        aliases = aliases_of(tx, batch.targets)
        batch.lookup_targets(tx)
        asked = batch.target_of | dict(batch.target_of_aliases)
        batch.lookup_existing(tx)  # by which some changes get a key of their own
        asked |= batch.target_of
        known = select_changes(tx, _FACTS, asked)
        unread = set(tx.execute(broken_off).scalars())
        who = {number: target for target, number in batch.numbers.items()}
        whose = {key: who[number] for key, number in asked.items()}
        return unread, known, select_by_key(tx, _REGISTERS, list(batch.targets)), whose, aliases

    unread, known, registers, whose, aliases = real.read(look, by_key=True)
    unseen = {unfinished, *unread}

    def note(tx: Connection) -> None:
        insert_new(tx, targets, _TARGET_COLUMNS, list(batch.targets.values()))
        batch.lookup_targets(tx)
        insert_new(tx, target_aliases, ("target_key", "target_id"), [(one, batch.numbers[key]) for key, one in aliases])
        seen = [(number, key, said) for number, key, owner, *said in known if owner not in unseen]
        rows = [_known_row(number, key, batch.numbers[whose[key]], *said) for number, key, said in seen]
        insert_new(tx, changes, _KNOWN_COLUMNS, rows)
        insert_new(tx, slots, _SLOT_COLUMNS, [(batch.numbers[key], *register) for key, *register in registers])

    rehearsal.database.write(note)


def count_targets(rehearsal: Ledger) -> int:
    """Return how many targets the rehearsed changes are about."""
    query = select(func.count()).select_from(targets)
    return rehearsal.database.read(lambda tx: tx.execute(query).scalar_one())


def _careless(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")  # no one misses a rehearsal that was cut short


def _follow(tx: Connection, real: Database) -> None:
    last = real.read(lambda other: other.execute(select(func.max(changes.c.id))).scalar())
    tx.execute(update(info).where(info.c.name == HASH_KEY).values(value=real.hash_key.hex()))
    insert_new(tx, changes, _KNOWN_COLUMNS, [_known_row((last or 0) + _FAR_AHEAD, b"", 0)])


def _known_row(  # noqa: PLR0913, PLR0917 - one for each column
    number: int,
    key: bytes,
    target: int,
    slot: str = "",
    action: str = "",
    value: str = "",
    since: int = 0,
    details: str = "{}",
) -> Row:
    """Return a change of which nothing matters but its number, that it is known, and what it says."""
    return number, key, "", target, slot, action, value, since, details, "", 0, "known"
