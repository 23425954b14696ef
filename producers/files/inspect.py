"""The inspection of a file before anything is recorded: is it finished, sound, and in which encoding."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from backports import zstd

from consent.errors import UnreadableFile, UnstableFile, unreadable
from consent.ledger.merge import FUTURE_TOLERANCE_SECONDS
from consent.times import EARLIEST, to_micros
from producers.files.encoding import Encoding, NoText, scan
from producers.files.sheet.rows import Sheet
from producers.files.sources import SourceFile
from producers.options import PATIENCE_SECONDS

_SETTLED_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.2
_EARLIEST_NS = to_micros(EARLIEST) * 1_000  # before: a clock that was never set
_CHUNK = 1024 * 1024
_MARK = 8
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How files begin: gzip, zstd (RFC 8878), zip (with and without members), and OLE, Microsoft's older container."""

_Bytes = io.BufferedReader | gzip.GzipFile | zstd.ZstdFile


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is written: which file it is, its size in bytes, when it was written."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """Return the stamp of a file by what the system says of it."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    @property
    def modified_at(self) -> int | None:
        """When the file was written, in microseconds; None if its clock was never set, or runs far ahead.

        Rounded as every version has done it: a file that is imported again must not be older than it was before.
        """
        latest = time.time_ns() + FUTURE_TOLERANCE_SECONDS * 1_000_000_000
        if not _EARLIEST_NS <= self.modified_ns <= latest:
            return None
        return to_micros(datetime.fromtimestamp(self.modified_ns / 1e9, UTC))


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the inspection of a file has found.

    `lines` counts its physical lines. `sha256` is the digest of the bytes that a person gave us: of a compressed file
    as it is, of an archive's member that of the archive and the member's name.
    """

    file: SourceFile
    stamp: Stamp
    sha256: str
    lines: int
    encoding: Encoding

    @property
    def modified_at(self) -> int | None:
        """When the file that a person gave us was written, in microseconds; None if that cannot be known."""
        if self.file.origin is not None:
            return self.file.origin.modified_at
        return None if self.file.spooled else self.stamp.modified_at

    @property
    def sheet(self) -> Sheet | None:
        """The sheet of which the file holds the rows, None if it is a text."""
        return self.file.origin.sheet if self.file.origin else None

    @contextmanager
    def open(self) -> Iterator[io.TextIOWrapper]:
        """Open the inspected bytes as text whose lines keep their ends; raise UnstableFile if they are others now.

        Raises UnreadableFile where the bytes turn out damaged. So any OSError becomes while it is open: only read then.
        """
        with reading(self.file), self.file.path.open("rb") as raw:
            if Stamp.of(os.fstat(raw.fileno())) != self.stamp:
                raise unstable(self.file)
            plain: Any = _plain(raw, self.file)  # typeshed asks for more than it does
            with io.TextIOWrapper(plain, self.encoding.codec, self.encoding.errors, newline="") as text:
                try:
                    yield text
                except UnicodeEncodeError:
                    raise
                except UnicodeError:  # what a codec cannot replace: a byte order mark that it needs
                    raise UnreadableFile(f"{self.file.name} {self.encoding.instead}") from None

    def confirm(self) -> None:
        """Raise UnstableFile if the file is not the one that was inspected any more."""
        try:
            now = look(self.file)
        except UnreadableFile:
            raise unstable(self.file) from None
        if now != self.stamp:
            raise unstable(self.file)


def inspect_file(file: SourceFile, encoding: str | None = None, patience: float = PATIENCE_SECONDS) -> Inspection:
    """Read a whole file once before anything is recorded, waiting at most `patience` seconds until its writer is done.

    Raises UnstableFile if it keeps changing, UnreadableFile if it is missing, forbidden, damaged or empty,
    ConfigurationError if `encoding` is none.
    """
    deadline = time.monotonic() + patience
    while True:
        before = settled(file, deadline)
        found = _scan(file, before, encoding)
        if look(file) == before:
            return found
        if time.monotonic() >= deadline:
            raise unstable(file)


def look(file: SourceFile) -> Stamp:
    """Return the file's stamp as it is now; raise UnreadableFile if it cannot be seen."""
    with reading(file):
        return Stamp.of(file.path.stat())


def settled(file: SourceFile, deadline: float) -> Stamp:
    """Return the file's stamp when its writer is done; raise UnstableFile at the deadline (of the monotonic clock)."""
    while True:
        stamp = look(file)
        # A time from the future means a clock that differs from ours, not a writer at work.
        if file.spooled or not 0 <= time.time() - stamp.modified_ns / 1e9 < _SETTLED_SECONDS:
            return stamp
        if time.monotonic() >= deadline:
            raise unstable(file)
        time.sleep(_LOOK_AGAIN_SECONDS)


def _scan(file: SourceFile, stamp: Stamp, wanted: str | None) -> Inspection:
    sheet = file.origin.sheet if file.origin else None
    with reading(file), file.path.open("rb") as raw:
        digest = file.origin.sha256 if file.origin else hashlib.file_digest(raw, "sha256").hexdigest()
        chunks = iter(partial(_plain(raw, file).read, _CHUNK), b"")
        encoding, lines = scan(wanted if sheet is None else None, chunks)  # the rows of a sheet are ours
    if not lines:
        raise UnreadableFile(f"{file.name} is empty: there is not even a header")
    return Inspection(file, stamp, digest, sheet.rows if sheet else lines, encoding)


def last_line(lines: Iterable[str], skipped: int) -> int:
    """Return the line before the last ones of a text, which are no rows; blank lines at its end do not count."""
    ends = deque((number for number, line in enumerate(lines, 1) if line.strip()), skipped)
    return (ends[0] if ends else 1) - 1


def _plain(raw: io.BufferedReader, file: SourceFile) -> _Bytes:
    """Return the bytes of a file from its beginning, unpacked as they are read; raise UnreadableFile for no text."""
    raw.seek(0)  # a private copy is opened by its descriptor, which may share the place where another one reads
    stream: _Bytes = raw
    begin = raw.peek(_MARK)
    if begin.startswith(GZIP):
        stream = gzip.GzipFile(fileobj=raw)
    elif begin.startswith(ZSTD):
        stream = zstd.ZstdFile(raw)
    if stream is not raw:
        begin = stream.peek(_MARK)
        if begin.startswith((GZIP, ZSTD)):
            raise UnreadableFile(f"{file.name} is compressed twice: unpack it once")
    if begin.startswith(ZIP):
        raise UnreadableFile(f"{file.name} holds a zip archive or a workbook in another archive: unpack the outer one")
    if begin.startswith(_OLE):
        raise UnreadableFile(
            f"{file.name} is an old workbook (.xls) or one with a password: save it as .xlsx without a password, or CSV"
        )
    return stream


@contextmanager
def reading(file: SourceFile) -> Iterator[None]:
    """Turn what can go wrong while a file is read into UnreadableFile."""
    try:
        yield
    except NoText as error:
        raise UnreadableFile(f"{file.name} {error}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError) as error:
        kind = "zstd" if isinstance(error, zstd.ZstdError) else "gzip or zstd"
        raise UnreadableFile(
            f"{file.name} is damaged or cut short: its {kind} data cannot be read to the end; fetch it again"
        ) from None
    except OSError as error:
        raise unreadable(f"{file.name} cannot be read", error) from None


def unstable(file: SourceFile) -> UnstableFile:
    """Return the error of a file that is not the same any more."""
    return UnstableFile(f"{file.name} is being written or was replaced meanwhile: import it again when it is finished")
