"""The published JSON Schema and what is understood agree: who validates before sending is never refused."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC
from typing import Any

import phonenumbers
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from consent.row import ConsentRow
from producers.events import event_parser
from producers.events.event import Event
from producers.events.event_parser import FieldNames, as_cells
from producers.events.schema import event_schema
from producers.parsing.columns import vocabulary
from producers.parsing.error_messages import RowError
from producers.parsing.row_parser import FALLBACK_TIME, RawRecord, parse_context, parse_record
from tests.support.examples import examples
from worker.providers import PROVIDERS

ROWS: dict[str, type[ConsentRow]] = {name: provider.row for name, provider in PROVIDERS.items()}
DOORS = parse_context(ROWS, {}, None, None, UTC)
NAMES = FieldNames(vocabulary(ROWS.values()))
SCHEMA = event_schema(ROWS, {}, configured=True)
VALID = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
SINCE = {"effective_at": "2026-11-20T08:30:00Z"}

UNDERSTOOD: dict[str, dict[str, Any]] = {
    "a customer by number": {"connection": "capillary", "user_id": "387006417", "channel": "EMAIL", "priority": "BULK"},
    "a customer by a number that is one": {"connection": "capillary", "user_id": 387006417}
    | {"channel": "SMS", "priority": "TRANS", "org_unit_id": -1, "reason": "asked by phone"},
    "a customer by address": {"connection": "capillary", "identifier_name": "email"}
    | {"identifier_value": "ann@example.com", "channel": "EMAIL", "priority": "BULK", "source": "INSTORE"},
    "a person's number": {"connection": "infobip", "destination": "+12025550100", "channel": "SMS"},
    "a person's address": {"connection": "infobip", "destination": "ann@example.com"},
    "members of a subscription": {"connection": "infobip", "subscription_id": "sub-1", "channel": "SMS"}
    | {"events": ["DELIVERY", "SEEN"], "users": "one|two"},
    "modes": {"connection": "gupshup", "app_id": "app", "subscription_id": "1", "modes": ["READ"], "version": 2},
    "a whole subscription": {"connection": "gupshup", "app_id": "app", "subscription_id": "1"},
}
NOT_UNDERSTOOD: dict[str, dict[str, Any]] = {
    "no customer": {"connection": "capillary", "channel": "EMAIL", "priority": "BULK"},
    "no such channel": {"connection": "capillary", "user_id": "1", "channel": "FAX", "priority": "BULK"},
    "rounded by a spreadsheet": {"connection": "capillary", "user_id": "9.19E+11", "channel": "EMAIL"}
    | {"priority": "BULK"},
    "two things at once": {
        "connection": "infobip",
        "destination": "12025550100",
        "subscription_id": "s",
        "channel": "SMS",
    }
    | {"events": ["SEEN"]},
    "nothing to add": {"connection": "infobip", "subscription_id": "s", "channel": "SMS"},
    "a mode of another version": {"connection": "gupshup", "app_id": "a", "subscription_id": "1", "version": 3}
    | {"modes": ["COPY"]},
    "a number read as a decimal": {"connection": "infobip", "destination": "447700900123.0"},
    "a number without its country code": {"connection": "infobip", "destination": "(202) 555-0104"},
    "an invisible character": {"connection": "infobip", "destination": "car\u00adol@example.com"},
    "a mark of a spreadsheet": {"connection": "infobip", "destination": "'ann@example.com"},
    "an address without a domain": {"connection": "capillary", "identifier_name": "email"}
    | {"identifier_value": "ann", "channel": "EMAIL", "priority": "BULK"},
    "a mobile read as a decimal": {"connection": "capillary", "identifier_name": "mobile"}
    | {"identifier_value": "447700900123.0", "channel": "SMS", "priority": "BULK"},
    "no such connection": {"connection": "closed", "user_id": "1", "channel": "EMAIL", "priority": "BULK"},
}


def parsed(body: Any, kind: str = "application/json") -> list[Any]:
    """What becomes of a message, up to the ledger."""
    found = []
    for one in event_parser.read(Event(json.dumps(body).encode(), {"content-type": kind})):
        cells = one if isinstance(one, RowError) else as_cells(one.fields, NAMES)
        if isinstance(cells, RowError):
            found.append(cells)
            continue
        values = dict(cells[0])
        if not isinstance(one, RowError) and one.since:
            values[FALLBACK_TIME] = one.since
        found.append(parse_record(RawRecord(values), DOORS, cells[1]))
    return found


def test_it_is_a_schema() -> None:
    """It keeps the rules of JSON Schema 2020-12."""
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("name", UNDERSTOOD)
@pytest.mark.parametrize("action", ["OPTIN", "OPTOUT"])
def test_what_is_understood_is_allowed(name: str, action: str) -> None:
    """Real events of every provider, plain and as CloudEvents, keep the schema, and are understood."""
    change = {**UNDERSTOOD[name], "action": action}
    envelope = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "consent.changed", "traceparent": "00-1"}
    for event in (change | SINCE, {**envelope, "data": change, "time": SINCE["effective_at"]}):
        assert [one.message for one in VALID.iter_errors(event)] == []
        assert not any(isinstance(one, RowError) for one in parsed(event))


@pytest.mark.parametrize("name", NOT_UNDERSTOOD)
def test_what_is_not_understood_is_not_allowed(name: str) -> None:
    """What would be rejected does not keep the schema either, so that a producer learns of it at home."""
    event = {**NOT_UNDERSTOOD[name], "action": "OPTIN", **SINCE}

    assert isinstance(parsed(event)[0], RowError)
    assert not VALID.is_valid(event)


@pytest.mark.parametrize(
    "time", [1795112000830, "1795112000", "20261120112233Z", "0001-01-01T00:00:00Z", "2026-W47", "2026-11-20+05:30"]
)
def test_a_time_that_is_not_read_is_not_allowed(time: object) -> None:
    """An event's time is read as a file's is, and the schema says so before anything is sent."""
    change = {**UNDERSTOOD["a customer by number"], "action": "OPTOUT", "effective_at": time}
    envelope = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "consent"}

    for event in (change, envelope | {"data": change}, envelope | {"data": change, "time": SINCE["effective_at"]}):
        (fault,) = parsed(event)
        assert isinstance(fault, RowError)
        assert fault.code in {"unreadable_time", "time_too_old"}
        assert not VALID.is_valid(event)


def test_an_event_without_a_time_is_not_allowed() -> None:
    """A plain event says when; a CloudEvent says it in its envelope or in its data."""
    change = {**UNDERSTOOD["a customer by number"], "action": "OPTOUT"}
    envelope = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "consent"}

    assert not VALID.is_valid(change)
    assert not VALID.is_valid({**envelope, "data": change})
    assert VALID.is_valid({**envelope, "data": change | SINCE})


@pytest.mark.hypothesis
@pytest.mark.parametrize("name", [*ROWS, "CloudEvent"])
def test_whatever_is_allowed_is_understood(name: str) -> None:
    """Events invented from the schema, the odder the better, are all understood."""
    made = SCHEMA["$defs"][name]

    @settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(values(made))
    def understood(event: dict[str, Any]) -> None:
        whole = event if name == "CloudEvent" else event | SINCE | {"connection": name}
        assume(VALID.is_valid(whole) and is_possible(whole.get("data", whole).get("destination")))
        assert [one for one in parsed(whole) if isinstance(one, RowError)] == []

    understood()


def is_possible(destination: Any) -> bool:
    """Whether a destination is no number, or one that its country can have: what the schema says in words only."""
    if not (number := re.fullmatch(r"\s*\+?([0-9]+)\s*", str(destination or ""))):
        return True
    with suppress(phonenumbers.NumberParseException):
        parsed = phonenumbers.parse(f"+{number[1]}")
        is_whole = phonenumbers.is_possible_number_with_reason(parsed) == phonenumbers.ValidationResult.IS_POSSIBLE
        return is_whole and phonenumbers.format_number(parsed, 0) == f"+{number[1]}"
    return False


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911 - one line for each form
    """Values that mostly keep a schema of ours; what keeps several fields together is left to the caller."""
    if "$ref" in schema:
        return values(SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    if "properties" in schema:
        return objects(schema)
    if alternatives := schema.get("oneOf") or schema.get("anyOf"):
        return st.one_of([values(one) for one in alternatives])
    if schema.get("format") == "date-time":  # that a time is not in the future is the one thing it cannot say
        return st.sampled_from(["2026-11-20T08:30:00Z", "2001-01-01T00:00:00.5+14:00"])
    if named := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
        return st.sampled_from(named)
    if schema["type"] == "array":
        return st.lists(values(schema["items"]), min_size=schema["minItems"], max_size=3)
    if schema["type"] == "integer":
        return st.integers(schema["minimum"], schema["maximum"])
    if schema["type"] == "boolean":
        return st.booleans()
    return st.from_regex(schema.get("pattern", ".")).filter(Draft202012Validator(schema).is_valid)


def objects(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Objects that name their target in any of the ways there are, with some of what else they may say."""
    return st.one_of([_named_so(schema, way) for way in schema.get("anyOf", []) + schema.get("oneOf", []) or [{}]])


