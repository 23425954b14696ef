"""The use case of intake: a CSV file into the ledger, each row once, whatever happens on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from consent.change import ConsentChange
from consent.connection import ConnectionSettings
from consent.errors import ImportUnderWay, LedgerRefused
from consent.files import path_text
from consent.imports import Accepted, Checkpoint, ImportProgress, ImportSource, RejectedRow
from consent.row import ConsentRow
from producers.csv.chunks import Chunk, doubtful, read_chunks
from producers.csv.file import CsvFile, prepare
from producers.csv.inspect import Inspection
from producers.csv.rejects import RejectsFile
from producers.csv.sources import SourceFile
from producers.options import IngestOptions, fingerprint


class IntakeLedger(Protocol):
    """What an intake needs of the ledger."""

    def open_import(self, source: ImportSource) -> ImportProgress:
        """Find the import with this fingerprint, or start one."""
        ...

    def accept(
        self, import_id: str, changes: Sequence[ConsentChange], rejects: Sequence[RejectedRow], checkpoint: Checkpoint
    ) -> Accepted:
        """Record a chunk and the place behind it, in one transaction."""
        ...

    def finish_reading(self, import_id: str) -> None:
        """Note that the whole file has been read and is trusted."""
        ...

    def release(self, import_id: str, on_progress: Callable[[int], None] | None = None) -> None:
        """Let the import's changes become due; it may be called again, and goes on where it stood."""
        ...


