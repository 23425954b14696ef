"""A key that opts many people in again is held, and is seen, approved or withdrawn like a held file."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from consent.ledger.ledger import Ledger
from producers.http.api_keys import ApiKeys
from tests.support.http_server import Server, server
from tests.support.ledgers import change_of, deliver, imported
from worker.providers.capillary.row import slot_text

KEYS = {name: f"0123456789abcdef-{name}" for name in ("crm", "shop", "ann")}
SETTING = f"crm[write+read]={KEYS['crm']},shop={KEYS['shop']},ann[approve]={KEYS['ann']}"
PEOPLE = [f"{10_000 + one}" for one in range(26)]


@pytest.fixture
def served(books: Ledger) -> Iterator[Server]:
    """A server with two keys that send, and one that decides."""
    with server(books, keys=ApiKeys(SETTING)) as running:
        yield running


def post(served: Server, key: str, path: str, body: object) -> httpx.Response:
    """Post a body with one of the keys."""
    return served.client.post(path, json=body, headers={"x-api-key": KEYS[key]})


def change(who: str, action: str, day: str = "20") -> dict[str, str]:
    """One change, in November."""
    moment = f"2026-11-{day}T08:30:00Z"
    row = {"connection": "capillary", "user_id": who, "channel": "EMAIL", "priority": "BULK"}
    return row | {"action": action, "effective_at": moment}


@pytest.mark.parametrize(("way", "delivered"), [("approve", len(PEOPLE)), ("withdraw", 0)])
def test_the_opt_ins_of_a_key_wait_for_a_person(books: Ledger, served: Server, way: str, delivered: int) -> None:
    """The key is told that they were accepted; another key and opt-outs go on; the wrong scope decides nothing."""
    served_people = [change(who, "OPTIN", "24") for who in PEOPLE]
    imported(books, *(change_of(who, slot=SLOT) for who in PEOPLE))
    deliver(books)

    answer = post(served, "crm", "/v1/changes", served_people)
    assert {one["status"] for one in answer.json()["results"]} == {"accepted"}
    post(served, "crm", "/v1/changes", [change("7", "OPTOUT")])
    post(served, "shop", "/v1/changes", [change("8", "OPTIN")])
    assert {who for who, _ in deliver(books)} == {"7", "8"}

    held = served.client.get("/v1/held", headers={"x-api-key": KEYS["ann"]}).json()["held"]
    assert [(one["optins"], one["name"]) for one in held] == [(len(PEOPLE), "opt-ins of key crm at capillary")]
    path = f"/v1/imports/{held[0]['import']}/{way}"
    assert post(served, "crm", path, {"why": "mine"}).status_code == 403
    assert post(served, "ann", path, {"why": "asked CRM", "expect": len(PEOPLE)}).json()["changes"] == len(PEOPLE)
    assert len(deliver(books)) == delivered
    assert post(served, "ann", path, {"why": "asked CRM"}).json()["done"] is None


SLOT = slot_text("EMAIL", "", "BULK", -1)
