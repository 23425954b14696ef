"""A documented code, and what becomes of the changes and of the connection."""

from __future__ import annotations

import pytest

from consent.outcome import Healthy, PermanentFailure, Retry, Throttled, Unauthorized, Unavailable
from tests.support.providers.capillary import change, failure, read, written
from worker.providers.capillary.codes import CODES
from worker.providers.classify import ReplyKind
from worker.providers.contract import Answer

DEAD = (Healthy, PermanentFailure, None)
COUNTS = (Healthy, Retry, True)
REFUSED = (Unauthorized, Retry, False)
UNAVAILABLE = (Unavailable, Retry, False)
THROTTLED = (Throttled, Retry, False)


def outcome_of(answer: Answer, change_id: int = 1) -> tuple[type, type, bool | None]:
    """Return health, outcome, and whether the answer counts as an attempt."""
    outcome = answer.outcomes[change_id]
    return type(answer.health), type(outcome), outcome.counts if isinstance(outcome, Retry) else None


@pytest.mark.parametrize("status", [200, 400, 404, 500])
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (400, DEAD),
        (1000, DEAD),
        (1012, DEAD),
        (1060, DEAD),
        (1062, DEAD),
        (1064, DEAD),
        (1101, DEAD),
        (1102, DEAD),
        (1103, DEAD),
        (1104, DEAD),
        (1105, DEAD),
        (1106, DEAD),
        (8011, DEAD),
        (8013, DEAD),
        (8015, DEAD),
        (8045, DEAD),
        (8065, DEAD),
        (8109, DEAD),
        (500, COUNTS),
        (521, COUNTS),
        (1109, COUNTS),
        (1110, COUNTS),
        (4321, COUNTS),
        (461, UNAVAILABLE),
        (503, UNAVAILABLE),
        (401, REFUSED),
        (403, REFUSED),
        (404, REFUSED),
        (405, REFUSED),
        (415, REFUSED),
        (1061, REFUSED),
        (429, THROTTLED),
    ],
)
def test_code_in_the_body(code: int, status: int, expected: tuple[type, type, bool | None]) -> None:
    """A code decides by itself what happens next, whatever the HTTP status says beside it."""
    answer = read(written(change(1)), failure(code), status)

    assert expected == outcome_of(answer)
    assert str(code) == answer.code
    assert answer.outcomes[1].code == answer.code


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (301, "", REFUSED),
        (307, "", REFUSED),
        (400, {"warnings": []}, DEAD),
        (400, "<html>Bad Request</html>", COUNTS),
        (401, "", REFUSED),
        (401, failure(1012), REFUSED),
        (403, "<html>", REFUSED),
        (404, "<html>", REFUSED),
        (405, "", REFUSED),
        (408, "", UNAVAILABLE),
        (415, "", REFUSED),
        (418, "", COUNTS),
        (429, "", THROTTLED),
        (429, failure(500), THROTTLED),
        (461, "", UNAVAILABLE),
        (500, {"warnings": []}, COUNTS),
        (500, "<html>", UNAVAILABLE),
        (500, {"message": "Internal server error"}, UNAVAILABLE),
        (502, "<html>Bad Gateway</html>", UNAVAILABLE),
        (503, "", UNAVAILABLE),
        (504, "", UNAVAILABLE),
        (521, "<html>Web server is down</html>", UNAVAILABLE),
    ],
)
def test_status_without_a_code(status: int, body: object, expected: tuple[type, type, bool | None]) -> None:
    """Where no code says more, the HTTP status decides; a gateway's page is not held against a change."""
    assert expected == outcome_of(read(written(change(1)), body, status))


def test_every_code_is_in_the_table() -> None:
    """Every code that a page documents is in the table once, with a sentence of our own."""
    assert len(CODES) == 33
    assert all(meaning.reason and str(code) == meaning.code for code, meaning in CODES.items())


def test_erased_customer() -> None:
    """A customer erased after a PII request is dead, and the letter says not to bring the record back."""
    reason = read(written(change(1)), failure(8109)).outcomes[1].reason

    assert "erased" in reason
    assert "do not bring the record back" in reason


