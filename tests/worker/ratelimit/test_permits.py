"""The permits that one delivery holds: enough that no call waits for them, never so many that a window could notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.connection import Rate
from tests.support.company import company
from tests.support.worker import BUCKET, wired
from worker.delivery.bucket_context import BucketContext
from worker.delivery.loop import LoopThread
from worker.ratelimit.limiter import FEW


@pytest.fixture
def unbound(tmp_path: Path) -> Iterator[tuple[BucketContext, LoopThread]]:
    """A connection whose provider allows more than this process can do."""
    with company(tmp_path) as shop, wired(shop, tmp_path) as parts:
        connection = parts.bucket_context(BUCKET)
        connection.rate_limiter.rate = Rate(100_000, 1.0)
        connection.process_cap.max_rate = 100_000
        connection.call_seconds = 0.05
        yield connection, parts.loop


def test_slots_are_asked_for_before_they_run_out(unbound: tuple[BucketContext, LoopThread]) -> None:
    """Where permits may be used late, more are reserved while some are left, and no more than windows have room."""
    connection, loop = unbound
    permits, spare = connection.permits(lambda: False), connection.rate_limiter.spare_calls
    held = []

    async def take_all(count: int) -> None:
        deadline = time.monotonic() + 10
        for left in range(count, 0, -1):
            assert await permits.take(deadline, left) is not None
            held.append(len(permits.held))
            await asyncio.sleep(0.001)  # a call
        await permits.aclose()

    loop.run(take_all(10 * spare), timeout=20)

    assert held.count(0) < 5
    assert max(held) <= spare * (1 + 1 / FEW)


def test_a_delivery_that_ends_reserves_no_more(unbound: tuple[BucketContext, LoopThread]) -> None:
    """What was being reserved when a delivery ended is given up, and nothing stays behind in the event loop."""
    connection, loop = unbound
    permits = connection.permits(lambda: False)

    async def take_some() -> None:
        for left in range(200, 200 - connection.rate_limiter.spare_calls, -1):
            await permits.take(time.monotonic() + 10, left)
        await permits.aclose()

    loop.run(take_some(), timeout=20)

    held = len(permits.held)
    time.sleep(0.05)
    assert len(permits.held) == held
