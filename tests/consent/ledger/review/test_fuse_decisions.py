"""What people decide about a fuse that has tripped: it is sent, in part or whole, or it dies."""

from __future__ import annotations

from consent.guards.fuse import FuseState, FuseWay
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.outcome import Applied, Retry
from tests.support.fuses import WHY, WRONG_ACCOUNT, answer, drain, people, trip
from tests.support.ledgers import BUCKET, change_of, counts, imported, settlement


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


def test_saying_it_again_changes_nothing(ledger: Ledger) -> None:
    """A second decision finds nothing tripped, and the audit log has one."""
    file = trip(ledger)
    assert len(ledger.fuses.reset(file, FuseWay.OPTOUTS, WHY)) == 1
    assert ledger.fuses.reset(file, FuseWay.OPTOUTS, WHY) == []
    assert len(ledger.fuses.reset(file, FuseWay.RESUME, WHY)) == 1
    assert ledger.fuses.reset(file, FuseWay.RESUME, WHY) == []
    assert ledger.fuses.reset("no such import", FuseWay.RESUME, WHY) == []


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


def test_off_lets_everything_through_and_never_trips_again(ledger: Ledger) -> None:
    """A person knows that most of the file is unknown there, and wants it sent all the same."""
    file = trip(ledger, count=30)
    drain(ledger)
    ledger.fuses.reset(file, FuseWay.OFF, WHY)
    ledger.fuses.work_off()

    assert len(drain(ledger, WRONG_ACCOUNT)) == 25

    assert counts(ledger, file) == {"dead": 30}
