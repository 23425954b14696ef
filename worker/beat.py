"""The sweep, on Celery beat's clock: it runs in the beat process itself, so that no dead worker can stop it."""

from __future__ import annotations

from typing import Any

from celery.beat import ScheduleEntry, Scheduler

from worker.app import wiring
from worker.sweep import Abandoned, sweep_quietly

_abandoned = Abandoned()


class SweepScheduler(Scheduler):
    """Beat's scheduler without a file, which sweeps where others would publish a task.

    A published sweep would pile up in the broker for as long as no worker runs.
    """

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:  # noqa: ARG002 - Celery's shape
        """Sweep now."""
        sweep_quietly(wiring(), _abandoned)
