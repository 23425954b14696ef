"""A place that is watched for files: what it must be able to do, and a folder of this machine."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from consent.errors import SourceUnavailable
from consent.files import path_text
from producers.files.rejects import REJECTS_ENDING
from producers.files.sources import SourceFile
from producers.watch.finished import DONE, move_failed, move_into

LONGEST_NOTE = 64 * 1024
"""Bytes of the longest manifest."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file at a place; `modified` is in seconds since 1970, None where the place does not tell."""

    name: str
    size: int
    modified: float | None
    tag: str = ""

    @property
    def version(self) -> str:
        """What is another text once the file is another one."""
        return f"{self.size} {self.modified} {self.tag}".strip()


class FileGone(Exception):
    """A file is no longer at its place, or is another one."""


class Place(Protocol):
    """Where files come to. Every method raises SourceUnavailable if the place cannot be used now.

    `shown` names it without any credential.
    """

    @property
    def shown(self) -> str:
        """Which place it is."""
        ...

    def list(self) -> list[FoundFile]:
        """Return the files that are there now."""
        ...

    def fetched(self, file: FoundFile) -> AbstractContextManager[SourceFile]:
        """Give a file to read; raise FileGone."""
        ...

    def text(self, name: str) -> str | None:
        """Return a small file as text, None if it is not there or is not small."""
        ...

    def move(self, file: FoundFile, folder: str, reason: str = "") -> str:
        """Move a file into a folder below the place, a reason beside it; return where it is then. Raises FileGone."""
        ...

    def move_rejects(self, path: Path, *, put: bool) -> str:
        """Move the rejects file of a file that was recorded where it belongs; return where it is then.

        `put` says that it is to go back to a place of another machine.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is none to remove."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine. Links in it are no files of it: they may lead anywhere."""

    path: Path

    @property
    def shown(self) -> str:
        """Its path."""
        return path_text(self.path)

    def list(self) -> list[FoundFile]:
        """Return its files."""
        found = []
        with self._usable(), os.scandir(self.path) as listed:
            for one in listed:
                with suppress(FileNotFoundError):  # its writer has renamed or removed it meanwhile
                    found.append((one.name, one.stat(follow_symlinks=False)))
        return [_found(name, stats) for name, stats in found if stat.S_ISREG(stats.st_mode)]

    @contextmanager
    def fetched(self, file: FoundFile) -> Iterator[SourceFile]:
        """Give the file itself."""
        path = self._same(file)
        yield SourceFile(path, path_text(path))

    def text(self, name: str) -> str | None:
        """Return a small file as text."""
        with self._usable(), suppress(FileNotFoundError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with os.fdopen(os.open(self.path / name, flags), "rb") as file:
                content = file.read(LONGEST_NOTE + 1)
            return content.decode("utf-8", "replace") if len(content) <= LONGEST_NOTE else None
        return None

    def move(self, file: FoundFile, folder: str, reason: str = "") -> str:
        """Move the file beside itself."""
        with self._usable():
            path = self._same(file)
            for rejects in self._left_behind(file.name):
                move_into(rejects, folder)
            return path_text(move_failed(path, reason) if reason else move_into(path, folder))

    def move_rejects(self, path: Path, *, put: bool) -> str:  # noqa: ARG002 - it is there already
        """Let it follow its file."""
        with self._usable():
            return path_text(move_into(path, DONE))

    def delete(self, name: str) -> None:
        """Remove a file."""
        with self._usable():
            (self.path / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _left_behind(self, name: str) -> Sequence[Path]:
        """Return the rejects files of a file, which a watcher that was killed has not moved."""
        own = re.compile(rf"{re.escape(name)}(\.member-\d+)?{re.escape(REJECTS_ENDING)}")
        return [self.path / one.name for one in self.list() if own.fullmatch(one.name)]

    def _same(self, file: FoundFile) -> Path:
        path = self.path / file.name
        try:
            now = _found(file.name, path.lstat())
        except FileNotFoundError:
            raise FileGone(file.name) from None
        if now.version != file.version:
            raise FileGone(file.name)
        return path

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            if self.path.is_dir():
                raise
            raise SourceUnavailable(f"{self.shown} is not there") from None
        except OSError as error:
            raise SourceUnavailable(f"{self.shown} cannot be used: {error.strerror}") from None


def _found(name: str, stats: os.stat_result) -> FoundFile:
    return FoundFile(name, stats.st_size, stats.st_mtime_ns / 1e9, f"{stats.st_ino} {stats.st_mtime_ns}")
