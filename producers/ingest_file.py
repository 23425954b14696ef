"""One file into the ledger, start to end: each row once, however often the import is interrupted."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from consent.change import ConsentChange
from consent.errors import ImportUnderWay, LedgerRefused
from consent.files import path_text, user_name
from consent.guards.rules import ImportGuards, feed_of
from consent.imports import FILE, Accepted, Checkpoint, ImportProgress, ImportSource, RejectedRow
from consent.times import from_micros
from consent.tracing.spans import Traced
from producers.files.file import Chunk, PreparedFile, read_chunks, warning_notes
from producers.files.rejects import RejectsFile, RejectsHeader
from producers.options import IngestOptions
from producers.parsing.columns import FALLBACK_TIME, plain
from producers.parsing.row_parser import overlaps


class ImportIntake(Protocol):
    """What an import needs of the ledger: its object `intake`."""

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

    def publish(self, import_id: str, on_progress: Callable[[int], None] | None = None) -> None:
        """Let the import's changes be delivered; it may be called again, and goes on where it stood."""
        ...


class Progress(Protocol):
    """An observer of an import, called for each chunk, behind its transaction."""

    def reading(self, records: int, line: int, total_lines: int, rejected: int) -> None:
        """So many rows have been recorded, up to this physical line; `rejected` counts those of this attempt."""
        ...

    def releasing(self, changes: int) -> None:
        """So many further changes have been merged, or have become due: publishing goes through them twice."""
        ...


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What one attempt did; the ledger holds the counts of the whole import.

    `already_known` says that these bytes had been read before and nothing was recorded; `resumed_at` how many rows an
    earlier attempt had recorded. Rows without a time hold since `since` (microseconds). `rejects_file` is None if
    no row was rejected.
    """

    import_id: str
    already_known: bool
    resumed_at: int
    since: int | None
    recorded: int
    duplicates: int
    rejected: int
    skipped: int
    rejects_file: Path | None
    notes: list[str]


def ingest_file(file: PreparedFile, intake: ImportIntake, on_progress: Progress | None = None) -> ImportResult:
    """Record a file's changes and let them be delivered; an earlier attempt with the same bytes is continued.

    When this raises UnstableFile or UnreadableFile, or is interrupted, the last chunk accepted is the checkpoint and,
    without the option `stream`, none of its changes is delivered.
    """
    progress = intake.open_import(source_of(file))
    recording = _Recording(file, intake, progress, on_progress)
    if progress.state == "released":
        return recording.result()
    with Traced("intake", progress.import_id) as traced:
        if progress.state == "reading":
            recording.run()
        intake.publish(progress.import_id, on_progress.releasing if on_progress else None)
        result = recording.result()
        if traced is not None:
            traced.attributes |= _facts_of(result)
    return result


def _facts_of(result: ImportResult) -> dict[str, str | int | float | bool]:
    """Return what a trace tells of a file: its import and counts, and never its name."""
    return {
        "optrelay.import": result.import_id,
        "optrelay.kind_of_source": "file",
        "optrelay.recorded": result.recorded,
        "optrelay.duplicates": result.duplicates,
        "optrelay.rejected": result.rejected,
        "optrelay.skipped": result.skipped,
    }


def source_of(file: PreparedFile) -> ImportSource:
    """Return what the ledger knows a file by: its bytes and every option that changes their meaning."""
    inspection, context, options = file.inspection, file.context, file.options
    return ImportSource(
        kind=FILE,
        name=file.name,
        fingerprint=_fingerprint(file),
        size=inspection.stamp.size,
        default_effective_at=context.effective_at,
        stream=options.stream,
        total_lines=inspection.lines,
        reassert=options.reassert,
        sha256=inspection.sha256,
        guards=_guards_of(file),
        replaces=options.replaces,
        importer=user_name(),
    )


def _fingerprint(file: PreparedFile) -> str:
    """Name an import by its bytes and by what changes their meaning, never by the file's name or time."""
    options, defaults, given = file.options, file.context.defaults, file.context.given
    meaning: dict[str, Any] = {
        "bytes": file.inspection.sha256,
        "connection": file.context.connection,
        "maps": sorted((plain(their), plain(ours)) for their, ours in options.maps.items()),
        "encoding": options.encoding,
        "delimiter": options.delimiter,
        "timezone": str(options.timezone or "UTC"),
        "effective_at": None if given is None else from_micros(given).isoformat(),
    }
    if defaults:  # else as it was before they belonged to it: what was recorded then is known again
        meaning["defaults"] = {name: dict(values) for name, values in defaults.items()}
    if more := _of_a_feed(options):  # likewise
        meaning["feed"] = more
    if options.replaces:
        meaning["replaces"] = options.replaces
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def _of_a_feed(options: IngestOptions) -> dict[str, Any]:
    """Return what a feed changes in the meaning of bytes, beside what options could always change; never its name."""
    stated = {
        "only_maps": options.only_maps,
        "set": {plain(name): value for name, value in options.constants.items()},
        "values": {plain(name): dict(table) for name, table in options.values.items()},
        "time_format": options.time_format,
        "region": options.region,
        "allow_domains": options.allow_domains,
        "skip": [options.skip_top, options.skip_end] if options.skip_top or options.skip_end else None,
    }
    return {name: value for name, value in stated.items() if value}


