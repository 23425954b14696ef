"""What is said to the database: the same few statements however many rows there are, and nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Select, event, select, text

from consent.imports import ImportSource
from consent.ledger.intake import publish
from consent.ledger.ledger import Ledger
from consent.ledger.schema import REVISION, customer_tasks, imports
from consent.outcome import Applied, PermanentFailure
from tests.support.ledgers import BUCKET, change_of, deliver, folded, imported, recorded, settlement
from tests.support.query_plans import plans, reads_whole


def statements_from(ledger: Ledger) -> dict[str, tuple[object, int]]:
    """Listen from now on: each statement, with its first parameters and the rows that it changed in all."""
    statements: dict[str, tuple[object, int]] = {}

    def hear(_c: Connection, cursor, statement: str, parameters, _x: object, many: bool) -> None:  # noqa: FBT001 - SQLAlchemy's shape
        example, rows = statements.get(statement, (parameters[0] if many else parameters, 0))
        statements[statement] = (example, rows + max(0, cursor.rowcount))

    event.listen(ledger.database.engine, "after_cursor_execute", hear)
    return statements


@contextmanager
def locked(ledger: Ledger, rows: Select) -> Iterator[None]:
    """Someone else has locked these rows."""
    engine = ledger.database.engine.execution_options(optrelay_immediate=False)
    with engine.connect() as connection:
        connection.execute(rows.with_for_update()).all()
        yield


def finished(work: Callable[..., object], *arguments: object) -> bool:
    """Say whether something comes to its end although someone has locked rows."""
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def test_files_of_any_length_are_the_same_statements(ledger: Ledger) -> None:
    """Drivers keep statements: if each number of rows had one of its own, long imports would fill the memory.

    A single row has: here each file has more that are new, and more that are no-ops.
    """
    imported(ledger, change_of("0", "OPTIN"), change_of("0", "OPTOUT"), change_of("1", "OPTOUT"))
    deliver(ledger)
    statements = statements_from(ledger)
    sets = []

    for customers in (4, 6, 9):
        known = change_of("0", "OPTIN")  # it is said again in each of them
        imported(ledger, known, *(change_of(str(n), "OPTOUT", customers) for n in range(customers)))
        assert deliver(ledger)
        sets.append(set(statements))
        statements.clear()

    assert sets[0] == sets[1] == sets[2]


def test_a_customer_who_is_due_already_is_not_written_again(ledger: Ledger) -> None:
    """A second file about a customer who waits to be told: he is told both, and his customer task stays as it is."""
    imported(ledger, change_of("1", slot="EMAIL|BULK"))
    statements = statements_from(ledger)
    file = folded(ledger, change_of("1", slot="MOBILE|BULK"))
    with locked(ledger, select(customer_tasks)):
        assert finished(ledger.intake.publish, file)  # it waits for no one who has the customer task

    assert (
        sum(rows for statement, (_, rows) in statements.items() if statement.startswith("INSERT INTO customer_tasks"))
        == 0
    )
    assert sorted(deliver(ledger)) == [("1", "EMAIL|BULK OPTOUT"), ("1", "MOBILE|BULK OPTOUT")]


def test_a_few_rows_are_recorded_without_reading_a_large_ledger(ledger: Ledger) -> None:
    """Twenty thousand changes wait; a file of three rows looks up what it is about, and reads no table whole."""
    imported(ledger, *(change_of(str(number)) for number in range(20_000)))
    if not ledger.database.is_sqlite:
        ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    statements = statements_from(ledger)

    imported(ledger, change_of("1", "OPTIN", 1), change_of("1", "OPTOUT", 2), change_of("2"))

    asked = [
        (statement, how)
        for statement, (how, _) in statements.items()
        if statement.split()[0] in {"SELECT", "UPDATE", "INSERT", "WITH"}
    ]
    with ledger.database.engine.connect() as connection:
        connection.exec_driver_sql(
            f"SELECT 1 FROM merging_{REVISION}"
        )  # the same connection: else its statements have no plan
    whole = [plan for plan in plans(ledger.database.engine, asked, by_key=True) if reads_whole(plan)]
    assert whole == []
    assert len(asked) > 12


READ = text("SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'changes'")


@contextmanager
def changes_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the changes that each writing transaction reads."""
    found: list[int] = []
    write = ledger.database.write

    def counted(work: Callable[[Connection], object], **how: bool) -> object:
        def counting(tx: Connection) -> object:
            before, result = tx.execute(READ).scalar(), work(tx)
            found.append(tx.execute(READ).scalar_one() - (before or 0))
            return result

        return write(counting, **how)

    with monkeypatch.context() as patch:
        patch.setattr(ledger.database, "write", counted)
        yield found


