"""A file as chunks of changes and rejected rows, one transaction each; rows that are alike are parsed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from pydantic import ValidationError

from consent.change import ConsentChange
from consent.errors import UnreadableFile
from consent.imports import REFUSED, Checkpoint, RejectedRow
from consent.row import WARNINGS, ConsentRow, cell_rule
from consent.times import read_time, to_micros
from producers.files.file import PreparedFile
from producers.files.header import Header
from producers.files.lines import LONGEST_LINE, FileRow, RowReader
from producers.options import CHUNK_ROWS
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import ParseContext, RawRecord, parse_record

MOST_CHANGES = 20_000
"""Changes of one chunk, and those of one row more: a row that names the members of a list may be several hundred."""


@dataclass(slots=True)
class Chunk:
    """Some rows that follow each other: the changes, the rejected rows with their cells, and the place behind them.

    `cells` runs beside `rejects`, and `rows` holds all rows as they were read. `warnings` counts rows whose target may
    be a slip, `skipped` those that a feed leaves out. The part of the checkpoint that concerns the rejects file is
    filled in when that has been written.
    """

    changes: list[ConsentChange] = field(default_factory=list)
    rejects: list[RejectedRow] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    rows: list[FileRow] = field(default_factory=list)
    warnings: Counter[str] = field(default_factory=Counter)
    skipped: int = 0

    def reject(self, members: Collection[int]) -> None:
        """Make rejected rows of those that hold the changes at these places: the ledger cannot keep them."""
        lines = {self.changes[place].line for place in members}
        kept = [change for change in self.changes if change.line not in lines]
        code, message = REFUSED
        found = [row for row in self.rows if row.line in lines]
        count = self.checkpoint.changes - (len(self.changes) - len(kept)) + len(found)
        self.changes, self.checkpoint = kept, replace(self.checkpoint, changes=count)
        self.rejects.extend(RejectedRow(row.line, None, code, message) for row in found)
        self.cells.extend(row.cells for row in found)


def read_chunks(file: PreparedFile, start: Checkpoint | None = None, chunk_rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Read a file from a checkpoint on, `chunk_rows` rows at a time, fewer where rows are very long.

    Every row that is not blank is in exactly one chunk, either as changes (one for each slot that it names) or as a
    rejected row. Before each chunk and after the last the file is compared with the inspected one: raises UnstableFile
    once it differs, and UnreadableFile if it turns out damaged.
    """
    place = start or Checkpoint()
    done, count, skipped = place.records, place.changes, place.skipped
    parser = _RowParser(file)
    try:
        with file.open() as reader:
            if done:
                reader.skip(done)
            chunk = _next_chunk(file, reader, parser, chunk_rows)
            while chunk.rows:
                file.inspection.confirm()
                done += len(chunk.rows)
                # Counted in the chunk's checkpoint, since rows may become rejected while the chunk is recorded.
                count += len(chunk.changes) + len(chunk.rejects)
                skipped += chunk.skipped
                chunk.checkpoint = Checkpoint(done, reader.line, changes=count, skipped=skipped)
                yield chunk
                count = chunk.checkpoint.changes
                chunk = _next_chunk(file, reader, parser, chunk_rows)
    except UnreadableFile:
        file.inspection.confirm()
        raise
    file.inspection.confirm()


def warning_notes(warnings: Mapping[str, int]) -> list[str]:
    """Return what to say of rows whose target may be a slip, given how many there are of each kind."""
    return [f"{WARNINGS[kind]}: {count:,}; they are delivered all the same" for kind, count in sorted(warnings.items())]


def _next_chunk(file: PreparedFile, reader: RowReader, parser: _RowParser, chunk_rows: int) -> Chunk:
    chunk = Chunk()
    enough = reader.lines.chars + LONGEST_LINE
    while (left := chunk_rows - len(chunk.rows)) > 0 and reader.lines.chars <= enough:
        rows = reader.some(left)
        taken = _add(rows, file, parser, chunk)
        chunk.rows += rows[:taken]
        if taken < len(rows):
            reader.give_back(rows[taken:])
        if not rows or len(chunk.changes) >= MOST_CHANGES:
            break
    return chunk


def _add(rows: list[FileRow], file: PreparedFile, parser: _RowParser, chunk: Chunk) -> int:
    """Parse rows into a chunk until it is full; return how many rows were taken."""
    changes, parse, last_line, may_warn = chunk.changes, parser.parse, file.last_line, parser.may_warn
    for number, (line, cells, error) in enumerate(rows, 1):
        result = (error or parse(cells, line)) if line <= last_line else None
        if result is None:
            chunk.skipped += 1
            continue
        if isinstance(result, RowError):
            code, message, column = file.header.error_of_joined_files(cells) or result
            chunk.rejects.append(RejectedRow(line, column, code, message))
            chunk.cells.append(cells)
            continue
        changes.extend(result)
        if may_warn and (warning := parser.warning(result[0])):
            chunk.warnings[warning] += 1
        if len(changes) >= MOST_CHANGES:
            return number
    return len(rows)


class _RowParser:
    """Parses the rows of a file, by way of its feed's mapping if it has one."""

    def __init__(self, file: PreparedFile) -> None:
        self._cache = RowCache(file.context, file.row_header)
        self._mapping = file.mapping
        self.may_warn, self.warning = self._cache.may_warn, self._cache.warning
        self.parse: Callable[[list[str], int], tuple[ConsentChange, ...] | RowError | None] = (
            self._cache.parse if self._mapping is None else self._parse_mapped
        )

    def _parse_mapped(self, cells: list[str], line: int) -> tuple[ConsentChange, ...] | RowError | None:
        mapped = self._mapping.row(cells) if self._mapping is not None else cells
        return mapped if mapped is None or isinstance(mapped, RowError) else self._cache.parse(mapped, line)


