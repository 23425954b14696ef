"""The physical lines of a text, which can be given back and read again."""

from __future__ import annotations

import io
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TextIO

LONGEST_LINE = 8 * 1024 * 1024
"""Characters; a longer line comes from a file without line ends, and is skipped without being kept."""

MOST_LINES = 1_000
"""Lines that one record may span; a longer one has a quote that is never closed."""

ALWAYS_LINES = 16
"""Lines that one record may span even where many quotes before it were never closed."""

_LINE_COST = 64
_MOST_SPARE = 8 * 1024 * 1024
_SPARE_PER_COST = 8
"""What it costs to read a line (its characters and these), and how much of that may be spent on records that turn out
to be none, whose lines are read again: a store that each finished line fills up by so many times its own cost. Where
every line opens a quote that is never closed, reading stays linear in the file, at some 24 times its usual time."""

_AT_ONCE = 64 * 1024
"""Characters that are read ahead."""


class _Overlong(str):
    """The place of a line that was too long to be kept."""

    __slots__ = ()


class LineTooLong(Exception):
    """A physical line has no end within reach."""


class SpanTooLong(Exception):
    """A record goes on for more lines or characters than any true one does."""


class PushBackLines:
    """An iterator of lines that remembers which ones it has handed out since the last record was finished.

    `line` counts the physical lines handed out, `chars` their characters.
    """

    def __init__(self, text: TextIO, skipped: int = 0) -> None:
        """Begin behind so many lines of a text."""
        self._read = text.read
        self._rest = ""
        self._waiting: deque[str] = deque()
        self.taken: list[str] = []
        self._taken_chars = 0
        self._spare = _MOST_SPARE
        self.line = 0
        self.chars = 0
        self.ended = False
        for _ in range(skipped):
            with suppress(LineTooLong):
                next(self, "")
            self.finish()  # each by itself: together they may be more than a record can be

    def __iter__(self) -> PushBackLines:
        return self

    def __next__(self) -> str:
        if not (self._waiting or self._fill()):
            self.ended = True
            raise StopIteration
        line = self._waiting.popleft()
        self.taken.append(line)
        self.line += 1
        self.chars += len(line)
        self._taken_chars += len(line)
        if isinstance(line, _Overlong):
            raise LineTooLong
        if len(self.taken) > 1 and self._too_far():
            raise SpanTooLong
        return line

    def some(self, most: int) -> list[str]:
        """Hand out some lines at once, at most `most`, and forget those before them; [] at the end.

        Raises LineTooLong, having handed out that one alone, if the next one was too long to be kept.
        """
        self.finish()
        lines = list(islice(self._waiting, most)) if self._waiting or self._fill() else []
        kinds = list(map(type, lines))
        if _Overlong in kinds and not (lines := lines[: kinds.index(_Overlong)]):
            next(self)
        for _ in lines:
            self._waiting.popleft()
        self.taken += lines
        self._taken_chars = sum(map(len, lines))
        self.line += len(lines)
        self.chars += self._taken_chars
        return lines

    def put_back(self) -> None:
        """Take all lines handed out back, to be handed out again."""
        self._waiting.extendleft(reversed(self.taken))
        self.line -= len(self.taken)
        self.chars -= self._taken_chars
        self.taken.clear()
        self._taken_chars = 0

    def finish(self) -> int:
        """Forget the lines handed out, because records have been made of them; return the number of the first."""
        start = self.line - len(self.taken) + 1
        self._earn(len(self.taken), self._taken_chars)
        self.taken.clear()
        self._taken_chars = 0
        return start

    def give_back(self) -> str:
        """Take all lines but the first back, to be handed out again; return the first."""
        first, *rest = self.taken
        self._waiting.extendleft(reversed(rest))
        self.line -= len(rest)
        self._spare = max(0, self._spare - self._cost())
        self.taken[1:] = []
        self._taken_chars = len(first)
        self.ended = False
        return "" if isinstance(first, _Overlong) else first

    def peek(self) -> str:
        """Return the first line to come that is not blank, "" if there is none, and leave it to come."""
        blank: list[str] = []
        line = ""
        while (self._waiting or self._fill()) and not (line := self._waiting.popleft()).strip():
            blank.append(line)
        self._waiting.extendleft(reversed([*blank, line] if line.strip() else blank))
        return line if line.strip() else ""

    def skip_peeked(self) -> None:
        """Leave out the line that `peek` has shown, and the blank ones before it."""
        while not next(self, "x").strip():
            self.finish()
        self.finish()

    def _fill(self) -> bool:
        """Read ahead until a line has its end; return False at the end of the text."""
        parts = [self._rest]
        while text := self._read(_AT_ONCE):
            goes_on = not any(end in part for part in (text, parts[-1]) for end in "\n\r")
            parts.append(text)
            if goes_on and sum(map(len, parts)) <= LONGEST_LINE:
                continue  # a line of megabytes is put together once, not with each part
            lines = io.StringIO("".join(parts), newline="").readlines()
            self._rest = "" if lines[-1].endswith("\n") else lines.pop()
            if lines and len(lines[0]) > LONGEST_LINE:
                lines[0] = _OVERLONG
            elif not lines and len(self._rest) > LONGEST_LINE:
                self._skip_rest_of_line()
                lines = [_OVERLONG]
            if lines:
                self._waiting.extend(lines)
                return True
            parts = [self._rest]
        last, self._rest = "".join(parts), ""
        self._waiting.extend(io.StringIO(last, newline="").readlines())
        return bool(last)

    def _skip_rest_of_line(self) -> None:
        end, self._rest = self._rest[-1], ""
        while text := self._read(_AT_ONCE):
            if end == "\r":  # the part before ended with the line's end, or with half of it
                self._rest = text.removeprefix("\n")
                return
            first, *others = io.StringIO(text, newline="").readlines()
            if first.endswith("\n") or (first.endswith("\r") and others):
                self._rest = "".join(others)
                return
            end = text[-1]

    def _too_far(self) -> bool:
        lines = len(self.taken)
        if lines > ALWAYS_LINES and self._cost() > self._spare:
            return True
        return lines > MOST_LINES or self._taken_chars > LONGEST_LINE

    def _cost(self) -> int:
        return _LINE_COST * len(self.taken) + self._taken_chars

    def _earn(self, lines: int, chars: int) -> None:
        self._spare = min(_MOST_SPARE, self._spare + _SPARE_PER_COST * (_LINE_COST * lines + chars))


_OVERLONG = _Overlong("(a line without end)")
