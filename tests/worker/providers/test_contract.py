"""What every provider must do, whatever its own codes are called."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.ledger.queue.tasks import WITNESS
from consent.outcome import Applied, Healthy, PermanentFailure, Retry, Throttled, Unauthorized, Unavailable, Unchanged
from tests.support.examples import examples
from tests.support.providers.checked_delivery import Delivered, deliver
from tests.support.providers.recipe import subject_of_the_page
from tests.support.providers.subjects import SUBJECTS, Subject, reply
from worker.providers import PROVIDERS
from worker.providers.contract import Reply, Request

PERSON = "jane.doe@example.com"
HTML = "<html><body>Bad Gateway</body></html>"

ALL = (*SUBJECTS, subject_of_the_page())
"""Every provider's, and that of the provider which docs/adding-a-provider.md builds."""

every = pytest.mark.parametrize("subject", ALL, ids=lambda subject: subject.name)


def answered(subject: Subject, always: Reply) -> Delivered:
    """Return what becomes of a subject's changes if every call is answered like this."""
    return deliver(subject.provider, subject.tasks, subject.connection, lambda _: always)


def kinds(result: Delivered) -> set[type]:
    """Return which kinds of outcomes there are."""
    return {type(outcome) for outcome in result.outcomes.values()}


def waits_uncounted(result: Delivered) -> bool:
    """Say whether no change was settled, and nothing counts against any."""
    return all(isinstance(one, Retry) and not one.counts for one in result.outcomes.values())


def test_every_provider_has_a_subject() -> None:
    """A provider that is registered is asked all of this."""
    assert set(PROVIDERS) == {subject.name.split(":")[0] for subject in SUBJECTS}


@every
def test_an_address_holds_nothing_that_one_cannot_ask_for(subject: Subject) -> None:
    """`optrelay history` refuses columns that name no one: so a row model must tell all that its address can hold."""
    columns = subject.provider.row.address_columns
    assert columns >= subject.provider.row.names_target
    assert all(task.address.keys() <= columns for task in subject.tasks)


@every
def test_an_exported_change_is_the_change_that_was_read(subject: Subject) -> None:
    """The columns of a dead letter, imported again, name the same target and slot."""
    for task in subject.tasks:
        for change in task.changes:
            columns = subject.provider.export(task.address, change.slot, change.details)
            row = subject.provider.row.model_validate({**columns, "action": change.action})

            assert row.changes().address == task.address
            assert [one.slot for one in row.changes().slots] == [change.slot]


@every
def test_a_witness_is_a_read_and_only_the_provider_itself_can_be_one(subject: Subject) -> None:
    """A gateway's page must not vouch for a connection: a wrong password would bury the last customer's opt-out."""
    other = replace(subject.tasks[0], changes=())
    request = subject.provider.witness(other, subject.connection)

    assert request is not None
    assert (request.method, request.purpose, request.changes) == ("GET", WITNESS, ())
    assert request.json is None
    assert request.form is None
    for status in (200, 302, 401, 403, 404, 429, 500, 503):
        read = subject.provider.read(request, Reply(status, HTML), subject.connection)
        assert not isinstance(read.health, Healthy)
        assert not read.outcomes


@every
def test_a_call_has_a_template_that_holds_nothing_of_a_row(subject: Subject) -> None:
    """Traces show it in place of the path: the path without its query, with {names} for what comes from a row."""
    asked: list[Request] = []
    reply_to = subject.well()

    def noted(request: Request) -> Reply:
        asked.append(request)
        return reply_to(request)

    deliver(subject.provider, subject.tasks, subject.connection, noted)
    witness = subject.provider.witness(subject.tasks[0], subject.connection)
    for request in (*asked, *([witness] if witness else [])):
        if subject in SUBJECTS:
            assert request.template, "every call of ours has one"
        fixed = re.split(r"\{[a-z_]+\}", request.template)
        shape = "[^/]+".join(map(re.escape, fixed))
        assert not request.template or re.fullmatch(shape, request.path.partition("?")[0])
        held = {value for task in request.tasks for value in task.address.values() if len(value) > 2}
        assert not any(value in request.template for value in held - {"EMAIL", "SMS"})


