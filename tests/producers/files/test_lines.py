"""Lines are the same however a text comes in parts, and one without end is left out alone."""

from __future__ import annotations

import io
from itertools import product

import pytest

from producers.files import lines
from producers.files.lines import LineTooLong, PushBackLines

PARTS = ("a", "bc" * 4, "\n", "\r", "\r\n", "d" * 30)
MOST = 23


def read(text: str) -> list[str | None]:
    """Read a text line by line; None stands for one that was too long to be kept."""
    reader, found = PushBackLines(io.StringIO(text, newline="")), []
    while not reader.ended:
        try:
            found.append(next(reader, None))
        except LineTooLong:
            found.append("too long")
        reader.finish()
    return found[:-1]


def read_several(text: str) -> list[str | None]:
    """Read a text three lines at a time, and each time once more."""
    reader, found = PushBackLines(io.StringIO(text, newline="")), []
    while True:
        for _ in range(2):
            reader.put_back()
            try:
                some = reader.some(3)
            except LineTooLong:
                some = ["too long"]
        if not some:
            return found
        assert reader.finish() == len(found) + 1
        found += some


@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_parts_change_no_line(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Each line break counts once, also where a part ends between its two characters."""
    monkeypatch.setattr(lines, "_AT_ONCE", at_once)
    monkeypatch.setattr(lines, "LONGEST_LINE", MOST)

    for parts in product(PARTS, repeat=4):
        text = "".join(parts)
        whole = io.StringIO(text, newline="").readlines()
        for kept, several, line in zip(read(text), read_several(text), whole, strict=True):
            assert kept == several == line or (kept == several == "too long" and len(line) > MOST), (text, line)
