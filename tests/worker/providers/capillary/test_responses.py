"""Which rows of a reply prove which changes: HTTP 200 is not proof."""

from __future__ import annotations

import pytest

from consent.ledger.queue.tasks import ClaimedChange
from consent.outcome import Applied, Healthy, PermanentFailure, Retry, Unauthorized
from tests.support.providers.capillary import (
    BY_MOBILE,
    CONNECTION,
    FOUR,
    change,
    customer,
    failure,
    ids,
    read,
    row,
    row_failed,
    rows,
    written,
)
from worker.providers.capillary.requests import read_back, write
from worker.providers.capillary.responses import parse_body
from worker.providers.contract import Request

SAMPLE_ROWS = [
    row("EMAIL", "BULK", "OPTOUT", accountId="01", orgUnitId=200, sourceName="FACEBOOK"),
    row("MOBILE", "BULK", "OPTOUT", accountId="01", orgUnitId=200, sourceName="FACEBOOK"),
    row("EMAIL", "TRANS", "OPTIN", accountId="01", orgUnitId=200, sourceName="FACEBOOK"),
    row("MOBILE", "TRANS", "OPTIN", accountId="01", orgUnitId=200, sourceName="FACEBOOK"),
]


def test_all_rows_echoed() -> None:
    """When every row comes back as it was sent, every change is applied and nothing more is asked."""
    answer = read(written(*FOUR), rows(*SAMPLE_ROWS))

    assert dict.fromkeys((1, 2, 3, 4), Applied()) == answer.outcomes
    assert answer.further == ()
    assert (Healthy(), "200") == (answer.health, answer.code)


def test_older_reply_with_a_lost_row() -> None:
    """The older sample answers SMS for MOBILE, tells no org unit and drops a row: only the dropped row is read back."""
    changes = (
        change(1, "EMAIL", "BULK", "OPTOUT", account=""),
        change(2, "EMAIL", "TRANS", "OPTIN", account=""),
        change(3, "MOBILE", "TRANS", "OPTIN", account="123"),
        change(4, "MOBILE", "BULK", "OPTOUT", account="123"),
    )
    body = {
        "scope": {"scopeId": 0, "scope": "USER", "subScope": "NONE", "setScope": True},
        "subscriptions": [
            row("EMAIL", "BULK", "OPTOUT", accountId=""),
            row("EMAIL", "TRANS", "OPTIN", accountId=""),
            row("SMS", "TRANS", "OPTIN", accountId="123"),
        ],
        "campaignId": -1,
        "communicationId": -1,
        "reason": "Sample reason",
        "warnings": [],
    }
    answer = read(written(*changes), body)

    assert dict.fromkeys((1, 2, 3), Applied()) == answer.outcomes
    assert [("GET", "readback", {4})] == [(each.method, each.purpose, ids(each)) for each in answer.further]
    assert answer.code == "unconfirmed"


@pytest.mark.parametrize("echoed", ["sms", "SMS", "Mobile", "mobile"])
def test_spelling_of_a_channel(echoed: str) -> None:
    """SMS is MOBILE, in any case."""
    answer = read(written(change(1, "MOBILE")), rows(row(echoed, "bulk", "optout")))

    assert {1: Applied()} == answer.outcomes


@pytest.mark.parametrize(
    "echo",
    [
        row("EMAIL", "BULK", "OPTIN"),
        row("EMAIL", "TRANS", "OPTOUT"),
        row("MOBILE", "BULK", "OPTOUT"),
        row("EMAIL", "BULK", "OPTOUT", accountId="02"),
        row("EMAIL", "BULK", "OPTOUT", orgUnitId=201),
        {"channel": "EMAIL"},
        "EMAIL",
        None,
    ],
)
def test_row_that_is_not_ours(echo: object) -> None:
    """A row that says something else, or comes from another account or org unit, proves nothing."""
    answer = read(written(change(1)), {"subscriptions": [echo], "warnings": []})

    assert answer.outcomes == {}
    assert [each.purpose for each in answer.further] == ["readback"]


@pytest.mark.parametrize("body", ["", "<html>OK</html>", "[]", "null", "{", "{}", '{"subscriptions": 7}', "[" * 99_999])
@pytest.mark.parametrize("status", [200, 201, 204])
def test_success_without_proof(body: str, status: int) -> None:
    """A success whose body shows no rows is read back, whatever the body is."""
    answer = read(written(*FOUR), body, status)

    assert answer.outcomes == {}
    assert [("readback", {1, 2, 3, 4})] == [(each.purpose, ids(each)) for each in answer.further]


