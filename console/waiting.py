"""Waiting for imports that workers elsewhere deliver: `import --wait`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from consent.settings import Settings
from console.running import Ending, Running, Tick
from worker.wiring import Wiring

_LOOK_EVERY_SECONDS = 0.5


def by_workers_elsewhere(patience: float) -> Callable[[Settings, Sequence[str], Callable[[Tick], None]], Ending]:
    """Return what only watches until these imports are settled, or cannot be within `patience` seconds."""

    def watch(settings: Settings, imports: Sequence[str], on_tick: Callable[[Tick], None]) -> Ending:
        wiring = Wiring(settings, settings.broker_url or "")
        try:
            return _watch(Running(wiring, imports, patience), on_tick)
        finally:
            wiring.ledger.close()

    return watch


def _watch(running: Running, on_tick: Callable[[Tick], None]) -> Ending:
    while True:
        tick = running.look()
        on_tick(tick)
        if all(one.state == "released" and not one.pending for one in tick.reports):
            return Ending(int(any(one.rejected or one.dead for one in tick.reports)))
        if (ending := running.ending(tick)) is not None:
            return ending
        time.sleep(_LOOK_EVERY_SECONDS)
