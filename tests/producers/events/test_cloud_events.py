"""CloudEvents in every mode: the envelope, the headers, data in base64, and what is against the specification."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from producers.events import event_parser
from producers.events.cloudevents import cloudevent_change_id
from producers.events.event import Event, EventChange
from producers.parsing.error_messages import RowError
from producers.parsing.strict_json import BYTE_ORDER_MARK
from tests.support.event_intake import OPT_OUT, codes, parsed

NEEDED = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "com.example.consent"}


@pytest.mark.parametrize("mode", ["structured", "binary", "batch", "undeclared"])
def test_a_cloud_event_says_the_same_in_every_mode(mode: str) -> None:
    """Made with the cloudevents package; id and source are its identity, its time holds if the data name none."""
    moment = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
    event = CloudEvent({**NEEDED, "time": moment, "datacontenttype": "application/json"}, OPT_OUT)
    made = to_binary_event(event) if mode == "binary" else to_structured_event(event)
    headers = {name.lower(): value for name, value in made.headers.items()}
    body = bytes(made.body)
    if mode == "batch":
        headers, body = {"content-type": "application/cloudevents-batch+json"}, b"[" + body + b"]"
    if mode == "undeclared":
        headers = {}

    assert event_parser.read(Event(body, headers)) == [
        EventChange(OPT_OUT, cloudevent_change_id("/shop", "7"), moment.isoformat())
    ]


def test_a_cloud_event_without_a_time_gets_none() -> None:
    """The package would say now; a redelivered event must not look newer than it is."""
    binary = {f"ce_{name}": value for name, value in NEEDED.items()}

    assert parsed({**NEEDED, "data": OPT_OUT}) == [EventChange(OPT_OUT, cloudevent_change_id("/shop", "7"), None)]
    assert parsed(OPT_OUT, **binary) == [EventChange(OPT_OUT, cloudevent_change_id("/shop", "7"), None)]


def test_identities_do_not_run_together() -> None:
    """Source and id are told apart, wherever one ends and the other begins."""
    assert cloudevent_change_id("/a", "bc") != cloudevent_change_id("/ab", "c")


@pytest.mark.parametrize("lacking", NEEDED)
def test_a_cloud_event_that_lacks_something_is_refused(lacking: str) -> None:
    """Each of the four attributes is needed, in both modes."""
    rest = {name: value for name, value in NEEDED.items() if name != lacking}
    structured = parsed({**rest, "data": OPT_OUT}, content_type="application/cloudevents+json")

    assert codes(structured) == ["bad_cloudevent"]
    if lacking != "specversion":  # in binary mode this attribute alone says that it is one
        assert codes(parsed(OPT_OUT, **{f"ce_{name}": value for name, value in rest.items()})) == ["bad_cloudevent"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"time": "yesterday"},
        {"time": 5},
        {"specversion": "9.9"},
        {"id": ""},
        {"id": 7},
        {"BAD NAME": "x"},
    ],
)
def test_a_cloud_event_against_the_specification_is_refused(attributes: dict[str, Any]) -> None:
    """What the package's own validation refuses is a fault."""
    assert codes(parsed({**NEEDED, **attributes, "data": OPT_OUT})) == ["bad_cloudevent"]


@pytest.mark.parametrize("data", [None, "text", 7, [OPT_OUT]])
def test_a_cloud_event_without_an_object_is_refused(data: Any) -> None:
    """Its data must be an object with our names."""
    assert codes(parsed({**NEEDED, "data": data})) == ["bad_cloudevent"]


def base64(data: Any) -> str:
    """Data as the JSON format carries bytes."""
    return b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).decode()


@pytest.mark.parametrize("mark", [b"", BYTE_ORDER_MARK])
def test_data_in_base64_are_read(mark: bytes) -> None:
    """A person who opted out stays opted in, because the publisher's library writes data as bytes."""
    encoded = base64(mark + json.dumps(OPT_OUT).encode())

    for content_type in ("application/json", "application/octet-stream"):
        event = {**NEEDED, "datacontenttype": content_type, "data_base64": encoded}
        assert parsed(event) == [EventChange(OPT_OUT, cloudevent_change_id("/shop", "7"), None)]
        assert parsed({**event, "data": None}) == [EventChange(OPT_OUT, cloudevent_change_id("/shop", "7"), None)]


