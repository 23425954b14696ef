"""What people decide about a fuse that has tripped: it is sent, in part or whole, or it dies."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Connection, select, text

from consent.guards.fuse import FuseState, FuseWay
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.review.fuse_counts import fuses
from consent.ledger.schema import customer_tasks
from consent.outcome import Applied, Retry
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.fuses import WHY, WRONG_ACCOUNT, answer, drain, people, trip
from tests.support.ledgers import BUCKET, change_of, counts, imported, recorded, run_of, settlement
from tests.support.servers.event_streams import until


@POSTGRESQL_IN_PROOFS
def test_resume_sends_the_rest_and_counts_anew(ledger: Ledger) -> None:
    """The same failures trip it again, no sooner than at first."""
    file = trip(ledger, count=20)
    drain(ledger)

    [fuse] = ledger.fuses.reset(file, FuseWay.RESUME, WHY)
    assert fuse.state is FuseState.CLOSED
    assert ledger.fuses.work_off() == 15
    answer(ledger, *[WRONG_ACCOUNT] * 4)
    assert ledger.fuses.tripped() == []
    answer(ledger, WRONG_ACCOUNT)
    assert drain(ledger) == []
    assert counts(ledger, file) == {"dead": 10, "pending": 10}

    ledger.fuses.reset("capillary", FuseWay.RESUME, WHY)
    ledger.fuses.work_off()
    assert len(drain(ledger)) == 10
    assert counts(ledger, file) == {"dead": 10, "applied": 10}


@POSTGRESQL_IN_PROOFS
def test_saying_it_again_changes_nothing(ledger: Ledger) -> None:
    """A second decision finds nothing tripped, and the audit log has one."""
    file = trip(ledger)
    assert len(ledger.fuses.reset(file, FuseWay.OPTOUTS, WHY)) == 1
    assert ledger.fuses.reset(file, FuseWay.OPTOUTS, WHY) == []
    assert len(ledger.fuses.reset(file, FuseWay.RESUME, WHY)) == 1
    assert ledger.fuses.reset(file, FuseWay.RESUME, WHY) == []
    assert ledger.fuses.reset("no such import", FuseWay.RESUME, WHY) == []


@POSTGRESQL_IN_PROOFS
def test_only_opt_outs_are_sent(ledger: Ledger) -> None:
    """The opt-ins stay held; should the opt-outs fail alike, it trips again."""
    file = imported(ledger, *people(1, 12), *people(21, 6, "OPTIN"))
    answer(ledger, *[WRONG_ACCOUNT] * 5)
    drain(ledger)

    ledger.fuses.reset(file, FuseWay.OPTOUTS, WHY)
    ledger.fuses.work_off()
    answer(ledger, *[Applied()] * 3)
    assert [one.state for one in ledger.fuses.tripped()] == [FuseState.OPTOUTS]
    assert len(drain(ledger, Applied())) == 4
    assert counts(ledger, file) == {"dead": 5, "applied": 7, "pending": 6}

    ledger.fuses.reset(file, FuseWay.RESUME, WHY)
    ledger.fuses.work_off()
    assert len(drain(ledger)) == 6


@POSTGRESQL_IN_PROOFS
def test_opt_outs_that_fail_alike_trip_it_again(ledger: Ledger) -> None:
    """Only opt-outs were let through, and they die too."""
    file = trip(ledger, count=20)
    ledger.fuses.reset(file, FuseWay.OPTOUTS, WHY)
    ledger.fuses.work_off()

    answer(ledger, *[WRONG_ACCOUNT] * 5)

    assert [one.state for one in ledger.fuses.tripped()] == [FuseState.HELD]
    assert drain(ledger) == []


def test_the_rest_dies_without_a_call_and_can_be_replayed(ledger: Ledger) -> None:
    """What was let die has a code of its own, by which it is found; another source's part of a task goes on."""
    file = trip(ledger)
    imported(ledger, change_of("12", slot="SMS|BULK"))

    ledger.fuses.reset(file, FuseWay.LET_DIE, WHY)
    assert ledger.fuses.work_off() == 7
    assert ledger.fuses.tripped() == []
    assert counts(ledger, file) == {"dead": 12}
    assert drain(ledger) == ["12"]
    assert ledger.deadlines.wrong_cells() == 0

    letters = ledger.dead_letters.search(DeadLetterFilter(code="not_sent"))
    assert len(letters) == 7
    ledger.dead_letters.replay(letters, who="ann", why="fixed")
    assert len(drain(ledger)) == 7


