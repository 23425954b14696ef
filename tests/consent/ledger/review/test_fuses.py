"""A fuse at the ledger: what trips it, what it holds, who goes on, and what a person decides, on both databases."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from consent.change import Action, Bucket, ConsentChange
from consent.guards.fuse import FuseRules, FuseWay
from consent.imports import ImportSource
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.review.fuse_counts import FuseCounter
from consent.outcome import Applied, Outcome, PermanentFailure, Retry
from consent.times import to_micros
from tests.support.clock import Clock
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.fuses import RULES, UNKNOWN, WHY, WRONG_ACCOUNT, answer, drain, people, trip
from tests.support.ledgers import BUCKET, MORNING, change_of, counts, imported, settlement


def test_one_failure_of_our_request_for_many_in_a_row_holds_the_rest(ledger: Ledger) -> None:
    """Five die; the other seven stay pending and held, and nothing of them is claimed or wakes a worker again."""
    file = trip(ledger)

    assert drain(ledger) == []

    assert counts(ledger, file) == {"dead": 5, "pending": 7}
    found = ledger.queries.report(file)
    assert (found.held, found.is_settled, found.sealed) == (7, True, False)
    assert (ledger.queue.due(BUCKET, 10), ledger.queries.buckets("capillary")) == (0, [])
    assert (ledger.queries.pending_by_bucket(), ledger.fuses.held_customers()) == ({}, {BUCKET: 7})
    [fuse] = ledger.fuses.tripped()
    assert (fuse.code, fuse.optouts, fuse.optins) == ("8011", 7, 0)
    assert fuse.reason == "5 customers in a row drew 8011: no such account"


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize(
    "answers",
    [
        [WRONG_ACCOUNT] * 4,
        [WRONG_ACCOUNT, WRONG_ACCOUNT, Applied(), WRONG_ACCOUNT, WRONG_ACCOUNT, WRONG_ACCOUNT, WRONG_ACCOUNT],
        [WRONG_ACCOUNT, WRONG_ACCOUNT, UNKNOWN, WRONG_ACCOUNT, WRONG_ACCOUNT, WRONG_ACCOUNT],
        [WRONG_ACCOUNT, WRONG_ACCOUNT, PermanentFailure("400", "bad", ours=True), *[WRONG_ACCOUNT] * 4],
        [UNKNOWN] * 10,
    ],
)
def test_what_is_not_one_failure_in_a_row_holds_nothing(ledger: Ledger, answers: list[Outcome]) -> None:
    """A success, another failure, or one about the customer ends the row."""
    imported(ledger, *people(1, len(answers) + 1))

    answer(ledger, *answers)

    assert ledger.fuses.tripped() == []
    assert len(drain(ledger)) == 1


@POSTGRESQL_IN_PROOFS
def test_what_is_tried_again_does_not_end_the_row(ledger: Ledger) -> None:
    """It says nothing yet."""
    imported(ledger, *people(1, 9))

    answer(ledger, *[WRONG_ACCOUNT] * 4, Retry("500", "busy", counts=True), WRONG_ACCOUNT)

    assert len(ledger.fuses.tripped()) == 1


@POSTGRESQL_IN_PROOFS
def test_one_customer_who_dies_often_trips_no_fuse(ledger: Ledger) -> None:
    """A row is of different customers."""
    for minute in range(8):
        imported(ledger, change_of("1", minute=minute))
        answer(ledger, WRONG_ACCOUNT)
    source = ledger.intake.open_import(ImportSource("amqp", "consent", "run", 0, None, stream=True)).import_id
    for minute in range(8):
        ledger.intake.accept_events(source, [change_of("2", minute=minute)], [])
        answer(ledger, WRONG_ACCOUNT)

    assert ledger.fuses.tripped() == []


def test_codes_about_a_customer_use_a_share_of_those_who_were_answered(ledger: Ledger) -> None:
    """Twenty of thirty-nine are half; twenty of forty-one are not, also where those who were served came first."""
    file = imported(ledger, *people(1, 60))
    answer(ledger, *[Applied()] * 21)
    answer(ledger, *[UNKNOWN] * 20)
    assert ledger.fuses.tripped() == []

    answer(ledger, UNKNOWN)

    [fuse] = ledger.fuses.tripped()
    assert fuse.reason == "21 of 42 customers who were answered drew 1012: no such customer"
    assert drain(ledger) == []
    assert counts(ledger, file) == {"applied": 21, "dead": 21, "pending": 18}


@POSTGRESQL_IN_PROOFS
def test_limits_may_be_off(ledger: Ledger) -> None:
    """Then everything dies, as before."""
    file = imported(ledger, *people(1, 60))

    answer(ledger, *[WRONG_ACCOUNT] * 60, rules=FuseRules(in_a_row=0, share_from=0))

    assert counts(ledger, file) == {"dead": 60}


@POSTGRESQL_IN_PROOFS
def test_other_imports_and_events_go_on(ledger: Ledger) -> None:
    """Another file, and an event, of the same bucket are delivered while the first is held."""
    trip(ledger)
    imported(ledger, *people(100, 3))
    run = ledger.intake.open_import(ImportSource("http", "desk", "run", 0, None, stream=True)).import_id
    ledger.intake.accept_events(run, people(200, 2), [])

    assert sorted(drain(ledger)) == ["100", "101", "102", "200", "201"]


def test_other_buckets_go_on(ledger: Ledger) -> None:
    """A fuse is about one bucket: the same import is sent to another connection."""
    elsewhere = ConsentChange("infobip", {"user_id": "1"}, "EMAIL", Action.OPTOUT, to_micros(MORNING), {})
    file = imported(ledger, *people(1, 12), elsewhere)
    answer(ledger, *[WRONG_ACCOUNT] * 5)

    assert len(ledger.queue.claim(Bucket("infobip"), 10, "other", 60)) == 1
    assert ledger.fuses.stops(Bucket("infobip"), [file]) == {}


@POSTGRESQL_IN_PROOFS
def test_a_newer_change_of_the_same_slot_goes_on_and_beats(ledger: Ledger) -> None:
    """Who is held opts in by an event: that is sent, and the held opt-out is superseded."""
    file = trip(ledger)
    drain(ledger)
    later = imported(ledger, change_of("12", "OPTIN", 5))

    assert drain(ledger) == ["12"]

    assert counts(ledger, later) == {"applied": 1}
    assert counts(ledger, file) == {"dead": 5, "pending": 6, "superseded": 1}
    assert ledger.fuses.held_customers() == {BUCKET: 6}


@POSTGRESQL_IN_PROOFS
def test_a_task_of_two_origins_is_sent_without_what_is_held(ledger: Ledger) -> None:
    """The other source's slot is delivered, the held one stays held, and comes when the fuse is reset."""
    file = trip(ledger)
    drain(ledger)
    other = imported(ledger, change_of("12", slot="SMS|BULK"), change_of("11", slot="SMS|BULK"))

    tasks = ledger.queue.claim(BUCKET, 10, "delivery", 60)
    assert {change.slot for task in tasks for change in task.changes} == {"SMS|BULK"}
    ledger.queue.settle("delivery", [settlement(task, Applied(), ledger.now()) for task in tasks])

    assert drain(ledger) == []
    assert counts(ledger, other) == {"applied": 2}
    assert ledger.fuses.held_customers() == {BUCKET: 7}
    ledger.fuses.reset(file, FuseWay.RESUME, WHY)
    ledger.fuses.work_off()
    assert len(drain(ledger)) == 7


