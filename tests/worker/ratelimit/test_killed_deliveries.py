"""The places of deliveries: a killed one blocks its bucket for seconds, not for as long as a call may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.broker.wakeups import redis_client
from consent.change import Bucket
from consent.connection import parse_rate
from console.local.broker import LocalBroker
from worker.ratelimit import limiter
from worker.ratelimit.limiter import RateLimiter


@pytest.fixture
def rate_limiter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RateLimiter]:
    """A bucket with room for one delivery, whose place lasts for half a second."""
    monkeypatch.setattr(limiter, "PLACE_SECONDS", 0.5)
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    store = redis_client(broker.url)
    made = RateLimiter(store, Bucket("capillary"), parse_rate("1000/second"), "here", 2.0, max_deliveries=1)
    made.prime()
    yield made
    store.close()
    broker.stop()


def test_the_place_of_a_killed_delivery_is_free_soon(rate_limiter: RateLimiter) -> None:
    """No one says that it is still there, so another delivery may begin."""
    assert rate_limiter.reserve(1, "killed", 0.5).moments
    assert rate_limiter.reserve(1, "next", 0.5).crowded

    time.sleep(0.6)

    assert rate_limiter.reserve(1, "next", 0.5).moments


def test_a_delivery_that_says_so_keeps_its_place(rate_limiter: RateLimiter) -> None:
    """However long its calls take; once it has lost its place it does not take it back from another."""
    assert rate_limiter.reserve(1, "long", 0.5).moments
    for _ in range(3):
        time.sleep(0.3)
        rate_limiter.keep_delivery("long")
    assert rate_limiter.reserve(1, "next", 0.5).crowded

    time.sleep(0.6)
    assert rate_limiter.reserve(1, "next", 0.5).moments
    rate_limiter.keep_delivery("long")

    assert rate_limiter.deliveries() == 1