def _named_so(schema: dict[str, Any], way: dict[str, Any]) -> st.SearchStrategy[Any]:
    own = {name: one for name, one in way.get("properties", {}).items() if one is False or "enum" in one}
    made = {name: values(one) for name, one in (schema["properties"] | own).items() if one is not False}
    needed = {*schema["required"], *way.get("required", [])}
    needed |= {name for one in way.get("anyOf", [])[:1] for name in one["required"]}
    rest = {name: one for name, one in made.items() if name not in needed}
    return st.fixed_dictionaries({name: made[name] for name in sorted(needed)}, optional=rest)


def _patterns(schema: Any) -> set[str]:
    """Every pattern that stands in a schema."""
    if isinstance(schema, list):
        return {one for part in schema for one in _patterns(part)}
    if not isinstance(schema, dict):
        return set()
    own = {text for text in (schema.get("pattern"),) if isinstance(text, str)}
    return own | {one for part in schema.values() for one in _patterns(part)}


def test_validators_of_other_languages_read_its_patterns() -> None:
    """Those of JavaScript read them in Unicode mode, where an escape that is none is an error: no event was sent."""
    known = re.compile(r"""\\(?:[dDsSwWbBfnrtv0^$\\.*+?()[\]{}|/-]|u[0-9a-f]{4}|x[0-9a-f]{2})""")
    for pattern in _patterns(SCHEMA):
        assert "\\" not in known.sub("", pattern), pattern


def test_defaults_need_not_be_said() -> None:
    """What a connection fills in by itself may be left out; a single connection need not be named."""
    schema = event_schema({"capillary": ROWS["capillary"]}, {"capillary": {"priority": "BULK"}}, configured=True)
    event = {"user_id": "1", "channel": "EMAIL", "action": "OPTOUT", **SINCE}

    assert Draft202012Validator(schema).is_valid(event)
    assert not Draft202012Validator(SCHEMA).is_valid(event)
