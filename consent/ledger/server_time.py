"""What time it is at the ledger's database, where that may be another machine."""

from __future__ import annotations

from sqlalchemy import text

from consent.ledger.database import Database


def server_time(database: Database) -> float | None:
    """Return PostgreSQL's time in seconds since 1970, or None for SQLite, which lives on this machine."""
    if database.is_sqlite:
        return None
    query = text("SELECT extract(epoch FROM clock_timestamp())")
    return float(database.read(lambda tx: tx.execute(query).scalar_one()))
