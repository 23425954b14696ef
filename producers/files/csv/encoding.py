"""How the bytes of a file become text: which encoding they are in."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from consent.errors import ConfigurationError

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
