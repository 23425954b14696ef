"""Undoing an import brings back what was before, and loses to what was said later; on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from consent.change import ConsentChange
from consent.imports import Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.review import undo as undoing
from consent.ledger.review.holds import Decision
from consent.ledger.review.undo import NotUndone, Undone
from consent.ledger.schema import audit_log
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import change_of, counts, deliver, guarded, imported, run_of

ANN = Decision("ann", "an old export")


def undone(ledger: Ledger, import_id: str, *, opt_in_again: bool = False) -> str | None:
    """Undo an import as the command does; return the import that undoes it."""
    found = ledger.review.undo(import_id, ANN, opt_in_again=opt_in_again)
    assert isinstance(found, Undone)
    return found.undo_id


def stands(ledger: Ledger) -> dict[str, str]:
    """What each person's slot holds."""
    return {one.address["user_id"]: one.action.value for one in ledger.queries.current_values()}


def a_mistake(ledger: Ledger) -> str:
    """Ann had opted out, Bob in, Cem nothing: a file opts Ann and Cem in, and Bob and Dan out."""
    imported(ledger, change_of("ann", "OPTOUT"), change_of("bob", "OPTIN"))
    deliver(ledger)
    changes = [
        change_of("ann", "OPTIN", 9),
        change_of("cem", "OPTIN", 9),
        change_of("bob", "OPTOUT", 9),
        change_of("dan", "OPTOUT", 9),
    ]
    return imported(ledger, *changes)


