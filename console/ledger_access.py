"""Opening the ledger for a command, and closing it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consent.errors import ConfigurationError
from consent.ledger.ledger import Ledger
from consent.settings import Settings


@contextmanager
def writing_ledger(settings: Settings) -> Iterator[Ledger]:
    """Give the ledger ready for changes; an SQLite file is made if there is none."""
    ledger = _ledger(settings)
    try:
        ledger.maintenance.prepare()
        yield ledger
    finally:
        ledger.close()


@contextmanager
def reading_ledger(settings: Settings) -> Iterator[Ledger]:
    """Give the ledger to look at; raise ConfigurationError if there is none yet, and make none."""
    if missing_file(settings) is not None:
        raise ConfigurationError(
            f"there is no ledger at {missing_file(settings)}: look at OPTRELAY_LEDGER_URL and at the current folder; "
            "`optrelay run FILE` makes one"
        )
    with writing_ledger(settings) as ledger:
        yield ledger


@contextmanager
def ledger_if_any(settings: Settings) -> Iterator[Ledger | None]:
    """Give the ledger without changing it, not even its schema; None if there is none or it is empty."""
    if missing_file(settings) is not None:
        yield None
        return
    ledger = _ledger(settings)
    try:
        if ledger.maintenance.revision() is None:
            yield None
        else:
            ledger.maintenance.check_revision()
            yield ledger
    finally:
        ledger.close()


def _ledger(settings: Settings) -> Ledger:
    return Ledger(
        settings.ledger_url,
        reassert=settings.reassert_rules,
        deadline_rules=settings.chosen_deadlines,
        guards_of=settings.guards_of,
    )


def missing_file(settings: Settings) -> Path | None:
    """Return the SQLite file that is not there yet, or None."""
    file = Ledger(settings.ledger_url).maintenance.file
    return file if file is not None and not file.exists() else None
