"""A workbook's sheet as lines of JSON, a program: `python -m producers.files.sheet.workbook MEGABYTES [SHEET]`.

It reads an .xlsx file from its standard input, writes a line `[row, cells, errors]` for each row that is not blank, and
ends with one object on its standard error: the `sheet` and the `others` with their first rows (`heads`), or why the
workbook is `refused`. It knows nothing of ours and keeps no more than a row, the texts that cells share, and the
styles; what needs more memory than MEGABYTES ends in `{"memory": true}`,
and what the system refuses, such as a write to a full disk, in `{"failed": [errno, words]}`.

It reads what a sheet holds (ECMA-376 part 1, chapter 18), not what a float makes of it. openpyxl 3.1, read-only, gives
an int for 919000000000 but one float for the rounded 9.19E+11 and for 4.47700900123E+11, whose digits all stand there,
makes 123 of 00123 and a date of a day that was none (1900-02-29), drops cells outside of the sheet's stated dimension,
and needs two readings to tell a formula without a value from an empty cell. It reads 18,500 rows of five cells a second
of CPU, this program 28,000 to 31,000.
"""

from __future__ import annotations

import json
import posixpath
import re
import resource
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, TextIO
from xml.etree import ElementTree as ET

from producers.files.sheet.merges import Merges, column_of
from producers.files.sheet.values import CellFormat, cell_format, number_text, shown_text

LONGEST_ROW = 4 * 1024 * 1024
"""Characters of a row's line."""

_MOST_COLUMNS = 16_384
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_REFERENCE = re.compile(r"([A-Z]{1,3})\d*")
_WORKSHEET = "/worksheet"
_DOCUMENT = "/officeDocument"
_STRINGS = "/sharedStrings"
_STYLES = "/styles"


class Refused(Exception):
    """The workbook cannot be read; the message ends with the remedy."""


class Part(NamedTuple):
    """A part that another one refers to: the end of its type, and its name in the archive."""

    kind: str
    name: str


@dataclass(slots=True)
class Workbook:
    """A workbook: its sheets by name (the visible ones first), the texts that cells share, and the styles of cells.

    `rows_unseen` counts the rows that were read and that a spreadsheet program does not show: hidden or filtered ones.
    """

    opened: zipfile.ZipFile
    sheets: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)
    shared: list[str] = field(default_factory=list)
    styles: list[CellFormat] = field(default_factory=list)
    since_1904: bool = False
    rows_unseen: int = 0


def open_workbook(opened: zipfile.ZipFile) -> Workbook:
    """Read everything but the sheets themselves; raise Refused if it is no workbook of the kind .xlsx."""
    document = next((part for part in _parts(opened, "").values() if part.kind.endswith(_DOCUMENT)), None)
    if document is None or document.name.endswith(".bin"):
        raise Refused("is no .xlsx workbook: save it as one, or as CSV")
    found, parts = Workbook(opened), _parts(opened, document.name)
    for element in _elements(opened, document.name):
        name = _local(element.tag)
        if name == "workbookPr":
            found.since_1904 = element.get("date1904") in {"1", "true"}
        elif name == "sheet":
            _note_sheet(found, element, parts)
    for part in parts.values():
        if part.kind.endswith(_STRINGS):
            found.shared = [_text_of(one) for one in _elements(opened, part.name) if _local(one.tag) == "si"]
        elif part.kind.endswith(_STYLES):
            found.styles = _styles(opened, part.name)
    return found


def _note_sheet(workbook: Workbook, element: ET.Element, parts: Mapping[str, Part]) -> None:
    part = parts.get(next((value for key, value in element.items() if _local(key) == "id"), ""))
    if part is not None and part.kind.endswith(_WORKSHEET):
        some = workbook.sheets if element.get("state", "visible") == "visible" else workbook.hidden
        some[element.get("name", "")] = part.name


