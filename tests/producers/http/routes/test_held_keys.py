"""A key that opts many people in again is held, and is seen, approved or withdrawn like a held file.

And a key whose customers all die alike trips a fuse of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from consent.ledger.ledger import Ledger
from producers.http.admission import ApiKeys
from tests.support.fuses import WRONG_ACCOUNT, answer, drain
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


def test_a_fuse_of_one_key_lets_the_other_go_on(ledger: Ledger) -> None:
    """One key sends what no provider takes: its changes are held by its name, and no other key or link notices."""
    with server(ledger, keys=ApiKeys(SETTING)) as served:
        post(served, "crm", "/v1/changes", [change(f"{n}", "OPTOUT") for n in range(1, 13)])
        answer(ledger, *[WRONG_ACCOUNT] * 5)
        for number in ("13", "14"):
            post(served, "crm", "/v1/changes", [change(number, "OPTOUT")])
            post(served, "shop", "/v1/changes", [change(f"{number}9", "OPTOUT")])
        assert sorted(drain(ledger)) == ["139", "149"]

        [fuse] = served.client.get("/v1/held", headers={"x-api-key": KEYS["ann"]}).json()["fuses"]
        assert (fuse["origin"], fuse["name"], fuse["optouts"]) == ("http:key crm", "key crm, as test", 9)
        assert KEYS["crm"] not in str(fuse)
        body = {"what": "http:key crm", "why": "the account is right now", "way": "resume"}
        assert post(served, "ann", "/v1/fuses/reset", body).status_code == 200
        assert len(drain(ledger)) == 9


SLOT = slot_text("EMAIL", "", "BULK", -1)
