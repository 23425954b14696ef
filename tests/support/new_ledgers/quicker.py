"""What makes hundreds of ledgers quick: new ones are copied, statements compiled once, and no disk is waited for."""

from __future__ import annotations

import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from consent.ledger.database import HASH_KEY
from consent.ledger.dialects import Dialect, sqlite
from consent.ledger.dialects.postgresql import PostgreSQL
from consent.ledger.dialects.sqlite import SQLite
from consent.ledger.maintenance import Maintenance
from consent.ledger.schema import info

Patch = Callable[[object, str, object], None]
"""`setattr`, or what undoes it in the end."""

Migrate = Callable[[Maintenance], bool]


def copied(template: Path, migrate: Migrate = Maintenance.migrate) -> Migrate:
    """Return what copies an empty ledger into a new SQLite file, in a tenth of the migrations' time."""

    def copy_or_migrate(maintenance: Maintenance) -> bool:
        file = maintenance.file
        empty = file is not None and maintenance.revision() is None and file.is_file()
        return migrate(maintenance) if file is None or not empty else _copy(template, file) or migrate(maintenance)

    return copy_or_migrate


def _copy(template: Path, file: Path) -> bool:
    """Copy a ledger into a file; return whether it was empty."""
    with closing(sqlite3.connect(template)) as ledger, closing(sqlite3.connect(file)) as new:
        if new.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            return False
        new.execute("PRAGMA synchronous=OFF")
        ledger.backup(new)
        with new:
            new.execute(f"UPDATE {info.name} SET value = ? WHERE name = ?", (secrets.token_hex(32), HASH_KEY))
    return True


def share_statements(patch: Patch) -> None:
    """Let all engines of one kind share the statements that they compiled: each test and each command makes its own.

    A statement is found by its dialect, among others; all servers of one kind are of one version here.
    """
    compiled: defaultdict[type[Dialect], LRUCache[Any, Any]] = defaultdict(lambda: LRUCache(2_000))

    def share(make: Callable[[Dialect, URL], Engine]) -> Callable[[Dialect, URL], Engine]:
        def make_engine(dialect: Dialect, url: URL) -> Engine:
            engine = make(dialect, url)
            engine._compiled_cache = compiled[type(dialect)]
            return engine

        return make_engine

    for dialect, sqlalchemys in ((SQLite, SQLiteDialect_pysqlite), (PostgreSQL, PGDialect_psycopg)):
        patch(dialect, "make_engine", share(dialect.make_engine))
        patch(sqlalchemys, "__eq__", lambda one, other: type(one) is type(other))
        patch(sqlalchemys, "__hash__", lambda one: hash(type(one)))


def wait_for_no_disk(patch: Patch) -> None:
    """Let SQLite leave its writes to the kernel: processes are killed in these tests, the power is not cut.

    That the product itself waits for the disk is made sure of here.
    """
    at = sqlite._PRAGMAS.index("synchronous=FULL")
    patch(sqlite, "_PRAGMAS", (*sqlite._PRAGMAS[:at], "synchronous=OFF", *sqlite._PRAGMAS[at + 1 :]))