def choose_sheet(workbook: Workbook, wanted: str | None) -> tuple[str, str]:
    """Return the name and the part of the first visible sheet, or of the one that is wanted."""
    every = workbook.sheets | workbook.hidden
    if wanted is not None:
        if wanted not in every:
            raise Refused(f"has no sheet {wanted!r}: --sheet is one of {', '.join(map(repr, every)) or 'none'}")
        return wanted, every[wanted]
    if not every:
        raise Refused("has no sheet with cells: save it as CSV")
    return next(iter(every.items()))


def rows(
    workbook: Workbook, part: str, merges: Merges | None = None
) -> Iterator[tuple[int, list[str], list[tuple[int, str]]]]:
    """Yield each row that is not blank: its number in the sheet, its cells, and which cells cannot be read, and why."""
    number, data = 0, None
    for event, element in _events(workbook.opened, part):
        name = _local(element.tag)
        if event == "start":
            data = element if name == "sheetData" else data
        elif name == "row" and data is not None:
            number = max(number + 1, int(element.get("r", 0)))
            cells, errors = _cells(workbook, element)
            data.clear()
            if any(map(str.strip, cells)) or errors:
                if merges is not None and (covered := merges.covered(number)):
                    errors += [(place, "merged") for place in covered]
                workbook.rows_unseen += element.get("hidden") in {"1", "true"}
                yield number, cells, errors


def _cells(workbook: Workbook, row: ET.Element) -> tuple[list[str], list[tuple[int, str]]]:
    cells: list[str] = []
    errors: list[tuple[int, str]] = []
    for element in row:
        place = _place(element.get("r"), len(cells))
        if place < len(cells):
            raise Refused("has cells out of their order: save it anew, or as CSV")
        cells.extend([""] * (place + 1 - len(cells)))
        cells[place], error = _cell(workbook, element)
        if error:
            errors.append((place, error))
    return cells, errors


def _place(reference: str | None, following: int) -> int:
    """Return the column of a cell, counted from 0; one that names none follows the one before it."""
    match = _REFERENCE.match(reference) if reference else None
    if match is None:
        return following
    place = column_of(match[1])
    if place >= _MOST_COLUMNS:
        raise Refused("has a cell in a column that no sheet has: save it as CSV")
    return place


def _cell(workbook: Workbook, element: ET.Element) -> tuple[str, str | None]:
    """Return a cell's text, and why it cannot be used."""
    value, computed = None, False
    for child in element:
        name = _local(child.tag)
        if name == "v":
            value = child.text or ""
        elif name == "is":
            return _text_of(child), None
        elif name == "f":
            computed = True
    if value is None:
        return "", "no_value" if computed else None
    kind = element.get("t", "n")
    if kind == "n":
        shape = workbook.styles[int(element.get("s", 0))] if workbook.styles else CellFormat()
        text, error = number_text(value, shape.style, since_1904=workbook.since_1904)
        return (text if error or not shape.code else shown_text(text, shape.code)), error
    return _typed(workbook, kind, value), "formula_error" if kind == "e" else None


def _typed(workbook: Workbook, kind: str, value: str) -> str:
    if kind == "s":
        return workbook.shared[int(value)]
    if kind == "b":
        return "true" if value == "1" else "false"
    return _unescaped(value) if kind == "str" else value


def _text_of(element: ET.Element) -> str:
    """Return the text of a cell's rich text, without the readings beside Japanese characters."""
    found = []
    for child in element:
        name = _local(child.tag)
        if name == "t":
            found.append(child.text or "")
        elif name == "r":
            found.extend(one.text or "" for one in child if _local(one.tag) == "t")
    return _unescaped("".join(found))


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text


def _styles(opened: zipfile.ZipFile, part: str) -> list[CellFormat]:
    codes: dict[str, str] = {}
    found: list[CellFormat] = []
    for element in _elements(opened, part):
        name = _local(element.tag)
        if name == "numFmt":
            codes[element.get("numFmtId", "")] = element.get("formatCode", "")
        elif name == "cellXfs":
            found = [cell_format(int(one.get("numFmtId", 0)), codes.get(one.get("numFmtId", ""))) for one in element]
    return found


