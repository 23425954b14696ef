"""The provider's limit over several processes, on a real server."""

from __future__ import annotations

import multiprocessing
import time
from bisect import bisect_left
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from consent.broker.wakeups import redis_client
from consent.change import Bucket
from consent.connection import parse_rate
from console.local.broker import LocalBroker
from worker.ratelimit import limiter as limiter_module
from worker.ratelimit.limiter import FEW, LATE_CALLS, RateLimiter


@pytest.fixture
def broker(tmp_path: Path):
    """A server of this test's own."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    yield broker
    broker.stop()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose no permits to a late reply: on a busy machine one or the other is late, and these tests count permits."""
    monkeypatch.setattr(limiter_module, "_LATE_REPLY_SECONDS", 5.0)


def rate_limiter(broker_url: str, rate: str, process: str, processes: int = 1) -> RateLimiter:
    """One process's view of the shared limiter."""
    return RateLimiter(redis_client(broker_url), Bucket("capillary"), parse_rate(rate), process, 2.0, 4, processes)


def call_for(seconds: float, url: str, rate: str, process: str, found) -> None:
    """Reserve permits and use each at its moment or not at all, as a delivery does."""
    limiter = rate_limiter(url, rate, process)
    end, moments = time.monotonic() + seconds, []
    while time.monotonic() < end:
        reservation = limiter.reserve(25)
        if not reservation.moments:
            time.sleep(0.1)
        for moment in reservation.moments:
            time.sleep(max(0.0, moment - time.monotonic()))
            if (now := time.monotonic()) <= moment + reservation.late:
                moments.append(now)
    found.put(moments)


def worst_window(moments: list[float], seconds: float) -> int:
    """The most calls in any window of this length."""
    ordered = sorted(moments)
    return max(bisect_left(ordered, start + seconds) - n for n, start in enumerate(ordered))


@pytest.mark.pace
def test_four_processes_share_one_limit(broker: LocalBroker) -> None:
    """Four processes at 50 a second never make more than 50 calls in any second, and use at least 95 of 100 permits."""
    rate_limiter(broker.url, "50/second", "first").prime()
    fork = multiprocessing.get_context("fork")  # each uses a connection of its own
    found = fork.Queue()
    processes = [fork.Process(target=call_for, args=(4.0, broker.url, "50/second", f"p{n}", found)) for n in range(4)]
    for process in processes:
        process.start()
    moments = sorted(moment for _ in processes for moment in found.get(timeout=30))
    for process in processes:
        process.join()

    busy = [moment for moment in moments if moments[0] + 1 <= moment <= moments[0] + 3]

    assert worst_window(moments, 1.0) <= 51
    assert len(busy) >= 0.95 * 50 * 2


@pytest.mark.usefixtures("patient")
def test_an_unused_slot_is_given_back(broker: LocalBroker) -> None:
    """Slots that a delivery reserved and found no work for are there for the next one."""
    limiter = rate_limiter(broker.url, "10/second", "one")
    limiter.prime()
    first = limiter.reserve(10)

    limiter.give_back(first, 9)

    assert len(first.moments) == 1
    assert len(limiter.reserve(10).moments) >= 9


@pytest.mark.usefixtures("patient")
def test_slots_behind_someone_elses_are_not_given_back(broker: LocalBroker) -> None:
    """What another process has reserved since stays where it is: no two calls get one moment."""
    one, two = rate_limiter(broker.url, "10/second", "one"), rate_limiter(broker.url, "10/second", "two")
    one.prime()
    first = one.reserve(5)
    second = two.reserve(5)

    one.give_back(first, 5)

    third = two.reserve(5)
    assert third.moments[0] >= second.moments[-1] + 0.09


@pytest.mark.usefixtures("patient")
def test_a_wiped_server_starts_behind_what_may_have_been_reserved(broker: LocalBroker) -> None:
    """Five calls are allowed in ten seconds and six are made, because a broker that was wiped begins too early."""
    limiter = rate_limiter(broker.url, "10/second", "one")
    limiter.prime()
    last = limiter.reserve(100).moments[-1]
    limiter.store.flushall()

    first = first_moment(limiter)

    assert last + limiter.interval - 0.02 <= first <= last + limiter.reservation_seconds + 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("first", ["reserve", "soonest", "push"])
def test_a_server_whose_clock_is_set_back_gives_permits_as_before(broker: LocalBroker, first: str) -> None:
    """A replica takes over whose clock is two hours behind, and no opt-out is delivered for two hours."""
    limiter = rate_limiter(broker.url, "10/second", "one")
    limiter.prime()
    last = limiter.reserve(100, "killed", 60.0).moments[-1]
    tat, deliveries, _, _, clock = limiter._keys()
    for key in (tat, clock):  # what a server keeps can be set, its clock cannot
        limiter.store.set(key, int(limiter.store.get(key)) + 7_200_000_000)
    limiter.store.zadd(deliveries, {f"killed {n}": (time.time() + 7_200) * 1e6 for n in range(4)})

    match first:
        case "soonest":
            assert limiter.soonest() <= limiter.reservation_seconds + limiter.interval
            assert limiter.deliveries() == 0
        case "push":
            limiter.push(30)
            assert 29 < limiter.soonest() <= 30
            return
    assert last + limiter.interval - 0.02 <= first_moment(limiter) <= last + limiter.reservation_seconds + 1
    assert limiter.reserve(1, "another").crowded is False


