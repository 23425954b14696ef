"""Showing how reading goes: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from console.screen import Screen

PLAIN_EVERY_SECONDS = 5.0


class ReadingDisplay(Protocol):
    """What is told while files are read."""

    def reading(self, records: int, line: int, total_lines: int, rejected: int) -> None:
        """So many rows have been recorded, up to this physical line."""
        ...

    def releasing(self, changes: int) -> None:
        """So many further changes have become due."""
        ...


@contextmanager
def reading_display(screen: Screen, name: str) -> Iterator[ReadingDisplay]:
    """Give the display of one file for as long as it is read; it leaves nothing behind on a terminal."""
    if not screen.err.is_terminal:
        yield _Lines(screen, name)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), _Rows(), _Rejected())
    with Progress(*columns, console=screen.err, transient=True) as progress:
        yield _Bar(progress, progress.add_task(f"reading {name}", total=None, rows=0, rejected=0))


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._due = 0

    def reading(self, records: int, line: int, total_lines: int, rejected: int) -> None:
        self._progress.update(self._task, completed=line, total=total_lines, rows=records, rejected=rejected)

    def releasing(self, changes: int) -> None:
        self._due += changes
        self._progress.update(self._task, total=None, description="weighing changes, making them due")


class _Lines:
    def __init__(self, screen: Screen, name: str) -> None:
        self._screen = screen
        self._name = name
        self._started = self._said = time.monotonic()
        self._due = 0

    def reading(self, records: int, line: int, total_lines: int, rejected: int) -> None:
        share = f"{100 * line // max(total_lines, 1)} %"
        speed = records / max(time.monotonic() - self._started, 0.001)
        self._say(f"reading {self._name}: {share}, {records:,} rows, {speed:,.0f} rows/s, {rejected:,} rejected")

    def releasing(self, changes: int) -> None:
        self._due += changes
        self._say(f"{self._name}: weighing changes and making them due, {self._due:,} so far")

    def _say(self, words: str) -> None:
        if time.monotonic() - self._said >= PLAIN_EVERY_SECONDS:
            self._said = time.monotonic()
            self._screen.note(words)


class _Rows(ProgressColumn):
    """Rows and rows a second."""

    def render(self, task: Task) -> Text:
        rows = task.fields.get("rows", 0)
        speed = rows / task.elapsed if task.elapsed else 0
        return Text(f"{rows:,} rows, {speed:,.0f}/s")


class _Rejected(ProgressColumn):
    """Rejected rows, once there are any."""

    def render(self, task: Task) -> Text:
        rejected = task.fields.get("rejected", 0)
        return Text(f"{rejected:,} rejected", "yellow") if rejected else Text()
