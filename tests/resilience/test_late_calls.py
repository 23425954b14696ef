"""Calls that come too late: one whose worker is dead, one whose commit went unheard, one whose clock was wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Table, func, select, text

from consent.change import Action, Bucket, ConsentChange
from consent.imports import Checkpoint, ImportSource
from consent.ledger.database import ServerClock
from consent.ledger.dialects.postgresql import PostgreSQLBulk
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import Attempt, Settlement
from consent.ledger.schema import attempts
from consent.outcome import Applied
from consent.times import to_micros
from tests.support.clock import Clock

BUCKET = Bucket("capillary")
LEASE, DOUBT = 60.0, 60.0


def say(ledger: Ledger, action: str, minute: int) -> str:
    """One customer says something in a file of its own."""
    source = ImportSource("csv", f"{minute}.csv", f"file {minute}", 1, None)
    import_id = ledger.intake.open_import(source).import_id
    moment = to_micros(datetime(2026, 11, 22, 8, minute, tzinfo=UTC))
    change = ConsentChange("capillary", {"user_id": "1"}, "EMAIL", Action(action), moment, line=2)
    ledger.intake.accept(import_id, [change], [], Checkpoint(1, 2, 0, 1))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)
    return import_id


def applied(task: Any, now: int) -> Settlement:
    """The provider took it, after one call."""
    ids = tuple(change.id for change in task.changes)
    call = Attempt(task.target_id, now, 5, "write", 200, "200", ids)
    return Settlement(task, dict.fromkeys(ids, Applied()), (call,))


def test_a_dead_workers_customers_are_left_alone_until_its_calls_must_have_landed(ledger: Ledger, clock: Clock) -> None:
    """A worker is killed with a call under way: a newer change waits until the provider must have finished."""
    say(ledger, "OPTIN", 1)
    assert ledger.queue.claim(BUCKET, 10, "killed", LEASE, DOUBT)
    say(ledger, "OPTOUT", 2)

    clock.forward(LEASE + 1)
    assert ledger.queue.claim(BUCKET, 10, "next", LEASE, DOUBT) == []
    clock.forward(DOUBT - 1)
    assert ledger.queue.claim(BUCKET, 10, "next", LEASE, DOUBT) == []

    clock.forward(2)
    [task] = ledger.queue.claim(BUCKET, 10, "next", LEASE, DOUBT)
    assert [change.action for change in task.changes] == [Action.OPTOUT]


def test_a_delivery_that_settles_after_its_lease_has_the_newest_change_sent_again(ledger: Ledger, clock: Clock) -> None:
    """A worker is stopped for longer than its lease and calls then: the newest change follows at the next claim."""
    say(ledger, "OPTIN", 1)
    [old] = ledger.queue.claim(BUCKET, 10, "stopped", LEASE)
    newest = say(ledger, "OPTOUT", 2)
    clock.forward(LEASE + 1)
    [new] = ledger.queue.claim(BUCKET, 10, "next", LEASE)
    ledger.queue.settle("next", [applied(new, clock())])

    assert ledger.queue.settle("stopped", [applied(old, clock())]) == 1

    [again] = ledger.queue.claim(BUCKET, 10, "after", LEASE)
    assert [change.action for change in again.changes] == [Action.OPTOUT]
    ledger.queue.settle("after", [applied(again, clock())])
    found = ledger.queries.report(newest)
    assert found is not None
    assert (found.applied, found.sealed) == (1, True)


class LostAnswer:
    """A server that commits and whose answer is lost on the way, once."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.lost = ledger, 0
        self._commit_before = ledger.database.engine.dialect.do_commit

    def arm(self) -> None:
        """Lose the next answer to a COMMIT."""
        dialect = self.ledger.database.engine.dialect

        def commit(connection: Any) -> None:
            dialect.do_commit = self._commit_before  # type: ignore[method-assign]
            self._commit_before(connection)
            self.lost += 1
            connection.dbapi_connection.close()
            connection.dbapi_connection.execute("SELECT 1")  # raises: the connection is gone

        dialect.do_commit = commit  # type: ignore[method-assign]


