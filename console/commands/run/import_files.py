"""The use cases behind `import` and `run`: files into the ledger, and then to the providers."""

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
from console.commands.run.input_files import Reading, dated, said_anew
from console.exit_codes import Code, code_of
from console.ledger_access import reading_ledger, writing_ledger
from console.local.monitor import Ending, Tick
from console.ui.progress import delivery_display, reading_display
from console.ui.screen import Screen
from console.ui.summaries import show_import, show_totals, totals_as_json
from producers.csv.file import CsvFile
from producers.ingest_file import ImportResult, ingest_file


class Delivering(Protocol):
    """Who delivers what was recorded."""

    def get_ready(self, settings: Settings, connections: Collection[str]) -> None:
        """Begin with what takes a while, because there will be something to deliver to these connections soon.

        Raises ConfigurationError if that cannot be done as they are configured: nothing has been recorded yet.
        """
        ...

    def deliver(self, settings: Settings, imports: Sequence[str], on_tick: Callable[[Tick], None]) -> Ending:
        """See to it that everything pending is delivered; return how that ended."""
        ...


@dataclass(frozen=True, slots=True)
class Doorway:
    """What every command of this file works with."""

    settings: Settings
    screen: Screen


def record_only(door: Doorway, reading: Reading) -> Code:
    """Record files and wake the workers, who run elsewhere."""
    started = time.monotonic()
    results = _record(door, reading)
    _wake(door)
    return _conclude(door, results, started, Ending(0))


def record_and_deliver(door: Doorway, reading: Reading, workers: Delivering, *, wake: bool = False) -> Code:
    """Record files, or take what is unfinished if there are none, and watch until everything is settled."""
    started = time.monotonic()
    results = _record(door, reading, workers.get_ready) if reading.files else []
    if wake:
        _wake(door)
    imports = _distinct(results) if reading.files else _unfinished(door)
    with delivery_display(door.screen, door.settings) as on_tick:
        ending = workers.deliver(door.settings, imports, on_tick)
    return _conclude(door, results, started, ending, imports)


def _record(
    door: Doorway, reading: Reading, once_open: Callable[[Settings, Collection[str]], None] = lambda *_: None
) -> list[ImportResult]:
    with reading.ready(door.settings) as files, writing_ledger(door.settings) as ledger:
        once_open(door.settings, _sure_to_be_called(files))
        results = []
        for file in files:
            name = file.inspection.file.name
            with reading_display(door.screen, name) as display:
                result = ingest_file(file, ledger, display)
            _tell(door.screen, file, result)
            results.append(result)
        return results


def _sure_to_be_called(files: Sequence[CsvFile]) -> set[str]:
    """Return the connections of files whose rows do not say which they are for."""
    silent = (file.context.connection for file in files if "connection" not in file.header.ours)
    return {name for name in silent if name is not None}


def _tell(screen: Screen, file: CsvFile, result: ImportResult) -> None:
    name = file.inspection.file.name
    for note in [*result.notes, *([] if result.already_known else dated(file, result.since))]:
        screen.note(f"{name}: {note}")
    if result.already_known:
        before = f"{name}: these bytes were recorded before, as import {result.import_id}; nothing was recorded"
        screen.note(f"{before}{said_anew(file, result.since)}")
    elif result.resumed_at:
        screen.note(f"{name}: went on behind the {result.resumed_at:,} rows that an earlier attempt had recorded")
    elif not result.recorded + result.duplicates + result.rejected:
        screen.note(f"{name}: no row stands under its header; if there should be some, export it again")


def _distinct(results: Sequence[ImportResult]) -> list[str]:
    return list(dict.fromkeys(result.import_id for result in results))


def _unfinished(door: Doorway) -> list[str]:
    with reading_ledger(door.settings) as ledger:
        return unfinished_imports(ledger.database)


def _wake(door: Doorway) -> None:
    with writing_ledger(door.settings) as ledger:
        wake_workers(door, ledger)


def wake_workers(door: Doorway, ledger: Ledger) -> None:
    """Tell the workers of every connection with something to deliver; without a broker, say who will."""
    waiting = [one for one in pending_by_bucket(ledger.database) if one.connection in door.settings.connections]
    if not waiting:
        return
    if not door.settings.broker_url:
        door.screen.note("`optrelay run` delivers what is pending; with OPTRELAY_BROKER_URL, `optrelay worker` does")
        return
    try:
        with _wakeups(door.settings.broker_url) as wakeups:
            asked = {name: wakeups.waiting_by_bucket(name) for name in {bucket.connection for bucket in waiting}}
            for bucket in waiting:
                # No more than it has use for: with many buckets, each import would add wake-ups for all of them.
                wanted = _deliveries(door.settings, ledger, bucket) - asked[bucket.connection][bucket]
                wakeups.send(bucket, max(0, wanted))
    except BrokerUnavailable as error:
        door.screen.note(f"{error}; nothing is lost")


def _deliveries(settings: Settings, ledger: Ledger, bucket: Bucket) -> int:
    """Return how many deliveries what is due is worth."""
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
    door: Doorway, results: Sequence[ImportResult], started: float, ending: Ending, imports: Sequence[str] = ()
) -> Code:
    """Print what became of the imports and why the rest was not delivered; return the exit code."""
    reports = _reports(door, imports or _distinct(results))
    rejects = {result.import_id: path_text(result.rejects_file) for result in results if result.rejects_file}
    took = None if results else time.monotonic() - started
    for one in reports:
        show_import(door.screen, one, rejects.get(one.import_id), took=took)
    show_totals(door.screen, reports)
    if not reports:
        door.screen.show("nothing was pending" if not ending.reasons else "")
    for reason in ending.reasons:
        door.screen.complain(reason)
    door.screen.give(totals_as_json(reports, time.monotonic() - started, reasons=list(ending.reasons)))
    return Code(ending.exit_code) or code_of(reports)


def _reports(door: Doorway, imports: Sequence[str]) -> list[ImportReport]:
    with writing_ledger(door.settings) as ledger:
        found = [report(ledger.database, import_id) for import_id in imports]
    return [one for one in found if one is not None]
