"""Pausing and resuming over HTTP, by keys with the scope for it alone."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from consent.ledger.ledger import Ledger
from producers.http.admission import ApiKeys
from tests.support.http_server import Server, server
from tests.support.ledgers import change_of, deliver, imported

KEYS = {name: f"0123456789abcdef-{name}" for name in ("plain", "ann", "ops")}
SETTING = f"plain={KEYS['plain']},ann[approve+read+write]={KEYS['ann']},ops[pause]={KEYS['ops']}"
PAUSE, RESUME = "/v1/connections/capillary/pause", "/v1/connections/capillary/resume"


@pytest.fixture
def served(books: Ledger) -> Iterator[Server]:
    """A server with a key that may pause, and others that may not."""
    with server(books, keys=ApiKeys(SETTING)) as running:
        yield running


def ask(served: Server, path: str, body: object = None, key: str = "ops") -> httpx.Response:
    """Ask, or post a body, with one of the keys."""
    headers = {"x-api-key": KEYS[key]}
    if body is None:
        return served.client.get(path, headers=headers)
    return served.client.post(path, json=body, headers=headers)


@pytest.mark.parametrize("key", ["plain", "ann"])
def test_only_a_key_with_the_scope_pauses(books: Ledger, served: Server, key: str) -> None:
    """No other scope gives the right, on any of the three paths."""
    asked = [ask(served, "/v1/pauses", key=key), *(ask(served, path, {"why": "x"}, key) for path in (PAUSE, RESUME))]

    assert [(one.status_code, one.json()["code"]) for one in asked] == [(403, "missing_scope")] * 3
    assert books.pauses.current() == []


def test_a_connection_is_paused_and_resumed(books: Ledger, served: Server) -> None:
    """The answer counts the opt-outs that wait; who and why are in the audit log; saying it twice changes nothing."""
    imported(books, change_of("ann"), change_of("bob", "OPTIN"))

    optins = ask(served, PAUSE, {"why": "welcome mails", "only": "optins"}).json()
    assert (optins["done"], optins["pause"]["only"], optins["opt_outs_waiting"]) == ("paused", "optins", 0)
    whole = ask(served, PAUSE, {"why": "maintenance"}).json()
    assert (whole["done"], whole["pause"]["only"], whole["opt_outs_waiting"]) == ("paused", None, 1)
    assert whole["first_deadline"] is not None
    assert ask(served, PAUSE, {"why": "again"}).json()["done"] is None
    assert [one["why"] for one in ask(served, "/v1/pauses").json()["pauses"]] == ["maintenance"]
    assert deliver(books) == []

    assert ask(served, RESUME, {"why": "opt-outs first", "only": "optouts"}).json()["done"] == "resumed"
    assert deliver(books) == [("ann", "EMAIL|BULK OPTOUT")]
    assert ask(served, RESUME, {"why": "done"}).json()["resumed"][0]["only"] == "optins"
    assert ask(served, RESUME, {"why": "done"}).json() == {"done": None, "resumed": []}
    assert deliver(books) == [("bob", "EMAIL|BULK OPTIN")]
    assert {(one.who, one.why) for one in books.queries.audit_page()} == {
        ("key ops", why) for why in ("welcome mails", "maintenance", "opt-outs first", "done")
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/connections/unknown/pause", {"why": "x"}, 404, "unknown_connection"),
        ("/v1/connections/unknown/resume", {"why": "x"}, 404, "unknown_connection"),
        (PAUSE, {"why": "x", "bucket": "nothing"}, 404, "unknown_bucket"),
        (PAUSE, {"why": "x", "bucket": 7}, 404, "unknown_bucket"),
        (PAUSE, {"why": " "}, 400, "bad_pause"),
        (PAUSE, {}, 400, "bad_pause"),
        (PAUSE, {"why": "x", "only": "optouts"}, 400, "bad_pause"),
        (RESUME, {"why": "x", "only": "optins"}, 400, "bad_pause"),
        (PAUSE, {"why": "x", "who": "me"}, 400, "bad_pause"),
        (PAUSE, ["x"], 400, "bad_pause"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    books: Ledger, served: Server, path: str, body: object, status: int, code: str
) -> None:
    """A mistyped name pauses nothing, and says so."""
    answer = ask(served, path, body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert books.pauses.current() == []
