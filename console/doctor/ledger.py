"""The doctor's look at the ledger: reachable, current, private, with room to grow, and on the same time as we are."""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from consent.errors import READ_ONLY, ConfigurationError, LedgerOutdated
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from consent.times import duration_text
from console.doctor.finding import Finding, clock_finding
from console.ledger_access import missing_file
from worker.channels import channels_of
from worker.standstill import standstill

_LEAST_BYTES = 1_000_000_000
_UNSENT_SECONDS = 3600.0


def look(settings: Settings) -> Iterator[Finding]:
    """Look at the database; an SQLite file is not made."""
    missing = missing_file(settings)
    if missing is not None:
        yield Finding("ledger", ok=None, message=f"there is no {missing} yet", remedy="the first import makes it")
        yield from _room(missing.absolute().parent)
        return
    ledger = Ledger(settings.ledger_url)
    try:
        yield from _database(settings, ledger)
    finally:
        ledger.close()


def _database(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    where = ledger.maintenance.address
    try:
        ledger.maintenance.check_revision()
        yield Finding("ledger", ok=True, message=f"{where} at revision {ledger.maintenance.revision()}")
    except LedgerOutdated as error:
        yield Finding("ledger", ok=False, message=f"{where}: {error}")
    yield from _stopped(ledger)
    yield from _standstill(settings, ledger)
    yield from _notices(settings, ledger)
    if (file := ledger.maintenance.file) is not None:
        yield _rights(file.absolute())
        yield from _room(file.absolute().parent)
    else:
        yield _clock(ledger)
        if not ledger.maintenance.takes_writes():
            yield Finding("ledger's writes", ok=False, message=READ_ONLY, remedy="name the server that takes writes")


def _stopped(ledger: Ledger) -> Iterator[Finding]:
    """Tell the buckets that make no calls, and why."""
    with suppress(LedgerOutdated):
        for one in ledger.breakers.all_health():
            if one.is_open:
                yield Finding(f"calls of {one.name}", ok=False, message=f"stopped, everything is kept: {one.reason}")
        for pause in ledger.pauses.current():
            yield Finding(f"calls of {pause.connection}", ok=None, message=pause.message)


def _standstill(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    """Tell what has waited for too long, and else how old the oldest pending opt-out is."""
    with suppress(LedgerOutdated):
        ledger.maintenance.check_revision()
        found = standstill(settings, ledger)
        for problem in found.problems:
            yield Finding("deliveries", ok=False, message=problem)
        if not found.problems:
            yield Finding("deliveries", ok=True, message=found.message)


def _notices(settings: Settings, ledger: Ledger) -> Iterator[Finding]:
    """Tell whether notices can be sent, and are."""
    if not settings.notify:
        yield Finding("notices", ok=None, message="no OPTRELAY_NOTIFY: `optrelay notices` shows them, none is sent")
        return
    try:
        channels = len(channels_of(settings))
    except ConfigurationError as error:
        yield Finding("notices", ok=False, message=str(error))
        return
    with suppress(LedgerOutdated):
        ledger.maintenance.check_revision()
        since = ledger.notices.unsent_since()
        age = 0.0 if since is None else (ledger.now() - since) / 1e6
        late = age > _UNSENT_SECONDS
        message = f"unsent for {duration_text(age)}" if late else f"{channels} configured, nothing has waited for long"
        yield Finding(
            "notices", ok=not late, message=message, remedy="`optrelay notices test` says why" if late else ""
        )


def _rights(path: Path) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        message = f"others on this machine can read it (mode {mode:04o}), and it names persons"
        return Finding("ledger file", ok=False, message=message, remedy=f"chmod 600 {path}*")
    return Finding("ledger file", ok=True, message=f"for its owner alone (mode {mode:04o})")


def _room(folder: Path) -> Iterator[Finding]:
    if not folder.exists():
        return
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:,.1f} GB free in {folder}"
    remedy = "" if free >= _LEAST_BYTES else "make room: ten million changes need about 4 GB"
    yield Finding("disk", ok=not remedy, message=message, remedy=remedy)


def _clock(ledger: Ledger) -> Finding:
    asked = time.time()
    theirs = ledger.maintenance.server_time() or asked
    return clock_finding("database's clock", theirs - (asked + time.time()) / 2)
