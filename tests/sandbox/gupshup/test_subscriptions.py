"""Gupshup's subscriptions: what a write changes, and what it refuses."""

import pytest

from tests.sandbox.calling_providers import GupshupCaller, refused

ALL = "/partner/app/demo-app-1/subscription"


def test_an_update_changes_only_what_was_sent_and_shows_all(gupshup: GupshupCaller) -> None:
    """The reply is the whole subscription: id as text, times in milliseconds, modes in the order of their bits."""
    before = gupshup.get().json()["subscription"]
    reply = gupshup.put(modes="ENQUEUED,SENT", active="false")

    after = reply.json()["subscription"]

    assert (reply.status_code, reply.json()["status"]) == (200, "success")
    changed = {"modes": ["SENT", "ENQUEUED"], "mode": 1025, "active": False, "modifiedOn": after["modifiedOn"]}
    assert after == before | changed
    assert (after["id"], after["appId"], after["showOnUI"]) == ("21001", "demo-app-1", False)
    assert 1.6e12 < before["createdOn"] <= after["modifiedOn"]
    assert gupshup.get().json() == reply.json()


def test_the_fourteen_modes_give_16383(gupshup: GupshupCaller) -> None:
    """All modes with a bit, whichever order they are sent in."""
    modes = "ALL,PAYMENTS,FLOWS_MESSAGE,ENQUEUED,BILLING,MESSAGE,FAILED,OTHERS,DELETED,READ,DELIVERED,SENT"
    three = gupshup.put("21002", modes=modes).json()["subscription"]
    two = gupshup.put(modes="TEMPLATE,ACCOUNT").json()["subscription"]

    assert three["mode"] + two["mode"] == 16383
    assert three["modes"][:3] == ["SENT", "DELIVERED", "READ"]


def test_none_leaves_no_modes(gupshup: GupshupCaller) -> None:
    """NONE is shown as an empty list."""
    after = gupshup.put(modes="NONE").json()["subscription"]

    assert (after["modes"], after["mode"]) == ([], 0)


def test_a_new_subscription_gets_an_id(gupshup: GupshupCaller) -> None:
    """It can be read, updated, and is in the list of the app."""
    new = gupshup.post(meta='{"headers": {}}', showOnUI="true").json()["subscription"]

    assert (new["id"], new["active"], new["showOnUI"], new["meta"]) == ("30001", True, True, '{"headers": {}}')
    listed = gupshup.http.get(ALL).json()
    assert (listed["status"], [one["id"] for one in listed["subscriptions"]]) == (
        "success",
        ["21001", "21002", "30001"],
    )


def test_removing_is_answered_with_nothing(gupshup: GupshupCaller) -> None:
    """One subscription, or all of the app; other apps keep theirs."""
    one = gupshup.http.delete(f"{ALL}/21001")
    assert (one.status_code, one.content) == (204, b"")
    assert refused(gupshup.get()) == (400, "Subscription Does Not Exist")

    assert gupshup.http.delete(ALL).status_code == 204
    assert gupshup.keys() == ["demo-app-2/22001", "demo-app-2/22002", "demo-app-3/23001", "demo-app-3/23002"]


def test_an_id_has_to_exist_and_to_be_the_apps_own(gupshup: GupshupCaller) -> None:
    """No one's id gives 400 and another app's 403, to every call."""
    for call in (gupshup.put, gupshup.get):
        assert refused(call("99999")) == (400, "Subscription Does Not Exist")
        assert refused(call("22001")) == (403, "Not Subscription Owner")
    assert refused(gupshup.http.delete(f"{ALL}/22001")) == (403, "Not Subscription Owner")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"modes": "SENT,PIGEON"}, "Invalid Modes Passed"),
        ({"modes": ""}, "Invalid Modes Passed"),
        ({"modes": "PAYMENTS"}, "Modes Not Supported For Version"),
        ({"modes": "TEMPLATE", "version": "3"}, "Modes Not Supported For Version"),
        ({"version": "4"}, "Invalid Version Passed"),
        ({"version": "two"}, "Invalid Version Passed"),
        ({"active": "True"}, "Invalid Boolean Passed"),
        ({"doCheck": "no"}, "Invalid Boolean Passed"),
        ({"url": "example.com"}, "Invalid URL Passed"),
        ({"url": "ftp://example.com"}, "Invalid URL Passed"),
        ({"url": "http://[", "doCheck": "true"}, "Invalid URL Passed"),
        ({"tag": "inbound"}, "Duplicate Tag"),
        ({"tag": ""}, "Invalid Tag Passed"),
        ({"meta": "{"}, "Invalid Meta Passed"),
    ],
)
def test_a_field_that_does_not_fit_is_refused(gupshup: GupshupCaller, form: dict[str, str], message: str) -> None:
    """The reply is 400 with a sentence, and nothing is changed."""
    before = gupshup.get().json()

    assert refused(gupshup.put(**form)) == (400, message)
    assert gupshup.get().json() == before


def test_a_changed_version_has_to_fit_the_modes_that_stay(gupshup: GupshupCaller) -> None:
    """A subscription with PAYMENTS cannot become version 2."""
    assert refused(gupshup.put("21002", version="2")) == (400, "Modes Not Supported For Version")
    assert gupshup.put("21002", version="2", modes="MESSAGE").status_code == 200


def test_the_url_is_not_checked_when_told(gupshup: GupshupCaller) -> None:
    """With doCheck false any text is taken."""
    assert gupshup.put(url="anything", doCheck="false").json()["subscription"]["url"] == "anything"


def test_a_tag_is_unique_in_its_app_only(gupshup: GupshupCaller) -> None:
    """A subscription may keep its own tag, and two apps may have the same; a new one may not take a taken one."""
    assert gupshup.put(tag="delivery").status_code == 200
    assert refused(gupshup.post(tag="delivery")) == (400, "Duplicate Tag")


def test_a_new_subscription_needs_four_fields(gupshup: GupshupCaller) -> None:
    """Without one of them it is refused."""
    assert refused(gupshup.http.post(ALL, data={"modes": "SENT", "tag": "t"})) == (400, "Missing Field")


def test_only_forms_are_read(gupshup: GupshupCaller) -> None:
    """A JSON body is refused."""
    reply = gupshup.http.put(f"{ALL}/21001", json={"active": True})

    assert refused(reply) == (400, "Body Is Not A Form")


@pytest.mark.parametrize(
    "form",
    [
        {"version": "3", "modes": "TEMPLATE,ACCOUNT"},
        {"modes": "PAYMENTS"},
        {"url": "anything"},
        {"version": "7"},
    ],
)
def test_the_knobs_choose_what_fits(
    gupshup: GupshupCaller, gupshup_otherwise: GupshupCaller, form: dict[str, str]
) -> None:
    """Versions, the modes of each, and the check are settings."""
    assert (gupshup.post(**form).status_code, gupshup_otherwise.post(**form).status_code) == (400, 200)