def first_moment(limiter: RateLimiter) -> float:
    """The moment of the next slot that is to be had."""
    end = time.monotonic() + 30
    while not (found := limiter.reserve(1).moments):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found[0]


@pytest.mark.usefixtures("patient")
def test_throttling_seen_by_one_slows_all(broker: LocalBroker) -> None:
    """When one process is told to wait, no other gets a slot before then."""
    one, two = rate_limiter(broker.url, "10/second", "one"), rate_limiter(broker.url, "10/second", "two")
    one.prime()

    one.push(30)

    assert not two.reserve(5).moments


class Late(redis.Redis):
    """A client whose process waits for its turn before it reads a reply, as on a machine that is busy."""

    late = 0.0

    def eval(self, *arguments):
        """Run a script."""
        answer = super().eval(*arguments)
        time.sleep(self.late)
        return answer


@pytest.mark.usefixtures("patient")
def test_a_reply_that_is_late_moves_no_slot(broker: LocalBroker) -> None:
    """On a busy machine a second held two calls too many: some had read their slots later than others.

    Slots are reserved so far ahead that a pause of this process moves none; those of a reply that came too late to be
    believed are lost, as one slot or more between two others.
    """
    prompt, busy = rate_limiter(broker.url, "10/second", "prompt", 2), rate_limiter(broker.url, "10/second", "busy", 2)
    busy.store = Late.from_pool(redis_client(broker.url).connection_pool)
    prompt.prime()
    for _ in range(3):  # the quickest of three replies tells each process the server's clock
        before = [*prompt.reserve(2).moments, *busy.reserve(1).moments]

    busy.store.late = 0.03
    moments = [*before[-1:], *busy.reserve(3).moments, *prompt.reserve(3).moments]

    gaps = [(second - first) / prompt.interval for first, second in pairwise(moments)]
    assert len(gaps) >= 3
    assert min(gaps) > 0.9
    assert max(abs(gap - round(gap)) for gap in gaps) < 0.1


@pytest.mark.usefixtures("patient")
def test_no_more_deliveries_than_allowed(broker: LocalBroker) -> None:
    """A slow provider can hold only so many workers."""
    limiter = rate_limiter(broker.url, "1000/second", "one")
    limiter.prime()

    first = [limiter.reserve(1, f"delivery {n}") for n in range(5)]

    assert [one.crowded for one in first] == [False] * 4 + [True]

    limiter.end_delivery("delivery 0")

    assert not limiter.reserve(1, "delivery 5").crowded


@pytest.mark.usefixtures("patient")
def test_every_key_in_the_server_expires(broker: LocalBroker) -> None:
    """Nothing of ours stays in Redis for ever."""
    limiter = rate_limiter(broker.url, "10/second", "one")
    limiter.prime()
    limiter.reserve(1, "delivery")
    limiter.push(1)

    lives = [limiter.store.ttl(key) for key in limiter.store.scan_iter("*")]
    assert len(lives) == 4
    assert min(lives) > 0


@pytest.mark.usefixtures("patient")
def test_a_permit_is_used_late_only_where_no_window_can_notice(broker: LocalBroker) -> None:
    """At a low limit a slot lapses within milliseconds; at one that no one reaches, a few are within the margin."""
    low, high = rate_limiter(broker.url, "500/second", "one"), rate_limiter(broker.url, "100000/second", "one")
    low, high = replace(low, concurrency=8), replace(high, concurrency=8)
    low.prime()

    assert low.spare_calls == 0
    assert 0.005 <= low.reserve(1).late <= low.tolerance == pytest.approx(0.01)
    assert high.max_deliveries * ((2 + 1 / FEW) * high.spare_calls + high.concurrency) <= LATE_CALLS * 100_000
    assert high.reserve(high.spare_calls).late == high.reservation_seconds
    assert high.reserve(high.spare_calls + 1).late <= high.tolerance


@pytest.mark.usefixtures("patient")
def test_what_is_left_of_a_window_is_not_used_late(broker: LocalBroker) -> None:
    """Who asks for many and gets a few asks again soon: many such parts are more than windows have room for."""
    high = replace(rate_limiter(broker.url, "100000/second", "one"), concurrency=8)
    parts = []
    for _ in range(50):
        high.push(high.reservation_seconds)
        parts.append(high.reserve(20 * high.spare_calls))

    few = [one for one in parts if 0 < len(one.moments) <= high.spare_calls]
    assert few
    assert max(one.late for one in few) <= high.tolerance


@pytest.mark.usefixtures("patient")
def test_a_slow_limits_slots_keep_as_long_as_its_windows_allow(broker: LocalBroker) -> None:
    """At 10,000 a day half a percent of the window is minutes: a slot is not lost over a second."""
    assert rate_limiter(broker.url, "10000/day", "one").reserve(1).late > 60
