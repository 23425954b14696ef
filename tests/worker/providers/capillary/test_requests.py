"""From customers to calls."""

from __future__ import annotations

from itertools import chain

import pytest

from consent.outcome import PermanentFailure
from tests.support.providers.capillary import BY_MOBILE, CONNECTION, FOUR, change, customer, ids
from worker.providers.capillary import CAPILLARY
from worker.providers.contract import Request


def planned(*tasks: object, **settings: object) -> list[list[Request]]:
    """Return the calls for some customers."""
    plan = CAPILLARY.plan(tasks, CONNECTION.model_copy(update=settings))  # type: ignore[arg-type]
    return [list(series) for series in plan.series]


def test_body_of_the_documentation() -> None:
    """The rows of one customer that share reason, campaign, communication and scope are one call, as on the page."""
    details = {"reason": "This is V2 subscription api", "scope": "USER", "sub_scope": "NONE", "source_name": "FACEBOOK"}
    rows = [("EMAIL", "BULK", "OPTOUT"), ("MOBILE", "BULK", "OPTIN"), ("EMAIL", "TRANS", "OPTIN")]
    changes = [change(number, *cells, org_unit=200031782, **details) for number, cells in enumerate(rows)]
    (only,) = chain.from_iterable(planned(customer(*changes)))

    assert (only.method, only.path) == ("POST", "/v2/customers/1001/subscriptions?format=json")
    assert {
        "communicationId": -1,
        "campaignId": -1,
        "reason": "This is V2 subscription api",
        "scope": {"scope": "USER", "subScope": "NONE"},
        "subscriptions": [
            {
                "channel": channel,
                "accountId": "01",
                "priority": priority,
                "type": action,
                "orgUnitId": 200031782,
                "sourceName": "FACEBOOK",
            }
            for channel, priority, action in rows
        ],
    } == only.json


def test_body_that_says_nothing_more() -> None:
    """A change without reason or scope sends neither, and -1 for campaign and communication."""
    (only,) = chain.from_iterable(planned(customer(change(1))))

    assert {"communicationId", "campaignId", "subscriptions"} == only.json.keys()
    assert "sourceName" not in only.json["subscriptions"][0]


@pytest.mark.parametrize("text", ["reason", "campaign_id", "communication_id", "scope", "sub_scope"])
def test_bodies_that_differ(text: str) -> None:
    """Changes that differ in what a body says once are successive calls of one series, the oldest first."""
    changes = [change(1, **{text: "7"}), change(2, "MOBILE"), change(3, "line", **{text: "7"})]
    (series,) = planned(customer(*changes))

    assert [{1, 3}, {2}] == [ids(each) for each in series]


def test_source_names_may_differ() -> None:
    """A source name belongs to its row, so that rows with different ones share a body."""
    (series,) = planned(customer(change(1, source_name="LINE"), change(2, "MOBILE", source_name="JD")))

    assert len(series) == 1


def test_campaign_that_is_not_applicable() -> None:
    """A campaign of -1 is the same as none."""
    (series,) = planned(customer(change(1, campaign_id=-1), change(2, "MOBILE")))

    assert len(series) == 1


def test_one_series_for_each_customer() -> None:
    """Different customers are different series, and the method is the connection's."""
    series = planned(customer(*FOUR), customer(change(9)), method="PUT")

    assert [[each.method for each in calls] for calls in series] == [["PUT"], ["PUT"]]


def test_change_that_failed_often() -> None:
    """A change that has failed three times travels alone, so that it cannot take its neighbours with it."""
    (series,) = planned(customer(change(1), change(2, "MOBILE", attempts=3), change(3, "line", attempts=2)))

    assert [{1, 3}, {2}] == [ids(each) for each in series]


def test_lookup_form() -> None:
    """By identifier the customer stands in the parameters, not in the path."""
    (only,) = chain.from_iterable(planned(customer(change(1), address=BY_MOBILE | {"source_account_id": "acc&1"})))

    assert only.path == "/v2/customers/lookup/subscriptions"
    assert only.params == {
        "source": "INSTORE",
        "accountId": "acc&1",
        "identifierName": "mobile",
        "identifierValue": "+15550100",
        "format": "json",
    }


def test_lookup_without_an_account() -> None:
    """A source with one account only needs none."""
    (only,) = chain.from_iterable(planned(customer(change(1), address=BY_MOBILE)))

    assert "accountId" not in only.params


def test_lookup_not_allowed() -> None:
    """Where writing by identifier is off, such changes are rejected without a call, and others go on."""
    connection = CONNECTION.model_copy(update={"lookup_writes": False})
    plan = CAPILLARY.plan([customer(change(1), address=BY_MOBILE), customer(change(2))], connection)
    rejection = plan.outcomes[1]

    assert isinstance(rejection, PermanentFailure)
    assert "LOOKUP_WRITES" in rejection.reason
    assert {1} == set(plan.outcomes)
    assert [[{2}]] == [[ids(each) for each in series] for series in plan.series]


def test_call_in_a_log() -> None:
    """The repr of a call names no customer."""
    (only,) = chain.from_iterable(planned(customer(change(1), address=BY_MOBILE)))

    assert "15550100" not in repr(only)
