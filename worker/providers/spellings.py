"""The words that a column may hold, in the vendor's own spelling, found by any spelling."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic_core import PydanticCustomError


class Spellings(dict[str, str]):
    """The words of one column in the vendor's own spelling, found by any spelling.

    Its lookup is a validator that costs no Python call when a word is already spelled like the vendor spells it.
    """

    def __init__(self, words: Iterable[str], **aliases: str) -> None:
        super().__init__({word: word for word in words} | aliases)
        self._folded = {word.casefold(): spelling for word, spelling in self.items()}
        self._known = ", ".join(word for word in self if word not in aliases)

    def schema(self) -> dict[str, Any]:
        """Return the words as a JSON Schema."""
        return {"type": "string", "enum": list(self)}

    def __missing__(self, word: str) -> str:
        if word.casefold() not in self._folded:
            raise PydanticCustomError("unknown_value", "write one of {known}", {"known": self._known})
        return self._folded[word.casefold()]
