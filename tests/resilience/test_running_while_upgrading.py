"""A ledger is migrated under processes that run: they write nothing more, say why and end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from consent.broker.wakeups import WakeUps
from consent.change import Bucket
from consent.errors import LedgerOutdated
from consent.imports import ImportSource
from consent.ledger.ledger import Ledger
from console.local.broker import LocalBroker
from tests.support.company import OPTRELAY, Company, process, shuffled_rows, until

NEWER = "9999"


def at(ledger: Ledger, revision: str) -> None:
    """Let the ledger be at this revision, as if another version had migrated it."""
    ledger.database.write(
        lambda tx: tx.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision}), checked=False
    )


def test_a_ledger_migrated_under_a_process_takes_nothing_from_it(ledger: Ledger) -> None:
    """A newer version has migrated: a process from before is told so at its next write, and records nothing."""
    at(ledger, NEWER)

    with pytest.raises(LedgerOutdated, match="start the newer version"):
        ledger.intake.open_import(ImportSource("csv", "a.csv", "a", 1, None))

    assert ledger.queries.recent_imports() == []


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_running_worker_stops_in_words_when_its_ledger_is_migrated(
    tmp_path: Path, pool: str, terminated: list[int]
) -> None:
    """A worker is at work while someone migrates to a newer version: it ends by itself, says why, and calls no one.

    What has started it goes on: the pool solo has no process of its own, whose parent would be the worker.
    """
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    shop = Company(tmp_path, "http://127.0.0.1:1", {"BROKER_URL": broker.url})
    code, _, output = shop.run("import", shop.write(shuffled_rows(4, 2)))
    assert code == 0, output
    ledger = Ledger(shop.environment()["OPTRELAY_LEDGER_URL"])
    with process(shop, OPTRELAY, "worker", "--concurrency", "1", "--pool", pool) as worker:
        log: Path = worker.log  # type: ignore[attr-defined]
        until(lambda: "ready" in log.read_text())
        at(ledger, NEWER)
        WakeUps(broker.url).send(Bucket("capillary"))

        assert worker.wait(timeout=30) == 0
    broker.stop()
    ledger.close()
    assert "start the newer version" in log.read_text()
    assert terminated == []


@pytest.fixture
def terminated() -> Iterator[list[int]]:
    """The signals that would have ended this process, which starts the worker."""
    found: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: found.append(number))
    yield found
    signal.signal(signal.SIGTERM, before)


def test_a_running_server_ends_when_its_ledger_is_migrated(tmp_path: Path) -> None:
    """After a migration the old server answers 503 to every click on an unsubscribe link until someone restarts it."""
    shop = Company(tmp_path, "http://127.0.0.1:1", {"API_KEYS": "shop=a-key-for-the-tests"})
    server = shop.start("serve", "--port", "0", "--json")
    try:
        assert server.stdout is not None
        assert "url" in server.stdout.readline()
        ledger = Ledger(shop.environment()["OPTRELAY_LEDGER_URL"])
        at(ledger, NEWER)
        ledger.close()

        output = server.communicate(timeout=30)[1]
    finally:
        server.kill()
        server.communicate()
    assert server.returncode == 2
    assert "start the newer version" in " ".join(output.split())
