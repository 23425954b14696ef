"""Bringing a ledger's schema to the one that this version needs."""

from __future__ import annotations

import secrets
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, select, text

from consent.ledger.database import HASH_KEY, Database
from consent.ledger.schema import REVISION, info

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_301_125  # any number of our own, for PostgreSQL's advisory lock


def migrate(database: Database) -> bool:
    """Apply what is missing, in one transaction; return whether anything was; raise LedgerUnavailable."""
    before = database.revision()
    database.write(_upgrade, checked=False)
    return before != REVISION


def _upgrade(tx: Connection) -> None:
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})
        if tx.execute(text("SELECT to_regclass('alembic_version')")).scalar() is not None:
            # Whoever writes has read this table in the same transaction: they end first, later ones see what is new.
            tx.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = tx
    command.upgrade(config, "head")
    if tx.execute(select(info.c.value).where(info.c.name == HASH_KEY)).first() is None:
        tx.execute(info.insert().values(name=HASH_KEY, value=secrets.token_hex(32)))
