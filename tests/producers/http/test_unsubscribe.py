"""Unsubscribe links: a click is an opt-out said at that moment, and whatever else is done with a link harms no one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import httpx
import pytest

from consent.change import Bucket
from consent.errors import ConfigurationError
from consent.ledger.ledger import Ledger
from consent.ledger.merge import FUTURE_TOLERANCE_SECONDS
from consent.times import from_micros
from producers.http.routes.unsubscribe import REPEAT_SECONDS
from producers.http.tokens import Expired, Forged, Tokens
from tests.support.clock import Clock
from tests.support.http_server import ANN, SECRET, Server, server

FIELDS = {name: value for name, value in ANN.items() if name not in ("action", "effective_at")}
FRESH_SECRET = "a-newer-secret-for-the-links-of-the-tests"


def counts(ledger: Ledger) -> dict[str, int]:
    """Accepted and duplicate changes of the newest run."""
    ids = ledger.queries.recent_imports(1)
    found = ledger.queries.report(ids[0]) if ids else None
    return {"accepted": found.accepted, "duplicates": found.duplicates} if found else {}


def standing(ledger: Ledger, bucket: Bucket = Bucket("capillary")) -> list[str]:  # noqa: B008 - it never changes
    """What is due for Ann."""
    tasks = ledger.queue.claim(bucket, 10, "look", 0.001)
    return [str(change.action) for task in tasks for change in task.changes]


def press(served: Server, token: str) -> httpx.Response:
    """Follow a link and press the button of its page, as a person does."""
    page = served.client.get(f"/v1/unsubscribe/{token}")
    hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]+)"', page.text))
    return served.client.post(f"/v1/unsubscribe/{token}", data=hidden)


def test_one_click_opts_out_at_that_moment(served: Server, books: Ledger, clock: Clock) -> None:
    """A mail provider posts the form of RFC 8058: no key, no cookie, no redirect, and the opt-out is recorded."""
    answered = served.click(served.state.tokens.make(FIELDS, 60))

    assert answered.status_code == 200
    assert "set-cookie" not in answered.headers
    assert "location" not in answered.headers
    (task,) = books.queue.claim(Bucket("capillary"), 10, "look", 60)
    (change,) = task.changes
    assert str(change.action) == "OPTOUT"
    assert change.effective_at == clock()


def test_the_other_encoding_of_the_form_works_too(served: Server) -> None:
    """RFC 8058 allows multipart/form-data as well."""
    token = served.state.tokens.make(FIELDS, 60)
    answered = served.client.post(f"/v1/unsubscribe/{token}", files={"List-Unsubscribe": (None, "One-Click")})

    assert answered.status_code == 200


FORM = b"List-Unsubscribe=One-Click"
IN_PARTS = b'--x1\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x1--\r\n'


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (FORM + b"\r\n", "application/x-www-form-urlencoded"),
        (b"List-Unsubscribe=+One-Click%0D%0A", "application/x-www-form-urlencoded"),
        (FORM, None),
        (FORM, "text/plain"),
        (FORM, "application/octet-stream"),
        (IN_PARTS, None),
        (IN_PARTS, "text/plain"),
        (IN_PARTS, "multipart/form-data; boundary=x1"),
        (b"a=b&" + FORM, "application/x-www-form-urlencoded; charset=UTF-8"),
    ],
)
def test_the_form_counts_whatever_is_said_about_it(
    served: Server, books: Ledger, content: bytes, kind: str | None
) -> None:
    """Someone pressed unsubscribe in a mail program that sends the form its own way, and went on getting mail."""
    headers = {} if kind is None else {"content-type": kind}
    answered = served.client.post(
        f"/v1/unsubscribe/{served.state.tokens.make(FIELDS, 60)}", content=content, headers=headers
    )

    assert answered.status_code == 200
    assert counts(books) == {"accepted": 1, "duplicates": 0}


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"content": b""},
        {"content": b"--"},
        {"content": b"--x\r\n\r\nList-Unsubscribe: One-Click"},
        {"data": {"List-Unsubscribe": "No"}},
        {"data": {"Other": "One-Click"}},
        {"json": {"List-Unsubscribe": "One-Click"}},
        {"files": {"Other": (None, "One-Click")}},
        {"content": b"--", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"List-Unsubscribe=One-Click" * 1000},
        {"content": b"--a\r\nContent-Disposition: form-data; name*0=x; name*" + b"9" * 5000 + b"=y\r\n\r\nx\r\n--a--"},
        {"content": b"--a\r\nContent-Disposition: form-data; name*0=x; name*=y\r\n\r\nx\r\n--a--"},
        {"content": b"--a\r\nContent-Type: multipart/mixed; boundary*=u\0tf''b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--a--"},
    ],
)
def test_anything_but_the_form_changes_nothing(served: Server, books: Ledger, sent: dict[str, object]) -> None:
    """A program that posts something else to every link that it finds opts no one out."""
    answered = served.client.post(f"/v1/unsubscribe/{served.state.tokens.make(FIELDS, 60)}", **sent)  # type: ignore[arg-type]

    assert answered.status_code in {400, 413}
    assert counts(books) == {}


def test_following_the_link_asks_and_changes_nothing(served: Server, books: Ledger) -> None:
    """Scanners follow every link of a mail: GET and HEAD show a page with a button, which works without any script."""
    token = served.state.tokens.make(FIELDS, 60)
    page, head = served.client.get(f"/v1/unsubscribe/{token}"), served.client.head(f"/v1/unsubscribe/{token}")

    assert (page.status_code, head.status_code) == (200, 200)
    assert counts(books) == {}
    assert '<html lang="en">' in page.text
    assert "<h1>" in page.text
    assert ANN["user_id"] not in page.text
    pressed = press(served, token)
    assert (pressed.status_code, counts(books)) == (200, {"accepted": 1, "duplicates": 0})


def test_a_token_shows_no_one(served: Server) -> None:
    """Nothing of the address can be read from a link, and two links for one person are not alike."""
    first, second = (served.state.tokens.make({**FIELDS, "identifier_value": "ann@example.com"}, 60) for _ in "12")

    assert first != second
    assert re.fullmatch(r"[A-Za-z0-9_-]+", first)
    assert not any(secret in first for secret in (ANN["user_id"], "ann", "YW5u"))


def test_a_token_that_was_tampered_with_changes_nothing(served: Server, books: Ledger) -> None:
    """Whatever character is changed, added or left out, the link no longer works."""
    token = served.state.tokens.make(FIELDS, 3600)
    places = range(0, len(token), 7)
    spoilt = [token[:n] + ("A" if token[n] != "A" else "B") + token[n + 1 :] for n in places]
    spoilt += [token[:-1], token + "AAAA", token[1:], token + "=", "%20" + token, "x" * 5000, "a"]

    assert {served.click(one).status_code for one in spoilt} == {404}
    assert counts(books) == {}


def test_a_token_of_another_secret_changes_nothing(served: Server) -> None:
    """A link that someone else has made does not work here."""
    assert served.click(Tokens(FRESH_SECRET).make(FIELDS, 60)).status_code == 404


def test_an_expired_token_changes_nothing(served: Server, books: Ledger) -> None:
    """After its time a link says so, and changes nothing."""
    old = Tokens(SECRET, clock=lambda: time.time() - 100).make(FIELDS, 60)

    assert served.click(old).status_code == 410
    assert "expired" in served.client.get(f"/v1/unsubscribe/{old}").text
    assert counts(books) == {}


def test_a_click_that_comes_twice_is_one_change(served: Server, books: Ledger, clock: Clock) -> None:
    """A mail provider that tries again, and an impatient finger, opt out once, even over a turn of the clock."""
    token = served.state.tokens.make(FIELDS, 3600)
    clock.micros -= clock.micros % (REPEAT_SECONDS * 1_000_000) - (REPEAT_SECONDS - 1) * 1_000_000
    for _ in range(5):
        assert served.click(token).status_code == 200
        clock.forward(2)

    assert counts(books) == {"accepted": 1, "duplicates": 4}


@pytest.mark.parametrize("fast", [0, 100])
def test_a_replayed_click_does_not_undo_an_opt_in(served: Server, books: Ledger, clock: Clock, fast: int) -> None:
    """Ann clicks, changes her mind and opts in again; the mail provider's second try of her click is the old click."""
    token = served.state.tokens.make(FIELDS, 3600)
    served.click(token)
    clock.forward(30)
    served.post({**ANN, "action": "OPTIN", "effective_at": from_micros(clock() + fast * 1_000_000).isoformat()})
    clock.forward(30)

    assert served.click(token).status_code == 200
    assert standing(books) == ["OPTIN"]


