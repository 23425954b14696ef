"""A delivery is a pipeline: its slowest call keeps no other waiting, and what it has seen does not grow old."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consent.change import Action
from consent.errors import LedgerUnavailable
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Healthy, Retry, Throttled, Unavailable
from tests.support.company import company
from tests.support.worker import BUCKET, counts, record, settled, wired
from worker.bootstrap import WorkerContext
from worker.delivery import deliver
from worker.delivery.breaker import Observations
from worker.delivery.calls import ClaimedBatch, ConcurrentCalls
from worker.delivery.concurrency import PREPARING
from worker.delivery.permits import Permit, Permits
from worker.delivery.results import TaskResult
from worker.process import is_stopping, note_stopping
from worker.providers.contract import Answer, Plan, Reply, Request
from worker.ratelimit.limiter import Reservation

SLOW_SECONDS = 8.0


@pytest.mark.waits
def test_the_slowest_call_keeps_no_newcomer_waiting(tmp_path: Path) -> None:
    """A provider takes seconds over one customer; those who come meanwhile wait for the end of the delivery."""
    with company(tmp_path) as shop, wired(shop, tmp_path, timeout=20.0, reservation_seconds=0.2) as parts:
        shop.fault(kind="latency", users=["1"], delay=SLOW_SECONDS)
        slow, done = record(parts, {"user_id": "1"}), threading.Event()
        delivery = parts.delivery(BUCKET, lambda: not done.is_set())
        runs = threading.Thread(target=delivery.run)
        runs.start()
        started = time.monotonic()

        wait_until(lambda: shop.stats()["calls"] == 1)
        quick = record(parts, {"user_id": "2"}, {"user_id": "3"})
        wait_until(settled(parts, quick))
        took = time.monotonic() - started
        pending = counts(parts, slow)
        done.set()
        runs.join()

        assert (counts(parts, quick), pending) == ({"applied": 2}, {"pending": 1})
        assert took < SLOW_SECONDS
        assert counts(parts, slow) == {"applied": 1}


def wait_until(holds, seconds: float = 20.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_delivery_that_may_go_on_delivers_all_that_is_due(tmp_path: Path) -> None:
    """Sixty customers in batches of ten, in windows of a tenth of a second: one delivery, and each is called once."""
    with company(tmp_path) as shop, wired(shop, tmp_path, batch_customers=10, reservation_seconds=0.1) as parts:
        shop.fault(kind="latency", delay=0.1)
        import_id, windows = record(parts, *({"user_id": str(n)} for n in range(1, 61))), []

        def goes_on() -> bool:
            windows.append(1)
            return True

        assert parts.delivery(BUCKET, goes_on).run() is False

        assert counts(parts, import_id) == {"applied": 60}
        assert shop.stats()["calls"] == 60
        assert windows


def test_no_delivery_goes_on_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery would kill a delivery that always finds more to do, and its answers were lost."""
    monkeypatch.setattr(deliver, "LONGEST_SECONDS", 0.0)
    with company(tmp_path) as shop, wired(shop, tmp_path, batch_customers=1, reservation_seconds=0.1) as parts:
        shop.fault(kind="latency", delay=0.05)
        record(parts, *({"user_id": str(n)} for n in range(1, 200)))

        assert parts.delivery(BUCKET, lambda: True).run() is True


def test_a_new_window_begins_without_evidence() -> None:
    """That customers were served a minute ago does not prove that the provider works now."""
    seen = Observations()
    seen.note(Healthy(), [1], served=[1], at=5)
    seen.note(Unavailable("no answer"), [2])

    seen.begin_window()

    assert (seen.proven, seen.failures, seen.suspects, seen.last_served) == (False, 0, {}, None)


def test_what_stops_a_delivery_is_not_forgotten_with_the_window() -> None:
    """A 429 that comes at the very end of a window ends the delivery all the same."""
    seen = Observations()
    seen.note(Throttled("too many"), [1])

    seen.begin_window()

    assert seen.stop
    assert seen.throttled is not None


def test_a_pool_learns_that_its_worker_ends() -> None:
    """Ctrl-C would wait for half a minute: only the parent is told, and its processes go on claiming."""
    child = os.fork()
    if not child:
        try:
            wait_until(is_stopping)
            os._exit(0)
        finally:
            os._exit(1)
    other = os.fork()
    if not other:
        note_stopping()
        os._exit(0)
    os.waitpid(other, 0)
    _, status = os.waitpid(child, 0)
    note_stopping(asked=False)

    assert os.waitstatus_to_exitcode(status) == 0


def test_a_delivery_that_fails_keeps_no_place_of_a_call_that_has_not_begun(tmp_path: Path) -> None:
    """The limit outlives the delivery: a place that was lost would be missing until the process ends."""
    with company(tmp_path) as shop, wired(shop, tmp_path) as parts:

        def fail(_: object) -> None:
            calls.add(claimed(1))
            raise LedgerUnavailable("away")

        calls = calls_of(parts, fail)

        async def story() -> None:
            calls.add(claimed(1))
            await calls.run()

        with pytest.raises(ExceptionGroup):
            parts.loop.run(story(), timeout=10)
        assert calls.context.concurrency.in_use == 0