@every
def test_success(subject: Subject) -> None:
    """A provider that takes everything leaves nothing open, and is well."""
    result = deliver(subject.provider, subject.tasks, subject.connection, subject.well())

    assert set(result.outcomes) == subject.ids
    assert kinds(result) <= {Applied, Unchanged}
    assert set(map(type, result.health)) == {Healthy}


@pytest.mark.parametrize("subject", [one for one in ALL if one.partly], ids=lambda subject: subject.name)
def test_partial_failure(subject: Subject) -> None:
    """One bad change harms only itself: it is rejected, and its companions are applied."""
    assert subject.partly
    result = deliver(subject.provider, subject.tasks, subject.connection, subject.partly())

    assert isinstance(result.outcomes.pop(2), PermanentFailure)
    assert set(result.outcomes) == subject.ids - {2}
    assert kinds(result) == {Applied}
    assert set(map(type, result.health)) == {Healthy}


@pytest.mark.parametrize("subject", [one for one in ALL if one.silently], ids=lambda subject: subject.name)
def test_silent_loss(subject: Subject) -> None:
    """A success that leaves out a change does not count as one for it."""
    assert subject.silently
    result = deliver(subject.provider, subject.tasks, subject.connection, subject.silently())

    assert isinstance(result.outcomes.pop(2), PermanentFailure | Retry)
    assert set(result.outcomes) == subject.ids - {2}
    assert kinds(result) == {Applied}


@pytest.mark.parametrize("subject", [one for one in ALL if one.never], ids=lambda subject: subject.name)
def test_permanent_failure(subject: Subject) -> None:
    """A target that is not there makes a dead letter of each of its changes, after one call; others go on."""
    assert subject.never
    result = answered(subject, subject.never)

    assert set(result.outcomes) == subject.ids
    assert kinds(result) == {PermanentFailure}
    assert [Healthy()] == result.health


@every
@pytest.mark.parametrize("body", ["", HTML, "not json", "[]", "{}", "null", "17", '{"status":', "\x00"])
def test_success_that_shows_nothing(subject: Subject, body: str) -> None:
    """A success with an empty or foreign body proves nothing, unless the vendor documents it; nothing dies of it."""
    result = answered(subject, Reply(200, body))

    assert set(result.outcomes) == subject.ids
    assert kinds(result) == ({Applied} if body in subject.taken else {Retry})


@every
@pytest.mark.parametrize("body", ["", HTML], ids=["empty", "html"])
@pytest.mark.parametrize("status", [500, 502, 503, 504, 521])
def test_gateway_failure(subject: Subject, status: int, body: str) -> None:
    """A failure that is not the provider's own says that it is down, and is held against no change."""
    result = answered(subject, Reply(status, body))

    assert set(result.outcomes) == subject.ids
    assert waits_uncounted(result)
    assert all(isinstance(health, Unavailable) for health in result.health)


@every
@pytest.mark.parametrize("status", [418, 451, 599, 199, 102])
def test_unknown_status(subject: Subject, status: int) -> None:
    """A status that no page documents makes no dead letter and proves nothing."""
    result = answered(subject, reply({"message": "?"}, status))

    assert set(result.outcomes) == subject.ids
    assert kinds(result) == {Retry}


@every
@pytest.mark.parametrize("body", ["", HTML, "{}"])
def test_throttled_for_a_time(subject: Subject, body: str) -> None:
    """A 429 with a Retry-After slows the connection for that long, after one call, and counts against no change."""
    result = answered(subject, Reply(429, body, retry_after=7))

    assert [Throttled(7)] == result.health
    assert {one.after for one in result.outcomes.values() if isinstance(one, Retry)} == {7}
    assert waits_uncounted(result)