def test_a_person_who_presses_the_button_again_is_opted_out(served: Server, books: Ledger, clock: Clock) -> None:
    """Ann opts out, in again, and a minute later follows the link and presses the button: she is opted out, once."""
    token = served.state.tokens.make(FIELDS, 3600)
    for _ in range(2):
        press(served, token)
        clock.forward(20)
        served.post({**ANN, "action": "OPTIN", "effective_at": from_micros(clock()).isoformat()})
        clock.forward(20)

    assert press(served, token).status_code == press(served, token).status_code == 200
    assert standing(books) == ["OPTOUT"]


@pytest.mark.parametrize("click", [press, Server.click])
def test_opt_ins_from_fast_clocks_do_not_stand_against_a_click(
    served: Server, books: Ledger, clock: Clock, click: Callable[[Server, str], httpx.Response]
) -> None:
    """Ann's opt-ins carry moments some minutes ahead; she unsubscribes now, and is opted out of all of them."""
    modes = {"connection": "gupshup", "app_id": "app", "subscription_id": "sub"}
    token = served.state.tokens.make({**modes, "modes": "READ|SENT"}, 3600)
    for mode, seconds in (("READ", 120), ("SENT", 60)):
        ahead = from_micros(clock() + (FUTURE_TOLERANCE_SECONDS - seconds) * 1_000_000).isoformat()
        served.post({**modes, "modes": mode, "action": "OPTIN", "effective_at": ahead})

    assert click(served, token).status_code == 200
    assert standing(books, Bucket("gupshup", "app")) == ["OPTOUT", "OPTOUT"]


