"""People on the blocklist: many in a call, and each harmed only by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consent.connection import ConnectionSettings, Rate
from consent.outcome import Applied, PermanentFailure, Retry, Unauthorized
from tests.support.providers.infobip import (
    CONNECTION,
    VERIFYING,
    classic,
    entry,
    first,
    ids,
    newer,
    numbers,
    only,
    outcomes,
    person,
    person_with,
    plan,
    read,
    shown,
)
from worker.providers.contract import CallEstimate, RateLimit
from worker.providers.infobip import INFOBIP


def test_rate_limit() -> None:
    """Blocklist calls are made once a second and carry a thousand people, unless told otherwise."""
    other = ConnectionSettings.model_validate({"blocklist_batch": 50_000, "blocklist_rate": "2/s", "rate": "5/s"})

    assert INFOBIP.rate_limit("blocklist", CONNECTION) == RateLimit(Rate(1, 1), 1000, "blocklist")
    assert INFOBIP.rate_limit("blocklist", other) == RateLimit(Rate(2, 1), 50_000, "blocklist")
    assert INFOBIP.rate_limit("", other) == RateLimit(Rate(5, 1))
    with pytest.raises(ValueError, match="blocklist_batch"):
        ConnectionSettings.model_validate({"blocklist_batch": 50_001})


def test_calls_are_predicted() -> None:
    """A batch of opt-outs is a call, each opt-in a look and each five of them a removal; `verify` looks once more."""
    out, back = [person(n) for n in range(2500)], [person(n, "OPTIN") for n in range(3000, 3012)]

    assert INFOBIP.estimate_calls(out, CONNECTION) == CallEstimate(3, 3)
    assert INFOBIP.estimate_calls(back, CONNECTION) == CallEstimate(12, 15)
    assert INFOBIP.estimate_calls([*out, *back], CONNECTION) == CallEstimate(15, 18)
    assert INFOBIP.estimate_calls([*out[:2], *back[:2]], VERIFYING) == CallEstimate(1 + 2 + 2, 1 + 2 + 2 + 1 + 2)


def test_opt_outs_share_a_call() -> None:
    """Opt-outs of many people are one call, in which those of one channel and sender stand together."""
    request = first(person(1), person(2, channel="SMS", sender="SHOP"), person(3))

    assert (request.method, request.path) == ("POST", "/platform/1/blocklists")
    assert request.json == {
        "blocklist": [
            {"destinations": numbers(1, 3)},
            {"destinations": numbers(2), "channel": "SMS", "sender": "SHOP"},
        ]
    }
    assert (len(request.tasks), ids(request)) == (3, {1, 2, 3})


def test_batches() -> None:
    """More people than a call may carry are several calls, side by side."""
    small = CONNECTION.model_copy(update={"blocklist_batch": 2})

    assert [[ids(call) for call in series] for series in plan(*map(person, range(5)), connection=small).series] == [
        *([{0, 1}], [{2, 3}], [{4}])
    ]


def test_account_key() -> None:
    """A sub-account is named in every call."""
    ours = CONNECTION.model_copy(update={"account_key": "8F07"})

    assert first(person(1), connection=ours).json["blocklist"] == [{"destinations": numbers(1), "accountKey": "8F07"}]
    assert first(person(1, "OPTIN"), connection=ours).params["accountKey"] == "8F07"


def test_accepted() -> None:
    """A 202 without a body is all that there is to hear."""
    assert read(first(person(1), person(2)), "", 202).outcomes == {1: Applied(), 2: Applied()}


@pytest.mark.parametrize(
    ("path", "message", "code", "reason"),
    [
        *[
            (
                "blocklist[0].destinations[1].to",
                "size must be between 1 and 255",
                "invalid_destination",
                "Infobip does not accept the destination: its length must be between 1 and 255",
            ),
            (
                "blocklist[1].channel",
                "unsupported channel",
                "invalid_channel",
                "Infobip does not accept the channel: it is not supported",
            ),
            (
                "blocklist[1].sender",
                "jane@example.com",
                "invalid_sender",
                "Infobip does not accept the sender",
            ),
        ]
    ],
)
def test_bad_item_is_cut_out(path: str, message: str, code: str, reason: str) -> None:
    """A 400 rejects exactly the people that it names, in words of ours, and the rest goes in one further call."""
    bad = 2 if "destinations" in path else 3
    request = first(person(1), person(2), person(3, channel="SMS"))
    for error in (classic("BAD_REQUEST", **{path: [message]}), newer("E400", (path, message))):
        answer = read(request, error, 400)

        assert answer.outcomes == {bad: PermanentFailure(code, reason)}
        assert (only(answer).method, ids(only(answer))) == ("POST", {1, 2, 3} - {bad})


def test_all_items_are_bad() -> None:
    """Where all are bad, there is nothing left to send."""
    answer = read(first(person(1)), classic("BAD_REQUEST", **{"blocklist[0].destinations[0].to": ["invalid"]}), 400)

    assert (outcomes(answer), answer.further) == ({1: "invalid_destination"}, ())


@pytest.mark.parametrize("path", ["blocklist", "blocklist[0].destinations", "blocklist[9].channel", "x"])
def test_blame_that_leads_nowhere(path: str) -> None:
    """Where a 400 names no one, each half is tried by itself, and one alone is rejected."""
    request = first(person(1), person(2), person(3))
    answer = read(request, classic("BAD_REQUEST", **{path: ["must not be empty"]}), 400)

    assert [ids(call) for call in answer.further] == [{1, 2}, {3}]
    assert outcomes(read(answer.further[1], classic("BAD_REQUEST"), 400)) == {3: "400"}


def test_wrong_sub_account() -> None:
    """A sub-account that is not accepted is the connection's fault and no person's."""
    answer = read(first(person(1)), classic("BAD_REQUEST", **{"blocklist[0].accountKey": ["invalid"]}), 400)

    assert isinstance(answer.health, Unauthorized)
    assert isinstance(answer.outcomes[1], Retry)


def test_opt_outs_of_a_person_go_first() -> None:
    """Who opts out of SMS and into mail waits for the look at the blocklist, though an opt-out needs none."""
    both = person_with(1, {"action": "OPTIN", "channel": "EMAIL"}, {"action": "OPTOUT", "channel": "SMS"})
    request = first(both)
    assert (request.method, ids(request)) == ("POST", {2})
    assert INFOBIP.estimate_calls([both], CONNECTION) == CallEstimate(2, 3)

    looking = first(replace(both, tries=1), connection=VERIFYING)
    answer = read(looking, shown(entry("15550100001", channel="EMAIL")), connection=VERIFYING)
    assert [(call.method, ids(call)) for call in answer.further] == [("POST", {2}), ("DELETE", {1})]


def test_verified_opt_out_waits_until_it_shows() -> None:
    """With `verify` a 202 is not proof: the opt-out waits a few seconds, uncounted, and is then looked up."""
    sent = read(first(person(1), connection=VERIFYING), "", 202, connection=VERIFYING)
    assert sent.outcomes == {1: Retry("unconfirmed", sent.outcomes[1].reason, counts=False, after=5)}  # type: ignore[union-attr]

    again = first(person(1, tries=1), person(2, tries=1), connection=VERIFYING)
    assert again.method == "GET"
    first_seen = read(again, shown(entry("15550100001")), connection=VERIFYING)
    assert first_seen.outcomes == {1: Applied()}
    resent = only(read(only(first_seen), shown(), connection=VERIFYING))
    assert (resent.method, ids(resent)) == ("POST", {2})


def test_patience_ends() -> None:
    """What still does not show after many looks counts."""
    answer = read(first(person(1, "OPTIN", tries=5), connection=VERIFYING), shown(), connection=VERIFYING)
    assert answer.outcomes == {1: Applied()}

    lookup = first(person(1, tries=5), connection=VERIFYING)
    resent = read(only(read(lookup, shown(), connection=VERIFYING)), "", 202, connection=VERIFYING)
    assert resent.outcomes[1].counts  # type: ignore[union-attr]


def test_people_whose_changes_failed_often_travel_in_small_batches() -> None:
    """What has failed often shares a call with fewer, so that the one who is the cause is found."""
    tired = [person(n, attempts=5) for n in range(3)]

    assert [len(series[0].tasks) for series in plan(*tired, person(9)).series] == [1, 1, 1, 1]
