"""A worker's heartbeat: it reports at the broker every few seconds whether it takes wake-ups; a health check reads it.

A process that is there proves nothing, and neither does one that answers questions: what counts is that its main loop
runs on a connection, and that wake-ups which wait are taken.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import cast

import redis

from consent.broker.wakeups import KEY_PREFIX, queue_of

SILENT_SECONDS = 60.0
"""For how long a worker may say nothing: in the pool `solo` its main loop waits for each delivery."""

IDLE_SECONDS = 60.0
"""For how long a worker with a free process may take nothing while wake-ups wait."""

_LOOKS, _PAUSE_SECONDS = 4, 0.5


def key_of(worker: str) -> str:
    """Return the key under which a worker reports."""
    return f"{KEY_PREFIX}worker:{worker}"


def has_worker(store: redis.Redis) -> bool:
    """Whether any worker has reported lately; raises redis.RedisError."""
    return next(store.scan_iter(f"{key_of('')}*", count=10_000), None) is not None


SWEEP_REPORT = f"{KEY_PREFIX}sweep"
"""Where a sweep reports at the broker."""


def has_sweep(store: redis.Redis) -> bool:
    """Whether a sweep has reported lately; raises redis.RedisError."""
    return bool(store.exists(SWEEP_REPORT))


def why_unhealthy(store: redis.Redis, worker: str, connections: Iterable[str]) -> str:
    """Say why a worker does not take wake-ups, or nothing if it does; raises redis.RedisError."""
    found = cast("bytes | None", store.get(key_of(worker)))
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
