"""The locks of a writing transaction, as types: a function that needs one asks for it instead of the transaction.

Each is held until the transaction ends. They are taken in this order: recording, imports, merging, customer tasks (all
at once, by their numbers), changes, slots. SQLite has one writer at a time, so that there is nothing to lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

from sqlalchemy import Connection, Select, Table, select, text

from consent.ledger.dialects import dialect_named
from consent.ledger.dialects.statements import among_given
from consent.ledger.schema import changes, customer_tasks, imports

_SCHEMA = 7_301_125  # any numbers of our own, for PostgreSQL's advisory locks
_MERGING = 7_301_126
_RECORDING = 7_301_127
_OUTCOME_LOG = 7_301_128
_COUNTING = 7_301_130
_TALLIES = 7_301_129


@dataclass(frozen=True, slots=True)
class RecordingLock:
    """No other transaction records changes: two would wait for each other's keys, and number one target twice."""

    tx: Connection

    @classmethod
    def acquire(cls, tx: Connection) -> Self:
        """Wait for it."""
        _lock(tx, _RECORDING)
        return cls(tx)


@dataclass(frozen=True, slots=True)
class MergeLock:
    """No other transaction merges changes, makes customer tasks of merged ones, or revives what a lost worker sent."""

    tx: Connection

    @classmethod
    def acquire(cls, tx: Connection, *, reassigns: bool = False) -> Self:
        """Wait for it.

        With `reassigns`, held changes may be taken from other imports under it, and the RecordingLock must be held. So
        the steps of all that are being published are waited for first: each has locked its import, and comes here then.
        """
        if reassigns and _is_server(tx):
            tx.execute(_PUBLISHING)
        _lock(tx, _MERGING)
        return cls(tx)

    @classmethod
    def of_targets(cls, tx: Connection, numbers: Select[tuple[int]], *, reassigns: bool = False) -> Self:
        """Wait for it, and keep out claims and settlements of these targets."""
        lock = cls.acquire(tx, reassigns=reassigns)
        if _is_server(tx):
            tx.execute(_tasks_of(tx.dialect.name, numbers))
        return lock

    @classmethod
    def of_changes(cls, tx: Connection, numbers: Sequence[int]) -> Self:
        """Wait for it, and keep out claims and settlements of the targets of these changes."""
        lock = cls.acquire(tx)
        if _is_server(tx):
            tx.execute(_tasks_of_changes(tx.dialect.name), {"numbers": numbers})
        return lock


@dataclass(frozen=True, slots=True)
class CountingLock:
    """No other transaction adds up counts of deadlines: each would take some of what the other has seen."""

    tx: Connection

    @classmethod
    def acquire(cls, tx: Connection) -> Self:
        """Wait for it."""
        _lock(tx, _COUNTING)
        return cls(tx)


def lock_schema(tx: Connection) -> None:
    """Keep out other migrations, and every transaction that was begun by another version."""
    _lock(tx, _SCHEMA)
    # The table that every writing transaction reads first: those end before, later ones see what is new.
    if _is_server(tx) and tx.execute(text("SELECT to_regclass('alembic_version')")).scalar() is not None:
        tx.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))


def lock_table(tx: Connection, table: Table) -> None:
    """Keep out every other transaction that writes a table."""
    if _is_server(tx):
        tx.exec_driver_sql(f"LOCK TABLE {table.name} IN SHARE MODE")


def lock_outcome_log(tx: Connection) -> None:
    """Keep out every other transaction that gives positions in the outcome log."""
    _lock(tx, _OUTCOME_LOG)


def lock_tallies(tx: Connection) -> None:
    """Keep out every other transaction that adds to the tallies; to be taken alone, and first."""
    _lock(tx, _TALLIES)


_LOCK = text("SELECT pg_advisory_xact_lock(:n)")
_PUBLISHING = (
    select(imports.c.id).where(imports.c.state.in_(("read", "merged"))).order_by(imports.c.id).with_for_update()
)


def _lock(tx: Connection, number: int) -> None:
    if _is_server(tx):
        tx.execute(_LOCK, {"n": number})


def _tasks_of(dialect: str, numbers: Select[tuple[int]]) -> Select[tuple[int]]:
    """Lock the customer tasks of these targets, in the order of their numbers, as everything else does."""
    task = customer_tasks.c.target_id
    found = dialect_named(dialect).bulk.among_found(task, numbers)
    return select(task).where(found).order_by(task).with_for_update()


@cache
def _tasks_of_changes(dialect: str) -> Select[tuple[int]]:
    return _tasks_of(dialect, select(changes.c.target_id).where(among_given(changes.c.id, "numbers")))


def _is_server(tx: Connection) -> bool:
    """Whether other transactions can write at the same time."""
    return tx.dialect.name == "postgresql"
