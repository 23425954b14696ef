"""A fuse beside what else holds changes: tries, pauses and what undoes an import; on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from consent.guards.fuse import FuseWay
from consent.ledger.ledger import Ledger
from consent.ledger.queue import claim
from consent.ledger.queue.overlaps import Overlap
from consent.outcome import Applied, Retry
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.fuses import UNKNOWN, WHY, WRONG_ACCOUNT, answer, drain, people, trip
from tests.support.ledgers import BUCKET, change_of, counts, imported, settlement


@POSTGRESQL_IN_PROOFS
def test_what_is_tried_again_waits_although_something_else_of_it_is_held(ledger: Ledger) -> None:
    """What a fuse holds is no fresh word: without the pause all tries are over within a second."""
    trip(ledger)
    imported(ledger, change_of("7", slot="SMS|BULK"))
    [task] = ledger.queue.claim(BUCKET, 1, "one", 60)
    assert [one.slot for one in task.changes] == ["SMS|BULK"]

    wait = ledger.now() + 60_000_000
    ledger.queue.settle("one", [settlement(task, Retry("503", "busy", counts=True), ledger.now(), put_off_until=wait)])

    assert ledger.queue.claim(BUCKET, 50, "two", 60) == []


@POSTGRESQL_IN_PROOFS
def test_a_pause_of_opt_ins_beside_a_fuse_lets_other_opt_outs_go(ledger: Ledger) -> None:
    """Of these customers the opt-out is held and the opt-in is paused: they do not stand in the way of others."""
    trip(ledger, count=15)
    imported(ledger, *(change_of(str(number), "OPTIN", slot="SMS|BULK") for number in range(6, 16)))
    imported(ledger, *people(100, 3, minute=1))
    ledger.pauses.pause("capillary", None, only_optins=True, who="ann", why="welcome mails")

    called = [who for _ in range(3) for who in answer(ledger, *[Applied()] * 3)]

    assert sorted(called) == ["100", "101", "102"]
    assert ledger.queue.due(BUCKET, 100) == 0


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("fuse_first", [True, False])
def test_what_a_pause_and_a_fuse_hold_is_sent_when_each_ends(ledger: Ledger, *, fuse_first: bool) -> None:
    """In either order; the opt-outs do not wait for the pause of opt-ins, nor the opt-ins for the fuse."""
    file = trip(ledger)
    imported(ledger, *(change_of(str(number), "OPTIN", slot="SMS|BULK") for number in range(6, 13)))
    ledger.pauses.pause("capillary", None, only_optins=True, who="ann", why="welcome mails")
    assert drain(ledger) == []

    def reset() -> None:
        ledger.fuses.reset(file, FuseWay.RESUME, WHY)
        ledger.fuses.work_off()

    def resume() -> None:
        ledger.pauses.resume("capillary", None, who="ann", why="they are ready")
        ledger.fuses.work_off()

    first, second = (reset, resume) if fuse_first else (resume, reset)
    first()
    assert len(drain(ledger)) == 7
    second()
    assert len(drain(ledger)) == 7
    assert counts(ledger, file) == {"applied": 7, "dead": 5}
    assert (ledger.queue.due(BUCKET, 10), ledger.fuses.held_customers()) == (0, {})


def test_a_pause_that_ends_while_customers_are_claimed_keeps_no_one_held(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim had seen the pause, and the sweep found no one held yet: what was paused is sent all the same."""
    trip(ledger)
    imported(ledger, *(change_of(str(number), "OPTIN", slot="SMS|BULK") for number in range(6, 13)))
    ledger.pauses.pause("capillary", None, only_optins=True, who="ann", why="welcome mails")
    promote = claim._promote

    def resume() -> None:
        ledger.pauses.resume("capillary", None, who="ann", why="they are ready")
        ledger.fuses.work_off()

    def meanwhile(*anything: Any) -> None:
        monkeypatch.setattr(claim, "_promote", promote)
        resume()
        promote(*anything)

    if ledger.database.is_sqlite:
        resume()  # one transaction writes at a time
    else:
        monkeypatch.setattr(claim, "_promote", meanwhile)

    assert sorted(drain(ledger) + drain(ledger), key=int) == ["6", "7", "8", "9", "10", "11", "12"]


@POSTGRESQL_IN_PROOFS
def test_an_undone_import_holds_nothing_any_more(ledger: Ledger) -> None:
    """What its fuse held is superseded by what undoes it; the undoing is delivered."""
    imported(ledger, *people(1, 12, "OPTIN"))
    drain(ledger)
    file = imported(ledger, *people(1, 12, minute=5))
    answer(ledger, *[WRONG_ACCOUNT] * 5)

    undone = ledger.review.undo(file, WHY, opt_in_again=True)
    assert undone.undo_id is not None
    assert len(drain(ledger)) == 5  # the others' opt-outs were never sent
    ledger.fuses.work_off()

    assert counts(ledger, file) == {"dead": 5, "superseded": 7}
    assert ledger.fuses.held_customers() == {}
    assert ledger.fuses.tripped() == []


@POSTGRESQL_IN_PROOFS
def test_those_who_were_served_are_counted_seldom(ledger: Ledger) -> None:
    """Not again with each further failure of a file near its limit: a large one would be counted thousands of times."""
    imported(ledger, *people(1, 170))
    answer(ledger, *[Applied()] * 110)
    asked: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        asked.extend(["counted"] if "attempts > " in statement else [])

    event.listen(ledger.database.engine, "before_cursor_execute", note)
    for _ in range(60):
        answer(ledger, UNKNOWN)

    assert ledger.fuses.tripped() == []
    assert len(asked) <= 3


@POSTGRESQL_IN_PROOFS
def test_what_a_held_wider_opt_in_overtakes_does_not_take_it_along(ledger: Ledger) -> None:
    """An older opt-out of a part needs no call; the opt-in that is held is still to be sent once the fuse is reset."""
    overlap = Overlap(lambda wide, slot: slot.startswith(wide), lambda a, b: a[0] == b[0], UNKNOWN)
    file = imported(ledger, *people(1, 12, "OPTIN"))
    answer(ledger, *[WRONG_ACCOUNT] * 5)
    late = imported(ledger, change_of("12", slot="EMAIL|BULK|narrow", minute=-1))

    assert ledger.queue.claim(BUCKET, 10, "delivery", 60, overlap=overlap) == []
    assert counts(ledger, late) == {"superseded": 1}
    ledger.fuses.reset(file, FuseWay.RESUME, WHY)
    ledger.fuses.work_off()

    assert sorted(drain(ledger), key=int) == ["6", "7", "8", "9", "10", "11", "12"]


@POSTGRESQL_IN_PROOFS
def test_a_held_wider_opt_out_does_not_stop_a_narrow_one(ledger: Ledger) -> None:
    """Of overlapping slots the held one is left out before they are compared."""
    overlap = Overlap(lambda wide, slot: slot.startswith(wide), lambda a, b: a[0] == b[0], UNKNOWN)
    trip(ledger)
    imported(ledger, change_of("12", slot="EMAIL|BULK|narrow", minute=-1))

    [task] = ledger.queue.claim(BUCKET, 10, "delivery", 60, overlap=overlap)

    assert [change.slot for change in task.changes] == ["EMAIL|BULK|narrow"]
