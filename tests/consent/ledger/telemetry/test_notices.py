"""Notices are told at their edges, once each, and their messages are kept until they are sent; on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from consent.ledger.ledger import Ledger
from consent.ledger.telemetry.notices import Message
from tests.support.clock import Clock
from tests.support.examples import POSTGRESQL_IN_PROOFS

DAY = 86_400
KIND = "connection_stopped"
STOPPED = {"connection_stopped:capillary": (KIND, "connection capillary refuses our credentials")}


@pytest.fixture
def clock() -> Clock:
    """A time that the test moves."""
    return Clock()


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    """An empty ledger."""
    one = Ledger(ledger_url, clock=clock)
    yield one
    one.close()


def taken(ledger: Ledger) -> list[str]:
    """Take and send all messages; their types."""
    types = []
    while (message := ledger.notices.take(60)) is not None:
        types.append(json.loads(message.body)["type"])
        ledger.notices.note_sent(message, [0], all_of_them=True, reason="", wait=0)
    return types


def test_a_notice_is_told_when_it_begins_daily_and_when_it_is_over(ledger: Ledger, clock: Clock) -> None:
    """Seen each minute it is told once; a day later again; and never again once a person knows of it."""
    for _ in range(3):
        ledger.notices.observe([KIND], STOPPED)
    assert taken(ledger) == ["notice.opened"]
    (one,) = ledger.notices.current()
    assert (one.kind, one.count, one.resolved_at) == (KIND, 3, None)

    clock.forward(DAY)
    ledger.notices.observe([KIND], STOPPED)
    ledger.notices.observe([KIND], STOPPED)
    assert taken(ledger) == ["notice.repeated"]

    assert ledger.notices.acknowledge(one.id, who="ann", why="they are at it")
    (entry,) = ledger.queries.audit_page()
    assert (entry.who, entry.why) == ("ann", "they are at it")
    assert entry.what == f"acknowledged notice {one.id}, {KIND}"
    clock.forward(DAY)
    ledger.notices.observe([KIND], STOPPED)
    assert taken(ledger) == []

    ledger.notices.observe([KIND], {})
    ledger.notices.observe([KIND], {})
    assert taken(ledger) == ["notice.resolved"]
    assert ledger.notices.current() == []
    assert not ledger.notices.acknowledge(one.id, who="ann", why="too late")
    assert len(ledger.queries.audit_page()) == 1

    ledger.notices.observe([KIND], STOPPED)
    assert taken(ledger) == ["notice.opened"]


@POSTGRESQL_IN_PROOFS
def test_one_who_looks_resolves_only_what_is_its_own(ledger: Ledger) -> None:
    """Two watchers, each with a place of its own, and the sweep, which looks for other kinds."""
    missing = "file_missing"
    ledger.notices.observe([missing], {"file_missing:a x": (missing, "words")}, within="file_missing:a x")
    ledger.notices.observe([missing], {}, within="file_missing:b x")
    ledger.notices.observe([KIND], {})
    assert [one.key for one in ledger.notices.current()] == ["file_missing:a x"]
    ledger.notices.observe([missing], {}, within="file_missing:a x")
    assert ledger.notices.current() == []


def test_without_a_channel_nothing_is_kept_to_be_sent(ledger: Ledger) -> None:
    """The notice is there to be looked at."""
    ledger.notices.observe([KIND], STOPPED, tell=False)
    assert len(ledger.notices.current()) == 1
    assert ledger.notices.unsent_since() is None


def test_a_message_is_taken_by_one_sender_until_its_lease_ends(ledger: Ledger, clock: Clock, ledger_url: str) -> None:
    """A sender that is killed after it sent and before it noted that: the next one sends the same message."""
    ledger.notices.observe([KIND], STOPPED)
    other = Ledger(ledger_url, clock=clock)

    first = ledger.notices.take(60)
    assert isinstance(first, Message)
    assert other.notices.take(60) is None
    clock.forward(61)
    again = other.notices.take(60)

    assert again is not None
    assert (again.id, again.at, again.body, again.tries) == (first.id, first.at, first.body, 2)
    other.close()


def test_what_is_over_is_removed_after_its_time(ledger: Ledger, clock: Clock) -> None:
    """What is open, and what no channel has taken yet, stays however old it is."""
    open_one = {"connection_stopped:infobip": (KIND, "connection infobip refuses our credentials")}
    ledger.notices.observe([KIND], STOPPED | open_one)
    ledger.notices.observe([KIND], open_one)
    sent = ledger.notices.take(60)
    assert sent is not None
    ledger.notices.note_sent(sent, [0], all_of_them=True, reason="", wait=0)
    clock.forward(DAY)
    assert ledger.notices.purge(clock() - 2 * DAY * 1_000_000) == 0
    assert ledger.notices.purge(clock()) == 2
    assert ledger.notices.purge(clock()) == 0
    assert [one.key for one in ledger.notices.current()] == ["connection_stopped:infobip"]
    assert taken(ledger) == ["notice.opened", "notice.resolved"]
