"""What every ledger promises about events, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen

from consent.imports import RejectedRow
from consent.ledger.dialects.locks import RecordingLock
from consent.ledger.intake.batch import IncomingBatch
from consent.ledger.ledger import Ledger
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import change_of, counts, deliver, recorded, run_of


def test_an_event_is_due_at_once_and_goes_before_a_file(ledger: Ledger) -> None:
    """Someone who clicks unsubscribe does not wait for a nightly file."""
    recorded(ledger, change_of("1"), change_of("2"), stream=True)
    accepted = ledger.intake.accept_events(run_of(ledger), [change_of("9", slot="SMS|BULK")], [])

    assert accepted.fresh == (True,)
    assert deliver(ledger, limit=1) == [("9", "SMS|BULK OPTOUT")]


@POSTGRESQL_IN_PROOFS
def test_an_event_that_comes_again_is_one_change(ledger: Ledger) -> None:
    """Sources deliver at least once; the ledger records once, and gives the same id each time."""
    first = ledger.intake.accept_events(run_of(ledger), [change_of("1"), change_of("1")], [])
    again = ledger.intake.accept_events(run_of(ledger, "another"), [change_of("1")], [])

    assert (first.fresh, again.fresh) == ((True, False), (False,))
    assert set(first.ids) == set(again.ids)
    assert counts(ledger, run_of(ledger)) == {"pending": 1, "duplicates": 1}
    assert counts(ledger, run_of(ledger, "another")) == {"duplicates": 1}


def test_a_poison_event_is_recorded_once_with_its_place(ledger: Ledger) -> None:
    """An event that cannot be understood is kept with where it came from and why, however often it is delivered."""
    poison = RejectedRow(1, "action", "missing_field", "fill the action", "stream consent, entry 5-0")
    assert ledger.intake.accept_events(run_of(ledger), [change_of("1")], [poison]).rejected == 1
    assert ledger.intake.accept_events(run_of(ledger, "another"), [], [replace(poison, line=7)]).rejected == 0

    assert counts(ledger, run_of(ledger)) == {"pending": 1, "rejected": 1}
    assert counts(ledger, run_of(ledger, "another")) == {"duplicates": 1}


@POSTGRESQL_IN_PROOFS
def test_an_event_says_what_a_file_that_broke_off_had_said(ledger: Ledger) -> None:
    """What a broken file holds back does not hold back an event that says the same."""
    recorded(ledger, change_of("1"))

    accepted = ledger.intake.accept_events(run_of(ledger), [change_of("1")], [])

    assert accepted.fresh == (True,)
    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]


def test_an_event_whose_transaction_is_done_again_keeps_its_customer(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database asks for a transaction once more, and a customer who was new in it is made anew: no one else's."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite has one writer and takes none back")
    tries = []

    record = IncomingBatch.record_numbered

    def broken_once(batch: IncomingBatch, lock: RecordingLock, *arguments: Any) -> Sequence[int]:
        recorded_now = record(batch, lock, *arguments)
        tries.append(len(recorded_now))
        if len(tries) == 1:
            lock.tx.execute(text("DO $$ BEGIN RAISE EXCEPTION 'a deadlock' USING ERRCODE = '40P01'; END $$"))
        return recorded_now

    monkeypatch.setattr(IncomingBatch, "record_numbered", broken_once)

    accepted = ledger.intake.accept_events(run_of(ledger), [change_of("1"), change_of("2")], [])

    assert (accepted.fresh, tries) == ((True, True), [2, 2])
    assert sorted(deliver(ledger)) == [("1", "EMAIL|BULK OPTOUT"), ("2", "EMAIL|BULK OPTOUT")]


@POSTGRESQL_IN_PROOFS
def test_a_run_that_has_ended_can_be_sealed(ledger: Ledger) -> None:
    """A listener that was stopped leaves a run whose every event is accounted for."""
    run = run_of(ledger)
    ledger.intake.accept_events(run, [change_of("1"), change_of("1", "OPTIN", minute=5)], [])
    ledger.intake.finish_run(run)
    deliver(ledger)

    assert counts(ledger, run) == {"applied": 1, "superseded": 1}


def test_no_transaction_waits_for_another_one_of_its_own_process(ledger_url: str) -> None:
    """The first events of a process held the ledger's locks while they asked for a second connection to it."""
    ledger = Ledger(ledger_url)
    run, under_way, most = run_of(ledger), 0, 0
    ledger.close()  # as a process that has just begun

    def note(more: int) -> None:
        nonlocal under_way, most
        under_way += more
        most = max(most, under_way)

    listen(ledger.database.engine, "begin", lambda _: note(1))
    for end in ("commit", "rollback"):
        listen(ledger.database.engine, end, lambda _: note(-1))
    ledger.intake.accept_events(run, [change_of("1")], [])
    ledger.close()

    assert most == 1