def test_a_later_click_on_an_old_link_counts(served: Server, books: Ledger, clock: Clock) -> None:
    """Ann opted in again last week and clicks the link of an older mail today: she means it, and is opted out."""
    token = served.state.tokens.make(FIELDS, 3600)
    served.click(token)
    clock.forward(30)
    served.post({**ANN, "action": "OPTIN", "effective_at": from_micros(clock()).isoformat()})
    clock.forward(REPEAT_SECONDS)

    assert served.click(token).status_code == 200
    assert standing(books) == ["OPTOUT"]


def test_secrets_can_be_replaced() -> None:
    """While a secret is being replaced, links of both work; once the old one is gone, its links do not."""
    old, new = Tokens(SECRET), Tokens(f"{FRESH_SECRET},{SECRET}")

    assert new.read(old.make(FIELDS, 60)).fields == FIELDS
    assert Tokens(FRESH_SECRET).read(new.make(FIELDS, 60)).fields == FIELDS
    with pytest.raises(Forged):
        Tokens(FRESH_SECRET).read(old.make(FIELDS, 60))
    with pytest.raises(Expired):
        Tokens(SECRET, clock=lambda: time.time() + 61).read(old.make(FIELDS, 60))


def test_a_short_secret_is_refused_and_not_repeated() -> None:
    """A secret that can be guessed would let anybody make links."""
    with pytest.raises(ConfigurationError) as refused:
        Tokens("hunter2-hunter2")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"connection": "infobip", "destination": "12025550100", "channel": "SMS"},
        {"connection": "gupshup", "app_id": "app", "subscription_id": "sub", "modes": "READ|SENT"},
        {"connection": "capillary", "identifier_name": "email", "identifier_value": "ann@example.com"}
        | {"channel": "EMAIL", "priority": "BULK"},
    ],
)
def test_every_provider_can_be_opted_out_of(served: Server, fields: dict[str, str]) -> None:
    """A link holds the columns of any provider's row."""
    assert served.click(served.state.tokens.make(fields, 60)).status_code == 200


def test_a_link_that_no_longer_fits_is_not_passed_over(served: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A link whose connection is gone is not answered with success: the person may try again, we are told why."""
    answered = served.click(served.state.tokens.make({**FIELDS, "connection": "closed"}, 60))

    assert answered.status_code == 503
    assert "unknown_connection" in caplog.text


def test_a_moment_ago_is_shorter_than_the_future_is_tolerated() -> None:
    """Two servers whose clocks differ still agree on what is the same click."""
    assert REPEAT_SECONDS > FUTURE_TOLERANCE_SECONDS


def test_without_a_secret_no_link_works(books: Ledger) -> None:
    """A server that makes no links answers every link as unknown."""
    with server(books) as served:
        object.__setattr__(served.state, "tokens", Tokens(""))
        assert served.click("x").status_code == 404
        with pytest.raises(ConfigurationError, match="OPTRELAY_TOKEN_SECRET"):
            Tokens("").make(FIELDS, 60)
