"""One person is one target, whatever the spelling; two persons are never one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.identifiers.identity import identity_of, is_same


def email(value: str, **more: str) -> dict[str, str]:
    """How Capillary's customers are named by e-mail address."""
    return {"identifier_name": "email", "identifier_value": value, "source": "INSTORE", **more}


def mobile(value: str) -> dict[str, str]:
    """How Capillary's customers are named by number."""
    return {"identifier_name": "mobile", "identifier_value": value, "source": "INSTORE"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (email("Ann@Example.com"), email("ann@example.com")),
        (email("\u200bann@example.com\u00a0"), email("ann@example.com")),
        (email("jose\u0301@example.com"), email("JOSÉ@example.com")),
        (email("an\u00adn@example.com"), email("ann@example.com")),
        (mobile("+44 7700 900123"), mobile("447700900123")),
        (mobile("\u202a+44 (7700) 900\u2011123\u202c"), mobile("447700900123")),
        (mobile("٤٤٧٧٠٠٩٠٠١٢٣"), mobile("447700900123")),
        ({"destination": "+1 (202) 555-0142"}, {"destination": "12025550142"}),
        ({"destination": "Ann@Example.COM"}, {"destination": "ann@example.com"}),
        ({"destination": "Example.com"}, {"destination": "example.com"}),
    ],
)
def test_spellings_of_one_person(one: dict[str, str], other: dict[str, str]) -> None:
    """A person who opted out as Ann@ stays opted in as ann@, because the older opt-in counts for someone else."""
    assert identity_of(one) == identity_of(other)
    assert is_same(one, {name: other[name] for name in other if name != "source"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (email("ann@example.com"), email("ann@example.com", source="LINE")),
        (email("ann@example.com"), email("ann@example.com", source_account_id="9")),
        (email("weiß@example.com"), email("weiss@example.com")),
        (email("ann+shop@example.com"), email("annshop@example.com")),
        (mobile("447700900123"), mobile("447700900124")),
        (
            {"identifier_name": "externalId", "identifier_value": "aB1"},
            {"identifier_name": "externalId", "identifier_value": "ab1"},
        ),
        ({"user_id": "1"}, {"user_id": "11"}),
        ({"channel": "SMS", "subscription_id": "A"}, {"channel": "SMS", "subscription_id": "a"}),
    ],
)
def test_two_persons(one: dict[str, str], other: dict[str, str]) -> None:
    """A person is opted out because someone else with a like name did."""
    assert identity_of(one) != identity_of(other)


names = st.sampled_from(("email", "mobile", "externalId"))


@given(
    st.one_of(
        st.builds(lambda value: {"destination": value}, st.text()),
        st.builds(lambda name, value: {"identifier_name": name, "identifier_value": value}, names, st.text()),
    )
)
def test_folding_again_changes_nothing(address: dict[str, str]) -> None:
    """A ledger that is migrated twice, or asked by what it shows, must not find two persons in one."""
    once = identity_of(address)
    assert identity_of(once) == once
    assert once.keys() == address.keys()
