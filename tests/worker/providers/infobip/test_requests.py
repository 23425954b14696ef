"""Which calls changes of Infobip subscriptions become; for people see test_blocklist."""

from __future__ import annotations

from tests.support.providers.infobip import CONNECTION, VERIFYING, first, ids, person, plan, rule
from worker.providers.contract import CallEstimate
from worker.providers.infobip import INFOBIP


def test_both_kinds_in_one_plan() -> None:
    """People and subscriptions of one connection are planned apart."""
    planned = plan(rule({"action": "OPTIN", "events": "CLICK"}), person(7))

    assert [series[0].purpose for series in planned.series] == ["block", "look"]


def test_calls_are_predicted() -> None:
    """A look, a write if something changes, and another look where the write's answer does not tell enough."""
    many = [{"action": "OPTIN", "users": f"user-{n}"} for n in range(200)]

    assert INFOBIP.estimate_calls([rule(*many)], CONNECTION) == CallEstimate(1, 2)
    assert INFOBIP.estimate_calls([rule(*many)], VERIFYING) == CallEstimate(1, 3)
    assert INFOBIP.estimate_calls([rule({"action": "OPTIN", "events": "NO_SUCH_EVENT"})], CONNECTION) == CallEstimate(
        1, 3
    )


def test_look_comes_first() -> None:
    """Any number of changes for one subscription begin with one look at it."""
    many = [{"action": "OPTIN", "users": f"user-{n}"} for n in range(200)]
    request = first(rule(*many))

    assert (request.method, request.purpose) == ("GET", "look")
    assert request.path == "/subscriptions/1/subscription/SMS/ABC-123-DEF"
    assert len(request.changes) == 200


def test_changes_that_failed_often_travel_in_small_batches() -> None:
    """What has failed five times travels alone."""
    task = rule({"action": "OPTIN", "users": "a|b|c"}, attempts=6)

    assert [ids(request) for series in plan(task).series for request in series] == [{1}, {2}, {3}]
    assert len(plan(task).series) == 1
