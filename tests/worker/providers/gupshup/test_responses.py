"""What the replies of Gupshup make of each change, and which modes are written."""

from __future__ import annotations

from typing import Any

import pytest

from consent.outcome import Applied, PermanentFailure, Unchanged
from tests.support.providers.gupshup import error, first, only, outcomes, read, shown, subscription
from worker.providers.contract import Request

IN, OUT = {"action": "OPTIN"}, {"action": "OPTOUT"}


def put(*rows: dict[str, Any], **there: Any) -> Request:
    """Return the write that rows about modes lead to."""
    return only(read(first(subscription(*rows)), shown(**there)))


def test_modes_are_merged() -> None:
    """Modes are added to and removed from those that are there: two calls, whatever else the rows change."""
    look = first(subscription(IN | {"modes": "READ|SENT", "tag": "mine"}, OUT | {"modes": "ENQUEUED"}))
    answer = read(look, shown())

    assert (look.method, look.form) == ("GET", None)
    assert answer.outcomes == {2: Unchanged()}
    assert only(answer).form == {"modes": "SENT,READ", "tag": "mine"}


def test_nothing_to_change() -> None:
    """What is so already costs no write."""
    row = {"modes": "SENT", "tag": "V33i4", "version": "2", "url": "https://hooks.example.com/gupshup"}
    answer = read(first(subscription(IN | row, IN)), shown())

    assert (answer.further, set(answer.outcomes.values())) == ((), {Unchanged()})
    assert len(answer.outcomes) == 5


def test_last_mode_goes() -> None:
    """Where no mode is left, the form says NONE; what a reply calls NONE is no mode."""
    assert put(OUT | {"modes": "SENT"}, modes=["SENT"]).form == {"modes": "NONE"}
    assert put(IN | {"modes": "SENT"}, modes=["NONE"]).form == {"modes": "SENT"}


@pytest.mark.parametrize(("mode", "version"), [("PAYMENTS", 2), ("ALL", 0), ("TEMPLATE", 3), ("COPY", 3)])
def test_mode_that_the_version_does_not_have(mode: str, version: int) -> None:
    """A mode that does not go with the subscription's version is rejected, and the rest goes."""
    answer = read(first(subscription(IN | {"modes": f"{mode}|READ"})), shown(version=version))

    assert outcomes(answer) == {1: "mode_not_for_version"}
    assert only(answer).form == {"modes": "SENT,ENQUEUED,READ"}


def test_version_that_comes_along() -> None:
    """The version that the same write sets is the one that modes must go with."""
    assert put(IN | {"modes": "PAYMENTS"}, IN | {"version": "3"}, version=2).form == {
        "modes": "SENT,ENQUEUED,PAYMENTS",
        "version": "3",
    }


def test_reply_is_compared() -> None:
    """What the reply shows is applied, a mode that it ignores is rejected, and a field that differs is tried again."""
    request = put(IN | {"modes": "READ|FAILED", "tag": "mine", "do_check": "false"})
    answer = read(request, shown(modes=["ENQUEUED", "READ", "SENT"], tag="other"))

    assert outcomes(answer) == {1: "applied", 2: "mode_ignored", 3: "unconfirmed"}


def test_reply_that_shows_less() -> None:
    """What a reply does not show is looked for once more."""
    request = put(IN | {"modes": "READ", "tag": "mine"})
    answer = read(request, shown(modes=..., tag="mine"))

    assert answer.outcomes == {2: Applied()}
    assert (only(answer).method, only(answer).purpose) == ("GET", "verify")
    assert read(only(answer), shown(modes=["READ"])).outcomes == {1: Applied()}
    assert outcomes(read(only(answer), shown())) == {1: "unconfirmed"}


def test_check_alone() -> None:
    """Whether a URL shall be checked shows nowhere: a success has to do."""
    request = first(subscription(IN | {"do_check": "true"}))

    assert request.form == {"doCheck": "true"}
    assert read(request, shown()).outcomes == {1: Applied()}


def test_look_without_modes() -> None:
    """Where a look shows no modes, nothing is written over them."""
    answer = read(first(subscription(IN | {"modes": "READ"})), shown(modes=...))

    assert (answer.further, outcomes(answer)) == ((), {1: "unreadable"})


@pytest.mark.parametrize(
    ("message", "code", "rest"),
    [
        ("Invalid URL Passed", "invalid_url", {"tag": "mine"}),
        ("duplicate TAG", "duplicate_tag", {"url": "https://a.example.com"}),
    ],
)
def test_bad_field_is_cut_out(message: str, code: str, rest: dict[str, str]) -> None:
    """A field that the message names is rejected, and the rest goes in one further call."""
    answer = read(first(subscription(IN | {"tag": "mine", "url": "https://a.example.com"})), error(message), 400)

    assert code in outcomes(answer).values()
    assert len(answer.outcomes) == 1
    assert only(answer).form == rest


def test_unknown_fault() -> None:
    """Where a 400 names no field of ours, each half is tried by itself, and one alone is rejected."""
    both = read(first(subscription(IN | {"tag": "mine", "version": "3"})), error("Something"), 400)
    one = read(both.further[0], error("Something"), 400)

    assert [dict(call.form or {}) for call in both.further] == [{"tag": "mine"}, {"version": "3"}]
    assert one.outcomes == {1: PermanentFailure("400", "Gupshup does not accept the request")}
