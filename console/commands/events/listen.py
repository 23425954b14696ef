"""Listen to one source of events: record them in the ledger until a signal ends it."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn

from consent.errors import LedgerError
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from consent.times import to_micros
from console.commands.run.input_files import intake_models
from console.exit_codes import ExitCode
from console.ledger_access import writing_ledger
from console.local.notifier import notifier
from console.local.signals import Stop
from console.ui.progress import PLAIN_EVERY_SECONDS
from console.ui.screen import Screen
from console.ui.text import counted
from producers.events.consumer import BATCH, Listener
from producers.events.ingest import Result
from producers.events.sources import open_source
from producers.events.traces import event_ingest
from producers.options import parse_zone
from producers.parsing.row_parser import ParseContext, parse_context


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """What a person says about a source of events."""

    url: str = field(repr=False)
    connection: str | None = None
    timezone: str = "UTC"
    consumer: str | None = None
    batch: int = BATCH


def record_events(settings: Settings, screen: Screen, asked: ListenOptions) -> ExitCode:
    """Record events until a signal comes; the batch in hand is finished. Returns the exit code."""
    consumer = asked.consumer or socket.gethostname()
    source = open_source(asked.url, consumer)
    context = parse_context_for(settings, asked.connection, asked.timezone)
    stop, counts = Stop(), _Counts(screen)
    with ExitStack() as stack:
        ledger = stack.enter_context(writing_ledger(settings))
        wake = stack.enter_context(notifier(settings, screen.note, "events are"))
        stack.enter_context(stop.on_signals())
        intake = event_ingest(ledger.intake, context, source.kind, f"{source.name}, as {consumer}", wake)
        stack.enter_context(counts.shown())
        screen.note(f"listening to {source.name} as {consumer}; SIGTERM or Ctrl-C ends it after the batch in hand")
        Listener(source, intake, counts, stop, asked.batch, read_to=_ReadTo(ledger, source.name)).run()
    counts.conclude()
    return stop.code


def parse_context_for(settings: Settings, connection_name: str | None, timezone: str) -> ParseContext:
    """Return what is needed to understand events; raise ConfigurationError for a connection or zone there is not."""
    defaults = {name: connection.defaults for name, connection in settings.connections.items()}
    return parse_context(intake_models(settings), defaults, connection_name, None, parse_zone(timezone) or UTC)


_WRITTEN_EVERY_SECONDS = 10.0


@dataclass(slots=True)
class _ReadTo:
    """Writes down until when a source has been read, every few seconds: what metrics tell as its lag."""

    ledger: Ledger
    source: str
    _written: float = float("-inf")

    def __call__(self, until: datetime) -> None:
        """Write it down, unless that was done a moment ago; a ledger that is away stops no listener here."""
        if time.monotonic() - self._written >= _WRITTEN_EVERY_SECONDS:
            self._written = time.monotonic()
            with suppress(LedgerError):
                self.ledger.event_sources.note_read(self.source, to_micros(until))


@dataclass(slots=True)
class _Counts:
    """What became of the events so far: a line that changes on a terminal, a line every few seconds elsewhere."""

    screen: Screen
    events: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)
    _reported: tuple[float, int] = (0.0, 0)
    _progress: Progress | None = None
    _task: TaskID = field(default_factory=lambda: TaskID(0))

    def took(self, results: Sequence[Sequence[Result]]) -> None:
        """Count a batch, and show the counts now and then."""
        self.events += len(results)
        self.counts.update(one.status for found in results for one in found)
        now = time.monotonic()
        if self._progress is not None:
            self._progress.update(self._task, description=self._line(now))
        elif now - self._reported[0] >= PLAIN_EVERY_SECONDS:
            self.screen.note(self._line(now))
            self._reported = now, self.events

    def trouble(self, message: str) -> None:
        """Say what cannot be used now."""
        self.screen.note(f"{message}; trying again until it can be used, nothing is lost")

    def recovered(self) -> None:
        """Say that it can be used again."""
        self.screen.note("source and ledger can be used again")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the counts for as long as this lasts."""
        self.started = time.monotonic()
        self._reported = self.started - PLAIN_EVERY_SECONDS, 0
        if not self.screen.err.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
        with Progress(*columns, console=self.screen.err, transient=True) as self._progress:
            self._task = self._progress.add_task("waiting for the first event", total=None)
            yield
        self._progress = None

    def conclude(self) -> None:
        """Print the counts, or give them as JSON."""
        self.screen.show(self._message())
        if self.counts["rejected"]:
            self.screen.note("`optrelay rejected-events list` shows what was rejected: fix it, then `resend` it")
        seconds = round(time.monotonic() - self.started, 2)
        self.screen.print_json({"events": self.events, **self._each(), "seconds": seconds})

    def _line(self, now: float) -> str:
        since, before = self._reported
        if self._progress is not None:
            since, before = self.started, 0
        return f"{self._message()}, {(self.events - before) / max(now - since, 0.001):,.0f} events/s"

    def _message(self) -> str:
        each = ", ".join(f"{count:,} {name}" for name, count in self._each().items())
        return f"{counted(self.events, 'event')}: {each}"

    def _each(self) -> dict[str, int]:
        return {
            "accepted": self.counts["accepted"],
            "duplicates": self.counts["duplicate"],
            "rejected": self.counts["rejected"],
        }