def test_warning_about_a_row() -> None:
    """A row with a warning is tried again alone though it is echoed; its neighbours are applied."""
    answer = read(written(*FOUR), rows(*SAMPLE_ROWS, warnings=[row_failed("SMS", "BULK")]))

    assert dict.fromkeys((1, 3, 4), Applied()) == answer.outcomes
    assert [("POST", "alone", {2})] == [(each.method, each.purpose, ids(each)) for each in answer.further]
    assert [SAMPLE_ROWS[1]["channel"]] == [r["channel"] for r in answer.further[0].json["subscriptions"]]
    assert answer.code == "91022"


def test_warning_about_a_row_that_was_alone() -> None:
    """A row that fails alone as well is a dead letter."""
    answer = read(written(FOUR[1], purpose="alone"), rows(warnings=[row_failed("MOBILE", "BULK")]))

    assert {id_: outcome.code for id_, outcome in answer.outcomes.items()} == {2: "91022"}
    assert isinstance(answer.outcomes[2], PermanentFailure)
    assert answer.further == ()


def test_failed_row_among_errors() -> None:
    """The same code among the errors, even under HTTP 500, is about its row as well."""
    body = {"subscriptions": SAMPLE_ROWS[1:], "warnings": [], "errors": [row_failed("EMAIL", "BULK")]}
    answer = read(written(*FOUR), body, 500)

    assert {2, 3, 4} == set(answer.outcomes)
    assert [("alone", {1})] == [(each.purpose, ids(each)) for each in answer.further]


def test_some_requests_failed() -> None:
    """Code 201 means that some rows failed: the rows tell which."""
    body = {"subscriptions": SAMPLE_ROWS[:3], "errors": [{"status": False, "code": 201, "message": "One or more"}]}
    answer = read(written(*FOUR), body)

    assert {1, 2, 3} == set(answer.outcomes)
    assert [("readback", {4})] == [(each.purpose, ids(each)) for each in answer.further]


def test_warning_that_names_no_row() -> None:
    """A warning about something else does not undo rows that are echoed."""
    warning = {"status": False, "code": 8050, "message": "Same Customer found in other sources,Combining"}
    answer = read(written(*FOUR), rows(*SAMPLE_ROWS, warnings=[warning]))

    assert {1, 2, 3, 4} == set(answer.outcomes)


@pytest.mark.parametrize("message", ["something failed", "", None, row_failed("LINE", "BULK")["message"]])
def test_failed_row_that_is_none_of_ours(message: object) -> None:
    """When a row failed but nothing tells which, no echo is believed and all rows are read back."""
    warning = {"status": False, "code": 91022, "message": message}
    answer = read(written(*FOUR), rows(*SAMPLE_ROWS, warnings=[warning]))

    assert answer.outcomes == {}
    assert [("readback", {1, 2, 3, 4})] == [(each.purpose, ids(each)) for each in answer.further]


def test_one_echo_for_two_changes() -> None:
    """One row without an account cannot prove two changes that differ in account only."""
    two = (change(1, account="01"), change(2, account="02"))
    one_echo = read(written(*two), rows(row("EMAIL", "BULK", "OPTOUT")))
    two_echoes = read(written(*two), rows(row("EMAIL", "BULK", "OPTOUT"), row("EMAIL", "BULK", "OPTOUT")))

    assert one_echo.outcomes == {}
    assert {1, 2} == set(two_echoes.outcomes)


def test_exact_echo_beside_a_vague_one() -> None:
    """A row that tells its account is that account's, and leaves the vague row to the other change."""
    two = (change(1, account="01"), change(2, account="02"))
    exact = row("EMAIL", "BULK", "OPTOUT", accountId="01")

    assert {1, 2} == set(read(written(*two), rows(exact, row("EMAIL", "BULK", "OPTOUT"))).outcomes)
    assert {1} == set(read(written(*two), rows(exact, exact)).outcomes)


def test_opposite_echoes() -> None:
    """A row that is echoed both ways proves nothing."""
    answer = read(written(change(1)), rows(row("EMAIL", "BULK", "OPTOUT"), row("EMAIL", "BULK", "OPTIN")))

    assert answer.outcomes == {}


def test_opposite_changes_in_two_accounts() -> None:
    """Two accounts with opposite changes are both proven when each is echoed."""
    two = (change(1, account="01", action="OPTIN"), change(2, account="02"))
    answer = read(written(*two), rows(row("EMAIL", "BULK", "OPTIN"), row("EMAIL", "BULK", "OPTOUT")))

    assert {1, 2} == set(answer.outcomes)


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
def test_what_is_json_but_for_a_cell_that_is_not_needed(odd: str) -> None:
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


def test_indistinguishable_changes() -> None:
    """While another account wants the opposite, a read-back without accounts proves neither."""
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
