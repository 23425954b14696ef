"""The locks of a writing transaction, as types: a function that needs one asks for it instead of the transaction.

Each is held until the transaction ends. They are taken in this order: recording, merging, customer tasks, changes,
slots. SQLite has one writer at a time, so that there they cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sqlalchemy import ColumnElement, Connection, Select, select

from consent.ledger.dialects import dialect_of
from consent.ledger.schema import changes

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
        dialect_of(tx).lock(tx, _RECORDING)
        return cls(tx)


@dataclass(frozen=True, slots=True)
class MergeLock:
    """No other transaction merges changes, makes customer tasks of merged ones, or revives what a lost worker sent."""

    tx: Connection

    @classmethod
    def acquire(cls, tx: Connection) -> Self:
        """Wait for it."""
        dialect_of(tx).lock(tx, _MERGING)
        return cls(tx)

    @classmethod
    def of_targets(cls, tx: Connection, numbers: Select[tuple[int]]) -> Self:
        """Wait for it, and keep out claims and settlements of these targets."""
        lock = cls.acquire(tx)
        dialect_of(tx).lock_tasks(tx, numbers)
        return lock

    @classmethod
    def of_changes(cls, tx: Connection, meant: Sequence[ColumnElement[bool]]) -> Self:
        """Wait for it, and keep out claims and settlements of the targets of these changes."""
        return cls.of_targets(tx, select(changes.c.target_id).where(*meant))


@dataclass(frozen=True, slots=True)
class CountingLock:
    """No other transaction adds up counts of deadlines: each would take some of what the other has seen."""

    tx: Connection

    @classmethod
    def acquire(cls, tx: Connection) -> Self:
        """Wait for it."""
        dialect_of(tx).lock(tx, _COUNTING)
        return cls(tx)


def lock_schema(tx: Connection) -> None:
    """Keep out other migrations, and every transaction that was begun by another version."""
    dialect_of(tx).lock(tx, _SCHEMA)
    dialect_of(tx).lock_schema(tx)


def lock_outcome_log(tx: Connection) -> None:
    """Keep out every other transaction that gives positions in the outcome log."""
    dialect_of(tx).lock(tx, _OUTCOME_LOG)


def lock_tallies(tx: Connection) -> None:
    """Keep out every other transaction that adds to the tallies; to be taken alone, and first."""
    dialect_of(tx).lock(tx, _TALLIES)