@POSTGRESQL_IN_PROOFS
def test_one_more_import_of_the_same_rows_is_sent(ledger: Ledger) -> None:
    """Later changes of the same people, in a file of its own, are not held: the fuse is the first file's."""
    file = trip(ledger)
    again = imported(ledger, *people(6, 7, minute=1))

    assert len(drain(ledger)) == 7

    assert counts(ledger, again) == {"applied": 7}
    assert counts(ledger, file) == {"dead": 5, "superseded": 7}


@POSTGRESQL_IN_PROOFS
def test_an_event_source_is_held_over_its_runs(ledger: Ledger) -> None:
    """A listener that is restarted begins a new run: its events are held as well, those of another source are not."""
    for run in ("monday", "tuesday"):
        number = ledger.intake.open_import(
            ImportSource("redis stream", f"consent, as {run}", run, 0, None, stream=True)
        )
        if run == "monday":
            ledger.intake.accept_events(number.import_id, people(1, 6), [])
            answer(ledger, *[WRONG_ACCOUNT] * 5)
        else:
            ledger.intake.accept_events(number.import_id, people(20, 3), [])
    other = ledger.intake.open_import(ImportSource("redis stream", "clicks, as one", "other", 0, None, stream=True))
    ledger.intake.accept_events(other.import_id, people(40, 2), [])

    assert sorted(drain(ledger)) == ["40", "41"]

    [fuse] = ledger.fuses.tripped()
    assert (fuse.origin, fuse.optouts) == ("redis stream:consent", 4)
    assert len(ledger.fuses.reset("redis stream:consent", FuseWay.RESUME, WHY)) == 1
    ledger.fuses.work_off()
    assert len(drain(ledger)) == 4


