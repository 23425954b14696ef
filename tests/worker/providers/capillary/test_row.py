"""What a row about a Capillary customer may say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.providers.capillary.row import CapillaryRow, Slot, read_slot, slot_text

LEAST = {"action": "OPTOUT", "user_id": "1001", "channel": "EMAIL", "priority": "BULK"}


def a_row(**cells: Any) -> CapillaryRow:
    """Return a row with these cells beside the ones that it must have; None leaves a cell out."""
    return CapillaryRow.model_validate({k: v for k, v in (LEAST | cells).items() if v is not None})


def faults(**cells: Any) -> list[tuple[str, str]]:
    """Return column and kind of each fault of a row."""
    with pytest.raises(ValidationError) as caught:
        a_row(**cells)
    return [(str(error["loc"][0]), error["type"]) for error in caught.value.errors()]


def test_least_row() -> None:
    """A row without account and org unit means the empty account and -1, as the vendor's samples do."""
    row = a_row()

    assert (row.changes().address, row.changes().slots) == ({"user_id": "1001"}, (('["EMAIL","","BULK",-1]', {}, ""),))


def test_full_row() -> None:
    """What is no part of address or slot stands in the details, as JSON values."""
    details = {"reason": "left", "campaign_id": "7", "communication_id": 8, "scope": "USER", "sub_scope": "NONE"}
    row = a_row(account_id="01", org_unit_id="200031782", source_name="facebook", **details)
    (one,) = row.changes().slots

    assert one.slot == '["EMAIL","01","BULK",200031782]'
    assert details | {"campaign_id": 7, "source_name": "FACEBOOK"} == one.details


@pytest.mark.parametrize(
    ("given_", "spelled"),
    [
        ("sms", "MOBILE"),
        ("SMS", "MOBILE"),
        ("mobile", "MOBILE"),
        ("Email", "EMAIL"),
        ("WeChat", "wechat"),
        ("WHATSAPP", "whatsapp"),
        ("iOS", "ios"),
        ("Android", "android"),
        (" LINE ", "line"),
    ],
)
def test_spelling_of_channels(given_: str, spelled: str) -> None:
    """A channel may be written in any case and is kept in the vendor's spelling."""
    assert spelled == a_row(channel=given_).channel


def test_lookup_address() -> None:
    """By identifier the address says which one, in which source; where consent was collected is no part of it."""
    mobile = {"user_id": None, "identifier_name": "CARDEXTERNALID", "identifier_value": 15550100}
    address = {"identifier_name": "cardExternalId", "identifier_value": "15550100", "source": "INSTORE"}

    assert address == a_row(**mobile).changes().address
    assert address == a_row(**mobile, source_name="line").changes().address
    assert address | {"source": "LINE"} == a_row(**mobile, source="line").changes().address
    assert (
        address | {"source": "JD", "source_account_id": "9"}
        == a_row(**mobile, source_name="line", source="jd", source_account_id=9).changes().address
    )


def test_both_ways_to_name_a_customer() -> None:
    """Where a row gives both, the customer's number wins."""
    assert a_row(identifier_name="email", identifier_value="a@example.com").changes().address == {"user_id": "1001"}
    assert a_row(identifier_name="email").changes().address == {"user_id": "1001"}


@pytest.mark.parametrize("number", ["1001", "0001001", " 1001 ", pytest.param(1001, id="an event's number")])
def test_one_customer_one_address(number: object) -> None:
    """Spellings of one number are one customer."""
    assert a_row(user_id=number).changes().address == {"user_id": "1001"}


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ({"user_id": None}, ("user_id", "missing_field")),
        ({"user_id": None, "identifier_name": "email"}, ("identifier_value", "missing_field")),
        ({"user_id": None, "identifier_value": "a@example.com"}, ("identifier_name", "missing_field")),
        ({"user_id": "abc"}, ("user_id", "not_a_number")),
        ({"user_id": "-5"}, ("user_id", "not_a_number")),
        ({"user_id": "0"}, ("user_id", "not_a_number")),
        ({"user_id": ""}, ("user_id", "not_a_number")),
        ({"user_id": "12.5"}, ("user_id", "not_a_number")),
        ({"user_id": "٣"}, ("user_id", "not_a_number")),
        ({"user_id": "9" * 30}, ("user_id", "not_a_number")),
        ({"user_id": "9" * 20}, ("user_id", "not_a_number")),
        ({"user_id": "5.65E+08"}, ("user_id", "damaged_number")),
        ({"user_id": True}, ("user_id", "string_type")),
        ({"user_id": None, "identifier_name": "phone", "identifier_value": "1"}, ("identifier_name", "unknown_value")),
        (
            {"user_id": None, "identifier_name": "mobile", "identifier_value": "9.19E+11"},
            ("identifier_value", "damaged_number"),
        ),
        ({"channel": "FAX"}, ("channel", "unknown_value")),
        ({"channel": None}, ("channel", "missing")),
        ({"channel": ["EMAIL"]}, ("channel", "string_type")),
        ({"priority": "TANS"}, ("priority", "unknown_value")),
        ({"source_name": "SHOP"}, ("source_name", "unknown_value")),
        ({"source": "SHOP"}, ("source", "unknown_value")),
        ({"org_unit_id": "two"}, ("org_unit_id", "not_a_number")),
        ({"org_unit_id": "1_000"}, ("org_unit_id", "not_a_number")),
        ({"org_unit_id": "1E+3"}, ("org_unit_id", "damaged_number")),
        ({"org_unit_id": True}, ("org_unit_id", "not_a_number")),
        ({"org_unit_id": 2**63}, ("org_unit_id", "not_a_number")),
        ({"org_unit_id": 1.5}, ("org_unit_id", "not_a_number")),
        ({"campaign_id": "x"}, ("campaign_id", "not_a_number")),
        ({"action": "MAYBE"}, ("action", "enum")),
    ],
)
def test_faults(cells: dict[str, Any], fault: tuple[str, str]) -> None:
    """A fault is told at the column that must be fixed, with a kind that a program can tell."""
    assert [fault] == faults(**cells)


