"""Identifiers are cleaned of what no one sees, and refused if they are damaged."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.identifiers.normalize import UnusableIdentifier, clean, is_email, refuse_damaged, refuse_lookalikes

ANN = "ann@example.com"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (ANN, ANN),
        (f"\u200b{ANN}", ANN),
        (f"{ANN}\u200b", ANN),
        (f"\ufeff{ANN}\u00a0", ANN),
        (f"\u202a{ANN}\u202c", ANN),
        ("\u2066+447700900124\u2069", "+447700900124"),
        ("'+447700900123", "+447700900123"),
        ("'387006417", "387006417"),
        ('="447700900124"', "447700900124"),
        (f'="\u200b{ANN}"', ANN),
        ("e\u0301va@example.com", "\u00e9va@example.com"),
        ("o'brien@example.com", "o'brien@example.com"),
        ("", ""),
        ("\u200b ", ""),
    ],
)
def test_what_no_one_sees_is_removed(text: str, cleaned: str) -> None:
    """A person's opt-out goes to an address with U+200B in it, "applied", and the person goes on getting mail."""
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("car\u00adol@example.com", "character 4 is U+00AD"),
        ("dan@exam\u2060ple.com", "character 9 is U+2060"),
        ("44\u200b7700900123", "U+200B"),
        ("ann\t@example.com", "U+0009"),
        ("\u200bab\ufeffc", "character 3 is U+FEFF"),
        (f"'{ANN}", "an apostrophe"),
    ],
)
def test_what_cannot_be_seen_inside_is_named(text: str, message: str) -> None:
    """A person looks for the fault in vain if the message does not say which character it is."""
    with pytest.raises(UnusableIdentifier, match=message.replace("+", r"\+")) as caught:
        clean(text)
    assert caught.value.code == "unusable_value"


@pytest.mark.parametrize(
    "text", ["447700900123.0", "15550100.", "447700900124,00", "447700900123.5", "9.19E+11", "7.0"]
)
def test_a_number_with_a_point_is_damaged(text: str) -> None:
    """Someone else is blocked: 447700900123.0 would be read as 4477009001230."""
    with pytest.raises(UnusableIdentifier) as caught:
        refuse_damaged(text)
    assert caught.value.code == "damaged_number"


@pytest.mark.parametrize("text", ["447700900123", "+44.7700.900.125", "+44.7700900125", "v1.0", "1.2.0"])
def test_other_points_are_no_damage(text: str) -> None:
    """Some people write points between the groups of a number."""
    refuse_damaged(text)


@pytest.mark.parametrize(
    "text",
    [
        *("ann", "ann@", "@example.com", "ann@localhost", "a@b@example.com", "ann smith@example.com"),
        *("<ann@example.com>", "ann@example.com,bob@example.com", '"ann"@example.com', "ann@10.0.0.1"),
        *("ann@example.com.", "ann@-example.com"),
    ],
)
def test_what_is_no_address_is_known(text: str) -> None:
    """No one gets mail at such an address, so no one would be opted out."""
    assert not is_email(text)


@given(st.text(max_size=20))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    """And what comes out holds nothing invisible."""
    try:
        cleaned = clean(text)
    except UnusableIdentifier:
        return
    assert not any(unicodedata.category(letter) in {"Cf", "Cc", "Zl", "Zp"} for letter in cleaned)
    assert cleaned == cleaned.strip()
    if not cleaned.startswith(("'", "=")):
        assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("o\u2019brien@example.com", "character 2 is U\\+2019"),
        ("o\ufb03ce@example.com", "character 2 is U\\+FB03"),
        ("\u201cann\u201d@example.com", "character 1 is U\\+201C"),
        ("ann\u2013b@example.com", "character 4 is U\\+2013"),
        ("\uff41nn@example.com", "character 1 is U\\+FF41"),
        ("ann@ex\u0430mple.com", "mixes letters"),
        ("\u0395xample.com", "mixes letters"),
    ],
)
def test_an_address_that_only_looks_like_one_is_refused(address: str, message: str) -> None:
    """A person whose list went through a PDF opts out, "applied", and goes on getting mail: the address is no one's."""
    with pytest.raises(UnusableIdentifier, match=message):
        refuse_lookalikes(address)


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.com",
        "jörg@bücher.example",
        "анна@пример.example",
        "o'brien@example.com",
        "例@例え.example",
        "анна.ann@example.com",
    ],
)
def test_an_address_in_any_one_script_is_taken(address: str) -> None:
    """Persons have addresses in their own letters."""
    refuse_lookalikes(address)