@POSTGRESQL_IN_PROOFS
def test_it_brings_back_what_was_before(ledger: Ledger) -> None:
    """Ann is out again, and so is Cem, of whose choice nothing was known; those that were opted out stay so."""
    mistake = a_mistake(ledger)
    deliver(ledger)

    by = undone(ledger, mistake)

    assert by is not None
    assert stands(ledger) == {"ann": "OPTOUT", "bob": "OPTOUT", "cem": "OPTOUT", "dan": "OPTOUT"}
    assert sorted(deliver(ledger)) == [("ann", "EMAIL|BULK OPTOUT"), ("cem", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, by) == {"applied": 2}
    assert counts(ledger, mistake) == {"applied": 4}


@POSTGRESQL_IN_PROOFS
def test_it_says_to_which_state_each_slot_goes_back(ledger: Ledger) -> None:
    """Who undoes a wrong file reads how many were in, out or unheard of before, and which file had said so."""
    first = imported(ledger, change_of("ann", "OPTOUT"), change_of("bob", "OPTIN"), change_of("eve", "OPTOUT"))
    mistake = imported(
        ledger, *(change_of(who, "OPTIN", 9) for who in ("ann", "eve", "cem")), change_of("bob", "OPTOUT", 9)
    )

    plan = ledger.review.plan_undo(mistake, opt_in_again=True)

    assert plan.undone == 4
    assert plan.as_json()["back_to"] == {"opted_in": 1, "opted_out": 2, "never_said": 1, "earlier_value": 0}
    assert [(one.state, one.import_id, one.slots) for one in plan.shares] == [
        ("opted_in", first, 1),
        ("opted_out", first, 2),
        ("never_said", "", 1),
    ]
    assert {one["name"] for one in plan.as_json()["back_to_by"]} == {plan.names[first]}


@POSTGRESQL_IN_PROOFS
def test_what_was_not_delivered_yet_never_is(ledger: Ledger) -> None:
    """The mistake is still pending when it is undone: only the opt-outs go out."""
    mistake = a_mistake(ledger)

    undone(ledger, mistake)

    assert {action for _, action in deliver(ledger)} == {"EMAIL|BULK OPTOUT"}
    assert counts(ledger, mistake) == {"applied": 2, "superseded": 2}


@POSTGRESQL_IN_PROOFS
def test_people_are_opted_in_again_only_if_asked(ledger: Ledger) -> None:
    """Bob was in before, so he is again; Dan said nothing before, so he stays out."""
    mistake = a_mistake(ledger)
    deliver(ledger)
    plan = ledger.review.plan_undo(mistake, opt_in_again=False)
    assert (plan.opted_out, plan.were_in) == (2, 1)

    first = undone(ledger, mistake)
    second = undone(ledger, mistake, opt_in_again=True)

    assert first != second
    assert stands(ledger) == {"ann": "OPTOUT", "bob": "OPTIN", "cem": "OPTOUT", "dan": "OPTOUT"}
    left = ledger.review.plan_undo(mistake, opt_in_again=True)
    assert (left.undone, left.opted_out, left.were_in) == (0, 1, 0)


@POSTGRESQL_IN_PROOFS
def test_undoing_twice_changes_nothing(ledger: Ledger) -> None:
    """Neither a change nor an import comes of it."""
    mistake = a_mistake(ledger)
    undone(ledger, mistake)
    before = stands(ledger)
    while deliver(ledger):
        pass

    assert undone(ledger, mistake) is None
    assert (stands(ledger), deliver(ledger)) == (before, [])


@POSTGRESQL_IN_PROOFS
def test_what_was_said_later_stands(ledger: Ledger) -> None:
    """Ann opts in by herself after the mistake, and Cem after it was undone."""
    mistake = a_mistake(ledger)
    ledger.intake.accept_events(run_of(ledger), [change_of("ann", "OPTIN", 10)], [])
    deliver(ledger)
    plan = ledger.review.plan_undo(mistake, opt_in_again=False)
    assert (plan.undone, plan.overtaken, plan.opted_out) == (1, 1, 2)

    undone(ledger, mistake)
    ledger.intake.accept_events(run_of(ledger), [change_of("cem", "OPTIN", 11)], [])

    assert stands(ledger) == {"ann": "OPTIN", "bob": "OPTOUT", "cem": "OPTIN", "dan": "OPTOUT"}


@POSTGRESQL_IN_PROOFS
def test_undone_and_withdrawn_changes_are_looked_past(ledger: Ledger) -> None:
    """Wrong files on top of each other, undone and withdrawn: Ann's own opt-out comes back."""
    imported(ledger, change_of("ann", "OPTOUT"))
    first = imported(ledger, change_of("ann", "OPTIN", 10))
    undone(ledger, first)
    held = guarded(ledger, change_of("ann", "OPTIN", 20), resurrects_most=0)
    ledger.review.withdraw(held, ANN)

    second = imported(ledger, change_of("ann", "OPTIN", 30))
    undone(ledger, second)
    assert stands(ledger) == {"ann": "OPTOUT"}

    imported(ledger, change_of("ann", "OPTIN", 40))
    third = imported(ledger, change_of("ann", "OPTOUT", 50))
    undone(ledger, third, opt_in_again=True)
    fourth = imported(ledger, change_of("ann", "OPTOUT", 60))
    undone(ledger, fourth, opt_in_again=True)
    assert stands(ledger) == {"ann": "OPTIN"}


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_same_mistake_in_two_files_is_undone_with_both(ledger: Ledger, order: tuple[int, int]) -> None:
    """Two nightly exports opt Ann in again; whichever is undone first, her opt-out comes back with the second."""
    imported(ledger, change_of("ann", "OPTOUT"))
    files = [imported(ledger, change_of("ann", "OPTIN", 10)), imported(ledger, change_of("ann", "OPTIN", 20))]
    first, second = (files[place] for place in order)

    undone(ledger, first)
    assert stands(ledger) == {"ann": "OPTIN"}
    assert undone(ledger, second) is not None
    assert stands(ledger) == {"ann": "OPTOUT"}
    assert (undone(ledger, first), undone(ledger, second)) == (None, None)


@POSTGRESQL_IN_PROOFS
def test_only_what_was_published_is_undone(ledger: Ledger) -> None:
    """A held file is withdrawn instead, and what undid a file is not undone itself."""
    imported(ledger, change_of("ann", "OPTOUT"))
    held = guarded(ledger, change_of("ann", "OPTIN", 20), resurrects_most=0)
    refused = ledger.review.undo(held, ANN)
    assert isinstance(refused, NotUndone)
    assert "withdraw" in refused.reason

    mistake = imported(ledger, change_of("bob", "OPTIN", 20))
    unexpected = ledger.review.undo(mistake, replace(ANN, expect=2))
    assert isinstance(unexpected, NotUndone)
    assert "1 slots" in unexpected.reason
    by = undone(ledger, mistake)
    assert by is not None
    assert isinstance(ledger.review.undo(by, ANN), NotUndone)
    assert ledger.review.undo("20261129-none", ANN) is None


def corrected(ledger: Ledger, mistake: str, *changes: ConsentChange) -> str:
    """The corrected file in the place of one that was undone."""
    undone(ledger, mistake)
    source = ImportSource("csv", "fixed.csv", f"instead of {mistake}", 1, None, replaces=mistake)
    progress = ledger.intake.open_import(source)
    if (import_id := progress.import_id) and progress.state != "reading":
        return import_id
    ledger.intake.accept(import_id, changes, [], Checkpoint(len(changes), len(changes) + 1, 0, len(changes)))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    return import_id


def test_a_corrected_file_takes_the_place_of_a_wrong_one(ledger: Ledger) -> None:
    """Of Ann, Cem and Dan it says the same with the same time, and of Bob something else; Eve clicks in between."""
    imported(ledger, change_of("ann", "OPTOUT"), change_of("eve", "OPTOUT"))
    changes = [change_of(who, "OPTIN", 9) for who in ("ann", "cem", "dan", "eve", "bob")]
    mistake = imported(ledger, *changes)
    ledger.intake.accept_events(run_of(ledger), [change_of("eve", "OPTOUT", 10)], [])
    deliver(ledger)

    fixed = corrected(ledger, mistake, *changes[:4], change_of("bob", "OPTOUT", 9))

    wanted = {"ann": "OPTIN", "cem": "OPTIN", "dan": "OPTIN", "eve": "OPTOUT", "bob": "OPTOUT"}
    assert stands(ledger) == wanted
    while deliver(ledger):
        pass
    assert counts(ledger, fixed).get("duplicates", 0) == 0
    assert corrected(ledger, mistake, *changes[:4], change_of("bob", "OPTOUT", 9)) == fixed
    assert stands(ledger) == wanted


class Killed(BaseException):
    """The process is gone at this point."""


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("step", range(6))
def test_a_killed_undoing_has_happened_or_not(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Cut before each of its transactions: nothing is delivered of it until it is said again, and then all is."""
    mistake = a_mistake(ledger)
    deliver(ledger)
    monkeypatch.setattr(undoing, "CHUNK", 2)
    writes, steps = ledger.database.write, iter(range(100))

    def cut(work: object) -> object:
        if next(steps) == step:
            raise Killed
        return writes(work)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(ledger.database, "write", cut)
        with pytest.raises(Killed):
            undone(ledger, mistake)
    assert deliver(ledger) == []
    imported(ledger, change_of("eve", "OPTOUT"))
    deliver(ledger)

    undone(ledger, mistake)
    for import_id in ledger.intake.unpublished():  # what the sweep does
        ledger.intake.publish(import_id)

    assert sorted(deliver(ledger)) == [("ann", "EMAIL|BULK OPTOUT"), ("cem", "EMAIL|BULK OPTOUT")]
    query = select(audit_log.c.what).where(audit_log.c.import_id == mistake)
    assert ledger.database.read(lambda tx: tx.execute(query).scalars().all()) == ["undone"]
