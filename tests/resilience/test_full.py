"""No room and no entry: intake stops with a clear error, keeps what it has acknowledged, and goes on afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, event, text

from consent.broker.wakeups import WakeUps
from consent.change import Action, Bucket, ConsentChange
from consent.errors import BrokerUnavailable, LedgerUnavailable
from consent.imports import Accepted, Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.ledger.queries import imports
from consent.settings import load_settings
from consent.times import to_micros
from console.local.broker import LocalBroker
from tests.support.company import OPTRELAY, Company, assert_balanced, company, fold, shuffled_rows
from worker.bootstrap import WorkerContext
from worker.sweep import Abandoned, sweep, sweep_quietly

BUCKET = Bucket("capillary")
MORNING = datetime(2026, 11, 22, 8, tzinfo=UTC)
CHUNK = 500


class File:
    """A file that is recorded chunk by chunk."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.recorded = ledger, 0
        self.id = ledger.intake.open_import(ImportSource("csv", "a.csv", "a", 1, None)).import_id

    def record(self) -> Accepted:
        """Record the next chunk."""
        names = range(self.recorded, self.recorded + CHUNK)
        since = to_micros(MORNING)
        changes = [
            ConsentChange("capillary", {"user_id": str(n)}, "EMAIL", Action.OPTOUT, since, line=n + 2) for n in names
        ]
        done = self.ledger.intake.accept(self.id, changes, [], Checkpoint(names.stop, names.stop + 1, 0, names.stop))
        self.recorded = names.stop
        return done

    def finish(self) -> imports.ImportReport:
        """Read to the end and say what is in the ledger."""
        self.ledger.intake.finish_reading(self.id)
        self.ledger.intake.publish(self.id)
        found = self.ledger.queries.report(self.id)
        assert found is not None
        return found


def test_a_full_disk_stops_intake_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """No page is free: the chunk is refused as a whole, in words; with room again the same chunk is recorded once."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.maintenance.migrate()
    file = File(ledger)
    file.record()
    with ledger.database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    limits = {"pages": pages + 2}
    event.listen(
        ledger.database.engine,
        "checkout",
        lambda connection, *_: connection.execute(f"PRAGMA max_page_count={limits['pages']}"),
    )

    with pytest.raises(LedgerUnavailable, match="disk is full"):
        file.record()
    limits["pages"] = 1_000_000
    file.record()

    found = file.finish()
    assert (found.rows, found.pending, found.balanced) == (2 * CHUNK, 2 * CHUNK, True)
    ledger.close()


def test_a_database_that_lets_no_one_in_is_said_and_costs_nothing(tmp_path: Path, postgres_database: str) -> None:
    """PostgreSQL refuses connections: exit code 5 with its own words; let in again, the same command finishes."""
    with company(tmp_path) as shop:
        shop.settings["LEDGER_URL"] = postgres_database
        subprocess.run([OPTRELAY, "migrate"], env=shop.environment(), check=True, capture_output=True)
        rows = shuffled_rows(400, 100)
        path = shop.write(rows)
        entry(postgres_database, open_=False)

        code, _, stderr = shop.run("import", path)

        assert code == 5
        assert "not currently accepting connections" in stderr
        entry(postgres_database, open_=True)
        code, found, stderr = shop.run("run", path)
        assert code == 0, stderr
        assert shop.held() == fold(rows)
        assert_balanced(found)


def entry(url: str, *, open_: bool) -> None:
    """Open or close a database to everybody, and throw out who is in."""
    name = url.rsplit("/", 1)[-1].partition("?")[0]
    engine = create_engine(url.replace(f"/{name}", "/postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(open_).lower()}"))
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
    engine.dispose()


@pytest.fixture
def worker_context(tmp_path: Path) -> Iterator[WorkerContext]:
    """A worker's parts with a broker and a ledger of their own; a change is due."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    shop = Company(tmp_path, "http://127.0.0.1:1")
    connection = {"base_url": shop.url, "username": "demo.till", "password": "demo-password"}
    settings = load_settings(
        ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}", broker_url=broker.url, connections={"capillary": connection}
    )
    made = WorkerContext(settings, broker.url)
    made.ledger.maintenance.prepare()
    file = File(made.ledger)
    file.record()
    file.finish()
    yield made
    made.close()
    broker.stop()


def test_a_full_broker_loses_wake_ups_and_no_change(worker_context: WorkerContext) -> None:
    """With noeviction and no memory left no wake-up is taken: that is said; the first sweep with room sends them."""
    broker = worker_context.redis
    broker.config_set("maxmemory", 1)
    wakeups = WakeUps(str(worker_context.settings.broker_url))

    with pytest.raises(BrokerUnavailable, match="the sweep sends them once it is back"):
        wakeups.send(BUCKET)
    sweep_quietly(worker_context, Abandoned())
    assert worker_context.ledger.queue.due(BUCKET, 1_000) == CHUNK

    broker.config_set("maxmemory", 0)
    assert sweep(worker_context) > 0
    assert wakeups.waiting("capillary") > 0
    wakeups.close()


def test_a_full_broker_never_means_unlimited(worker_context: WorkerContext) -> None:
    """Where the shared pace cannot be written, a process keeps to its own share."""
    rate_limiter = worker_context.rate_limiter(BUCKET)
    worker_context.redis.config_set("maxmemory", 1)

    with pytest.raises(redis.RedisError):
        worker_context.redis.set("anything", 1)
    found = rate_limiter.reserve(1_000)

    assert not found.shared
    assert len(found.moments) <= rate_limiter.reservation_seconds / rate_limiter.interval + 1
