"""From arguments to files: names, folders, patterns, and standard input kept aside in a private file; manifests.

A manifest says what the writer of a file promises of it, as FILE.manifest.json beside it. It is a JSON object like
{"rows": 3, "sha256": "…"}, of which either may be left out, but not both.
"""

from __future__ import annotations

import fcntl
import glob
import json
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from consent.errors import UnreadableFile, UnusableInput, unreadable
from consent.files import path_text
from producers.files.rejects import REJECTS_ENDING
from producers.files.sheet.rows import Sheet
from producers.parsing.columns import OWN

STDIN = "-"
MANIFEST_ENDING = ".manifest.json"
_TEXTS = (".csv", ".ndjson", ".jsonl")
_REJECTS_NAME = re.compile(rf"(?P<again>\.again(-(?P<times>\d+))?)?{re.escape(REJECTS_ENDING)}$")
_ENDINGS = (*_TEXTS, *(f"{text}{packed}" for text in _TEXTS for packed in (".gz", ".zst")), ".zip", ".xlsx")


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that a private copy was unpacked from.

    `sha256` names the bytes, `modified_at` is in microseconds, `rejects_path` is where the copy's rejected rows go, and
    `given` is None for a spool. `sheet` says that the copy holds the rows of a sheet.
    """

    sha256: str
    modified_at: int | None
    rejects_path: Path
    given: Path | None
    sheet: Sheet | None = None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read, and the name that people know it by.

    `spooled` says that it is our private copy of something that can be read only once: its time means nothing. So is
    what was unpacked from an archive, or holds the rows of a sheet: its `origin`.
    """

    path: Path
    name: str
    spooled: bool = False
    origin: Origin | None = None

    @property
    def given(self) -> Path | None:
        """The file that a person gave, an archive for its member; None if there is none to go back to."""
        if self.origin is not None:
            return self.origin.given
        return None if self.spooled else self.path

    @property
    def rejects_path(self) -> Path:
        """Where its rejected rows go without --rejects: beside it, or in the current folder.

        The name says which came from which: rows of `x.rejects.csv` that are rejected again go into
        `x.again.rejects.csv`, those of that file into `x.again-2.rejects.csv`.
        """
        if self.origin is not None:
            return self.origin.rejects_path
        beside = str(self.path) if self.name == path_text(self.path) else self.name  # the text may hold escapes
        if (found := _REJECTS_NAME.search(beside)) is None:
            return Path(beside + REJECTS_ENDING)
        again = f".again-{int(found['times'] or 1) + 1}" if found["again"] else ".again"
        return Path(beside[: found.start()] + again + REJECTS_ENDING)


OnUnusable = Callable[[str, UnusableInput, Path | None], None]
"""Takes note of a file that cannot be used: its name, why, and where it is if it is a file of its own."""


def _refuse(_name: str, error: UnusableInput, _path: Path | None) -> None:
    raise error


@contextmanager
def source_files(
    arguments: Sequence[str], stdin: BinaryIO | None = None, on_unusable: OnUnusable = _refuse
) -> Iterator[list[SourceFile]]:
    """Give the files that arguments mean, in order and each once: files, folders, patterns, `-` for standard input.

    A folder means its files with one of _ENDINGS, and neither a folder nor a pattern ever means a rejects file. What
    can be read only once (standard input, a pipe) is copied to a private file without a name. `on_unusable` is told of
    an argument that means no file: it raises the error unless the others are to be read all the same.
    """
    with ExitStack() as stack:
        files: dict[Path | str, SourceFile] = {}
        for argument in arguments:
            if argument == STDIN:
                stream = stdin or sys.stdin.buffer
                files.setdefault(STDIN, stack.enter_context(_spooled(stream, "stdin")))
                continue
            try:
                for path in _expand(argument):
                    files.setdefault(path.absolute(), stack.enter_context(_source(path)))
            except UnreadableFile as error:
                on_unusable(path_text(argument), error, None)
        yield list(files.values())


@contextmanager
def _source(path: Path) -> Iterator[SourceFile]:
    if stat.S_ISREG(_mode(path)):
        with _shared(path):
            yield SourceFile(path, path_text(path))
        return
    with path.open("rb") as stream, _spooled(stream, "stdin") as source:
        yield source


@contextmanager
def _shared(path: Path) -> Iterator[None]:
    """Let no other import give a rejects file another name while it is being read (see `producers.files.rejects`)."""
    with ExitStack() as stack:
        with suppress(OSError):
            file = stack.enter_context(path.open("rb"))
            if path.name.endswith(REJECTS_ENDING) or OWN[0].encode() in file.read(16):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            else:
                file.close()
        yield


