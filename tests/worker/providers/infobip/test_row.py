"""What a row about Infobip may say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.providers.infobip import INFOBIP
from worker.providers.infobip.row import CHANNELS, InfobipRow, offers

RULE = {"action": "OPTIN", "channel": "SMS", "subscription_id": "ABC-1", "events": "DELIVERY"}
PERSON = {"action": "OPTOUT", "destination": "12025550100"}

_ASKED_FOR = """
    BLOCKLIST CUSTOMER_ENGAGEMENT EMAIL FACEBOOK KAKAO_ALIM KAKAO_CHINGU LINE MMS MOBILE_IDENTITY
    MOBILE_PUSH NUMBER_LOOKUP OPEN_CHANNEL RCS REGISTRATION SMS VIBER VOICE_VIDEO WHATSAPP ZALO
"""
ASKED_FOR = _ASKED_FOR.split()
NEWER = ["AGENT_OS", "APPLE_MESSAGES_FOR_BUSINESS", "KAKAO_BRAND_MESSAGE", "WEB_PUSH"]


def a_row(base: dict[str, Any], **cells: Any) -> InfobipRow:
    """Return a row with these cells beside the ones that it must have; None leaves a cell out."""
    return InfobipRow.model_validate({k: v for k, v in (base | cells).items() if v is not None})


def faults(base: dict[str, Any], **cells: Any) -> list[tuple[str, str]]:
    """Return column and kind of each fault of a row."""
    with pytest.raises(ValidationError) as caught:
        a_row(base, **cells)
    return [(str(error["loc"][0]), error["type"]) for error in caught.value.errors()]


def slots(row: InfobipRow) -> list[str]:
    """Return the slots that a row names."""
    return [one.slot for one in row.changes().slots]


def test_channels() -> None:
    """The nineteen channels that were asked for are there, and the four newer ones."""
    assert sorted(CHANNELS) == sorted([*ASKED_FOR, *NEWER])


@pytest.mark.parametrize("channel", [*ASKED_FOR, *NEWER])
def test_each_channel(channel: str) -> None:
    """A subscription of each channel can be changed, however the channel is spelled."""
    row = a_row(RULE, channel=channel.lower().replace("_", " "))

    assert row.changes().address == {"channel": channel, "subscription_id": "ABC-1"}
    assert row.changes().bucket == ""


def test_table_of_events() -> None:
    """The published table tells which channel offers an event."""
    assert offers("EMAIL", "UNSUBSCRIBE")
    assert offers("VOICE_VIDEO", "DTMF_CAPTURED")
    assert not offers("SMS", "BLOCK")
    assert not offers("FAX", "DELIVERY")


def test_members() -> None:
    """A cell may name several members, each once; events in any case, users and resources to the letter."""
    row = a_row(RULE, events="delivery| Click|DELIVERY|", users="User1|user1", resources=[1234, "Shop"])

    assert slots(row) == [
        *("events:DELIVERY", "events:CLICK", "resources:1234", "resources:Shop", "users:User1", "users:user1")
    ]


def test_criterion() -> None:
    """Application, entity and calls configuration of a row are one criterion."""
    row = a_row(RULE, events=None, application_id="production", entity_id="entity1")

    assert slots(row) == ['criteria:["production","entity1",""]']


def test_fields() -> None:
    """A field is one slot, whose value tells apart what it is to hold."""
    one, other = (a_row(RULE, events=None, name=name).changes().slots[0] for name in ("One", "Other"))

    assert (one.slot, one.details) == ("field:name", {"name": "One"})
    assert one.slot == other.slot
    assert one.value != other.value
    assert len(one.value) == 12


def test_person() -> None:
    """A person's row has one slot, what narrows the block, in a bucket of its own; the target is the person."""
    row = a_row(PERSON, channel="sms", sender="SHOP")

    assert row.changes().address == {"destination": "12025550100"}
    assert (slots(row), row.changes().bucket) == (['blocked:["SMS","SHOP"]'], "blocklist")
    assert slots(a_row(PERSON)) == ["blocked"]
    assert slots(a_row(PERSON, sender="日本")) == ['blocked:["","日本"]']


