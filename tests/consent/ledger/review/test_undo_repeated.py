"""Undoing a mistake that later files said again, and undoing what two commands undo at once; on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, permutations
from typing import Any

import pytest

from consent.ledger.ledger import Ledger
from consent.ledger.review import undo as undoing
from consent.ledger.review.holds import Decision
from consent.ledger.review.undo import NotUndone, Undone
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import change_of, counts, deliver, guarded, imported, run_of

ANN = Decision("ann", "an old export")


def undone(ledger: Ledger, import_id: str, *, opt_in_again: bool = False) -> Undone:
    """Undo an import as the command does."""
    found = ledger.review.undo(import_id, ANN, opt_in_again=opt_in_again)
    assert isinstance(found, Undone)
    return found


def stands(ledger: Ledger) -> dict[str, str]:
    """What each person's slot holds."""
    return {one.address["user_id"]: one.action.value for one in ledger.queries.current_values()}


def delivered(ledger: Ledger, *changes: object) -> str:
    """A file that has been delivered: what a later one repeats is a no-op."""
    import_id = imported(ledger, *changes)  # type: ignore[arg-type]
    while deliver(ledger):
        pass
    return import_id


def noops(ledger: Ledger, import_id: str) -> int:
    """How many of an import's rows are unchanged."""
    return counts(ledger, import_id).get("unchanged", 0)


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize(
    "order",
    [
        pytest.param(order, marks=() if order in {(0, 1, 2), (2, 0, 1)} else pytest.mark.proof)
        for order in permutations(range(3))
    ],
)
def test_a_mistake_that_later_dumps_repeat_is_undone_with_all_of_them(ledger: Ledger, order: tuple[int, ...]) -> None:
    """Ann opted out; a wrong dump opts her in, and two more say it again. Her opt-out comes back with the last undo."""
    delivered(ledger, change_of("ann", "OPTOUT"))
    files = [delivered(ledger, change_of("ann", "OPTIN", minute)) for minute in (10, 20, 30)]
    assert [noops(ledger, one) for one in files] == [0, 1, 1]

    for place in order[:2]:
        assert undone(ledger, files[place]).undo_id is None
        assert stands(ledger) == {"ann": "OPTIN"}
    assert undone(ledger, files[order[2]]).plan.undone == 1

    assert stands(ledger) == {"ann": "OPTOUT"}
    assert deliver(ledger) == [("ann", "EMAIL|BULK OPTOUT")]
    assert [undone(ledger, one).undo_id for one in files] == [None] * 3


@POSTGRESQL_IN_PROOFS
def test_the_import_that_says_the_same_is_told(ledger: Ledger) -> None:
    """Who undoes the first of two wrong dumps reads that the second says it too; Bob is in the first alone."""
    delivered(ledger, change_of("ann", "OPTOUT"), change_of("bob", "OPTOUT"))
    first = delivered(ledger, change_of("ann", "OPTIN", 10), change_of("bob", "OPTIN", 10))
    second = delivered(ledger, change_of("ann", "OPTIN", 20))

    plan = undone(ledger, first).plan

    assert (plan.undone, plan.overtaken, plan.repeated, plan.repeated_by) == (1, 1, 1, {second: 1})
    assert second in plan.listed[0]
    assert plan.repeating == f"{second} (1)"
    assert stands(ledger) == {"ann": "OPTIN", "bob": "OPTOUT"}


def test_what_a_later_file_says_rightly_stands(ledger: Ledger) -> None:
    """Cem is opted in by a wrong file and by a right one: the wrong one is undone, another mistake on top too."""
    wrong = delivered(ledger, change_of("cem", "OPTIN", 10))
    delivered(ledger, change_of("cem", "OPTIN", 20))
    undone(ledger, wrong)
    on_top = delivered(ledger, change_of("cem", "OPTOUT", 30))

    undone(ledger, on_top, opt_in_again=True)

    assert stands(ledger) == {"cem": "OPTIN"}


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_opt_outs_that_two_dumps_say_come_back_if_asked(ledger: Ledger, order: tuple[int, int]) -> None:
    """Dan was in; two wrong dumps opt him out. He is in again once both are undone with --opt-in-again."""
    delivered(ledger, change_of("dan", "OPTIN"))
    files = [delivered(ledger, change_of("dan", "OPTOUT", 10))]
    with_noop = delivered(ledger, change_of("dan", "OPTOUT", 20), change_of("eve", "OPTOUT", 20))
    files.append(with_noop)

    for place in order:
        assert stands(ledger)["dan"] == "OPTOUT"
        undone(ledger, files[place], opt_in_again=True)

    assert stands(ledger)["dan"] == "OPTIN"


@POSTGRESQL_IN_PROOFS
def test_what_undid_one_file_is_undone_with_the_other(ledger: Ledger) -> None:
    """A wrong opt-in, then a wrong opt-out: undoing the second goes back to the first, whose undoing goes behind it."""
    delivered(ledger, change_of("ann", "OPTOUT"))
    first = delivered(ledger, change_of("ann", "OPTIN", 10))
    second = delivered(ledger, change_of("ann", "OPTOUT", 20))
    undone(ledger, second, opt_in_again=True)
    assert stands(ledger) == {"ann": "OPTIN"}

    undone(ledger, first)

    assert stands(ledger) == {"ann": "OPTOUT"}
    assert (undone(ledger, first).undo_id, undone(ledger, second, opt_in_again=True).undo_id) == (None, None)


