"""Wake-ups: Celery messages that a bucket has customer tasks due.

A wake-up carries the names of connection and bucket and nothing else, so losing or doubling one is harmless. It is
published after the commit that it speaks of.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import cached_property
from typing import cast

import redis

from consent.broker.address import read_broker_address
from consent.broker.message import UnreadableWakeUp, bucket_of, write_wake_up
from consent.change import Bucket
from consent.errors import BrokerUnavailable

QUEUE_PREFIX = "optrelay.wake."
KEY_PREFIX = "optrelay:"

_LOOKED_AT = 10_000
"""Wake-ups that are counted at most: a connection has `max_batches` of them for each of its buckets."""


def queue_of(connection: str) -> str:
    """Return the name of the queue in which a connection's wake-ups travel."""
    return f"{QUEUE_PREFIX}{connection}"


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
    def _redis(self) -> redis.Redis:
        return redis_client(self._broker_url)

    def send(self, bucket: Bucket, count: int = 1) -> None:
        """Publish wake-ups for a bucket; raise BrokerUnavailable, after which the sweep will see to it."""
        queue = queue_of(bucket.connection)
        messages = [write_wake_up(bucket, queue) for _ in range(count)]
        try:
            if messages:
                self._redis.lpush(f"{KEY_PREFIX}{queue}", *messages)
        except (redis.RedisError, OSError) as error:
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
            self._redis.close()