def test_a_slot_is_no_longer_than_a_key_may_be() -> None:
    """A row with long names of applications stops its whole file for ever, because no index takes its slot."""
    long = dict.fromkeys(("application_id", "entity_id", "calls_configuration_id"), "日" * 255)
    two = {name: long[name] for name in ("application_id", "entity_id")}

    assert len(slots(a_row(RULE, events=None, **two))[0].encode()) < 2_000
    long |= {"entity_id": "𠮷" * 255}
    assert faults(RULE, events=None, **long) == [("application_id", "too_long")]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("+1 (555) 0100-200", "15550100200"),
        (12025550100, "12025550100"),
        ("Jane.Doe@Example.COM", "Jane.Doe@example.com"),
        ("Example.com", "example.com"),
    ],
)
def test_one_person_one_destination(written: object, kept: str) -> None:
    """Spellings of one number are one person; so are spellings of a mail domain."""
    assert a_row(PERSON, destination=written).destination == kept


@pytest.mark.parametrize("written", ["0155501", "+", "jane@", "@example.com", "a b@example.com", "x", "1" * 16, "1.5"])
def test_unusable_destination(written: str) -> None:
    """What is neither a number with country code, nor a mail address, nor a mail domain is refused."""
    assert faults(PERSON, destination=written) == [("destination", "unusable_value")]


@pytest.mark.parametrize(
    ("base", "cells", "fault"),
    [
        (RULE, {"events": None}, ("events", "missing_field")),
        (RULE, {"events": None, "sender": "SHOP"}, ("events", "missing_field")),
        (RULE, {"events": " | "}, ("events", "too_short")),
        (RULE, {"events": "x" * 256}, ("events", "too_long")),
        (RULE, {"users": [True]}, ("users", "string_type")),
        (RULE, {"channel": None}, ("channel", "missing_field")),
        (RULE, {"channel": "FAX"}, ("channel", "unknown_value")),
        (RULE, {"subscription_id": None}, ("subscription_id", "missing_field")),
        (RULE, {"subscription_id": "a/b"}, ("subscription_id", "unusable_value")),
        (RULE, {"subscription_id": ".."}, ("subscription_id", "unusable_value")),
        (RULE, {"subscription_id": "9.19E+11"}, ("subscription_id", "damaged_number")),
        (RULE, {"name": "x" * 256}, ("name", "string_too_long")),
        (RULE, {"profile_id": "x" * 256}, ("profile_id", "too_long")),
        (RULE, {"destination": "12025550100"}, ("destination", "ambiguous_row")),
        (PERSON, {"destination": "9.19E+11"}, ("destination", "damaged_number")),
        (PERSON, {"channel": "APPLE_MB"}, ("channel", "unknown_value")),
        (PERSON, {"channel": "VOICE_VIDEO", "action": "OPTIN"}, ("channel", "unknown_value")),
        (PERSON, {"sender": "x" * 256}, ("sender", "too_long")),
    ],
)
def test_faults(base: dict[str, Any], cells: dict[str, Any], fault: tuple[str, str]) -> None:
    """A fault is told at the column that must be fixed."""
    assert faults(base, **cells) == [fault]