def _guards_of(file: PreparedFile) -> ImportGuards | None:
    options = file.options
    if options.guards is None:
        return None
    return ImportGuards(
        feed=options.feed or feed_of(file.name),
        rules=options.guards,
        by_connection=options.guards_by_connection,
        columns=tuple(sorted(file.header.ours.keys() - {FALLBACK_TIME})),
        is_rejects=bool(file.header.own),
        manifest_rows=file.manifest_rows,
        overlapping=tuple(sorted(name for name, model in file.context.rows.items() if overlaps(model))),
    )


def record_chunk(
    intake: ImportIntake, import_id: str, chunk: Chunk, checkpoint: Callable[[], Checkpoint]
) -> tuple[Accepted, Checkpoint]:
    """Record a chunk; rows that the ledger's database refuses become rejected rows, and the others are recorded.

    `checkpoint` returns the place behind the chunk; it is called again after each refusal.
    """
    while True:
        place = checkpoint()
        try:
            return intake.accept(import_id, chunk.changes, chunk.rejects, place), place
        except LedgerRefused as error:
            if not error.members:
                raise
            chunk.reject(error.members)


class _Recording:
    """One attempt to read a file into the ledger."""

    def __init__(
        self, file: PreparedFile, intake: ImportIntake, progress: ImportProgress, on_progress: Progress | None
    ) -> None:
        self._file = file
        self._intake = intake
        self._start = progress
        remembered = progress.default_effective_at
        self._since = file.context.effective_at if remembered is None else remembered
        self._reached = progress.checkpoint
        self._on_progress = on_progress
        self._rejects = RejectsFile(
            file.options.rejects_path or file.inspection.file.rejects_path,
            lambda: RejectsHeader(file.header.names, file.columns.delimiter, file.header.own, file.mapping_column),
            self._refuse_if_overtaken,
            file.inspection.file.path,
        )
        self._recorded = self._duplicates = self._rejected = self._skipped = 0
        self._notes = list(file.notes)
        self._warnings: Counter[str] = Counter()

    def run(self) -> None:
        """Read from the checkpoint to the end of the file."""
        checkpoint = self._start.checkpoint
        with self._rejects as rejects:
            if checkpoint.rejects_offset and not rejects.resume(checkpoint.rejects_offset, checkpoint.rejects_digest):
                self._notes.append(
                    f"{path_text(rejects.path)} no longer holds the rows that an earlier attempt rejected"
                )
            for chunk in read_chunks(self._file, checkpoint, self._file.options.chunk_rows, self._since):
                self._record(chunk)
        self._notes.extend(rejects.notes)
        self._intake.finish_reading(self._start.import_id)
        own = self._file.inspection.file.path
        if rejects.offset and self._file.header.own:
            self._notes.append(f"done with: what of it was rejected again is in {path_text(rejects.path)}")
        if not rejects.offset and rejects.path.exists() and not (own.exists() and rejects.path.samefile(own)):
            self._notes.append(f"{path_text(rejects.path)} is from an earlier import; no row of this one was rejected")

    def result(self) -> ImportResult:
        """Return what this attempt did."""
        return ImportResult(
            import_id=self._start.import_id,
            already_known=self._start.state != "reading",
            resumed_at=self._start.checkpoint.records,
            since=self._since,
            recorded=self._recorded,
            duplicates=self._duplicates,
            rejected=self._rejected,
            skipped=self._skipped,
            rejects_file=self._rejects.path if self._rejects.offset else None,
            notes=self._notes + (warning_notes(self._warnings) if self._warnings else []),
        )

    def _record(self, chunk: Chunk) -> None:
        written = 0

        def write_rejects() -> Checkpoint:
            nonlocal written
            rejects = self._rejects
            if len(chunk.rejects) > written:
                since = "" if self._since is None else from_micros(self._since).isoformat()
                rejects.write(
                    (row, cells, self._file.held_since(cells, since))
                    for row, cells in zip(chunk.rejects[written:], chunk.cells[written:], strict=True)
                )
            written = len(chunk.rejects)
            return replace(chunk.checkpoint, rejects_offset=rejects.offset, rejects_digest=rejects.digest)

        accepted, self._reached = record_chunk(self._intake, self._start.import_id, chunk, write_rejects)
        self._recorded += accepted.recorded
        self._duplicates += accepted.duplicates
        self._rejected += len(chunk.rejects)
        self._skipped += chunk.skipped
        self._warnings += chunk.warnings
        if self._on_progress is not None:
            total = self._file.inspection.lines
            self._on_progress.reading(self._reached.records, self._reached.line, total, self._rejected)

    def _refuse_if_overtaken(self) -> None:
        """Raise ImportUnderWay if another process has recorded more of this import."""
        found = self._intake.open_import(source_of(self._file))
        if found.checkpoint != self._reached or found.state != "reading":
            raise ImportUnderWay(
                f"{self._file.name}: another process has recorded more of import {found.import_id}: run this again"
            )
