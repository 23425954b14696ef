"""What can be read back after a write."""

from tests.sandbox.calling import Caller, row


def test_mobile_reads_back_as_sms_without_its_place(capillary: Caller) -> None:
    """A read-back gives channel, priority and type only, and says SMS for MOBILE."""
    capillary.write("1001", row("MOBILE", sourceName="INSTORE"), row(action="OPTIN"))

    assert capillary.read().json() == {
        "subscriptions": [
            {"channel": "SMS", "priority": "BULK", "type": "OPTOUT"},
            {"channel": "EMAIL", "priority": "BULK", "type": "OPTIN"},
        ],
        "campaignId": 0,
        "communicationId": 0,
        "warnings": [],
    }


def test_a_lookup_reads_what_a_lookup_wrote(capillary: Caller) -> None:
    """Both lookup forms mean the same customer."""
    query = {"source": "INSTORE", "identifierName": "mobile", "identifierValue": "15550100"}
    path = "/v2/customers/lookup/subscriptions"
    capillary.http.put(path, params=query, json={"subscriptions": [row()]})

    assert len(capillary.http.get(path, params=query).json()["subscriptions"]) == 1


def test_the_change_log_tells_every_write_in_full(capillary: Caller) -> None:
    """The log carries org unit, account and source, oldest first, with the day only."""
    capillary.write("1001", row(orgUnitId=9, sourceName="WEBSITE"), reason="asked")
    capillary.write("1001", row("MOBILE", "TRANS", "OPTIN"))

    first, second = capillary.http.get("/v2/customers/1001/subscriptionStatusChangeLog").json()["data"]

    assert (first["orgUnitId"], first["accountId"], first["source"]) == (9, "01", "WEBSITE")
    assert (first["commChannelType"], first["priority"], first["status"]) == ("email", "BULK", False)
    assert (second["commChannelType"], second["commChannelId"], second["status"]) == ("mobile", 1, True)
    assert (first["reason"], len(first["addedOn"])) == ("asked", len("2021-12-27"))


def test_a_customer_never_written_reads_back_empty(capillary: Caller) -> None:
    """A known customer without rows is no error."""
    assert capillary.read("1002").json()["subscriptions"] == []