def test_channel_where_an_entry_can_only_be_removed() -> None:
    """On Apple's channel an entry can be removed, though none can be made."""
    assert a_row(PERSON, action="OPTIN", channel="apple_mb").channel == "APPLE_MB"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("\u200bann@example.com", "ann@example.com"),
        ("\ufeffbob@example.com", "bob@example.com"),
        ("eve@example.com\u00a0", "eve@example.com"),
        ("\u202a+447700900123\u202c", "447700900123"),
        ("'+447700900123", "447700900123"),
        ('="447700900124"', "447700900124"),
        ("+44 (0)7700 900123", "447700900123"),
        ("mailto:ann@example.com", "ann@example.com"),
        ("TEL:+447700900123", "447700900123"),
    ],
)
def test_what_stands_around_a_destination_is_not_sent(written: str, kept: str) -> None:
    """A person's entry is made for an address with U+200B in it, so the person goes on getting messages."""
    assert a_row(PERSON, destination=written).destination == kept


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("447700900123.0", "damaged_number"),
        ("12025550100.0", "damaged_number"),
        ("(202) 555-0104", "unusable_value"),
        ("555-0101", "unusable_value"),
        ("car\u00adol@example.com", "unusable_value"),
        ("'ann@example.com", "unusable_value"),
        ("mailto:ann%40example.com@example.com", "unusable_value"),
        ("mailto:example.com", "unusable_value"),
    ],
)
def test_what_may_be_someone_else_is_refused(written: str, code: str) -> None:
    """Another person is blocked, "applied", and the person who opted out is not."""
    assert faults(PERSON, destination=written) == [("destination", code)]


def test_a_connections_region_reads_national_numbers() -> None:
    """An American list without country codes blocks the Americans on it, and no Egyptians."""
    american = InfobipRow.in_region("US")

    assert american is InfobipRow.in_region("US")
    assert american.model_validate(PERSON | {"destination": "(202) 555-0104"}).changes().address == {
        "destination": "12025550104"
    }
    assert InfobipRow.in_region("") is InfobipRow


def test_a_whole_domain_may_be_refused() -> None:
    """`example.com` in place of `ann@example.com` blocks everyone there: it needs to be allowed."""
    strict = InfobipRow.in_region("US").without_domains()

    assert strict is InfobipRow.in_region("US").without_domains()
    assert strict.model_validate(PERSON | {"destination": "(202) 555-0104"}).changes().address == {
        "destination": "12025550104"
    }
    with pytest.raises(ValidationError, match="--allow-domains"):
        strict.model_validate(PERSON | {"destination": "example.com"})


def test_uncertain_destinations_are_known() -> None:
    """A whole domain, or a number of no known range, is delivered; a person is told how many there are."""
    warnings = {
        to: InfobipRow.warning({"destination": to})
        for to in ("447700900123", "12025550101", "example.com", "a@example.com")
    }

    assert list(warnings.values()) == ["unknown_number", None, "whole_domain", None]
    assert InfobipRow.warning({"subscription_id": "s", "channel": "SMS"}) is None


_TEXT = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12).map(lambda t: f"x{t}")
_LISTS = st.lists(_TEXT, min_size=1, max_size=3).map("|".join)
_RULES = st.fixed_dictionaries(
    {"subscription_id": _TEXT, "channel": st.sampled_from(["SMS", "EMAIL"]), "events": _LISTS},
    optional={"users": _LISTS, "resources": _LISTS, "name": _TEXT, "profile_id": _TEXT}
    | {"application_id": _TEXT, "entity_id": _TEXT, "calls_configuration_id": _TEXT},
)
_PEOPLE = st.fixed_dictionaries(
    {"destination": st.integers(10**6, 10**7 - 1).map(lambda last: f"1202{last}")},
    optional={"channel": st.sampled_from(["SMS", "EMAIL"]), "sender": _TEXT},
)


@given(_RULES | _PEOPLE)
def test_columns_of_a_change_mean_the_same_change(cells: dict[str, Any]) -> None:
    """Whatever a row said, the export of each of its changes says the same of the same target."""
    row = InfobipRow.model_validate({**cells, "action": "OPTIN"})
    for one in row.changes().slots:
        back = INFOBIP.export(row.changes().address, one.slot, one.details)
        again = InfobipRow.model_validate({**back, "action": "OPTIN"})

        assert (again.changes().address, again.changes().slots) == (row.changes().address, (one,))
