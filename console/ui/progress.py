"""Progress on a terminal or as lines: of files that are read, and of a delivery, with what stops it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from consent.change import Bucket
from consent.errors import OptrelayError
from consent.ledger.queue.breakers import Breaker, BucketHealth
from consent.ledger.review.pauses import Pause
from consent.settings import Settings
from console.ui.bottleneck import Bottleneck, Cause
from console.ui.limits import Throughput, bucket_label, limit_of
from console.ui.screen import Screen
from console.ui.text import counted, duration_text

if TYPE_CHECKING:  # `status` and `import` start without what a run starts
    from console.local.monitor import Snapshot

PLAIN_EVERY_SECONDS = 5.0
WAKE_EVERY_SECONDS = 1.0


class ReadingDisplay(Protocol):
    """What is told while files are read."""

    def reading(self, records: int, line: int, total_lines: int, rejected: int) -> None:
        """So many rows have been recorded, up to this physical line."""
        ...

    def releasing(self, changes: int) -> None:
        """So many further changes have been merged, or have become due: publishing goes through them twice."""
        ...


@dataclass(slots=True)
class EarlyWakeUps:
    """A display of one file that has what is due of it delivered, while the rest of it is still being published.

    `wake` wakes workers and returns whether there is anything to deliver; then it is called each second at most.
    """

    display: ReadingDisplay
    wake: Callable[[], bool]
    woken_at: float = -math.inf

    def reading(self, records: int, line: int, total_lines: int, rejected: int) -> None:
        """Show it."""
        self.display.reading(records, line, total_lines, rejected)

    def releasing(self, changes: int) -> None:
        """Show it, and wake workers; if that fails, they are woken at the end, or by a sweep."""
        self.display.releasing(changes)
        if time.monotonic() - self.woken_at >= WAKE_EVERY_SECONDS:
            try:
                if self.wake():
                    self.woken_at = time.monotonic()
            except OptrelayError:
                self.woken_at = math.inf  # a broker that is away would be waited for each time


@contextmanager
def reading_display(screen: Screen, name: str) -> Iterator[ReadingDisplay]:
    """Give the display of one file for as long as it is read; it leaves nothing behind on a terminal."""
    if not screen.err.is_terminal:
        yield _ReadingLines(screen, name)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), _Rows(), _Rejected())
    with Progress(*columns, console=screen.err, transient=True) as progress:
        yield _Bar(progress, progress.add_task(f"reading {name}", total=None, rows=0, rejected=0))


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._due = 0

    def reading(self, records: int, line: int, total_lines: int, rejected: int) -> None:
        self._progress.update(self._task, completed=line, total=total_lines, rows=records, rejected=rejected)

    def releasing(self, changes: int) -> None:
        self._due += changes
        self._progress.update(self._task, total=None, description="publishing changes")


class _ReadingLines:
    def __init__(self, screen: Screen, name: str) -> None:
        self._screen = screen
        self._name = name
        self._started = self._printed_at = time.monotonic()
        self._due = 0

    def reading(self, records: int, line: int, total_lines: int, rejected: int) -> None:
        share = f"{100 * line // max(total_lines, 1)} %"
        speed = records / max(time.monotonic() - self._started, 0.001)
        self._say(f"reading {self._name}: {share}, {records:,} rows, {speed:,.0f} rows/s, {rejected:,} rejected")

    def releasing(self, changes: int) -> None:
        self._due += changes
        self._say(f"{self._name}: publishing changes, in two passes: {self._due:,} so far")

    def _say(self, message: str) -> None:
        if time.monotonic() - self._printed_at >= PLAIN_EVERY_SECONDS:
            self._printed_at = time.monotonic()
            self._screen.note(message)


class _Rows(ProgressColumn):
    """Rows and rows a second."""

    def render(self, task: Task) -> Text:
        rows = task.fields.get("rows", 0)
        speed = rows / task.elapsed if task.elapsed else 0
        return Text(f"{rows:,} rows, {speed:,.0f}/s")


class _Rejected(ProgressColumn):
    """Rejected rows, once there are any."""

    def render(self, task: Task) -> Text:
        rejected = task.fields.get("rejected", 0)
        return Text(f"{rejected:,} rejected", "yellow") if rejected else Text()


_MOST_SHOWN = 8
_COUNTS = ("applied", "unchanged", "superseded", "dead", "rejected", "pending")


@contextmanager
def delivery_display(screen: Screen, settings: Settings) -> Iterator[Callable[[Snapshot], None]]:
    """Give what takes in ticks: on a terminal it redraws itself and vanishes at the end, elsewhere it writes lines."""
    view = DeliveryView(settings)
    if not screen.err.is_terminal:
        yield _DeliveryLines(screen, view).snapshot
        return
    with Live(console=screen.err, transient=True, refresh_per_second=8) as live:

        def snapshot(now: Snapshot) -> None:
            view.note(now)
            live.update(view.picture(now))

        yield snapshot


@dataclass(frozen=True, slots=True)
class BucketLine:
    """What is to be said of a bucket, and whether it is stopped."""

    bucket: Bucket
    left: int
    message: str
    stopped: bool


@dataclass(slots=True)
class DeliveryView:
    """What a person should see of a delivery."""

    settings: Settings
    throughput: Throughput = field(default_factory=Throughput)
    calls: Throughput = field(default_factory=Throughput)
    most: int = 0

    def note(self, snapshot: Snapshot) -> None:
        """Take in how things stand."""
        self.throughput.note(snapshot.elapsed, {str(bucket): left for bucket, left in snapshot.pending.items()})
        self.calls.note(snapshot.elapsed, {"left": -sum(one.calls for one in snapshot.reports)})
        self.most = max(self.most, sum(snapshot.pending.values()))

    def headline(self, snapshot: Snapshot) -> str:
        """Return how many customers are done, and the calls a second lately."""
        speed = self.calls.per_second("left")
        done = self.most - sum(snapshot.pending.values())
        return f"{done:,} of {counted(self.most, 'customer')}" + (f", {speed:,.1f} calls/s" if speed else "")

    def counts(self, snapshot: Snapshot) -> str:
        """Return what became of the changes so far; nothing if no import is watched."""
        sums = {name: sum(getattr(one, name) for one in snapshot.reports) for name in _COUNTS}
        return " · ".join(f"{name} {count:,}" for name, count in sums.items()) if snapshot.reports else ""

    def buckets(self, snapshot: Snapshot) -> list[BucketLine]:
        """Return what to say of each bucket with something left."""
        health = {one.name: one for one in snapshot.health}
        return [
            self._bucket(
                bucket, left, health.get(str(bucket)), snapshot.answers.get(bucket), snapshot.limits.get(bucket)
            )
            if bucket not in snapshot.paused
            else BucketLine(bucket, left, self._paused(bucket, left, snapshot.paused[bucket]), stopped=True)
            for bucket, left in sorted(snapshot.pending.items())
        ]

    def picture(self, snapshot: Snapshot) -> RenderableType:
        """Return all of it for a terminal."""
        top = Table.grid(padding=(0, 1), expand=True)
        top.add_column()
        top.add_column(ratio=1)
        top.add_column(justify="right")
        done = self.most - sum(snapshot.pending.values())
        top.add_row("delivering", ProgressBar(total=max(self.most, 1), completed=done), self.headline(snapshot))
        lines = [Text(one.message, "yellow" if one.stopped else "") for one in shortened(self.buckets(snapshot))]
        return Group(top, Text(self.counts(snapshot), "dim"), *lines)

    def _paused(self, bucket: Bucket, left: int, pause: Pause) -> str:
        return f"{bucket_label(self.settings, bucket)}: {left:,} left; {pause.message}"

    def _bucket(
        self, bucket: Bucket, left: int, state: BucketHealth | None, answer: str | None, limited: Bottleneck | None
    ) -> BucketLine:
        message = f"{bucket_label(self.settings, bucket)}: {left:,} left"
        if (connection := self.settings.connections.get(bucket.connection)) is None:
            return BucketLine(bucket, left, f"{message}, but this connection is not configured", stopped=True)
        if (obstacle := why_stopped(state, time.time())) is not None:
            return BucketLine(bucket, left, f"{message}; {obstacle}", stopped=True)
        limit = limit_of(connection, bucket.name)
        time_left = self.throughput.time_left(str(bucket), left, limit.rate, limit.targets_per_call)
        shown = f"{message}; {time_left}{bottleneck_note(limited)}{latest_answer_note(answer)}"
        return BucketLine(bucket, left, shown, stopped=False)


def bottleneck_note(limited: Bottleneck | None) -> str:
    """Return what to add about what limits a bucket; that it is the rate is what a time at that rate says already."""
    return "" if limited is None or limited.cause is Cause.RATE else f"; {limited.message}"


def latest_answer_note(answer: str | None) -> str:
    """Return what to add about the latest answer to a customer who has to wait for another try."""
    return "" if answer is None else f"; the latest answer to what is tried again: {answer}"


def shortened(sights: Sequence[BucketLine]) -> list[BucketLine]:
    """Return the sights that a person can take in: the stopped ones and the longest first, and a sum of the others."""
    if len(sights) <= _MOST_SHOWN:
        return list(sights)
    ranked = sorted(sights, key=lambda one: (not one.stopped, -one.left))
    others = ranked[_MOST_SHOWN:]
    left = sum(one.left for one in others)
    stopped = sum(one.stopped for one in others)
    message = f"and {left:,} left within {len(others):,} other limits" + (
        f", {stopped:,} of them stopped" * bool(stopped)
    )
    return [*ranked[:_MOST_SHOWN], BucketLine(others[0].bucket, left, message, stopped=bool(stopped))]


def why_stopped(state: BucketHealth | None, now: float) -> str | None:
    """Say why a bucket makes no calls at this moment (`now` in seconds since 1970), or None if it does."""
    match state:
        case BucketHealth(breaker=Breaker.REFUSED, reason=reason):
            return f"stopped, everything is kept: {reason}"
        case BucketHealth(throttled_until=until) if until / 1e6 > now:
            return f"the provider asked us to wait; on again in {duration_text(until / 1e6 - now)}"
        case BucketHealth(breaker=Breaker.DOWN, reason=reason, probe_at=probe_at):
            wait = probe_at / 1e6 - now
            when = f"in {duration_text(wait)}" if wait >= 1 else "now"
            return f"down, everything is kept: {reason}; tried again {when}"
        case _:
            pass
    return None


@dataclass(slots=True)
class _DeliveryLines:
    screen: Screen
    view: DeliveryView
    printed_at: float = field(default_factory=time.monotonic)
    stopped: frozenset[Bucket] = frozenset()

    def snapshot(self, now: Snapshot) -> None:
        """Write a line now and then, and at once when a bucket stops."""
        self.view.note(now)
        sights = self.view.buckets(now)
        stopped = frozenset(one.bucket for one in sights if one.stopped)
        if stopped <= self.stopped and time.monotonic() - self.printed_at < PLAIN_EVERY_SECONDS:
            return
        self.printed_at, self.stopped = time.monotonic(), stopped
        parts = [
            f"delivering: {self.view.headline(now)}",
            self.view.counts(now),
            *(one.message for one in shortened(sights)),
        ]
        self.screen.note("; ".join(part for part in parts if part))
