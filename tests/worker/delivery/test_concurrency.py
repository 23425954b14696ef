"""How many calls are under way at once, against providers of every kind, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections.abc import Callable
from itertools import count

import pytest

from worker.delivery.concurrency import ConcurrencyLimit

Provider = Callable[[random.Random, int, float], tuple[float, bool]]
"""Given how many calls are under way, and the moment: after how many seconds the answer comes, and whether it fails."""


def steady(seconds: float) -> Provider:
    """Answers after the same time, whatever is asked of it."""
    return lambda _odds, _calls, _now: (seconds, False)


def lognormal(median: float, p99: float) -> Provider:
    """Answers mostly soon, and now and then late."""
    spread = math.log(p99 / median) / 2.326
    return lambda odds, _calls, _now: (odds.lognormvariate(math.log(median), spread), False)


def pushed(seconds: float, best: int) -> Provider:
    """Serves `best` calls at once; of more, fewer are served: each of them takes longer by more than its share."""
    return lambda odds, calls, _now: (seconds * odds.uniform(0.9, 1.1) * max(1.0, calls / best) ** 2, False)


def failing(seconds: float, share: float) -> Provider:
    """Fails a share of the calls, however few there are."""
    return lambda odds, _calls, _now: (seconds, odds.random() < share)


def delivered(limit: ConcurrencyLimit, provider: Provider, rate: float, until: float, since: float) -> float:
    """Return the calls a second that were answered well between two moments, where `rate` a second are allowed."""
    odds, now, well, under_way, numbers = random.Random(1), 0.0, 0, [], count()
    clock = [0.0]
    limit.clock = lambda: clock[0]
    limit._began, limit._probe_at = 0.0, 3.0
    while now < until:
        now += 1 / rate
        while under_way and under_way[0][0] <= now:
            ends, _, began, failed = heapq.heappop(under_way)
            clock[0] = ends
            limit.end(began, failed=failed)
            well += not failed and ends >= since
        clock[0] = now
        if limit.calling < int(limit.limit):
            began = limit.begin()
            seconds, failed = provider(odds, len(under_way) + 1, now)
            heapq.heappush(under_way, (now + seconds, next(numbers), began, failed))
    return well / (until - since)


@pytest.mark.parametrize("rate", [25, 100, 500])
@pytest.mark.parametrize(
    "provider", [steady(0.02), steady(0.15), steady(0.5), lognormal(0.15, 1.2)], ids=["20", "150", "500", "lognormal"]
)
def test_the_allowed_rate_is_used_at_any_latency(provider: Provider, rate: int) -> None:
    """A process makes its share of the calls, from ten seconds after it began, whatever a call takes."""
    assert delivered(ConcurrencyLimit(400), provider, rate, until=40, since=10) >= 0.97 * rate


def test_no_more_calls_than_needed_are_under_way() -> None:
    """At 100 a second and 150 ms a call, 15 are under way; the limit does not grow without need."""
    limit = ConcurrencyLimit(400)

    delivered(limit, steady(0.15), 100, until=60, since=10)

    assert 15 <= limit.limit <= 64


@pytest.mark.parametrize("best", [5, 10, 50])
def test_a_provider_that_slows_down_if_pushed_is_not_pushed(best: int) -> None:
    """At least 80 % of the most that it can serve is served, though far more would be allowed."""
    found = delivered(ConcurrencyLimit(400), pushed(0.1, best), 5_000, until=120, since=20)

    assert found >= 0.8 * best / 0.1


def test_calls_that_fail_whatever_we_do_do_not_stop_the_others() -> None:
    """One call in five fails: the others use what they need, because fewer calls at once do not help."""
    assert delivered(ConcurrencyLimit(400), failing(0.15, 0.2), 100, until=60, since=20) >= 0.97 * 0.8 * 100


def test_a_provider_that_fails_every_call_is_left_nearly_alone() -> None:
    """Where nothing but failures comes back, few calls at once go out."""
    limit = ConcurrencyLimit(400, limit=300)

    delivered(limit, failing(0.05, 1.0), 1_000, until=10, since=0)

    assert limit.limit <= 2


def test_a_provider_that_is_slower_for_good_is_used_as_before() -> None:
    """Latency goes from 100 to 400 ms and stays: that is no overload, and the limit grows to what is needed then."""
    later = lambda _odds, _calls, now: (0.1 if now < 30 else 0.4, False)  # noqa: E731

    assert delivered(ConcurrencyLimit(400), later, 200, until=120, since=70) >= 0.97 * 200


def test_a_setting_caps_it() -> None:
    """CONCURRENCY is the most, even if more would be of use."""
    limit = ConcurrencyLimit(20)

    delivered(limit, steady(0.5), 1_000, until=20, since=0)

    assert limit.limit == 20


def test_who_waits_goes_on_when_there_is_room() -> None:
    """A call that ends lets the next one begin; one that is given up while it waits takes nothing with it."""

    async def story() -> None:
        limit = ConcurrencyLimit(1)
        await limit.acquire()
        first, second = asyncio.create_task(limit.acquire()), asyncio.create_task(limit.acquire())
        await asyncio.sleep(0)
        limit.release()
        first.cancel()
        await asyncio.wait([first])
        await asyncio.wait_for(second, 1)
        assert limit.in_use == 1

    asyncio.run(story())


def test_a_place_is_kept_until_someone_else_waits_for_it() -> None:
    """A delivery goes on in the place of a call that has ended, but not before another one that waits its turn."""

    async def story() -> None:
        limit = ConcurrencyLimit(2, limit=2)
        await limit.acquire()
        await limit.acquire()
        assert limit.may_keep(asks=False)
        own = asyncio.create_task(limit.acquire())
        await asyncio.sleep(0)
        assert limit.may_keep(asks=True)
        other = asyncio.create_task(limit.acquire())
        await asyncio.sleep(0)
        assert not limit.may_keep(asks=True)
        assert not limit.may_keep(asks=False)
        limit.release()
        limit.release()
        await asyncio.wait([own, other], timeout=1)
        limit.limit = 1.0
        assert not limit.may_keep(asks=False)

    asyncio.run(story())


def test_no_one_overtakes_who_waits() -> None:
    """A place that becomes free belongs to who has waited for it longest, even if another asks just before."""

    async def story() -> None:
        limit, order = ConcurrencyLimit(1), []

        async def use(name: str) -> None:
            await limit.acquire()
            order.append(name)

        await limit.acquire()
        waiting = [asyncio.create_task(use(name)) for name in ("first", "second")]
        await asyncio.sleep(0)
        late = asyncio.create_task(use("late"))  # it comes before the first one wakes up
        limit.release()
        await asyncio.sleep(0)
        for _ in waiting:
            limit.release()
            await asyncio.sleep(0)
        await asyncio.wait_for(late, 1)
        assert (order, limit.in_use) == (["first", "second", "late"], 1)

    asyncio.run(story())


def test_a_place_that_was_handed_over_to_one_who_gave_up_goes_to_the_next() -> None:
    """Who is cancelled at the moment at which a place is handed over takes none with it, and nor does one before it."""

    async def story() -> None:
        limit = ConcurrencyLimit(1)
        await limit.acquire()
        first, second, third = (asyncio.create_task(limit.acquire()) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        limit.release()
        second.cancel()
        await asyncio.wait([first, second])
        await asyncio.wait_for(third, 1)
        limit.release()
        assert limit.in_use == 0
        assert limit.may_keep(asks=False)

    asyncio.run(story())
