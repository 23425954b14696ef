"""The step of a Celery worker that reports its heartbeat at the broker."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import redis
import structlog
from celery import bootsteps
from celery.worker import state

from consent.broker.wakeups import redis_client
from worker.heartbeat import key_of

EVERY_SECONDS = 5.0
_KEPT_SECONDS = 600
_log = structlog.get_logger()


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
            self.store.set(key_of(self.worker), json.dumps(report), ex=_KEPT_SECONDS)
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
