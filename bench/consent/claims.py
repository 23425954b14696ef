"""That claiming costs the same whatever is pending: `python -m bench.consent.claims` prints a line for each backlog.

Fills `customer_tasks` and what belongs to it directly, then claims and gives back a hundred targets at a time. At last
it claims and settles as many as a delivery does, and says what that takes of this process's own processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from sqlalchemy import Connection, text

from bench.worker.delivery import BUCKET, a_ledger
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import Attempt, CustomerTask, Settlement
from consent.outcome import Applied

AT_ONCE = 100
ROUNDS = 30
DELIVERED_AT_ONCE = 460
DELIVERIES = 10

SERIES = {
    "sqlite": "(WITH RECURSIVE s(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM s WHERE n < :last) SELECT n FROM s)",
    "postgresql": "(SELECT n FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS g(n))",
}
KEY = {
    "sqlite": "CAST(printf('%016d', n) AS BLOB)",
    "postgresql": "convert_to(lpad(CAST(n AS text), 16, '0'), 'UTF8')",
}


def fill(tx: Connection, first: int, last: int) -> None:
    """Make targets `first` to `last`, each with one change that is due."""
    rows, key = SERIES[tx.dialect.name] + " AS numbers", KEY[tx.dialect.name]
    for into, values in _ROWS.items():
        statement = f"INSERT INTO {into} SELECT {values.format(key=key)} FROM {rows}"
        tx.execute(text(statement), {"first": first, "last": last})


_ROWS = {
    "targets (id, target_key, connection, bucket, address)": "n, {key}, 'capillary', '', '{{}}'",
    "changes (id, dedupe_key, import_id, target_id, slot, action, value, effective_at, details, origin, recorded_at, "
    "state)": "n, {key}, 'bench', n, 's', 'OPTOUT', '', 1, '{{}}', 'bulk', 1, 'pending'",
    "slots (target_id, slot, newest_id, newest_at, newest_action)": "n, 's', n, 1, 'OPTOUT'",
    "customer_tasks (target_id, connection, bucket, lane, deadline, waiting, next_at)": (
        "n, 'capillary', '', 1 + 2 * (n % 2), n, 1, 0"
    ),
}


def timed(ledger: Ledger) -> float:
    """Return the seconds that claiming a hundred targets takes, in the middle of many times."""
    found = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        tasks = ledger.queue.claim(BUCKET, AT_ONCE, f"token {number}", 60.0)
        found.append(time.perf_counter() - started)
        assert len(tasks) == AT_ONCE
        ledger.queue.settle(f"token {number}", [Settlement(task, {}, tried=False) for task in tasks])
    return statistics.median(found)


def costs(ledger: Ledger) -> dict[str, float]:
    """Return the milliseconds of processor time that a claim and a settlement of a delivery take in this process."""
    claims, settlements = [], []
    for number in range(DELIVERIES):
        started = time.thread_time()
        tasks = ledger.queue.claim(BUCKET, DELIVERED_AT_ONCE, f"delivery {number}", 60.0)
        claims.append(time.thread_time() - started)
        done = [applied(task, ledger.now()) for task in tasks]
        started = time.thread_time()
        ledger.queue.settle(f"delivery {number}", done)
        settlements.append(time.thread_time() - started)
    found = {"claim_cpu_ms": claims, "settle_cpu_ms": settlements}
    return {name: round(statistics.median(each) * 1000, 1) for name, each in found.items()}


def applied(task: CustomerTask, now: int) -> Settlement:
    """Say that one call did all that was claimed for a customer."""
    ids = tuple(change.id for change in task.changes)
    return Settlement(
        task, dict.fromkeys(ids, Applied()), (Attempt(task.target_id, now, 12, "write", 200, "200", ids),)
    )


def measured(url: str, sizes: list[int]) -> list[dict[str, Any]]:
    """Return what a claim takes with so many targets pending."""
    ledger, filled, found = Ledger(url), 0, []
    ledger.maintenance.migrate()
    for size in sizes:
        ledger.database.write(lambda tx, first=filled + 1, last=size: fill(tx, first, last))
        filled = size
        if not ledger.database.is_sqlite:
            ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
        found.append({"pending": size, "claim_ms": round(timed(ledger) * 1000, 2)})
    found.append({"customers": DELIVERED_AT_ONCE} | costs(ledger))
    ledger.close()
    return found


def main() -> None:
    """Print one line for each database and backlog."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    for kind in ("sqlite", "postgresql"):
        with a_ledger(kind) as (_, url):
            for line in measured(url, options.sizes):
                print(json.dumps({"ledger": kind} | line), flush=True)


if __name__ == "__main__":
    main()
