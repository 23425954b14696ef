"""What Infobip's replies about a subscription make of each change: look, merge, write, and look again."""

from __future__ import annotations

from typing import Any

import pytest

from consent.outcome import Applied, PermanentFailure, Retry, Unchanged
from tests.support.providers.infobip import (
    IDS_ONLY,
    VERIFYING,
    classic,
    document,
    first,
    ids,
    newer,
    only,
    outcomes,
    read,
    rule,
)
from worker.providers.contract import Request


def put(*rows: dict[str, Any], there: dict[str, Any] | None = None, **settings: Any) -> Request:
    """Return the write that rows lead to."""
    return only(read(first(rule(*rows)), there or document(), **settings))


def test_whole_subscription_is_written() -> None:
    """The write holds all that was there, also what we do not know, with the members added and removed."""
    there = document(events=[{"event": "DELIVERY", "format": "v2"}, "CLICK"], extra={"kept": 1}, resources=...)
    request = put(
        {"action": "OPTIN", "events": "INBOUND_MESSAGE"}, {"action": "OPTOUT", "events": "CLICK"}, there=there
    )

    assert request.method == "PUT"
    assert request.json == {
        "name": "Default group",
        "profile": {"profileId": "NOTIF-32395"},
        "events": [{"event": "DELIVERY", "format": "v2"}, "INBOUND_MESSAGE"],
        "criteria": [{"applicationId": "production", "entityId": "entity1"}],
        "users": ["user1", "user2"],
        "extra": {"kept": 1},
    }


def test_nothing_to_change() -> None:
    """What is there already, in whichever form, is unchanged and costs no write."""
    rows = [
        {
            "action": "OPTIN",
            "events": "DELIVERY",
            "users": "user1",
            "application_id": "production",
            "entity_id": "entity1",
        },
        {"action": "OPTOUT", "resources": "9999", "name": "Default group", "profile_id": "NOTIF-32395"},
    ]
    answer = read(first(rule(*rows)), document(events=[{"event": "DELIVERY", "format": "v2"}]))

    assert answer.further == ()
    assert set(answer.outcomes.values()) == {Unchanged()}
    assert len(answer.outcomes) == 6


def test_fields() -> None:
    """Name and profile are set, whatever the action."""
    body = put({"action": "OPTOUT", "name": "New", "profile_id": "NOTIF-98765"}).json

    assert (body["name"], body["profile"]) == ("New", {"profileId": "NOTIF-98765"})


def test_criteria() -> None:
    """A criterion is added or removed as a whole; one with other parts is another."""
    rows = [
        {"action": "OPTOUT", "application_id": "production", "entity_id": "entity1"},
        {"action": "OPTIN", "application_id": "production"},
    ]

    assert put(*rows).json["criteria"] == [{"applicationId": "production"}]


def test_events_may_end_empty() -> None:
    """The last event can be removed: the page allows an empty list."""
    assert put({"action": "OPTOUT", "events": "DELIVERY"}).json["events"] == []


def test_last_filter_stays() -> None:
    """The last user is not removed: an empty filter matches everybody. The others go."""
    answer = read(first(rule({"action": "OPTOUT", "users": "user1|user2"})), document())

    assert only(answer).json["users"] == ["user2"]
    assert outcomes(answer) == {2: "last_filter"}


def test_last_filter_goes_where_another_comes() -> None:
    """A filter that does not end empty may lose all that it had."""
    rows = [{"action": "OPTOUT", "users": "user1|user2"}, {"action": "OPTIN", "users": "user3"}]

    assert put(*rows).json["users"] == ["user3"]


def test_last_filter_goes_if_that_is_allowed() -> None:
    """A connection may be told that an empty filter is meant."""
    allowing = VERIFYING.model_copy(update={"allow_empty_filters": True})

    assert put({"action": "OPTOUT", "users": "user1|user2"}, connection=allowing).json["users"] == []


def test_surplus() -> None:
    """Of a set that would grow beyond 255 members the newest are rejected, and the rest goes."""
    many = [{"action": "OPTIN", "users": f"new-{n}"} for n in range(5)]
    answer = read(first(rule(*many)), document(users=[f"user-{n}" for n in range(252)]))

    assert len(only(answer).json["users"]) == 255
    assert outcomes(answer) == {4: "too_many_members", 5: "too_many_members"}


def test_event_outside_the_table_is_looked_for() -> None:
    """An event that the table does not offer is sent, and rejected if the subscription then ignores it."""
    write = put({"action": "OPTIN", "events": "CLICK|SEEN"})
    verify = only(read(write, IDS_ONLY))
    answer = read(verify, document(events=["DELIVERY", "CLICK"]))

    assert (verify.method, verify.purpose, verify.json) == ("GET", "verify", None)
    assert outcomes(answer) == {1: "applied", 2: "event_ignored"}


