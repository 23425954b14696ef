"""An audience without the people who may not be contacted: the file in two, those who may be and those who may not."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from consent.errors import ConfigurationError, UnusableHeader
from consent.files import new_file, path_text, user_name
from consent.identifiers.suppression import SuppressionCheck
from consent.settings import Settings
from console.commands.run.input_files import row_models
from console.exit_codes import ExitCode
from console.ledger_access import reading_ledger
from console.ui.progress import ReadingDisplay, reading_display
from console.ui.screen import Screen
from console.ui.text import counted
from producers.audience import (
    IDENTIFIER,
    NAME_COLUMNS,
    AudienceCheck,
    AudienceQuestion,
    Stopped,
    column_of,
    names_of,
    stopped_row,
    with_check,
)
from producers.files.archive import unpacked
from producers.files.cells import FileRow
from producers.files.csv_injection import escape
from producers.files.file import PreparedFile
from producers.files.prepare import feed_named, look_at
from producers.files.sources import source_files
from producers.options import IngestOptions
from producers.parsing.columns import Header, plain

STOPPED_ENDING = ".stopped.csv"
COLUMNS = ("_code", "_why", "_since", "_connection", "_state", "_import")
"""What stands before the audience's own columns in the file of those who may not be contacted."""

_CHUNK = 5_000


@dataclass(slots=True)
class _Counts:
    clean: int = 0
    stopped: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        return self.clean + self.stopped.total()

    def as_json(self) -> dict[str, Any]:
        found = {"rows": self.rows, "clean": self.clean, "stopped": self.stopped.total()}
        return {**found, "reasons": dict(self.stopped), "states": dict(self.states)}


def scrub(
    settings: Settings, screen: Screen, audience: str, how: IngestOptions, asked: AudienceQuestion, output: Path
) -> ExitCode:
    """Write who may be contacted and who may not; raise ConfigurationError, UnusableInput or LedgerUnavailable.

    The two files get their names only once the ledger has recorded the check, and the clean one last.
    """
    stopped, counts = output.with_name(output.name + STOPPED_ENDING), _Counts()
    maps, how = how.maps, _with_its_feed(how, settings)
    asked = asked.in_region(how.region)
    with ExitStack() as stack:
        file = stack.enter_context(_one_file(audience, how, maps, settings))
        ledger = stack.enter_context(reading_ledger(settings))
        display = stack.enter_context(reading_display(screen, file.name))
        clean_text, stopped_text = (stack.enter_context(new_file(one)) for one in (output, stopped))
        constants = _of_names(how.constants)
        clean_rows, stopped_rows = (
            csv.writer(one, delimiter=file.columns.delimiter) for one in (clean_text, stopped_text)
        )
        files = _TwoFiles(file, constants, clean_rows, stopped_rows, counts, display)
        with_check(ledger, asked, files.fill)
        facts = (user_name(), file.name, file.inspection.sha256, asked.question, asked.connections, asked.unknown)
        check = ledger.suppression.record(SuppressionCheck(*facts, counts.clean, counts.stopped.total()))
    reasons = ", ".join(f"{count:,} {code}" for code, count in counts.stopped.most_common())
    screen.show(f"{path_text(output)}: {counted(counts.clean, 'row')} may be contacted")
    may_not = counted(counts.stopped.total(), "row")
    screen.show(f"{path_text(stopped)}: {may_not} may not" + (f": {reasons}" if reasons else ""))
    outputs = {"check": check, "output": path_text(output), "stopped_output": path_text(stopped)}
    screen.print_json(outputs | counts.as_json())
    return ExitCode.WELL


def _with_its_feed(how: IngestOptions, settings: Settings) -> IngestOptions:
    """Return the options with what the feed says that they name, if they name one; raise ConfigurationError."""
    found = how.with_feed(feed_named(how.feed, settings.feeds), how.feed) if how.feed else how
    ours = {plain(their): to for their, to in found.maps.items()}
    changed = [name for name in found.values if column_of(ours.get(plain(name), name)) is not None]
    if changed:
        raise ConfigurationError(
            f"feed {how.feed} says by `values` what the cells of {', '.join(changed)} mean, which name people: "
            "check an audience that holds the names themselves"
        )
    return replace(found, sheet_memory=settings.sheet_memory_mb)


def _of_names(names: Mapping[str, str]) -> dict[str, str]:
    """Return those of our columns that name people, as `column_of` calls them, with what stands beside them."""
    return {column: text for name, text in names.items() if (column := column_of(name)) is not None}