@pytest.mark.parametrize(
    "data",
    [
        {"data_base64": "!!!!"},
        {"data_base64": base64(b"{oops")},
        {"data_base64": base64([OPT_OUT])},
        {"data_base64": OPT_OUT},
        {"data_base64": None},
        {"data_base64": base64(OPT_OUT), "data": OPT_OUT},
    ],
)
def test_base64_that_holds_no_change_is_refused(data: dict[str, Any]) -> None:
    """No guess is made at what is no JSON, or stands beside other data."""
    assert codes(parsed({**NEEDED, **data})) == ["bad_cloudevent"]


def test_an_attribute_that_is_null_was_not_set() -> None:
    """A person who opted out stays opted in, because the publisher's library writes null for what it did not set."""
    unset = dict.fromkeys(("time", "subject", "dataschema", "datacontenttype", "extension"))

    assert parsed({**NEEDED, **unset, "data": OPT_OUT}) == [
        EventChange(OPT_OUT, cloudevent_change_id("/shop", "7"), None)
    ]
    assert codes(parsed({**NEEDED, "id": None, "data": OPT_OUT})) == ["bad_cloudevent"]


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_small_letters_in_a_time_are_read(mode: str) -> None:
    """A person who opted out stays opted in, because RFC 3339's `t` and `z` were no time to us."""
    if mode == "binary":
        (found,) = parsed(
            OPT_OUT, **{f"ce_{name}": value for name, value in NEEDED.items()}, ce_time="2026-11-20t08:30:00z"
        )
    else:
        (found,) = parsed({**NEEDED, "time": "2026-11-20t08:30:00z", "data": OPT_OUT})

    assert isinstance(found, EventChange)
    assert found.since == "2026-11-20T08:30:00+00:00"


def test_the_content_type_decides_between_envelope_and_headers() -> None:
    """A person who opted out stays opted in, because a proxy repeated an envelope's attributes as headers."""
    envelope = {**NEEDED, "id": "8", "data": OPT_OUT}
    headers = {f"ce_{name}": value for name, value in NEEDED.items()}
    expected = [EventChange(OPT_OUT, cloudevent_change_id("/shop", "8"), None)]

    assert parsed(envelope, content_type="application/cloudevents+json; charset=utf-8", **headers) == expected
    assert parsed([envelope], content_type="application/cloudevents-batch+json", **headers) == expected
    assert parsed(OPT_OUT, content_type="application/json", **headers) == [
        EventChange(OPT_OUT, cloudevent_change_id("/shop", "7"), None)
    ]


def test_plain_data_under_the_type_of_an_envelope_are_read_beside_the_headers() -> None:
    """A person's opt-out is refused for want of an envelope that stands in the headers, where its publisher put it."""
    headers = {"ce-specversion": "1.0", "ce-id": "a-1", "ce-source": "/shop", "ce-type": "consent"}
    found = parsed(OPT_OUT, content_type="application/cloudevents+json", **headers)
    assert found == parsed(OPT_OUT, content_type="application/json", **headers)
    assert codes(found) == ["said"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*NEEDED, "data", "data_base64", "time", "datacontenttype", "x"]), anything))
def test_no_cloud_event_is_too_strange(attributes: dict[str, Any]) -> None:
    """Whatever stands in it, it is read or it is a fault."""
    assert codes(parsed(attributes, content_type="application/cloudevents+json")) in (["said"], ["bad_cloudevent"])


@pytest.mark.parametrize(
    ("time", "code"),
    [
        ("0001-01-01T00:00:00Z", "time_too_old"),
        ("1970-01-01T00:00:00Z", "time_too_old"),
        ("20261120112233Z", "bad_cloudevent"),
        ("1795112000830", "bad_cloudevent"),
    ],
)
def test_the_time_of_an_envelope_is_read_like_any_other(time: str, code: str) -> None:
    """An opt-out sent with Go's zero time would be older than any opt-in, and be dropped."""
    binary = {f"ce_{name}": value for name, value in {**NEEDED, "time": time}.items()}

    for found in (parsed({**NEEDED, "time": time, "data": OPT_OUT}), parsed(OPT_OUT, **binary)):
        assert [(one.code, one.column) for one in found if isinstance(one, RowError)] == [(code, "time")]
