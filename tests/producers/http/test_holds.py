"""Held imports over HTTP, and what a key may do."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import select

from consent.errors import ConfigurationError
from consent.guards.rules import GuardRules, ImportGuards
from consent.imports import Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.schema import audit_log
from producers.http.admission import ApiKeys, Scope
from tests.support.http_server import Server, server
from tests.support.ledgers import change_of, counts, deliver, guarded, imported

KEYS = {name: f"0123456789abcdef-{name}" for name in ("plain", "reader", "outs", "ann", "nameless", "undoer", "bare")}
SETTING = ",".join(
    [
        f"plain={KEYS['plain']}",
        f"reader[read]={KEYS['reader']}",
        f"outs[optout]={KEYS['outs']}",
        f"ann[approve]={KEYS['ann']}",
        f"[approve]={KEYS['nameless']}",
        f"undoer[undo]={KEYS['undoer']}",
        f"[undo]={KEYS['bare']}",
    ]
)
CHANGE = {
    "connection": "capillary",
    "user_id": "387006417",
    "channel": "EMAIL",
    "priority": "BULK",
    "effective_at": "2026-11-20T08:30:00Z",
}


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


def held(books: Ledger) -> str:
    """A file that would opt one person in again, and opts another out."""
    imported(books, change_of("ann"))
    deliver(books)
    return guarded(books, change_of("ann", "OPTIN", 10), change_of("bob", "OPTOUT", 10), resurrects_most=0)


@pytest.mark.parametrize("key", ["plain", "reader", "outs"])
def test_only_a_key_with_the_scope_approves(books: Ledger, served: Server, key: str) -> None:
    """A key of before has none of the new rights."""
    file = held(books)
    asked = [
        ask(served, key, "/v1/held"),
        ask(served, key, f"/v1/imports/{file}/approve", {"why": "mine"}),
        ask(served, key, f"/v1/imports/{file}/withdraw", {"why": "mine"}),
    ]

    assert [(one.status_code, one.json()["code"]) for one in asked] == [(403, "missing_scope")] * 3
    assert counts(books, file) == {"pending": 2}


def test_a_held_import_is_approved_in_part_and_withdrawn(books: Ledger, served: Server) -> None:
    """The number of slots must be the one that was shown; who and why are in the audit log."""
    file = held(books)
    [waiting] = ask(served, "ann", "/v1/held").json()["held"]
    assert (waiting["import"], waiting["slots"]) == (file, {"all": 2, "optins": 1, "optouts": 1})

    path, why = f"/v1/imports/{file}", {"why": "checked with CRM"}
    wrong = ask(served, "ann", f"{path}/approve", why | {"only": "optouts", "expect": 2})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "not_as_expected")
    done = ask(served, "ann", f"{path}/approve", why | {"only": "optouts", "expect": 1})
    assert (done.status_code, done.json()["done"], done.json()["changes"]) == (200, "approved", 1)
    assert deliver(books) == [("bob", "EMAIL|BULK OPTOUT")]
    assert ask(served, "ann", f"{path}/withdraw", why).json()["done"] == "withdrawn"
    assert ask(served, "ann", f"{path}/withdraw", why).json()["done"] is None
    assert counts(books, file) == {"applied": 1, "withdrawn": 1}
    query = select(audit_log.c.who, audit_log.c.why).where(audit_log.c.import_id == file, audit_log.c.who != "optrelay")
    assert set(books.database.read(lambda tx: tx.execute(query).all())) == {("key ann", "checked with CRM")}


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"why": " "},
        {"why": 1},
        {"why": "a", "expect": "1"},
        {"why": "a", "expect": True},
        {"why": "a", "only": "both"},
        {"why": "a", "only": []},
        {"why": "a", "who": "b"},
    ],
)
def test_a_decision_that_cannot_be_read_decides_nothing(books: Ledger, served: Server, body: object) -> None:
    """It is answered with 400."""
    file = held(books)

    refused = ask(served, "ann", f"/v1/imports/{file}/approve", body)

    assert (refused.status_code, counts(books, file)) == (400, {"pending": 2})


def test_an_import_that_is_not_there(served: Server) -> None:
    """It is answered with 404."""
    assert ask(served, "ann", "/v1/imports/20261129-none/approve", {"why": "a"}).status_code == 404
    assert ask(served, "ann", "/v1/imports/20261129-none/withdraw", {"why": "a"}).status_code == 404


def test_four_eyes_want_a_name(books: Ledger) -> None:
    """A key without a name proves no one."""
    file = held(books)
    with server(books, keys=ApiKeys(SETTING), four_eyes=True) as served:
        refused = ask(served, "nameless", f"/v1/imports/{file}/approve", {"why": "a"})
        assert (refused.status_code, refused.json()["code"]) == (403, "nameless_key")
        assert ask(served, "ann", f"/v1/imports/{file}/approve", {"why": "a"}).status_code == 200


def test_a_key_does_what_its_scopes_say(served: Server) -> None:
    """One that opts out posts no opt-in and reads nothing; one that reads posts nothing; one of before does both."""
    opt_in, opt_out = CHANGE | {"action": "OPTIN"}, CHANGE | {"action": "OPTOUT"}

    sent = ask(served, "outs", "/v1/changes", [opt_out, opt_in]).json()["results"]

    assert [(one["status"], one["code"]) for one in sent] == [("accepted", None), ("rejected", "missing_scope")]
    assert ask(served, "outs", f"/v1/changes/{sent[0]['id']}").status_code == 403
    assert ask(served, "outs", "/v1/changes").status_code == 403
    assert ask(served, "outs", "/v1/imports/any").status_code == 403
    assert ask(served, "reader", "/v1/changes", opt_out).status_code == 403
    assert ask(served, "ann", "/v1/changes", opt_out).status_code == 403
    assert ask(served, "reader", f"/v1/changes/{sent[0]['id']}").status_code == 200
    assert ask(served, "plain", "/v1/changes", opt_in).status_code == 202
    assert ask(served, "plain", f"/v1/changes/{sent[0]['id']}").status_code == 200


def test_a_scope_that_does_not_exist_is_refused() -> None:
    """A misspelt scope must not become a name."""
    with pytest.raises(ConfigurationError, match="contactable"):
        ApiKeys("ann[aprove]=0123456789abcdef")
    sender = ApiKeys("ann[approve + read]=0123456789abcdef").sender({"x-api-key": "0123456789abcdef"})
    assert sender is not None
    assert (sender.name, sender.may) == ("ann", {Scope.APPROVE, Scope.READ})


@pytest.mark.parametrize(
    "setting",
    [
        "ann[read=0123456789abcdef",
        "ann read]=0123456789abcdef",
        "ann[read]x=0123456789abcdef",
        "the-loader-of-the-warehouse[read,contactable]=0123456789abcdef",
        "ann=0123456789abcdef,the-loader-of-the-warehouse[read",
    ],
)
def test_half_written_scopes_give_no_rights(setting: str) -> None:
    """A bracket that was forgotten let the key post opt-ins; a comma made a key of its name, which all may know."""
    with pytest.raises(ConfigurationError, match=r"with \+ between several") as refused:
        ApiKeys(setting)
    assert "0123456789abcdef" not in str(refused.value)


def test_a_key_that_no_header_carries_is_refused() -> None:
    """Clients send it in UTF-8 and are not known by it: they were told that their key is not valid."""
    for key in ("schlüssel-für-alle", "0123456789abcdef\n0123"):
        with pytest.raises(ConfigurationError, match="header"):
            ApiKeys(f"ann={key}")


def mistake(books: Ledger) -> str:
    """A file that has opted Ann in again and Bob out."""
    imported(books, change_of("ann"), change_of("bob", "OPTIN"))
    deliver(books)
    wrong = imported(books, change_of("ann", "OPTIN", 10), change_of("bob", "OPTOUT", 10))
    deliver(books)
    return wrong


@pytest.mark.parametrize("key", ["plain", "reader", "outs", "ann"])
def test_only_a_key_with_the_scope_undoes(books: Ledger, served: Server, key: str) -> None:
    """Not even one that approves, nor to look what would happen."""
    path = f"/v1/imports/{mistake(books)}/undo"

    asked = [ask(served, key, path, body) for body in ({"why": "mine"}, {"dry_run": True})]

    assert [(one.status_code, one.json()["code"]) for one in asked] == [(403, "missing_scope")] * 2
    assert deliver(books) == []


def test_an_import_is_undone(books: Ledger, served: Server) -> None:
    """It is shown first, the number must be the one that was shown, and who and why are in the audit log."""
    wrong = mistake(books)
    path = f"/v1/imports/{wrong}/undo"
    shown = ask(served, "undoer", path, {"dry_run": True}).json()
    assert (shown["undone"], shown["opted_out"], shown["undone_by"], shown["dry_run"]) == (1, 1, None, True)
    assert shown["back_to"] == {"opted_in": 0, "opted_out": 1, "never_said": 0, "earlier_value": 0}
    assert [(one["state"], one["slots"]) for one in shown["back_to_by"]] == [("opted_out", 1)]
    assert deliver(books) == []

    other = ask(served, "undoer", path, {"why": "an old export", "expect": 2})
    assert (other.status_code, other.json()["code"]) == (409, "not_as_expected")
    assert "1 slots" in other.json()["detail"]
    done = ask(served, "undoer", path, {"why": "an old export", "expect": 1})
    assert (done.status_code, done.json()["undone"], done.json()["dry_run"]) == (200, 1, False)
    assert deliver(books) == [("ann", "EMAIL|BULK OPTOUT")]
    assert ask(served, "undoer", path, {"why": "an old export"}).json()["undone_by"] is None
    again = ask(served, "undoer", path, {"why": "Bob, too", "opt_in_again": True})
    assert (again.json()["undone"], again.json()["opted_out"]) == (1, 0)
    assert deliver(books) == [("bob", "EMAIL|BULK OPTIN")]
    query = select(audit_log.c.who, audit_log.c.what, audit_log.c.why).where(audit_log.c.import_id == wrong)
    noted = books.database.read(lambda tx: tx.execute(query.order_by(audit_log.c.id)).all())
    assert noted == [("key undoer", "undone", "an old export"), ("key undoer", "undone", "Bob, too")]


def test_what_cannot_be_undone_is_said(books: Ledger, served: Server) -> None:
    """A held import, one that is not there, and bodies that cannot be read."""
    file = held(books)
    for more in ({"why": "a"}, {"dry_run": True}):
        refused = ask(served, "undoer", f"/v1/imports/{file}/undo", more)
        assert (refused.status_code, refused.json()["code"]) == (409, "cannot_undo")
        assert "withdraw" in refused.json()["detail"]
        assert ask(served, "undoer", "/v1/imports/20261129-none/undo", more).status_code == 404
    wrong = mistake(books)
    for body in ({}, {"why": ""}, {"why": "a", "dry_run": 1}, {"why": "a", "opt_in_again": "yes"}, {"only": "optins"}):
        assert ask(served, "undoer", f"/v1/imports/{wrong}/undo", body).status_code == 400
    assert deliver(books) == []


def test_four_eyes_want_another_one_than_the_importer(books: Ledger) -> None:
    """Who has imported a file, or a part of it, does not approve it, nor opts people in by undoing it."""
    imported(books, change_of("ann"))
    guards = ImportGuards("nightly-#.csv", GuardRules(resurrects_most=0), columns=("user_id",))
    for name in ("Ann ", "carl"):  # who goes on with it
        source = ImportSource("csv", "nightly.csv", "bytes", 1, None, guards=guards, importer=name)
        file = books.intake.open_import(source).import_id
    books.intake.accept(file, [change_of("ann", "OPTIN", 10)], [], Checkpoint(1, 2, 0, 1))
    books.intake.finish_reading(file)
    books.intake.publish(file)
    setting = ",".join(f"{name}[approve+undo]=0123456789abcdef-{name}" for name in ("ann", "carl", "dora"))
    with server(books, keys=ApiKeys(setting), four_eyes=True) as served:

        def decide(name: str, what: str, **body: object) -> tuple[int, str]:
            key = {"x-api-key": f"0123456789abcdef-{name}"}
            answer = served.client.post(f"/v1/imports/{file}/{what}", json={"why": "a"} | body, headers=key)
            return answer.status_code, answer.json().get("code", "")

        assert [decide(name, "approve")[1] for name in ("ann", "carl")] == ["same_person"] * 2
        assert deliver(books) == [("ann", "EMAIL|BULK OPTOUT")]
        assert decide("dora", "approve") == (200, "")
        assert deliver(books) == [("ann", "EMAIL|BULK OPTIN")]
        assert decide("ann", "undo", opt_in_again=True) == (409, "cannot_undo")
        assert decide("ann", "undo") == (200, "")
    with server(books, keys=ApiKeys(SETTING), four_eyes=True) as served:
        refused = ask(served, "bare", f"/v1/imports/{file}/undo", {"why": "a", "opt_in_again": True})
        assert (refused.status_code, refused.json()["code"]) == (403, "nameless_key")