@every
def test_throttled(subject: Subject) -> None:
    """A 429 that names no time slows the connection all the same."""
    result = answered(subject, Reply(429, ""))

    assert [Throttled] == list(map(type, result.health))
    assert result.outcomes
    assert waits_uncounted(result)


@every
@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials(subject: Subject, status: int) -> None:
    """Credentials that are refused stop the connection, say what to look at, and make no dead letter."""
    result = answered(subject, Reply(status, ""))

    assert [Unauthorized] == list(map(type, result.health))
    assert "refused" in result.health[0].reason  # type: ignore[union-attr]
    assert waits_uncounted(result)


@every
@pytest.mark.parametrize("status", [301, 307, 404, 405, 415])
def test_wrong_address(subject: Subject, status: int) -> None:
    """What looks like a wrong address stops the connection: it must not bury every change of it."""
    result = answered(subject, Reply(status, HTML))

    assert [Unauthorized] == list(map(type, result.health))
    assert waits_uncounted(result)


@every
def test_bad_request_that_is_not_theirs(subject: Subject) -> None:
    """A 400 in a foreign form makes no dead letter at once."""
    assert kinds(answered(subject, Reply(400, HTML))) == {Retry}


_VOCABULARY = """
    status message code errors warnings subscriptions channel priority type accountId requestError
    serviceException messageId validationErrors errorCode violations property violation results
    destination sourceType createdDate subscriptionId profile profileId events event criteria users
    resources subscription active modes version tag url success error EMAIL BULK OPTOUT OPTIN SMS
    BAD_REQUEST GENERAL_ERROR E400 events[0] blocklist[0].channel DELIVERY SENT NONE 15550100001
    2022-08-18T12:36:42.123Z
"""
_TEXTS = st.sampled_from(_VOCABULARY.split())
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    _TEXTS,
    st.text(max_size=5),
    st.just(PERSON),
    st.just("\ud800"),
)
_BODIES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=6)),
    max_leaves=25,
).map(json.dumps)
_SHAPES: dict[str, Any] = {
    "subscription": st.dictionaries(_TEXTS, _LEAVES | st.lists(_LEAVES, max_size=3)),
    "requestError": st.fixed_dictionaries({"serviceException": st.dictionaries(_TEXTS, _LEAVES)}),
    "results": st.lists(st.dictionaries(_TEXTS, _LEAVES), max_size=3),
    "profile": st.fixed_dictionaries({"profileId": _LEAVES}),
    **dict.fromkeys(
        ("events", "criteria", "users", "errors", "warnings", "subscriptions"), st.lists(_LEAVES | _BODIES)
    ),
}
_NEAR = st.fixed_dictionaries({}, optional={**_SHAPES, "subscriptionId": _LEAVES, "status": _TEXTS}).map(json.dumps)
_STATUSES = st.one_of(st.sampled_from([200, 202, 400, 401, 403, 404, 409, 429, 500, 503]), st.integers(100, 599))
_REPLIES = st.builds(Reply, _STATUSES, st.one_of(_BODIES, _NEAR, st.text(max_size=20)), st.none() | st.floats(0, 100))


@every
@given(replies=st.lists(_REPLIES, min_size=1, max_size=4))
@settings(max_examples=examples(150, share=10), deadline=None)
def test_whatever_comes(subject: Subject, replies: list[Reply]) -> None:
    """Whatever comes, nothing is raised, every change is accounted for, the calls end, and no text is copied."""
    left = iter(replies)
    result = deliver(subject.provider, subject.tasks, subject.connection, lambda _: next(left, replies[-1]))

    assert set(result.outcomes) <= subject.ids
    assert result.stopped or set(result.outcomes) == subject.ids
    assert PERSON not in repr((result.outcomes, result.health, result.codes))
    for call in result.calls:
        assert json.dumps([call.json, call.form], ensure_ascii=False, allow_nan=False).encode()
