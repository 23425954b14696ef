"""Record files in the ledger and see them delivered: what `import` and `run` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from consent.errors import STAYS, BrokerUnavailable, ConfigurationError, ImportUnderWay, UnusableInput
from consent.files import path_text, user_name
from consent.ledger.ledger import Ledger
from consent.ledger.queries.imports import ImportReport
from consent.ledger.queries.pages import RejectLine
from consent.ledger.review.holds import Decision
from consent.ledger.review.undo import Undone
from consent.settings import Settings
from console.commands.run.input_files import (
    FileResult,
    InputFiles,
    given_up_note,
    show_notes,
    sure_to_be_called,
)
from console.exit_codes import ExitCode, RunResult, is_held
from console.ledger_access import reading_ledger, writing_ledger
from console.local.run_lease import who_delivers
from console.ui.bottleneck import LimitsOverTime
from console.ui.decisions import show_undo
from console.ui.progress import EarlyWakeUps, delivery_display, reading_display
from console.ui.screen import Screen
from console.ui.summaries import first_rejects, show_import, show_totals, totals_as_json
from console.ui.text import counted
from producers.files.file import PreparedFile
from producers.ingest_file import ImportResult, ingest_file, source_of
from producers.watch.finished import DONE, HELD, move_failed, move_into

if TYPE_CHECKING:
    from console.local.monitor import Snapshot


class Delivery(Protocol):
    """Who delivers what was recorded."""

    def get_ready(self, settings: Settings, connections: Collection[str], *, is_news: bool) -> None:
        """Start what takes a while: if it `is_news`, there will soon be something to deliver to these connections.

        Raises ConfigurationError if that cannot be done as they are configured: nothing has been recorded yet.
        """
        ...

    def begin(self, settings: Settings, ledger: Ledger) -> bool:
        """Have what is due delivered, while more becomes due; return whether there is anything to deliver.

        Raises BrokerUnavailable, LedgerUnavailable and ConfigurationError.
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


