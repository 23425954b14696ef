"""A file as chunks of changes and rejected rows, which are recorded one transaction each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from consent.change import ConsentChange
from consent.errors import UnreadableFile
from consent.imports import REFUSED, Checkpoint, RejectedRow
from consent.row import WARNINGS
from producers.files.file import PreparedFile
from producers.files.inspect import reading
from producers.files.lines import LONGEST_LINE
from producers.files.row_cache import RowCache
from producers.files.row_reader import FileRow, RowReader
from producers.options import CHUNK_ROWS
from producers.parsing.error_messages import RowError

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
            with reading(file.inspection.file):
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
                with reading(file.inspection.file):
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
    changes, parse, last_line = chunk.changes, parser.parse, file.last_line
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
        if warning := parser.warning(result[0]):
            chunk.warnings[warning] += 1
        if len(changes) >= MOST_CHANGES:
            return number
    return len(rows)


class _RowParser:
    """Parses the rows of a file, by way of its feed's mapping if it has one."""

    def __init__(self, file: PreparedFile) -> None:
        self._cache = RowCache(file.context, file.row_header)
        self._mapping = file.mapping
        self.warning = self._cache.warning
        self.parse: Callable[[list[str], int], tuple[ConsentChange, ...] | RowError | None] = (
            self._cache.parse if self._mapping is None else self._parse_mapped
        )

    def _parse_mapped(self, cells: list[str], line: int) -> tuple[ConsentChange, ...] | RowError | None:
        mapped = self._mapping.row(cells) if self._mapping is not None else cells
        return mapped if mapped is None or isinstance(mapped, RowError) else self._cache.parse(mapped, line)
