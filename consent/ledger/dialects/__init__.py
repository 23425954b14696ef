"""What differs between the databases that a ledger can stand in: SQLite and PostgreSQL, a module each.

`dialect_of` gives the module's object for a transaction; nothing outside this folder asks which database it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from sqlalchemy import URL, Column, ColumnElement, Connection, Engine, Select, Table
from sqlalchemy.exc import DataError, DBAPIError

Row = tuple[Any, ...]
T = TypeVar("T")

Read = Callable[[Callable[[Connection], Any]], Any]
"""How to run a query in a transaction of its own; what needs none does not call it."""

Held = tuple[int, Any, Any, Any, Any]
"""A target's number, and of one of its slots `newest_at`, `newest_action`, `newest_key` and `confirmed`."""


class Dialect(ABC):
    """One database's way to do what the other does differently. It has no state."""

    upsert: ClassVar[Any]
    """The dialect's `insert`, which knows ON CONFLICT."""

    # How it is reached.

    @abstractmethod
    def make_engine(self, url: URL) -> Engine:
        """Return an engine that has opened nothing yet."""

    @abstractmethod
    def options(self, *, writes: bool) -> dict[str, Any]:
        """Return the execution options of a transaction that writes, or that reads one view of the ledger."""

    @abstractmethod
    def begin_writing(self, tx: Connection, *, checked: bool) -> tuple[int | None, str | None]:
        """Let the planner look rows up by key until the transaction ends; return its number and the schema's revision.

        Unless `checked`, only the number is asked for: the tables may not be there yet. It is None where the fate of a
        commit is always known.
        """

    @abstractmethod
    def look_up_by_key(self, tx: Connection) -> None:
        """Let the planner look rows up by key until the transaction ends, whatever it believes of the tables.

        It takes a table for empty until someone has analysed it, and would read all of it for each row of a join.
        """

    @abstractmethod
    def time_limit(self, tx: Connection, seconds: float) -> AbstractContextManager[None]:
        """End each statement that takes longer, with an error, while this lasts."""

    @abstractmethod
    def fate(self, tx: Connection, number: int) -> str:
        """Return what became of a transaction: "committed", "aborted" or "in progress"."""

    @abstractmethod
    def takes_writes(self, url: URL, read: Read) -> bool:
        """Whether the database takes writes: a standby does not."""

    @abstractmethod
    def server_time(self, read: Read) -> float | None:
        """Return the server's time in seconds since 1970; None if the database lives on this machine."""

    def is_passing(self, error: DBAPIError) -> bool:
        """Whether the same transaction may succeed if it is run again at once."""
        return bool(error.connection_invalidated)

    def is_refused(self, error: DBAPIError) -> bool:
        """Whether the database refuses what it was given, and would do so at any other time."""
        return isinstance(error, DataError)

    def is_read_only(self, error: DBAPIError) -> bool:  # noqa: ARG002 - one database has no such error
        """Whether the server takes reads only."""
        return False

    # Locks, held until the transaction ends.

    @abstractmethod
    def lock(self, tx: Connection, number: int) -> None:
        """Keep out every other transaction that takes the lock of this number."""

    @abstractmethod
    def lock_schema(self, tx: Connection) -> None:
        """Keep out every transaction of another version while the schema is migrated."""

    @abstractmethod
    def lock_tasks(self, tx: Connection, targets: Select[tuple[int]]) -> None:
        """Keep out claims and settlements of these targets."""

    @abstractmethod
    def lock_table(self, tx: Connection, table: Table) -> None:
        """Keep out every other transaction that writes a table."""

    @abstractmethod
    def own_entry(self, tx: Connection) -> int:
        """Return the number under which this transaction adds to counts that others add to at the same time."""

    # Statements about many rows.

    @abstractmethod
    def among(self, column: Column[T], values: Sequence[T]) -> ColumnElement[bool]:
        """Say that a column holds one of these values."""

    @abstractmethod
    def json_text(self, column: Column[str], name: str) -> ColumnElement[str]:
        """Return a text out of a JSON object in a column, NULL if it has none of this name."""

    @abstractmethod
    def among_found(self, column: Column[T], found: Select[tuple[T]]) -> ColumnElement[bool]:
        """Say that a column holds one of the values that a query finds, which is run once and before all else."""

    @abstractmethod
    def insert(self, tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row], conflict: str) -> int:
        """Insert rows; `conflict` is an ON CONFLICT clause. Return how many were inserted."""

    @abstractmethod
    def insert_all(self, tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert rows of which none can be there yet."""

    @abstractmethod
    def update_each(
        self, tx: Connection, sql: str, types: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Run an UPDATE with `{source}` and `{name}` placeholders for each of many sets of values."""

    @abstractmethod
    def select_by_key(self, tx: Connection, columns: str, keys: Sequence[bytes]) -> list[Row]:
        """Return columns of the rows with these keys; `columns` is SQL that names the key last."""

    @abstractmethod
    def select_changes(self, tx: Connection, columns: str, keys: Sequence[bytes], targets: Sequence[int]) -> list[Row]:
        """Return columns of the changes with these dedupe keys of these targets, side by side."""

    @abstractmethod
    def select_registers(self, tx: Connection, targets: Sequence[bytes], slots: Sequence[str]) -> list[Row]:
        """Return place, target number and register of these slots of these targets, side by side."""

    def notice_growth(self, tx: Connection, table: Table, rows: int) -> None:  # noqa: B027 - one has no such need
        """Let the planner know of many rows that were just put into a table."""


def dialect_of(tx: Connection) -> Dialect:
    """Return the dialect of a transaction's database."""
    return dialect_named(tx.dialect.name)


@cache
def dialect_named(name: str) -> Dialect:
    """Return the dialect of this name; the module of the other one is not loaded."""
    dialect: Dialect = import_module(f"consent.ledger.dialects.{name}").DIALECT
    return dialect
