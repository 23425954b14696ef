"""What time it is at the ledger's database, where that may be another machine."""

from __future__ import annotations

import time

from sqlalchemy import text

from consent.errors import LedgerUnavailable
from consent.ledger.database import Database

_BELIEVED_SECONDS = 30.0


def wall_clock() -> int:
    """Return this machine's time of day in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000


class ServerClock:
    """The database's clock, so that leases mean the same on every machine whatever its own clock says.

    It is asked now and then; in between, this machine's monotonic clock goes on from there. While the database is away
    the last answer holds.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._base: int | None = None
        self._at = 0.0
        self._asked = 0.0

    def __call__(self) -> int:
        """Return the time in microseconds since 1970-01-01 UTC."""
        if self._base is None or time.monotonic() - self._asked > _BELIEVED_SECONDS:
            self._ask()
        if self._base is None:
            return wall_clock()
        return self._base + int((time.monotonic() - self._at) * 1_000_000)

    def _ask(self) -> None:
        before = self._asked = time.monotonic()
        try:
            found = server_time(self._database)
        except LedgerUnavailable:
            return
        after = time.monotonic()
        if found is not None:
            self._base, self._at = int(found * 1_000_000), (before + after) / 2


def server_time(database: Database) -> float | None:
    """Return PostgreSQL's time in seconds since 1970, or None for SQLite, which lives on this machine."""
    if database.is_sqlite:
        return None
    query = text("SELECT extract(epoch FROM clock_timestamp())")
    return float(database.read(lambda tx: tx.execute(query).scalar_one()))
