"""A worker's heartbeat: it reports at the broker every few seconds whether it takes wake-ups; a health check reads it.

A process that is there proves nothing, and neither does one that answers questions: what counts is that its main loop
runs on a connection, and that wake-ups which wait are taken.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import redis
import structlog
from celery import bootsteps
from celery.worker import state

from consent.broker.wakeups import KEY_PREFIX, queue_of, redis_client

EVERY_SECONDS = 5.0
SILENT_SECONDS = 60.0
"""For how long a worker may say nothing: in the pool `solo` its main loop waits for each delivery."""

IDLE_SECONDS = 60.0
"""For how long a worker with a free process may take nothing while wake-ups wait."""

_KEPT_SECONDS = 600
_LOOKS, _PAUSE_SECONDS = 4, 0.5
_log = structlog.get_logger()


def _key(worker: str) -> str:
    return f"{KEY_PREFIX}worker:{worker}"


@dataclass(slots=True)
class Heartbeat:
    """Reports the state of one worker; `taken` is when it took its last wake-up, by this machine's clock in seconds."""

    store: redis.Redis
    worker: str
    processes: int
    count: int = 0
    taken: float = field(default_factory=time.time)

    def beat(self) -> None:
        """Say that the main loop runs, when it took something last, and whether there is a place to take more."""
        count = sum(state.total_count.values())
        if count != self.count:
            self.count, self.taken = count, time.time()
        report = {"at": time.time(), "taken": self.taken, "busy": len(state.active_requests) >= self.processes}
        try:
            self.store.set(_key(self.worker), json.dumps(report), ex=_KEPT_SECONDS)
        except redis.RedisError as error:
            _log.warning("heartbeat.failed", reason=type(error).__name__)


class HeartbeatStep(bootsteps.StartStopStep):
    """The step of Celery's consumer that sends the heartbeat, from when the worker listens until it does not."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Begin, at once and then every few seconds."""
        store = redis_client(consumer.app.conf.broker_url)
        heartbeat = Heartbeat(store, consumer.hostname, consumer.controller.concurrency or 1)
        heartbeat.beat()
        self._timer = consumer.timer.call_repeatedly(EVERY_SECONDS, heartbeat.beat)

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - the library's shape
        """Stop: there is no connection."""
        if self._timer is not None:
            self._timer.cancel()


def has_worker(store: redis.Redis) -> bool:
    """Whether any worker has reported lately; raises redis.RedisError."""
    return next(store.scan_iter(f"{_key('')}*", count=10_000), None) is not None


SWEEP_REPORT = f"{KEY_PREFIX}sweep"
"""Where a sweep reports at the broker."""


def has_sweep(store: redis.Redis) -> bool:
    """Whether a sweep has reported lately; raises redis.RedisError."""
    return bool(store.exists(SWEEP_REPORT))


def why_unhealthy(store: redis.Redis, worker: str, connections: Iterable[str]) -> str:
    """Say why a worker does not take wake-ups, or nothing if it does; raises redis.RedisError."""
    found = cast("bytes | None", store.get(_key(worker)))
    try:
        report = json.loads(found or b"null")
        at, taken, busy = float(report["at"]), float(report["taken"]), bool(report["busy"])
    except (ValueError, TypeError, LookupError):
        return f"no worker {worker} has said anything: it is not connected to the broker"
    if (silent := time.time() - at) > SILENT_SECONDS:
        return f"worker {worker} has said nothing for {silent:.0f} seconds: its main loop hangs, or it has ended"
    if not busy and time.time() - taken > IDLE_SECONDS and _some_wait(store, list(connections)):
        return f"worker {worker} has taken nothing for {time.time() - taken:.0f} seconds, and wake-ups wait"
    return ""


def _some_wait(store: redis.Redis, connections: Iterable[str]) -> bool:
    """Whether wake-ups wait, and go on waiting: a worker with a free process takes each within moments."""
    for _ in range(_LOOKS):
        if not any(store.llen(f"{KEY_PREFIX}{queue_of(name)}") for name in connections):
            return False
        time.sleep(_PAUSE_SECONDS)
    return True
