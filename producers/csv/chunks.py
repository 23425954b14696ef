"""A CSV file as chunks of changes and rejects: the reading side of an intake, which records nothing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from consent.change import ConsentChange
from consent.errors import UnreadableFile
from consent.imports import REFUSED, Checkpoint, RejectedRow
from consent.row import DOUBTS
from producers.csv.file import CsvFile
from producers.csv.header import Header
from producers.csv.lines import LONGEST_LINE
from producers.csv.row_cache import RowCache
from producers.csv.rows import CsvReader, CsvRow
from producers.options import CHUNK_ROWS
from producers.parsing.error_messages import RowError

MOST_CHANGES = 20_000
"""Changes of one chunk, and those of one row more: a row that names the members of a list may be several hundred."""


@dataclass(slots=True)
class Chunk:
    """Some rows that follow each other: the changes, the refused ones with their cells, and the place behind them.

    `cells` runs beside `rejects`, and `rows` holds all rows as they were read. `doubts` counts rows whose target may be
    a slip. What the checkpoint says of the rejects file is left to whoever writes one.
    """

    changes: list[ConsentChange] = field(default_factory=list)
    rejects: list[RejectedRow] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    records: int = 0
    rows: list[CsvRow] = field(default_factory=list)
    doubts: Counter[str] = field(default_factory=Counter)

    def refuse(self, members: Collection[int]) -> None:
        """Make rejects of the rows of these changes, given by their places: whoever records them has refused them."""
        lines = {self.changes[place].line for place in members}
        kept = [change for change in self.changes if change.line not in lines]
        code, message = REFUSED
        found = [row for row in self.rows if row.line in lines]
        wishes = self.checkpoint.wishes - (len(self.changes) - len(kept)) + len(found)
        self.changes, self.checkpoint = kept, replace(self.checkpoint, wishes=wishes)
        self.rejects.extend(RejectedRow(row.line, None, code, message) for row in found)
        self.cells.extend(row.cells for row in found)


def read_chunks(file: CsvFile, start: Checkpoint | None = None, chunk_rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Read a file from a checkpoint on, `chunk_rows` rows at a time, fewer where rows are very long.

    Every row that is not blank is in exactly one chunk, either as changes (one for each slot that it names) or as a
    reject. The file is looked at before each chunk is handed out and after the last: raises UnstableFile once it is not
    the surveyed one any more, and UnreadableFile if it turns out damaged.
    """
    done, wishes = (start.records, start.wishes) if start else (0, 0)
    cache = RowCache(file.context, file.header)
    try:
        with file.open() as reader:
            rows = _Rows(file, reader)
            rows.pass_over(done)
            while (chunk := _next_chunk(rows, cache, chunk_rows)).records:
                file.inspection.confirm()
                done += chunk.records
                # Counted where it stands, as whoever records a chunk may refuse some of its rows.
                wishes += len(chunk.changes) + len(chunk.rejects)
                chunk.checkpoint = Checkpoint(done, rows.line, wishes=wishes)
                yield chunk
                wishes = chunk.checkpoint.wishes
    except UnreadableFile:
        file.inspection.confirm()
        raise
    file.inspection.confirm()


def doubtful(doubts: Mapping[str, int]) -> list[str]:
    """Return what to say of rows whose target may be a slip."""
    return [f"{DOUBTS[doubt]}: {count:,}; they are delivered all the same" for doubt, count in sorted(doubts.items())]


class _Rows:
    """The rows of a file, of which some may be left for the next chunk."""

    def __init__(self, file: CsvFile, reader: CsvReader) -> None:
        self._file, self._reader = file, reader
        self._left: deque[CsvRow] = deque()

    @property
    def header(self) -> Header:
        """The file's header."""
        return self._file.header

    @property
    def line(self) -> int:
        """The physical line after which the next row starts."""
        return self._left[0].line - 1 if self._left else self._reader.lines.line

    @property
    def chars(self) -> int:
        """The characters that have been read."""
        return self._reader.lines.chars

    def pass_over(self, rows: int) -> None:
        """Leave out so many rows."""
        while rows and (some := self._file.some_rows(self._reader, rows)):
            rows -= len(some)

    def some(self, most: int) -> list[CsvRow]:
        """Return some of the next rows, at most `most`; [] at the end."""
        if self._left:
            return [self._left.popleft() for _ in range(min(most, len(self._left)))]
        return self._file.some_rows(self._reader, most)

    def give_back(self, rows: list[CsvRow]) -> None:
        """Leave these for the next chunk."""
        self._left.extendleft(reversed(rows))


def _next_chunk(source: _Rows, cache: RowCache, chunk_rows: int) -> Chunk:
    chunk = Chunk()
    enough = source.chars + LONGEST_LINE
    while (left := chunk_rows - len(chunk.rows)) > 0 and source.chars <= enough and len(chunk.changes) < MOST_CHANGES:
        rows = source.some(left)
        if not rows:
            break
        taken = _understand(rows, cache, source.header, chunk)
        if taken < len(rows):
            source.give_back(rows[taken:])
            del rows[taken:]
        chunk.rows += rows
    chunk.records = len(chunk.rows)
    return chunk


def _understand(rows: list[CsvRow], cache: RowCache, header: Header, chunk: Chunk) -> int:
    """Add what rows say to a chunk until it is full; return how many rows were taken."""
    changes = chunk.changes
    for number, (line, cells, fault) in enumerate(rows, 1):
        result = fault or cache.parse(cells, line)
        if isinstance(result, RowError):
            plain = header.told_of(cells, result)
            chunk.rejects.append(RejectedRow(line, plain.column, plain.code, plain.message))
            chunk.cells.append(cells)
            continue
        changes.extend(result)
        if doubt := cache.doubt(result[0]):
            chunk.doubts[doubt] += 1
        if len(changes) >= MOST_CHANGES:
            return number
    return len(rows)
