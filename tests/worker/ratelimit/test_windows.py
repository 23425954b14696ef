"""No window holds more calls than the limit, however late calls are against each other within what is stated."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from consent.change import Bucket
from consent.connection import Rate
from sandbox.rate import worst_window
from worker.ratelimit.limiter import RateLimiter, RedisClock

RATES = st.builds(Rate, st.integers(1, 400).map(float), st.sampled_from([1.0, 2.0, 60.0, 86_400.0]))


def limiter_of(rate: Rate) -> RateLimiter:
    """A limiter that is never asked for a permit."""
    return RateLimiter(redis.Redis(), Bucket("capillary"), rate, "here", 1.0, 4, concurrency=8)


@given(rate=RATES, lateness=st.lists(st.floats(0.0, 0.999), min_size=1, max_size=60), late_first=st.booleans())
def test_no_window_of_any_position_exceeds_the_limit(*, rate: Rate, lateness: list[float], late_first: bool) -> None:
    """A second of 1,000 calls held 1,001: late permits met prompt ones, and the margin was too small."""
    limiter = limiter_of(rate)
    count = 3 * int(rate.calls) + 2

    moments = [
        n * limiter.interval + limiter.slack * _part(lateness, n, count, late_first=late_first) for n in range(count)
    ]

    assert worst_window(sorted(moments), rate.seconds) <= rate.calls


def _part(lateness: Sequence[float], n: int, count: int, *, late_first: bool) -> float:
    """Any lateness, or the worst there is: calls that are all late, and from one moment on all prompt."""
    if late_first:
        return 0.999 if n < count // 3 else 0.0
    return lateness[n % len(lateness)]


@pytest.mark.parametrize(("calls", "seconds"), [(1, 1), (50, 1), (1000, 1), (100, 60), (100_000, 1), (10_000, 86_400)])
def test_the_margin_costs_at_most_three_calls_in_a_hundred(calls: int, seconds: int) -> None:
    """A limiter that is careful leaves the limit idle that a customer pays for."""
    limiter = limiter_of(Rate(calls, seconds))

    assert limiter.interval * limiter.rate.per_second <= 1.031
    assert limiter.tolerance < limiter.slack


def test_a_slow_first_reply_moves_no_permit() -> None:
    """The first reply of a busy broker was late by 40 ms, the next one was not: forty calls came twice as close."""
    ahead, slow = 1_000.0, 0.04

    def redis_time() -> tuple[int, int]:
        return divmod(int((time.monotonic() + ahead) * 1e6), 1_000_000)

    clock = RedisClock(cast("redis.Redis", SimpleNamespace(time=redis_time)))
    asked = time.monotonic() - slow
    stood, doubt = clock.learn(asked + ahead, asked, asked + slow, enough=0.005)

    assert doubt < 0.005
    assert stood == pytest.approx(asked, abs=0.005)