_MOST = 1_000
"""Rows remembered; when there are more, all are forgotten."""

Check = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class _Known:
    """The changes of a row, and how the cells that may differ are read: by place among them."""

    changes: tuple[ConsentChange, ...]
    names: tuple[tuple[int, str, Check], ...]
    moment: tuple[int, Callable[[str], int]] | None
    change_id: tuple[int, Check] | None


class RowCache:
    """Parses the rows of one file, which are much alike; it remembers at most `_MOST` of them.

    A row says nothing new but in a few columns: its target, its effective time, its change id. Where all its other
    cells have been parsed before, only those few are validated, each by the row model's own rule for its column. A row
    that differs in anything else, or is not valid, is parsed whole.
    """

    def __init__(self, context: ParseContext, header: Header) -> None:
        self._context, self._columns = context, header.ours
        self._places = header.columns
        varying = _varying(list(context.rows.values()))
        own = [(index, name) for index, name in header.columns if name in varying]
        self._own = tuple(index for index, _ in own)
        self._own_names = tuple(name for _, name in own)
        others = [index for index, name in header.columns if name not in varying]
        self._others: Callable[[Sequence[str]], object] = itemgetter(*others) if others else lambda _: None
        self._useful = bool(set(self._own_names) - _VARYING)
        self.may_warn = any(row.contextual & header.ours.keys() for row in context.rows.values())
        self._known: dict[tuple[object, ...], _Known | None] = {}

    def parse(self, cells: Sequence[str], line: int) -> tuple[ConsentChange, ...] | RowError:
        """Make changes of a row, or return what is wrong with it: exactly as `parse_record` does."""
        key: tuple[object, ...] | None = None
        if self._useful:
            varying = [cells[index].strip() for index in self._own]
            key = (self._others(cells), *map(bool, varying))
            if (known := self._known.get(key)) is not None:
                try:
                    return _again(known, varying, line)
                except (ValidationError, ValueError, OverflowError):
                    key = None  # not like the known one after all
        fields = {name: cell for index, name in self._places if (cell := cells[index].strip())}
        found = parse_record(RawRecord(fields, line), self._context, self._columns)
        if key is not None and key not in self._known and found and not isinstance(found, RowError):
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = self._remembered(found, dict(zip(self._own_names, varying, strict=True)))
        return found

    def warning(self, change: ConsentChange) -> str | None:
        """Return what a person should check before a change is delivered (`consent.row.WARNINGS`), None for nothing."""
        return self._context.rows[change.connection].warning(change.address)

    def _remembered(self, changes: tuple[ConsentChange, ...], cells: Mapping[str, str]) -> _Known | None:
        model = self._context.rows[changes[0].connection]
        address = changes[0].address
        checks = {name: cell_rule(model, name) for name in _VARYING}
        checks |= {name: model.target_rule(name, address) for name in model.names_target if cells.get(name)}
        filled = [(place, name, checks[name]) for place, name in enumerate(cells) if cells[name] and name in checks]
        names = tuple((place, name, check) for place, name, check in filled if name in model.names_target)
        if any(address.get(name, value) != value for (_, name, check) in names for value in [check(cells[name])]):
            return None
        apart = {name: (place, check) for place, name, check in filled}
        moment = apart.get("effective_at")
        return _Known(changes, names, moment and (moment[0], _time_reader(self._context)), apart.get("change_id"))


_VARYING = {"effective_at", "change_id"}


def _varying(rows: Sequence[type[ConsentRow]]) -> set[str]:
    """Return the columns that may differ for every row model that has them."""
    names = {name for row in rows for name in row.names_target}
    fixed = {name for row in rows for name in row.model_fields.keys() - row.names_target}
    return _VARYING | (names - fixed)


def _again(known: _Known, cells: Sequence[str], line: int) -> tuple[ConsentChange, ...]:
    first, *others = known.changes
    address, since, change_id = first.address, first.effective_at, first.change_id
    for place, name, check in known.names:
        value = check(cells[place])
        if name in address:
            address = {**address, name: value}
    if known.moment is not None:
        place, read = known.moment
        since = read(cells[place])
    if known.change_id is not None:
        place, check = known.change_id
        change_id = check(cells[place])
    own = _with(first, address, since, change_id, line)
    return (own, *[_with(one, address, since, change_id, line) for one in others]) if others else (own,)


def _with(
    one: ConsentChange, address: Mapping[str, str], since: int, change_id: str | None, line: int
) -> ConsentChange:
    return ConsentChange(
        one.connection,
        address,
        one.slot,
        one.action,
        since,
        one.details,
        change_id,
        line,
        one.bucket,
        one.value,
        one.own_time,
        one.sender,
        one.recorded_as,
        one.overlaps,
        one.sent_by,
    )


def _time_reader(context: ParseContext) -> Callable[[str], int]:
    """Return what reads a time, and remembers the last one: rows that follow each other often share theirs."""
    last: str | None = None
    moment = latest = context.last_moment

    def read(cell: str) -> int:
        nonlocal last, moment
        if cell != last:
            since = to_micros(read_time(cell), context.zone)
            if since > latest:
                raise ValueError
            last, moment = cell, since
        return moment

    return read
