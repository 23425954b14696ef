"""Ledgers on PostgreSQL that tests use one after the other: emptying one takes a tenth of the time of making one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from sqlalchemy import make_url

KEPT = ("alembic_version", "ledger_info")
"""The tables of a new ledger that hold rows."""

LARGE_BYTES = 1_000_000
"""Deleted rows take space and time until a vacuum: a ledger with more than this is not used again."""

CATALOGS = {
    "pg_class": "oid",
    "pg_attribute": "attrelid",
    "pg_attrdef": "oid",
    "pg_constraint": "oid",
    "pg_index": "indexrelid",
    "pg_proc": "oid",
    "pg_statistic": "starelid",
    "pg_trigger": "oid",
}
"""What CREATE, ALTER, DROP, TRUNCATE and ANALYZE write; objects from 16384 on are not PostgreSQL's own."""

_TABLES = "FROM pg_class WHERE relkind = 'r' AND oid >= 16384"
_WRITTEN = " UNION ALL ".join(
    [
        f"SELECT '{name} ' || {oid} || ' ' || xmin AS one FROM {name} WHERE {oid} >= 16384"
        for name, oid in CATALOGS.items()
    ]
    + [f"SELECT '{name} ' || xmin FROM {name}" for name in KEPT]
)
_STATE = f"""
    SELECT
        (SELECT sum(hashtext(one)) FROM ({_WRITTEN}) AS written),
        (SELECT sum(reltuples) {_TABLES}),
        (SELECT count(*) FROM pg_db_role_setting)
"""
_SIZE = f"SELECT sum(pg_relation_size(oid)) {_TABLES}"
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_RESTART = "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence"


class _Lent:
    """A ledger that tests use, and a session of its own that empties it."""

    def __init__(self, url: str) -> None:
        self.url = url
        address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self.session = psycopg.connect(address, autocommit=True)
        names = self.session.execute(f"SELECT oid::regclass {_TABLES}").fetchall()
        rows = "; ".join(f"DELETE FROM {name}" for (name,) in names if name not in KEPT)
        self._empty = f"SET LOCAL session_replication_role = replica; {rows}; {_RESTART}"
        self._new = self._ask(_STATE)

    def _ask(self, question: str) -> tuple[Any, ...] | None:
        return self.session.execute(question).fetchone()  # type: ignore[call-overload]

    def is_in_use(self) -> bool:
        """Whether what a test started is still connected."""
        return self._ask(_OTHERS) != (0,)

    def empty(self) -> bool:
        """Make it as it was when it was new; return False where that would be more work than another one."""
        size = self._ask(_SIZE)
        if size is None or size[0] > LARGE_BYTES or self._ask(_STATE) != self._new:
            return False
        with self.session.transaction():
            self.session.execute(self._empty)  # type: ignore[call-overload]
        return True


class LedgerPool:
    """Lends each ledger to one test at a time."""

    def __init__(self, create: Callable[[], str]) -> None:
        """`create` makes a database with an empty ledger and returns its address."""
        self._create = create
        self._returned: list[_Lent] = []

    def lend(self) -> _Lent:
        """Return an empty ledger."""
        for ledger in list(self._returned):
            with suppress(psycopg.Error):
                if ledger.is_in_use():
                    continue
                self._returned.remove(ledger)
                if ledger.empty():
                    return ledger
            ledger.session.close()
        return _Lent(self._create())

    def take_back(self, ledger: _Lent) -> None:
        """Keep a ledger for the next test."""
        self._returned.append(ledger)

    def close(self) -> None:
        """End its sessions."""
        for ledger in self._returned:
            ledger.session.close()
