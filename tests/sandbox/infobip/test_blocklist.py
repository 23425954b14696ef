"""Infobip's blocklist: accepted now, seen later, and only as a whole."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.sandbox.calling_providers import InfobipCaller, StartingInfobip, exception


def test_a_destination_is_blocked_and_unblocked(infobip: InfobipCaller) -> None:
    """Both calls are answered with 202 and no body, and the list shows the change."""
    blocked = infobip.block("15550100", "15550101")
    assert (blocked.status_code, blocked.content, infobip.blocked()) == (202, b"", ["15550100", "15550101"])

    unblocked = infobip.unblock("15550100")

    assert (unblocked.status_code, unblocked.content, infobip.blocked()) == (202, b"", ["15550101"])


def test_duplicates_are_left_out(infobip: InfobipCaller) -> None:
    """The same entry twice is one, in one call or in two."""
    infobip.block("15550100", "15550100")
    infobip.block("15550100")

    (row,) = infobip.rows("blocklist/15550100")
    assert (row["seq"], row["sourceType"], row["visible"]) == (1, "CUSTOM", True)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"sender": "64350", "channel": "SMS"}, []),
        ({"sender": "64350", "channel": "SMS", "sourceType": "CUSTOM"}, []),
        ({"sender": "64350", "channel": "SMS", "sourceType": "MO"}, ["15550100"]),
        ({"channel": "SMS"}, ["15550100"]),
        ({"sender": "64350"}, ["15550100"]),
        ({}, ["15550100"]),
    ],
)
def test_an_entry_is_removed_only_by_all_its_properties(
    infobip: InfobipCaller, given: dict[str, Any], left: list[str]
) -> None:
    """Every removal is accepted with 202; one that leaves a property out removes nothing, but any source type fits."""
    infobip.block("15550100", sender="64350", channel="SMS")

    assert infobip.unblock("15550100", **given).status_code == 202
    assert infobip.blocked() == left


def test_a_change_is_seen_after_a_while(start_infobip: StartingInfobip) -> None:
    """Until then the list is as before, though the sandbox's own state knows what was accepted."""
    infobip = start_infobip(blocklist_lag=0.4)
    infobip.block("15550100")
    assert (infobip.blocked(), infobip.rows("blocklist/15550100")[0]["visible"]) == ([], False)

    time.sleep(0.45)

    assert infobip.blocked() == ["15550100"]
    infobip.unblock("15550100")
    assert infobip.blocked() == ["15550100"]
    time.sleep(0.45)
    assert infobip.blocked() == []


def test_every_bad_item_is_named_and_nothing_is_stored(infobip: InfobipCaller) -> None:
    """The paths are as documented, and the good items of the call are not held either."""
    groups = [
        {"destinations": [{"to": ""}, {"to": "15550100"}, {"to": "x" * 256}], "channel": "PIGEON"},
        {"destinations": [{"to": "15550101"}]},
        {"destinations": []},
        {"destinations": [{}], "sender": ""},
    ]
    reply = infobip.http.post("/platform/1/blocklists", json={"blocklist": groups})

    assert reply.status_code == 400
    assert exception(reply)["validationErrors"] == {
        "blocklist[0].channel": ["unsupported channel"],
        "blocklist[0].destinations[0].to": ["size must be between 1 and 255"],
        "blocklist[0].destinations[2].to": ["size must be between 1 and 255"],
        "blocklist[2].destinations": ["must not be empty"],
        "blocklist[3].destinations[0].to": ["must not be null"],
        "blocklist[3].sender": ["size must be between 1 and 255"],
    }
    assert infobip.blocked() == []


@pytest.mark.parametrize("body", [{}, {"blocklist": []}, {"blocklist": [5]}, {"blocklist": {}}])
def test_a_call_has_to_name_something(infobip: InfobipCaller, body: dict[str, Any]) -> None:
    """A body without groups gets 400."""
    assert infobip.http.post("/platform/1/blocklists", json=body).status_code == 400


def test_a_call_takes_fifty_thousand_destinations(infobip: InfobipCaller) -> None:
    """One more is refused, and the limit is for the whole call."""
    numbers = [f"1555{number:07}" for number in range(50_001)]

    assert infobip.block(*numbers).status_code == 400
    assert infobip.block(*numbers[1:]).status_code == 202
    assert infobip.stats()["blocked"] == infobip.calls()[-1]["rows"] == 50_000


def test_the_list_is_filtered_and_paged(infobip: InfobipCaller) -> None:
    """Every property is a filter, and a page tells how many there are."""
    infobip.block("15550100", "15550101", channel="SMS", sender="64350")
    infobip.block("jane@example.com", channel="EMAIL", accountKey="KEY")
    infobip.seed({"blocklist": [{"destinations": [{"to": "15550102"}], "channel": "SMS", "sourceType": "MO"}]})

    assert infobip.blocked(channel="SMS", sender="64350", size=1, page=1) == ["15550101"]
    assert infobip.blocked(accountKey="KEY") == infobip.blocked(channel="EMAIL") == ["jane@example.com"]
    assert (infobip.blocked(sourceType="MO"), infobip.blocked(destination="15550100")) == (["15550102"], ["15550100"])
    assert infobip.blocked(createdDateTo="2020-01-01T00:00:00Z") == []
    assert len(infobip.blocked(createdDateFrom="2020-01-01", createdDateTo="never")) == 4
    assert infobip.http.get("/platform/1/blocklists", params={"channel": "PIGEON"}).status_code == 400
    paging = infobip.http.get("/platform/1/blocklists", params={"size": 3}).json()["paging"]
    assert paging == {"page": 0, "size": 3, "totalPages": 2, "totalResults": 4}


def test_a_destination_can_be_dropped_without_a_word(infobip: InfobipCaller) -> None:
    """The call is accepted, and the destination the fault names is not held."""
    infobip.fault("drop", users=["15550100"])

    assert infobip.block("15550100", "15550101").status_code == 202
    assert infobip.blocked() == ["15550101"]


def test_two_calls_for_one_destination_at_once_are_counted(infobip: InfobipCaller) -> None:
    """Blocking and unblocking the same entry at the same time is an overlap; another entry is none."""
    infobip.fault("latency", delay=0.1)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda act: act("15550100"), [infobip.block, infobip.unblock]))
        list(pool.map(infobip.block, ["15550101", "15550102"]))

    assert infobip.stats()["overlaps_by_user"] == {"15550100|||": 1}
