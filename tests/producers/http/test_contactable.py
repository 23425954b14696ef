"""Whether people may be contacted, over HTTP: every answer is a yes that was found out, or a no with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from consent.change import Action, ConsentChange
from consent.ledger.ledger import Ledger
from consent.times import to_micros
from producers.http.admission import ApiKeys
from tests.support.http_server import Server, server
from tests.support.ledgers import recorded
from worker.providers.capillary.row import slot_text

KEYS = {name: f"0123456789abcdef-{name}" for name in ("plain", "mailer")}
SINCE = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
ANN = {"identifier_name": "email", "identifier_value": "Ann@Example.com", "source": "WEBSITE"}


@pytest.fixture
def served(books: Ledger) -> Iterator[Server]:
    """A server whose ledger has an opt-out in a file that is still being read: Ann's, of promotional mail."""
    slot = slot_text("EMAIL", "", "BULK", -1)
    recorded(books, ConsentChange("capillary", ANN, slot, Action.OPTOUT, to_micros(SINCE)))
    with server(books, keys=ApiKeys(f"plain={KEYS['plain']},mailer[contactable]={KEYS['mailer']}")) as running:
        yield running


def ask(served: Server, *people: Any, key: str = "mailer", **more: Any) -> httpx.Response:
    """Ask about mail."""
    body = {"channel": "EMAIL", "people": list(people)} | more
    return served.client.post("/v1/contactable", json=body, headers={"x-api-key": KEYS[key]})


def test_each_is_answered_in_order(books: Ledger, served: Server) -> None:
    """Ann is stopped by any spelling, Bob is not, and what is not understood is no yes; the check is recorded."""
    strange = ({"email": "no address"}, {}, {"e-mail": "bob@example.com", "shoe": "44"}, 7, {"email": True})
    people = ({"email": " ann@EXAMPLE.com"}, {"email": "bob@example.com"}, *strange)
    answer = ask(served, *people)

    found = answer.json()
    assert (answer.status_code, found["allowed"], found["stopped"]) == (200, 1, 6)
    assert [one["allowed"] for one in found["results"]] == [False, True] + [False] * 5
    ann, _, *others = found["results"]
    assert (ann["code"], ann["since"], ann["connection"], ann["state"]) == (
        "opted_out",
        "2026-11-20T08:30:00Z",
        "capillary",
        "pending",
    )
    assert [one["code"] for one in others] == [
        "unusable_value",
        "no_name",
        "unknown_field",
        "bad_person",
        "unusable_value",
    ]
    [check] = books.suppression.checks()
    assert (check["id"], check["who"], check["source"], check["clean"], check["stopped"]) == (
        found["check"],
        "key mailer",
        "http",
        1,
        6,
    )


def test_the_key_needs_its_scope(books: Ledger, served: Server) -> None:
    """A key of before may not ask who is in the ledger."""
    answer = ask(served, {"email": "ann@example.com"}, key="plain")

    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
    assert books.suppression.checks() == []


def test_names_that_are_not_given_are_a_question(served: Server) -> None:
    """The opt-out is by e-mail, and a number is asked about."""
    carl = {"mobile": "+447700900123"}

    refused = ask(served, carl)
    assert (refused.status_code, refused.json()["code"]) == (409, "names_missing")
    assert "1 by email" in refused.json()["detail"]
    assert ask(served, carl, unknown="allow").json()["allowed"] == 1
    assert ask(served, carl, unknown="stop").json()["results"][0]["code"] == "unknown"


@pytest.mark.parametrize(
    "more",
    [
        {"people": []},
        {"people": [{"email": "a@example.com"}] * 1001},
        {"people": {"email": "a@example.com"}},
        {"channel": "FAX"},
        {"channel": 5},
        {"priority": "HIGH"},
        {"connections": ["former"]},
        {"connections": ["gupshup"]},
        {"unknown": "perhaps"},
        {"unknwon": "allow"},
    ],
)
def test_what_cannot_be_asked(served: Server, more: dict[str, Any]) -> None:
    """It is refused as a whole: an option that is misspelt would mean another question."""
    answer = ask(served, {"email": "bob@example.com"}, **more)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_question")


def test_a_body_that_is_no_question(served: Server) -> None:
    """Nor is one that names something twice."""
    for body in ("", "[]", "{", '{"channel": "SMS", "channel": "EMAIL", "people": [{"email": "a@example.com"}]}'):
        answer = served.client.post("/v1/contactable", content=body, headers={"x-api-key": KEYS["mailer"]})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_question"), body


def test_a_ledger_that_cannot_be_read_allows_no_one(books: Ledger, served: Server) -> None:
    """It is 503, and no answer that could be read as a yes."""
    books.database.write(lambda tx: tx.execute(text("DROP TABLE slots")))

    answer = ask(served, {"email": "ann@example.com"})

    assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unavailable")


def test_the_country_of_numbers_can_be_given(books: Ledger, served: Server) -> None:
    """Eve opted out by her number; a client that has it as it is dialled at home says where that is."""
    eve = {"identifier_name": "mobile", "identifier_value": "447700900123", "source": "WEBSITE"}
    slot = slot_text("MOBILE", "", "BULK", -1)
    recorded(books, ConsentChange("capillary", eve, slot, Action.OPTOUT, to_micros(SINCE)))
    people = ({"mobile": "07700 900123"}, {"mobile": "07700 900124"})

    without = ask(served, *people, channel="SMS", unknown="allow").json()
    found = ask(served, *people, channel="SMS", unknown="allow", region="gb").json()

    assert [one["code"] for one in without["results"]] == ["unusable_value"] * 2
    assert [(one["allowed"], one["code"]) for one in found["results"]] == [(False, "opted_out"), (True, None)]
    for wrong in ("XX", 44, [], None):
        assert ask(served, *people, channel="SMS", region=wrong).json()["code"] == "bad_question"
