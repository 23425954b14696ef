"""Maintenance of a ledger: bringing its schema up to date, and backing up an SQLite file while others use it."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, select

from consent.errors import ConfigurationError, LedgerUnavailable
from consent.ledger.database import HASH_KEY, Database
from consent.ledger.dialects.locks import lock_schema
from consent.ledger.schema import REVISION, info

_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> bool:
    """Apply what is missing, in one transaction; return whether anything was; raise LedgerUnavailable."""
    before = database.revision()
    database.write(_upgrade, checked=False)
    return before != REVISION


def _upgrade(tx: Connection) -> None:
    lock_schema(tx)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = tx
    command.upgrade(config, "head")
    if tx.execute(select(info.c.value).where(info.c.name == HASH_KEY)).first() is None:
        tx.execute(info.insert().values(name=HASH_KEY, value=secrets.token_hex(32)))


_PART = ".part"


def back_up(database: Database, target: Path) -> int:
    """Copy an SQLite ledger as it stands at one moment into a new file, its owner's alone; return its bytes.

    It holds what has been committed by then, also what stands in the log beside the file (`-wal`), which a mere copy of
    the file would leave out; writers are not held up. The copy is checked before it gets its name. Source:
    https://sqlite.org/backup.html. Raises ConfigurationError if there is nothing to copy or the target is there
    already, and LedgerUnavailable.
    """
    source = Path(str(database.url.database))
    if not source.exists():
        raise ConfigurationError(f"there is no ledger at {source}: look at OPTRELAY_LEDGER_URL and the current folder")
    if target.exists():
        raise ConfigurationError(f"{target} is there already: name a file that is not, or remove it")
    part = target.with_name(target.name + _PART)
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        message = f"{part} is there already: another backup is under way, or was killed: then remove it"
        raise ConfigurationError(message) from None
    try:
        _copy(source, part)
        _keep(part, target)
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"the ledger's database says: {error}") from error
    finally:
        for left in (part, Path(f"{part}-wal"), Path(f"{part}-shm")):
            with suppress(FileNotFoundError):
                left.unlink()
    return target.stat().st_size


def _copy(source: Path, part: Path) -> None:
    address = f"file:{quote(str(source.absolute()))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as ours, closing(sqlite3.connect(part)) as copy:
        ours.backup(copy)  # in one step: one view of the ledger, and no start from the beginning when others write
        found = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != ("ok",):
            raise LedgerUnavailable(f"the ledger is damaged: {found[0]}; keep this file and go back to an older backup")


def _keep(part: Path, target: Path) -> None:
    """Give the copy its name once it is on the disk."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(target)
    folder = os.open(target.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
