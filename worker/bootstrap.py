"""Where a worker process puts its parts together."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from functools import cached_property, partial
from typing import Any, TypeVar

import redis
import structlog

from consent.broker.wakeups import WakeUps, redis_client
from consent.change import Bucket
from consent.connection import ConnectionSettings
from consent.errors import BrokerUnavailable, ConfigurationError, LedgerError
from consent.ledger.ledger import Ledger
from consent.settings import Settings
from consent.tracing.spans import SpanWriter, writer
from worker.channels import NoticeSender
from worker.delivery.breaker import Observations, RecentCustomers, may_call, note_error
from worker.delivery.bucket_context import BucketContext, process_cap
from worker.delivery.concurrency import PREPARING, ConcurrencyLimit
from worker.delivery.deliver import LONGEST_SECONDS, LONGEST_WINDOWS, PATIENCE_SECONDS, Delivery
from worker.delivery.results import RetryPolicy
from worker.delivery.traces import DeliveryTrace
from worker.http.client import Sender, check_connection
from worker.providers import provider_of
from worker.ratelimit.fairness import FairSharing, ProcessShare
from worker.ratelimit.limiter import RateLimiter

T = TypeVar("T")
_LEASE_SPARE_SECONDS = 3.0
_LEAST_TIME_LIMIT = 180.0
_SPARE_SECONDS = 20.0
_log = structlog.get_logger()


def time_limit(settings: Settings) -> float:
    """Return the seconds after which Celery kills a delivery: later than any can last, so that no answer is lost.

    A delivery claims for `LONGEST_SECONDS` and the window that it is in then. It makes its calls within a lease, which
    `WorkerContext.check` holds to be longer than the connection's TIMEOUT, and then settles, for which it may wait for
    the ledger twice.
    """
    claiming = LONGEST_SECONDS + LONGEST_WINDOWS * settings.reservation_seconds
    return max(_LEAST_TIME_LIMIT, claiming + settings.lease_seconds + 2 * PATIENCE_SECONDS + _SPARE_SECONDS)


class WorkerContext:
    """What one process needs to deliver; nothing is opened before it is used, so it may be made before a fork."""

    def __init__(self, settings: Settings, broker_url: str) -> None:
        self.settings = settings
        deadlines = settings.chosen_deadlines
        self.ledger = Ledger(settings.ledger_url, reassert=settings.reassert_rules, deadline_rules=deadlines)
        self.wakeups = WakeUps(broker_url)
        self.pid = os.getpid()
        self.look_at = 0.0  # of the monotonic clock: when the sweep adds up, and looks for notices, again
        self.notice_sender = NoticeSender(settings, self.ledger)
        self._broker_url = broker_url
        self._buckets: dict[Bucket, BucketContext] = {}
        self._recent: defaultdict[Bucket, RecentCustomers] = defaultdict(RecentCustomers)
        self._senders: dict[str, Sender] = {}
        self._concurrency: dict[str, ConcurrencyLimit] = {}
        self._lock = threading.Lock()

    def deliver(self, bucket: Bucket, goes_on: Callable[[], bool]) -> bool:
        """Deliver what is due in a bucket, if a process can be spared for it; return whether there is more.

        `goes_on` is asked whether the delivery may begin another reservation window. An error that was not expected
        becomes the reason that the bucket shows, and not a loop of tracebacks.
        """
        try:
            with self._process_share(self.bucket_context(bucket)) as share:
                return share.acquired and self.delivery(bucket, lambda: goes_on() and share.keep()).run()
        except (LedgerError, BrokerUnavailable, redis.RedisError):
            raise
        except Exception as error:  # noqa: BLE001 - any error becomes the reason that is shown
            _log.error("delivery.failed", bucket=str(bucket), reason=note_error(self.ledger, bucket, error))
            return False

    def delivery(self, bucket: Bucket, goes_on: Callable[[], bool] = lambda: False) -> Delivery:
        """Return a delivery for a bucket; raise ConfigurationError if it cannot be called as it is configured.

        `goes_on` is asked about each reservation window whether the delivery may keep its process for another one.
        """
        context = self.bucket_context(bucket)
        with self._lock:  # one for all deliveries of the bucket, also where two threads begin the first ones
            recent = self._recent[bucket]
        return Delivery(
            ledger=self.ledger,
            context=context,
            loop=self.loop.loop,
            policy=RetryPolicy(
                self.settings.max_attempts, self.settings.backoff_seconds, self.settings.backoff_ceiling
            ),
            lease_seconds=self.settings.lease_seconds,
            most=self.settings.batch_customers,
            observations=Observations(recent=recent),
            goes_on=goes_on,
            trace=self._trace_of(context),
        )

    def bucket_context(self, bucket: Bucket) -> BucketContext:
        """Return what a bucket needs, made at first use."""
        with self._lock:
            if bucket not in self._buckets:
                self._buckets[bucket] = self._connect(bucket, self.settings.connection(bucket.connection))
            return self._buckets[bucket]

    def _trace_of(self, context: BucketContext) -> DeliveryTrace | None:
        if self._span_writer is None:
            return None
        return DeliveryTrace(self._span_writer, context.bucket, context.settings.base_url)

    def get_ready(self) -> None:
        """Make beforehand what the first delivery needs, so that it need not wait; raises ConfigurationError."""
        for name in self.settings.connections:
            self.bucket_context(Bucket(name))
            with suppress(LedgerError):
                self.ledger.queries.buckets(name)

    def rate_limiter(self, bucket: Bucket) -> RateLimiter:
        """Return a bucket's shared rate limit, as this process uses it."""
        connection = self.settings.connection(bucket.connection)
        rate_limiter = RateLimiter(
            store=self.redis,
            bucket=bucket,
            rate=provider_of(connection).rate_limit(bucket.name, connection).rate,
            process=f"{socket.gethostname()}:{self.pid}:{self._nonce}",
            reservation_seconds=self.settings.reservation_seconds,
            max_deliveries=connection.max_batches,
            processes=max(1, self.settings.worker_processes),
            known=max(1, self.settings.worker_processes),
            concurrency=min(connection.concurrency, PREPARING),
        )
        rate_limiter.write_into(self.ledger)
        return rate_limiter

    def deliveries(self) -> int:
        """Return how many deliveries are under way in all workers; raise redis.RedisError."""
        return self._fair_sharing.in_use()

    @cached_property
    def redis(self) -> redis.Redis:
        """A client for the broker's server, for the shared rate limits."""
        return redis_client(self._broker_url)

    @cached_property
    def _span_writer(self) -> SpanWriter | None:
        """What sends spans: made at first use, and so after the fork."""
        return writer()

    @cached_property
    def loop(self) -> LoopThread:
        """The event loop of this process."""
        return process_loop()

    @cached_property
    def _fair_sharing(self) -> FairSharing:
        return FairSharing(self.redis, f"{socket.gethostname()}:{self.pid}:{self._nonce}")

    def _process_share(self, context: BucketContext) -> AbstractContextManager[ProcessShare]:
        """Acquire one of the worker pool's processes for a delivery, if there is one to spare."""
        connection, windows = context.bucket.connection, LONGEST_WINDOWS * self.settings.reservation_seconds
        seconds = context.settings.timeout + windows + _LEASE_SPARE_SECONDS
        waiting = partial(self._others_with_work, connection)
        return self._fair_sharing.acquire(
            connection, seconds, waiting, lambda: [*waiting(), *self._siblings(context.bucket)]
        )

    def _others_with_work(self, connection: str) -> list[str]:
        """Return the other connections that could make a call now."""
        return [name for name in self.settings.connections if name != connection and self._has_work(name)]

    def _has_work(self, connection: str) -> bool:
        return any(self._is_callable(bucket) for bucket in self.ledger.queries.buckets(connection))

    def _siblings(self, bucket: Bucket) -> list[str]:
        """Return the other buckets of a connection that could make a call now."""
        found = self.ledger.queries.buckets(bucket.connection)
        return [str(other) for other in found if other != bucket and self._is_callable(other)]

    def _is_callable(self, bucket: Bucket) -> bool:
        found = self.ledger.breakers.health_of(str(bucket))
        return may_call(found, self.ledger.now()) and self.ledger.queue.due(bucket, 1) > 0

    @cached_property
    def _nonce(self) -> str:
        return secrets.token_hex(3)

    def close(self) -> None:
        """Close the connections to providers, ledger and broker."""
        for sender in self._senders.values():
            self.loop.run(sender.aclose(), timeout=5)
        self.ledger.close()
        self.wakeups.close()
        if (sends := self.__dict__.get("_span_writer")) is not None:
            sends.close()

    def check(self, name: str) -> None:
        """Raise ConfigurationError, with the remedy, if a connection cannot be called as it is configured."""
        connection = self.settings.connection(name)
        check_connection(connection, provider_of(connection).auth(connection, name), name)
        needed = connection.timeout + self.settings.reservation_seconds + _LEASE_SPARE_SECONDS
        if self.settings.lease_seconds < needed:
            message = (
                f"OPTRELAY_LEASE_SECONDS is {self.settings.lease_seconds:g}, but connection {name!r} needs {needed:g}: "
                "its timeout, the reservation window and 3 seconds; raise the lease or lower the timeout"
            )
            raise ConfigurationError(message)

    def _connect(self, bucket: Bucket, connection: ConnectionSettings) -> BucketContext:
        name = bucket.connection
        self.check(name)
        provider, rate_limiter = provider_of(connection), self.rate_limiter(bucket)
        if name not in self._senders:
            self._senders[name] = self.loop.run(_sender(connection, name))
            self._concurrency[name] = ConcurrencyLimit(connection.concurrency)
        cap = self.loop.run(_cap(rate_limiter))
        each = provider.rate_limit(bucket.name, connection).targets_per_call
        return BucketContext(
            *(bucket, connection, provider, self._senders[name], rate_limiter, cap, self._concurrency[name]),
            provider.overlap(bucket.name),
            each,
        )


