"""What is few is found without looking through what is many: by the databases' own plans."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from bench.consent.claims import fill
from consent.change import Action
from consent.guards.fuse import FuseWay
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.queries.backlog import MOST_STUCK
from tests.support.fuses import WHY, drain, people, trip
from tests.support.ledgers import change_of, guarded, imported
from tests.support.query_plans import is_scan, log_statements, plans

MANY = 20_000


def test_dead_letters_and_unfinished_imports_are_found_without_reading_all(ledger: Ledger) -> None:
    """With twenty thousand changes and no dead letter, neither is looked for among the changes themselves."""
    ledger.database.write(lambda tx: fill(tx, 1, MANY))
    ledger.database.write(lambda tx: tx.execute(text("DELETE FROM customer_tasks WHERE target_id > 10")))
    if not ledger.database.is_sqlite:
        ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    statements = log_statements(ledger.database.engine)

    ledger.dead_letters.find(DeadLetterFilter())
    ledger.queries.unfinished_imports()

    asked = [one for one in statements if "changes" in one[0]]
    assert len(asked) == 2
    whole = [plan for plan in plans(ledger.database.engine, asked) if is_scan(_without_the_few(plan))]
    assert whole == []


def test_what_is_held_is_found_without_reading_what_is_pending(ledger: Ledger) -> None:
    """A guard holds six changes of a file, a fuse seven of another, beside twenty thousand that are pending."""
    fused = trip(ledger)
    drain(ledger)
    held = guarded(ledger, *people(1_001, 3), *people(1, 3, "OPTIN", 9), resurrects_most=0)
    ledger.database.write(lambda tx: fill(tx, 10_000, 10_000 + MANY))
    if not ledger.database.is_sqlite:
        ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    statements = log_statements(ledger.database.engine)

    assert [(one.optins, one.optouts) for one in ledger.review.held_imports()] == [(3, 3)]
    assert [one.import_id for one in ledger.queries.held_lines()] == [held]
    assert [one.open for one in ledger.queries.stuck_optouts(MOST_STUCK)] == [5, 3]
    assert [one.optouts for one in ledger.fuses.tripped()] == [7]
    ledger.fuses.close_those_over()
    ledger.review.approve(held, replace(WHY, only=Action.OPTOUT))
    ledger.intake.publish(held)
    ledger.review.withdraw(held, WHY)
    for way, count in ((FuseWay.OPTOUTS, 7), (FuseWay.LET_DIE, 7), (FuseWay.RESUME, 0)):
        ledger.fuses.reset(fused, way, WHY)
        assert ledger.fuses.work_off() == count

    found = plans(ledger.database.engine, list(statements))
    assert [(one[0], plan) for one, plan in zip(statements, found, strict=False) if is_scan(plan)] == []


def test_a_person_is_looked_up_among_many(ledger: Ledger) -> None:
    """A search for one customer read the names of all: a second for each million."""
    ann = {"identifier_name": "email", "identifier_value": "ann@example.com"}
    imported(ledger, change_of("387006417"), replace(change_of(""), address=ann | {"source": "INSTORE"}))
    ledger.database.write(lambda tx: fill(tx, 10, MANY))
    if not ledger.database.is_sqlite:
        ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    statements = log_statements(ledger.database.engine)

    ways = [{"user_id": "387006417"}, {"user_id": "unknown"}, {"identifier_value": "ANN@example.com"}]
    found = [ledger.queries.histories([way], None, 10) for way in ways]

    assert [len(one) for one in found] == [1, 0, 1]
    assert len(statements) > 6
    assert [plan for plan in plans(ledger.database.engine, statements) if is_scan(plan)] == []


@pytest.mark.proof
def test_the_first_change_of_a_file_is_found_without_reading_other_files(ledger: Ledger) -> None:
    """Two files of twenty thousand changes each: the next of either, or that there is none, is found at once."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite plans by the form of a table, not by its size")
    files = [imported(ledger, *(change_of(f"{file} {n}") for n in range(MANY))) for file in range(2)]
    ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    statements = log_statements(ledger.database.engine)

    found = [ledger.queries.first_pending(file, since) for file in files for since in (0, 2**40)]

    asked = [one for one in statements if "FROM changes" in one[0]]
    assert [number is None for number in found] == [False, True, False, True]
    assert len(asked) == 4
    assert all("ix_changes_import" in plan for plan in plans(ledger.database.engine, asked, by_key=True))


def _without_the_few(plan: str) -> str:
    """Customer tasks are few here, and may be read from end to end."""
    return plan.replace("SCAN customer_tasks", "").replace("Seq Scan on customer_tasks", "")
