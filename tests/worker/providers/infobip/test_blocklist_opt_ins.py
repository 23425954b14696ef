"""Opt-ins at Infobip's blocklist: looked up first, so that no block is lifted that a person set anew."""

from __future__ import annotations

from typing import Any

import pytest

from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Applied, Unchanged
from tests.support.providers.infobip import (
    classic,
    entry,
    first,
    ids,
    numbers,
    only,
    outcomes,
    person,
    person_with,
    plan,
    read,
    shown,
)


def test_opt_ins_are_looked_up() -> None:
    """Only an entry's exact properties remove it: people are looked up one after the other, then removed at once."""
    request = first(*(person(n, "OPTIN") for n in (1, 2, 3)))
    params = {"destination": "15550100001", "size": "1000"}
    mo = {"channel": "SMS", "sender": "SHOP", "sourceType": "MO", "accountKey": "8F07"}
    old = entry("15550100001", **mo, createdDate="1969-01-01T00:00:00Z")

    assert (request.method, request.params) == ("GET", params)
    second = only(read(request, shown(old)))
    third = read(second, shown())
    last = read(only(third), shown(entry("15550100003", createdDate="1969-01-01T00:00:00Z")))

    assert third.outcomes == {2: Unchanged()}
    assert only(last).method == "DELETE"
    assert only(last).json == {
        "blocklist": [
            {"destinations": numbers(1), **mo},
            {"destinations": numbers(3), "sourceType": "CUSTOM"},
        ]
    }
    assert read(only(last), "", 202).outcomes == {1: Applied(), 3: Applied()}


def test_an_opt_in_removes_no_more_than_it_names() -> None:
    """A person opts in to SMS of one shop and gets the mails of all, because everything was removed."""
    request = first(person(1, "OPTIN", effective_at="2026-01-01T00:00:00Z", channel="SMS", sender="SHOP"))
    mine = entry("15550100001", channel="SMS", sender="SHOP")
    others = [entry("15550100001", channel="EMAIL"), entry("15550100002", channel="SMS", sender="SHOP")]

    assert request.params == {"destination": "15550100001", "size": "1000"}
    assert read(request, shown(*others)).outcomes == {1: Unchanged()}
    assert only(read(request, shown(mine, *others))).json == {
        "blocklist": [
            {"destinations": numbers(1), "channel": "SMS", "sender": "SHOP", "sourceType": "CUSTOM"},
        ]
    }


def test_an_entry_in_another_case_is_the_same_persons() -> None:
    """It was made by a click, or by hand: it is found, and removed as it is written there."""
    request = first(person(1, "OPTIN", destination="Ann@example.com"))
    there = entry("ann@EXAMPLE.com", createdDate="1969-01-01T00:00:00Z")

    removal = only(read(request, shown(there, entry("anna@example.com"))))
    assert removal.json == {"blocklist": [{"destinations": [{"to": "ann@EXAMPLE.com"}], "sourceType": "CUSTOM"}]}


@pytest.mark.parametrize("wider", [{}, {"channel": "SMS"}, {"sender": "SHOP"}])
def test_a_part_of_a_block_cannot_be_lifted(wider: dict[str, str]) -> None:
    """A person hears that SMS of the shop come again, while everything stays blocked."""
    request = first(person(1, "OPTIN", effective_at="2026-01-01T00:00:00Z", channel="SMS", sender="SHOP"))
    for source in ("CUSTOM", "MO"):
        answer = read(request, shown(entry("15550100001", sourceType=source, **wider)))
        assert outcomes(answer) == {1: "under_wider_block"}
        assert answer.further == ()


def test_a_newer_opt_out_of_ours_stays() -> None:
    """An opt-in to everything that arrives late removes the newer opt-out of SMS."""
    late = {"createdDate": "2026-02-01T00:00:00Z"}
    everything = {"action": "OPTIN", "effective_at": "2026-01-02T00:00:00Z"}
    sms = {"action": "OPTOUT", "channel": "SMS"}
    older, newer = {"effective_at": "2026-01-01T00:00:00Z"}, {"effective_at": "2026-01-03T00:00:00Z"}
    for times, removed in ((older, 2), (newer, 1)):
        both = person_with(1, everything, sms | times)
        request = first(CustomerTask(both.target_id, both.address, both.changes[:1], 0, both.newest_by_slot))
        answer = read(request, shown(entry("15550100001", **late), entry("15550100001", channel="SMS", **late)))
        assert len(only(answer).json["blocklist"]) == removed


@pytest.mark.parametrize("created", ["2026-02-01T00:00:00.123+0000", "20260201T000000Z", 1785542400000, None, ...])
def test_an_opt_out_of_the_persons_own_stays_whatever_its_date_looks_like(created: object) -> None:
    """A person who answered STOP in February is written to again, because the date was read as one of 1785."""
    request = first(person(1, "OPTIN", effective_at="2026-01-01T00:00:00Z"))
    answer = read(request, shown(entry("15550100001", sourceType="MO", createdDate=created)))
    assert (outcomes(answer), answer.further) == ({1: "newer_optout"}, ())


@pytest.mark.parametrize("source", ["MO", "URL_OPT_OUT", "CAMPAIGN"])
def test_newer_opt_out_stays(source: str) -> None:
    """What a person said to Infobip after the opt-in was given stays: the newest change wins there as well."""
    request = first(person(1, "OPTIN", effective_at="2026-01-01T00:00:00Z"))
    newer_one = entry("15550100001", sourceType=source, createdDate="2026-01-02T00:00:00.000+0000")
    older_one = entry("15550100001", sourceType=source, createdDate="2025-12-31T00:00:00")

    assert outcomes(read(request, shown(newer_one, older_one))) == {1: "newer_optout"}
    assert only(read(request, shown(older_one))).method == "DELETE"


def test_entry_of_ours_may_be_late() -> None:
    """An entry of a slot that the ledger knows goes, even if it was made late; another's does not."""
    request = first(person(1, "OPTIN", effective_at="2026-01-01T00:00:00Z"))
    late: dict[str, Any] = {"createdDate": "2026-01-02T00:00:00Z"}

    assert only(read(request, shown(entry("15550100001", **late)))).method == "DELETE"
    assert outcomes(read(request, shown(entry("15550100001", channel="SMS", **late)))) == {1: "newer_optout"}
    assert outcomes(read(request, shown(entry("15550100001", sourceType="MO", **late)))) == {1: "newer_optout"}


def test_channel_where_nothing_can_be_removed() -> None:
    """Where an entry cannot be removed, the opt-in says so and nothing is half done."""
    voice = entry("15550100001", channel="VOICE_OUTBOUND_TTS", createdDate="1969-01-01T00:00:00Z")

    assert outcomes(read(first(person(1, "OPTIN")), shown(voice))) == {1: "not_removable"}


def test_failed_lookup_harms_one() -> None:
    """A lookup that fails is that person's alone, and the others go on."""
    request = first(person(1, "OPTIN"), person(2, "OPTIN"))
    for status, code in ((400, "400"), (500, "500")):
        answer = read(request, classic("GENERAL_ERROR" if status == 500 else "BAD_REQUEST"), status)

        assert outcomes(answer) == {1: code}
        assert ids(only(answer)) == {2}


def test_few_lookups_at_once() -> None:
    """A delivery takes a few opt-ins, after all the opt-outs; the others are given back."""
    planned = plan(*(person(n, "OPTIN") for n in range(10, 100)), person(1), person(2))

    assert [[ids(call) for call in series] for series in planned.series] == [[{1, 2}], [{10, 11, 12, 13, 14}]]
    assert planned.outcomes == {}
