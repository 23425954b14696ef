"""How the bytes of a file become text: which encoding they are in, how many lines, or what they are if no text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from consent.errors import ConfigurationError

_OF_WINDOWS = re.compile(rb"[\x80-\x9f]")
"""Bytes that are letters or marks in Windows-1252 and control characters in Latin-1."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class NoText(Exception):
    """The bytes are no text: the message says what they are, behind the file's name, and a remedy."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How bytes become text: a codec, what it does with damaged bytes, and a note about the choice for people.

    Damaged UTF-8 becomes lone surrogates, by which its rows are recognised; in any other codec damage becomes U+FFFD.
    `mixed` says that some of the text is in UTF-8 all the same, so that its characters come out as two or three others.
    """

    codec: str
    note: str | None = None
    mixed: bool = False

    @property
    def errors(self) -> str:
        """What the codec does with damaged bytes."""
        return "surrogateescape" if self.codec.startswith("utf-8") else "replace"

    @property
    def instead(self) -> str:
        """What is wrong with a file that the codec cannot read at all, behind the file's name, and a remedy."""
        if self.codec in _NEEDS_MARK:
            return f"has no byte order mark: give --encoding {self.codec}-le or {self.codec}-be"
        return f"cannot be read as {self.codec}: give another --encoding"


_NEEDS_MARK = ("utf-16", "utf-32")


class Scan(NamedTuple):
    """What all bytes of a file have told: their encoding, and how many lines they are; 0 where there is no text."""

    encoding: Encoding
    lines: int


def scan(wanted: str | None, chunks: Iterable[bytes] = ()) -> Scan:
    """Find out from all of a file's bytes which encoding they are in; `wanted` is the --encoding.

    It is the byte order mark's, else the --encoding, else the likelier of UTF-8 and Latin-1. Lines are counted by their
    ends as bytes: LF, or CR where there is no LF at all. Raises ConfigurationError if `wanted` is no text encoding, and
    NoText for the first bytes of a file that is no table.
    """
    detector, feeds, returns, last, has_text = _Detector(wanted), 0, 0, b"", False
    for chunk in chunks:
        detector.feed(chunk)
        feeds += chunk.count(b"\n")
        returns += chunk.count(b"\r")
        last = chunk[-2:]
        has_text = has_text or bool(chunk.strip(_BLANK))
    unfinished = not last.strip(b"\0").endswith((b"\n", b"\r"))
    return Scan(detector.close(), (feeds or returns) + unfinished if has_text else 0)


_BLANK = b" \t\r\n\0\xef\xbb\xbf\xff\xfe"


class _Detector:
    """What is known of the encoding after some of the bytes."""

    def __init__(self, wanted: str | None) -> None:
        self._wanted = _checked(wanted) if wanted else None
        self._utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._marked: str | None = None
        self._begun = False
        self.sequences = 0
        self.damaged = 0
        self._of_windows = False

    def feed(self, chunk: bytes) -> None:
        if not self._begun:
            self._begun = True
            _refuse_other(chunk, encoded=self._wanted is not None)
            self._marked = next((codec for mark, codec in _MARKS if chunk.startswith(mark)), None)
        if (self._marked or self._wanted or "utf-8").startswith("utf-8"):
            self._of_windows = self._of_windows or (not chunk.isascii() and _OF_WINDOWS.search(chunk) is not None)
            self._count(self._utf8.decode(chunk))

    def close(self) -> Encoding:
        # Windows-1252 is Latin-1 with quotes, dashes and the euro sign where Latin-1 has nothing that a table holds.
        self._count(self._utf8.decode(b"", final=True))
        if self._marked is not None:
            return Encoding(self._marked, self._overruled() or self._damage())
        if self._wanted is not None:
            return Encoding(self._wanted, self._damage())
        if not self.damaged or self.sequences > self.damaged:
            return Encoding("utf-8", self._damage())
        codec, name = ("cp1252", "Windows-1252") if self._of_windows else ("latin-1", "Latin-1")
        rejected = "; the rows among them that are UTF-8 are rejected" if self.sequences else ""
        note = f"it is not UTF-8 and is read as {name}{rejected}; if names look wrong, give --encoding"
        return Encoding(codec, note, mixed=bool(self.sequences))

    def _count(self, text: str) -> None:
        if not text.isascii():
            beyond = len(text) - len(text.encode("ascii", "ignore"))
            damaged = len(text) - len(text.encode("utf-8", "ignore").decode())
            self.damaged += damaged
            self.sequences += beyond - damaged

    def _overruled(self) -> str | None:
        if self._wanted is None or self._wanted.split("-")[:2] == (self._marked or "").split("-")[:2]:
            return None
        return f"its byte order mark says {self._marked}, so --encoding {self._wanted} is ignored"

    def _damage(self) -> str | None:
        return (
            f"{self.damaged} bytes are not valid UTF-8: the rows that hold them are rejected" if self.damaged else None
        )


