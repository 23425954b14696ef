"""The inspection of a file before anything is recorded: is it finished, sound, and in which encoding."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from consent.errors import UnreadableFile, UnstableFile
from consent.ledger.merge import FUTURE_TOLERANCE_SECONDS
from consent.times import is_too_old
from producers.files.csv.encoding import Encoding, EncodingDetector
from producers.files.sources import SourceFile
from producers.options import PATIENCE_SECONDS

_SETTLED_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.2
_CHUNK = 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is written: which file it is, its size in bytes, when it was written."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @property
    def modified_at(self) -> datetime | None:
        """When the file was written, in UTC; None if its clock was never set, or runs far ahead."""
        try:
            moment = datetime.fromtimestamp(self.modified_ns / 1e9, UTC)
        except (ValueError, OverflowError, OSError):
            return None
        latest = datetime.now(UTC) + timedelta(seconds=FUTURE_TOLERANCE_SECONDS)
        return None if is_too_old(moment) or moment > latest else moment


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the inspection of a file has found; `lines` counts its physical lines."""

    file: SourceFile
    stamp: Stamp
    sha256: str
    lines: int
    encoding: Encoding

    @contextmanager
    def open(self) -> Iterator[io.TextIOWrapper]:
        """Open the inspected bytes as text whose lines keep their ends; raise UnstableFile if they are others now."""
        with reading(self.file):
            raw = self.file.path.open("rb")
        with raw:
            if _stamp_of(os.fstat(raw.fileno())) != self.stamp:
                raise _unstable(self.file)
            with io.TextIOWrapper(_plain(raw), self.encoding.codec, self.encoding.errors, newline="") as text:
                yield text

    def confirm(self) -> None:
        """Raise UnstableFile if the file is not the one that was inspected any more."""
        try:
            now = look(self.file)
        except UnreadableFile:
            raise _unstable(self.file) from None
        if now != self.stamp:
            raise _unstable(self.file)


def inspect_file(file: SourceFile, encoding: str | None = None, patience: float = PATIENCE_SECONDS) -> Inspection:
    """Read a whole file once before anything is recorded, waiting at most `patience` seconds until its writer is done.

    Raises UnstableFile if it keeps changing, UnreadableFile if it is missing, forbidden, damaged or empty,
    ConfigurationError if `encoding` is none.
    """
    deadline = time.monotonic() + patience
    while True:
        before = _settled(file, deadline)
        found = _scan(file, before, encoding)
        if look(file) == before:
            return found
        if time.monotonic() >= deadline:
            raise _unstable(file)


def look(file: SourceFile) -> Stamp:
    """Return the file's stamp as it is now; raise UnreadableFile if it cannot be seen."""
    with reading(file):
        return _stamp_of(file.path.stat())


def _settled(file: SourceFile, deadline: float) -> Stamp:
    while True:
        stamp = look(file)
        # A time from the future means a clock that differs from ours, not a writer at work.
        if file.spooled or not 0 <= time.time() - stamp.modified_ns / 1e9 < _SETTLED_SECONDS:
            return stamp
        if time.monotonic() >= deadline:
            raise _unstable(file)
        time.sleep(_LOOK_AGAIN_SECONDS)


def _scan(file: SourceFile, stamp: Stamp, wanted: str | None) -> Inspection:
    digest = hashlib.sha256()
    encodings = EncodingDetector(wanted)
    lines = _LineCount()
    with reading(file), file.path.open("rb") as raw:
        while chunk := raw.read(_CHUNK):
            digest.update(chunk)
        raw.seek(0)
        stream = _plain(raw)
        while chunk := stream.read(_CHUNK):
            encodings.feed(chunk)
            lines.feed(chunk)
    encoding = encodings.close()
    if lines.empty:
        raise UnreadableFile(f"{file.name} is empty: there is not even a header")
    return Inspection(file, stamp, digest.hexdigest(), lines.total, encoding)


class _LineCount:
    """Counts line ends as bytes: LF, or CR where there is no LF at all."""

    def __init__(self) -> None:
        self._feeds = 0
        self._returns = 0
        self._last = b""
        self.empty = True

    def feed(self, chunk: bytes) -> None:
        self._feeds += chunk.count(b"\n")
        self._returns += chunk.count(b"\r")
        self._last = chunk[-2:]
        self.empty = self.empty and not chunk.strip(_BLANK)

    @property
    def total(self) -> int:
        unfinished = not self.empty and not self._last.strip(b"\0").endswith((b"\n", b"\r"))
        return (self._feeds or self._returns) + unfinished


_BLANK = b" \t\r\n\0\xef\xbb\xbf\xff\xfe"


def _plain(raw: io.BufferedReader) -> io.BufferedReader | gzip.GzipFile:
    begin = raw.read(len(_ZIP))
    raw.seek(0)
    if begin == _ZIP:
        raise UnreadableFile(f"{Path(raw.name).name} is a zip archive or a workbook: save it as CSV, or unpack it")
    return gzip.GzipFile(fileobj=raw) if begin.startswith(_GZIP) else raw


@contextmanager
def reading(file: SourceFile) -> Iterator[None]:
    """Turn what can go wrong while a file is read into UnreadableFile."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UnreadableFile(f"{file.name} is damaged or cut short: its gzip data cannot be read to the end") from None
    except OSError as error:
        raise UnreadableFile(f"{file.name} cannot be read: {error.strerror or type(error).__name__}") from None


def _stamp_of(found: os.stat_result) -> Stamp:
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _unstable(file: SourceFile) -> UnstableFile:
    return UnstableFile(f"{file.name} is being written or was replaced meanwhile: import it again when it is finished")
