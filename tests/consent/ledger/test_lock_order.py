"""Two sessions whose locks cross: neither is ended by the database, as both take them in one order.

A deadlock would be tried again and harm nothing, but it costs a second and stands in the server's log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import ExceptionContext, event

from consent.change import Action
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.dialects.locks import MergeLock
from consent.ledger.intake import noops, publish
from consent.ledger.ledger import Ledger
from consent.ledger.review import corrections
from consent.ledger.review.corrections import Corrected
from consent.ledger.review.holds import Decision
from consent.outcome import Applied, PermanentFailure
from tests.support.ledgers import (
    BUCKET,
    change_of,
    counts,
    deliver,
    guarded,
    imported,
    record_event,
    recorded,
    settlement,
)

DEADLOCK = "40P01"
UNKNOWN = PermanentFailure("1012", "Capillary cannot find this customer")
SOON = 2.0
"""Seconds that a session waits for another one, which may have to wait for it instead."""


@pytest.fixture
def deadlocks(ledger: Ledger) -> Iterator[list[str]]:
    """What the server has ended because of a deadlock."""
    found: list[str] = []

    def note(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == DEADLOCK:
            found.append(str(context.statement))

    event.listen(ledger.database.engine, "handle_error", note)
    yield found
    event.remove(ledger.database.engine, "handle_error", note)


class Meeting:
    """Two sessions of which one waits at a function, until the other one is as far as it can get."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.met, self._other = threading.Event(), threading.Thread()

    def begin(self, other: Callable[[], object]) -> None:
        """Begin the other session."""
        self._other = threading.Thread(target=other)
        self._other.start()

    def at(self, module: Any, name: str, arrive: Callable[[], object]) -> None:
        """Once the first session calls a function of a module, let the other one arrive, and wait until they meet."""
        work, waits = getattr(module, name), threading.Lock()

        def wait(*arguments: Any, **more: Any) -> Any:
            if waits.acquire(blocking=False):
                arrive()
                self.met.wait(SOON)
            return work(*arguments, **more)

        self._patch.setattr(module, name, wait)

    def end(self) -> None:
        """Wait until the other session is over."""
        self._other.join(20)
        assert not self._other.is_alive()


@contextmanager
def stopped_before_a_step(
    monkeypatch: pytest.MonkeyPatch, meeting: Meeting, ledger: Ledger, file: str
) -> Iterator[Callable[[], None]]:
    """Begin to publish a file, and stop before its first step; return what lets it go on."""
    there, go_on, of_changes = threading.Event(), threading.Event(), MergeLock.of_changes
    step = ledger.database.write_or_name

    class Noted(MergeLock):
        @classmethod
        def of_changes(cls, *arguments: Any) -> Any:
            meeting.met.set()
            return of_changes(*arguments)

    def wait(*arguments: Any) -> Any:
        there.set()
        assert go_on.wait(20)
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ledger.database, "write_or_name", wait)
        patch.setattr(publish, "MergeLock", Noted)
        meeting.begin(lambda: ledger.intake.publish(file))
        assert there.wait(20)
        yield go_on.set


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> Meeting:
    """Nothing has begun yet."""
    return Meeting(monkeypatch)


def half_published(ledger: Ledger) -> str:
    """A file whose opt-outs were approved, and are not merged yet; its opt-in of Ann is held."""
    record_event(ledger, change_of("ann", "OPTOUT", 5))
    deliver(ledger)
    file = guarded(ledger, change_of("ann", "OPTIN", 10), change_of("bob", "OPTOUT", 10), resurrects_most=0)
    ledger.review.approve(file, Decision("ann", "checked", Action.OPTOUT))
    return file


def corrected(ledger: Ledger, letter: int) -> object:
    """Say that a letter should have named Ann."""
    change = change_of("ann", "OPTIN", 10)
    return ledger.review.correct(letter, [change], columns=["user_id"], who="otto", why="a slip")


def test_a_correction_that_says_what_is_held_of_a_file_being_published(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, meeting: Meeting, deadlocks: list[str]
) -> None:
    """It takes the held opt-in from the file, which is about to merge its opt-outs."""
    record_event(ledger, change_of("anm", "OPTIN", 10))
    deliver(ledger, UNKNOWN)
    [letter] = ledger.dead_letters.find(DeadLetterFilter())
    file = half_published(ledger)
    with stopped_before_a_step(monkeypatch, meeting, ledger, file) as go_on:
        meeting.at(corrections, "record_and_publish", go_on)
        done = corrected(ledger, letter.id)
        meeting.end()

    assert isinstance(done, Corrected)
    assert deadlocks == []
    assert sorted(deliver(ledger)) == [("ann", "EMAIL|BULK OPTIN"), ("bob", "EMAIL|BULK OPTOUT")]
    assert (counts(ledger, file), counts(ledger, done.import_id)) == ({"applied": 1, "duplicates": 1}, {"applied": 1})


def test_a_correction_about_two_customers_who_are_being_settled(
    ledger: Ledger, meeting: Meeting, deadlocks: list[str]
) -> None:
    """Both have another change under way: the one who was meant has the lower number, the letter names the other."""
    imported(ledger, change_of("ann", slot="MOBILE"))
    imported(ledger, change_of("anm", minute=1))
    deliver(ledger)
    record_event(ledger, change_of("anm", "OPTIN", 10))
    deliver(ledger, UNKNOWN)
    [letter] = ledger.dead_letters.find(DeadLetterFilter())
    record_event(ledger, *(change_of(who, "OPTIN", 20, slot="MOBILE") for who in ("ann", "anm")))
    claimed = ledger.queue.claim(BUCKET, 10, "delivery", 60)
    assert len(claimed) == 2
    settlements = [settlement(task, Applied(), ledger.now()) for task in claimed]
    settle = partial(ledger.queue.settle, "delivery", settlements)
    meeting.at(corrections, "record_and_publish", lambda: meeting.begin(settle))
    done = corrected(ledger, letter.id)
    meeting.end()

    assert isinstance(done, Corrected)
    assert deadlocks == []
    assert deliver(ledger) == [("ann", "EMAIL|BULK OPTIN")]


def test_a_no_op_that_is_held_of_a_file_being_published(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, meeting: Meeting, deadlocks: list[str]
) -> None:
    """It was one when it was read; then Ann opted out, so that it takes the held opt-in from the other file."""
    file = half_published(ledger)
    record_event(ledger, change_of("ann", "OPTIN", 7))
    deliver(ledger)
    dump = recorded(ledger, change_of("ann", "OPTIN", 10))
    ledger.intake.finish_reading(dump)
    record_event(ledger, change_of("ann", "OPTOUT", 9))
    deliver(ledger)
    with stopped_before_a_step(monkeypatch, meeting, ledger, file) as go_on:
        meeting.at(noops, "_others", go_on)
        ledger.intake.publish(dump)
        meeting.end()

    assert deadlocks == []
    assert sorted(deliver(ledger)) == [("ann", "EMAIL|BULK OPTIN"), ("bob", "EMAIL|BULK OPTOUT")]
    assert (counts(ledger, file), counts(ledger, dump)) == ({"applied": 1, "duplicates": 1}, {"applied": 1})