def test_what_may_not_be_sent_any_more_holds_no_one_up(tmp_path: Path) -> None:
    """Hundreds wait when a delivery is stopped: the event loop, which others use too, goes on between them."""
    with company(tmp_path) as shop, wired(shop, tmp_path) as parts:
        rounds: Counter[int] = Counter()
        calls, round_ = calls_of(parts, lambda _: rounds.update([round_]), stopped=True), 0

        async def story() -> None:
            nonlocal round_
            calls.add(claimed(300))
            calls.add(None)
            running = asyncio.ensure_future(calls.run())
            while not running.done():
                round_ += 1
                await asyncio.sleep(0)

        parts.loop.run(story(), timeout=10)
        assert rounds.total() == 300
        assert max(rounds.values()) <= PREPARING


def test_the_last_of_calls_that_end_together_looks_for_a_witness(tmp_path: Path) -> None:
    """Two calls fail in the same moment: the second one is the last, and finds out whether the provider works."""
    with company(tmp_path) as shop, wired(shop, tmp_path) as parts:
        calls, asked = calls_of(parts, lambda _: None), []
        failed = Retry("bad", "a bad answer", counts=True)
        context: Any = calls.context
        context.provider = SimpleNamespace(
            read=lambda request, *_: Answer(Healthy(), {change.id: failed for change in request.changes})
        )
        unused: Any = SimpleNamespace(witness=lambda one: asked.append(one.task.target_id))
        calls.retries = unused

        async def story() -> None:
            both = asyncio.Event()

            async def send(_request: Request, permit: Permit) -> Reply:
                assert permit.is_now()
                started.append(1)
                if len(started) == 2:
                    asyncio.get_running_loop().call_later(0.01, both.set)
                await both.wait()
                return Reply(500, "")

            started: list[int] = []
            context.sender = SimpleNamespace(preconnected=nullcontext(), send=send)
            calls.add(claimed(2))
            calls.add(None)
            await calls.run()

        parts.loop.run(story(), timeout=10)
        assert len(asked) == 1


@pytest.mark.parametrize(("method", "was_sent", "noted"), [
    ("POST", True, (1, True)),
    ("POST", False, (0, False)),
    ("GET", True, (1, False)),
])  # fmt: skip
def test_a_call_that_is_cut_off_is_in_doubt_only_if_it_can_still_be_done(
    tmp_path: Path, method: str, noted: tuple[int, bool], *, was_sent: bool
) -> None:
    """A delivery fails while a call waits for its connection: no one was called, and the customer may be at once."""
    with company(tmp_path) as shop, wired(shop, tmp_path) as parts:
        results: list[TaskResult] = []
        calls = calls_of(parts, results.append)
        context: Any = calls.context

        async def story() -> None:
            under_way = asyncio.Event()

            async def send(_request: Request, permit: Permit) -> None:
                permit.was_used = was_sent
                under_way.set()
                await asyncio.Event().wait()

            context.sender = SimpleNamespace(preconnected=nullcontext(), send=send)
            calls.add(claimed(1, method))
            running = asyncio.ensure_future(calls.run())
            await under_way.wait()
            running.cancel()
            await asyncio.wait([running])

        parts.loop.run(story(), timeout=10)
        [one] = results
        assert (len(one.attempts), one.in_doubt) == noted


def test_a_ledger_that_is_away_at_the_end_of_a_window_cuts_no_call_off(tmp_path: Path) -> None:
    """Whether others wait for the process stands in the ledger too: a delivery that cannot ask ends in good order."""
    with company(tmp_path) as shop, wired(shop, tmp_path, reservation_seconds=0.1) as parts:
        shop.fault(kind="latency", delay=1.0)
        import_id = record(parts, {"user_id": "1"}, {"user_id": "2"})

        def goes_on() -> bool:
            raise LedgerUnavailable("it is being restarted")

        parts.delivery(BUCKET, goes_on).run()

        assert counts(parts, import_id) == {"applied": 2}
        assert shop.stats()["calls"] == 2


def test_a_call_that_has_not_told_its_end_is_not_untried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is so busy that an interrupted delivery does not hear of its calls: they may have been made."""
    with company(tmp_path) as shop, wired(shop, tmp_path) as parts:
        shop.fault(kind="latency", delay=2)
        record(parts, {"user_id": "1"})

        def interrupted(*_: object, **__: object) -> None:
            wait_until(lambda: shop.stats()["calls"] == 1)
            parts.loop.loop.call_soon_threadsafe(time.sleep, 1.0)
            raise KeyboardInterrupt

        monkeypatch.setattr(deliver, "_UNWINDING_SECONDS", 0.05)
        monkeypatch.setattr(deliver, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            parts.delivery(BUCKET).run()

        assert parts.ledger.queue.due(BUCKET, 1) == 0


def calls_of(parts: WorkerContext, report: Callable[[Any], None], *, stopped: bool = False) -> ConcurrentCalls:
    """The calls of a delivery on their own, without ledger and fuses."""
    context, aside = parts.bucket_context(BUCKET), SimpleNamespace(holds=lambda _: False, note=lambda _: None)
    unused: Any = aside
    permits = Permits(context, lambda: stopped)
    return ConcurrentCalls(context, permits, Observations(), unused, unused, unused, parts.ledger.now, report)


def change_of(number: int) -> ClaimedChange:
    """A change of a customer."""
    return ClaimedChange(number, "an-import", "EMAIL|BULK", Action.OPTOUT, number, {})


def claimed(count: int, method: str = "GET") -> ClaimedBatch:
    """A batch of so many customers, each of which is read, or called in another way."""
    tasks = [CustomerTask(number, {"user_id": str(number)}, (change_of(number),)) for number in range(1, count + 1)]
    series = tuple((Request(method, f"/v2/customers/{one.target_id}", (one,), one.changes),) for one in tasks)
    return ClaimedBatch(tasks, Plan(series, {}), Reservation(), time.monotonic() + 60)
