"""Which calls changes of Gupshup subscriptions become: one form, and a look before it only where modes are named."""

from __future__ import annotations

from consent.connection import Rate
from tests.support.providers.gupshup import CONNECTION, calls, first, subscription
from worker.providers.contract import CallEstimate, RateLimit
from worker.providers.gupshup import GUPSHUP

IN, OUT = {"action": "OPTIN"}, {"action": "OPTOUT"}


def test_rate_limit() -> None:
    """Five calls a minute for each app, one subscription each, unless told otherwise."""
    assert GUPSHUP.rate_limit("app-1", CONNECTION) == RateLimit(Rate(5, 60), name="app app-1")
    assert GUPSHUP.rate_limit("app-1", CONNECTION.model_copy(update={"rate": Rate(10, 1)})).rate == Rate(10, 1)


def test_calls_are_predicted() -> None:
    """Fields are one write; modes are a look, and a write only where one of them changes."""
    pause, modes = subscription({"action": "OPTOUT"}), subscription(IN | {"modes": "READ"})

    assert GUPSHUP.estimate_calls([pause], CONNECTION) == CallEstimate(1, 1)
    assert GUPSHUP.estimate_calls([pause, modes, modes], CONNECTION) == CallEstimate(3, 5)


def test_fields_are_one_call() -> None:
    """Without modes no look is needed: one form with only what changes, booleans in lower case."""
    row = {"tag": "mine", "url": "https://hooks.example.com/a?b=c", "version": "3", "do_check": "FALSE"}
    request = first(subscription(IN | row, OUT))

    assert (request.method, request.path) == ("PUT", "/partner/app/app-1/subscription/32595")
    assert request.json is None
    assert request.form == {
        "tag": "mine",
        "url": "https://hooks.example.com/a?b=c",
        "version": "3",
        "doCheck": "false",
        "active": "false",
    }


def test_changes_that_failed_often_travel_alone() -> None:
    """What has failed three times travels alone."""
    tired = subscription(IN | {"tag": "mine", "version": "3"}, attempts=3)

    assert [call.form for call in calls(tired)] == [{"tag": "mine"}, {"version": "3"}]