def _parts(opened: zipfile.ZipFile, name: str) -> dict[str, Part]:
    """Return the parts that a part refers to, by the id that it uses; "" is the whole package."""
    folder, base = posixpath.split(name)
    relations = posixpath.join(folder, "_rels", f"{base}.rels")
    if relations not in opened.namelist():
        return {}
    return {
        element.get("Id", ""): Part(
            element.get("Type", ""), posixpath.normpath(posixpath.join("/", folder, element.get("Target", "")))[1:]
        )
        for element in _elements(opened, relations)
        if _local(element.tag) == "Relationship" and element.get("TargetMode") != "External"
    }


def _elements(opened: zipfile.ZipFile, part: str) -> Iterator[ET.Element]:
    """Yield the elements of a part that is not a sheet, each when it is whole; texts that cells share go at once."""
    root: ET.Element | None = None
    for event, element in _events(opened, part):
        if event == "start":
            root = element if root is None else root
            continue
        yield element
        if _local(element.tag) == "si" and root is not None:
            root.clear()


def _events(opened: zipfile.ZipFile, part: str) -> Iterator[tuple[str, ET.Element]]:
    """Yield the starts and ends of a part's elements; expat itself ends a document whose entities multiply."""
    with opened.open(part) as stream:
        if b"<!DOCTYPE" in stream.read(4096):
            raise Refused("holds what no workbook may (a document type): save it anew, or as CSV")
    with opened.open(part) as stream:
        yield from ET.iterparse(stream, events=("start", "end"))  # noqa: S314 - see above


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def convert(source: BinaryIO, sink: TextIO, wanted: str | None) -> dict[str, Any]:
    """Write a sheet's rows as lines, and return its name and how many rows it has, blank ones included."""
    with zipfile.ZipFile(source) as opened:
        workbook = open_workbook(opened)
        name, part = choose_sheet(workbook, wanted)
        last = 0
        for last, cells, errors in rows(workbook, part, Merges(opened, part)):
            line = json.dumps([last, cells, errors], separators=(",", ":"))
            sink.write((line if len(line) <= LONGEST_ROW else json.dumps([last, [], [(-1, "line_too_long")]])) + "\n")
        unseen = workbook.rows_unseen
        heads = {other: _head(workbook, other) for other in workbook.sheets if other != name}
    return {"sheet": name, "others": [*heads], "heads": [*heads.values()], "rows": last, "unseen": unseen}


def _head(workbook: Workbook, sheet: str) -> list[str]:
    """Return the first cells of a sheet that is not read, [] if it has none or is damaged."""
    with suppress(*_DAMAGE):
        return [cell[:_LONGEST_NAME] for cell in next(rows(workbook, workbook.sheets[sheet]), (0, [], []))[1]][:_NAMES]
    return []


_LONGEST_NAME, _NAMES = 64, 256
_DAMAGE = (zipfile.BadZipFile, ET.ParseError, KeyError, IndexError, ValueError, EOFError, NotImplementedError)


def main(arguments: Sequence[str]) -> int:
    """Convert standard input; return the exit code."""
    megabytes, *wanted = arguments
    with suppress(ValueError, OSError):  # macOS knows the limit and does not keep it
        resource.setrlimit(resource.RLIMIT_AS, (int(megabytes) * 1024**2,) * 2)
    try:
        found = convert(sys.stdin.buffer, sys.stdout, wanted[0] if wanted else None)
        sys.stdout.flush()
    except Refused as refused:
        found = {"refused": str(refused)}
    except MemoryError:
        found = {"memory": True}
    except OSError as error:
        found = {"failed": [error.errno, error.strerror]}
    except _DAMAGE:
        found = {"refused": "is damaged, or not as a workbook should be: save it anew, or as CSV"}
    sys.stderr.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
