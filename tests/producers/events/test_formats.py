"""What an event may look like, and what is said of one that cannot be read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.events import event_parser
from producers.events.event import LONGEST_EVENT, Event, EventChange
from producers.parsing.error_messages import RowError
from producers.parsing.strict_json import BYTE_ORDER_MARK
from tests.support.event_intake import OPT_OUT, codes, parsed

NEEDED = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "com.example.consent"}


def test_one_object_is_one_change() -> None:
    """The CSV's names as JSON."""
    assert parsed(OPT_OUT) == [EventChange(OPT_OUT)]


def test_flat_fields_are_one_change() -> None:
    """The entry of a Redis stream may hold the columns themselves."""
    assert event_parser.read(Event(OPT_OUT)) == [EventChange(OPT_OUT)]


def test_a_list_and_lines_are_several_changes() -> None:
    """One bad member, or one bad line, harms only itself."""
    lines = json.dumps(OPT_OUT).encode() + b"\n\n{oops\n" + json.dumps(OPT_OUT).encode()

    assert codes(parsed([OPT_OUT, 7, OPT_OUT])) == ["said", "bad_json", "said"]
    assert codes(parsed(lines, content_type="application/x-ndjson; charset=utf-8")) == ["said", "bad_json", "said"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"null", b"[]", b"7", b'"text"', b"[" * 100_000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    """It is a fault with a remedy, never an error of ours."""
    assert codes(parsed(body)) == ["bad_json"]
    assert codes(parsed(body, **{f"ce_{name}": value for name, value in NEEDED.items()})) == ["bad_cloudevent"]


def test_an_event_that_is_too_large_is_refused_unread() -> None:
    """One megabyte is the limit, to the byte."""
    padding = LONGEST_EVENT - len(json.dumps(OPT_OUT | {"reason": ""}))
    largest = json.dumps(OPT_OUT | {"reason": "x" * padding}).encode()

    assert len(largest) == LONGEST_EVENT
    assert codes(parsed(largest)) == ["said"]
    assert codes(parsed(largest + b" ")) == ["event_too_large"]


def test_a_byte_order_mark_is_skipped_once() -> None:
    """A person who opted out stays opted in, because a program of Windows wrote a mark before the JSON."""
    text = BYTE_ORDER_MARK + json.dumps(OPT_OUT).encode()
    binary = {f"ce_{name}": value for name, value in NEEDED.items()}
    lines = text + b"\n" + json.dumps(OPT_OUT).encode()

    assert parsed(text) == [EventChange(OPT_OUT)]
    assert codes(parsed(text, **binary)) == ["said"]
    assert codes(parsed(lines, content_type="application/x-ndjson")) == ["said", "said"]
    assert codes(parsed(BYTE_ORDER_MARK + text)) == ["bad_json"]


@given(st.binary(), st.sampled_from(["", "application/x-ndjson", "application/cloudevents+json", "text/plain"]))
def test_no_bytes_are_too_strange(body: bytes, kind: str) -> None:
    """Whatever bytes come, they are read or they are faults."""
    for one in event_parser.read(Event(body, {"content-type": kind})):
        assert isinstance(one, EventChange | RowError)


def twice(first: str, last: str) -> bytes:
    """The opt-out with one name twice."""
    return f'{{"user_id":"387006417","channel":"EMAIL","priority":"BULK",{first},{last}}}'.encode()


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (twice('"action":"OPTOUT"', '"action":"OPTIN"'), "action"),
        (twice('"action":"OPTOUT"', '"user_id":"387006418"'), "user_id"),
        (twice('"action":"OPTOUT"', r'"\u0061ction":"OPTIN"'), "action"),
    ],
)
def test_one_name_twice_is_refused(body: bytes, name: str) -> None:
    """An opt-out would be read as an opt-in, or as someone else's: parsers keep the last of two values."""
    binary = {f"ce_{attribute}": value for attribute, value in NEEDED.items()}
    envelope = json.dumps(NEEDED)[:-1].encode() + b',"data":' + body + b"}"

    for found in (parsed(body), parsed(body, **binary), parsed(envelope)):
        assert [(one.code, one.column) for one in found if isinstance(one, RowError)] == [("named_twice", name)]


def test_data_twice_in_an_envelope_is_refused() -> None:
    """A person who opted out in the first `data` stays opted in, because the second one was read."""
    opt_in = OPT_OUT | {"action": "OPTIN"}
    body = f'{json.dumps(NEEDED)[:-1]},"data":{json.dumps(OPT_OUT)},"data":{json.dumps(opt_in)}}}'.encode()

    for kind in ("application/json", "application/cloudevents+json"):
        (fault,) = parsed(body, content_type=kind)
        assert isinstance(fault, RowError)
        assert (fault.code, fault.column) == ("named_twice", "data")


def test_one_name_twice_harms_only_its_own_change() -> None:
    """The others of a list, and of lines, are read; and so is an object whose twins stand where no one looks."""
    bad, good = twice('"action":"OPTOUT"', '"action":"OPTIN"'), json.dumps(OPT_OUT).encode()
    elsewhere = good[:-1] + b',"context":{"page":1,"page":2},"big":123456789012345678901234567890}'

    assert codes(parsed(b"[" + good + b"," + bad + b"]")) == ["said", "named_twice"]
    assert codes(parsed(good + b"\n" + bad, content_type="application/x-ndjson")) == ["said", "named_twice"]
    assert codes(parsed(elsewhere)) == ["said"]
