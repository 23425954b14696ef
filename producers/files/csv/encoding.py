"""How the bytes of a file become cells: which encoding it is in, and which character separates its cells."""

from __future__ import annotations

import codecs
import csv
import re
from dataclasses import dataclass

from consent.errors import ConfigurationError
from producers.parsing.columns import REJECT_COLUMNS, Vocabulary

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How bytes become text: a codec, what it does with damaged bytes, and a note about the choice for people.

    Damaged UTF-8 becomes lone surrogates, by which its rows are recognised; in any other codec damage becomes U+FFFD.
    """

    codec: str
    note: str | None = None

    @property
    def errors(self) -> str:
        """What the codec does with damaged bytes."""
        return "surrogateescape" if self.codec.startswith("utf-8") else "replace"


class EncodingDetector:
    """Finds out from all of a file's bytes which encoding they are in."""

    def __init__(self, wanted: str | None) -> None:
        """Begin; `wanted` is the --encoding. Raises ConfigurationError if that is no text encoding."""
        self._wanted = _checked(wanted) if wanted else None
        self._utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._marked: str | None = None
        self._begun = False
        self.sequences = 0
        self.damaged = 0

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        if not self._begun:
            self._begun = True
            self._marked = next((codec for mark, codec in _MARKS if chunk.startswith(mark)), None)
        if (self._marked or self._wanted or "utf-8").startswith("utf-8"):
            self._count(self._utf8.decode(chunk))

    def close(self) -> Encoding:
        """Return the encoding: the byte order mark's, else the --encoding, else the likelier of UTF-8 and Latin-1."""
        self._count(self._utf8.decode(b"", final=True))
        if self._marked is not None:
            return Encoding(self._marked, self._overruled() or self._damage())
        if self._wanted is not None:
            return Encoding(self._wanted, self._damage())
        if not self.damaged or self.sequences > self.damaged:
            return Encoding("utf-8", self._damage())
        return Encoding("latin-1", "it is not UTF-8 and is read as Latin-1; if names look wrong, give --encoding")

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


DELIMITERS = (",", ";", "\t", "|")
_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_OWN_LINE = re.compile(rf'\ufeff?"?{REJECT_COLUMNS[0]}"?(.)"?{REJECT_COLUMNS[1]}\b')
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


def parse_delimiter(argument: str) -> str:
    """Read a `--delimiter`: one character, or its name; raise ConfigurationError for what cannot be one."""
    character = _WORDS.get(argument.lower(), argument)
    if len(character) != 1 or character in '"\r\n\0':
        raise ConfigurationError(f"--delimiter is one character or one of {', '.join(_WORDS)}, not {argument!r}")
    return character


def sep_line_delimiter(line: str) -> str | None:
    """Return the delimiter that a spreadsheet's `sep=;` line names, None if the line is no such line."""
    match = _SEP_LINE.fullmatch(line.strip("\ufeff \r\n"))
    return match[1] if match else None


def guess_delimiter(line: str, known: Vocabulary) -> str:
    """Return the delimiter that finds most of our columns in a header line, and of equals the one with most cells.

    A rejects file of ours says it itself: it begins with two columns that no other file has.
    """
    if (match := _OWN_LINE.match(line)) is not None:
        return match[1]
    return max(DELIMITERS, key=lambda delimiter: _score(line, delimiter, known))


def _score(line: str, delimiter: str, known: Vocabulary) -> tuple[int, int]:
    names = next(csv.reader([line], delimiter=delimiter), [])
    return sum(known.find(name) is not None for name in names), len(names)
