"""What a read-back proves about rows that a reply did not show."""

from __future__ import annotations

import pytest

from consent.ledger.queue.tasks import ClaimedChange
from consent.outcome import Applied, PermanentFailure, Retry, Unauthorized
from tests.support.providers.capillary import BY_MOBILE, CONNECTION, FOUR, change, customer, failure, read, row, rows
from worker.providers.capillary.requests import read_back, write
from worker.providers.capillary.responses import parse_body
from worker.providers.contract import Request


def asked_back(*missing: ClaimedChange, neighbours: tuple[ClaimedChange, ...] = ()) -> Request:
    """Return the call that reads these changes back, beside other changes of the customer."""
    task = customer(*missing, *neighbours)
    return read_back(write(task, task.changes, CONNECTION), missing)


def test_where_it_reads() -> None:
    """The read-back asks the same place with GET and without a body."""
    request = write(customer(*FOUR, address=BY_MOBILE), FOUR, CONNECTION)
    again = read_back(request, FOUR[:1])

    assert ("GET", request.path, request.params, None) == (again.method, again.path, again.params, again.json)


@pytest.mark.parametrize("odd", ['"note": "\\ud83d"', '"note": NaN'])
def test_what_is_json_but_for_a_cell_that_no_one_needs(odd: str) -> None:
    """Half an emoji or a NaN somewhere in a reply does not hide what its rows and codes say."""
    body = parse_body('{"subscriptions": [{"channel": "EMAIL", "priority": "BULK", "type": "OPTIN"}], ' + odd + "}")

    assert [echo.channel for echo in body.echoes] == ["email"]


def test_published_read_back() -> None:
    """The published sample, with SMS for MOBILE and no org unit, proves the rows that it agrees with."""
    body = {
        "subscriptions": [
            row("EMAIL", "TRANS", "OPTIN"),
            row("SMS", "TRANS", "OPTIN"),
            row("EMAIL", "BULK", "OPTIN"),
            row("SMS", "BULK", "OPTIN"),
        ],
        "campaignId": 0,
        "communicationId": 0,
        "warnings": [],
    }
    answer = read(asked_back(*FOUR), body)
    later = answer.outcomes[1]

    assert {3, 4} == {id_ for id_, outcome in answer.outcomes.items() if outcome == Applied()}
    assert isinstance(later, Retry)
    assert (later.code, later.counts) == ("unconfirmed", True)


@pytest.mark.parametrize("body", ["", "<html>", "{}", rows(), rows(row("MOBILE", "BULK", "OPTOUT")), [1], failure(500)])
def test_nothing_shown(body: object) -> None:
    """A read-back that shows nothing of the row leaves it unconfirmed: it is tried again, and that counts."""
    outcome = read(asked_back(change(1)), body).outcomes[1]

    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.counts) == ("unconfirmed", True)


def test_indistinguishable_slot_changes() -> None:
    """While another account asks for the opposite, a read-back without accounts proves neither."""
    other = change(2, account="02", action="OPTIN")
    shown = rows(row("EMAIL", "BULK", "OPTOUT"))

    assert isinstance(read(asked_back(change(1), neighbours=(other,)), shown).outcomes[1], Retry)
    assert Applied() == read(asked_back(change(1), neighbours=(change(2, account="02"),)), shown).outcomes[1]


def test_read_back_that_tells_accounts() -> None:
    """Should the read-back tell accounts, opposite changes can be told apart."""
    other = change(2, account="02", action="OPTIN")
    shown = rows(row("EMAIL", "BULK", "OPTOUT", accountId="01"), row("EMAIL", "BULK", "OPTIN", accountId="02"))

    assert {1: Applied(), 2: Applied()} == read(asked_back(change(1), other), shown).outcomes


def test_shown_both_ways() -> None:
    """A slot that is shown both ways is unconfirmed."""
    both = rows(row("EMAIL", "BULK", "OPTOUT"), row("EMAIL", "BULK", "OPTIN"))

    assert isinstance(read(asked_back(change(1)), both).outcomes[1], Retry)


@pytest.mark.parametrize("status", [301, 400, 403, 404, 405, 415, 418])
def test_read_back_not_allowed(status: int) -> None:
    """A connection that may write but not read is not held up: the change is only unconfirmed."""
    answer = read(asked_back(change(1)), "", status)

    assert type(answer.health).__name__ == "Healthy"
    assert answer.code == "unconfirmed"


def test_read_back_refused_or_erased() -> None:
    """Unauthorized credentials and an unknown customer mean the same in a read-back as in a write."""
    assert isinstance(read(asked_back(change(1)), "", 401).health, Unauthorized)
    assert isinstance(read(asked_back(change(1)), failure(8109)).outcomes[1], PermanentFailure)
