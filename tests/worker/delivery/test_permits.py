"""What a delivery holds ahead, permits and customers: enough that no call waits, never so much that others notice."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from consent.connection import Rate
from tests.support.company import company
from tests.support.worker import BUCKET, record, wired
from worker.bootstrap import LoopThread, WorkerContext
from worker.delivery.breaker import Observations
from worker.delivery.bucket_context import BucketContext
from worker.delivery.calls import ConcurrentCalls
from worker.delivery.concurrency import PREPARING
from worker.delivery.permits import Backlog, Permit, Permits
from worker.ratelimit.limiter import FEW, Reservation


@pytest.fixture
def unbound(tmp_path: Path) -> Iterator[tuple[BucketContext, LoopThread]]:
    """A connection whose provider allows more than this process can do."""
    with company(tmp_path) as shop, wired(shop, tmp_path) as parts:
        connection = parts.bucket_context(BUCKET)
        connection.rate_limiter = replace(connection.rate_limiter, rate=Rate(100_000, 1.0))
        connection.process_cap.max_rate = 100_000
        connection.call_seconds = 0.05
        yield connection, parts.loop


class Counted(Permits):
    """Permits that know how many have been reserved."""

    reserved = 0

    def add(self, reservation: Reservation) -> None:
        """Count them as well."""
        self.reserved += len(reservation.moments)
        super().add(reservation)


@pytest.mark.parametrize(("under_way", "lasts"), [(8, 0.05), (32, 0.0075)])
def test_slots_are_asked_for_before_they_run_out(
    unbound: tuple[BucketContext, LoopThread], under_way: int, lasts: float
) -> None:
    """Where permits may be used late, more are reserved while some are left, and no more than windows have room.

    Also where some more than those could be used in time: all calls would wait for Redis, again and again.
    """
    connection, loop = unbound
    connection.concurrency.limit, connection.call_seconds = float(under_way), lasts
    permits, spare = Permits(connection, lambda: False), connection.rate_limiter.spare_calls
    held = []

    async def take_all(count: int) -> None:
        deadline = time.monotonic() + 10
        async with permits:
            for left in range(count, 0, -1):
                assert await permits.take(deadline, left) is not None
                held.append(len(permits.held))
                await asyncio.sleep(0.001)  # a call

    loop.run(take_all(10 * spare), timeout=20)

    assert held.count(0) < 5
    assert max(held) <= spare * (1 + 1 / FEW)


def test_a_slow_process_takes_few_permits_that_others_could_use(unbound: tuple[BucketContext, LoopThread]) -> None:
    """At 4,000 a second one of four processes makes 800 calls a second: it reserved eight permits for each of them."""
    connection, loop = unbound
    connection.rate_limiter = replace(connection.rate_limiter, rate=Rate(4_000, 1.0))
    connection.concurrency.limit, connection.call_seconds = 8.0, 0.01
    permits = Counted(connection, lambda: False)

    async def take_all() -> None:
        deadline = time.monotonic() + 10
        async with permits:
            for left in range(400, 0, -1):
                assert await permits.take(deadline, left) is not None
                await asyncio.sleep(0.00125)

    loop.run(take_all(), timeout=20)

    assert permits.reserved < 2_000


def test_nothing_is_reserved_behind_the_last_call(unbound: tuple[BucketContext, LoopThread]) -> None:
    """At a low limit each batch wasted the permit of another call."""
    connection, loop = unbound
    connection.rate_limiter = replace(connection.rate_limiter, rate=Rate(50, 1.0))
    permits = Counted(connection, lambda: False)

    async def take_one() -> None:
        async with permits:
            await permits.take(time.monotonic() + 10, left=1)
            await asyncio.sleep(0.1)

    loop.run(take_one(), timeout=20)

    assert permits.reserved == 1


def test_a_delivery_that_ends_reserves_no_more(unbound: tuple[BucketContext, LoopThread]) -> None:
    """What was being reserved when a delivery ended is given up, and nothing stays behind in the event loop."""
    connection, loop = unbound
    permits = Permits(connection, lambda: False)

    async def take_some() -> None:
        async with permits:
            for left in range(200, 200 - connection.rate_limiter.spare_calls, -1):
                await permits.take(time.monotonic() + 10, left)

    loop.run(take_some(), timeout=20)

    held = len(permits.held)
    time.sleep(0.05)
    assert len(permits.held) == held


def test_processes_take_turns_where_the_limit_is_high(unbound: tuple[BucketContext, LoopThread]) -> None:
    """At 1,000 a second, one process must not have to make 250 calls in a quarter of a second while others wait."""
    connection, _ = unbound
    connection.rate_limiter = limiter = replace(connection.rate_limiter, rate=Rate(1000, 1.0))
    permits = Permits(connection, lambda: False)
    connection.concurrency.limit, connection.call_seconds = 600.0, 0.5

    assert 16 <= permits.reserve_for(250) * limiter.interval * 1000 <= 5 * limiter.tolerance * 1000

    connection.rate_limiter = replace(limiter, rate=Rate(50, 1.0))

    assert permits.turn == 0
    assert permits.reserve_for(20) == 20


def test_permits_are_used_in_the_order_of_their_moments(unbound: tuple[BucketContext, LoopThread]) -> None:
    """A call reserved later permits than the delivery did, but is heard of first: the earlier ones are not lost."""
    connection, loop = unbound
    permits, now = Permits(connection, lambda: False), time.monotonic()
    permits.add(Reservation(deque([now + 0.4, now + 0.5]), late=0.2))
    permits.add(Reservation(deque([now + 0.2, now + 0.3]), late=0.2))

    async def take_all() -> list[float | None]:
        return [await permits.take(now + 5, 1) for _ in range(4)]

    assert loop.run(take_all(), timeout=20) == pytest.approx([now + 0.4, now + 0.5, now + 0.6, now + 0.7])


def test_a_harmless_read_does_not_wait_for_calls_that_hold_permits(unbound: tuple[BucketContext, LoopThread]) -> None:
    """A read has a deadline: behind calls that were waiting for a token it was not made at all."""
    connection, loop = unbound
    permits = Permits(connection, lambda: False)

    async def story() -> bool:
        deadline, backlog = time.monotonic() + 5, Backlog[object]()
        async with permits:
            holding = [Permit(permits, deadline, backlog) for _ in range(PREPARING)]
            for one in holding:
                assert await one.take()
            read = await asyncio.wait_for(Permit(permits, deadline).take(), 1)
            with holding[0], pytest.raises(TimeoutError):  # a further call waits
                await asyncio.wait_for(Permit(permits, deadline, backlog).take(), 0.05)
        return read

    assert loop.run(story(), timeout=20)


@pytest.mark.parametrize(
    ("away", "calling", "lasts", "called"),
    [
        (0.0, 32, 0.005, 0),
        (0.06, 32, 0.005, 384),
        (1.0, 32, 0.005, 500),  # of 6,400
        (1.0, 2, 0.2, 10),
        (1.0, 0, 0.0, 0),
    ],
)
def test_what_is_called_meanwhile_goes_by_the_calls_under_way(
    parts: WorkerContext, away: float, calling: int, lasts: float, called: int
) -> None:
    """A delivery claims again when no more is left than this: quick calls would use half of a batch up at once."""
    context, unused = parts.bucket_context(BUCKET), cast("Any", None)
    context.concurrency.calling, context.call_seconds = calling, lasts
    permits = Permits(context, lambda: False)
    calls = ConcurrentCalls(context, permits, Observations(), *[unused] * 5)

    assert calls.called_in(away, 500) == called


def test_a_delivery_knows_how_long_it_waits_for_its_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A settlement that took 0.4 seconds is expected again when the next batch is claimed."""
    called_in = ConcurrentCalls.called_in

    class Expected(Exception):
        pass

    def noting(calls: ConcurrentCalls, away: float, most: int) -> int:
        if away >= 0.4:
            raise Expected
        return called_in(calls, away, most)

    monkeypatch.setattr(ConcurrentCalls, "called_in", noting)
    with company(tmp_path) as shop, wired(shop, tmp_path, batch_customers=80, reservation_seconds=10) as parts:
        shop.fault(kind="latency", delay=0.4)
        record(parts, *({"user_id": str(n)} for n in range(1_001, 1_081)))
        settle = parts.ledger.queue.settle

        def settling(*given: Any) -> int:
            time.sleep(0.4)
            return settle(*given)

        monkeypatch.setattr(parts.ledger.queue, "settle", settling)
        with pytest.raises(Expected):
            parts.delivery(BUCKET, lambda: True).run()
