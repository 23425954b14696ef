"""Dead letters as a CSV file that can be mended and imported again as it is."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from consent.change import from_micros
from consent.errors import ConfigurationError
from consent.ledger.dead_letters import DeadLetter, FoundLetters
from consent.settings import Settings
from console.screen import visible
from producers.csv.csv_injection import escape
from producers.parsing.columns import RECORDED_AS
from worker.providers import provider_of

_FIRST = ("connection", "action", "effective_at")
_LAST = ("_code", "_message", RECORDED_AS)


def export(settings: Settings, letters: FoundLetters, path: Path | None) -> None:
    """Write letters to a new file for its owner alone, or to standard output; raise ConfigurationError.

    They are gone through twice, because the header must name the columns of all.
    """
    between = list(dict.fromkeys(name for one in letters for name in _row(settings, one) if name not in _FIRST + _LAST))
    header = [*_FIRST, *between, *_LAST]
    if path is None:
        with _standard_output() as file:
            _write(file, header, settings, letters)
        return
    try:
        # O_EXCL: a file with other rights, or a link to elsewhere, must not receive people's data.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file, _whole(path):
            _write(file, header, settings, letters)
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already: name a new file, or remove it first") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    """Give standard output in the encoding of our files; a terminal is shown control characters, and obeys none."""
    if sys.stdout.isatty():
        shown = io.StringIO()
        yield shown
        sys.stdout.write(visible(shown.getvalue()))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="strict")
    yield sys.stdout


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Remove a file that could not be written to its end: the next try finds its name free."""
    try:
        yield
    except BaseException:
        path.unlink()
        raise


def _write(file: TextIO, header: Sequence[str], settings: Settings, letters: FoundLetters) -> None:
    writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(settings, letter) for letter in letters)


def _row(settings: Settings, letter: DeadLetter) -> dict[str, str]:
    provider = provider_of(settings.connection(letter.connection))
    own = {
        "connection": letter.connection,
        "action": letter.action.value,
        "effective_at": from_micros(letter.effective_at).isoformat().replace("+00:00", "Z"),
    }
    columns = provider.export(letter.address, letter.slot, letter.details)
    disarmed = {name: escape(cell) for name, cell in columns.items()}
    return own | disarmed | {"_code": letter.code, "_message": letter.reason, RECORDED_AS: letter.public_id}