def test_thousand_is_a_failure_only_among_errors() -> None:
    """In the older API 1000 meant success; among the warnings it decides nothing, and the row's echo proves the row."""
    body = {"subscriptions": [{"channel": "EMAIL", "priority": "BULK", "type": "OPTOUT"}]}
    answer = read(written(change(1)), {**body, "warnings": [{"status": False, "code": 1000, "message": "x"}]})

    assert type(answer.outcomes[1]).__name__ == "Applied"


@pytest.mark.parametrize(
    ("attempts", "expected"), [(0, Retry), (1, Retry), (2, PermanentFailure), (7, PermanentFailure)]
)
def test_few_tries(attempts: int, expected: type) -> None:
    """A row that Capillary was unable to update three times is a dead letter."""
    assert isinstance(read(written(change(1, attempts=attempts)), failure(1109)).outcomes[1], expected)


@pytest.mark.parametrize("code", [400, 1000, 1060, 1101])
def test_fault_in_a_shared_body(code: int) -> None:
    """When something in a body of several rows is wrong, each row is tried alone: a bad row harms only itself."""
    answer = read(written(change(1), change(2, "MOBILE")), failure(code), 400)

    assert answer.outcomes == {}
    assert [("alone", {1}), ("alone", {2})] == [(each.purpose, {c.id for c in each.changes}) for each in answer.further]


def test_several_codes() -> None:
    """Of several codes the one that says most decides: an unknown customer, not that all requests have failed."""
    assert read(written(change(1)), failure(500, 1012), 500).code == "1012"
    assert read(written(change(1)), failure(1012, 401)).code == "401"


@pytest.mark.parametrize(
    "fault", ["boom", 17, None, {}, {"code": None}, {"code": True}, {"code": "x"}, [], {"code": -5}]
)
def test_fault_without_a_code(fault: object) -> None:
    """An error that has no readable code is tried later, and counts."""
    answer = read(written(change(1)), {"errors": [fault]})

    assert outcome_of(answer) == COUNTS
    assert answer.code == "unknown"


@pytest.mark.parametrize(
    "body",
    [
        {"errors": {"code": 1012, "message": "x", "status": False}},
        {"status": False, "code": 1012, "message": "x"},
        {"errors": [{"code": "1012"}]},
    ],
)
def test_other_shapes_of_an_error(body: object) -> None:
    """One error outside a list, or a code in quotation marks, is understood as well."""
    assert read(written(change(1)), body).code == "1012"


def test_nothing_is_copied_from_the_reply() -> None:
    """A reply that names a person leaves no trace in code or reason, not even as a number in the place of a code."""
    person = "jane@example.com"
    bodies = [
        failure(1012, message=person),
        failure(15550100123, message=person),
        {"errors": [{"code": person, "message": person}]},
        {"errors": [{"code": "15550100123"}]},
    ]
    result = [(answer.code, answer.outcomes[1]) for answer in (read(written(change(1)), body) for body in bodies)]

    assert person not in repr(result)
    assert "15550100123" not in repr(result)


def test_pause_when_throttled() -> None:
    """A 429 slows the connection for as long as the provider says, or else for a minute."""
    result = read(written(change(1)), "", 429, retry_after=7)
    silent = read(written(change(1)), "", 429)

    assert (Throttled(7), 7) == (result.health, result.outcomes[1].after)
    assert (Throttled(60), 60) == (silent.health, silent.outcomes[1].after)
    assert Throttled(1) == read(written(change(1)), "", 429, retry_after=0).health


def test_retry_after_on_another_status() -> None:
    """A Retry-After slows the connection whatever status it comes with."""
    assert Throttled(30) == read(written(change(1)), "", 503, retry_after=30).health


@pytest.mark.parametrize("code", [code for code, meaning in CODES.items() if meaning.kind is ReplyKind.UNAUTHORIZED])
def test_configuration_makes_no_dead_letters(code: int) -> None:
    """What only a person can fix at the connection leaves its changes pending and says what to look at."""
    answer = read(written(change(1)), failure(code))

    assert isinstance(answer.health, Unauthorized)
    assert "Capillary" in answer.health.reason or "connection" in answer.health.reason
