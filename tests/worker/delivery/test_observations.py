"""What a delivery concludes from the answers of its bucket: which customers it suspects, and when it stops calling."""

from __future__ import annotations

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from consent.change import Action
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Health, Healthy, Retry, Throttled, Unauthorized, Unavailable
from worker.delivery.breaker import FAILURES_TO_OPEN, REFUSALS_TO_STOP, Observations, RecentCustomers
from worker.delivery.results import Call, TaskResult, note_call
from worker.providers.contract import Answer, Request

DOWN, REFUSED, WELL = Unavailable("bad gateway"), Unauthorized("403"), Healthy()


def after(*answers: tuple[Health, int, bool]) -> Observations:
    """What was observed after these answers: each with the customer it is about, and whether it was served."""
    seen = Observations()
    for moment, (health, target, served) in enumerate(answers, 1):
        seen.note(health, (target,), served=(target,) if served else (), at=moment)
    return seen


@pytest.mark.parametrize(
    ("answers", "stops"),
    [
        ([], False),
        ([(DOWN, n, False) for n in range(FAILURES_TO_OPEN - 1)], False),
        ([(DOWN, n, False) for n in range(FAILURES_TO_OPEN)], True),
        ([*((DOWN, n, False) for n in range(FAILURES_TO_OPEN - 1)), (WELL, 9, True), (DOWN, 1, False)], False),
        ([(REFUSED, n, False) for n in range(REFUSALS_TO_STOP - 1)], False),
        ([(REFUSED, n, False) for n in range(REFUSALS_TO_STOP)], True),
        ([*((REFUSED, n, False) for n in range(REFUSALS_TO_STOP - 1)), (WELL, 9, True), (REFUSED, 1, False)], False),
        ([*((REFUSED, n, False) for n in range(REFUSALS_TO_STOP - 1)), (WELL, 9, False), (REFUSED, 1, False)], True),
        ([(Throttled(), 1, False)], True),
        ([(WELL, 1, True)] * 20, False),
    ],
)
def test_a_delivery_stops_calling(answers: list[tuple[Health, int, bool]], *, stops: bool) -> None:
    """Failures count in a row; a refusal is forgotten once a customer is served; one 429 is enough."""
    assert after(*answers).stop is stops


def test_a_bucket_that_is_unfit_is_not_called() -> None:
    """No credentials, or none that can be used."""
    assert Observations(unfit=REFUSED).stop


@pytest.mark.parametrize(
    ("answers", "suspects"),
    [
        ([(DOWN, 1, False), (REFUSED, 2, False)], {1: DOWN, 2: REFUSED}),
        ([(DOWN, 1, False), (REFUSED, 2, False), (WELL, 3, True)], {}),
        ([(DOWN, 1, False), (WELL, 1, True)], {1: DOWN}),
        ([(DOWN, 1, False), (WELL, 3, False)], {1: DOWN}),
        ([(Throttled(), 1, False)], {1: Unavailable("throttled")}),
    ],
)
def test_another_customer_who_is_served_clears_the_suspects(
    answers: list[tuple[Health, int, bool]], suspects: dict[int, Health]
) -> None:
    """A bad answer is at first only what one customer drew."""
    assert after(*answers).suspects == suspects


def test_what_is_a_customers_own_says_nothing_of_the_bucket() -> None:
    """Once the last suspect is excused, its failures count no more."""
    seen = after(*((DOWN, target, False) for target in (1, 2, 1, 2)))

    seen.excuse(1)
    assert seen.failures == 4
    seen.excuse(2)
    assert (seen.failures, seen.suspects, seen.stop) == (0, {}, False)


def test_the_customers_served_last_are_witnesses() -> None:
    """The two whose calls began last are kept: one of them is another customer than the one in question."""
    seen = after((WELL, 1, True), (WELL, 2, True), (WELL, 3, True))

    assert seen.proven
    assert seen.last_served == (3, 3)
    assert seen.served_since(2, but=3)
    assert not seen.served_since(3, but=3)
    assert seen.served_since(3, but=2)
    assert not seen.served_since(4, but=2)


