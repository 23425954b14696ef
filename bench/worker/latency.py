"""How long one change takes from its wake-up to the provider's socket while workers are idle.

`python -m bench.worker.latency` records one change at a time, wakes a worker as a producer of events does, and compares
with the provider's own clock (the same machine's).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.worker.delivery import BUCKET, a_ledger, environment, workers
from bench.worker.fast_server import FastServer, fast_server
from consent.change import ConsentChange
from consent.imports import Checkpoint, ImportSource
from consent.settings import load_settings
from consent.times import to_micros
from console.local.broker import LocalBroker
from worker.bootstrap import WorkerContext
from worker.providers import PROVIDERS

PAUSE_SECONDS = 0.3


def record(worker_context: WorkerContext, customer: int) -> None:
    """Record one change and enqueue it."""
    cells = {"user_id": str(customer), "channel": "EMAIL", "priority": "BULK", "action": "OPTOUT"}
    row = PROVIDERS["capillary"].row.model_validate(cells)
    since = row.effective_at or datetime.now(UTC)
    (one,) = row.changes().slots
    change = ConsentChange("capillary", row.changes().address, one.slot, row.action, to_micros(since), one.details)
    import_id = worker_context.ledger.intake.open_import(ImportSource("csv", "one", str(customer), 1, None)).import_id
    worker_context.ledger.intake.accept(import_id, [change], [], Checkpoint(1, 2, 0, 1))
    worker_context.ledger.intake.finish_reading(import_id)
    worker_context.ledger.intake.publish(import_id)


def measured(folder: Path, server: FastServer, url: str, count: int) -> dict[str, Any]:
    """Return the seconds from each wake-up to the provider, as percentiles in milliseconds."""
    broker = LocalBroker(folder / "broker")
    broker.ensure()
    variables = environment(folder, server.url, url, broker.url)
    os.environ.update({name: value for name, value in variables.items() if name.startswith("OPTRELAY_")})
    worker_context, woken = WorkerContext(load_settings(), broker.url), []
    worker_context.ledger.maintenance.prepare()
    worker_context.rate_limiter(BUCKET).prime()
    try:
        with workers(folder, variables, 2):
            for number in range(count):
                record(worker_context, 500_000_000 + number)
                woken.append(time.monotonic())
                worker_context.wakeups.send(BUCKET)
                while len(server.stats()["moments"]) <= number:
                    time.sleep(0.02)
                time.sleep(PAUSE_SECONDS)
            moments = server.stats()["moments"]
    finally:
        worker_context.close()
        broker.stop()
    waits = sorted(1000 * (moment - since) for moment, since in zip(moments, woken, strict=True))
    warm = sorted(waits[: -max(2, count // 20)])
    return {
        "changes": count,
        "p50_ms": round(statistics.median(waits), 1),
        "p95_ms": round(waits[int(count * 0.95)], 1),
        "p99_ms": round(waits[int(count * 0.99)], 1),
        "first_ms": round(waits[-1], 1),
        "warm_p99_ms": round(warm[-1], 1),
    }


def main() -> None:
    """Print one line for each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], nargs="*", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    for kind in options.ledger:
        with fast_server() as server, a_ledger(kind) as (folder, url):
            if kind == "postgresql":
                from consent.ledger.ledger import Ledger

                Ledger(url).maintenance.migrate()
            print(json.dumps({"ledger": kind} | measured(folder, server, url, options.changes)), flush=True)


if __name__ == "__main__":
    main()
