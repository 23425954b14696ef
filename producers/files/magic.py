"""What a file is, by how it begins: what packs others, and what holds no rows at all and is refused with a remedy."""

from __future__ import annotations

import codecs

from consent.errors import UnreadableFile

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How files begin: gzip, zstd (RFC 8878), zip (with and without members), and OLE, Microsoft's older container."""

LOOKED_AT = 4096
"""Bytes of a file's beginning that are looked at."""

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
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_CONTROLS = bytes({*range(0x09), *range(0x0E, 0x1A)} - {0x01})
"""Control characters that no text has. ^A and those from 0x1C on separate the fields of some exports."""

_SOME, _TOO_MANY = 8, 0.03
_MOSTLY = 0.9


def refuse_other(begin: bytes, file: str, *, encoded: bool = False) -> None:
    """Raise UnreadableFile, with what it is and a remedy, for a file that begins as no table does.

    `encoded` says that a person has named its encoding, so that bytes need not look like text.
    """
    bare = begin.removeprefix(codecs.BOM_UTF8).lstrip()
    for mark, what, remedy in _KINDS:
        if begin.startswith(mark) or (mark.startswith(b"<") and bare[: len(mark)].lower() == mark):
            raise UnreadableFile(f"{file} is {what}: {remedy}")
    place, mark = _TAR
    if begin[place:].startswith(mark):
        raise UnreadableFile(f"{file} is a tar archive: {_PACKED}")
    if not encoded and _is_binary(begin.rstrip(b"\0")):
        raise UnreadableFile(
            f"{file} holds no text but other data, of a program or encrypted: give the export itself, as CSV, JSON "
            "lines or .xlsx; or say with --encoding how its text is written"
        )


def _is_binary(begin: bytes) -> bool:
    """Whether bytes are no text: too many of them are control characters, and it is not UTF-16."""
    if begin.startswith(_MARKS):
        return False
    controls = len(begin) - len(begin.translate(None, _CONTROLS))
    if controls < _SOME or controls < _TOO_MANY * len(begin):
        return False
    nuls = begin[::2].count(0), begin[1::2].count(0)
    return max(nuls) < _MOSTLY * controls
