"""Waiting for imports that workers elsewhere deliver: `import --wait`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from consent.settings import Settings
from console.running import TICK_SECONDS, Ending, Running, Tick
from worker.bootstrap import WorkerContext


@dataclass(frozen=True, slots=True)
class WorkersElsewhere:
    """Only watches until imports are settled, or cannot be within `patience` seconds."""

    patience: float

    def get_ready(self, settings: Settings, connections: Collection[str]) -> None:
        """Do nothing: they are up, or they are not."""

    def deliver(self, settings: Settings, imports: Sequence[str], on_tick: Callable[[Tick], None]) -> Ending:
        """Watch; returns how it ended."""
        worker_context = WorkerContext(settings, settings.broker_url or "")
        try:
            hint = "" if settings.broker_url else _NOBODY_WOKEN
            return _watch(Running(worker_context, imports, self.patience, idle=_IDLE, hint=hint), on_tick)
        finally:
            worker_context.ledger.close()


_IDLE = "nothing has been settled: is `optrelay worker` running with this ledger and this broker?"
_NOBODY_WOKEN = "OPTRELAY_BROKER_URL is not set here: is a worker at work? Else `optrelay run` delivers what is pending"


def _watch(running: Running, on_tick: Callable[[Tick], None]) -> Ending:
    while True:
        if (tick := running.look_now_and_then()) is not None:
            on_tick(tick)
            if all(one.state == "released" and not one.pending for one in tick.reports):
                return Ending(int(any(one.rejected or one.dead for one in tick.reports)))
            if (ending := running.ending(tick)) is not None:
                return ending
        time.sleep(TICK_SECONDS)
