"""A file is held, approved and withdrawn; on both databases."""

from __future__ import annotations

import pytest

from consent.change import Action
from consent.imports import ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.review import guard_checks
from consent.ledger.review.holds import Decided, Decision, NotAsExpected, NothingHeld
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import change_of, counts, deliver, guarded, imported, in_between, recorded, run_of

ROOT = Decision("ann", "checked")
EVERY = {"resurrects_most": 0}
"""Each opt-in over an opt-out holds a file."""


def approve(ledger: Ledger, import_id: str, only: Action | None = None, expect: int | None = None) -> object:
    """Approve, and publish as the command does."""
    found = ledger.review.approve(import_id, Decision("ann", "checked", only, expect))
    ledger.intake.publish(import_id)
    return found


def withdraw(ledger: Ledger, import_id: str) -> object:
    """Withdraw, and publish as the command does."""
    found = ledger.review.withdraw(import_id, ROOT)
    ledger.intake.publish(import_id)
    return found


def state(ledger: Ledger, import_id: str) -> str:
    """The state of an import."""
    found = ledger.queries.report(import_id)
    assert found is not None
    return found.state


def a_held_file(ledger: Ledger) -> str:
    """Ann, who opted out, would be opted in again by a file that opts Bob out."""
    imported(ledger, change_of("ann"))
    deliver(ledger)
    return guarded(ledger, change_of("ann", "OPTIN", 10), change_of("bob", "OPTOUT", 10), **EVERY)


@POSTGRESQL_IN_PROOFS
def test_a_held_file_is_due_nowhere(ledger: Ledger) -> None:
    """Its changes are pending, none is delivered, and the ledger says why."""
    file = a_held_file(ledger)

    assert (state(ledger, file), deliver(ledger), counts(ledger, file)) == ("held", [], {"pending": 2})
    [held] = ledger.review.held_imports()
    assert (held.import_id, held.optins, held.optouts) == (file, 1, 1)
    assert held.slots == {"all": 2, "optins": 1, "optouts": 1}
    [finding] = held.findings
    assert finding["guard"] == "resurrects"
    assert "line None: user_id=… EMAIL|BULK would be OPTIN" in finding["examples"][0]
    assert ledger.intake.unpublished() == {}


@POSTGRESQL_IN_PROOFS
def test_an_approved_file_is_delivered_once(ledger: Ledger) -> None:
    """Saying it twice changes nothing."""
    file = a_held_file(ledger)

    assert approve(ledger, file) == Decided(2, 2)
    assert sorted(deliver(ledger)) == [("ann", "EMAIL|BULK OPTIN"), ("bob", "EMAIL|BULK OPTOUT")]
    assert approve(ledger, file) == NothingHeld("released")
    assert (deliver(ledger), counts(ledger, file), ledger.review.held_imports()) == ([], {"applied": 2}, [])