def _checked(name: str) -> str:
    try:
        codec = codecs.lookup(name).name
        "".encode(codec)
    except (LookupError, ValueError):
        raise ConfigurationError(
            f"--encoding {name!r} is no text encoding: give utf-8, latin-1, cp1252 or utf-16-le"
        ) from None
    return codec


_LOOKED_AT = 4096
_PICTURE = "save the table that it shows as CSV or .xlsx"
_PACKED = "unpack it, or pack it with gzip, zstd or zip"
_DATABASE = "export its rows as CSV or JSON lines"
_TEXT = "save its table as CSV or .xlsx"
_FETCHED = "if it was fetched, it may be a login page or an error: fetch the export itself; else save its table as CSV"
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\xd8\xff", "a JPEG picture", _PICTURE),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", _PICTURE),
    (b"GIF8", "a GIF picture", _PICTURE),
    (b"%PDF-", "a PDF document", _PICTURE),
    (b"{\\rtf", "an RTF document", _TEXT),
    (b"\x7fELF", "a program", "give the export itself"),
    (b"\xcf\xfa\xed\xfe", "a program", "give the export itself"),
    (b"Rar!\x1a\x07", "a RAR archive", _PACKED),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _PACKED),
    (b"BZh", "a bzip2 archive", _PACKED),
    (b"\xfd7zXZ\0", "an xz archive", _PACKED),
    (b"SQLite format 3\0", "an SQLite database", _DATABASE),
    (b"PAR1", "a Parquet file", _DATABASE),
    (b"ARROW1", "an Arrow file", _DATABASE),
    (b"Obj\x01", "an Avro file", _DATABASE),
    (b"-----BEGIN PGP", "encrypted with PGP", "decrypt it: `gpg -d FILE | optrelay run -`"),
    (b"BEGIN:VCARD", "a list of vCards", "export the contacts as CSV"),
    (b"<?xml", "XML", _TEXT),
    (b"<!doctype html", "a web page", _FETCHED),
    (b"<html", "a web page", _FETCHED),
    (b"<table", "a web page", _FETCHED),
)
"""How files begin that are taken for exports by mistake, in small letters where case does not matter."""

_TAR = (257, b"ustar")
_CONTROLS = bytes({*range(0x09), *range(0x0E, 0x1A)} - {0x01})
"""Control characters that no text has. ^A and those from 0x1C on separate the fields of some exports."""

_SOME, _TOO_MANY = 8, 0.03
_MOSTLY = 0.9


def _refuse_other(begin: bytes, *, encoded: bool) -> None:
    """Raise NoText for bytes that begin as no table does; they may be anything if a person has named the encoding."""
    bare = begin.removeprefix(codecs.BOM_UTF8).lstrip()
    for mark, what, remedy in _KINDS:
        if begin.startswith(mark) or (mark.startswith(b"<") and bare[: len(mark)].lower() == mark):
            raise NoText(f"is {what}: {remedy}")
    place, mark = _TAR
    if begin[place:].startswith(mark):
        raise NoText(f"is a tar archive: {_PACKED}")
    if not encoded and _is_binary(begin[:_LOOKED_AT].rstrip(b"\0")):
        raise NoText(
            "holds no text but other data, of a program or encrypted: give the export itself, as CSV, JSON lines or "
            ".xlsx; or say with --encoding how its text is written"
        )


def _is_binary(begin: bytes) -> bool:
    """Whether bytes are no text: too many of them are control characters, and it is not UTF-16."""
    if begin.startswith(tuple(mark for mark, _ in _MARKS)):
        return False
    controls = len(begin) - len(begin.translate(None, _CONTROLS))
    if controls < _SOME or controls < _TOO_MANY * len(begin):
        return False
    nuls = begin[::2].count(0), begin[1::2].count(0)
    return max(nuls) < _MOSTLY * controls
