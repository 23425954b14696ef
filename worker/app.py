"""The Celery application: `celery -A worker.app worker` and `optrelay worker` are the same thing."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from functools import cache
from typing import Any

import structlog
from celery import Celery, Task
from celery.beat import ScheduleEntry, Scheduler
from celery.signals import (
    beat_init,
    celeryd_init,
    setup_logging,
    worker_before_create_process,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)
from kombu.entity import Queue

from consent.broker.message import DELIVER_TASK
from consent.broker.transport import SWEEP_TASK, broker_settings, forget_other_programs
from consent.broker.wakeups import queue_of
from consent.change import Bucket
from consent.errors import BrokerUnavailable, ConfigurationError, LedgerError, LedgerOutdated, LedgerUnavailable
from consent.settings import Settings, load_settings
from worker.bootstrap import WorkerContext, time_limit
from worker.heartbeat_step import HeartbeatStep
from worker.process import allow_connections, end_with_parent, is_stopping, note_stopping, set_up_logs
from worker.sweep import Abandoned, sweep_quietly

_BEFORE_THE_KILL_SECONDS = 10.0

SWITCH_SECONDS = 0.0005
"""How long the ledger's thread may keep the calls' thread waiting: in Python's own 5 ms calls miss their moments."""

POOLS = {"prefork", "threads", "solo"}


def configure(app: Celery, settings: Settings) -> None:
    """Set Celery up as measured: late acks, one message at a time, JSON only, no results, no countdowns."""
    if not settings.broker_url:
        raise ConfigurationError(
            "set OPTRELAY_BROKER_URL to the address of a Valkey or Redis, redis://localhost:6379/0"
        )
    longest = time_limit(settings)
    app.conf.update(broker_settings(settings.broker_url))
    app.conf.broker_transport_options.update(visibility_timeout=4 * longest)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        task_queues=[Queue(queue_of(name)) for name in sorted(settings.connections)],
        task_default_queue="optrelay",
        task_create_missing_queues=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_serializer="json",
        accept_content=["json"],
        task_time_limit=longest,
        task_soft_time_limit=longest - _BEFORE_THE_KILL_SECONDS,
        worker_prefetch_multiplier=1,
        worker_soft_shutdown_timeout=60,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_proc_alive_timeout=30,
        beat_schedule={SWEEP_TASK: {"task": SWEEP_TASK, "schedule": settings.sweep_seconds}},
        beat_scheduler="worker.app:SweepScheduler",
        beat_max_loop_interval=settings.sweep_seconds,
    )


_log = structlog.get_logger()
settings = load_settings()
forget_other_programs()
app = Celery("optrelay", set_as_current=True)
configure(app, settings)
app.steps["consumer"].add(HeartbeatStep)

_context: WorkerContext | None = None
_worker: int | None = None
"""The process whose end is the end of its whole pool; None in the sweep."""


def worker_context() -> WorkerContext:
    """Return this process's context; a child of a fork gets its own."""
    global _context  # noqa: PLW0603 - one for each process is the point
    if _context is None or _context.pid != os.getpid():
        _context = WorkerContext(settings, str(settings.broker_url))
    return _context


@app.task(name=DELIVER_TASK, bind=True)
def deliver(self: Task, connection: str, bucket: str = "") -> None:  # noqa: ARG001 - Celery hands itself over
    """Deliver what is due in a bucket of a connection, and wake a successor if there is more."""
    context, due = worker_context(), Bucket(connection, bucket)
    try:
        if context.deliver(due, lambda: not is_stopping()):
            context.wakeups.send(due)
    except LedgerOutdated as error:
        _log.error("ledger.outdated", reason=str(error))
        os.kill(_worker or os.getpid(), signal.SIGTERM)  # a warm shutdown: the supervisor starts the new version
    except LedgerUnavailable as error:
        _log.warning("ledger.unavailable", reason=str(error))
        raise


deliver.throws = (ConfigurationError, LedgerError, BrokerUnavailable)


@celeryd_init.connect
def _refuse_green_pools(options: dict[str, Any] | None = None, **_: object) -> None:
    pool = str((options or {}).get("pool") or "prefork")
    name = pool.rsplit(".", 1)[-1].rsplit(":", maxsplit=1)[-1].lower()
    if any(green in pool.lower() for green in ("gevent", "eventlet")):
        message = (
            f"optrelay runs on the pools {', '.join(sorted(POOLS))}; {name} cannot run its event loop: use -P prefork"
        )
        raise SystemExit(message)


@setup_logging.connect
def _set_up_logs(**_: object) -> None:
    set_up_logs(settings.log_level)


@worker_init.connect
def _note_worker(**_: object) -> None:
    global _worker  # noqa: PLW0603 - one for each process is the point
    _worker = os.getpid()


@worker_init.connect
@beat_init.connect
def _refuse_another_schema(**_: object) -> None:
    """Look at the ledger, and close it: SQLite takes its parent's locks for a fork's own, which then has none."""
    ledger = worker_context().ledger
    try:
        ledger.maintenance.prepare()
    except LedgerOutdated as error:
        raise SystemExit(f"error: {error}") from None
    except LedgerError as error:
        _log.warning("ledger.unavailable", reason=str(error))
    finally:
        ledger.close()


@worker_before_create_process.connect
def _spare_what_is_loaded(**_: object) -> None:
    """Keep what is loaded out of the full garbage collection that Celery makes before it forks a process."""
    _freeze_once()


_freeze_once = cache(gc.freeze)
"""What comes later is to be collected. To ask Python whether it has been done would take longer than to do it."""


@worker_shutting_down.connect
def _stop(**_: object) -> None:
    note_stopping()


@worker_process_init.connect
def _set_up_process(**_: object) -> None:
    """Set up a process that delivers. In the pool solo it is the worker, which may fork the sweep yet (`-B`)."""
    global _worker  # noqa: PLW0603 - one for each process is the point
    allow_connections()
    sys.setswitchinterval(SWITCH_SECONDS)
    if os.getpid() != _worker:
        _worker = os.getppid()
        end_with_parent()
        with suppress(ConfigurationError):  # the delivery that needs it raises it again
            worker_context().get_ready()
    gc.freeze()  # what is loaded stays
    gc.set_threshold(50_000, 10, 5)


@worker_process_shutdown.connect
@worker_shutdown.connect
def _close(**_: object) -> None:
    if _context is not None and _context.pid == os.getpid():
        _context.close()


_abandoned = Abandoned()


class SweepScheduler(Scheduler):
    """Celery beat's scheduler without a file: it sweeps in the beat process, so that no dead worker can stop it.

    A published sweep would pile up in the broker for as long as no worker runs.
    """

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:  # noqa: ARG002 - Celery's shape
        """Sweep now."""
        sweep_quietly(worker_context(), _abandoned)
