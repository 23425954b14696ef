"""Delivering to a provider that is pretended: as a delivery does it, and with the contract checked at each step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from consent.connection import ConnectionSettings
from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Health, Outcome, Throttled, Unauthorized
from worker.providers.contract import Answer, Provider, Reply, Request

ReplyTo = Callable[[Request], Reply]

MOST_CALLS = 200
"""More calls than that for the few changes of a case are a loop."""


@dataclass
class Delivered:
    """What became of a delivery."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    health: list[Health] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    calls: list[Request] = field(default_factory=list)

    @property
    def stopped(self) -> bool:
        """Whether a delivery would have made no further call."""
        return bool(self.health) and isinstance(self.health[-1], Throttled | Unauthorized)


def deliver(
    provider: Provider, tasks: Sequence[CustomerTask], connection: ConnectionSettings, reply_to: ReplyTo
) -> Delivered:
    """Plan the tasks, send each series to its end, or until the provider must be left alone; collect the outcomes."""
    plan = provider.plan(tasks, connection)
    delivered = Delivered(dict(plan.outcomes))
    planned = [change.id for series in plan.series for request in series for change in request.changes]
    assert len(planned) == len(set(planned)), "a change is in two planned requests"
    assert not set(planned) & set(plan.outcomes), "a change is in a request and has an outcome as well"
    for series in plan.series:
        requests = deque(series)
        while requests and not delivered.stopped:
            assert len(delivered.calls) < MOST_CALLS, "the series does not end"
            request = requests.popleft()
            answer = provider.read(request, reply_to(request), connection)
            check(request, answer)
            requests.extendleft(reversed(answer.further))
            delivered.outcomes |= answer.outcomes
            delivered.health.append(answer.health)
            delivered.codes.append(answer.code)
            delivered.calls.append(request)
    return delivered


def check(request: Request, answer: Answer) -> None:
    """Assert that every change of a request is in exactly one of outcomes and further requests, among its own tasks."""
    passed_on = [change.id for further in answer.further for change in further.changes]
    assert sorted([*answer.outcomes, *passed_on]) == sorted(change.id for change in request.changes)
    asked = {task.target_id for task in request.tasks}
    assert all(task.target_id in asked for further in answer.further for task in further.tasks)
    assert all(further.changes for further in answer.further), "a further request is about nothing"