def test_sentence_of_a_fault() -> None:
    """A fault of a word lists the words there are."""
    with pytest.raises(ValidationError, match="write one of TRANS, BULK"):
        a_row(priority="TANS")


@pytest.mark.parametrize("number", ["-1", "200031782", 7, " 8 "])
def test_org_unit(number: object) -> None:
    """An org unit is a whole number; -1 means none."""
    assert int(str(number)) == a_row(org_unit_id=number).org_unit_id


@given(st.text(), st.integers(-1, 2**63 - 1))
def test_slot_is_unambiguous(account: str, org_unit: int) -> None:
    """Whatever the account holds, a slot's text is JSON and gives back exactly what went in."""
    text = slot_text("EMAIL", account, "BULK", org_unit)

    assert Slot("EMAIL", account, "BULK", org_unit) == read_slot(text)
    assert text == json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize(
    ("name", "written", "sent"),
    [
        ("email", "\u200bann@example.com", "ann@example.com"),
        ("email", "Ann@Example.com", "Ann@Example.com"),
        ("mobile", "'+447700900123", "+447700900123"),
        ("mobile", '="447700900124"', "447700900124"),
        ("mobile", "'447700900125", "447700900125"),
        ("mobile", "+44 (0)7700 900126", "+447700900126"),
        ("mobile", "447700900127", "447700900127"),
        ("mobile", "9876543210", "9876543210"),
        ("externalId", "\ufeffA-7.0", "A-7.0"),
    ],
)
def test_an_identifier_is_sent_without_invisible_characters(name: str, written: str, sent: str) -> None:
    """Capillary knows no customer by `'+447700900123`, so the opt-out would be a dead letter."""
    row = a_row(user_id=None, identifier_name=name, identifier_value=written)

    assert row.changes().address["identifier_value"] == sent


@pytest.mark.parametrize(
    ("name", "written", "code"),
    [
        ("mobile", "447700900123.0", "damaged_number"),
        ("mobile", "(202) 555-0104", "unusable_value"),
        ("mobile", "+44 7700 900123-4", "unusable_value"),
        ("email", "car\u00adol@example.com", "unusable_value"),
        ("email", "'ann@example.com", "unusable_value"),
        ("email", "ann@localhost", "unusable_value"),
        ("cardNumber", "4000123.0", "damaged_number"),
    ],
)
def test_an_identifier_that_may_be_someone_elses_is_refused(name: str, written: str, code: str) -> None:
    """A wrong customer is opted out, or none."""
    found = faults(user_id=None, identifier_name=name, identifier_value=written)

    assert found == [("identifier_value", code)]


def test_a_customer_number_with_a_point_is_damaged() -> None:
    """A person learns that the export is at fault, not that a number is no number."""
    assert faults(user_id="387006417.0") == [("user_id", "damaged_number")]
    assert a_row(user_id="\u200e387006417").changes().address == {"user_id": "387006417"}


def test_a_connections_region_makes_national_numbers_whole() -> None:
    """Digits alone are sent as they are where no setting says which country they are from."""
    indian = CapillaryRow.in_region("IN")
    cells = {**LEAST, "identifier_name": "mobile", "identifier_value": "98765 43210"}
    row = indian.model_validate({name: cell for name, cell in cells.items() if name != "user_id"})

    assert row.changes().address["identifier_value"] == "919876543210"
    assert indian.model_validate(cells).changes().address == {"user_id": "1001"}
    assert indian.warning(row.changes().address) is None
    assert CapillaryRow.warning({"identifier_name": "mobile", "identifier_value": "+447700900123"}) == "unknown_number"
    assert CapillaryRow.warning({"identifier_name": "mobile", "identifier_value": "447700900123"}) is None
