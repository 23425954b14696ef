"""What Capillary refuses, with which code; a refused call changes nothing."""

from typing import Any

import pytest

from tests.sandbox.calling import Caller, Starting, code, row

WRITE = "/v2/customers/1001/subscriptions"
LOOKUP = {"source": "INSTORE", "identifierName": "mobile", "identifierValue": "15550100"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"channel": "PIGEON"},
        {"channel": None},
        {"priority": "TANS"},
        {"type": "MAYBE"},
        {"accountId": None},
        {"accountId": 1},
        {"orgUnitId": None},
        {"orgUnitId": "1"},
        {"orgUnitId": True},
        {"sourceName": "NOWHERE"},
    ],
)
def test_a_row_must_be_right_in_every_field(capillary: Caller, wrong: dict[str, Any]) -> None:
    """One wrong field refuses the whole write with 400."""
    reply = capillary.write("1001", row(), row(**wrong))

    assert (reply.status_code, code(reply)) == (400, 400)
    assert capillary.rows() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"subscriptions": []}', b'{"subscriptions": [1]}', b'{"subscriptions": 5}'],
)
def test_a_body_must_hold_rows(capillary: Caller, body: bytes) -> None:
    """A body that is no JSON object with at least one row is refused with 400."""
    reply = capillary.http.post(WRITE, content=body, headers={"Content-Type": "application/json"})

    assert (reply.status_code, code(reply)) == (400, 400)


@pytest.mark.parametrize("more", [{"reason": 5}, {"campaignId": "x"}, {"scope": "USER"}])
def test_an_optional_field_must_fit_when_given(capillary: Caller, more: dict[str, Any]) -> None:
    """An optional field of the wrong kind is refused with 400."""
    assert code(capillary.write("1001", **more)) == 400


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Accept": "text/html"}])
def test_only_json_is_spoken(capillary: Caller, headers: dict[str, str]) -> None:
    """Another media type is refused with 415."""
    reply = capillary.http.post(WRITE, content=b"{}", headers={"Content-Type": "application/json"} | headers)

    assert (reply.status_code, code(reply)) == (415, 415)


def test_a_method_that_is_not_supported_is_refused(capillary: Caller) -> None:
    """DELETE, and a write of the change log, get 405."""
    assert code(capillary.http.delete(WRITE)) == 405
    assert code(capillary.http.post("/v2/customers/1001/subscriptionStatusChangeLog")) == 405


def test_a_customer_that_does_not_exist_is_1012(capillary: Caller) -> None:
    """By default ids that start with 404 are unknown, to writes and reads alike."""
    assert code(capillary.write("4041")) == 1012
    assert code(capillary.read("4041")) == 1012


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"identifierValue": "40455"}, 8015),
        ({"source": "NOWHERE"}, 400),
        ({"source": "WECHAT"}, 8045),
        ({"identifierName": "nickname"}, 8013),
        ({"identifierName": "email,mobile"}, 400),
        ({"identifierValue": ""}, 400),
    ],
)
def test_a_lookup_must_name_one_existing_customer(capillary: Caller, query: dict[str, str], expected: int) -> None:
    """Each fault of the query has its code."""
    reply = capillary.http.post(
        "/v2/customers/lookup/subscriptions", params=LOOKUP | query, json={"subscriptions": [row()]}
    )

    assert code(reply) == expected
    assert capillary.stats()["customers"] == 0


def test_a_user_id_is_a_number(capillary: Caller) -> None:
    """Anything else in the path is refused with 400."""
    assert code(capillary.write("anna")) == 400


def test_the_knobs_choose_who_is_unknown_and_what_case_and_status_mean(start: Starting) -> None:
    """`unknown`, `ignore_case` and `http_status` are settings."""
    capillary = start(unknown=["77"], ignore_case=False, http_status={1012: 200})

    assert capillary.write("4041").status_code == 200
    assert capillary.write("1001", row("email")).status_code == 400
    assert capillary.write("1001", row("line")).status_code == 200
    unknown = capillary.write("77")
    assert (unknown.status_code, code(unknown)) == (200, 1012)
