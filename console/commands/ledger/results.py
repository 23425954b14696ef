"""A file's rows as they were, each with what became of it: for the system that the file came from."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from consent.errors import ConfigurationError
from consent.files import new_file, path_text
from consent.ledger.queries.results import ImportedRows, RowOutcome
from consent.outcome import State
from consent.settings import Settings
from consent.times import from_micros
from console.commands.ledger.status import find_import
from console.commands.run.input_files import InputFiles
from console.exit_codes import ExitCode
from console.ledger_access import reading_ledger
from console.ui.screen import Screen
from console.ui.text import counted
from producers.files.cells import FileRow
from producers.files.csv_injection import escape
from producers.files.file import PreparedFile, read_chunks
from producers.ingest_file import source_of
from producers.options import IngestOptions

COLUMNS = ("_outcome", "_code", "_reason", "_settled_at")
"""What stands before the file's own columns, as in a rejects file: a row with too few or too many cells keeps them."""

_DUPLICATE, _SKIPPED = "duplicate", "skipped"
_REASONS = {
    _DUPLICATE: "the ledger had this change already, from this file or from another source",
    _SKIPPED: "its feed leaves this row out",
    State.APPLIED.value: "",
    State.UNCHANGED.value: "the provider is confirmed to hold this already",
    State.SUPERSEDED.value: "a newer change of the same person and slot stands",
    State.PENDING.value: "not delivered yet",
}


_OTHER_OPTIONS = (
    "the file is read by other options or another feed than it was imported by: outcomes are right, but a row that was "
    "left out then may be told as a duplicate now; give the same options to tell them apart"
)


def write_results(
    settings: Settings, screen: Screen, name: str, file: str, options: IngestOptions, output: Path
) -> ExitCode:
    """Write the rows of a file with their outcomes; raise ConfigurationError if it is not the import's file."""
    with InputFiles((file,), options).ready(settings) as ready, reading_ledger(settings) as ledger:
        for unusable in ready.unusable:
            raise ConfigurationError(unusable.reason or f"{path_text(file)} cannot be read")
        import_id = find_import(ledger, name).import_id
        with ledger.queries.imported_rows(import_id) as imported:
            read = next((one for one in ready.usable if one.inspection.sha256 == imported.sha256), ready.usable[0])
            _check(read, imported, import_id)
            same = imported.fingerprint.startswith(source_of(read).fingerprint)
            with new_file(output) as target:
                counts = _write(target, read, imported)
    if counts[_DUPLICATE] and not same:
        screen.note(_OTHER_OPTIONS)
    message = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common())
    screen.show(f"{path_text(output)}: {counted(counts.total(), 'row')}" + (f": {message}" if message else ""))
    rows = {"import": import_id, "output": path_text(output), "rows": counts.total(), "outcomes": dict(counts)}
    screen.print_json(rows)
    return ExitCode.WELL


def _check(file: PreparedFile, imported: ImportedRows, import_id: str) -> None:
    """Raise ConfigurationError unless it is the import's file, read whole."""
    if imported.kind != "csv":
        raise ConfigurationError(
            f"import {import_id} was no file: follow its changes with `optrelay changes` or GET /v1/changes"
        )
    if imported.sha256 is not None and imported.sha256 != file.inspection.sha256:
        raise ConfigurationError(
            f"{file.name} is not the file of import {import_id}: its bytes differ; `optrelay status` lists the imports"
        )
    if imported.sha256 is None and not imported.fingerprint.startswith(source_of(file).fingerprint):
        raise ConfigurationError(
            f"{file.name} may not be the file of import {import_id}, of which an earlier version kept no hash but that "
            "of bytes and options together: give the options that it was imported with"
        )
    if imported.state == "reading":
        raise ConfigurationError(f"import {import_id} has not been read to its end: run the same file again first")


def _write(target: TextIO, file: PreparedFile, imported: ImportedRows) -> Counter[str]:
    """Write header and rows; return how many rows have which outcome."""
    kept = [place for place, name in enumerate(file.header.names) if name.strip().lower() not in COLUMNS]
    width = len(file.header.names)
    writer = csv.writer(target, delimiter=file.columns.delimiter)
    writer.writerow([*COLUMNS, *(escape(file.header.names[place]) for place in kept)])
    counts: Counter[str] = Counter()
    known, count = next(imported.outcomes, None), 0
    for row, skipped in _rows(file):
        found = known if known is not None and known.line == row.line else None
        if found is not None:
            known = next(imported.outcomes, None)
        own = _cells(found, _SKIPPED if skipped else _DUPLICATE)
        cells = [row.cells[place] for place in kept if place < len(row.cells)] + row.cells[width:]
        writer.writerow([*own, *map(escape, map(_sound, cells))])
        counts[own[0]] += 1
        count += 1
    if known is not None or count != imported.records:
        raise ConfigurationError(
            f"{file.name} has {count:,} rows as it is read now, and the import had {imported.records:,}: give the same "
            "options that it was imported with, such as --encoding and --delimiter"
        )
    return counts


def _rows(file: PreparedFile) -> Iterator[tuple[FileRow, bool]]:
    """Give every row, and whether its feed leaves it out."""
    for chunk in read_chunks(file):
        accounted = {change.line for change in chunk.changes} | {row.line for row in chunk.rejects}
        yield from ((row, row.line not in accounted) for row in chunk.rows)


def _cells(found: RowOutcome | None, otherwise: str) -> Sequence[str]:
    if found is None:
        return (otherwise, "", _REASONS[otherwise], "")
    reason = found.reason or _REASONS.get(found.outcome, "")
    if len(found.counts) > 1:
        parts = ", ".join(f"{count:,} {outcome}" for outcome, count in found.counts.most_common())
        reason = f"of its {found.counts.total():,} changes {parts}" + (f": {reason}" if reason else "")
    settled = "" if found.settled_at is None else from_micros(found.settled_at).isoformat(timespec="seconds")
    return (found.outcome, found.code or "", escape(reason), settled.replace("+00:00", "Z"))


def _sound(cell: str) -> str:
    """Return a cell that can be written: damaged characters as U+FFFD."""
    return cell.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
