"""Record files in the ledger and see them delivered: what `import` and `run` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from consent.broker.wakeups import CUSTOMERS_A_WAKE_UP, WakeUps
from consent.change import Bucket
from consent.errors import BrokerUnavailable
from consent.files import path_text
from consent.ledger.ledger import Ledger
from consent.ledger.queries.imports import ImportReport, pending_by_bucket, report, unfinished_imports
from consent.settings import Settings
from console.commands.run.input_files import InputFiles, file_time_note, repeated_note
from console.exit_codes import ExitCode, RunResult, code_of
from console.ledger_access import reading_ledger, writing_ledger
from console.local.monitor import Snapshot
from console.ui.progress import delivery_display, reading_display
from console.ui.screen import Screen
from console.ui.summaries import show_import, show_totals, totals_as_json
from producers.files.file import PreparedFile
from producers.ingest_file import ImportResult, ingest_file


class Delivery(Protocol):
    """Who delivers what was recorded."""

    def get_ready(self, settings: Settings, connections: Collection[str]) -> None:
        """Start what takes a while: there will soon be something to deliver to these connections.

        Raises ConfigurationError if that cannot be done as they are configured: nothing has been recorded yet.
        """
        ...

    def deliver(self, settings: Settings, imports: Sequence[str], on_snapshot: Callable[[Snapshot], None]) -> RunResult:
        """Deliver everything that is pending; return how that ended."""
        ...


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The settings and the screen of a command."""

    settings: Settings
    screen: Screen


def record_only(context: CommandContext, input_files: InputFiles) -> ExitCode:
    """Record files and wake the workers, which run elsewhere."""
    started = time.monotonic()
    results = _record(context, input_files)
    _wake(context)
    return _conclude(context, results, started, RunResult(0))


def record_and_deliver(
    context: CommandContext, input_files: InputFiles, delivery: Delivery, *, wake: bool = False
) -> ExitCode:
    """Record files, or take what is unfinished if there are none, and watch until everything is settled."""
    started = time.monotonic()
    results = _record(context, input_files, delivery.get_ready) if input_files.files else []
    if wake:
        _wake(context)
    imports = _distinct(results) if input_files.files else _unfinished(context)
    with delivery_display(context.screen, context.settings) as on_snapshot:
        run_result = delivery.deliver(context.settings, imports, on_snapshot)
    return _conclude(context, results, started, run_result, imports)


def _record(
    context: CommandContext,
    input_files: InputFiles,
    once_open: Callable[[Settings, Collection[str]], None] = lambda *_: None,
) -> list[ImportResult]:
    with input_files.ready(context.settings) as files, writing_ledger(context.settings) as ledger:
        once_open(context.settings, _sure_to_be_called(files))
        results = []
        for file in files:
            name = file.inspection.file.name
            with reading_display(context.screen, name) as display:
                result = ingest_file(file, ledger, display)
            _show_notes(context.screen, file, result)
            results.append(result)
        return results


def _sure_to_be_called(files: Sequence[PreparedFile]) -> set[str]:
    """Return the default connections of files whose rows name none."""
    silent = (file.context.connection for file in files if "connection" not in file.header.ours)
    return {name for name in silent if name is not None}


def _show_notes(screen: Screen, file: PreparedFile, result: ImportResult) -> None:
    name = file.inspection.file.name
    for note in [*result.notes, *([] if result.already_known else file_time_note(file, result.since))]:
        screen.note(f"{name}: {note}")
    if result.already_known:
        before = f"{name}: these bytes were recorded before, as import {result.import_id}; nothing was recorded"
        screen.note(f"{before}{repeated_note(file, result.since)}")
    elif result.resumed_at:
        screen.note(f"{name}: went on behind the {result.resumed_at:,} rows that an earlier attempt had recorded")
    elif not result.recorded + result.duplicates + result.rejected:
        screen.note(f"{name}: the file has a header and no rows; if there should be rows, export it again")


def _distinct(results: Sequence[ImportResult]) -> list[str]:
    return list(dict.fromkeys(result.import_id for result in results))


def _unfinished(context: CommandContext) -> list[str]:
    with reading_ledger(context.settings) as ledger:
        return unfinished_imports(ledger.database)


def _wake(context: CommandContext) -> None:
    with writing_ledger(context.settings) as ledger:
        wake_workers(context, ledger)


def wake_workers(context: CommandContext, ledger: Ledger) -> None:
    """Wake the workers of every connection with something to deliver; without a broker, say what delivers it."""
    waiting = [one for one in pending_by_bucket(ledger.database) if one.connection in context.settings.connections]
    if not waiting:
        return
    if not context.settings.broker_url:
        context.screen.note("`optrelay run` delivers what is pending; with OPTRELAY_BROKER_URL, `optrelay worker` does")
        return
    try:
        with _wakeups(context.settings.broker_url) as wakeups:
            asked = {name: wakeups.waiting_by_bucket(name) for name in {bucket.connection for bucket in waiting}}
            for bucket in waiting:
                # No more than are useful: with many buckets, each import would add wake-ups for all of them.
                wanted = _useful_wake_ups(context.settings, ledger, bucket) - asked[bucket.connection][bucket]
                wakeups.send(bucket, max(0, wanted))
    except BrokerUnavailable as error:
        context.screen.note(f"{error}; nothing is lost")


def _useful_wake_ups(settings: Settings, ledger: Ledger, bucket: Bucket) -> int:
    """Return how many delivery batches the due customers of a bucket fill."""
    most = settings.connection(bucket.connection).max_batches
    size = min(settings.batch_customers, CUSTOMERS_A_WAKE_UP)
    return min(most, -(-ledger.due(bucket, most * size) // size))


@contextmanager
def _wakeups(url: str) -> Iterator[WakeUps]:
    wakeups = WakeUps(url)
    try:
        yield wakeups
    finally:
        wakeups.close()


def _conclude(
    context: CommandContext,
    results: Sequence[ImportResult],
    started: float,
    run_result: RunResult,
    imports: Sequence[str] = (),
) -> ExitCode:
    """Print what became of the imports and why the rest was not delivered; return the exit code."""
    reports = _reports(context, imports or _distinct(results))
    rejects = {result.import_id: path_text(result.rejects_file) for result in results if result.rejects_file}
    took = None if results else time.monotonic() - started
    for one in reports:
        show_import(context.screen, one, rejects.get(one.import_id), took=took)
    show_totals(context.screen, reports)
    if not reports:
        context.screen.show("nothing was pending" if not run_result.reasons else "")
    for reason in run_result.reasons:
        context.screen.error(reason)
    context.screen.print_json(totals_as_json(reports, time.monotonic() - started, reasons=list(run_result.reasons)))
    return ExitCode(run_result.exit_code) or code_of(reports)


def _reports(context: CommandContext, imports: Sequence[str]) -> list[ImportReport]:
    with writing_ledger(context.settings) as ledger:
        found = [report(ledger.database, import_id) for import_id in imports]
    return [one for one in found if one is not None]
