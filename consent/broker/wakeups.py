"""Wake-ups: Celery messages that a bucket has customer tasks due.

A wake-up carries the names of connection and bucket and nothing else, so losing or doubling one is harmless. It is
published after the commit that it speaks of.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from functools import cached_property
from typing import cast

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from consent.broker.address import read_broker_address
from consent.broker.transport import DELIVER_TASK, UnreadableWakeUp, bucket_of
from consent.change import Bucket
from consent.errors import BrokerUnavailable

SWEEP_TASK = "optrelay.sweep"
QUEUE_PREFIX = "optrelay.wake."
KEY_PREFIX = "optrelay:"
CUSTOMERS_A_WAKE_UP = 200
"""Customers for which one more delivery is worth its while: one that takes more at once still leaves some to others."""

WAKE_UP_SECONDS = 300
"""A wake-up that no worker took for this long is dropped: the sweep will have sent others."""

_LOOKED_AT = 10_000
"""Wake-ups that are counted at most: a connection has `max_batches` of them for each of its buckets."""


_OF_OTHERS = (
    *("APP", "BROKER_URL", "CONFIG_MODULE", "LOADER", "RESULT_BACKEND"),
    *("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"),
    *("CELERY_CONFIG_MODULE", "CELERY_LOADER"),
)


def forget_other_programs() -> None:
    """Remove from this process's environment what is meant for another Celery program: for Celery it goes before ours.

    Source: celery/app/utils.py (`Settings.broker_url`) and celery/bin/celery.py (`envvar`) of Celery 5.
    """
    for name in _OF_OTHERS:
        os.environ.pop(name, None)


def queue_of(connection: str) -> str:
    """Return the name of the queue in which a connection's wake-ups travel."""
    return f"{QUEUE_PREFIX}{connection}"


def broker_settings(broker_url: str, socket_timeout: float = 30.0) -> dict[str, object]:
    """Return Celery's settings for the broker, the same in every process; raises ConfigurationError."""
    return {
        "broker_url": read_broker_address(broker_url).url,
        "broker_transport": "consent.broker.transport:Transport",
        "broker_transport_options": {
            "global_keyprefix": KEY_PREFIX,
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": 5.0,
            "health_check_interval": 25,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
        },
    }


def redis_client(url: str) -> redis.Redis:
    """Return a client for the broker's own server; it connects at first use. Raises ConfigurationError."""
    address = read_broker_address(url)
    connecting = {} if address.path else {"socket_connect_timeout": 5.0}
    return address.client(socket_timeout=5.0, health_check_interval=25, **connecting)


class WakeUps:
    """The sending side of wake-ups."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url

    @cached_property
    def _app(self) -> Celery:
        forget_other_programs()
        app = Celery("optrelay-wakeups", set_as_current=False)
        app.conf.update(broker_settings(self._broker_url, socket_timeout=5.0))
        once = {"max_retries": 1, "interval_start": 0}  # else kombu waits 6 s for a broker that refuses us
        app.conf.broker_transport_options.update(once)
        app.conf.task_ignore_result = True
        return app

    @cached_property
    def _redis(self) -> redis.Redis:
        return redis_client(self._broker_url)

    def send(self, bucket: Bucket, count: int = 1) -> None:
        """Publish wake-ups for a bucket; raise BrokerUnavailable, after which the sweep will see to it."""
        try:
            for _ in range(count):
                self._app.send_task(
                    DELIVER_TASK,
                    args=tuple(bucket),
                    queue=queue_of(bucket.connection),
                    expires=WAKE_UP_SECONDS,
                    retry=False,
                )
        except (OperationalError, redis.RedisError, OSError) as error:
            raise BrokerUnavailable("the broker takes no wake-ups; the sweep sends them once it is back") from error

    def waiting(self, connection: str) -> int:
        """Return how many wake-ups no worker has taken yet; raise BrokerUnavailable."""
        try:
            return int(self._redis.llen(f"{KEY_PREFIX}{queue_of(connection)}"))
        except redis.RedisError as error:
            raise BrokerUnavailable("the broker cannot be reached") from error

    def waiting_by_bucket(self, connection: str) -> Counter[Bucket]:
        """Return how many wake-ups of each bucket no worker has taken yet; raise BrokerUnavailable.

        The buckets of a connection share its queue: one that is busy must not look like work for all of them.
        """
        try:
            messages = cast("list[bytes]", self._redis.lrange(f"{KEY_PREFIX}{queue_of(connection)}", 0, _LOOKED_AT - 1))
        except redis.RedisError as error:
            raise BrokerUnavailable("the broker cannot be reached; the sweep sends them once it is back") from error
        found: Counter[Bucket] = Counter()
        for message in messages:
            with suppress(UnreadableWakeUp):  # the worker that takes it drops it
                found[bucket_of(message)] += 1
        return found

    def close(self) -> None:
        """Close what is open."""
        with suppress(Exception):
            self._app.close()
            self._redis.close()
