"""What processes give themselves while Redis is away: together they keep the limit, also as it goes and comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from consent.broker.wakeups import redis_client
from consent.change import Bucket
from consent.connection import parse_rate
from consent.ledger.ledger import Ledger
from console.local.broker import LocalBroker
from sandbox.rate import worst_window
from worker.ratelimit import limiter as limiters
from worker.ratelimit.limiter import RateLimiter


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A server of this test's own."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    yield broker
    broker.stop()


def rate_limiter(broker_url: str, rate: str, process: str, processes: int = 1) -> RateLimiter:
    """One process's view of the shared limiter."""
    return RateLimiter(redis_client(broker_url), Bucket("capillary"), parse_rate(rate), process, 2.0, 4, processes)


def test_without_redis_each_process_keeps_to_its_share(broker: LocalBroker) -> None:
    """Four processes that lose the server each make a quarter of the calls, after a pause."""
    limiters = [rate_limiter(broker.url, "40/second", f"p{n}") for n in range(4)]
    limiters[0].prime()
    for limiter in limiters:
        limiter.reserve(1)
    for limiter in limiters:
        limiter.reserve(1)
    broker.stop()

    started, moments = time.monotonic(), []
    while time.monotonic() < started + 3.5 or not moments:
        for limiter in limiters:
            moments.extend(limiter.reserve(20).moments)
        time.sleep(0.05)

    assert min(moments) >= started + 1.9
    assert worst_window(sorted(moments), 1.0) <= 44


def test_a_process_that_was_told_to_wait_leaves_others_their_slots_all_the_same(broker: LocalBroker) -> None:
    """The server is lost after a short 429: what another process has reserved lies behind that, and is used."""
    one, other = rate_limiter(broker.url, "40/second", "one"), rate_limiter(broker.url, "40/second", "other")
    one.prime()
    one.reserve(1)
    last = max(other.reserve(80).moments)
    one.push(0.1)
    broker.stop()

    moments = []
    while not moments:
        moments = list(one.reserve(20).moments)
        time.sleep(0.05)

    assert moments[0] > last


class Away(redis.Redis):
    """A server that cannot be reached at the moment."""

    def eval(self, *_):
        """Run no script."""
        raise redis.ConnectionError


def test_a_server_that_is_back_gives_slots_behind_those_that_a_process_has_given_itself(broker: LocalBroker) -> None:
    """A process could not reach it for a moment: what it took for itself is used yet, and by no other beside it."""
    one, other = (rate_limiter(broker.url, "40/second", name, 2) for name in ("one", "other"))
    one.prime()
    there, one.store = one.store, Away()
    own = some(one)
    one.store = there
    one.reserve(1)
    found = some(other)
    one.store = Away()

    assert min(found) > own[-1]
    assert min(some(one)) > found[-1]


def some(limiter: RateLimiter) -> list[float]:
    """Reserve permits until there are some."""
    while not (found := list(limiter.reserve(20).moments)):
        time.sleep(0.05)
    return found


def test_two_threads_give_themselves_no_moment_twice(broker: LocalBroker, ledger: Ledger) -> None:
    """A delivery reserves for its next batch while a call of it reserves: each has to write into the ledger first."""
    limiter = rate_limiter(broker.url, "40/second", "one")
    limiter.prime()
    limiter.write_into(ledger)
    limiter.reserve(1)
    broker.stop()
    limiter.reserve(1)  # now it knows that the server is away

    started, moments = time.monotonic(), []
    with ThreadPoolExecutor(4) as threads:
        while time.monotonic() < started + 3.5:
            for found in threads.map(limiter.reserve, [10] * 4):
                moments.extend(found.moments)
            time.sleep(0.03)

    assert len(moments) > 40
    assert len(set(moments)) == len(moments)
    assert worst_window(sorted(moments), 1.0) <= 44


def test_of_two_waits_that_are_asked_for_at_once_the_longer_one_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call that draws a 429 pushes, in a thread of its own: the shorter one came in between, and was the last."""
    limiter, monotonic = rate_limiter("redis://localhost:1/0", "40/second", "one"), time.monotonic
    limiter.store = Away()
    begun = threading.Event()

    def paused() -> float:
        if threading.current_thread().name.startswith("short"):
            begun.set()
            time.sleep(0.2)
        return monotonic()

    monkeypatch.setattr(limiters.time, "monotonic", paused)
    with ThreadPoolExecutor(thread_name_prefix="short") as threads:
        pushed = threads.submit(limiter.push, 1.0)
        begun.wait(10)
        limiter.push(60.0)
        pushed.result()

    assert limiter._alone.pushed > monotonic() + 50
