"""The rejected rows of an import, as a file that can be fixed and imported again.

A person may be at work on an earlier import's file of the same name, which alone holds its rejected rows. So nothing is
truncated or overwritten unless it is known to be this import's own, by a digest that the checkpoint keeps, or to hold
nothing but what is being written anyway. Any other file gets a number before its ending and stays.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import glob
import io
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from consent.errors import ConfigurationError, ImportUnderWay
from consent.files import path_text
from consent.imports import RejectedRow
from producers.files.csv_injection import escape
from producers.parsing.columns import OWN, REJECT_COLUMNS

REJECTS_ENDING = ".rejects.csv"
_DAMAGED = re.compile(r"[\ud800-\udfff]")
_AT_ONCE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RejectsHeader:
    """What stands over the rows: the original names, and where a rejects file's own columns stand among them already.

    `mapping` is the name of the column that carries the mapping of the rows ("": they need none).
    """

    names: Sequence[str]
    delimiter: str
    own: frozenset[int] = frozenset()
    mapping: str = ""


class RejectsFile:
    """Rejected rows, in UTF-8 and with the delimiter of their file, for their owner's eyes only (mode 0600).

    `_line`, `_column`, `_code`, `_message` and `_effective_at` stand before the original columns, and the cells stay as
    they were: a row with too few or too many cells keeps them so, and is rejected until each is put under its column.
    `_effective_at` is since when the row would have held, so that fixing it later makes it no newer than its file.
    Damaged characters become U+FFFD, which is rejected as well. A cell that a spreadsheet would take for a formula is
    escaped with an apostrophe, which is undone when the file is imported (see `csv_injection`).

    The file is made when there is something to write. `path` is where it really is, `digest` that of its content, and
    `notes` what a person should know about earlier files of the same name.
    """

    def __init__(
        self,
        path: Path,
        header: Callable[[], RejectsHeader],
        before_truncating: Callable[[], None] = lambda: None,
        reading: Path | None = None,
    ) -> None:
        """Prepare; nothing is opened yet, and `header` is asked when there is something to write under it.

        `before_truncating` is called when no other process can write; it raises ImportUnderWay if another has gone on.
        `reading` is the file that the rows come from: a rejects file that is imported again keeps its name and bytes.
        """
        self.path = path
        self.offset = 0
        self.notes: list[str] = []
        self._before_truncating = before_truncating
        self._header = header
        self._reading = reading
        self._digest = blake2b(digest_size=16)
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Nothing is opened before it is needed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what was opened."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def digest(self) -> str:
        """The digest of what was written up to `offset`, as hex; "" if nothing was."""
        return self._digest.hexdigest() if self.offset else ""

    def resume(self, offset: int, digest: str = "") -> bool:
        """Go on with the file whose first `offset` bytes have this digest, and truncate what was written after them.

        Another import may have given it a number since, and so did earlier versions where a rejects file was read.
        Returns False if it is not there any more, or was changed: then it stays as it is. Without a
        digest, which earlier versions did not keep, its length alone is compared.
        """
        formerly = () if self._reading is None else self._numbered(self._reading)
        found = dict.fromkeys((self.path, *self._numbered(self.path), *formerly))
        return any(self._continue(path, offset, digest) for path in found)

    def write(self, rejected: Iterable[tuple[RejectedRow, Sequence[str], str]]) -> int:
        """Add rejected rows with their cells and since when they would have held; return the file's length in bytes.

        The rows are on the disk when this returns. Raises ConfigurationError if the file cannot be written, or is not
        ours to write, and ImportUnderWay if another import writes it.
        """
        if rows := list(rejected):
            data = self._encoded(rows)
            try:
                self._append(self._begin(data) if self._descriptor is None else self._descriptor, data)
            except OSError as error:
                raise self._unwritable(error.strerror) from None
        return self.offset

    def _encoded(self, rejected: Iterable[tuple[RejectedRow, Sequence[str], str]]) -> bytes:
        """Return rows as bytes, below the header if they are the first."""
        header, text = self._header(), io.StringIO(newline="")
        mapping, unmapped = ([header.mapping], [""]) if header.mapping else ([], [])

        def original(cells: Sequence[str]) -> list[str]:
            return [escape(cell) for index, cell in enumerate(cells) if index not in header.own]

        rows = csv.writer(text, delimiter=header.delimiter)
        if not self.offset:
            rows.writerow([*REJECT_COLUMNS, *mapping, *original(header.names)])
        for row, cells, since in rejected:
            reason = (str(row.line), row.column or "", row.code, row.message, since)
            rows.writerow([*reason, *unmapped, *original(cells)])
        return _DAMAGED.sub("\ufffd", text.getvalue()).encode()

    def _append(self, descriptor: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            written = os.pwrite(descriptor, left, self.offset)
            self._digest.update(left[:written])
            self.offset += written
            left = left[written:]
        os.fsync(descriptor)

    def _begin(self, data: bytes) -> int:
        """Return a file that is ours alone and holds nothing that `data` does not hold too."""
        found = self._existing(self.path)
        if found is None:
            return self._new()
        if (self._is_read(found) and self._is_rejects_file(found)) or not self._locked(found):
            os.close(found)
            return self._beside_readers()
        self._keep(found)
        if not os.path.samestat(os.fstat(found), self.path.lstat()):
            raise ImportUnderWay(self._busy())  # another import has renamed it meanwhile
        if os.pread(found, len(data) + 1, 0) == data[: os.fstat(found).st_size]:
            os.fchmod(found, 0o600)
            return found
        if not self._is_rejects_file(found):
            raise self._unwritable("it is there already, and is no rejects file")
        aside = self._free_name()
        self.path.rename(aside)
        self.notes.append(f"the rows that an earlier import rejected are now in {path_text(aside)}")
        return self._new()

    def _is_read(self, descriptor: int) -> bool:
        """Whether a file is the very one that the rows come from, whatever locks it has."""
        with suppress(OSError):
            return self._reading is not None and os.path.samestat(os.fstat(descriptor), self._reading.stat())
        return False

    def _is_rejects_file(self, descriptor: int) -> bool:
        """Whether a file may be given another name: one that is ours by its name, empty, or begins like ours.

        A person may have named an export, or the very file that is being imported.
        """
        beginning = os.pread(descriptor, 16, 0)
        return self.path.name.endswith(REJECTS_ENDING) or not beginning or OWN[0].encode() in beginning

    def _beside_readers(self) -> int:
        usual, self.path = self.path, self._free_name()
        self.notes.append(f"{path_text(usual)} is being imported now: the rejected rows are in {path_text(self.path)}")
        return self._new()

    def _new(self) -> int:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._locked(descriptor)
        self._keep(descriptor)
        return descriptor

    def _locked(self, descriptor: int) -> bool:
        """Lock a file; return False if another import reads it, raise ImportUnderWay if one writes to it."""
        for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                return kind == fcntl.LOCK_EX
        os.close(descriptor)
        raise ImportUnderWay(self._busy())

    def _keep(self, descriptor: int) -> None:
        """Keep a file that no other process has; raise ImportUnderWay if another import has overtaken this one."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._before_truncating()

    def _continue(self, path: Path, offset: int, digest: str) -> bool:
        found = None
        with suppress(OSError, ConfigurationError):
            found = self._existing(path)
        if found is None:
            return False
        is_ours = not self._is_read(found) and os.fstat(found).st_size >= offset
        begun = _digest_of(found, offset) if is_ours else None
        if begun is None or digest not in {"", begun.hexdigest()}:
            os.close(found)
            return False
        if not self._locked(found):
            os.close(found)
            raise ImportUnderWay(self._busy())
        self._keep(found)
        try:
            os.fchmod(found, 0o600)
            os.ftruncate(found, offset)
        except OSError as error:
            raise self._unwritable(error.strerror) from None
        self.path, self.offset, self._digest = path, offset, begun
        return True

    def _existing(self, path: Path) -> int | None:
        """Open a file that is there already; raise ConfigurationError unless it is an ordinary file of our own."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._unwritable("it is a link") from None
            raise
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid():
            return descriptor
        os.close(descriptor)
        raise self._unwritable(
            "it belongs to another user" if stat.S_ISREG(facts.st_mode) else "it is no ordinary file"
        )

    @classmethod
    def _numbered(cls, path: Path) -> list[Path]:
        stem, ending = cls._parts(path)
        return sorted(path.parent.glob(f"{glob.escape(stem)}.[0-9]*{glob.escape(ending)}"))

    def _free_name(self) -> Path:
        """Return the usual name with a number before its ending that none has yet: a later file has a higher one."""
        stem, ending = self._parts(self.path)
        texts = [path.name[len(stem) + 1 : len(path.name) - len(ending)] for path in self._numbered(self.path)]
        highest = max((int(text) for text in texts if text.isascii() and text.isdigit()), default=0)
        return self.path.with_name(f"{stem}.{highest + 1}{ending}")

    @staticmethod
    def _parts(path: Path) -> tuple[str, str]:
        name = path.name
        ending = REJECTS_ENDING if name.endswith(REJECTS_ENDING) else path.suffix
        return name.removesuffix(ending) if ending else name, ending

    def _busy(self) -> str:
        return f"{path_text(self.path)} is in use by another import at this moment: let it finish, then run this again"

    def _unwritable(self, why: str | None) -> ConfigurationError:
        return ConfigurationError(
            f"rejected rows cannot be written to {path_text(self.path)} ({why}): name another file with --rejects; "
            "the import goes on from where it stands"
        )


def _digest_of(descriptor: int, length: int) -> blake2b:
    digest, place = blake2b(digest_size=16), 0
    while place < length and (piece := os.pread(descriptor, min(_AT_ONCE, length - place), place)):
        digest.update(piece)
        place += len(piece)
    return digest
