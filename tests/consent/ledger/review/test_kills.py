"""A process is killed twenty times while it decides, before and after each commit and in the middle of transactions.

Each time the decision has happened or not, and can be said again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from typing import Any

import pytest
from sqlalchemy import event, select, text

from consent.change import Action
from consent.guards.rules import GuardRules, ImportGuards
from consent.imports import Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.review import guard_checks
from consent.ledger.review import undo as undoing
from consent.ledger.review.holds import Decision
from consent.ledger.schema import audit_log
from tests.support.ledgers import Cut, change_of, counts, deliver, guarded, imported, run_of

TABLES = (
    *("noop_changes", "pending_duplicates", "slots", "changes", "customer_tasks", "imports", "targets", "attempts"),
    *("dead_letters", "audit_log"),
)
KILLS = 20


def a_held_file(ledger: Ledger) -> str:
    """Three who opted out would be opted in again by a file that opts three others out."""
    people = [str(number) for number in range(6)]
    imported(ledger, *(change_of(one, "OPTOUT" if one < "3" else "OPTIN") for one in people))
    deliver(ledger)
    turned = [change_of(one, "OPTIN" if one < "3" else "OPTOUT", 10) for one in people]
    return guarded(ledger, *turned, resurrects_most=0)


def a_published_file(ledger: Ledger) -> str:
    """The same file, approved and delivered."""
    file = a_held_file(ledger)
    approve(ledger, file)
    deliver(ledger)
    return file


def approve(ledger: Ledger, file: str) -> None:
    """Approve all of it, as the command does."""
    ledger.review.approve(file, Decision("ann", "checked"))
    ledger.intake.publish(file)


def approve_optouts(ledger: Ledger, file: str) -> None:
    """Approve its opt-outs alone."""
    ledger.review.approve(file, Decision("ann", "checked", Action.OPTOUT))
    ledger.intake.publish(file)


def withdraw(ledger: Ledger, file: str) -> None:
    """Withdraw it."""
    ledger.review.withdraw(file, Decision("ann", "checked"))
    ledger.intake.publish(file)


def undo(ledger: Ledger, file: str) -> None:
    """Undo it, and opt those in again who were."""
    ledger.review.undo(file, Decision("ann", "checked"), opt_in_again=True)


def moments(url: str, decide: Callable[[Ledger, str], None], file: str, last: int = -1) -> list[bool]:
    """Decide in this process, and kill it at the moment with this number.

    The moments are each statement, and before and after each commit: of these last two, True is returned.
    """
    ledger, passed = Ledger(url), list[bool]()
    write = ledger.database.write

    def go_by(*_: Any, is_commit: bool = False) -> None:
        if len(passed) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        passed.append(is_commit)

    def cut(work: Callable[..., Any]) -> Any:
        def to_the_end(tx: Any) -> Any:
            found = work(tx)
            go_by(is_commit=True)
            return found

        found = write(to_the_end)
        go_by(is_commit=True)
        return found

    event.listen(ledger.database.engine, "before_cursor_execute", go_by)
    ledger.database.write = cut  # type: ignore[method-assign]
    decide(ledger, file)
    ledger.close()
    return passed


def spread(passed: list[bool]) -> list[int]:
    """Choose so many moments: all around commits, and of the statements some that lie far from each other."""
    commits = [number for number, is_commit in enumerate(passed) if is_commit]
    others = [number for number, is_commit in enumerate(passed) if not is_commit]
    left = max(0, KILLS - len(commits))
    return sorted([*commits, *(others[number * len(others) // left] for number in range(left))])


def decided(ledger: Ledger, file: str) -> int:
    """How often the audit log says that a person decided about it."""
    query = select(audit_log.c.id).where(audit_log.c.import_id == file, audit_log.c.who == "ann")
    return len(ledger.database.read(lambda tx: tx.execute(query).all()))


@pytest.mark.proof
@pytest.mark.parametrize(
    ("begin", "decide", "delivered", "counted"),
    [
        (a_held_file, approve, {str(n): "OPTIN" if n < 3 else "OPTOUT" for n in range(6)}, {"applied": 6}),
        (a_held_file, approve_optouts, {str(n): "OPTOUT" for n in range(3, 6)}, {"applied": 3, "pending": 3}),
        (a_held_file, withdraw, {}, {"withdrawn": 6}),
        (a_published_file, undo, {str(n): "OPTOUT" if n < 3 else "OPTIN" for n in range(6)}, {"applied": 6}),
    ],
)
def test_a_killed_decision_has_happened_or_not(
    ledger: Ledger,
    ledger_url: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    begin: Callable[[Ledger], str],
    decide: Callable[[Ledger, str], None],
    delivered: dict[str, str],
    counted: dict[str, int],
) -> None:
    """At each moment: what was decided is delivered once the sweep has come, and is not said again; else nothing is.

    Deciding again then changes nothing more, and at most one decision stands in the audit log.
    """
    monkeypatch.setattr(undoing, "CHUNK", 2)
    monkeypatch.setattr(guard_checks, "MOVED_AT_ONCE", 2)
    steps = spread(moments(ledger_url, decide, begin(ledger)))
    for step in steps:
        ledger.database.write(lambda tx: [tx.execute(text(f"DELETE FROM {name}")) for name in TABLES])
        file = begin(ledger)
        before = decided(ledger, file)
        child = get_context("fork").Process(target=moments, args=(ledger_url, decide, file, step))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL, step

        for import_id in ledger.intake.unpublished():  # what the sweep does
            ledger.intake.publish(import_id)
        sent = sent_to(ledger)
        if decided(ledger, file) == before:
            assert sent == {}, step
        else:
            assert sent == delivered, step
        decide(ledger, file)
        sent |= sent_to(ledger)
        decide(ledger, file)

        assert sent == delivered, step
        assert sent_to(ledger) == {}, step
        assert counts(ledger, file) == counted, step
        assert decided(ledger, file) == before + 1, step
    assert len(set(steps)) >= KILLS


def a_file_to_hold(ledger: Ledger) -> str:
    """Five who opted out would be opted in again by a file that has been read whole, and not been checked yet."""
    imported(ledger, *(change_of(str(one)) for one in range(5)))
    deliver(ledger)
    guards = ImportGuards("nightly", GuardRules(resurrects_most=0), columns=("user_id",))
    file = ledger.intake.open_import(ImportSource("csv", "nightly.csv", "wrong", 1, None, guards=guards)).import_id
    rows = [change_of(str(one), "OPTIN", 10) for one in range(5)]
    ledger.intake.accept(file, rows, [], Checkpoint(5, 6, 0, 5))
    ledger.intake.finish_reading(file)
    return file


@pytest.mark.parametrize("last", range(4))
def test_a_large_file_is_held_in_steps(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Whatever transaction is the last one of its process, the sweep goes on, and all of it is held once."""
    monkeypatch.setattr(guard_checks, "MOVED_AT_ONCE", 2)
    file, write, left = a_file_to_hold(ledger), ledger.database.write, iter(range(last))

    def until(work: Callable[..., Any], **more: bool) -> Any:
        if next(left, None) is None:
            raise Cut
        return write(work, **more)

    with monkeypatch.context() as patch, suppress(Cut):
        patch.setattr(ledger.database, "write", until)
        ledger.intake.publish(file)
        assert last == 3, "it takes three transactions"
    assert deliver(ledger) == []
    for import_id in ledger.intake.unpublished():
        ledger.intake.publish(import_id)

    [held] = ledger.review.held_imports()
    assert (held.import_id, held.optins, held.slots["all"]) == (file, 5, 5)
    assert [one.what for one in ledger.queries.audit_page() if one.import_id == file] == ["held"]
    approve(ledger, file)
    assert sent_to(ledger) == {str(one): "OPTIN" for one in range(5)}
    assert counts(ledger, file) == {"applied": 5}


@pytest.mark.parametrize("last", range(3))
def test_an_event_that_says_what_may_be_held_still_is_sent(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """It says the same as a row of a file that is being checked or held: it waits for no person, for it is its own."""
    monkeypatch.setattr(guard_checks, "MOVED_AT_ONCE", 2)
    file, write, left = a_file_to_hold(ledger), ledger.database.write, iter(range(last))

    def until(work: Callable[..., Any], **more: bool) -> Any:
        if next(left, None) is None:
            raise Cut
        return write(work, **more)

    with monkeypatch.context() as patch, suppress(Cut):
        patch.setattr(ledger.database, "write", until)
        ledger.intake.publish(file)
    ledger.intake.accept_events(run_of(ledger), [change_of("4", "OPTIN", 10)], [])
    for import_id in ledger.intake.unpublished():
        ledger.intake.publish(import_id)

    assert sent_to(ledger) == {"4": "OPTIN"}
    withdraw(ledger, file)
    assert counts(ledger, file) == {"withdrawn": 4, "duplicates": 1}


def sent_to(ledger: Ledger) -> dict[str, str]:
    """What a delivery tells the provider."""
    return {who: sent.rpartition(" ")[2] for who, sent in deliver(ledger)}
