"""The physical lines of a text, one at a time, which can be given back and read again."""

from __future__ import annotations

from collections import deque
from typing import TextIO

LONGEST_LINE = 8 * 1024 * 1024
"""Characters; a longer line is a file without line ends, and is passed over without being kept."""

MOST_LINES = 1_000
"""Lines that one record may span; a longer one is a quote that nobody closed."""


class _Overlong(str):
    """Stands among the lines for one that was too long to be kept."""

    __slots__ = ()


class LineTooLong(Exception):
    """A physical line has no end within reach."""


class SpanTooLong(Exception):
    """A record goes on for more lines or characters than any true one does."""


class PushBackLines:
    """An iterator of lines that remembers which it has handed out since the last record was finished.

    `line` counts the physical lines of all finished records, `chars` the characters handed out.
    """

    def __init__(self, text: TextIO) -> None:
        self._readline = text.readline
        self._waiting: deque[str] = deque()
        self.taken: list[str] = []
        self.line = 0
        self.chars = 0
        self.ended = False

    def __iter__(self) -> PushBackLines:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else self._readline(LONGEST_LINE)
        if not line:
            self.ended = True
            raise StopIteration
        if len(line) >= LONGEST_LINE and line[-1] not in "\r\n":
            line = self._pass_over()
        self.taken.append(line)
        self.chars += len(line)
        if isinstance(line, _Overlong):
            raise LineTooLong
        if len(self.taken) > 1 and self._too_far():
            raise SpanTooLong
        return line

    def finish(self) -> int:
        """Forget the lines handed out, because a record has been made of them; return the line where it started."""
        start = self.line + 1
        self.line += len(self.taken)
        self.taken.clear()
        return start

    def give_back(self) -> str:
        """Take all lines but the first back, to be handed out again; return the first."""
        first, *rest = self.taken
        self._waiting.extendleft(reversed(rest))
        self.taken[1:] = []
        self.ended = False
        return "" if isinstance(first, _Overlong) else first

    def peek(self) -> str:
        """Return the first line to come that is not blank, "" if there is none, and leave it to come."""
        ahead = []
        while (line := self._waiting.popleft() if self._waiting else self._readline(LONGEST_LINE)) and not line.strip():
            ahead.append(line)
        self._waiting.extendleft(reversed([*ahead, line] if line else ahead))
        return line

    def skip(self) -> None:
        """Leave out the line that `peek` has shown, and the blank ones before it."""
        while not next(self, "x").strip():
            pass
        self.finish()

    def _pass_over(self) -> str:
        while (line := self._readline(LONGEST_LINE)) and line[-1] not in "\r\n":
            pass
        return _Overlong("(a line without end)")

    def _too_far(self) -> bool:
        return len(self.taken) > MOST_LINES or sum(map(len, self.taken)) > LONGEST_LINE
