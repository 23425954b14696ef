"""A CSV file as chunks of changes and rejects: the reading side of an intake, which records nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from consent.change import ConsentChange
from consent.errors import UnreadableFile
from consent.intake import Checkpoint, Reject
from producers.csv_file import CsvFile
from producers.csv_lines import LONGEST_LINE
from producers.csv_rows import CsvReader, CsvRow
from producers.options import CHUNK_ROWS
from producers.record import Fault, RawRecord
from producers.understanding import understand


@dataclass(slots=True)
class Chunk:
    """Some rows that follow each other: the changes, the refused ones with their cells, and the place behind them.

    `cells` runs beside `rejects`. The checkpoint's `rejects_offset` is left to whoever writes a rejects file.
    """

    changes: list[ConsentChange] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    records: int = 0


def read_chunks(file: CsvFile, start: Checkpoint | None = None, chunk_rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Read a file from a checkpoint on, `chunk_rows` rows at a time, fewer where rows are very long.

    Every row that is not blank is in exactly one chunk, either as changes (one for each slot that it names) or as a
    reject. The file is looked at before each chunk is handed out and after the last: raises UnstableFile once it is not
    the surveyed one any more, and UnreadableFile if it turns out damaged.
    """
    done, wishes = (start.records, start.wishes) if start else (0, 0)
    try:
        with file.open() as reader:
            rows = islice(file.rows(reader), done, None)
            made_of = _maker(file)
            while chunk := _next_chunk(reader, islice(rows, chunk_rows), made_of):
                file.survey.confirm()
                done += chunk.records
                wishes += len(chunk.changes) + len(chunk.rejects)
                chunk.checkpoint = Checkpoint(done, reader.lines.line, wishes=wishes)
                yield chunk
    except UnreadableFile:
        file.survey.confirm()
        raise
    file.survey.confirm()


def _maker(file: CsvFile) -> Callable[[CsvRow], tuple[ConsentChange, ...] | Fault]:
    doors, places, columns = file.doors, file.header.columns, file.header.ours

    def made_of(row: CsvRow) -> tuple[ConsentChange, ...] | Fault:
        line, cells, fault = row
        if fault is not None:
            return fault
        fields = {name: cell for index, name in places if (cell := cells[index].strip())}
        return understand(RawRecord(fields, line), doors, columns)

    return made_of


def _next_chunk(
    reader: CsvReader, rows: Iterable[CsvRow], made_of: Callable[[CsvRow], tuple[ConsentChange, ...] | Fault]
) -> Chunk | None:
    chunk = Chunk()
    enough = reader.lines.chars + LONGEST_LINE
    for row in rows:
        result = made_of(row)
        chunk.records += 1
        if not isinstance(result, Fault):
            chunk.changes.extend(result)
        else:
            chunk.rejects.append(Reject(row.line, result.column, result.code, result.message))
            chunk.cells.append(row.cells)
        if reader.lines.chars > enough:
            break
    return chunk if chunk.records else None