class Progress(Protocol):
    """What is told while a file is taken in, once for each chunk."""

    def reading(self, records: int, line: int, total_lines: int, rejected: int) -> None:
        """So many rows have been recorded, up to this physical line; `rejected` counts those of this attempt."""
        ...

    def releasing(self, changes: int) -> None:
        """So many changes have become due."""
        ...


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an intake did: this attempt's own counts, since the ledger holds those of the import.

    `already_known` says that these bytes had been read before and nothing was recorded; `resumed_at` how many rows an
    earlier attempt had recorded. Rows without a time hold since `since`. `rejects_file` is None if no row was refused.
    """

    import_id: str
    already_known: bool
    resumed_at: int
    since: datetime | None
    recorded: int
    duplicates: int
    rejected: int
    rejects_file: Path | None
    notes: list[str]


def ingest_file(
    file: SourceFile | Inspection,
    options: IngestOptions,
    ledger: IntakeLedger,
    rows: Mapping[str, type[ConsentRow]],
    connections: Mapping[str, ConnectionSettings],
    on_progress: Progress | None = None,
) -> ImportResult:
    """Record a file's changes and let them become due; an earlier attempt with the same bytes is gone on with.

    `rows` holds the row model of each connection, `connections` their settings. Nothing has been recorded when this
    raises UnusableHeader or ConfigurationError about options. When it raises UnstableFile or UnreadableFile, or is
    interrupted, the last chunk accepted is the checkpoint and, without `stream`, nothing has become due.
    """
    defaults = {name: settings.defaults for name, settings in connections.items() if name in rows}
    ready = prepare(file, options, rows, defaults)
    progress = ledger.open_import(source_of(ready, options))
    ready = ready.since(progress.default_effective_at or ready.context.effective_at)
    recording = _Recording(ready, options, ledger, progress, on_progress)
    if progress.state == "reading":
        recording.run()
    if progress.state != "released":
        ledger.release(progress.import_id, on_progress.releasing if on_progress else None)
    return recording.result()


def source_of(file: CsvFile, options: IngestOptions) -> ImportSource:
    """Return what the ledger knows a file by: its bytes and all that changes their meaning."""
    survey, context = file.inspection, file.context
    identity = fingerprint(survey.sha256, options, context.connection, file.defaults)
    facts = (survey.file.name, identity, survey.stamp.size, context.effective_at)
    return ImportSource("csv", *facts, options.stream, survey.lines, options.reassert)


def record_chunk(
    ledger: IntakeLedger, import_id: str, chunk: Chunk, checkpoint: Callable[[], Checkpoint]
) -> tuple[Accepted, Checkpoint]:
    """Record a chunk; rows that the ledger's database refuses become rejects of it, and the rest is recorded.

    `checkpoint` is asked for the place behind the chunk, again after each refusal.
    """
    while True:
        place = checkpoint()
        try:
            return ledger.accept(import_id, chunk.changes, chunk.rejects, place), place
        except LedgerRefused as error:
            if not error.members:
                raise
            chunk.refuse(error.members)


class _Recording:
    """One attempt to read a file into the ledger."""

    def __init__(
        self,
        file: CsvFile,
        options: IngestOptions,
        ledger: IntakeLedger,
        progress: ImportProgress,
        on_progress: Progress | None,
    ) -> None:
        self._file = file
        self._options = options
        self._ledger = ledger
        self._start = progress
        self._reached = progress.checkpoint
        self._on_progress = on_progress
        self._rejects_path = options.rejects_path or file.inspection.file.rejects_path
        self._recorded = self._duplicates = self._rejected = self._offset = 0
        self._notes = list(file.notes)
        self._doubts: Counter[str] = Counter()

    def run(self) -> None:
        """Read from the checkpoint to the end, and say so once the whole file is trusted."""
        checkpoint = self._start.checkpoint
        header = self._file.header
        with RejectsFile(
            self._rejects_path, header.names, self._file.delimiter, header.own, self._still_ours
        ) as rejects:
            if not rejects.resume(checkpoint.rejects_offset, checkpoint.rejects_digest):
                self._notes.append(
                    f"rows rejected by an earlier attempt are no longer in {path_text(self._rejects_path)} as they were"
                )
            for chunk in read_chunks(self._file, checkpoint, self._options.chunk_rows):
                self._record(chunk, rejects)
            self._offset, self._rejects_path = rejects.offset, rejects.path
            self._notes.extend(rejects.notes)
        self._ledger.finish_reading(self._start.import_id)
        self._note_stale()

    def result(self) -> ImportResult:
        """Return what this attempt did."""
        return ImportResult(
            import_id=self._start.import_id,
            already_known=self._start.state != "reading",
            resumed_at=self._start.checkpoint.records,
            since=self._file.context.effective_at,
            recorded=self._recorded,
            duplicates=self._duplicates,
            rejected=self._rejected,
            rejects_file=self._rejects_path if self._offset else None,
            notes=[*self._notes, *doubtful(self._doubts)],
        )

    def _record(self, chunk: Chunk, rejects: RejectsFile) -> None:
        written = 0

        def write_rejects() -> Checkpoint:
            nonlocal written
            offset = self._write(chunk, written, rejects)
            written = len(chunk.rejects)
            return replace(chunk.checkpoint, rejects_offset=offset, rejects_digest=rejects.digest)

        accepted, checkpoint = record_chunk(self._ledger, self._start.import_id, chunk, write_rejects)
        self._reached = checkpoint
        self._recorded += accepted.recorded
        self._duplicates += accepted.duplicates
        self._rejected += len(chunk.rejects)
        self._doubts += chunk.doubts
        if self._on_progress is not None:
            total = self._file.inspection.lines
            self._on_progress.reading(checkpoint.records, checkpoint.line, total, self._rejected)

    def _write(self, chunk: Chunk, first: int, rejects: RejectsFile) -> int:
        """Write the rejected rows of a chunk from this one on; return how long the rejects file is."""
        since = self._file.context.effective_at
        default = since.isoformat() if since else ""
        return rejects.write(
            (reject, cells, self._file.header.held_since(cells, default))
            for reject, cells in zip(chunk.rejects[first:], chunk.cells[first:], strict=True)
        )

    def _still_ours(self) -> None:
        """Raise ImportUnderWay if another process has recorded more of this import than we know of."""
        found = self._ledger.open_import(source_of(self._file, self._options))
        if found.checkpoint != self._reached or found.state != "reading":
            message = f"another process has recorded more of import {found.import_id} meanwhile: run this again"
            raise ImportUnderWay(message)

    def _note_stale(self) -> None:
        if not self._offset and self._rejects_path.exists():
            self._notes.append(
                f"{path_text(self._rejects_path)} is from an earlier import; no row of this one was rejected"
            )
