"""That a forecast of deadlines costs the same whatever is pending: a line for each backlog.

Fills `customer_tasks` directly, by way of the triggers that count them, with deadlines over a week; then reads the
counts and makes the forecast, many times. Prints the median and the slowest in milliseconds, and the goal: 200.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from sqlalchemy import text

from bench.consent.claims import fill
from bench.worker.delivery import BUCKET, a_ledger
from consent.deadlines.forecast import forecast
from consent.ledger.ledger import Ledger

GOAL_MS = 200
ROUNDS = 21
_WEEK = 7 * 86_400_000_000


def timed(ledger: Ledger) -> list[float]:
    """Return the milliseconds of each of many forecasts."""
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        cells, now = ledger.deadlines.open_cells()[BUCKET], ledger.now()
        made = forecast(cells, now=now, start=now, per_second=100 / 60)
        found.append((time.perf_counter() - started) * 1000)
        assert made.rules
    return found


def measured(url: str, pending: int) -> dict[str, Any]:
    """Return what a forecast takes with so many customers pending, and what counting all of them anew takes."""
    ledger = Ledger(url)
    ledger.maintenance.migrate()
    ledger.database.write(lambda tx: fill(tx, 1, pending))
    spread = f"UPDATE customer_tasks SET deadline = {ledger.now()} + target_id * 7919 % 1000 * {_WEEK // 1000}"
    ledger.database.write(lambda tx: tx.execute(text(spread)))
    ledger.deadlines.compact()
    found = timed(ledger)
    started = time.perf_counter()
    wrong = ledger.deadlines.wrong_cells()
    anew = (time.perf_counter() - started) * 1000
    ledger.close()
    figures = {
        "forecast_ms": round(statistics.median(found), 2),
        "slowest_ms": round(max(found), 2),
        "goal_ms": GOAL_MS,
    }
    return {"pending": pending} | figures | {"counted_anew_ms": round(anew, 1), "wrong_counts": wrong}


def main() -> None:
    """Print one line for each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=1_000_000)
    options = parser.parse_args()
    for kind in ("sqlite", "postgresql"):
        with a_ledger(kind) as (_, url):
            print(json.dumps({"ledger": kind} | measured(url, options.pending)), flush=True)


if __name__ == "__main__":
    main()
