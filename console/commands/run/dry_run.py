"""Predict what files would do: they are read by the real rules into a private ledger, which is then deleted."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text

from consent.change import Bucket
from consent.connection import ConnectionSettings, Rate
from consent.deadlines.forecast import Cell
from consent.imports import Checkpoint, ImportProgress
from consent.ledger.dry_run import DryRunLedger
from consent.ledger.ledger import Ledger
from consent.ledger.queries.backlog import MOST_STUCK, StuckOptOuts
from consent.ledger.queries.imports import ImportReport
from consent.ledger.review.pauses import Pause, pause_of
from consent.settings import Settings
from console.commands.run.input_files import FileResult, InputFiles, file_time_note, repeated_note
from console.exit_codes import ExitCode, code_of
from console.ledger_access import ledger_if_any
from console.ui.decisions import show_findings
from console.ui.limits import bucket_label, limit_of
from console.ui.outlook import Outlook, outlooks, show_outlooks, show_stuck
from console.ui.progress import ReadingDisplay, reading_display
from console.ui.screen import Screen
from console.ui.summaries import rows_in_words, show_codes, stamped_in_words, totals_as_json
from console.ui.text import counted, duration_text
from producers.files.file import PreparedFile, read_chunks, warning_notes
from producers.ingest_file import record_chunk, source_of
from producers.options import IngestOptions
from worker.providers import provider_of
from worker.providers.contract import CallEstimate

_TASKS_AT_ONCE = 500
_LEASE_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Need:
    """The calls that a bucket needs, its limit, and the seconds from one call to the next."""

    calls: CallEstimate
    rate: Rate
    interval: float

    @property
    def seconds(self) -> float:
        """Seconds that the calls take, the greatest number of them."""
        return self.calls.most * self.interval


@dataclass(slots=True)
class Forecast:
    """What files would do: their reports, the customers they name, and the calls in each bucket.

    `known` names the files that were recorded before, with their imports; `waiting` counts the customers who are
    pending already, by bucket; `findings` is what the guards would say, by import. `paused` are buckets of which a part
    or all is paused now. `stuck` are opt-outs of the same connections that wait for a person already.
    """

    reports: list[ImportReport] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    unusable: list[FileResult] = field(default_factory=list)
    customers: int = 0
    needs: dict[Bucket, Need] = field(default_factory=dict)
    waiting: dict[Bucket, int] = field(default_factory=dict)
    findings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    deadlines: list[Outlook] = field(default_factory=list)
    paused: dict[Bucket, Pause] = field(default_factory=dict)
    stuck: list[StuckOptOuts] = field(default_factory=list)

    @property
    def is_held(self) -> bool:
        """Whether a guard would hold one of the files."""
        return any(one["holds"] for found in self.findings.values() for one in found)


def dry_run(settings: Settings, screen: Screen, input_files: InputFiles) -> ExitCode:
    """Say what the files would do; record nothing, write no rejects file, make no API call."""
    with (
        input_files.ready(settings) as ready,
        ledger_if_any(settings) as real,
        tempfile.TemporaryDirectory(prefix="optrelay-dry-run-") as folder,
    ):
        ledger = DryRunLedger(
            Path(folder) / "dry-run.db",
            real,
            reassert=settings.reassert_rules,
            deadline_rules=settings.chosen_deadlines,
        )
        try:
            found = _DryRun(settings, screen, input_files.options, ledger, real).run(ready.usable)
            found.unusable = ready.unusable
        finally:
            ledger.close()
    _show(settings, screen, found)
    screen.print_json(_as_json(found))
    if found.is_held:
        return ExitCode.HELD
    if found.unusable:
        return ExitCode.IMPERFECT if found.reports or found.known else ExitCode.USAGE
    return code_of(found.reports)


@dataclass(slots=True)
class _DryRun:
    settings: Settings
    screen: Screen
    options: IngestOptions
    ledger: DryRunLedger
    real: Ledger | None

    def run(self, files: Sequence[PreparedFile]) -> Forecast:
        forecast = Forecast()
        for file in files:
            self._file(file, forecast)
        forecast.customers = self.ledger.count_targets()
        cells = self.ledger.deadlines.open_cells()
        for name in self.settings.connections:
            for bucket in self.ledger.queries.buckets(name):
                forecast.needs[bucket] = self._need(bucket)
        forecast.deadlines = self._deadlines(cells)
        pauses = self.real.pauses.current() if self.real else []
        found = {bucket: pause_of(pauses, bucket) for bucket in forecast.needs}
        forecast.paused = {bucket: pause for bucket, pause in found.items() if pause is not None}
        forecast.waiting = self.real.queries.pending_by_bucket() if self.real else {}
        connections = {bucket.connection for bucket in forecast.needs}
        stuck = self.real.queries.stuck_optouts(MOST_STUCK) if self.real else []
        forecast.stuck = [one for one in stuck if one.connection in connections]
        return forecast

    def _file(self, file: PreparedFile, forecast: Forecast) -> None:
        source = replace(source_of(file), stream=False)
        before = self.ledger.known_import(source.fingerprint, source.reassert)
        if before is not None and before.state != "reading":
            forecast.known[file.inspection.file.name] = before.import_id
            if anew := repeated_note(file, _since(file, before)):
                self.screen.note(f"{file.inspection.file.name} was recorded before{anew}")
            return
        progress = self.ledger.intake.open_import(source)
        if progress.state == "reading":
            for note in [
                *file.notes,
                *file_time_note(file, _since(file, before)),
            ]:
                self.screen.note(f"{file.inspection.file.name}: {note}")
            with reading_display(self.screen, f"{file.inspection.file.name} (dry run)") as display:
                self._record(file, progress, before, display)
                self.ledger.intake.finish_reading(progress.import_id)
                findings = self.ledger.predict_guards(progress.import_id)
                forecast.findings[progress.import_id] = [one.as_json() for one in findings]
                self.ledger.intake.publish(progress.import_id, display.releasing)
            if (found := self.ledger.queries.report(progress.import_id)) is not None:
                forecast.reports.append(found)

    def _record(
        self, file: PreparedFile, progress: ImportProgress, before: ImportProgress | None, display: ReadingDisplay
    ) -> None:
        rejected, warnings = 0, Counter[str]()
        for chunk in read_chunks(file, Checkpoint(), self.options.chunk_rows, _since(file, before)):
            self.ledger.copy_known(chunk.changes, before.import_id if before else None)
            record_chunk(self.ledger.intake, progress.import_id, chunk, partial(getattr, chunk, "checkpoint"))
            rejected += len(chunk.rejects)
            warnings += chunk.warnings
            display.reading(chunk.checkpoint.records, chunk.checkpoint.line, file.inspection.lines, rejected)
        for note in warning_notes(warnings):
            self.screen.note(f"{file.inspection.file.name}: {note}")

    def _deadlines(self, cells: Mapping[Bucket, Sequence[Cell]]) -> list[Outlook]:
        """Say which opt-outs will be late, of the files and of what waits already; a customer of both counts twice."""
        real = self.ledger if self.real is None else self.real
        waiting = {} if self.real is None else self.real.deadlines.open_cells()
        together = {bucket: [*waiting.get(bucket, ()), *its] for bucket, its in cells.items()}
        health = {} if self.real is None else {one.name: one for one in self.real.breakers.all_health()}
        return [one for one in outlooks(self.settings, real, together, health) if one.forecast.rules]

    def _need(self, bucket: Bucket) -> Need:
        """Predict the calls of a bucket, as its provider would plan them."""
        connection = self.settings.connection(bucket.connection)
        provider, limit = provider_of(connection), limit_of(connection, bucket.name)
        at_once, calls = max(_TASKS_AT_ONCE, limit.targets_per_call), CallEstimate()
        overlap = provider.overlap(bucket.name)
        while tasks := self.ledger.queue.claim(bucket, at_once, "dry-run", _LEASE_SECONDS, overlap=overlap):
            calls += provider.estimate_calls(tasks, connection)
        return Need(calls, limit.rate, max(limit.rate.interval, self._slowed(bucket, connection)))

    def _slowed(self, bucket: Bucket, connection: ConnectionSettings) -> float:
        """Return the seconds from call to call if the provider is as slow as it was lately, 0 if that is not known."""
        if self.real is None or (lately := self.real.queries.recent_calls().get(bucket)) is None:
            return 0.0
        return lately.seconds / (connection.concurrency * max(1, self.settings.worker_processes))


def _show(settings: Settings, screen: Screen, forecast: Forecast) -> None:
    screen.show(Text("dry run: nothing was recorded, and no API call was made", "bold"))
    for unusable in forecast.unusable:
        screen.error(unusable.reason or "")
    for file, import_id in forecast.known.items():
        screen.show(f"{file}: recorded before, as import {import_id}; running it again changes nothing")
    for one in forecast.reports:
        _show_file(screen, one)
        show_findings(screen, forecast.findings.get(one.import_id, ()), "would be held")
    if forecast.unusable:
        screen.show(f"{counted(len(forecast.unusable), 'file')} cannot be used and would record nothing", "red")
    if forecast.reports or forecast.known:
        _show_needs(settings, screen, forecast)


def _show_needs(settings: Settings, screen: Screen, forecast: Forecast) -> None:
    """Print how many customers files name, what calls they need, and what will be late."""
    screen.show(f"{counted(forecast.customers, 'customer')} named")
    for bucket, need in forecast.needs.items():
        if need.calls.most:
            screen.show(_time(bucket_label(settings, bucket), need, forecast.waiting.get(bucket, 0)))
    late = [one for one in forecast.deadlines if one.forecast.at_risk or one.forecast.breached or one.pause]
    show_outlooks(screen, late)
    shown = {one.bucket for one in late}
    for bucket, pause in forecast.paused.items():
        if bucket not in shown:
            screen.show(Text(f"{bucket_label(settings, bucket)}: {pause.message}", "yellow"))
    show_stuck(screen, forecast.stuck)


def _since(file: PreparedFile, before: ImportProgress | None) -> int | None:
    """Return since when rows without a time hold (microseconds): as an earlier attempt remembers it, else the file."""
    remembered = before.default_effective_at if before else None
    return file.context.effective_at if remembered is None else remembered


def _show_file(screen: Screen, found: ImportReport) -> None:
    screen.show(Text(found.name, "bold"))
    screen.show(f"  {rows_in_words(found)}")
    parts = f"{found.unchanged:,} unchanged + {found.superseded:,} superseded + {found.pending:,} to be delivered"
    screen.show(f"  {found.accepted:,} accepted = {parts}")
    if found.stamped:
        screen.show(f"  {stamped_in_words(found)}", "yellow")
    if found.rejected:
        show_codes(screen, "would be rejected", found.reject_codes, found.reject_reasons)


def _time(name: str, need: Need, waiting: int) -> str:
    """Say how many calls a bucket needs and how long they take: its limit sets the time, whatever the others do."""
    least, most = need.calls.least, need.calls.most
    calls = counted(most, "call") if least == most else f"at least {counted(least, 'call')}, {most:,} if all is written"
    slowed = " and the provider's latency" if need.interval > need.rate.interval else ""
    line = f"{name}: {calls}; at {need.rate}{slowed}: about {duration_text(max(1.0, need.seconds))}"
    return line + (f", behind {counted(waiting, 'customer')} waiting already" if waiting else "")


def _as_json(forecast: Forecast) -> dict[str, Any]:
    """Return totals, and what each connection needs: its buckets go side by side, so the slowest sets the time."""
    found = totals_as_json(forecast.reports, 0.0, dry_run=True)
    guards = [one for findings in forecast.findings.values() for one in findings]
    more: dict[str, Any] = {"guards": guards, "would_be_held": forecast.is_held}
    more |= {"customers": forecast.customers, "already_imported": forecast.known}
    more["deadlines"] = [one.as_json() for one in forecast.deadlines]
    more["stuck"] = [one.as_json() for one in forecast.stuck]
    more["paused"] = [one.as_json() for one in dict.fromkeys(forecast.paused.values())]
    more["files"] = [one.as_json() for one in forecast.unusable]
    names = dict.fromkeys(bucket.connection for bucket in forecast.needs)
    by_connection = {
        name: _needs_as_json({one: need for one, need in forecast.needs.items() if one.connection == name})
        for name in names
    }
    needed = {"import": None} | _sum_as_json(forecast.needs.values())
    return found | needed | {"sealed": False} | more | {"connections": by_connection}


def _needs_as_json(needs: Mapping[Bucket, Need]) -> dict[str, Any]:
    found = _sum_as_json(needs.values())
    limits = {bucket.name: _sum_as_json([need]) for bucket, need in needs.items()}
    return found | {"words": duration_text(found["seconds"]), "buckets": limits}


def _sum_as_json(needs: Collection[Need]) -> dict[str, Any]:
    calls = sum((need.calls for need in needs), CallEstimate())
    seconds = round(max((need.seconds for need in needs), default=0.0), 3)
    return {"calls": calls.most, "calls_at_least": calls.least, "seconds": seconds}
