"""Where words go: results to standard output, progress and notes to standard error, and nothing but JSON if asked."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

_WIDTH_OF_A_FILE = 160
_NARROW = 60
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys instead of showing them: control characters but tab and line feed, and the marks
that turn the direction of text (Unicode Standard Annex 9)."""


def visible(text: str) -> str:
    r"""Return a text with each character that a terminal would obey written out, like \x1b or \u202e."""
    return _UNSEEN.sub(lambda found: _written_out(found[0]), text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def take_any_character() -> None:
    """Let both outputs write what their encoding lacks as an escape, instead of failing: a terminal may be Latin-1."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


class _Plain(Console):
    """A console that writes out control characters: names of files, cells and replies may hold them."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, but for the text of what is no control sequence of rich's own."""
        for segment in super().render(renderable, options):
            if segment.control or not _UNSEEN.search(segment.text):
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


class Screen:
    """One command's output. With `as_json` standard output carries the one JSON value and everything else is left out.

    Markup and highlighting are off: what is printed may hold brackets of its own. `has_printed_json` says whether any
    screen of this command has printed JSON, or begun to.
    """

    has_printed_json: ClassVar[bool] = False

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    def show(self, what: RenderableType = "", style: str | None = None) -> None:
        """Print a result for people; nothing with `as_json`."""
        if self.as_json:
            return
        listed = what.renderable if isinstance(what, Padding) else what
        if isinstance(listed, Table) and self.out.width < _NARROW:
            wide = self.out.options.update(max_width=_WIDTH_OF_A_FILE)
            if self.out.measure(listed, options=wide).minimum > self.out.width:  # words would be cut
                what = _one_below_the_other(listed)
        prose = isinstance(what, str | Text) and not self.out.is_terminal
        if isinstance(what, str) and not prose:
            what = _indented(what, self.out)
        self.out.print(what, style=style, soft_wrap=prose)

    def note(self, text: str) -> None:
        """Say something on standard error."""
        self.err.print(Text(text, "dim"), soft_wrap=not self.err.is_terminal)

    def error(self, text: str, remedy: str = "") -> None:
        """Say on standard error what is wrong, and what to do."""
        self.err.print(Text.assemble(("error: ", "bold red"), text), soft_wrap=not self.err.is_terminal)
        if remedy:
            self.err.print(Text(remedy), soft_wrap=not self.err.is_terminal)

    def print_json(self, value: Any) -> None:
        """Print the JSON value that was asked for; nothing otherwise."""
        if self.as_json:
            text = _as_json(value)
            with _signals_later():
                Screen.has_printed_json = True
                typer.echo(text)

    def print_json_list(self, values: Iterable[Any], within: tuple[Mapping[str, Any], str] | None = None) -> None:
        """Print a JSON list that was asked for, one value after the other; nothing otherwise.

        `within` is the object that it belongs to, and its name there: it comes last.
        """
        if not self.as_json:
            return
        Screen.has_printed_json = True
        head, tail = "[", "]"
        if within is not None:
            facts, name = within
            head, tail = f'{_as_json(facts)[:-1]}{", " if facts else ""}"{name}": [', "]}"
        between = head
        for value in values:
            typer.echo(between + _as_json(value), nl=False)
            between = ", "
        typer.echo(head + tail if between == head else tail)


@contextmanager
def _signals_later() -> Iterator[None]:
    """Let SIGINT and SIGTERM come only behind this: a JSON value is printed whole or not at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    if came:
        signal.raise_signal(came[0])


def _as_json(value: Any) -> str:
    r"""Return JSON in the encoding of standard output: an escape of Python's (\U0001f600) would be none of JSON's."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    text = json.dumps(value, ensure_ascii=encoding != "utf8")
    return visible_json(text)


def visible_json(text: str) -> str:
    """Return JSON that means the same, with each character that a terminal would obey as an escape of JSON's."""
    return _UNSEEN.sub(lambda one: f"\\u{ord(one[0]):04x}", text)


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = (), whole: tuple[str, ...] = ()) -> Table:
    """Return a quiet table; the columns in `right` hold numbers, those in `whole` what a person may want to copy."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(
            column, justify="right" if column in right else "left", overflow="fold", no_wrap=column in whole
        )
    return made


def _indented(line: str, console: Console) -> Text:
    """Return an indented line that is too long for the console as several, all of them indented alike."""
    text = Text(visible(line))
    indent = len(line) - len(line.lstrip(" "))
    if not indent or "\n" in line or text.cell_len <= console.width or console.width < _NARROW:
        return text
    parts = text[indent:].wrap(console, console.width - indent)
    return Text("\n").join(Text.assemble(" " * indent, part) for part in parts)


def _one_below_the_other(listed: Table) -> Text:
    """Return a table as lines of name and value: in a narrow terminal its columns would be a letter wide."""
    names, rows = (
        [str(column.header) for column in listed.columns],
        zip(*(one.cells for one in listed.columns), strict=True),
    )
    title = [Text(str(listed.title), "bold")] if listed.title else []
    return Text("\n").join([*title, *(_lines(names, row) for row in rows)])


def _lines(names: Sequence[str], row: Sequence[RenderableType]) -> Text:
    """Return a row of a table as lines, the first of which is not indented; empty cells are left out."""
    cells = [cell if isinstance(cell, Text) else Text(str(cell)) for cell in row]
    filled = [(name, cell) for name, cell in zip(names, cells, strict=True) if cell.plain]
    return Text("\n").join(
        Text.assemble("  " * (number > 0), (f"{name}: ", "dim"), cell) for number, (name, cell) in enumerate(filled)
    )


def recording_console(width: int) -> Console:
    """Return a console like a screen's own that keeps what is printed on it, in colour, and shows nothing."""
    return _Plain(
        record=True,
        file=io.StringIO(),
        width=width,
        force_terminal=True,
        color_system="truecolor",
        markup=False,
        highlight=False,
        emoji=False,
    )


def _console(*, stderr: bool) -> Console:
    console = _Plain(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_OF_A_FILE
    return console