@POSTGRESQL_IN_PROOFS
def test_a_source_without_end_is_counted_by_its_latest_customers(ledger: Ledger) -> None:
    """Ten times as many were served long ago: what is answered now counts."""
    run = ledger.intake.open_import(ImportSource("http", "desk", "run", 0, None, stream=True)).import_id
    ledger.intake.accept_events(run, people(1, 500), [])
    answer(ledger, UNKNOWN)
    answer(ledger, *[Applied()] * 400)

    for _ in range(99):
        if ledger.fuses.tripped():
            break
        answer(ledger, UNKNOWN)

    assert 20 <= len(ledger.dead_letters.find(DeadLetterFilter())) < 60


def test_the_clock_of_an_opt_out_runs_while_it_is_held(ledger: Ledger) -> None:
    """The deadline stays, the customer is counted among the open ones, and the suppression check stops."""
    trip(ledger)
    drain(ledger)

    assert sum(cell.targets for cells in ledger.deadlines.open_cells().values() for cell in cells) == 7
    assert ledger.fuses.tripped()[0].due_at is not None
    assert ledger.deadlines.wrong_cells() == 0


def test_a_bucket_is_held_only_if_two_fail_alike_and_a_read_fails_too(ledger: Ledger, clock: Clock) -> None:
    """One asks for nothing; the second asks for one read; only a read that fails holds the bucket."""
    trip(ledger, 1)
    assert ledger.fuses.asks_for_read(BUCKET) is None
    trip(ledger, 100)
    asked = ledger.fuses.asks_for_read(BUCKET)
    assert asked is not None
    assert asked.target_id is not None
    ledger.fuses.note_read(BUCKET, asked, well=True)
    assert ledger.fuses.asks_for_read(BUCKET) is None
    imported(ledger, *people(200, 2))
    assert len(drain(ledger)) == 2

    clock.forward(1)
    trip(ledger, 300)
    asked = ledger.fuses.asks_for_read(BUCKET)
    assert asked is not None
    ledger.fuses.note_read(BUCKET, asked, well=False)
    imported(ledger, *people(400, 2))
    assert drain(ledger) == []

    assert len(ledger.fuses.reset("capillary", FuseWay.RESUME, WHY)) == 4
    ledger.fuses.work_off()
    assert len(drain(ledger)) == 23


@POSTGRESQL_IN_PROOFS
def test_two_that_fail_differently_ask_for_no_read(ledger: Ledger) -> None:
    """Two files with faults of their own say nothing of the bucket."""
    trip(ledger, 1)
    imported(ledger, *people(100, 12))
    answer(ledger, *[PermanentFailure("400", "bad", ours=True)] * 5)

    assert len(ledger.fuses.tripped()) == 2
    assert ledger.fuses.asks_for_read(BUCKET) is None


def test_two_processes_trip_it_once(ledger: Ledger) -> None:
    """Both settle at the same moment: one fuse, one entry in the audit log, and no answer is lost."""
    file = imported(ledger, *people(1, 40))
    batches = {str(n): ledger.queue.claim(BUCKET, 8, str(n), 60) for n in range(3)}
    failed: list[BaseException] = []

    def settle(token: str) -> None:
        try:
            settled = [settlement(task, WRONG_ACCOUNT, ledger.now()) for task in batches[token]]
            ledger.queue.settle(token, settled, FuseCounter(BUCKET, RULES))
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=settle, args=(token,)) for token in batches]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert failed == []
    assert len(ledger.fuses.tripped()) == 1
    assert drain(ledger) == []
    assert counts(ledger, file) == {"dead": 24, "pending": 16}


def test_a_probe_steps_over_what_is_held(ledger: Ledger) -> None:
    """The one call that finds out whether a bucket is well goes to a customer who may be called."""
    trip(ledger, count=30)
    imported(ledger, change_of("999", "OPTIN"))

    found: list[Any] = ledger.queue.claim(BUCKET, 1, "probe", 60, suspects=(1, 2))

    assert [task.address["user_id"] for task in found] == ["999"]