@POSTGRESQL_IN_PROOFS
def test_opt_outs_alone_are_approved(ledger: Ledger) -> None:
    """The opt-ins stay held, and can be approved or withdrawn later."""
    file = a_held_file(ledger)

    assert approve(ledger, file, Action.OPTOUT, expect=1) == Decided(1, 1)
    assert deliver(ledger) == [("bob", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, file) == {"applied": 1, "pending": 1}
    assert approve(ledger, file, Action.OPTOUT) == NothingHeld("released")
    assert [(one.optins, one.optouts) for one in ledger.review.held_imports()] == [(1, 0)]

    assert approve(ledger, file) == Decided(1, 1)
    assert deliver(ledger) == [("ann", "EMAIL|BULK OPTIN")]
    assert counts(ledger, file) == {"applied": 2}


@POSTGRESQL_IN_PROOFS
def test_a_withdrawn_file_is_never_delivered(ledger: Ledger) -> None:
    """It is sealed all the same, because each of its rows is counted; nothing brings it back."""
    file = a_held_file(ledger)

    assert withdraw(ledger, file) == Decided(2, 2)
    assert withdraw(ledger, file) == NothingHeld("withdrawn")
    assert approve(ledger, file) == NothingHeld("withdrawn")
    found = ledger.queries.report(file)
    assert found is not None
    assert (deliver(ledger), counts(ledger, file), found.sealed) == ([], {"withdrawn": 2}, True)


def test_what_was_said_meanwhile_wins(ledger: Ledger) -> None:
    """Ann opts out once more before the file is approved: its opt-in is older and loses."""
    file = a_held_file(ledger)
    ledger.intake.accept_events(run_of(ledger), [change_of("ann", "OPTOUT", 20)], [])
    deliver(ledger)

    assert approve(ledger, file, expect=2) == NotAsExpected(1)
    assert approve(ledger, file, expect=1) == Decided(2, 1)
    assert deliver(ledger) == [("bob", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, file) == {"applied": 1, "superseded": 1}


@pytest.mark.parametrize("decide", ["approve", "withdraw"])
@pytest.mark.parametrize("by", ["event", "dump", pytest.param("file", marks=pytest.mark.proof)])
def test_what_is_expected_holds_in_the_moment_of_the_decision(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, decide: str, by: str
) -> None:
    """Ann opts out once more between the look and the decision: it is about one slot, and not about two."""
    file, run = a_held_file(ledger), run_of(ledger)
    ways = {
        "event": lambda: ledger.intake.accept_events(run, [change_of("ann", "OPTOUT", 20)], []),
        "dump": lambda: imported(ledger, change_of("ann", "OPTOUT", 20)),  # a no-op, which moves her slot forward
        "file": lambda: imported(ledger, change_of("bob", "OPTOUT", 30)),
    }
    in_between(monkeypatch, ledger, ways[by])

    found = getattr(ledger.review, decide)(file, Decision("ann", "checked", None, 2))

    assert (found, state(ledger, file)) == (NotAsExpected(1), "held")
    assert getattr(ledger.review, decide)(file, Decision("ann", "checked", None, 1)) == Decided(2, 1)


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("ending", [None, withdraw])
def test_a_held_file_blocks_no_other(ledger: Ledger, ending: object) -> None:
    """What an event and another file say too is theirs, whether the file is held or withdrawn."""
    imported(ledger, change_of("ann"))
    deliver(ledger)
    changes = [change_of("ann", "OPTIN", 10), change_of("bob", "OPTOUT", 10), change_of("cem", "OPTOUT", 10)]
    file = guarded(ledger, *changes, **EVERY)
    if ending is withdraw:
        withdraw(ledger, file)

    ledger.intake.accept_events(run_of(ledger), [change_of("bob", "OPTOUT", 10)], [])
    other = imported(ledger, change_of("cem", "OPTOUT", 10))

    assert sorted(deliver(ledger)) == [("bob", "EMAIL|BULK OPTOUT"), ("cem", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, other) == {"applied": 1}
    assert counts(ledger, file) == {"withdrawn" if ending else "pending": 1, "duplicates": 2}


@POSTGRESQL_IN_PROOFS
def test_a_no_op_is_held_with_its_file(ledger: Ledger) -> None:
    """A row that said what was so becomes an opt-in over an opt-out by a click while the file was read."""
    imported(ledger, change_of("ann", "OPTIN"), change_of("bob", "OPTIN"))
    deliver(ledger)
    source = recorded(ledger, change_of("bob", "OPTIN", 30), change_of("cem", "OPTOUT", 30))
    ledger.intake.accept_events(run_of(ledger), [change_of("ann", "OPTOUT", 20)], [])
    deliver(ledger)
    ledger.intake.finish_reading(source)
    ledger.intake.publish(source)

    file = guarded(ledger, change_of("ann", "OPTIN", 40), change_of("bob", "OPTIN", 40), **EVERY)
    assert approve(ledger, file, Action.OPTOUT) == NothingHeld("held")
    assert approve(ledger, file, Action.OPTIN) == Decided(2, 1)
    deliver(ledger)
    assert counts(ledger, file) == {"applied": 1, "unchanged": 1}


@POSTGRESQL_IN_PROOFS
def test_no_ops_are_held_as_opt_ins(ledger: Ledger) -> None:
    """Of a file whose opt-outs alone are approved, an opt-in that says what is so stays held, and is no-op later."""
    imported(ledger, change_of("ann", "OPTOUT"), change_of("bob", "OPTIN"))
    deliver(ledger)
    file = guarded(
        ledger, change_of("ann", "OPTIN", 40), change_of("bob", "OPTIN", 40), change_of("cem", "OPTOUT", 40), **EVERY
    )

    approve(ledger, file, Action.OPTOUT)
    assert deliver(ledger) == [("cem", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, file) == {"applied": 1, "pending": 2}
    approve(ledger, file)
    assert deliver(ledger) == [("ann", "EMAIL|BULK OPTIN")]
    assert counts(ledger, file) == {"applied": 2, "unchanged": 1}


@POSTGRESQL_IN_PROOFS
def test_an_opt_in_that_its_own_file_overrules_is_none(ledger: Ledger) -> None:
    """The best change of each slot counts, not each row."""
    imported(ledger, change_of("ann"))
    deliver(ledger)

    file = guarded(ledger, change_of("ann", "OPTIN", 10), change_of("ann", "OPTOUT", 20), **EVERY)

    assert state(ledger, file) == "released"


@POSTGRESQL_IN_PROOFS
def test_of_a_stream_the_opt_ins_wait(ledger: Ledger) -> None:
    """Opt-outs are delivered as they are read; the opt-ins are held until the file is whole, and then by a guard."""
    imported(ledger, change_of("ann"))
    deliver(ledger)
    source = recorded(ledger, change_of("ann", "OPTIN", 10), change_of("bob", "OPTOUT", 10), stream=True)
    assert deliver(ledger) == [("bob", "EMAIL|BULK OPTOUT")]
    assert ledger.review.approve(source, ROOT) == NothingHeld("reading")
    ledger.intake.finish_reading(source)
    ledger.intake.publish(source)
    assert deliver(ledger) == [("ann", "EMAIL|BULK OPTIN")]

    imported(ledger, change_of("ann", "OPTOUT", 15))
    deliver(ledger)
    file = guarded(ledger, change_of("ann", "OPTIN", 20), change_of("cem", "OPTOUT", 20), stream=True, **EVERY)
    assert (state(ledger, file), deliver(ledger)) == ("held", [("cem", "EMAIL|BULK OPTOUT")])
    assert withdraw(ledger, file) == Decided(1, 1)
    assert (state(ledger, file), counts(ledger, file)) == ("released", {"applied": 1, "withdrawn": 1})


@POSTGRESQL_IN_PROOFS
def test_a_feed_is_compared_with_its_earlier_files(ledger: Ledger) -> None:
    """Four files of a hundred rows, then an empty one."""
    for night in range(4):
        guarded(ledger, *(change_of(str(n), "OPTOUT", night) for n in range(3)))

    assert state(ledger, guarded(ledger)) == "held"


@POSTGRESQL_IN_PROOFS
def test_guards_that_fail_hold(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arithmetic that goes wrong must not let a file pass."""
    monkeypatch.setattr(guard_checks, "findings", lambda *_: 1 / 0)

    file = guarded(ledger, change_of("ann"))

    assert state(ledger, file) == "held"
    assert [one.findings[0]["guard"] for one in ledger.review.held_imports()] == ["guard_failed"]


@POSTGRESQL_IN_PROOFS
def test_an_import_that_is_not_there(ledger: Ledger) -> None:
    """There is nothing to decide about it."""
    assert ledger.review.approve("20261129-none", ROOT) is None
    assert ledger.review.withdraw("20261129-none", ROOT) is None
    run = ledger.intake.open_import(ImportSource("http", "web", "run", 0, None, stream=True)).import_id
    assert ledger.review.withdraw(run, ROOT) == NothingHeld("reading")


@pytest.mark.parametrize("then", ["approve", "withdraw"])
def test_a_decision_while_another_one_is_carried_out(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """What the first publisher has passed already is the second decision's too: nothing stays held unseen."""
    monkeypatch.setattr(guard_checks, "MOVED_AT_ONCE", 2)
    names = [f"c{number}" for number in range(6)]
    imported(ledger, *map(change_of, names))
    deliver(ledger)
    again = [change_of(name, "OPTIN", 10) for name in names]
    file = guarded(ledger, *again, *(change_of(f"d{number}", "OPTOUT", 10) for number in range(8)), **EVERY)
    decided: list[object] = []

    def decide(_: int) -> None:
        if not decided:
            optins = Decision("ann", "checked", Action.OPTIN)
            decided.append(
                ledger.review.approve(file, optins) if then == "approve" else ledger.review.withdraw(file, ROOT)
            )

    ledger.review.approve(file, Decision("ann", "checked", Action.OPTOUT))
    ledger.intake.publish(file, decide)
    for left in ledger.intake.unpublished():
        ledger.intake.publish(left)

    assert [one.changes for one in decided if isinstance(one, Decided)] == [6]
    assert len(deliver(ledger)) == (14 if then == "approve" else 8)
    assert counts(ledger, file) == ({"applied": 14} if then == "approve" else {"applied": 8, "withdrawn": 6})


def test_a_decision_that_another_one_forestalls(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone withdraws the rest between another person's look at it and their decision: nothing is left to approve."""
    monkeypatch.setattr(guard_checks, "MOVED_AT_ONCE", 2)
    imported(ledger, *(change_of(f"c{number}") for number in range(6)))
    deliver(ledger)
    optins = [change_of(f"c{number}", "OPTIN", 10) for number in range(6)]
    file = guarded(ledger, *optins, *(change_of(f"d{number}", "OPTOUT", 10) for number in range(6)), **EVERY)
    ledger.review.approve(file, Decision("ann", "checked", Action.OPTOUT))
    write = ledger.database.write

    def after_another(work: object, **more: object) -> object:
        monkeypatch.setattr(ledger.database, "write", write)
        assert ledger.review.withdraw(file, ROOT) == Decided(6, 12)
        return write(work, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger.database, "write", after_another)

    assert approve(ledger, file, Action.OPTIN) == NothingHeld("read")
    assert len(deliver(ledger)) == 6
    assert counts(ledger, file) == {"applied": 6, "withdrawn": 6}
