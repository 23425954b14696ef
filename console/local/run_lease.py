"""One run at a time with a broker of its own: a lease in the ledger, which says who is at work, and until when.

Not a lock on a file: one ledger may be reached by several paths and from several machines. Not a lock of a database
session either: a pooler in transaction mode (PgBouncer) hands sessions round.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from consent.errors import ConfigurationError, LedgerError, RunUnderWay
from consent.ledger.ledger import Ledger
from consent.ledger.queue.leases import Lease, is_dead, process_token
from consent.settings import Settings

LEASE_SECONDS = 15
"""For how long a run that was killed on another machine keeps others out; on this machine its death is seen at once."""

_RENEW_SECONDS = 3.0
_NAME = "run"


@contextmanager
def exclusive_run(settings: Settings) -> Iterator[None]:
    """Keep other runs out while this one has a broker of its own, for two brokers are two rate limits.

    Raises RunUnderWay, with the other's machine and process, LedgerUnavailable, and ConfigurationError if the ledger's
    file is one that SQLite cannot guard.
    """
    if settings.broker_url:
        yield
        return
    ledger = Ledger(settings.ledger_url)
    token = f"{process_token()} {secrets.token_hex(8)}"
    try:
        if ledger.maintenance.file is not None:
            _refuse_second_name(ledger.maintenance.file)
        _take(ledger, token)
        try:
            with _renewed(ledger, token):
                yield
        finally:
            with suppress(LedgerError):  # then it ends by itself
                ledger.leases.give_up_lease(_wanted(ledger, token))
    finally:
        ledger.close()


def who_delivers(ledger: Ledger) -> str:
    """Say what delivers what is pending where no broker is configured: a run that is at work, or one to be called.

    Raises LedgerUnavailable.
    """
    found = ledger.leases.holder_of(_NAME, now=ledger.now())
    if found is None:
        return "`optrelay run` delivers what is pending; with OPTRELAY_BROKER_URL, `optrelay worker` does"
    return f"`optrelay up` or `run` is at work ({found.holder}) and delivers what is pending"


def _wanted(ledger: Ledger, token: str) -> Lease:
    holder = f"{socket.gethostname()}, process {os.getpid()}"
    return Lease(_NAME, holder, token, ledger.now() + LEASE_SECONDS * 1_000_000)


def _take(ledger: Ledger, token: str) -> None:
    wanted, now = _wanted(ledger, token), ledger.now()
    other = ledger.leases.take_lease(wanted, now=now)
    if other is not None and is_dead(other.token):
        other = ledger.leases.take_lease(wanted, now=now, dead=other.token)
    if other is not None:
        raise RunUnderWay(
            f"another run is using this ledger ({other.holder}): wait until it has finished, then run this again; "
            f"if it was killed, that is in {LEASE_SECONDS} seconds"
        )


@contextmanager
def _renewed(ledger: Ledger, token: str) -> Iterator[None]:
    """Prolong the lease while this lasts.

    One that is lost, because the database was away for longer than it lasted, is not fought for: the brokers' own
    reservations keep the limit even then.
    """
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEW_SECONDS):
            with suppress(LedgerError):
                ledger.leases.take_lease(_wanted(ledger, token), now=ledger.now())

    thread = threading.Thread(target=renew, name="run lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_RENEW_SECONDS)


def _refuse_second_name(path: Path) -> None:
    """Refuse a file that others may open under another name, with a log of its own beside it: both would damage it.

    Source: https://sqlite.org/howtocorrupt.html, "Multiple links to the same file".
    """
    path = path.resolve()
    mounts = Path("/proc/self/mountinfo")
    lines = mounts.read_text(errors="replace").splitlines() if mounts.exists() else []
    if any(line.split()[4:5] == [str(path)] for line in lines):
        raise ConfigurationError(
            f"the ledger {path} is mounted alone, without what SQLite keeps beside it: mount its folder"
        )
    if path.exists() and path.stat().st_nlink > 1:
        raise ConfigurationError(f"the ledger {path} is a file with several names (hard links): SQLite cannot guard it")
