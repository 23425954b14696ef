"""Dead letters that are corrected on the command line: `dead-letters replay … --set COLUMN=VALUE`."""

from __future__ import annotations

import pytest

from tests.support.command_line import Cli, bury_all, settle_all


@pytest.fixture
def buried(cli: Cli, consents: str, url: str) -> Cli:
    """A ledger with three dead letters of two customers."""
    cli("import", consents)
    bury_all(url)
    return cli


def number_of(cli: Cli, end: str) -> str:
    """The number of the first letter about the customer whose number ends so."""
    return str(next(one["id"] for one in cli("dead-letters", "list", "--json").json if one["target"].endswith(end)))


def test_a_letter_is_corrected_and_closed(buried: Cli, url: str) -> None:
    """The right customer is told; who did it and why is kept, and neither customer's number is."""
    number = number_of(buried, "88")
    given = ("--set", "user_id=1002889", "--yes", "--why", "a slip", "--who", "kim")
    answer = buried("dead-letters", "replay", number, *given)
    assert (answer.code, "which will be delivered" in answer.out) == (0, True)
    assert "1002889" not in answer.out + answer.err
    assert settle_all(url) == 1
    history = buried("history", "user_id=1002889").out
    assert "applied" in history
    assert len(buried("dead-letters", "list", "--json").json) == 2
    again = buried("dead-letters", "replay", number, *given)
    assert (again.code, "no such dead letter" in again.err) == (2, True)
    assert "by kim: a slip" in " ".join(buried("dead-letters", "show", number).err.split())


def test_a_dry_run_says_what_is_wrong_and_does_nothing(buried: Cli) -> None:
    """With the column and the remedy, and without what was typed."""
    number = number_of(buried, "88")
    answer = buried("dead-letters", "replay", number, "--set", "channel=PIGEON-4711", "--dry-run", "--json")
    assert (answer.code, answer.json["failed"], answer.json["corrected"]) == (1, [int(number)], 0)
    assert "channel: " in answer.err
    assert "4711" not in answer.out + answer.err
    fine = buried("dead-letters", "replay", number, "--set", "channel=MOBILE", "--dry-run", "--json").json
    assert (fine["would_correct"], fine["corrected"]) == (1, 0)
    assert len(buried("dead-letters", "list", "--json").json) == 3


def test_a_group_is_corrected_at_once(buried: Cli, url: str) -> None:
    """What was wrong in all of them is set in all of them."""
    found = buried("dead-letters", "replay", "--all", "--set", "org_unit_id=7", "--yes", "--why", "x", "--json").json
    assert (found["corrected"], found["failed"]) == (3, [])
    assert {one["state"] for one in found["letters"]} == {"pending"}
    assert buried("dead-letters", "list", "--json").json == []
    assert settle_all(url) == 2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("action=OPTIN", "only the person who said it"),
        ("effective_at=2026-01-01", "only the person who said it"),
        ("shoe_size=7", "is no column of capillary"),
        ("chanel=EMAIL", "did you mean channel?"),
        ("user_id", "NAME=VALUE"),
    ],
)
def test_what_cannot_be_corrected_is_said(buried: Cli, assignment: str, message: str) -> None:
    """A letter's action and time are its own; a column that is none is named."""
    answer = buried("dead-letters", "replay", number_of(buried, "88"), "--set", assignment, "--yes")
    assert (answer.code, message in answer.err) == (2, True)
    assert len(buried("dead-letters", "list", "--json").json) == 3


def test_what_was_not_altered_is_left_alone(buried: Cli) -> None:
    """It would die again: it is to be replayed."""
    answer = buried("dead-letters", "replay", number_of(buried, "88"), "--set", "user_id=1002888", "--yes")
    assert (answer.code, "replay it instead" in answer.out) == (1, True)
    assert len(buried("dead-letters", "list", "--json").json) == 3
