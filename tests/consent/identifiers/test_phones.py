"""Telephone numbers are the number that was written, or refused: never someone else's."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.identifiers.normalize import UnusableIdentifier
from consent.identifiers.phones import is_known, is_region, looks_like_number, read_number


def code(text: str, region: str = "") -> str:
    """The code with which a number is refused, or the number."""
    try:
        return read_number(text, region)
    except UnusableIdentifier as error:
        return error.code


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("447700900123", "447700900123"),
        ("+447700900123", "447700900123"),
        ("+44 (0)7700 900123", "447700900123"),
        ("+44(0) 7700-900124", "447700900124"),
        ("+49 (0)30 23125 000", "493023125000"),
        ("+44 07700 900126", "447700900126"),
        ("+44 7700 900127", "447700900127"),
        ("+44.7700.900.125", "447700900125"),
        ("+44\u20117700\u2011900125", "447700900125"),
        ("+44\u00a07700\u202f900125", "447700900125"),
        ("+1 (202) 555-0101", "12025550101"),
        ("+33 6 12 34 56 78", "33612345678"),
        ("(+44) 7700 900123", "447700900123"),
        ("+7 (8) 912 345-67-89", "79123456789"),
        ("+39 06 1234 5678", "390612345678"),
        ("tel:+12025550101", "12025550101"),
    ],
)
def test_a_number_with_its_country_code_is_read(text: str, digits: str) -> None:
    """A person's opt-out goes to 4407700900123, a number that belongs to no one, if the trunk prefix stays in it."""
    assert read_number(text) == digits


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("447700900123.0", "damaged_number"),
        ("447700900124.00", "damaged_number"),
        ("447700900123.5", "damaged_number"),
        ("9.19E+11", "damaged_number"),
        ("447700900123 1", "unusable_value"),
        ("+44 20 7946 0018-9", "unusable_value"),
        ("+49 30 2312500-8", "unusable_value"),
        ("+44 20 7946 0018 (19)", "unusable_value"),
        ("+44 7700 900123/124", "unusable_value"),
        ("+44 7700 900123 x19", "unusable_value"),
        ("00 44 7700 900125", "unusable_value"),
        ("(202) 555-0104", "unusable_value"),
        ("555-0101", "unusable_value"),
        ("5550101", "unusable_value"),
        ("07700900123", "unusable_value"),
        ("+999123456789", "unusable_value"),
        ("+44770090012345", "unusable_value"),
        ("+1-800-FLOWERS", "unusable_value"),
        ("+15550100", "unusable_value"),
        ("15550100", "unusable_value"),
        ("+44 007700 900123", "unusable_value"),
        ("+352 15995 38557", "unusable_value"),
        ("+", "unusable_value"),
    ],
)
def test_any_other_is_refused(text: str, refused: str) -> None:
    """Someone else's number is blocked, "applied", and the person who opted out goes on getting messages."""
    assert code(text) == refused


@pytest.mark.parametrize(
    ("text", "region", "digits"),
    [
        ("(202) 555-0104", "US", "12025550104"),
        ("2025550104", "US", "12025550104"),
        ("12025550104", "US", "12025550104"),
        ("07700900123", "GB", "447700900123"),
        ("7700900123", "GB", "447700900123"),
        ("447700900123", "GB", "447700900123"),
        ("00 44 7700 900125", "GB", "447700900125"),
        ("+1 202 555 0104", "GB", "12025550104"),
        ("9876543210", "IN", "919876543210"),
        ("919876543210", "IN", "919876543210"),
        ("4915112345678", "DE", "4915112345678"),
        ("0151 12345678", "DE", "4915112345678"),
        ("555-0101", "US", "unusable_value"),
        ("447700900123", "US", "unusable_value"),
    ],
)
def test_a_region_reads_its_national_numbers(text: str, region: str, digits: str) -> None:
    """2025550104 without its country code is a number in Egypt: someone there would be blocked."""
    assert code(text, region) == digits


def test_the_remedy_names_the_setting() -> None:
    """Who exports national numbers finds out in one step how to have them read."""
    with pytest.raises(UnusableIdentifier, match="REGION"):
        read_number("(202) 555-0104")
    assert is_region("GB")
    assert not is_region("UK")


def test_a_number_that_is_only_not_known_is_taken() -> None:
    """New ranges come before any library knows them, and reserved examples never do."""
    assert (code("+447700900123"), is_known("447700900123")) == ("447700900123", False)
    assert is_known("12025550101")


def test_what_looks_like_a_number_is_one_or_refused() -> None:
    """It must never be taken for a domain."""
    assert all(map(looks_like_number, ["15550100.0", "1.2.3.4", "tel:abc", "(0)", "\u2011"]))
    assert not any(map(looks_like_number, ["1a.example.com", "ann@example.com", "", "example.com"]))


def _examples() -> list[str]:
    kinds = range(11)
    found = [
        phonenumbers.example_number_for_type(region, kind)
        for region in phonenumbers.SUPPORTED_REGIONS
        for kind in kinds
    ]
    return sorted({_e164(number) for number in found if number is not None})


def _e164(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]


@given(st.deferred(lambda: st.sampled_from(_examples())), st.text("0123456789", min_size=1, max_size=7))
def test_the_quick_way_is_the_librarys(example: str, end: str) -> None:
    """What is sent digit by digit is what the library would send, for every country."""
    digits = example[: -len(end)] + end
    try:
        number = phonenumbers.parse(f"+{digits}")
    except phonenumbers.NumberParseException:
        assert not is_known(digits)
        return
    assert is_known(digits) == (phonenumbers.is_valid_number(number) and _e164(number) == digits)


@given(st.text("0123456789+-. ()", max_size=24), st.sampled_from(["", "US", "GB", "DE", "IT", "SG"]))
def test_no_text_is_too_strange(text: str, region: str) -> None:
    """It is refused, or it is digits that mean the same when they are read again with their +."""
    found = code(text, region)
    if found not in {"unusable_value", "damaged_number"}:
        assert found.isdigit()
        assert read_number(f"+{found}", region) == found