@contextmanager
def _one_file(audience: str, how: IngestOptions, maps: Mapping[str, str], settings: Settings) -> Iterator[PreparedFile]:
    """Give the audience, with the columns that name people in its header; `maps` are those of the command."""
    with source_files((audience,)) as sources, ExitStack() as stack:
        files = [one for source in sources for one in stack.enter_context(unpacked(source, how))]
        if len(files) != 1:
            raise ConfigurationError(f"{path_text(audience)} holds {len(files)} files: name one audience")
        found = look_at(files[0], how, row_models(settings))
        yield replace(found, header=_header(found.columns.names, how, maps, found.name))


def _header(names: Sequence[str], how: IngestOptions, maps: Mapping[str, str], file: str) -> Header:
    """Return a header with the columns that name people; raise UnusableHeader if there are none, or two of a kind.

    What a feed maps may be missing, or name no people, which says nothing against the audience; what it leaves out is
    read all the same, because each name that is not looked for may be the one by which a person has opted out.
    """
    ours = {their: column_of(to) for their, to in maps.items()}
    for their, to in ours.items():
        if to is None:
            raise ConfigurationError(f"--map {their}={maps[their]}: write one of {', '.join(NAME_COLUMNS)} behind =")
        if their not in names:
            raise UnusableHeader(f"{file} has no column {their!r}: --map names one of {', '.join(names)}")
    of_feed = {plain(their): to for their, to in how.maps.items() if their not in maps}
    meant = [ours.get(name) or column_of(of_feed.get(plain(name), name)) for name in names]
    found = [(index, to) for index, to in enumerate(meant) if to is not None]
    given = [*(to for _, to in found), *_of_names(how.constants)]
    twice = [to for to, count in Counter(given).items() if count > 1]
    if twice:
        which = ", ".join(names[index] for index, to in found if to == twice[0])
        which += f", and feed {how.feed} sets it" if twice[0] in _of_names(how.constants) else ""
        raise UnusableHeader(f"{file} has several columns for {twice[0]} ({which}): leave one, or check them apart")
    carried = set(given)
    if len(carried.difference(IDENTIFIER)) == 0 and not carried.issuperset(IDENTIFIER):
        raise UnusableHeader(
            f"{file} has no column that names people: call one {', '.join(NAME_COLUMNS)}, or give --map THEIR=OUR"
        )
    return Header(tuple(names), tuple(found))


@dataclass(frozen=True, slots=True)
class _TwoFiles:
    """The audience, and the two files into which its rows go."""

    file: PreparedFile
    constants: Mapping[str, str]
    clean: Any
    stopped: Any
    counts: _Counts
    display: ReadingDisplay

    def fill(self, check: AudienceCheck) -> None:
        """Write every row into one of the two; raise UnstableFile if the audience changes meanwhile."""
        names = self.file.header.names
        self.clean.writerow(names)
        self.stopped.writerow([*COLUMNS, *map(escape, names)])
        total = self.file.inspection.lines
        for read in self._batches():
            rows = [row for row in read if row.line <= self.file.last_line]
            people = [self._person(row) for row in rows]
            self._write(rows, check.check(people))
            unread = self.counts.rows - self.counts.clean - self.counts.stopped["opted_out"]
            self.display.reading(self.counts.rows, read[-1].line, total, unread)
        self.file.inspection.confirm()

    def _batches(self) -> Iterator[list[FileRow]]:
        with self.file.open() as reader:
            while rows := reader.some():
                while len(rows) < _CHUNK and (some := reader.some()):
                    rows += some
                yield rows

    def _person(self, row: FileRow) -> Mapping[str, str] | Stopped:
        cells, header = row.cells, self.file.header
        if row.error is not None or cells[0].endswith(header.names[0]):
            error = self.file.error_of_joined_files(cells) or row.error
            if error is not None:
                return stopped_row(error)
        return names_of({**{column: cells[index] for index, column in header.columns}, **self.constants})

    def _write(self, rows: Sequence[FileRow], answers: Sequence[Stopped | None]) -> None:
        clean: list[list[str]] = []
        for row, answer in zip(rows, answers, strict=True):
            if answer is None:
                clean.append(row.cells)
                continue
            self.counts.stopped[answer.code] += 1
            if answer.state:
                self.counts.states[answer.state] += 1
            self.stopped.writerow([*map(escape, answer), *(escape(_sound(cell)) for cell in row.cells)])
        self.clean.writerows(clean)
        self.counts.clean += len(clean)


def _sound(cell: str) -> str:
    """Return a cell that can be written: damaged characters as U+FFFD."""
    return cell.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
