"""The parts of a worker process around a real broker and ledger, and deliveries until something holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from consent.change import Bucket
from consent.connection import ConnectionSettings
from consent.imports import Checkpoint, ImportSource
from consent.settings import load_settings
from console.local.broker import LocalBroker
from tests.support.company import Company
from worker.bootstrap import WorkerContext
from worker.providers import PROVIDERS

BUCKET = Bucket("capillary")
ROW = {"channel": "EMAIL", "priority": "BULK", "action": "OPTOUT", "effective_at": "2026-11-20T08:00:00+00:00"}


@contextmanager
def wired(shop: Company, folder: Path, timeout: float = 2.0, **more: object) -> Iterator[WorkerContext]:
    """Put a worker process's parts together around a real broker and ledger."""
    broker = LocalBroker(folder / "broker")
    broker.ensure()
    connection = ConnectionSettings(
        provider="capillary", base_url=shop.url, username="demo.till", password="demo-password", rate="2000/second",
        timeout=timeout,
    )  # fmt: skip
    settings = load_settings(
        ledger_url=f"sqlite:///{folder / 'ledger.db'}", connections={"capillary": connection},
        backoff_seconds=0.05, backoff_ceiling=0.3, **more,
    )  # fmt: skip
    worker_context = WorkerContext(settings, broker.url)
    worker_context.ledger.maintenance.prepare()
    worker_context.rate_limiter(BUCKET).prime()
    try:
        yield worker_context
    finally:
        worker_context.close()
        broker.stop()


def record(worker_context: WorkerContext, *rows: dict[str, str]) -> str:
    """Record rows as a file does, and let them become due."""
    changes = []
    for cells in rows:
        row = PROVIDERS["capillary"].row.model_validate(ROW | cells)
        changes.append(as_change(row))
    source = ImportSource("csv", "nightly.csv", str(rows), 1, None)
    import_id = worker_context.ledger.intake.open_import(source).import_id
    worker_context.ledger.intake.accept(
        import_id, changes, [], Checkpoint(len(changes), len(changes) + 1, 0, len(changes))
    )
    worker_context.ledger.intake.finish_reading(import_id)
    worker_context.ledger.intake.publish(import_id)
    return import_id


def as_change(row):
    """Turn a row into a change of the connection capillary."""
    from datetime import UTC, datetime

    from consent.change import ConsentChange
    from consent.times import to_micros

    since = row.effective_at or datetime.now(UTC)
    (one,) = row.changes().slots
    return ConsentChange("capillary", row.changes().address, one.slot, row.action, to_micros(since), one.details)


def deliveries(worker_context: WorkerContext, until: Callable[[], bool], seconds: float = 8.0) -> None:
    """Let deliveries go on until something holds."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it never came to hold"
        if not worker_context.delivery(BUCKET).run():
            time.sleep(0.05)  # each turn asks the ledger several times


def counts(worker_context: WorkerContext, import_id: str) -> dict[str, int]:
    """The counts of an import that are not nought."""
    found = worker_context.ledger.queries.report(import_id)
    assert found is not None
    assert found.balanced
    names = ("applied", "unchanged", "superseded", "dead", "pending")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def settled(worker_context: WorkerContext, import_id: str) -> Callable[[], bool]:
    """Whether nothing of an import is pending."""
    return lambda: "pending" not in counts(worker_context, import_id)
