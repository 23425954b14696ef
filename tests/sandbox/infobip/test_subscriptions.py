"""Infobip's subscriptions: what a write changes, what it answers, and what it refuses."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from sandbox.infobip.requests import CHANNELS, EVENTS
from tests.sandbox.calling_providers import InfobipCaller, exception

IDS = {"subscriptionId": "DEMO-SMS", "profile": {"profileId": "DEMO-PROFILE", "security": {"authId": "DEMO-AUTH"}}}
ONE = "/subscriptions/1/subscription/SMS/DEMO-SMS"


def test_an_update_answers_with_ids_only(infobip: InfobipCaller) -> None:
    """The reply names subscription and profile; the change is seen by reading back."""
    reply = infobip.put(name="Renamed", events=["CLICK"], users=["anna"])

    assert (reply.status_code, reply.json()) == (200, IDS)
    assert infobip.get().json() == IDS | {"name": "Renamed", "events": ["CLICK"], "users": ["anna"]}


def test_an_update_can_change_the_profile(infobip: InfobipCaller) -> None:
    """The reply has the new profile."""
    assert infobip.put(profile={"profileId": "DEMO-PROFILE-2"}).json()["profile"]["profileId"] == "DEMO-PROFILE-2"


def test_a_new_subscription_has_the_id_the_caller_chose(infobip: InfobipCaller) -> None:
    """The answer is 201 with a Location that can be read; the same id once more gives 409 and changes nothing."""
    created, again = infobip.create("MINE"), infobip.create("MINE", name="Again")

    assert created.status_code == 201
    assert created.json()["subscriptionId"] == "MINE"
    assert infobip.http.get(created.headers["Location"]).json()["events"] == ["DELIVERY"]
    assert (again.status_code, exception(again)["messageId"]) == (409, "CONFLICT")
    assert "name" not in infobip.get("MINE").json()


def test_a_new_subscription_may_bring_its_profile(infobip: InfobipCaller) -> None:
    """A profile given in full is there afterwards, without its credentials."""
    security = {"authId": "AUTH", "type": "BASIC", "credentials": {"username": "u", "password": "p"}}
    webhook = {"notifyUrl": "https://example.com/new"}
    infobip.create(profile={"profileId": "BROUGHT", "webhook": webhook, "security": security})

    shown = infobip.http.get("/subscriptions/1/profiles/BROUGHT").json()

    assert shown["webhook"] == webhook
    assert shown["security"] == {"authId": "AUTH", "type": "BASIC"}


def test_a_removed_subscription_is_gone(infobip: InfobipCaller) -> None:
    """DELETE answers with the ids; afterwards no one finds it, and nor does a write create it."""
    assert infobip.http.delete(ONE).json() == IDS

    for reply in (infobip.get(), infobip.put(), infobip.http.delete(ONE)):
        assert (reply.status_code, exception(reply)["messageId"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("event", ["BLOCK", "NO_SUCH_EVENT"])
def test_an_event_of_no_use_to_the_channel_is_ignored(infobip: InfobipCaller, event: str) -> None:
    """The write is answered with 200 and the event is not there."""
    assert infobip.put(events=["DELIVERY", event]).status_code == 200
    assert infobip.get().json()["events"] == ["DELIVERY"]


def test_an_unknown_event_can_be_refused(infobip_otherwise: InfobipCaller) -> None:
    """With the knob an event no channel knows gets 400; one of another channel is still ignored."""
    refused = infobip_otherwise.put(events=["CLICK", "FOO"])

    assert refused.status_code == 400
    assert refused.json()["violations"] == [{"property": "events[1]", "violation": "unsupported event"}]
    assert infobip_otherwise.put(events=["BLOCK"]).status_code == 200


def test_an_event_may_name_its_format_where_the_channel_allows(infobip: InfobipCaller) -> None:
    """On SMS an event may be an object; on e-mail that is refused."""
    event = {"event": "DELIVERY", "format": "V2"}
    assert infobip.put(events=[event]).status_code == 200

    assert infobip.get().json()["events"] == [event]
    assert infobip.put("DEMO-EMAIL", "EMAIL", events=[event]).status_code == 400


def test_what_an_update_leaves_out_is_cleared_or_kept(infobip: InfobipCaller, infobip_otherwise: InfobipCaller) -> None:
    """It is cleared unless the knob says otherwise."""
    for caller in (infobip, infobip_otherwise):
        caller.put(name="Named")
        caller.put()

    assert [caller.get().json().get("name") for caller in (infobip, infobip_otherwise)] == [None, "Named"]


@pytest.mark.parametrize(
    ("wrong", "paths"),
    [
        ({"events": None, "profile": None}, ["profile", "profile.profileId", "events"]),
        ({"events": ["DELIVERY"] * 256}, ["events"]),
        ({"events": "DELIVERY"}, ["events"]),
        ({"events": [5]}, ["events[0]"]),
        ({"name": "", "profile": {"profileId": "x" * 256}}, ["name", "profile.profileId"]),
        ({"profile": {}}, ["profile.profileId"]),
        ({"profile": "P"}, ["profile", "profile.profileId"]),
        ({"criteria": [{}, {"entityId": "x" * 256}, 5]}, ["criteria[1].entityId", "criteria[2]"]),
        ({"resources": ["x" * 256], "users": ["a"] * 256}, ["resources[0]", "users"]),
    ],
)
def test_every_bad_field_is_named(infobip: InfobipCaller, wrong: dict[str, Any], paths: list[str]) -> None:
    """A body that does not fit gets 400 with the path of each field, and nothing is changed."""
    before = infobip.get().json()
    reply = infobip.put(**wrong)

    assert (reply.status_code, exception(reply)["messageId"]) == (400, "BAD_REQUEST")
    assert sorted(exception(reply)["validationErrors"]) == sorted(paths)
    assert infobip.get().json() == before


def test_255_items_and_an_empty_list_of_events_fit(infobip: InfobipCaller) -> None:
    """The limits themselves are allowed."""
    assert infobip.put(events=[], users=["u" * 255] * 255, resources=[""], name="n" * 255).status_code == 200


@pytest.mark.parametrize("given", ["", "a/b", "a b", "x" * 256, None])
def test_an_id_is_short_and_url_safe(infobip: InfobipCaller, given: Any) -> None:
    """Another id is refused with 400."""
    assert "subscriptionId" in exception(infobip.create(given))["validationErrors"]


def test_a_body_that_is_no_object_is_refused(infobip: InfobipCaller) -> None:
    """Anything but a JSON object gets 400."""
    for body in (b"", b"{", b"[]"):
        assert infobip.http.put(ONE, content=body).status_code == 400


def test_a_profile_has_to_exist(infobip: InfobipCaller, infobip_otherwise: InfobipCaller) -> None:
    """A profile no one created is refused, to new and old subscriptions, with 404 unless the knob says 400."""
    nowhere = {"profile": {"profileId": "NOWHERE"}}

    for caller, status in ((infobip, 404), (infobip_otherwise, 400)):
        assert [caller.put(**nowhere).status_code, caller.create(**nowhere).status_code] == [status, status]


def test_a_channel_has_to_exist(infobip: InfobipCaller, infobip_otherwise: InfobipCaller) -> None:
    """The channels of the page, of the OpenAPI document, or both can be chosen."""
    channels = ("KAKAO_CHINGU", "WEB_PUSH", "PIGEON")

    assert [len(CHANNELS[one]) for one in ("page", "openapi", "both")] == [19, 22, 23]
    assert [infobip.create(channel=one).status_code for one in channels] == [201, 201, 400]
    assert [infobip_otherwise.create(channel=one).status_code for one in channels] == [201, 400, 400]


def test_the_event_table_is_data(infobip: InfobipCaller) -> None:
    """Every channel has at least one event, and all of them can be subscribed to."""
    for channel, events in EVENTS.items():
        infobip.create("ALL", channel, events=sorted(events))
        assert infobip.get("ALL", channel).json()["events"] == sorted(events) != []


def test_a_list_is_filtered_paged_and_newest_first(infobip: InfobipCaller) -> None:
    """Filters have to fit all at once; a page tells how many there are."""
    infobip.create("A", criteria=[{"applicationId": "app", "entityId": "1"}], resources=["r"], users=["a", "b"])
    infobip.create("B", criteria=[{"applicationId": "app"}, {"entityId": "1"}], users=["a"])

    def found(**asked: Any) -> list[str]:
        listed = infobip.http.get("/subscriptions/1/subscription/SMS", params=asked).json()["results"]
        return [one["subscriptionId"] for one in listed]

    assert found() == ["B", "A", "DEMO-SMS-ENTITIES", "DEMO-SMS"]
    assert found(applicationId="app", entityId="1") == ["A"]
    assert (found(user=["a", "b"]), found(user="a", resource="r"), found(user="c")) == (["A"], ["A"], [])
    assert found(size=1, page=2) == ["DEMO-SMS-ENTITIES"]
    paging = infobip.http.get("/subscriptions/1/subscription/SMS", params={"size": 3}).json()["paging"]
    assert paging == {"page": 0, "size": 3, "totalPages": 2, "totalResults": 4}


@pytest.mark.parametrize("asked", ["size=0", "size=101", "page=-1", "page=x"])
def test_a_page_out_of_range_is_refused(infobip: InfobipCaller, asked: str) -> None:
    """Such a question gets 400."""
    assert infobip.http.get(f"/subscriptions/1/subscription/SMS?{asked}").status_code == 400


def test_profiles_can_be_created_listed_and_read(infobip: InfobipCaller) -> None:
    """A profile is there once; its URL has a limit."""

    def create(profile: str, url: str) -> httpx.Response:
        body = {"profileId": profile, "webhook": {"notifyUrl": url}}
        return infobip.http.post("/subscriptions/1/profiles", json=body)

    statuses = [create("P", "https://example.com/").status_code for _ in range(2)]
    listed = infobip.http.get("/subscriptions/1/profiles").json()["results"]

    assert statuses == [201, 409]
    assert [one["profileId"] for one in listed] == ["P", "DEMO-PROFILE-2", "DEMO-PROFILE"]
    assert infobip.http.get("/subscriptions/1/profiles/Q").status_code == 404
    assert exception(create("Q", "x" * 513))["validationErrors"] == {
        "webhook.notifyUrl": ["size must be between 0 and 512"]
    }


def test_two_updates_at_once_are_counted(infobip: InfobipCaller) -> None:
    """Both pass, the later one wins, and the overlap stands under its subscription."""
    infobip.fault("latency", delay=0.1)
    with ThreadPoolExecutor(3) as pool:
        replies = [pool.submit(infobip.put, one).result for one in ("DEMO-SMS", "DEMO-SMS", "DEMO-SMS-ENTITIES")]
        assert [reply().status_code for reply in replies] == [200, 200, 200]

    stats = infobip.stats()

    assert (stats["overlaps"], stats["overlaps_by_user"]) == (1, {"SMS/DEMO-SMS": 1})
