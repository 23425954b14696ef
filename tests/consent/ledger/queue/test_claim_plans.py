"""That a claim reads no customer that is not due, however many are pending: by the databases' own plans."""

from __future__ import annotations

from sqlalchemy import text

from bench.consent.claims import fill
from bench.worker.delivery import BUCKET
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import Attempt, Settlement
from consent.outcome import Applied
from tests.support.query_plans import log_statements, plans, reads_whole

PENDING = 20_000


def test_claiming_and_settling_read_no_table_whole(ledger: Ledger) -> None:
    """With twenty thousand pending, every statement of a claim and its settlement goes through an index."""
    ledger.database.write(lambda tx: fill(tx, 1, PENDING))
    if not ledger.database.is_sqlite:
        ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    statements = log_statements(ledger.database.engine)

    tasks = ledger.queue.claim(BUCKET, 50, "token", 60.0)
    ledger.queue.settle("token", [done(task) for task in tasks])
    ledger.queue.due(BUCKET, 100)
    ledger.queue.left(BUCKET, 11)
    ledger.queries.in_doubt(BUCKET)

    assert len(tasks) == 50
    whole = [plan for plan in plans(ledger.database.engine, list(statements), by_key=True) if reads_whole(plan)]
    assert whole == []


def done(task) -> Settlement:
    """A target whose only change was applied by one call."""
    ids = tuple(change.id for change in task.changes)
    attempt = Attempt(task.target_id, 1, 1, "write", 200, "200", ids)
    return Settlement(task, dict.fromkeys(ids, Applied()), (attempt,))
