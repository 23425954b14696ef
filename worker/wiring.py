"""The one place where a worker process puts its parts together."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
from collections import defaultdict
from contextlib import AbstractContextManager, suppress
from functools import cached_property, partial

import redis

from consent.bucket import Bucket
from consent.errors import ConfigurationError, LedgerError
from consent.ledger import health
from consent.ledger.ledger import Ledger
from consent.settings import ConnectionSettings, Settings
from consent.wakeups import WakeUps, redis_client
from worker.breaker import Recent, Watch, may_call
from worker.connection import LiveConnection, process_cap
from worker.loop import LoopThread, process_loop
from worker.pacing import Pacer
from worker.providers import provider_of
from worker.providers.http import Sender, check_connection
from worker.providers.warming import warm_up
from worker.retrying import RetryPolicy
from worker.seats import Seats
from worker.stroke import LONGEST, PATIENCE_SECONDS, Stroke

_LEASE_SPARE_SECONDS = 3.0
_LEAST_TIME_LIMIT = 180.0
_SPARE_SECONDS = 20.0


def time_limit(settings: Settings) -> float:
    """Return the seconds after which a stroke is killed: later than any can last, so that no answer is thrown away.

    A stroke claims for `LONGEST` horizons. What it claimed is called within a lease, which `Wiring.check` holds to be
    longer than the connection's TIMEOUT, and then written down, for which it may wait for the ledger twice.
    """
    needed = LONGEST * settings.horizon_seconds + settings.lease_seconds + 2 * PATIENCE_SECONDS
    return max(_LEAST_TIME_LIMIT, needed + _SPARE_SECONDS)


class Wiring:
    """What one process needs to deliver; nothing is opened before it is used, so it may be made before a fork."""

    def __init__(self, settings: Settings, broker_url: str) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_url, reassert=settings.reassert_rules)
        self.wakeups = WakeUps(broker_url)
        self.pid = os.getpid()
        self._broker_url = broker_url
        self._connections: dict[Bucket, LiveConnection] = {}
        self._recent: defaultdict[Bucket, Recent] = defaultdict(Recent)
        self._senders: dict[str, Sender] = {}
        self._places: dict[str, asyncio.Semaphore] = {}
        self._lock = threading.Lock()

    def stroke(self, bucket: Bucket) -> Stroke:
        """Return a stroke for a bucket; raise ConfigurationError if it cannot be called as it is configured."""
        return Stroke(
            ledger=self.ledger,
            connection=self.connection(bucket),
            loop=self.loop,
            policy=RetryPolicy(
                self.settings.max_attempts, self.settings.backoff_seconds, self.settings.backoff_ceiling
            ),
            lease_seconds=self.settings.lease_seconds,
            most=self.settings.stroke_size,
            watch=Watch(recent=self._recent[bucket]),
        )

    def connection(self, bucket: Bucket) -> LiveConnection:
        """Return a connection's bucket, made at first use."""
        with self._lock:
            if bucket not in self._connections:
                self._connections[bucket] = self._connect(bucket, self.settings.connection(bucket.connection))
            return self._connections[bucket]

    def get_ready(self) -> None:
        """Make beforehand what the first stroke needs, so that it need not wait; raises ConfigurationError."""
        for name in self.settings.connections:
            self.connection(Bucket(name))
            with suppress(LedgerError):
                self.ledger.buckets(name)

    def pacer(self, bucket: Bucket) -> Pacer:
        """Return the shared pace of a bucket, for this process."""
        connection = self.settings.connection(bucket.connection)
        pacer = Pacer(
            store=self.redis,
            bucket=bucket,
            rate=provider_of(connection).pace(bucket.name, connection).rate,
            process=f"{socket.gethostname()}:{self.pid}:{self._nonce}",
            horizon=self.settings.horizon_seconds,
            max_strokes=connection.max_strokes,
            processes=max(1, self.settings.worker_processes),
            known=max(1, self.settings.worker_processes),
            lanes=connection.concurrency,
        )
        pacer.write_into(self.ledger)
        return pacer

    def seat(self, bucket: Bucket) -> AbstractContextManager[bool]:
        """Take a place of the worker pool for a stroke; the value says whether there is one to spare."""
        seconds = self.settings.connection(bucket.connection).timeout + LONGEST * self.settings.horizon_seconds
        waiting = partial(self._others_with_work, bucket.connection)
        return self._seats.taken(bucket.connection, seconds + _LEASE_SPARE_SECONDS, waiting)

    def strokes(self) -> int:
        """Return how many strokes are under way in all workers; raise redis.RedisError."""
        return self._seats.occupied()

    @cached_property
    def redis(self) -> redis.Redis:
        """A client for the broker's server, for the shared pace."""
        return redis_client(self._broker_url)

    @cached_property
    def loop(self) -> LoopThread:
        """The event loop of this process."""
        return process_loop()

    @cached_property
    def _seats(self) -> Seats:
        return Seats(self.redis, f"{socket.gethostname()}:{self.pid}:{self._nonce}")

    def _others_with_work(self, connection: str) -> list[str]:
        """Return the other connections that could make a call now."""
        return [name for name in self.settings.connections if name != connection and self._has_work(name)]

    def _has_work(self, connection: str) -> bool:
        database, now = self.ledger.database, self.ledger.now()
        return any(
            may_call(health.health_of(database, str(bucket)), now) and self.ledger.due(bucket, 1) > 0
            for bucket in self.ledger.buckets(connection)
        )

    @cached_property
    def _nonce(self) -> str:
        return secrets.token_hex(3)

    def close(self) -> None:
        """Close the connections to providers, ledger and broker."""
        for sender in self._senders.values():
            self.loop.run(sender.aclose(), timeout=5)
        self.ledger.close()
        self.wakeups.close()

    def check(self, name: str) -> None:
        """Raise ConfigurationError, with the remedy, if a connection cannot be called as it is configured."""
        connection = self.settings.connection(name)
        check_connection(connection, provider_of(connection).auth(connection, name), name)
        needed = connection.timeout + self.settings.horizon_seconds + _LEASE_SPARE_SECONDS
        if self.settings.lease_seconds < needed:
            message = (
                f"OPTRELAY_LEASE_SECONDS is {self.settings.lease_seconds:g}, but connection {name!r} needs {needed:g}: "
                "its timeout, the horizon and 3 seconds; raise the lease or lower the timeout"
            )
            raise ConfigurationError(message)

    def _connect(self, bucket: Bucket, connection: ConnectionSettings) -> LiveConnection:
        name = bucket.connection
        self.check(name)
        provider, pacer = provider_of(connection), self.pacer(bucket)
        if name not in self._senders:
            self._senders[name] = self.loop.run(_sender(connection, name))
            self._places[name] = asyncio.Semaphore(connection.concurrency)
        limiter = self.loop.run(_cap(pacer))
        each = provider.pace(bucket.name, connection).targets_per_call
        return LiveConnection(
            bucket, connection, provider, self._senders[name], pacer, limiter, self._places[name], each
        )


async def _sender(connection: ConnectionSettings, name: str) -> Sender:
    await warm_up()
    return Sender(connection, provider_of(connection).auth(connection, name), name)


async def _cap(pacer: Pacer):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return process_cap(pacer.rate)
