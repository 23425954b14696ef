"""Asking what became of a change or of an import: everything that matters, and no one's address."""

from __future__ import annotations

import pytest

from consent.change import Bucket
from consent.ledger.ledger import Ledger
from consent.outcome import Applied, PermanentFailure, Retry, Unchanged
from producers.http.admission import ApiKeys
from tests.support.command_line import _settlement
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.http_server import ANN, Server, server

SCOPED = "0123456789abcdef"
LATER = {**ANN, "effective_at": "2026-11-20T09:30:00Z"}


def settle(ledger: Ledger, outcome: Applied | Unchanged | PermanentFailure | Retry) -> None:
    """Settle what is due as if the provider had answered."""
    tasks = ledger.queue.claim(Bucket("capillary"), 100, "test", 60.0)
    ledger.queue.settle("test", [_settlement(task, outcome, ledger.now()) for task in tasks])  # type: ignore[arg-type]


@POSTGRESQL_IN_PROOFS
def test_a_change_tells_what_became_of_it(ledger: Ledger) -> None:
    """A change is pending, then applied; an older change that comes later is superseded, by the id of the newer one."""
    with server(ledger) as served:
        newer = served.post(LATER).json()["results"][0]["id"]
        pending = served.get(f"/v1/changes/{newer}").json()
        settle(ledger, Applied())
        older = served.post(ANN).json()["results"][0]["id"]
        applied, superseded = (served.get(f"/v1/changes/{one}").json() for one in (newer, older))

    assert (pending["state"], pending["settled_at"]) == ("pending", None)
    assert (applied["state"], superseded["state"]) == ("applied", "superseded")
    assert superseded["superseded_by"] == newer
    assert applied["effective_at"] == "2026-11-20T09:30:00+00:00"
    assert (applied["connection"], applied["action"]) == ("capillary", "OPTOUT")
    assert (applied["origin"]["kind"], applied["origin"]["number"]) == ("http", 1)


def test_a_dead_change_tells_why(served: Server, books: Ledger) -> None:
    """Code and reason are told, and not who it is about."""
    id_ = served.post(ANN).json()["results"][0]["id"]
    settle(books, PermanentFailure("1012", "Capillary cannot find this customer"))
    found = served.get(f"/v1/changes/{id_}")

    assert (found.json()["state"], found.json()["code"]) == ("dead", "1012")
    assert found.json()["reason"] == "Capillary cannot find this customer"
    assert ANN["user_id"] not in found.text


def test_an_id_that_is_none_is_unknown(served: Server) -> None:
    """Ids of other forms and of no one are 404, whatever they look like."""
    for id_ in ("00", "0" * 32, "x", "'; --", "%00", "é"):
        answered = served.get(f"/v1/changes/{id_}")
        assert (answered.status_code, answered.json()["code"]) == (404, "unknown_change")


def test_an_import_is_told_as_the_command_tells_it(served: Server) -> None:
    """A run's counts can be asked for, with what it waits for."""
    id_ = served.post([ANN, LATER, 5]).json()["results"][0]["id"]
    import_id = served.get(f"/v1/changes/{id_}").json()["origin"]["import"]
    found = served.get(f"/v1/imports/{import_id}").json()

    assert (found["rows"], found["accepted"], found["rejected"], found["superseded"]) == (3, 2, 1, 1)
    assert (found["import"], found["sealed"], found["waiting"]) == (import_id, False, {"capillary": 1})
    assert served.get("/v1/imports/20000101-00000000").json()["code"] == "unknown_import"
    assert served.get(f"/v1/imports/{import_id[:5]}").status_code == 404


@POSTGRESQL_IN_PROOFS
def test_a_warehouse_follows_what_becomes_of_changes(ledger: Ledger) -> None:
    """Page by page, each outcome once and without an address; then nothing, until there is more."""
    with server(ledger) as served:
        assert served.get("/v1/changes").json() == {"changes": [], "cursor": "1.0", "more": False}
        ids = [
            served.post({**ANN, "user_id": str(387006417 + number)}).json()["results"][0]["id"] for number in range(3)
        ]
        settle(ledger, Applied())
        first = served.get("/v1/changes?limit=2").json()
        second = served.get(f"/v1/changes?limit=2&after={first['cursor']}").json()
        nothing = served.get(f"/v1/changes?after={second['cursor']}").json()

    listed = [one["id"] for page in (first, second) for one in page["changes"]]
    assert (sorted(listed), first["more"], second["more"]) == (sorted(ids), True, False)
    assert (nothing["changes"], nothing["cursor"]) == ([], second["cursor"])
    assert {one["state"] for one in first["changes"]} == {"applied"}
    assert "user_id" not in str(first)


def test_a_cursor_that_cannot_be_followed_is_refused(served: Server) -> None:
    """One of another ledger is gone, what is none is wrong, and so is a limit that is no number; a key is needed."""
    for asked, status, code in (
        ("after=9.0", 410, "cursor_gone"),
        ("after=x", 400, "bad_cursor"),
        ("after=", 400, "bad_cursor"),
        ("limit=0", 400, "bad_parameter"),
        ("limit=x", 400, "bad_parameter"),
        ("limit=99999999999999999999", 400, "bad_parameter"),
    ):
        answered = served.get(f"/v1/changes?{asked}")
        assert (answered.status_code, answered.json()["code"]) == (status, code), asked


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("name", ["%00", "a%00b", "%25", "%FF", "\u00e9", "a" * 3_000])
def test_ids_that_no_ledger_has_given_out_are_unknown(ledger: Ledger, name: str) -> None:
    """A NUL is an error to PostgreSQL, which must not be answered as if the ledger were away."""
    with server(ledger, keys=ApiKeys(f"ann[read+approve+undo]={SCOPED}")) as served:
        key = {"x-api-key": SCOPED}
        answers = [served.client.get(f"/v1/{what}/{name}", headers=key) for what in ("imports", "changes")]
        for what in ("approve", "withdraw", "undo"):
            answers += [served.client.post(f"/v1/imports/{name}/{what}", json={"why": "a"}, headers=key)]
    assert [one.status_code for one in answers] == [404] * 5
