"""What differs between the databases that a ledger can stand in: SQLite and PostgreSQL, a module each.

A `Dialect` is how a database is reached, its `bulk` (`statements.py`) how a transaction there reads and writes many
rows, and `locks.py` what has to be locked. Nothing outside this folder asks which database it is.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from consent.errors import READ_ONLY, LedgerRefused, LedgerUnavailable

if TYPE_CHECKING:
    from consent.ledger.dialects.statements import Bulk

Read = Callable[[Callable[[Connection], Any]], Any]
"""How to run a query in a transaction of its own; what needs none does not call it."""


class Dialect(ABC):
    """One database's way to do what the other does differently. It has no state."""

    bulk: ClassVar[type[Bulk]]
    """Its way with many rows."""

    reads: ClassVar[Mapping[str, Any]]
    writes: ClassVar[Mapping[str, Any]]
    """The execution options of a transaction that reads one view of the ledger, and of one that writes."""

    @abstractmethod
    def make_engine(self, url: URL) -> Engine:
        """Return an engine that has opened nothing yet."""

    @abstractmethod
    def begin_writing(self, tx: Connection, *, checked: bool) -> tuple[int | None, str | None]:
        """Let the planner look rows up by key until the transaction ends; return its number and the schema's revision.

        Unless `checked`, only the number is asked for: the tables may not be there yet. It is None where the outcome of
        a commit is always known.
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
    def transaction_status(self, tx: Connection, number: int) -> str:
        """Return what became of a transaction: "committed", "aborted" or "in progress"."""

    @abstractmethod
    def takes_writes(self, url: URL, read: Read) -> bool:
        """Whether the database takes writes: a standby does not."""

    @abstractmethod
    def server_time(self, read: Read) -> float | None:
        """Return the server's time in seconds since 1970; None if the database lives on this machine."""

    def explained(self, error: DBAPIError) -> LedgerUnavailable:
        """Say what failed without the statement's parameters, which may name persons."""
        if self.is_refused(error):
            return LedgerRefused(f"the ledger's database refuses what it was given: {type(error.orig).__name__}")
        if self.is_read_only(error):
            return LedgerUnavailable(f"the ledger's database says: {READ_ONLY}")
        speaks = isinstance(error, OperationalError) or type(error.orig) is sqlite3.DatabaseError  # the file is damaged
        first = str(error.orig).strip().splitlines()[0] if speaks else type(error.orig).__name__
        return LedgerUnavailable(f"the ledger's database says: {first}")

    def is_passing(self, error: DBAPIError) -> bool:
        """Whether the same transaction may succeed if it is run again at once."""
        return bool(error.connection_invalidated)

    def is_refused(self, error: DBAPIError) -> bool:
        """Whether the database refuses what it was given, and would do so at any other time."""
        return isinstance(error, DataError)

    def is_read_only(self, error: DBAPIError) -> bool:  # noqa: ARG002 - one database has no such error
        """Whether the server takes reads only."""
        return False


@cache
def dialect_named(name: str) -> Dialect:
    """Return the dialect of this name; the module of the other one is not loaded."""
    dialect: Dialect = import_module(f"consent.ledger.dialects.{name}").DIALECT
    return dialect