@contextmanager
def _spooled(stream: BinaryIO, name: str) -> Iterator[SourceFile]:
    with private_copy() as spool:
        shutil.copyfileobj(stream, spool, 1024 * 1024)
        spool.flush()
        yield SourceFile(path_of(spool), name, spooled=True)


@contextmanager
def private_copy() -> Iterator[BinaryIO]:
    """Give a file that has no name and ends with this process, whatever ends it."""
    with tempfile.TemporaryFile(prefix="optrelay-") as spool:
        yield spool


def path_of(spool: BinaryIO) -> Path:
    """Return the path by which this process, and no other, can open a private copy again."""
    return Path(f"/dev/fd/{spool.fileno()}")


def _expand(argument: str) -> list[Path]:
    if not argument.strip():
        raise UnreadableFile("the name of a file is empty: is a variable of the shell not set? The folder itself is .")
    path = Path(argument)
    if glob.has_magic(argument) and not path.exists():
        names = glob.iglob(argument)  # noqa: PTH207 - Path.glob takes no absolute patterns
        found = [path for path in map(Path, names) if _is_meant(path, argument)]
    elif path.is_dir():
        found = [child for child in path.iterdir() if child.name.lower().endswith(_ENDINGS) and _is_meant(child, "")]
    else:
        return [path]
    if not found:
        what = "is a folder without a file to read" if path.is_dir() else "is no file and matches none"
        raise UnreadableFile(
            f"{path_text(argument)} {what}; "
            "a folder means its *.csv, *.ndjson and *.jsonl (also with .gz or .zst), *.zip and *.xlsx, "
            "without rejects files"
        )
    return sorted(found)


def _is_meant(path: Path, pattern: str) -> bool:
    return path.is_file() and (not path.name.endswith(REJECTS_ENDING) or pattern.endswith(REJECTS_ENDING))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        raise unreadable(f"{path_text(path)} cannot be read", error) from None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is promised of a file: how many rows it has (of an archive, all members), and its digest in lower case."""

    file: str
    rows: int | None
    sha256: str | None

    @classmethod
    def of_text(cls, text: str | bytes | None, file: str) -> Self:
        """Read the manifest of a file of this name; raises UnreadableFile if it promises nothing to check."""
        what = f"the manifest of {file}"
        try:
            manifest = json.loads(text or "")
            rows, digest = manifest.get("rows"), manifest.get("sha256")
        except (ValueError, AttributeError):
            raise UnreadableFile(
                f'{what} is no JSON object like {{"rows": 3, "sha256": "…"}}: write it again'
            ) from None
        if not isinstance(rows, int | None) or isinstance(rows, bool) or not isinstance(digest, str | None):
            raise UnreadableFile(f'{what} is wrong: "rows" is a number and "sha256" a text; write it again')
        if rows is None and digest is None:
            raise UnreadableFile(f"{what} has neither rows nor sha256: write it again")
        return cls(file, rows, digest and digest.strip().lower())

    @classmethod
    def beside(cls, source: SourceFile) -> Self | None:
        """Return the manifest that stands beside a file, None if there is none; raises UnreadableFile."""
        path = Path(f"{source.path}{MANIFEST_ENDING}")
        if source.spooled or not path.exists():
            return None
        try:
            return cls.of_text(path.read_bytes(), source.name)
        except OSError as error:
            raise UnreadableFile(f"the manifest of {source.name} cannot be read: {error.strerror}") from None

    def check_digest(self, sha256: str) -> None:
        """Raise UnreadableFile if the file has another digest (in lower case) than is promised."""
        if self.sha256 not in (None, sha256):
            raise UnreadableFile(f"{self.file} has another sha256 than its manifest says: bring it again")

    def check_most(self, rows: int) -> None:
        """Raise UnreadableFile if the file has fewer rows than promised, even if each of its lines is one."""
        if self.rows is not None and rows < self.rows:
            has = f"{max(0, rows):,} rows at most"
            raise UnreadableFile(f"{self.file} has {has}, and its manifest says {self.rows:,}: bring it again")

    def check_rows(self, rows: int) -> None:
        """Raise UnreadableFile if the file has another number of rows than is promised."""
        if self.rows not in (None, rows):
            raise UnreadableFile(f"{self.file} has {rows:,} rows, and its manifest says {self.rows:,}: bring it again")