@POSTGRESQL_IN_PROOFS
def test_what_a_worker_holds_dies_once_it_is_back(ledger: Ledger) -> None:
    """Under lease it cannot be let die: the sweep comes back to it."""
    file = imported(ledger, *people(1, 12))
    held = ledger.queue.claim(BUCKET, 2, "slow", 60)
    answer(ledger, *[WRONG_ACCOUNT] * 5)

    ledger.fuses.reset(file, FuseWay.LET_DIE, WHY)
    ledger.fuses.work_off()
    assert counts(ledger, file) == {"dead": 10, "pending": 2}
    assert [one.state for one in ledger.fuses.tripped()] == [FuseState.DYING]

    ledger.queue.settle("slow", [settlement(task, Retry("500", "busy", counts=True), ledger.now()) for task in held])
    ledger.fuses.work_off()
    assert counts(ledger, file) == {"dead": 12}
    assert ledger.fuses.tripped() == []


@POSTGRESQL_IN_PROOFS
def test_off_lets_everything_through_and_never_trips_again(ledger: Ledger) -> None:
    """A person knows that most of the file is unknown there, and wants it sent all the same."""
    file = trip(ledger, count=30)
    drain(ledger)
    ledger.fuses.reset(file, FuseWay.OFF, WHY)
    ledger.fuses.work_off()

    assert len(drain(ledger, WRONG_ACCOUNT)) == 25

    assert counts(ledger, file) == {"dead": 30}


@POSTGRESQL_IN_PROOFS
def test_a_fuse_of_which_nothing_is_left_is_closed(ledger: Ledger) -> None:
    """The import is undone: its fuse is shown no more, the sweep closes it, and the audit log says so once."""
    file = trip(ledger)
    drain(ledger)
    ledger.fuses.close_those_over()
    assert [one.optouts for one in ledger.fuses.tripped()] == [7]
    imported(ledger, *people(6, 7, "OPTIN", minute=1))
    assert ledger.fuses.tripped() == []

    for _ in range(2):
        ledger.fuses.close_those_over()
        ledger.fuses.work_off()

    assert state_of(ledger, file) == "closed"
    noted = [(one.what, one.why) for one in ledger.queries.audit_page(None, 10)]
    assert noted.count(("fuse of capillary closed", "nothing of the import is pending any more")) == 1
    assert len(drain(ledger)) == 7
    assert ledger.fuses.held_customers() == {}


def test_a_fuse_is_not_closed_under_what_is_still_to_come(ledger: Ledger) -> None:
    """Of a stream that is read on, and of an event source, more will follow: a person has to say how it goes on."""
    stream = recorded(ledger, *people(1, 5), stream=True)
    answer(ledger, *[WRONG_ACCOUNT] * 5)
    run = run_of(ledger)
    ledger.intake.accept_events(run, people(31, 5), [])
    answer(ledger, *[WRONG_ACCOUNT] * 5)

    ledger.fuses.close_those_over()

    assert state_of(ledger, stream) == state_of(ledger, "redis stream:consent") == "held"
    ledger.intake.finish_reading(stream)
    ledger.intake.publish(stream)
    ledger.fuses.close_those_over()
    assert state_of(ledger, stream) == "closed"


def state_of(ledger: Ledger, origin: str) -> str:
    """The state of the fuse of an origin."""
    query = select(fuses.c.state).where(fuses.c.origin == origin)
    return str(ledger.database.read(lambda tx: tx.execute(query).scalar_one()))


def test_a_reset_waits_for_customer_tasks_before_it_locks_the_fuse(ledger: Ledger) -> None:
    """While some die, a person has it sent: each locked what the other needed next, and the database killed one."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    file = trip(ledger)
    drain(ledger)
    ledger.fuses.reset(file, FuseWay.RESUME, WHY)
    tasks = select(customer_tasks.c.target_id).with_for_update()

    def as_dying_does(tx: Connection) -> None:
        tx.execute(tasks).all()
        resetting.start()
        until(lambda: ledger.database.read(lambda other: other.execute(_BLOCKED).scalar_one()) == 1)
        tx.execute(select(fuses).where(fuses.c.origin == file).with_for_update(nowait=True)).one()

    resetting = threading.Thread(target=ledger.fuses.work_off)
    ledger.database.write(as_dying_does)
    resetting.join(30)

    assert len(drain(ledger)) == 7


_BLOCKED = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
