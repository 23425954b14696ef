"""Four worker processes change one Infobip subscription, which is written whole each time: no member is lost."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from consent.broker.wakeups import KEY_PREFIX, WakeUps, redis_client
from consent.change import Bucket, ConsentChange
from consent.imports import Checkpoint, ImportSource
from consent.ledger.ledger import Ledger
from consent.times import to_micros
from console.local.broker import LocalBroker
from sandbox.server import running
from tests.support.company import OPTRELAY
from tests.support.providers.three_providers import MixedCompany, sandbox_of
from worker.providers import PROVIDERS

WORKERS = 4
CHANGES = 42
RULE = {"channel": "SMS", "subscription_id": "RULE-1"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    """A broker of this test's own."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    yield broker
    broker.stop()


@contextmanager
def working(shop: MixedCompany) -> Iterator[None]:
    """A worker with four processes, and a sweep."""
    started = []
    for name, command in {"worker": ["worker", "--concurrency", str(WORKERS)], "sweep": ["sweep"]}.items():
        with (shop.folder / f"{name}.out").open("w") as out:
            process = subprocess.Popen(
                [OPTRELAY, *command], env=shop.environment(), cwd=shop.folder, stdout=out, stderr=subprocess.STDOUT
            )
        started.append(process)
    try:
        yield
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(timeout=60)


def record(ledger: Ledger, number: int) -> None:
    """Record one change as a file of one row does: most add a user of their own, every third removes an earlier one."""
    action, user = ("OPTOUT", number - 3) if number % 3 == 0 else ("OPTIN", number)
    row = PROVIDERS["infobip"].row.model_validate(RULE | {"action": action, "users": f"new-{user}"})
    [slot_change] = row.changes().slots
    change = ConsentChange(
        "infobip",
        row.changes().address,
        slot_change.slot,
        row.action,
        to_micros(datetime.now(UTC)),
        slot_change.details,
    )
    import_id = ledger.intake.open_import(ImportSource("csv", "one.csv", f"bytes {number}", 1, None)).import_id
    ledger.intake.accept(import_id, [change], [], Checkpoint(1, 2, 0, 1))
    ledger.intake.finish_reading(import_id)
    ledger.intake.publish(import_id)


def until_nothing_is_pending(ledger: Ledger, seconds: float = 60) -> None:
    """Wait until every change has been settled."""
    end = time.monotonic() + seconds
    while ledger.queries.pending_by_bucket():
        assert time.monotonic() < end, "it is never done"
        time.sleep(0.05)


@pytest.mark.proof
@pytest.mark.takes(10)
def test_concurrent_changes_lose_no_member(tmp_path: Path, broker: LocalBroker) -> None:
    """42 changes of one subscription come one by one while four processes deliver.

    Each of them reads the subscription, puts its members in and writes it back; in the end every member that was added
    is there, and only those that were removed are not, and no two calls for it ever overlapped.
    """
    with running(sandbox_of("off", all_providers=True)) as url:
        shop = MixedCompany(tmp_path, url, second_url=url)
        slow = {"kind": "latency", "delay": 0.03, "delay_to": 0.1}
        httpx.post(f"{url}/_sandbox/infobip/faults", json=slow).raise_for_status()
        shop.settings["BROKER_URL"] = broker.url
        ledger = Ledger(shop.environment()["OPTRELAY_LEDGER_URL"])
        ledger.maintenance.prepare()
        with working(shop):
            wakeups = WakeUps(broker.url)
            record(ledger, 1)
            until_nothing_is_pending(ledger)  # by now the workers are up
            for number in range(2, CHANGES + 1):
                record(ledger, number)
                wakeups.send(Bucket("infobip"), WORKERS)
                time.sleep(0.05)
            until_nothing_is_pending(ledger)
            wakeups.close()
            delivered_by = redis_client(broker.url).zcard(f"{KEY_PREFIX}processes")
        ledger.close()

        removed = {number - 3 for number in range(3, CHANGES + 1, 3)}
        added = {number for number in range(1, CHANGES + 1) if number % 3} - removed
        users = set(shop.held_by("infobip")["SMS/RULE-1"]["users"])
        assert users == {"keeper", "user-1"} | {f"new-{number}" for number in added}
        assert shop.look("stats", shop.url, "infobip")["overlaps"] == 0
        assert delivered_by > 1, "one process did it all"
