"""Fuses over HTTP, and which keys may reset them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from consent.guards.fuse import FuseRules
from consent.ledger.ledger import Ledger
from consent.ledger.review.fuse_counts import FuseCounter
from consent.ledger.schema import audit_log
from consent.outcome import PermanentFailure
from producers.http.admission import ApiKeys
from tests.support.http_server import Server, server
from tests.support.ledgers import BUCKET, change_of, deliver, imported, settlement

KEYS = {name: f"0123456789abcdef-{name}" for name in ("plain", "reader", "outs", "undoer", "ann")}
SETTING = ",".join(
    [
        f"plain={KEYS['plain']}",
        f"reader[read]={KEYS['reader']}",
        f"outs[optout]={KEYS['outs']}",
        f"undoer[undo]={KEYS['undoer']}",
        f"ann[approve]={KEYS['ann']}",
    ]
)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    ledger = Ledger(f"sqlite:///{tmp_path}/books.db")
    ledger.maintenance.prepare()
    yield ledger
    ledger.close()


@pytest.fixture
def served(books: Ledger) -> Iterator[Server]:
    """A server with a key for each scope."""
    with server(books, keys=ApiKeys(SETTING)) as running:
        yield running


def ask(served: Server, key: str, path: str, body: object = None) -> httpx.Response:
    """Ask, or post a body, with one of the keys."""
    headers = {"x-api-key": KEYS[key]}
    if body is None:
        return served.client.get(path, headers=headers)
    return served.client.post(path, json=body, headers=headers)


def tripped(books: Ledger) -> str:
    """A file of which two customers have drawn a failure of our request, which is one too many here."""
    file = imported(books, *(change_of(str(number)) for number in range(6)))
    tasks = books.queue.claim(BUCKET, 2, "delivery", 60)
    failed = [settlement(task, PermanentFailure("8011", "no such account", ours=True), books.now()) for task in tasks]
    books.queue.settle("delivery", failed, FuseCounter(BUCKET, FuseRules(in_a_row=2)))
    return file


@pytest.mark.parametrize("key", ["plain", "reader", "outs", "undoer"])
def test_only_a_key_with_the_scope_resets_a_fuse(books: Ledger, served: Server, key: str) -> None:
    """A key of before has none of the new rights."""
    file = tripped(books)

    refused = ask(served, key, "/v1/fuses/reset", {"what": file, "why": "mine"})

    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")
    assert deliver(books) == []


def test_a_fuse_is_reset_over_http(books: Ledger, served: Server) -> None:
    """It is shown without a name, reset by a key whose name is kept, carried out at once; once more changes nothing."""
    file = tripped(books)
    [reset] = ask(served, "ann", "/v1/held").json()["fuses"]
    assert (reset["import"], reset["code"], reset["optouts"]) == (file, "8011", 4)

    body = {"what": file, "why": "the account is corrected", "way": "resume"}
    done = ask(served, "ann", "/v1/fuses/reset", body)
    assert (done.status_code, done.json()["done"], [one["state"] for one in done.json()["fuses"]]) == (
        *(200, "resume"),
        ["closed"],
    )
    assert ask(served, "ann", "/v1/fuses/reset", body).json() == {"done": None, "fuses": []}

    assert len(deliver(books)) == 4
    query = select(audit_log.c.who, audit_log.c.what).where(audit_log.c.import_id == file)
    assert books.database.read(lambda tx: tx.execute(query).all()) == [
        ("optrelay", "fuse tripped"),
        ("key ann", "fuse of capillary reset: resume"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"why": "a"},
        {"what": "", "why": "a"},
        {"what": 1, "why": "a"},
        {"what": "x"},
        {"what": "x", "why": "a", "way": "burn"},
        {"what": "x", "why": "a", "way": []},
        {"what": "x", "why": "a", "expect": 1},
    ],
)
def test_a_reset_that_cannot_be_read_does_nothing(books: Ledger, served: Server, body: object) -> None:
    """It is answered with 400."""
    tripped(books)

    assert ask(served, "ann", "/v1/fuses/reset", body).status_code == 400
    assert len(books.fuses.tripped()) == 1
