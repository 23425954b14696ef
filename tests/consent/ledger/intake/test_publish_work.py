"""What publishing costs grows with the file, not with its square, on a ledger that no one has analysed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from bench.consent.claims import fill
from consent.ledger.ledger import Ledger
from consent.times import to_micros
from tests.support.examples import POSTGRESQL_IN_PROOFS
from tests.support.ledgers import MORNING, change_of, counts, deliver, guarded, imported, recorded
from tests.support.query_plans import reads_whole

READ = text(
    "SELECT coalesce(sum(coalesce(idx_tup_fetch, 0) + seq_tup_read), 0) FROM pg_stat_xact_user_tables "
    "WHERE relname IN ('noop_changes', 'slots', 'changes')"
)


@pytest.fixture(autouse=True)
def _confirmed_at_eight(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is delivered is confirmed at eight: opt-outs of later moments are sent again."""
    monkeypatch.setattr(ledger, "now", lambda: to_micros(MORNING))


@contextmanager
def work(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count what each transaction does: rows that PostgreSQL reads, hundreds of steps that SQLite takes."""
    done: list[int] = []

    def counted(run: Callable[..., object], of: Callable[[Connection], object], **how: bool) -> object:
        def counting(tx: Connection) -> object:
            if not ledger.database.is_sqlite:
                before, result = tx.execute(READ).scalar_one(), of(tx)
                done.append(int(tx.execute(READ).scalar_one() - before))
                return result
            steps = [0]

            def step() -> int:
                steps[0] += 1
                return 0

            plain = tx.connection.dbapi_connection
            assert plain is not None
            plain.set_progress_handler(step, 100)
            try:
                return of(tx)
            finally:
                plain.set_progress_handler(None, 100)
                done.append(steps[0])

        return run(counting, **how)

    with monkeypatch.context() as patch:
        for name in ("read", "write"):
            patch.setattr(ledger.database, name, partial(counted, getattr(ledger.database, name)))
        yield done


def dump(who: str, count: int, minute: int = 0) -> list:
    """A night's opt-outs; none of its moments is that of most rows, which would be the export's."""
    return [change_of(f"{who} {number}", minute=minute + number % 40 if minute else 0) for number in range(count)]


@POSTGRESQL_IN_PROOFS
def test_no_ops_that_become_ordinary_changes_cost_by_their_number(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times as many rows of a dump that are sent again: four times the work, not sixteen times."""
    cost = []
    for who, count in (("few", 300), ("many", 1_200)):
        imported(ledger, *dump(who, count))
        assert len(deliver(ledger, limit=count)) == count
        file = recorded(ledger, *dump(who, count, 60))
        ledger.intake.finish_reading(file)
        with work(ledger, monkeypatch) as done:
            ledger.intake.publish(file)
        cost.append(sum(done))
        assert counts(ledger, file) == {"pending": count}
        deliver(ledger, limit=count)

    few, many = cost
    assert few > 30
    assert many < 7 * few


def test_what_guards_look_at_costs_by_its_number(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times as many persons who would be opted in again: four times the work."""
    cost = []
    for who, count in (("few", 300), ("many", 1_200)):
        imported(ledger, *dump(who, count))
        assert len(deliver(ledger, limit=count)) == count
        with work(ledger, monkeypatch) as done:
            actions = (("OPTIN", "OPTOUT")[number % 2] for number in range(count))
            file = [change_of(f"{who} {number}", action, 60 + number % 40) for number, action in enumerate(actions)]
            guarded(ledger, *file, resurrects_most=0)
        cost.append(sum(done))

    few, many = cost
    assert few > 30
    assert many < 7 * few


def test_no_statement_of_a_first_import_keeps_a_whole_table_at_hand(ledger: Ledger) -> None:
    """Thousands of changes merged into an empty ledger, and as many again: none is held against all others in turn."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite plans by the form of a table, not by its size")
    found = merging_plans(ledger, *files_of_all_kinds(1_000))
    assert len(found) > 12
    assert [plan for plan in found if "Materialize" in plan] == []


def test_a_file_is_merged_by_its_own_changes_where_none_was_pending_before(ledger: Ledger) -> None:
    """All was delivered when PostgreSQL last analysed: it held each change of the ledger against all of the file."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite plans by the form of a table, not by its size")
    ledger.database.write(lambda tx: fill(tx, 1, 10_000))
    ledger.database.write(lambda tx: tx.execute(text("UPDATE changes SET state = 'applied'")))
    for table in ("targets", "changes"):
        numbered = text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 10000)")
        ledger.database.write(lambda tx, numbered=numbered: tx.execute(numbered))
    ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))

    found = merging_plans(ledger, *files_of_all_kinds(4_000))

    updates = [plan for plan in found if plan.startswith("Update on changes")]
    assert len(updates) > 2
    assert [plan for plan in updates if reads_whole(plan)] == []


def files_of_all_kinds(persons: int) -> tuple[list, list]:
    """A first file, which says two things of each person, and one that says older and newer ones."""
    second = dump("first", persons // 2, 30)
    second += [change_of(f"first {number}", minute=120 + number % 40) for number in range(persons // 2, persons)]
    return [*dump("first", persons), *dump("first", persons, 60)], second


def merging_plans(ledger: Ledger, *files: list) -> list[str]:
    """How PostgreSQL merges files of these changes: its plan for each statement, as things are then."""
    found: list[str] = []

    def explain(_c: Connection, cursor: Any, statement: str, parameters: object, _x: object, many: bool) -> None:  # noqa: FBT001 - SQLAlchemy's shape
        if (
            "merging" in statement
            and statement.split(maxsplit=1)[0] in {"SELECT", "UPDATE", "INSERT", "DELETE"}
            and not many
        ):
            own = cursor.connection.cursor()
            found.append("\n".join(row[0] for row in own.execute(f"EXPLAIN {statement}", parameters)))

    event.listen(ledger.database.engine, "before_cursor_execute", explain)
    for rows in files:
        imported(ledger, *rows)
    event.remove(ledger.database.engine, "before_cursor_execute", explain)
    return found
