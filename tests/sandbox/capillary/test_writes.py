"""What a write does, and what it is answered with."""

import pytest

from tests.sandbox.calling import Caller, Starting, row


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_write_is_echoed_and_held(capillary: Caller, method: str) -> None:
    """A write of two rows is answered with the same two rows, no warnings, and both are held."""
    sent = [row(sourceName="INSTORE"), row("MOBILE", "TRANS", "OPTIN", orgUnitId=200031782)]

    reply = capillary.write("1001", *sent, method=method, reason="spring", campaignId=7)

    assert reply.status_code == 200
    assert reply.json() == {
        "scope": {"scope": "USER", "subScope": "NONE"},
        "subscriptions": sent,
        "campaignId": 7,
        "communicationId": -1,
        "reason": "spring",
        "warnings": [],
    }
    held = [(r["channel"], r["priority"], r["type"], r["orgUnitId"], r["seq"]) for r in capillary.rows()]
    assert held == [("EMAIL", "BULK", "OPTOUT", -1, 1), ("MOBILE", "TRANS", "OPTIN", 200031782, 2)]


def test_the_last_write_of_a_slot_stays(capillary: Caller) -> None:
    """The row of a slot is replaced by the next write of it, with a higher number, whatever its source name."""
    capillary.write("1001", row(action="OPTOUT", sourceName="INSTORE"))
    capillary.write("1001", row(action="OPTIN", sourceName="WEBSITE"))

    (held,) = capillary.rows()

    assert (held["type"], held["sourceName"], held["seq"]) == ("OPTIN", "WEBSITE", 2)


def test_accounts_and_org_units_are_slots_of_their_own(capillary: Caller) -> None:
    """Rows that differ only in account or org unit do not replace each other."""
    capillary.write("1001", row(), row(accountId="02"), row(orgUnitId=5))

    assert len(capillary.rows()) == 3


def test_a_customer_is_found_by_identifier(capillary: Caller) -> None:
    """The lookup form writes the customer its identifiers name, under a key of its own."""
    query = {"source": "INSTORE", "identifierName": "email", "identifierValue": "a@example.com", "accountId": ""}

    reply = capillary.http.post(
        "/v2/customers/lookup/subscriptions",
        params=query,
        json={"subscriptions": [row("email", "bulk", "optout", accountId="")]},
    )

    assert reply.status_code == 200
    assert [held["type"] for held in capillary.rows("email=a@example.com")] == ["OPTOUT"]


def test_the_format_parameter_is_accepted(capillary: Caller) -> None:
    """`?format=json`, which every sample carries, changes nothing."""
    reply = capillary.http.post("/v2/customers/1001/subscriptions?format=json", json={"subscriptions": [row("line")]})

    assert reply.status_code == 200
    assert capillary.rows()[0]["channel"] == "LINE"


def test_the_older_echo_can_be_had(start: Starting) -> None:
    """With `legacy_echo` a reply says SMS for MOBILE, and keeps org unit and source to itself."""
    capillary = start(legacy_echo=True, methods=["PUT"])

    reply = capillary.write("1001", row("MOBILE", sourceName="INSTORE"), method="PUT")

    assert reply.json()["subscriptions"] == [
        {"channel": "SMS", "accountId": "01", "priority": "BULK", "type": "OPTOUT"}
    ]
    assert capillary.write("1001").status_code == 405