@POSTGRESQL_IN_PROOFS
def test_a_noop_of_a_withdrawn_file_says_nothing(ledger: Ledger) -> None:
    """The held file would have said the mistake again; it was given up, so it does not keep the mistake alive."""
    delivered(ledger, change_of("ann", "OPTOUT"), change_of("bob", "OPTOUT"))
    mistake = delivered(ledger, change_of("ann", "OPTIN", 10))
    held = guarded(ledger, change_of("ann", "OPTIN", 20), change_of("bob", "OPTIN", 20), resurrects_most=0)
    ledger.review.withdraw(held, ANN)

    undone(ledger, mistake)

    assert stands(ledger) == {"ann": "OPTOUT", "bob": "OPTOUT"}


@POSTGRESQL_IN_PROOFS
def test_what_a_cut_undoing_left_is_not_published_by_another(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An undo with --opt-in-again is killed half way; the one that is said then must not opt anyone in."""
    delivered(ledger, change_of("bob", "OPTIN"), change_of("ann", "OPTOUT"))
    mistake = delivered(ledger, change_of("bob", "OPTOUT", 10), change_of("ann", "OPTIN", 10))

    class Killed(BaseException):
        pass

    def cut(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(undoing, "_finish", cut)
        with pytest.raises(Killed):
            undone(ledger, mistake, opt_in_again=True)
    undone(ledger, mistake)

    assert stands(ledger) == {"bob": "OPTOUT", "ann": "OPTOUT"}
    assert deliver(ledger) == [("ann", "EMAIL|BULK OPTOUT")]


def test_two_that_undo_at_once_leave_nothing_half_done(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process undoes the import while the first one records: one of them does it, and the counts balance."""
    delivered(ledger, *(change_of(who, "OPTOUT") for who in "abc"), change_of("bob", "OPTIN"))
    wrong = delivered(ledger, *(change_of(who, "OPTIN", 10) for who in "abc"), change_of("bob", "OPTOUT", 10))
    monkeypatch.setattr(undoing, "CHUNK", 1)
    write, other = ledger.database.write, []

    def between(work: Callable[..., Any]) -> Any:
        """After this process has begun, the other one does it all."""
        found = write(work)
        if not other:  # the import that undoes it has begun
            other.append(found)
            other.append(ledger.review.undo(wrong, ANN, opt_in_again=True))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ledger.database, "write", between)
        mine = ledger.review.undo(wrong, ANN)

    assert isinstance(other[1], Undone)
    assert isinstance(mine, NotUndone)
    assert "at this moment" in mine.reason
    assert stands(ledger) == {"a": "OPTOUT", "b": "OPTOUT", "c": "OPTOUT", "bob": "OPTIN"}
    while deliver(ledger):
        pass
    assert other[1].undo_id is not None
    assert counts(ledger, other[1].undo_id) == {"applied": 4}


@POSTGRESQL_IN_PROOFS
def test_a_run_of_events_is_undone_as_far_as_files_do_not_repeat_it(ledger: Ledger) -> None:
    """What a listener heard wrongly, and a file repeats: the file says so, and is told."""
    delivered(ledger, change_of("ann", "OPTOUT"))
    run = run_of(ledger)
    ledger.intake.accept_events(run, [change_of("ann", "OPTIN", 10)], [])
    while deliver(ledger):
        pass
    file = delivered(ledger, change_of("ann", "OPTIN", 20))

    assert undone(ledger, run).plan.repeated_by == {file: 1}
    assert undone(ledger, file).plan.undone == 1

    assert stands(ledger) == {"ann": "OPTOUT"}


def moved(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Do something between the last look at the slots and the transaction that undoes them."""
    looks, compensations = count(), undoing.compensations

    def then(*arguments: Any, **more: Any) -> Iterator[Any]:
        yield from compensations(*arguments, **more)
        if next(looks) == 1:
            do()

    monkeypatch.setattr(undoing, "compensations", then)


def test_what_is_expected_holds_when_it_is_undone(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ann opts out after the look at her slot: of two slots only one would go back, and nothing is done."""
    mistake = imported(ledger, change_of("ann", "OPTIN"), change_of("bob", "OPTIN"))
    run = run_of(ledger)
    moved(monkeypatch, lambda: ledger.intake.accept_events(run, [change_of("ann", "OPTOUT", 5)], []))

    found = ledger.review.undo(mistake, Decision("ann", "an old export", None, 2))

    assert isinstance(found, NotUndone)
    assert found.slots == 1
    assert {one.address["user_id"]: one.action.value for one in ledger.queries.current_values()}["bob"] == "OPTIN"
    assert isinstance(ledger.review.undo(mistake, Decision("ann", "an old export", None, 1)), Undone)


def test_another_import_that_is_undone_meanwhile_counts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bob's slot stood by a later file, until that was undone: then the first one would undo two slots, not one."""
    mistake = imported(ledger, change_of("ann", "OPTIN"), change_of("bob", "OPTIN"))
    later = imported(ledger, change_of("bob", "OPTIN", 5))
    moved(monkeypatch, lambda: ledger.review.undo(later, Decision("bob", "wrong too", None, None)))

    found = ledger.review.undo(mistake, Decision("ann", "an old export", None, 1))

    assert isinstance(found, NotUndone)
