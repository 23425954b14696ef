"""What can be wrong with a run as a whole; what is wrong with one row or change is a value, not an error.

    ConfigurationError            the settings or arguments cannot be carried out: fix them (exit 2)
    └── UnusableCursor            a cursor of the outcome log that cannot be followed
    OptrelayError
    ├── UnusableInput             a file as a whole: nothing of it has been recorded (exit 2)
    │   ├── UnreadableFile        missing, forbidden, damaged or empty
    │   │   └── UnreadableNow     this machine cannot read it now, whatever it is: its disk is full
    │   ├── UnusableHeader        no header, or one that lacks what a change needs
    │   └── UnstableFile          it is still being written
    ├── LedgerError
    │   ├── LedgerUnavailable     the database cannot be reached or written
    │   │   └── LedgerRefused     it refuses what it was given, and would do so again
    │   └── LedgerOutdated        the schema is not the one that this version needs
    ├── ImportUnderWay            another process is recording the same import at this moment
    ├── RunUnderWay               another run is at work with a broker of its own on this ledger
    ├── WorkerUnavailable         a worker that we started ends again and again
    ├── BrokerUnavailable         Valkey/Redis cannot be started or reached
    └── SourceUnavailable         a source of events cannot be reached or read now

ConfigurationError stands outside OptrelayError on purpose: a handler that keeps going must not swallow it.
Each message says what is wrong and what to do next, and never names a person or a secret.
"""

from __future__ import annotations

import errno
import traceback
from pathlib import Path


class ConfigurationError(Exception):
    """The settings or arguments contradict themselves or the world."""


class UnusableCursor(ConfigurationError):
    """A cursor that cannot be followed; `gone` says that it was one, and what stood behind it is not there now."""

    def __init__(self, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone


class OptrelayError(Exception):
    """The work could not be done, though it was asked for correctly."""


class UnusableInput(OptrelayError):
    """A source as a whole cannot be used; nothing of it has been recorded."""


class UnreadableFile(UnusableInput):
    """A file is missing, forbidden, damaged or empty."""


class UnreadableNow(UnreadableFile):
    """A file cannot be read by this machine now, and nothing is known of the file itself: it stays where it is."""


class UnusableHeader(UnusableInput):
    """A file has no header, or one that lacks the columns that a change needs."""


class UnstableFile(UnusableInput):
    """A file changes while it is being read."""


STAYS = (UnstableFile, UnreadableNow)
"""What passes by itself: a file that draws it is tried again, and is not put away as one that cannot be used."""

_MACHINE = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EBUSY"),
        *("EIO", "ESTALE", "ETIMEDOUT", "ENXIO", "ENODEV", "EHOSTDOWN", "ENETDOWN", "ECONNRESET"),
    )
)


def unreadable(message: str, error: OSError) -> UnreadableFile:
    """Return the error of a file that cannot be read, by whether this machine or the file is what is wrong."""
    words = f"{message}: {error.strerror or type(error).__name__}"
    return UnreadableNow(words) if error.errno in _MACHINE else UnreadableFile(words)


class LedgerError(OptrelayError):
    """The ledger cannot do its work."""


class LedgerUnavailable(LedgerError):
    """The ledger's database cannot be reached or written."""


class LedgerRefused(LedgerUnavailable):
    """The ledger's database refuses some of what it was given, and would do so again; nothing was recorded.

    `members` are the places of the changes that it refuses among those handed over; () if that is not known.
    """

    members: tuple[int, ...] = ()


class LedgerOutdated(LedgerError):
    """The ledger's schema is not the one that this version needs."""


READ_ONLY = "it takes no writes (read-only): it is a standby, or was switched over; nothing is delivered until it does"
"""What is wrong with a ledger's database that can be read and not written."""


class BrokerUnavailable(OptrelayError):
    """The broker cannot be started or reached."""


class SourceUnavailable(OptrelayError):
    """A source of events cannot be reached or read now; what was not acknowledged stays in it."""


class ImportUnderWay(OptrelayError):
    """Another process is recording the same import."""


class WorkerUnavailable(OptrelayError):
    """A worker that we started ends again and again."""


class RunUnderWay(OptrelayError):
    """Another run is at work with a broker of its own on the same ledger."""


def place_of(error: BaseException) -> str:
    """Return the kind of an error and the line it came from, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
