"""Merged cells of a sheet: all of them show one value, and only the first one holds it (ECMA-376 part 1, 18.3.1.55).

What the others mean is a person's to say. Read as empty cells they would say something else: a channel that is merged
over ten rows would be every channel in nine of them.
"""

from __future__ import annotations

import re
import zipfile
from typing import NamedTuple

_CHUNK = 1024 * 1024
_LONGEST_ELEMENT = 256
_MERGE = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=[\"']([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})[\"']")


class Merge(NamedTuple):
    """Cells that are one: rows counted from 1 as the sheet does, columns from 0."""

    top: int
    left: int
    bottom: int
    right: int


class Merges:
    """The merged cells of a sheet, asked for row by row."""

    def __init__(self, opened: zipfile.ZipFile, part: str) -> None:
        """Find them in a sheet's part: they stand behind its rows, so it is unpacked once more."""
        self._coming = sorted(_found(opened, part), reverse=True)
        self._open: list[Merge] = []

    def covered(self, row: int) -> list[int]:
        """Return the columns of a row whose cells hold no value of their own; rows are asked for in their order."""
        while self._coming and self._coming[-1].top <= row:
            self._open.append(self._coming.pop())
        if not self._open:
            return []
        self._open = [one for one in self._open if one.bottom >= row]
        return [place for one in self._open for place in range(one.left + (one.top == row), one.right + 1)]


def column_of(letters: str) -> int:
    """Return the number of a column, counted from 0, by its letters."""
    place = 0
    for letter in letters:
        place = place * 26 + ord(letter) - ord("A") + 1
    return place - 1


def _found(opened: zipfile.ZipFile, part: str) -> set[Merge]:
    found: set[Merge] = set()
    with opened.open(part) as stream:
        before = b""
        while chunk := stream.read(_CHUNK):
            text = before + chunk
            for left, top, right, bottom in _MERGE.findall(text) if b"mergeCell" in text else ():
                found.add(Merge(int(top), column_of(left.decode()), int(bottom), column_of(right.decode())))
            before = text[-_LONGEST_ELEMENT:]
    return found
