"""What happens on a 429: for how long no process calls, and that no one dies of it."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.queue.tasks import Attempt, CustomerTask
from consent.outcome import Healthy, Throttled, Unavailable
from tests.support.clock import Clock
from tests.support.company import Company, company
from tests.support.worker import BUCKET, counts, deliveries, record, settled, wired
from worker.bootstrap import WorkerContext
from worker.delivery import breaker, throttling
from worker.delivery.breaker import Observations, RecentCustomers
from worker.delivery.results import Call
from worker.providers.contract import Answer, Request


def test_when_told_to_wait_every_process_waits(parts: WorkerContext, shop: Company) -> None:
    """After a 429 with Retry-After no call is made before that time, and what was claimed is given back."""
    shop.fault(kind="throttle", next=1, retry_after=3)
    import_id = record(parts, *({"user_id": str(n)} for n in range(1, 60)))
    started = time.monotonic()
    parts.delivery(BUCKET).run()
    calls = shop.stats()["calls"]

    while time.monotonic() < started + 2.5:
        assert not parts.delivery(BUCKET).run()
        time.sleep(0.1)

    assert shop.stats()["calls"] == calls
    deliveries(parts, settled(parts, import_id))
    assert counts(parts, import_id) == {"applied": 59}


def test_who_draws_a_429_that_names_no_time_waits_no_longer_than_the_bucket(
    parts: WorkerContext, shop: Company
) -> None:
    """The bucket was called again after two seconds, but the customers who had drawn the 429 waited for a minute."""
    shop.fault(kind="throttle", next=1)
    import_id = record(parts, *({"user_id": str(n)} for n in range(1, 30)))

    deliveries(parts, settled(parts, import_id))

    assert counts(parts, import_id) == {"applied": 29}


def test_being_told_to_wait_is_not_forgotten_over_a_lesser_trouble() -> None:
    """A provider that throttles and cuts lines at once is throttling."""
    watch = Observations()

    watch.note(Throttled(30.0), (1,))
    watch.note(Unavailable("cut"), (2,))
    watch.note(Healthy(), (3,), served=(3,))

    assert watch.stop
    assert watch.throttled == Throttled(30.0)


@pytest.mark.waits
def test_an_account_whose_limit_others_use_up_makes_no_dead_letters(tmp_path: Path) -> None:
    """Another program uses the same account: some calls are served, most draw a 429, and opt-outs were given up.

    It has done so for a while: before ten customers have drawn a 429, two tries are too few to tell whose it is, and a
    process that a busy machine lets make a few calls only may not have come so far.
    """
    with company(tmp_path, rate="4/second", retry_after=True) as shop, wired(shop, tmp_path, max_attempts=2) as parts:
        parts._recent[BUCKET].note(range(-60, 0), served=False)
        import_id = record(parts, *({"user_id": str(number)} for number in range(1, 61)))
        until = time.monotonic() + 12
        while time.monotonic() < until and not settled(parts, import_id)():
            if not parts.delivery(BUCKET).run():
                time.sleep(0.05)

        assert [letter.code for letter in parts.ledger.dead_letters.find(DeadLetterFilter())] == []
        assert counts(parts, import_id)["applied"] > 8


def test_a_throttled_bucket_waits_for_the_longest_time_asked(books: Ledger, clock: Clock) -> None:
    """A shorter wait that is asked for later does not end a longer one."""
    throttling.throttle(books, BUCKET, 60)
    throttling.throttle(books, BUCKET, 5)
    found = books.breakers.health_of(str(BUCKET))

    assert found.throttled_until == clock.micros + 60_000_000
    assert not breaker.may_call(found, clock.micros)
    assert breaker.may_call(replace(found, throttled_until=0), clock.micros)


def test_waits_of_which_no_length_was_said_grow_and_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is a thirty-second part, the sixth the whole; after two calm minutes it begins anew."""
    at = 1_000.0
    monkeypatch.setattr(throttling.time, "monotonic", lambda: at)
    lately: deque[float] = deque()

    waits = [throttling._growing(lately, 64.0, 0) for _ in range(7)]
    at += 121.0
    later = throttling._growing(lately, 64.0, 0)

    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0]
    assert (later, list(lately)) == (2.0, [at])
    assert throttling._growing(deque(), 64.0, 3) == 16.0  # a probe has failed three times
    assert throttling._growing(deque(), 3.0, 0) == 1.0


def test_many_calls_that_draw_a_429_at_once_agree_on_how_long_to_wait(
    parts: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is looked at in a thread of its own: the wait doubles once for all of them, and none of them fails."""
    growing = throttling._growing
    monkeypatch.setattr(throttling, "_growing", lambda *given: (time.sleep(0.01), growing(*given))[1])
    context = parts.bucket_context(BUCKET)
    target = CustomerTask(1, {}, ())
    before = BucketHealth(str(BUCKET))
    call = Call(Request("POST", "/", (target,), ()), 0, 0.0, 429, Answer(Throttled(), {}))
    made, waits = Attempt(1, 0, 0, "write", 429, "429", ()), []
    for _ in range(3):
        context.throttled_at.extendleft([-1e9] * 2_000)  # long ago
        one = throttling.Throttling(parts.ledger, context, Observations(), before)
        with ThreadPoolExecutor(16) as threads:
            waits.append(set(threads.map(lambda _, one=one: one.slow_down(call, made, asked=False), range(64))))

    assert [len(found) for found in waits] == [1, 1, 1]
    assert len(set.union(*waits)) == 3


def test_deliveries_of_a_bucket_that_begin_together_share_what_they_see_of_its_customers(parts: WorkerContext) -> None:
    """In the pool `threads` each of the first ones had its own: of who was throttled, a part was never seen again."""
    parts.bucket_context(BUCKET)
    parts._recent.default_factory = lambda: (time.sleep(0.05), RecentCustomers())[1]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(parts.delivery, [BUCKET] * 4))

    assert len({id(one.observations.recent) for one in found}) == 1