def test_a_read_about_another_customer_is_a_witness() -> None:
    """It proves that the bucket answers, in this window; as the customer served last it is not written down."""
    seen = after((REFUSED, 1, False))
    seen.vouch(at=5)

    assert (seen.answered, seen.proven, seen.suspects, seen.refusals) == (True, True, {}, 0)
    assert (seen.served_since(5, but=1), seen.served_since(6, but=1)) == (True, False)
    assert seen.last_served is None
    seen.begin_window()
    assert not seen.proven


def test_a_slow_call_does_not_push_out_a_witness_that_began_later() -> None:
    """Calls that began at 1 are answered after those that began at 8 and 9, also of a customer served since."""
    seen = Observations()
    for target, at in ((1, 9), (2, 8), (3, 1), (1, 1)):
        seen.note(WELL, (target,), served=(target,), at=at)

    assert seen.last_served == (1, 9)
    assert seen.served_since(8, but=1)


@pytest.mark.parametrize(
    ("throttled", "served", "mostly"),
    [(0, 0, True), (10, 0, True), (11, 0, False), (11, 32, False), (11, 33, True), (100, 300, True)],
)
def test_where_many_are_throttled_it_is_the_limit(throttled: int, served: int, *, mostly: bool) -> None:
    """Ten customers may draw a 429 of their own; beyond that, three must be served for each of them."""
    recent = RecentCustomers()
    recent.note(range(throttled), served=False)
    recent.note(range(1_000, 1_000 + served), served=True)
    recent.note([-1], served=False)

    assert recent.mostly_serves(but=-1) is mostly


@pytest.mark.parametrize(
    ("code", "in_doubt", "repeats"),
    [
        ("cut", True, True),
        ("unreadable", True, True),
        ("502", True, True),
        ("504", True, False),
        ("524", True, False),
        ("timed_out", True, False),
        ("interrupted", True, False),
        ("503", False, False),
    ],
)
def test_of_a_call_in_doubt_the_part_of_each_customer_may_be_repeated(
    code: str, *, in_doubt: bool, repeats: bool
) -> None:
    """One call for two customers ends in doubt; a customer who was not in it is in none."""
    tasks = [CustomerTask(n, {}, (of(10 * n), of(10 * n + 1))) for n in (1, 2, 3)]
    found = {task.target_id: TaskResult(task) for task in tasks}
    carried = tuple(task.changes[0] for task in tasks[:2])
    request = Request("POST", "/", tuple(tasks[:2]), carried)
    later = Retry(code, "no answer", counts=False)
    answer = Answer(WELL, {change.id: later for change in carried}, code=code)

    note_call(Call(request, 1, 0.1, None, answer, in_doubt), found)

    assert [(one.in_doubt, one.may_repeat) for one in found.values()] == [(in_doubt, repeats)] * 2 + [(False, False)]
    assert [call.change_ids for one in found.values() for call in one.attempts] == [(10,), (20,)]


def of(number: int) -> ClaimedChange:
    """A change of that number."""
    return ClaimedChange(number, "", f"EMAIL|{number}", Action.OPTOUT, 0, {})


def test_what_is_seen_may_be_judged_while_more_is_seen() -> None:
    """Calls are noted in the event loop; at the end of a window the delivery judges them in a thread of its own."""
    seen, over, odd = Observations(), threading.Event(), []

    def calls() -> None:
        try:
            for number in itertools.count():
                if over.is_set():
                    return
                seen.note(Unavailable("503"), range(number, number + 5))
                seen.note(Healthy(), served=[number % 7, number], at=number)
        except RuntimeError as error:
            odd.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor() as threads:
        threads.submit(calls)
        try:
            for number in range(6_000):
                seen.excuse(number)
                found = seen.snapshot() if number % 10 == 0 else seen
                assert found is seen or len(list(found.suspects)) == len(found.suspects)
                assert found.last_served is None or len(found.last_served) == 2
        finally:
            over.set()
            sys.setswitchinterval(interval)

    assert odd == []