@dataclass(slots=True)
class _Run:
    """One command from its start (a moment of the monotonic clock, and one of the ledger's) to its exit code."""

    context: CommandContext
    input_files: InputFiles
    wake: Callable[[Settings, Ledger], bool]
    started: float = field(default_factory=time.monotonic)
    began: int | None = None
    results: list[ImportResult] = field(default_factory=list)
    files: list[FileResult] = field(default_factory=list)
    rejects: dict[str, str] = field(default_factory=dict)
    limits: LimitsOverTime = field(default_factory=LimitsOverTime)

    def record(self, delivery: Delivery | None = None) -> None:
        """Record every file that can be used; one that cannot stops no other."""
        settings = self.context.settings
        with self.input_files.ready(settings) as ready:
            if ready.usable:
                with writing_ledger(settings) as ledger:
                    self.began = ledger.now()
                    self._undo(ledger, [one.reason or "" for one in ready.unusable])
                    if delivery is not None:
                        is_news = not all(ledger.intake.is_known(source_of(file)) for file in ready.usable)
                        delivery.get_ready(settings, sure_to_be_called(ready.usable), is_news=is_news)
                    for _, files in groupby(ready.usable, lambda file: file.inspection.file.given):
                        self._move(
                            [self._record_file(file, ledger, alone=len(ready.usable) == 1) for file in files],
                            ledger,
                        )  # members of one archive
            for one in ready.unusable:
                self._note_unusable(one)
                self._move([one])

    def _undo(self, ledger: Ledger, unusable: Sequence[str]) -> None:
        """Undo the import that the files correct, unless one of them cannot be used; raise ConfigurationError."""
        if self.input_files.replaces is None:
            return
        if unusable:
            raise ConfigurationError(f"nothing was undone, because a file cannot be used: {unusable[0]}")
        decision = Decision(user_name(), self.input_files.why)
        before = ledger.queries.report(self.input_files.replaces)
        if before is not None and before.state == "withdrawn":
            return  # nothing of it was delivered: it is only recorded anew
        result = ledger.review.undo(self.input_files.replaces, decision)
        if not isinstance(result, Undone):
            reason = "there is no such import" if result is None else result.reason
            raise ConfigurationError(f"import {self.input_files.replaces} cannot be undone: {reason}")
        show_undo(self.context.screen, self.input_files.replaces, result.undo_id, result.plan)

    def _record_file(self, file: PreparedFile, ledger: Ledger, *, alone: bool) -> FileResult:
        """Record a file. Delivery begins with it if it is `alone`: else a later one may supersede what was sent."""
        source = file.inspection.file
        found = FileResult(source.name, "recorded", path=source.given)
        try:
            with reading_display(self.context.screen, source.name) as display:
                shown = EarlyWakeUps(display, partial(self._begin, ledger)) if alone else display
                result = ingest_file(file, ledger.intake, shown)
        except (UnusableInput, ConfigurationError) as error:  # its rejects file, if it is the configuration
            found.state, found.reason = "unusable", str(error)
            found.path = None if isinstance(error, (*STAYS, ConfigurationError)) else found.path  # it stays where it is
            self._note_unusable(found)
            return found
        except ImportUnderWay as error:
            found = replace(found, state="busy", reason=str(error), path=None)
            self.files.append(found)
            self.context.screen.error(str(error))
            return found
        if self.input_files.guards_off and not result.already_known:
            decision = Decision(user_name(), self.input_files.why)
            ledger.review.note_guards_off(result.import_id, decision, ", ".join(self.input_files.guards_off))
        found.import_id, found.state = result.import_id, "known" if result.already_known else "recorded"
        if result.already_known and (report := ledger.queries.report(result.import_id)) is not None:
            found.reason = given_up_note(report).removeprefix("; ") or None
        show_notes(self.context.screen, file, result, found.reason)
        self.results.append(result)
        if result.rejects_file:
            found.rejects_file = result.rejects_file
            self.rejects[result.import_id] = path_text(result.rejects_file)
        self.files.append(found)
        return found

    def _begin(self, ledger: Ledger) -> bool:
        """Have what is due delivered, once no file is merged that may supersede it; return whether there is any."""
        return not ledger.intake.is_merging() and self.wake(self.context.settings, ledger)

    def _note_unusable(self, found: FileResult) -> None:
        self.files.append(found)
        self.context.screen.error(found.reason or "")

    def _move(self, results: Sequence[FileResult], ledger: Ledger | None = None) -> None:
        """Move a file that is done with, all members of an archive; if that fails, reading it again changes nothing.

        One that a guard holds is kept apart, as `watch` does.
        """
        path = None if any(one.path is None for one in results) else results[0].path
        if not self.input_files.move or path is None or not path.is_file():
            return
        try:
            reasons = [one.reason or "" for one in results if one.state == "unusable"]
            folder = HELD if ledger is not None and any(one.is_held(ledger) for one in results) else DONE
            moved_to = move_failed(path, "\n".join(reasons)) if reasons else move_into(path, folder)
            for one in results:
                one.moved_to = moved_to
                if one.rejects_file is not None and one.import_id is not None and not reasons:
                    self.rejects[one.import_id] = path_text(move_into(one.rejects_file, folder))
        except (OSError, ConfigurationError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.context.screen.note(f"{path_text(path)} cannot be moved: {reason}")

    def unfinished(self) -> list[str]:
        """Return the imports that still have something to deliver."""
        with reading_ledger(self.context.settings) as ledger:
            self.began = ledger.now()
            return ledger.queries.unfinished_imports()

    def conclude(self, run_result: RunResult, imports: Sequence[str] = ()) -> ExitCode:
        """Print what became of the imports and why the rest was not delivered; return the exit code."""
        reports, deaths, first = self._reports(imports or _distinct(self.results))
        screen, took = self.context.screen, None if self.results else time.monotonic() - self.started
        for one in reports:
            show_import(screen, one, self.rejects.get(one.import_id), took=took, first=first[one.import_id])
        show_totals(screen, reports)
        if not reports and not self.files:
            screen.show("nothing was pending" if not run_result.reasons else "")
        if deaths and not sum(one.dead for one in reports):
            screen.note(f"{counted(deaths, 'change')} of earlier imports died: see `optrelay dead-letters list`")
        for reason in run_result.reasons:
            screen.error(reason)
        more = {"reasons": list(run_result.reasons), "files": [one.as_json() for one in self.files]}
        more["limited_by"] = self.limits.as_json()
        screen.print_json(totals_as_json(reports, time.monotonic() - self.started, **more))
        return self._exit_code(run_result, reports, deaths)

    def _exit_code(self, run_result: RunResult, reports: Sequence[ImportReport], deaths: int) -> ExitCode:
        """Return what this run's own rows, deaths and files make of it; of several codes the gravest, the greatest."""
        states = {one.state for one in self.files}
        if states == {"unusable"}:
            return ExitCode.USAGE
        read_now = {one.import_id for one in self.results if not one.already_known}
        rejected = any(one.rejected for one in reports if one.import_id in read_now)
        imperfect = rejected or deaths or "unusable" in states
        codes = (
            run_result.exit_code,
            ExitCode.IMPERFECT if imperfect else 0,
            ExitCode.HELD if any(map(is_held, reports)) else 0,
            ExitCode.UNABLE if "busy" in states else 0,
        )
        return ExitCode(max(codes))

    def _reports(self, imports: Sequence[str]) -> tuple[list[ImportReport], int, dict[str, list[RejectLine]]]:
        """Return what became of imports, how many changes of any import died in this run, and first rejected rows."""
        if self.began is None:
            return [], 0, {}
        with writing_ledger(self.context.settings) as ledger:
            found = [one for one in map(ledger.queries.report, imports) if one is not None]
            deaths = ledger.queries.deaths_since(self.began)
            return found, deaths, {one.import_id: first_rejects(ledger, one) for one in found}


def record_only(context: CommandContext, input_files: InputFiles) -> ExitCode:
    """Record files and wake the workers, which run elsewhere."""
    run = _Run(context, input_files, _send_wake_ups)
    run.record()
    if run.results:
        _wake(context)
    return run.conclude(RunResult(0))


def record_and_deliver(
    context: CommandContext, input_files: InputFiles, delivery: Delivery, *, wake: bool = False
) -> ExitCode:
    """Record files, or take what is unfinished if there are none, and watch until everything is settled.

    Of files of which none could be recorded nothing is delivered.
    """
    run = _Run(context, input_files, delivery.begin)
    if input_files.files:
        run.record(delivery)
        if not run.results:
            return run.conclude(RunResult(0))
        imports = _distinct(run.results)
    else:
        imports = run.unfinished()
    if wake:
        _wake(context)
    with delivery_display(context.screen, context.settings) as on_snapshot:

        def note(snapshot: Snapshot) -> None:
            run.limits.note(snapshot.limits, snapshot.elapsed)
            on_snapshot(snapshot)

        run_result = delivery.deliver(context.settings, imports, note)
    return run.conclude(run_result, imports)


def _distinct(results: Sequence[ImportResult]) -> list[str]:
    return list(dict.fromkeys(result.import_id for result in results))


def _wake(context: CommandContext) -> None:
    with writing_ledger(context.settings) as ledger:
        wake_workers(context, ledger)


def wake_workers(context: CommandContext, ledger: Ledger) -> None:
    """Wake the workers of every connection with something to deliver; without a broker, say what delivers it."""
    settings = context.settings
    if not settings.broker_url:
        if any(one.connection in settings.connections for one in ledger.queries.pending_by_bucket()):
            context.screen.note(who_delivers(ledger))
        return
    try:
        _send_wake_ups(settings, ledger)
    except BrokerUnavailable as error:
        context.screen.note(f"{error}; nothing is lost")


def _send_wake_ups(settings: Settings, ledger: Ledger) -> bool:
    """Wake workers, and return whether anything is due; without a broker do nothing. Raises BrokerUnavailable."""
    if not settings.broker_url:
        return False
    from console.local.notifier import send_wake_ups  # noqa: PLC0415 - without a broker its library need not be loaded

    return send_wake_ups(settings, ledger)
