"""What a row about a Gupshup subscription may say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.providers.gupshup import GUPSHUP
from worker.providers.gupshup.row import EVERY_MODE, GupshupRow

LEAST = {"action": "OPTOUT", "app_id": "app-1", "subscription_id": "32595"}


def a_row(**cells: Any) -> GupshupRow:
    """Return a row with these cells beside the ones that it must have; None leaves a cell out."""
    return GupshupRow.model_validate({k: v for k, v in (LEAST | cells).items() if v is not None})


def slots(**cells: Any) -> list[str]:
    """Return the slots that a row names."""
    return [one.slot for one in a_row(**cells).changes().slots]


def test_least_row() -> None:
    """A row that names nothing sets whether the subscription is active; its app has a limit of its own."""
    row = a_row()

    assert row.changes().address == {"app_id": "app-1", "subscription_id": "32595"}
    assert (slots(), row.changes().bucket) == (["active"], "app-1")


def test_members_and_fields() -> None:
    """Each mode and each field is a slot, and then `active` is left alone."""
    named = slots(modes="sent|Read", tag="t", url="https://hooks.example.com", version="3")

    assert named == ["modes:SENT", "modes:READ", "field:tag", "field:url", "field:version"]


def test_check_of_the_url() -> None:
    """`do_check` travels with what else the row says, and stands alone only where it says nothing else."""
    assert [one.details for one in a_row(modes="SENT", do_check="FALSE").changes().slots] == [{"do_check": False}]
    assert slots(do_check="true") == ["field:do_check"]


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ({"app_id": None}, ("app_id", "missing")),
        ({"subscription_id": None}, ("subscription_id", "missing")),
        ({"subscription_id": "3.2E+4"}, ("subscription_id", "damaged_number")),
        ({"subscription_id": ".."}, ("subscription_id", "unusable_value")),
        ({"app_id": "a/b"}, ("app_id", "unusable_value")),
        ({"url": "https://a.example.com/" + "x" * 2048}, ("url", "too_long")),
        ({"tag": "x" * 256}, ("tag", "too_long")),
        ({"modes": "NONE"}, ("modes", "unknown_value")),
        ({"modes": "SENT|SMOKE"}, ("modes", "unknown_value")),
        ({"version": "4"}, ("version", "less_than_equal")),
        ({"version": "two"}, ("version", "int_parsing")),
        ({"do_check": "maybe"}, ("do_check", "unknown_value")),
        ({"url": "hooks.example.com"}, ("url", "unusable_value")),
        ({"url": "ftp://hooks.example.com"}, ("url", "unusable_value")),
        ({"url": "https://"}, ("url", "unusable_value")),
        ({"url": "https://a b.example.com"}, ("url", "unusable_value")),
        ({"url": "https://[broken"}, ("url", "unusable_value")),
        ({"url": "https://hooks.example.com:99999"}, ("url", "unusable_value")),
        ({"modes": "PAYMENTS", "version": "2", "action": "OPTIN"}, ("modes", "unusable_value")),
        ({"modes": "TEMPLATE", "version": "3", "action": "OPTIN"}, ("modes", "unusable_value")),
    ],
)
def test_faults(cells: dict[str, Any], fault: tuple[str, str]) -> None:
    """A fault is told at the column that must be fixed."""
    with pytest.raises(ValidationError) as caught:
        a_row(**cells)

    assert [(str(error["loc"][0]), error["type"]) for error in caught.value.errors()] == [fault]


def test_any_mode_may_be_removed() -> None:
    """A mode that the version does not have may still be removed."""
    assert slots(modes="TEMPLATE", version="3") == ["modes:TEMPLATE", "field:version"]


_TEXT = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12).map(lambda t: f"x{t}")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "modes": st.lists(st.sampled_from(EVERY_MODE), min_size=1, max_size=4).map("|".join),
            "tag": _TEXT,
            "url": _TEXT.map(lambda text: f"https://hooks.example.com/{text}"),
            "version": st.sampled_from("0123"),
            "do_check": st.sampled_from(["true", "false"]),
        },
    )
)
def test_columns_of_a_change_mean_the_same_change(cells: dict[str, Any]) -> None:
    """Whatever a row said, the export of each of its changes says the same of the same subscription."""
    row = a_row(**cells)
    for one in row.changes().slots:
        again = a_row(**GUPSHUP.export(row.changes().address, one.slot, one.details))

        assert (again.changes().address, again.changes().slots) == (row.changes().address, (one,))
