"""Maintenance of a ledger: bringing its schema up to date, and backing up an SQLite file while others use it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, select, text, update
from sqlalchemy.exc import ProgrammingError

from consent.errors import ConfigurationError, LedgerUnavailable
from consent.ledger.database import HASH_KEY, LedgerPart, check
from consent.ledger.dialects.locks import lock_schema
from consent.ledger.schema import REVISION, info

_SIZE = text("SELECT pg_database_size(current_database())")
_LEAST_ROOM = 1_000_000  # bytes, about what a large claim writes
_AS_IT_IS = update(info).values(value=info.c.value)
_MIGRATIONS = Path(__file__).parent / "migrations"


class Maintenance(LedgerPart):
    """A ledger as its operator sees it: where it is, at which revision, and whether it works."""

    needed_revision = REVISION
    """The revision of the schema that this version was written for."""

    @property
    def address(self) -> str:
        """Where the ledger is, without any secret."""
        return self.database.url.render_as_string(hide_password=True)

    @property
    def file(self) -> Path | None:
        """The SQLite file that holds the ledger; None if a server holds it."""
        return Path(self.database.url.database or "") if self.database.is_sqlite else None

    def size(self) -> int:
        """Return the bytes that the database takes, with its indexes and SQLite's log; raise LedgerUnavailable."""
        if (file := self.file) is not None:
            return sum(one.stat().st_size for one in (file, Path(f"{file}-wal")) if one.exists())
        return self.database.read(lambda tx: int(tx.execute(_SIZE).scalar_one()))

    def revision(self) -> str | None:
        """Return the revision of the schema, or None for an empty database; raise LedgerUnavailable."""
        try:
            return self.database.read(lambda tx: tx.execute(text("SELECT version_num FROM alembic_version")).scalar())
        except LedgerUnavailable as error:
            if isinstance(error.__cause__, ProgrammingError) or "no such table" in str(error.__cause__):
                return None
            raise

    def check_revision(self) -> None:
        """Raise LedgerOutdated, with the remedy, unless the schema is the one this version was written for."""
        check(self.revision())

    def takes_writes(self) -> bool:
        """Return whether the database takes writes: a standby does not; raise LedgerUnavailable."""
        return self.database.dialect.takes_writes(self.database.url, self.database.read)

    def try_write(self) -> None:
        """Commit a write that changes nothing; raise LedgerUnavailable if that fails, or if the disk is full.

        On a full disk SQLite may still take a small write, in what it had used before, and none of those of a delivery.
        """
        self.database.write(lambda tx: tx.execute(_AS_IT_IS))
        if (file := self.file) is not None and shutil.disk_usage(file.absolute().parent).free < _LEAST_ROOM:
            raise LedgerUnavailable("the disk that holds the ledger is full")

    def server_time(self) -> float | None:
        """Return the server's time in seconds since 1970, None for SQLite; raise LedgerUnavailable."""
        return self.database.dialect.server_time(self.database.read)

    def prepare(self) -> None:
        """Make the ledger ready: SQLite is migrated, PostgreSQL must have been (raises LedgerOutdated)."""
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.migrate()
        self.check_revision()

    def migrate(self) -> bool:
        """Bring the schema up to date in one transaction; return whether there was anything to do."""
        if self.revision() == REVISION:
            return False
        self.database.write(_upgrade, checked=False)
        return True

    def merged_targets(self) -> dict[str, int]:
        """Return what revision 0011 counted when it made one target of each person; empty if it had nothing to do."""
        query = select(info.c.value).where(info.c.name == "merged_by_0011")
        found = self.database.read(lambda tx: tx.execute(query).scalar())
        return {} if found is None else dict(json.loads(found))

    def back_up(self, target: Path) -> int:
        """Copy an SQLite ledger as it stands at one moment into a new file, its owner's alone; return its bytes.

        It holds what has been committed by then, also what stands in the log beside the file (`-wal`), which a mere
        copy of the file would leave out; writers are not held up. The copy is checked before it gets its name. Source:
        https://sqlite.org/backup.html. Raises ConfigurationError if there is nothing to copy or the target is there
        already, and LedgerUnavailable.
        """
        if (source := self.file) is None:
            raise ConfigurationError(_BACK_UP_SERVER)
        if not source.exists():
            raise ConfigurationError(
                f"there is no ledger at {source}: look at OPTRELAY_LEDGER_URL and the current folder"
            )
        if target.exists():
            raise ConfigurationError(f"{target} is there already: name a file that is not, or remove it")
        if not target.parent.is_dir():
            raise ConfigurationError(f"{target.parent} is no folder that is there: make it first, or name another")
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


def _upgrade(tx: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - seldom needed, and slow to import
    from alembic.config import Config  # noqa: PLC0415

    lock_schema(tx)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = tx
    command.upgrade(config, "head")
    if tx.execute(select(info.c.value).where(info.c.name == HASH_KEY)).first() is None:
        tx.execute(info.insert().values(name=HASH_KEY, value=secrets.token_hex(32)))


_PART = ".part"
_BACK_UP_SERVER = (
    "this ledger is PostgreSQL's: `pg_dump --format=custom --file=FILE DATABASE` copies it as it stands at one moment, "
    "and `pg_restore` brings it back"
)


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
