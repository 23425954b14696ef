"""The command `backup`: a copy of an SQLite ledger; PostgreSQL has a program of its own for that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consent.settings import load_settings
from console.options import JsonOption
from console.screen import Screen


def backup(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that is not there yet.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Copy the ledger into FILE while other processes use it; SQLite only.

    The copy is the ledger as it stood at one moment. It names persons, so only its owner can read it. To use it, name
    it in OPTRELAY_LEDGER_URL, or put it in the ledger's place while nothing runs, without the old -wal and -shm.

    For example:

        optrelay backup /backups/optrelay-$(date +%F).db
    """
    from consent.errors import ConfigurationError
    from consent.ledger.database import Database
    from consent.ledger.maintenance import back_up

    settings, screen = load_settings(), Screen(as_json=as_json)
    database = Database(settings.ledger_url)
    if not database.is_sqlite:
        raise ConfigurationError(
            "this ledger is PostgreSQL's: `pg_dump --format=custom --file=FILE DATABASE` copies it as it stands at one "
            "moment, and `pg_restore` brings it back"
        )
    size = back_up(database, file)
    screen.show(f"copied {size:,} bytes to {file}")
    screen.give({"file": str(file), "bytes": size})
