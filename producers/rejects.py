"""The rows that were refused, as a file that can be mended and imported again."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from consent.errors import ConfigurationError, ImportUnderWay
from consent.intake import Reject
from producers.columns import OWN
from producers.disarming import disarm

REJECTS_ENDING = ".rejects.csv"
_DAMAGED = re.compile(r"[\ud800-\udfff]")


class RejectsFile:
    """Refused rows, in UTF-8 and with the delimiter of their file, for their owner's eyes only (mode 0600).

    `_line`, `_column`, `_code`, `_message` and `_effective_at` stand before the original columns, and the cells are as
    they were: a row with too few or too many cells keeps them so, and therefore stays refused until somebody has put
    each under its column. `_effective_at` is since when the row would have held, so that mending it later gives it no
    newer word than its file. Damaged characters become U+FFFD, which is refused as well. Cells are not disarmed
    against spreadsheets' formulas, because that would change telephone numbers.

    The file is made when there is something to write, and replaces one that belongs to other bytes.
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        delimiter: str,
        own: frozenset[int] = frozenset(),
        before_cutting: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `names` is the original header, `own` where a rejects file's columns stand in it already.

        `before_cutting` is asked once nobody else can write, and raises ImportUnderWay if another has gone on since.
        """
        self.path = path
        self.offset = 0
        self._before_cutting = before_cutting
        self._own = own
        self._delimiter = delimiter
        self._header = [*OWN, *self._original(names)]
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

    def resume(self, offset: int) -> bool:
        """Cut off what was written after the checkpoint; return False if the earlier rows are not there any more."""
        if not offset or not self.path.exists() or self.path.stat().st_size < offset:
            return not offset
        self._open(offset)
        return True

    def write(self, refused: Iterable[tuple[Reject, Sequence[str], str]]) -> int:
        """Add refused rows with their cells and since when they would have held; return the file's length in bytes.

        The rows are on the disk when this returns. Raises ConfigurationError if the file cannot be written.
        """
        rows = [
            [str(no.line), no.column or "", no.code, no.message, since, *map(disarm, self._original(cells))]
            for no, cells, since in refused
        ]
        if rows:
            descriptor = self._open(0) if self._descriptor is None else self._descriptor
            self._append(descriptor, rows if self.offset else [self._header, *rows])
        return self.offset

    def _original(self, cells: Sequence[str]) -> list[str]:
        return [cell for index, cell in enumerate(cells) if index not in self._own] if self._own else list(cells)

    def _append(self, descriptor: int, rows: list[list[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self._delimiter).writerows(rows)
        left = memoryview(_DAMAGED.sub("\ufffd", text.getvalue()).encode())
        try:
            while left:
                written = os.pwrite(descriptor, left, self.offset)
                self.offset += written
                left = left[written:]
            os.fsync(descriptor)
        except OSError as error:
            raise self._unwritable(error) from None

    def _open(self, length: int) -> int:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unwritable(error) from None
        self._descriptor, self.offset = descriptor, length
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImportUnderWay(f"{self.path} is being written by another import of the same file") from None
        self._before_cutting()
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, length)
        return descriptor

    def _unwritable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"rejected rows cannot be written to {self.path} ({error.strerror}): name another file with --rejects; "
            "the import goes on from where it stands"
        )
