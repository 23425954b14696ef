"""When a change is tried again, when its attempts are over, and how long each wait is: the policy as a value."""

from __future__ import annotations

import random

import pytest

from consent.change import Action
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.outcome import Applied, Outcome, PermanentFailure, Retry, Unchanged
from worker.delivery.results import WITNESSED_CEILING, RetryPolicy

POLICY = RetryPolicy(max_attempts=3, first=2.0, ceiling=60.0, odds=random.Random(1))
OF_THE_CHANGE = Retry("500", "internal error", counts=True)
OF_THE_CONNECTION = Retry("502", "bad gateway", counts=False)


def task(*attempts: int, tries: int = 0) -> CustomerTask:
    """A customer whose changes, numbered from 1, were attempted so often."""
    changes = tuple(
        ClaimedChange(number, "an import", "EMAIL|BULK", Action.OPTOUT, 0, {}, attempts=made)
        for number, made in enumerate(attempts, 1)
    )
    return CustomerTask(7, {"user_id": "1"}, changes, tries)


@pytest.mark.parametrize(
    ("outcome", "attempts", "healthy", "own", "then"),
    [
        (Applied(), 9, True, False, Applied()),
        (Unchanged(), 9, True, False, Unchanged()),
        (PermanentFailure("1012", "unknown"), 0, False, False, PermanentFailure("1012", "unknown")),
        (OF_THE_CHANGE, 0, True, False, OF_THE_CHANGE),
        (OF_THE_CHANGE, 1, True, False, OF_THE_CHANGE),
        (OF_THE_CHANGE, 2, True, False, PermanentFailure("500", "given up after 3 attempts: internal error")),
        (OF_THE_CHANGE, 9, True, False, PermanentFailure("500", "given up after 10 attempts: internal error")),
        (OF_THE_CHANGE, 9, False, False, Retry("500", "internal error", counts=False)),
        (OF_THE_CONNECTION, 99, True, False, OF_THE_CONNECTION),
        (OF_THE_CONNECTION, 99, False, False, OF_THE_CONNECTION),
        (OF_THE_CONNECTION, 1, False, True, Retry("502", "bad gateway", counts=True)),
        (
            OF_THE_CONNECTION,
            2,
            False,
            True,
            PermanentFailure("502", "given up after 3 attempts while other customers were served: bad gateway"),
        ),
        (OF_THE_CHANGE, 2, False, True, PermanentFailure("500", "given up after 3 attempts: internal error")),
        (Applied(), 9, False, True, Applied()),
    ],
)
def test_an_end_is_put_to_what_was_tried_often_enough(
    outcome: Outcome, attempts: int, *, healthy: bool, own: bool, then: Outcome
) -> None:
    """Answers about the change count where the bucket works; answers about the bucket only where others are served."""
    decided = POLICY.decide(task(attempts), {1: outcome}, healthy=healthy, own={1} if own else ())

    assert decided == {1: then}


def test_each_change_has_its_own_count() -> None:
    """One change of a customer is given up, the other goes on, and a third was not called at all."""
    decided = POLICY.decide(task(2, 0, 5), {1: OF_THE_CHANGE, 2: OF_THE_CHANGE}, healthy=True)

    assert decided == {
        1: PermanentFailure("500", "given up after 3 attempts: internal error"),
        2: OF_THE_CHANGE,
    }


@pytest.mark.parametrize(("tries", "bound"), [(0, 2), (1, 4), (2, 8), (4, 32), (5, 60), (30, 60), (10_000, 60)])
def test_the_bound_of_a_wait_doubles_up_to_a_ceiling(tries: int, bound: float) -> None:
    """Every wait lies between a tenth of the bound and the bound, and uses all of that."""
    waits = [POLICY.wait(tries) for _ in range(500)]

    assert bound / 10 <= min(waits) < bound * 0.2
    assert bound * 0.9 < max(waits) <= bound


@pytest.mark.parametrize(
    ("outcomes", "least", "most"),
    [
        ([], 0, 0),
        ([Applied(), PermanentFailure("1012", "unknown")], 0, 0),
        ([Applied(), OF_THE_CHANGE], 0.2, 2),
        ([Retry("429", "slow down", counts=False, after=30)], 30, 30),
        ([Retry("429", "slow down", counts=False, after=30), Retry("429", "wait", counts=False, after=45)], 45, 45),
        ([Retry("429", "slow down", counts=False, after=0.001)], 0.2, 2),
    ],
)
def test_a_task_waits_as_long_as_the_provider_asks(outcomes: list[Outcome], least: float, most: float) -> None:
    """No shorter than the longest wait that was asked for, and never without a pause of our own."""
    assert least <= POLICY.put_off(task(0, 0), dict(enumerate(outcomes, 1))) <= most


def test_a_call_that_fails_on_its_way_does_not_put_off_a_change_whose_tries_count() -> None:
    """The last customer's row vanishes, and one call in five is cut: after six tries the next was minutes away."""
    lost = {1: Retry("no reply", "the line broke", counts=False)}

    begun = [POLICY.put_off(task(1, tries=20), lost) for _ in range(100)]
    not_yet = [POLICY.put_off(task(0, tries=20), lost) for _ in range(100)]

    assert max(begun) <= WITNESSED_CEILING < max(not_yet) <= POLICY.ceiling
