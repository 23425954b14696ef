"""A CSV file as chunks of changes and rejects: the reading side of an intake, which records nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from consent.change import ConsentChange
from consent.errors import UnreadableFile
from consent.intake import Checkpoint, Reject
from producers.csv_file import CsvFile
from producers.csv_lines import LONGEST_LINE
from producers.csv_rows import CsvReader
from producers.options import CHUNK_ROWS
from producers.record import Fault
from producers.rereading import RowMemory


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
    memory = RowMemory(file.doors, file.header)
    try:
        with file.open() as reader:
            _pass_over(file, reader, done)
            while (chunk := _next_chunk(file, reader, memory, chunk_rows)).records:
                file.survey.confirm()
                done += chunk.records
                wishes += len(chunk.changes) + len(chunk.rejects)
                chunk.checkpoint = Checkpoint(done, reader.lines.line, wishes=wishes)
                yield chunk
    except UnreadableFile:
        file.survey.confirm()
        raise
    file.survey.confirm()


def _pass_over(file: CsvFile, reader: CsvReader, rows: int) -> None:
    while rows and (some := file.some_rows(reader, rows)):
        rows -= len(some)


def _next_chunk(file: CsvFile, reader: CsvReader, memory: RowMemory, chunk_rows: int) -> Chunk:
    chunk = Chunk()
    enough = reader.lines.chars + LONGEST_LINE
    while (left := chunk_rows - chunk.records) > 0 and reader.lines.chars <= enough:
        rows = file.some_rows(reader, left)
        if not rows:
            break
        chunk.records += len(rows)
        for line, cells, fault in rows:
            result = fault or memory.understand(cells, line)
            if not isinstance(result, Fault):
                chunk.changes.extend(result)
            else:
                chunk.rejects.append(Reject(line, result.column, result.code, result.message))
                chunk.cells.append(cells)
    return chunk
