"""Where a file goes that is done with: into done/ or failed/ beside it, and never over another file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from consent.errors import ConfigurationError
from consent.files import path_text

DONE = "done"
FAILED = "failed"
HELD = "held"
REASON_ENDING = ".reason.txt"
_NAMES = 1000


def names_for(name: str) -> Iterator[str]:
    """Yield the names that a file may get where others may have had its name before: its own, then with the time."""
    yield name
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    yield f"{moment}-{name}"
    for number in range(2, _NAMES):
        yield f"{moment}-{number}-{name}"


def move_into(path: Path, folder: str) -> Path:
    """Move a file into a folder beside it, which is made if need be; return where it is then.

    Its name there is taken before it is moved, so that no other file is ever lost, and a crash in between leaves
    nothing but an empty file. Raises OSError, and ConfigurationError if the folder is a link.
    """
    beside = path.parent / folder
    beside.mkdir(exist_ok=True)
    if not stat.S_ISDIR(beside.lstat().st_mode):
        raise ConfigurationError(f"{path_text(beside)} is a link: remove it")
    for name in names_for(path.name):
        target = beside / name
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        except FileExistsError:
            continue
        try:
            path.replace(target)
        except OSError:
            target.unlink()
            raise
        return target
    raise FileExistsError(f"{path_text(beside)} holds too many files of this name")


def move_failed(path: Path, reason: str) -> Path:
    """Move a file that cannot be used into failed/ beside it, with a file that says why; return where it is then.

    Who brought the file may read the reason: it repeats no cell. Raises OSError, and ConfigurationError.
    """
    target = move_into(path, FAILED)
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(f"{target}{REASON_ENDING}", flags, 0o644), "w", encoding="utf-8") as file:
        file.write(f"{reason}\n")
    return target