def test_event_outside_the_table_may_be_taken() -> None:
    """The table moves: an event outside it that the subscription shows is applied."""
    verify = only(read(put({"action": "OPTIN", "events": "SEEN"}), IDS_ONLY))

    assert outcomes(read(verify, document(events=["SEEN"]))) == {1: "applied"}


def test_verifying_connection() -> None:
    """With `verify` each write is looked after; what does not show is tried again, and that counts."""
    verify = only(read(put({"action": "OPTIN", "events": "CLICK", "name": "New"}), IDS_ONLY, connection=VERIFYING))
    answer = read(verify, document(events=["CLICK"]), connection=VERIFYING)

    assert outcomes(answer) == {1: "applied", 2: "unconfirmed"}
    assert isinstance(answer.outcomes[2], Retry)
    assert answer.outcomes[2].counts


@pytest.mark.parametrize("body", ["", "{}", {"subscriptionId": 7}])
def test_write_without_its_reply(body: object) -> None:
    """A write whose success is not told as documented is looked after."""
    assert only(read(put({"action": "OPTIN", "events": "CLICK"}), body)).purpose == "verify"


@pytest.mark.parametrize("there", [document(profile=...), document(profile={}), document(events="DELIVERY")])
def test_what_is_no_subscription(there: dict[str, Any]) -> None:
    """What does not look like a subscription is not written over."""
    answer = read(first(rule({"action": "OPTIN", "events": "CLICK"})), there)

    assert (answer.further, outcomes(answer)) == ((), {1: "unreadable"})


@pytest.mark.parametrize(
    "error",
    [
        classic("BAD_REQUEST", **{"users[2]": ["size must be between 0 and 255"]}),
        newer("E400", ("users[2]", "size must be between 0 and 255")),
        newer("400", ("users[2].x", "size must be between 0 and 255")),
    ],
)
def test_bad_member_is_cut_out(error: dict[str, Any]) -> None:
    """A member that a 400 names by its place is rejected with the reason, and the rest begins anew."""
    answer = read(put({"action": "OPTIN", "users": "new1|new2"}), error, 400)

    assert answer.outcomes == {
        1: PermanentFailure("invalid_users", "Infobip does not accept the users: its length must be between 0 and 255")
    }
    assert (ids(only(answer)), only(answer).purpose) == ({2}, "look")


def test_bad_field_is_cut_out() -> None:
    """A field that a 400 names is rejected, and the rest begins anew."""
    write = put({"action": "OPTIN", "events": "CLICK", "profile_id": "NOTIF-0"})
    answer = read(write, classic("BAD_REQUEST", **{"profile.profileId": [f"{'x' * 9} is unknown"]}), 400)

    assert outcomes(answer) == {2: "invalid_profile_id"}
    assert ids(only(answer)) == {1}


@pytest.mark.parametrize("path", ["users[0]", "users[77]", "users", "nowhere", "users[9999999]"])
def test_blame_that_leads_nowhere(path: str) -> None:
    """Where a 400 names no change of ours, each half is tried by itself, and one alone is rejected."""
    write = put({"action": "OPTIN", "users": "new1|new2|new3"})
    both = read(write, classic("BAD_REQUEST", **{path: ["?"]}), 400)
    one = read(put({"action": "OPTIN", "events": "CLICK"}), classic("BAD_REQUEST", **{path: ["?"]}), 400)

    assert [ids(each) for each in both.further] == [{1, 2}, {3}]
    assert outcomes(one) == {1: "400"}


def test_profile_that_does_not_exist() -> None:
    """A 404 on a write that follows a look is the profile's: it is rejected, and the rest begins anew."""
    write = put({"action": "OPTIN", "events": "CLICK", "profile_id": "NOTIF-0"})
    answer = read(write, classic("NOT_FOUND"), 404)

    assert outcomes(answer) == {2: "no_such_profile"}
    assert ids(only(answer)) == {1}


def test_subscription_that_vanishes() -> None:
    """A 404 on a write that names no profile is the subscription's."""
    write = put({"action": "OPTIN", "events": "CLICK"})

    assert outcomes(read(write, classic("NOT_FOUND"), 404)) == {1: "no_such_subscription"}


def test_hundreds_of_changes_are_two_calls() -> None:
    """Two hundred changes are one look and one write, and all of them are applied."""
    many = [{"action": "OPTIN", "users": f"user-{n}"} for n in range(200)]
    answer = read(put(*many), IDS_ONLY)

    assert answer.further == ()
    assert set(answer.outcomes.values()) == {Applied()}
    assert len(answer.outcomes) == 200
