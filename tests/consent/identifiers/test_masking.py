"""What of an address is shown: all that names a thing of ours, and the end of what names a person."""

from __future__ import annotations

import pytest

from consent.identifiers.masking import masked


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ({"user_id": "387006417"}, "user_id=…417"),
        ({"destination": "15550100", "channel": "SMS"}, "destination=…100 channel=SMS"),
        ({"channel": "SMS", "subscription_id": "ABC-123-DEF"}, "channel=SMS subscription_id=ABC-123-DEF"),
        ({"app_id": "demo-app-1", "subscription_id": "32595"}, "app_id=demo-app-1 subscription_id=32595"),
    ],
    ids=["a customer", "a destination", "a subscription", "an app's subscription"],
)
def test_only_persons_are_masked(address: dict[str, str], shown: str) -> None:
    """An app or a subscription is no one, and a dead letter that hides which one it is about helps no one."""
    assert shown == masked(address)


@pytest.mark.parametrize(
    ("email", "shown"),
    [
        ("ann.lee@example.com", "a…e@e…com"),
        ("bob.fox@example.com", "b…x@e…com"),
        ("anna@example.org", "a…@e…org"),
        ("an@example.com", "…@e…com"),
        ("@example.com", "…@e…com"),
        ("ann.lee@localhost", "…ost"),
    ],
)
def test_addresses_of_one_domain_can_be_told_apart(email: str, shown: str) -> None:
    """Who reads samples of a file finds each in it, and no one else finds a person."""
    assert masked({"destination": email}) == f"destination={shown}"
