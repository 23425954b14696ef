"""Files and folders that are ours alone, names of files as text, and the user who runs a command.

A folder may be shared with others. What they put into it under a name of ours must neither be written nor believed.
"""

from __future__ import annotations

import getpass
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from consent.errors import ConfigurationError

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
_PART = ".part"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def path_text(path: Path | str) -> str:
    r"""Return a path as text that every database and terminal takes: a byte that is no UTF-8 is written as \xe4.

    So is a control character, with line feeds: a name may not look like a line of ours.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def private(path: str | Path, flags: int) -> int:
    """Open a file that is ours alone, as `open` does by its `opener`; what is created has mode 0600.

    A link is not followed and nothing is truncated. Raises ConfigurationError if what is there is no ordinary file, or
    belongs to another user than us and root.
    """
    flags = (flags & ~os.O_TRUNC) | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO would keep us waiting
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if Path(path).is_symlink():
            raise _refused(path, "is a link") from None
        raise ConfigurationError(f"{path_text(path)} cannot be opened: {error.strerror}") from None
    try:
        refuse_planted(os.fstat(descriptor), path)
    except ConfigurationError:
        os.close(descriptor)
        raise
    return descriptor


def ordinary(path: str | Path) -> BinaryIO:
    """Open a file that a setting names, to read it; raises OSError.

    Raises ConfigurationError for a FIFO or a device: the one would keep us waiting, the other may have no end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigurationError(f"{path_text(path)} is {'a folder' if stat.S_ISDIR(mode) else 'no ordinary file'}")
    return os.fdopen(descriptor, "rb")


def refuse_planted(found: os.stat_result, path: str | Path, others: int = 0) -> None:
    """Refuse a file or folder that may be another user's; raise ConfigurationError with the remedy.

    `others` are mode bits that it must not have.
    """
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise _refused(path, "is neither a file nor a folder")
    if found.st_uid not in {0, os.geteuid()}:
        raise _refused(path, f"belongs to another user (uid {found.st_uid})")
    if found.st_mode & others:
        raise _refused(path, "may be written by other users")


def refuse_planted_at(path: str | Path, others: int = 0) -> None:
    """Refuse what is at a path in the same way, and a link that another user has put there, wherever it leads.

    Raises ConfigurationError, and OSError if nothing is there.
    """
    link = os.lstat(path)
    if link.st_uid not in {0, os.geteuid()}:
        raise _refused(path, f"belongs to another user (uid {link.st_uid})")
    refuse_planted(os.stat(path), path, others)  # noqa: PTH116 - it may be a name in any encoding


def private_folder(path: Path) -> None:
    """Make a folder for ourselves, or take the one that is there and close it to others.

    Raises ConfigurationError if it is a link, or belongs to another user than us and root.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(path, "is a link")
    refuse_planted(found, path)
    if found.st_mode & _OTHERS_MAY_WRITE and found.st_uid == os.geteuid():
        path.chmod(0o700)


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """Give a file for its owner alone that gets its name once it is whole and on the disk; raise ConfigurationError."""
    part = path.with_name(path.name + _PART)
    try:
        if os.path.lexists(path):
            raise ConfigurationError(f"{path_text(path)} is there already: name a new file, or remove it first")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise ConfigurationError(
            f"{path_text(part)} is there already: another command writes it, or was killed: then remove it"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path_text(path)} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        raise ConfigurationError(f"{path_text(path)} cannot be written: {error.strerror}") from None
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def user_name() -> str:
    """Return who asks, for the log of what people did: the user's name, or the number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _refused(path: str | Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path_text(path)} {why}: remove it, or work in a folder that only you can write to")