def test_no_change_is_read_to_show_an_answer_before_there_is_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run asks for the latest answer at each poll, while hundreds of customers are called for the first time."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite does not count what it reads")
    imported(ledger, *(change_of(str(number)) for number in range(400)))
    assert len(ledger.queue.claim(BUCKET, 400, "a", 60)) == 400
    found: list[int] = []
    read = ledger.database.read

    def counting(tx: Connection, work: Callable[[Connection], object]) -> object:
        before, result = tx.execute(READ).scalar_one(), work(tx)
        found.append(tx.execute(READ).scalar_one() - before)
        return result

    monkeypatch.setattr(ledger.database, "read", lambda work: read(lambda tx: counting(tx, work)))

    assert ledger.breakers.latest_answer(BUCKET) is None
    assert found == [0]


def test_no_plan_stays_from_when_the_ledger_was_small(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen events on the first day, some refused; then a large file: the next event and refusal read only their own.

    PostgreSQL keeps the plan of a statement that has been said often enough, until the table is analysed.
    """
    if ledger.database.is_sqlite:
        pytest.skip("SQLite plans by the form of a table, not by its size")
    run = ledger.intake.open_import(ImportSource("redis", "stream", "run", 0, None, stream=True)).import_id

    def one_is_refused(customer: str) -> None:
        ledger.intake.accept_events(run, [change_of(customer), change_of(customer, "OPTIN", 1)], [])
        assert deliver(ledger, PermanentFailure("1012", "no such customer"))

    for number in range(12):
        one_is_refused(f"early {number}")
    importer = Ledger(ledger.database.url.render_as_string(hide_password=False), clock=ledger.now)
    recorded(importer, *(change_of(f"late {number}") for number in range(10_000)))
    importer.close()

    with changes_read(ledger, monkeypatch) as read:
        one_is_refused("another")

    assert max(read) < 100
    assert len(read) > 2


def test_a_large_file_becomes_due_chunk_by_chunk(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step reads the changes of its own chunk, not all that the file has left, although no one analysed them."""
    if ledger.database.is_sqlite:
        pytest.skip("SQLite does not count what it reads")
    monkeypatch.setattr(publish, "CHUNK", 1_000)
    file = recorded(ledger, *(change_of(str(number)) for number in range(10_000)))
    ledger.intake.finish_reading(file)

    with changes_read(ledger, monkeypatch) as read:
        ledger.intake.publish(file)

    assert max(read) < 6_000
    assert len(read) > 20


def test_no_one_is_deceived_by_a_table_that_was_empty(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """No one waited when PostgreSQL counted the customer tasks, and a large file comes: claims look up their own.

    It believes a table that it has found empty to be so until it counts again, a minute later or more.
    """
    if ledger.database.is_sqlite:
        pytest.skip("SQLite plans by the form of a table, not by its size")
    monkeypatch.setattr(publish, "CHUNK", 1_000)
    imported(ledger, *(change_of(f"yesterday {number}") for number in range(40)))
    deliver(ledger)
    ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    imported(ledger, *(change_of(str(number)) for number in range(3_000)))
    statements = statements_from(ledger)

    ledger.queue.settle(
        "delivery", [settlement(task, Applied(), 1) for task in ledger.queue.claim(BUCKET, 100, "delivery", 60)]
    )
    imported(ledger, *(change_of(str(number), "OPTIN", 1) for number in range(1_000)))

    asked = [(statement, how) for statement, (how, _) in statements.items() if "customer_tasks" in statement]
    whole = [plan for plan in plans(ledger.database.engine, asked, by_key=True) if reads_whole(plan)]
    assert whole == []
    assert len(asked) > 5


def test_counting_calls_holds_one_import_at_a_time(ledger: Ledger) -> None:
    """A delivery's calls belong to a run of events and a file that is being published: events do not wait for the file.

    Else three would wait for each other: the counting for the file, the file for an event, the event for its run.
    """
    files = sorted([imported(ledger, change_of("1")), imported(ledger, change_of("2"))])
    settlements = [
        settlement(task, PermanentFailure("1012", "no"), ledger.now())
        for task in ledger.queue.claim(BUCKET, 9, "s", 60)
    ]
    ledger.queue.settle("s", settlements)
    if ledger.database.is_sqlite:
        pytest.skip("SQLite counts them as it settles")

    with locked(ledger, select(imports).where(imports.c.id == files[1])):
        counting = threading.Thread(target=ledger.queue.count_calls, args=(settlements, set()))
        counting.start()
        counting.join(0.5)
        other = select(imports.c.id).where(imports.c.id == files[0]).with_for_update()
        assert finished(ledger.database.write, lambda tx: tx.execute(other).all())
    counting.join(10)

    with ledger.database.engine.connect() as connection:
        assert [calls for (calls,) in connection.execute(select(imports.c.calls))] == [1, 1]
