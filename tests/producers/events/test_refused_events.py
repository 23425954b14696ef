"""Events that are refused: each is kept to the byte with its reason, and harms no other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent.ledger.ledger import Ledger
from consent.ledger.rejected_events import RejectedFilter
from producers.events.event import LONGEST_EVENT, Event
from producers.parsing.error_messages import RowError
from tests.support.event_intake import MORNING, OPT_OUT, Refusing, Taker, event
from tests.support.examples import examples

ALL = RejectedFilter()


@pytest.fixture
def any_taker(ledger: Ledger) -> Taker:
    """An intake on an empty ledger, on each database."""
    return Taker(ledger)


def test_a_poison_event_harms_only_itself(any_taker: Taker) -> None:
    """Each is recorded once with its place, the field at fault and the reason; the good ones are recorded too."""
    poison = event({**OPT_OUT, "channel": "FAX"}, place="stream consent, entry 5-0")
    several = event([OPT_OUT, {**OPT_OUT, "Action": "x"}, {"user_id": "1"}], place="stream consent, entry 6-0")
    results = any_taker.take(poison, {**OPT_OUT, "user_id": "2"}, several)
    any_taker.take(poison, several)

    assert [[one.status for one in found] for found in results] == [
        ["rejected"],
        ["accepted"],
        ["accepted", "rejected", "rejected"],
    ]
    assert any_taker.refused() == [
        ("unknown_value", "channel", "stream consent, entry 5-0"),
        ("named_twice", "Action", "stream consent, entry 6-0, change 2"),
        ("missing_field", "action", "stream consent, entry 6-0, change 3"),
    ]


def kept(taker: Taker) -> list[tuple[str, bytes, int]]:
    """Code, text and place in its event of each refused change that is kept."""
    found = [
        (one.code, taker.ledger.rejected_events.content_of(one.id)) for one in taker.ledger.rejected_events.find(ALL)
    ]
    return [(code, content.body, content.position) for code, content in found]


def test_of_a_list_only_what_is_refused_is_kept(any_taker: Taker) -> None:
    """It is kept as its sender wrote it, so that it can be fixed: names that stand twice, numbers of any form."""
    good = json.dumps(OPT_OUT).encode()
    twice = b'{"action": "OPTOUT", "action":  "OPTIN", "x": 1.50, "y": [1, "],"]}'
    any_taker.take(
        event(b"\xef\xbb\xbf [" + good + b" ,\n" + twice + b", 7 ]"),
        event(good + b"\r\n{oops\xff\n", headers={"content-type": "application/x-ndjson"}),
    )

    assert kept(any_taker) == [("named_twice", twice, 1), ("bad_json", b"7", 2), ("bad_json", b"{oops\xff", 1)]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (event(b"\xff\xfe{"), b"\xff\xfe{"),
        (event(b"[]"), b"[]"),
        (Event({"user_id": "1"}, since=MORNING), b'{"user_id": "1"}'),
        (Event({"user_id": "\udcff"}, since=MORNING, error=RowError("bad_encoding", "")), b'{"user_id": "\xff"}'),
        (event(b'{"a": "' + b"x" * LONGEST_EVENT + b'"}'), b'{"a": "' + b"x" * LONGEST_EVENT + b'"}'),
    ],
)
def test_an_event_that_cannot_be_read_is_kept_to_the_byte(taker: Taker, sent: Event, text: bytes) -> None:
    """A person opted out in an event of another encoding, or too large: it was acknowledged, and must not be lost."""
    taker.take(sent)

    ((_, found, position),) = kept(taker)
    assert (found, position) == (text, 0)


def test_what_its_sender_is_told_is_not_kept(taker: Taker) -> None:
    """A request that is answered with 400 is its sender's to send again; of one with 202 it is ours."""
    good = json.dumps(OPT_OUT).encode()
    taker.take(event(b"{oops", is_answered=True), event(b"[" + good + b", 7]", is_answered=True))

    assert [(code, text) for code, text, _ in kept(taker)] == [("bad_json", b"7")]
    assert len(taker.refused()) == 2


def test_a_name_that_no_database_takes_is_no_end(any_taker: Taker) -> None:
    """The rest of the batch is recorded, whatever a sender calls a field."""
    text = b'{"a\\u0000\\ud800": 1, "a\\u0000\\ud800": 2}'
    results = any_taker.take(event(b'{"specversion": "1.0"}'), event(text), OPT_OUT)

    assert [one.status for [one] in results] == ["rejected", "rejected", "accepted"]


UNUSABLE = [
    ("a\x00b", "bad_encoding"),
    ("a\ufffdb", "bad_encoding"),
    (1.5, "unusable_value"),
    ({"a": 1}, "unusable_value"),
    (["a|b"], "unusable_value"),
    ([["a"]], "unusable_value"),
    ("9.19E+11", "damaged_number"),
]


def test_a_value_that_cannot_be_used_is_refused(any_taker: Taker) -> None:
    """No database takes it, or no one could know what is meant; it never comes back for ever."""
    results = any_taker.take(*({**OPT_OUT, "user_id": value} for value, _ in UNUSABLE))

    assert [(one.status, one.code, one.field) for [one] in results] == [
        ("rejected", code, "user_id") for _, code in UNUSABLE
    ]


def test_half_a_character_in_a_binary_cloud_event_is_refused(any_taker: Taker) -> None:
    """JSON can write half of a surrogate pair, and no database can hold it."""
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
    body = json.dumps({**OPT_OUT, "user_id": "\ud800"}).encode()
    [[result]] = any_taker.take(event(body, headers=headers))

    assert result.status == "rejected"


def test_an_error_of_ours_is_recorded_and_not_repeated(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that makes our own code fail must not keep everything behind it waiting."""

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("producers.events.event_parser.parse_record", fail)
    [[result]] = taker.take(event(OPT_OUT, place="stream consent, entry 7-0"))

    assert (result.status, result.code) == ("rejected", "unreadable_event")
    assert taker.refused() == [("unreadable_event", None, "stream consent, entry 7-0")]


values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text(), max_size=2)
)


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from([*OPT_OUT, "effective_at", "reason", "change_id", "account_id"]), values))
def test_no_event_keeps_the_ledger_from_recording(any_taker: Taker, more: dict[str, Any]) -> None:
    """Whatever an event's fields hold, the batch is recorded: either it or its refusal."""
    body = json.dumps({**OPT_OUT, **more}).encode("utf-8", "surrogatepass")
    [[result]] = any_taker.take(event(body))

    assert result.status in {"accepted", "duplicate", "rejected"}


def test_an_event_that_the_ledger_refuses_is_rejected_alone(ledger: Ledger) -> None:
    """41 requests shared its commit and were all told 503, for ever; now only that one is rejected, with a remedy."""
    taker = Taker(ledger)
    taker.intake._intake = Refusing(ledger, {"2"})
    bodies = [OPT_OUT | {"user_id": str(n)} for n in range(1, 4)]

    results = taker.take(bodies[0], [bodies[1], bodies[2]], b"no JSON")

    assert [[one.status for one in found] for found in results] == [
        ["accepted"],
        ["rejected", "accepted"],
        ["rejected"],
    ]
    assert [code for code, _, _ in taker.refused()] == ["refused_by_the_ledger", "bad_json"]
    assert "shorten" in (results[1][0].message or "")
