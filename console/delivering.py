"""Showing how delivery goes: what is done, what is left, how long that takes, and what stops it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from consent.ledger.health import Breaker, ConnectionHealth
from consent.settings import Settings
from console.counting import counted
from console.durations import spoken
from console.pace import Pace, per_call_of, rate_of
from console.progress import PLAIN_EVERY_SECONDS
from console.running import Tick
from console.screen import Screen

_COUNTS = ("applied", "unchanged", "superseded", "dead", "rejected", "pending")


@contextmanager
def delivery_display(screen: Screen, settings: Settings) -> Iterator[Callable[[Tick], None]]:
    """Give what takes in ticks: on a terminal it redraws itself and vanishes at the end, elsewhere it writes lines."""
    view = DeliveryView(settings)
    if not screen.err.is_terminal:
        yield _Lines(screen, view).tick
        return
    with Live(console=screen.err, transient=True, refresh_per_second=8) as live:

        def tick(now: Tick) -> None:
            view.note(now)
            live.update(view.picture(now))

        yield tick


@dataclass(slots=True)
class DeliveryView:
    """What a person should see of a delivery."""

    settings: Settings
    pace: Pace = field(default_factory=Pace)
    calls: Pace = field(default_factory=Pace)
    most: int = 0

    def note(self, tick: Tick) -> None:
        """Take in how things stand."""
        self.pace.note(tick.elapsed, tick.pending)
        self.calls.note(tick.elapsed, {"left": -sum(one.calls for one in tick.reports)})
        self.most = max(self.most, sum(tick.pending.values()))

    def headline(self, tick: Tick) -> str:
        """Return how many customers are done, and the calls a second lately."""
        speed = self.calls.per_second("left")
        done = self.most - sum(tick.pending.values())
        return f"{done:,} of {counted(self.most, 'customer')}" + (f", {speed:,.1f} calls/s" if speed else "")

    def counts(self, tick: Tick) -> str:
        """Return what became of the changes so far; nothing if no import is watched."""
        sums = {name: sum(getattr(one, name) for one in tick.reports) for name in _COUNTS}
        return " · ".join(f"{name} {count:,}" for name, count in sums.items()) if tick.reports else ""

    def connections(self, tick: Tick) -> list[tuple[str, bool]]:
        """Return a sentence for each connection with something left, and whether it is stopped."""
        health = {one.name: one for one in tick.health}
        return [self._connection(name, left, health.get(name)) for name, left in sorted(tick.pending.items())]

    def picture(self, tick: Tick) -> RenderableType:
        """Return all of it for a terminal."""
        top = Table.grid(padding=(0, 1), expand=True)
        top.add_column()
        top.add_column(ratio=1)
        top.add_column(justify="right")
        done = self.most - sum(tick.pending.values())
        top.add_row("delivering", ProgressBar(total=max(self.most, 1), completed=done), self.headline(tick))
        lines = [Text(words, "yellow" if stopped else "") for words, stopped in self.connections(tick)]
        return Group(top, Text(self.counts(tick), "dim"), *lines)

    def _connection(self, name: str, left: int, state: ConnectionHealth | None) -> tuple[str, bool]:
        if name not in self.settings.connections:
            return f"{name}: {left:,} left, but this connection is not configured", True
        if (obstacle := why_stopped(state, time.time())) is not None:
            return f"{name}: {left:,} left; {obstacle}", True
        connection = self.settings.connections[name]
        time_left = self.pace.time_left(name, left, rate_of(connection), per_call_of(connection))
        return f"{name}: {left:,} left; {time_left}", False


def why_stopped(state: ConnectionHealth | None, now: float) -> str | None:
    """Say why a connection makes no calls at this moment (`now` in seconds since 1970), or None if it does."""
    match state:
        case ConnectionHealth(breaker=Breaker.REFUSED, reason=reason):
            return f"stopped, everything is kept: {reason}"
        case ConnectionHealth(breaker=Breaker.DOWN, reason=reason, probe_at=probe_at):
            wait = max(0.0, probe_at / 1e6 - now)
            return f"down, everything is kept: {reason}; tried again in {spoken(wait)}"
        case ConnectionHealth(throttled_until=until) if until / 1e6 > now:
            return f"the provider asked us to wait; on again in {spoken(until / 1e6 - now)}"
    return None


@dataclass(slots=True)
class _Lines:
    screen: Screen
    view: DeliveryView
    said: float = field(default_factory=time.monotonic)
    stopped: Mapping[str, bool] = field(default_factory=dict)

    def tick(self, now: Tick) -> None:
        """Write a line now and then, and at once when a connection stops or goes on."""
        self.view.note(now)
        sentences = self.view.connections(now)
        stopped = {name: stops for name, (_, stops) in zip(sorted(now.pending), sentences, strict=True)}
        turned = any(stops and not self.stopped.get(name) for name, stops in stopped.items())
        if not turned and time.monotonic() - self.said < PLAIN_EVERY_SECONDS:
            return
        self.said, self.stopped = time.monotonic(), stopped
        parts = [f"delivering: {self.view.headline(now)}", self.view.counts(now), *(words for words, _ in sentences)]
        self.screen.note("; ".join(part for part in parts if part))
