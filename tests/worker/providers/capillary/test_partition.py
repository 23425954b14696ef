"""Whatever comes back, every change ends in exactly one place."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.outcome import Applied
from tests.support.examples import examples
from tests.support.providers.capillary import CONNECTION, change, customer, read, row_failed
from worker.providers.capillary.codes import CODES
from worker.providers.capillary.requests import read_back, write

CHANNEL = st.sampled_from(["EMAIL", "MOBILE", "SMS", "line", "", "x"])
PRIORITY = st.sampled_from(["BULK", "TRANS", "bulk"])
ACTION = st.sampled_from(["OPTIN", "OPTOUT"])
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(SCALAR, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8)
ECHO = st.fixed_dictionaries(
    {"channel": CHANNEL | JSON, "priority": PRIORITY, "type": ACTION},
    optional={
        "accountId": st.sampled_from(["01", "02", None, 1]),
        "orgUnitId": st.sampled_from([200, 201, "200", None]),
    },
)
FAULT = (
    st.builds(row_failed, CHANNEL, PRIORITY)
    | st.fixed_dictionaries({"code": st.sampled_from(sorted(CODES)) | SCALAR, "status": st.booleans()})
    | JSON
)
BODY = st.fixed_dictionaries(
    {}, optional={"subscriptions": st.lists(ECHO) | JSON, "errors": st.lists(FAULT) | JSON, "warnings": st.lists(FAULT)}
)
TEXT = st.text() | (BODY | JSON).map(json.dumps) | BODY.map(lambda body: json.dumps(body)[:-1])
STATUS = st.integers(100, 599) | st.sampled_from([200, 201, 400, 500])


def slot_of(slot_change: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what may occur only once among a customer's changes."""
    return (*slot_change[:2], *slot_change[3:5])


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["EMAIL", "MOBILE", "line"]),
        st.sampled_from(["BULK", "TRANS"]),
        ACTION,
        st.sampled_from(["01", "02"]),
        st.sampled_from([200, 201]),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=6,
    unique_by=slot_of,
).map(lambda slot_changes: tuple(change(number, *slot_change) for number, slot_change in enumerate(slot_changes)))


def calls(changes: Any) -> st.SearchStrategy[Any]:
    """Return every kind of call that may carry these changes."""
    request = write(customer(*changes), changes, CONNECTION)
    alone = write(customer(*changes), changes[:1], CONNECTION, "alone")
    return st.sampled_from([request, alone, read_back(request, changes)])


@pytest.mark.takes(20)
@settings(max_examples=examples(600, share=20), deadline=None)
@given(CHANGES.flatmap(calls), TEXT, STATUS, st.none() | st.floats(0, 90_000))
def test_every_change_ends_once(request: Any, text: str, status: int, retry_after: float | None) -> None:
    """Reading never raises, and puts every change either under the outcomes or into one further call."""
    answer = read(request, text, status, retry_after)
    places = [*answer.outcomes, *chain.from_iterable((c.id for c in each.changes) for each in answer.further)]

    assert sorted(change.id for change in request.changes) == sorted(places)
    assert not (request.purpose == "readback" and answer.further)
    assert all(each.purpose != "alone" for each in answer.further) or request.purpose == "write"


@settings(max_examples=examples(300, share=10), deadline=None)
@given(CHANGES.flatmap(calls), STATUS, st.text() | st.dictionaries(st.text(max_size=9), SCALAR).map(json.dumps))
def test_nothing_is_applied_without_a_row(request: Any, status: int, text: str) -> None:
    """No change is called applied on a reply that shows no rows."""
    assert Applied() not in read(request, text, status).outcomes.values()
