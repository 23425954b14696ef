"""Who may call Infobip, how often, and in which of two bodies the answer is no."""

from typing import Any

import pytest

from tests.sandbox.calling_providers import InfobipCaller, StartingInfobip, exception


@pytest.mark.parametrize("authorization", ["", "App wrong", "Bearer demo-infobip-key", "app demo-infobip-key"])
def test_a_wrong_key_is_refused(infobip: InfobipCaller, authorization: str) -> None:
    """Without the key behind `App` every path gets 401."""
    for path in ("/subscriptions/1/subscription/SMS", "/subscriptions/1/profiles", "/platform/1/blocklists"):
        reply = infobip.http.get(path, headers={"Authorization": authorization})
        assert (reply.status_code, exception(reply)["messageId"]) == (401, "UNAUTHORIZED")


def test_a_key_without_the_scope_is_refused(infobip_otherwise: InfobipCaller) -> None:
    """A key for subscriptions only gets 403 from the blocklist."""
    assert (infobip_otherwise.put().status_code, infobip_otherwise.block("15550100").status_code) == (200, 403)


def test_a_method_that_is_not_supported_is_refused(infobip: InfobipCaller) -> None:
    """PATCH gets 405."""
    assert infobip.http.patch("/platform/1/blocklists").status_code == 405


def test_the_blocklist_takes_one_call_a_second(start_infobip: StartingInfobip) -> None:
    """The second call at once gets 429 and its destination is not held; subscriptions have a limit of their own."""
    infobip = start_infobip(blocklist_rate="1/30s", subscription_rate="2/30s", retry_after=True, slack=0)

    blocked = [infobip.block(to) for to in ("15550100", "15550101")]
    updated = [infobip.put().status_code for _ in range(3)]

    assert [reply.status_code for reply in blocked] == [202, 429]
    assert blocked[1].headers["Retry-After"] == "30"
    assert updated == [200, 200, 429]
    assert infobip.rows("blocklist/15550101") == []
    assert infobip.stats(window=30)["worst_window"] == {
        "seconds": 30,
        "calls": 5,
        "accepted": 3,
        "by_bucket": {"blocklists": {"calls": 2, "accepted": 1}, "subscriptions": {"calls": 3, "accepted": 2}},
    }


def test_an_error_has_one_of_two_bodies(infobip_otherwise: InfobipCaller) -> None:
    """The knobs choose the classic or the newer body, for 429 and for the rest; a fault may choose otherwise."""
    infobip = infobip_otherwise
    infobip.fault("throttle", next=1)
    infobip.fault("throttle", next=1, envelope="api", retry_after=3)

    classic, newer = infobip.put(), infobip.put()

    assert exception(classic) == {"messageId": "TOO_MANY_REQUESTS", "text": "Too many requests"}
    assert (newer.status_code, newer.json()["errorCode"], newer.headers["Retry-After"]) == (429, "E429", "3")
    assert newer.json()["resources"][0]["name"] == "Throttling handling errors"
    assert infobip.get("NOWHERE").json()["errorCode"] == "E404"
    assert {"property": "events", "violation": "must not be null"} in infobip.put(events=None).json()["violations"]


@pytest.mark.parametrize(
    ("fault", "status", "message_id"),
    [
        ({"kind": "error", "code": 500}, 500, "GENERAL_ERROR"),
        ({"kind": "error", "code": 503}, 503, "GENERAL_ERROR"),
        ({"kind": "error", "code": 404, "http_status": 200}, 200, "NOT_FOUND"),
        ({"kind": "unknown"}, 404, "NOT_FOUND"),
        ({"kind": "refuse"}, 401, "UNAUTHORIZED"),
        ({"kind": "refuse", "http_status": 403}, 403, "FORBIDDEN"),
    ],
)
def test_an_error_can_be_ordered(infobip: InfobipCaller, fault: dict[str, Any], status: int, message_id: str) -> None:
    """The reply is Infobip's own, for the chosen subscription only, and the call log tells which fault it was."""
    infobip.fault(**fault, users=["SMS/DEMO-SMS"])

    reply = infobip.put()

    assert (reply.status_code, exception(reply)["messageId"]) == (status, message_id)
    assert infobip.put("DEMO-SMS-ENTITIES").status_code == 200
    assert [(call["code"], call["fault"]) for call in infobip.calls()] == [(message_id, fault["kind"]), (None, None)]


def test_events_can_be_left_out_without_a_word(infobip: InfobipCaller) -> None:
    """A valid event that the fault names is not there after a write that was answered with 200."""
    infobip.fault("ignore_events", events=["CLICK"], channel="SMS", next=1)

    assert infobip.put(events=["DELIVERY", "CLICK"]).status_code == 200
    assert infobip.get().json()["events"] == ["DELIVERY"]
    infobip.put(events=["CLICK"])
    assert infobip.get().json()["events"] == ["CLICK"]