async def _sender(connection: ConnectionSettings, name: str) -> Sender:
    return Sender(connection, provider_of(connection).auth(connection, name), name)


async def _cap(rate_limiter: RateLimiter):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return process_cap(rate_limiter.rate)


class LoopThread:
    """An event loop that runs in the background until it is closed: one for each worker process, made after the fork.

    The only arrangement of asyncio under Celery that keeps connections, works under prefork and threads and can be
    cancelled: asyncio.run for each task opens a connection for each request, a loop kept in a global breaks under
    threads. anyio's blocking portal was tried in its place: it cancels again at each `await`, so that a delivery which
    is cancelled could not wait until its own calls have ended and told what became of them.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="optrelay-loop", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop; the future may be cancelled, which cancels the coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the loop and wait for what it returns."""
        return self.start(work).result(timeout)

    def close(self) -> None:
        """Stop the loop and wait for its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self.loop.close()


_lock = threading.Lock()
_current: tuple[int, LoopThread] | None = None


def process_loop() -> LoopThread:
    """Return the loop of the process that asks; a child of a fork gets its own."""
    global _current  # noqa: PLW0603 - one for each process is the point
    with _lock:
        if _current is None or _current[0] != os.getpid():
            _current = (os.getpid(), LoopThread())
        return _current[1]