@pytest.fixture
def on_postgresql(postgres_database: str, clock: Clock) -> Iterator[Ledger]:
    """A ledger on PostgreSQL."""
    ledger = Ledger(postgres_database, clock=clock)
    ledger.maintenance.migrate()
    yield ledger
    ledger.close()


def test_a_settlement_whose_commit_went_unheard_is_written_once(on_postgresql: Ledger, clock: Clock) -> None:
    """The connection breaks after the COMMIT was done: the call is counted once and nothing is said again."""
    import_id = say(on_postgresql, "OPTOUT", 1)
    [task] = on_postgresql.queue.claim(BUCKET, 10, "delivery", LEASE)
    answer = LostAnswer(on_postgresql)
    answer.arm()
    settlements = [applied(task, clock())]

    assert on_postgresql.queue.settle("delivery", settlements) == 0
    assert answer.lost == 1
    answer.arm()
    on_postgresql.queue.count_calls(settlements, set())
    assert answer.lost == 2

    kept = on_postgresql.database.read(lambda tx: tx.execute(select(func.count()).select_from(attempts)).scalar_one())
    assert kept == 1
    assert on_postgresql.queue.claim(BUCKET, 10, "again", LEASE) == []
    found = on_postgresql.queries.report(import_id)
    assert found is not None
    assert (found.applied, found.calls, found.sealed) == (1, 1, True)


def test_a_server_that_is_restarted_while_attempts_are_copied(
    on_postgresql: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks in the middle of writing down what was answered: it is written down again, once."""
    import_id = say(on_postgresql, "OPTOUT", 1)
    [task] = on_postgresql.queue.claim(BUCKET, 10, "delivery", LEASE)
    copied, insert = [], PostgreSQLBulk.insert

    def break_first(at: PostgreSQLBulk, table: Table, *what: Any) -> int:
        if table is attempts and not copied:
            copied.append(at.tx.execute(text("SELECT pg_backend_pid()")).scalar_one())
            with on_postgresql.database.engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": copied[0]})
        return insert(at, table, *what)

    monkeypatch.setattr(PostgreSQLBulk, "insert", break_first)

    settlements = [applied(task, clock())]
    assert on_postgresql.queue.settle("delivery", settlements) == 0
    on_postgresql.queue.count_calls(settlements, set())

    found = on_postgresql.queries.report(import_id)
    assert found is not None
    assert (len(copied), found.applied, found.calls, found.sealed) == (1, 1, 1, True)


def test_an_importer_whose_commit_went_unheard_does_not_take_itself_for_another(on_postgresql: Ledger) -> None:
    """The connection breaks after a chunk was committed: the import goes on, and the chunk is recorded once."""
    source = ImportSource("csv", "a.csv", "a", 1, None)
    import_id = on_postgresql.intake.open_import(source).import_id
    moment = to_micros(datetime(2026, 11, 22, 8, tzinfo=UTC))
    change = ConsentChange("capillary", {"user_id": "1"}, "EMAIL", Action.OPTOUT, moment, line=2)
    assert on_postgresql.database.hash_key
    answer = LostAnswer(on_postgresql)
    answer.arm()

    done = on_postgresql.intake.accept(import_id, [change], [], Checkpoint(1, 2, 0, 1))

    assert (answer.lost, done.recorded, done.duplicates) == (1, 1, 0)


def test_a_commit_that_did_not_happen_is_done_again(on_postgresql: Ledger) -> None:
    """The connection breaks before the COMMIT: the work is done a second time, and once in all."""
    tries = []

    def work(tx: Connection) -> int:
        tries.append(1)
        tx.execute(text("INSERT INTO ledger_info (name, value) VALUES ('tried', 'once')"))
        if len(tries) == 1:
            number = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with on_postgresql.database.engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": number})
            tx.execute(text("SELECT 1"))
        return len(tries)

    assert on_postgresql.database.write(work) == 2


def test_leases_go_by_the_databases_clock(postgres_database: str) -> None:
    """A machine whose own clock is an hour off takes and keeps leases like all others."""
    ledger = Ledger(postgres_database)
    ledger.maintenance.migrate()
    assert isinstance(ledger.now, ServerClock)

    found = ledger.maintenance.server_time()

    assert found is not None
    assert abs(ledger.now() / 1_000_000 - found) < 1.0
    ledger.close()
