"""Every example of /docs and /openapi.json is answered as it says, by a running server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from consent.ledger.ledger import Ledger
from producers.http.admission import ApiKeys
from producers.http.examples import Example, examples, meanings
from tests.support.browser.page import text_of
from tests.support.http_server import ANN, Server, server

KEYS = {
    scope: f"a-key-that-may-{scope}" for scope in ("write", "read", "optout", "contactable", "approve", "undo", "pause")
}
OPENED = {"write": "write+read"}
FIELDS = {name: value for name, value in ANN.items() if name not in ("action", "effective_at")}


@pytest.fixture
def served(books: Ledger) -> Iterator[Server]:
    """A server with a key for each scope."""
    keys = ",".join(f"{scope}[{OPENED.get(scope, scope)}]={key}" for scope, key in KEYS.items())
    with server(books, keys=ApiKeys(keys)) as running:
        yield running


def sent(served: Server, one: Example, id_: str) -> httpx.Response:
    """Send a request as the example writes it."""
    method, _, path = one.operation.partition(" ")
    path = path.replace("{id}", one.with_id or id_).replace("{token}", served.state.tokens.make(FIELDS, 60))
    path = path.replace("{connection}", "capillary")
    headers = dict(one.headers) | ({"Authorization": f"Bearer {KEYS[one.key]}"} if one.key else {})
    place = f"{path}?{one.query}" if one.query else path
    return served.client.request(method, place, content=one.body.strip().encode() or None, headers=headers)


def comparable(answer: Any) -> Any:
    """An answer without what differs in every ledger: ids, moments, cursors, and the place of an import."""
    text = re.sub(r'"[0-9a-f]{40}"', '"ID"', json.dumps(answer, sort_keys=True))
    text = re.sub(r'"(recorded_at|settled_at|since)": "[^"]+"', r'"\1": "MOMENT"', text)
    text = re.sub(r'"(cursor|import|name)": "[^"]*"', r'"\1": "OWN"', text)
    return json.loads(text)


def test_every_example_is_answered_as_it_says(served: Server) -> None:
    """Accepted ones are accepted, and refused ones are refused, with these words; in the order of the page."""
    first, found = "", []
    for one in examples():
        answered = sent(served, one, first)
        if not first:
            first = answered.json()["results"][0]["id"]
        is_page = answered.headers["content-type"].startswith("text/html")
        same = is_page if not one.answer else comparable(answered.json()) == comparable(json.loads(one.answer))
        if answered.status_code != one.status or not same:
            found.append((one.title, answered.status_code, answered.text))
    assert found == []


def test_every_form_of_a_body_has_an_example_and_every_error_that_can_be_shown(served: Server) -> None:
    """Those that are left out cannot be shown without a fault or a flood: 408, 409, 413, 429, 500, 503."""
    described = served.client.get("/openapi.json").json()
    shown = {(one.operation, one.media_type) for one in examples()}
    for path, item in described["paths"].items():
        if "post" in item:
            for kind in set(item["post"]["requestBody"]["content"]) - {"multipart/form-data"}:
                alike = {"application/jsonl", "application/x-jsonlines"}
                assert kind in alike or (f"POST {path}", kind) in shown, kind
    assert any("ce-id" in one.headers for one in examples())
    statuses = {one.status for one in examples()}
    assert {200, 202, 400, 401, 403, 404, 415} <= statuses


def test_what_is_accepted_fits_the_schemas(served: Server) -> None:
    """The examples of bodies are true to the description beside which they stand, and so are those of answers."""
    described = served.client.get("/openapi.json").json()
    checked = 0
    for item in described["paths"].values():
        for operation in item.values():
            bodies = [*operation.get("requestBody", {}).get("content", {}).values()]
            bodies += [body for answer in operation["responses"].values() for body in answer["content"].values()]
            for body in bodies:
                for name, example in body.get("examples", {}).items():
                    if not _holds_a_fault(name):
                        schema = {**body["schema"], "components": described["components"]}
                        jsonschema.Draft202012Validator(schema).validate(example["value"])
                        checked += 1
    assert checked > 15


def _holds_a_fault(name: str) -> bool:
    one = examples()[int(name.removeprefix("example_")) - 1]
    return '"rejected"' in one.answer and one.status < 400


def test_every_field_is_explained(served: Server) -> None:
    """Each field of each provider has a meaning in words, and the page shows it."""
    described = served.client.get("/openapi.json").json()["components"]["schemas"]
    fields = {field for name in ("capillary", "infobip", "gupshup") for field in described[name]["properties"]}
    assert fields == meanings().keys()
    page = served.client.get("/docs")
    text = text_of(page)
    assert "Fields of a change" in text
    for field in fields:
        assert f"<code>{field}</code>" in page.text
    for one in examples():
        assert one.title in text
