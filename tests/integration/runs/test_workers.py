"""Workers as processes of their own: each pool delivers, stops in time and holds nothing afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from consent.ledger.ledger import Ledger
from console.local.broker import LocalBroker
from tests.support.company import OPTRELAY, Company, assert_balanced, company, fold, shuffled_rows, until
from tests.support.forked_commands.jobs import FORKABLE

CELERY = [sys.executable, "-m", "celery", "-A", "worker.app", "worker"]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Company]:
    """A company with a broker of its own and a provider that needs a moment for each call."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    with company(tmp_path, latency=(0.0, 0.02)) as one:
        one.settings["BROKER_URL"] = broker.url
        yield one
    broker.stop()


def spawned(shop: Company, *command: str) -> subprocess.Popen[str]:
    """Start a command with the company's settings; its output goes to a file."""
    with (shop.folder / f"{len(list(shop.folder.glob('*.out')))}.out").open("w") as log:
        return subprocess.Popen(
            command, env=shop.environment(), cwd=shop.folder, stdout=log, stderr=subprocess.STDOUT, text=True
        )


def leases(shop: Company) -> int:
    """How many customers are held by someone."""
    engine = create_engine(shop.environment()["OPTRELAY_LEDGER_URL"])
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM customer_tasks WHERE lease_token IS NOT NULL")
        ).scalar_one()
    engine.dispose()
    return int(found)


@pytest.mark.parametrize(
    "command",
    [
        [OPTRELAY, "worker", "--pool", "threads", "--concurrency", "4"],
        [*CELERY, "--pool", "prefork", "--concurrency", "2"],
    ],
    ids=["optrelay worker, threads", "celery worker, prefork"],
)
@pytest.mark.proof
def test_every_pool_delivers_and_stops_cleanly(shop: Company, command: list[str]) -> None:
    """A worker and a sweep deliver an import; stopped in the middle, the worker settles or gives back what it holds."""
    rows = shuffled_rows(4_000, 1_000)
    shop.settings["CONNECTIONS__CAPILLARY__RATE"] = "300/second"
    worker, sweep = spawned(shop, *command), spawned(shop, OPTRELAY, "sweep")
    shop.run("import", shop.write(rows))
    end = time.monotonic() + 30
    while shop.stats()["calls"] < 100 and time.monotonic() < end:
        time.sleep(0.05)

    worker.send_signal(signal.SIGTERM)
    worker.wait(timeout=60)

    assert shop.stats()["calls"] >= 100
    assert leases(shop) == 0

    again = spawned(shop, *command)
    code, found, stderr = shop.run("import", shop.folder / "nightly.csv", "--wait", timeout=60)
    for process in (again, sweep):
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)

    assert code == 0, stderr
    assert_balanced(found)
    assert shop.held() == fold(rows)
    assert shop.stats()["overlaps"] == 0


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_green_pools_are_refused(shop: Company, pool: str) -> None:
    """Gevent and eventlet cannot run the event loop, and are told so at once."""
    done = subprocess.run(
        [OPTRELAY, "worker", "--pool", pool],
        env=shop.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert done.returncode == 2
    assert "prefork" in done.stderr
    assert "Traceback" not in done.stderr


FORKED = (
    FORKABLE
    + """
import os, sys
from celery.signals import worker_init, worker_process_init
from worker.app import worker_context

worker_init.send(sender=None)
if sys.argv[1:] == ["solo"]:
    worker_process_init.send(sender=None)
ready, tell = os.pipe()
if os.fork():
    os.read(ready, 1)
    os._exit(0)
count = worker_context().ledger.breakers.count_failures
count("capillary", 1)
os.write(tell, b"!")
sys.stdin.readline()
count("capillary", 1)
os._exit(0)
"""
)


@pytest.mark.parametrize("pool", [[], ["solo"]], ids=["a process of its pool", "the sweep of worker -P solo -B"])
def test_what_a_worker_forks_has_its_own_locks_on_the_ledger(shop: Company, pool: list[str]) -> None:
    """A worker was killed, and what its fork wrote last was lost: its locks were the parent's, and ended with it."""
    command, folder = [sys.executable, "-c", FORKED, *pool], Path(__file__).parents[3]
    worker = subprocess.Popen(command, env=shop.environment(), cwd=folder, stdin=subprocess.PIPE)
    assert worker.wait(30) == 0

    address = shop.environment()["OPTRELAY_LEDGER_URL"]
    ledger = Ledger(address)
    ledger.breakers.count_failures("capillary", 1)
    ledger.close()
    assert worker.stdin is not None
    worker.stdin.write(b"go on\n")
    worker.stdin.close()

    until(lambda: _failures(address) == 3, seconds=10)


def _failures(address: str) -> int:
    ledger = Ledger(address)
    try:
        return ledger.breakers.health_of("capillary").failures
    finally:
        ledger.close()
