"""Dead letters as a CSV file that can be mended and imported again as it is."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from consent.change import from_micros
from consent.errors import ConfigurationError
from consent.ledger.letters import DeadLetter
from consent.settings import Settings
from producers.disarming import disarm
from worker.providers import provider_of

_FIRST = ("connection", "action", "effective_at")
_LAST = ("_code", "_message")


def export(settings: Settings, letters: Sequence[DeadLetter], path: Path | None) -> None:
    """Write letters to a new file for its owner alone, or to standard output; raise ConfigurationError."""
    rows = [_row(settings, letter) for letter in letters]
    text = _csv(rows)
    if path is None:
        sys.stdout.write(text)
        return
    try:
        # O_EXCL: a file with other rights, or a link to elsewhere, must not receive people's data.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already: name a new file, or remove it first") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None


def _row(settings: Settings, letter: DeadLetter) -> dict[str, str]:
    provider = provider_of(settings.connection(letter.connection))
    own = {
        "connection": letter.connection,
        "action": letter.action.value,
        "effective_at": from_micros(letter.effective_at).isoformat().replace("+00:00", "Z"),
    }
    columns = provider.columns(letter.address, letter.slot, letter.details)
    disarmed = {name: disarm(cell) for name, cell in columns.items()}
    return own | disarmed | {"_code": letter.code, "_message": letter.reason}


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    between = dict.fromkeys(name for row in rows for name in row if name not in _FIRST + _LAST)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*_FIRST, *between, *_LAST], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
