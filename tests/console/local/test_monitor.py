"""When a delivery that others do is seen to be over, without counting a large file again and again."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consent.connection import ConnectionSettings
from consent.ledger.dialects import sqlite
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker, Trip
from consent.outcome import Retry
from consent.settings import load_settings
from console.local import last_customers, monitor
from console.local.monitor import Monitor
from tests.support.clock import Clock
from tests.support.ledgers import BUCKET, change_of, deliver, imported, settlement
from worker.bootstrap import WorkerContext


def running(ledger: Ledger, *imports: str) -> Monitor:
    """Watch these imports; what became of their changes is never counted just because time has passed."""
    url = ledger.database.url.render_as_string(hide_password=False)
    settings = load_settings(ledger_url=url, connections={"capillary": ConnectionSettings()})
    found = Monitor(WorkerContext(settings, ""), imports, 60.0)
    found.snapshot()
    found.counting._next = float("inf")
    return found


def put_off(ledger: Ledger, outcome: Retry) -> None:
    """Try what is due, and let it wait for another try."""
    tasks, now = ledger.queue.claim(BUCKET, 100, "delivery", 60), ledger.now()
    ledger.queue.settle("delivery", [settlement(task, outcome, now, now + 60_000_000) for task in tasks])


def test_a_file_is_seen_to_be_done_while_another_is_not(ledger: Ledger) -> None:
    """Another file waits at the same provider: a command that waits for its own file ends when it is done."""
    mine = imported(ledger, *(change_of(str(n)) for n in range(3)))
    imported(ledger, *(change_of(f"other {n}", "OPTIN") for n in range(3)))
    watched = running(ledger, mine)

    deliver(ledger, limit=2)
    before = watched.snapshot()
    deliver(ledger, limit=1)
    after = watched.snapshot()

    assert [one.pending for one in before.reports] == [3]  # as it was counted before
    assert [(one.applied, one.pending) for one in after.reports] == [(3, 0)]
    assert sum(after.pending.values()) == 3
    watched.worker_context.ledger.close()


def test_the_end_of_the_last_few_is_noticed_at_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little left, a run does not sleep until its next poll: nothing may be left of it long before."""
    monkeypatch.setattr(monitor, "POLL_SECONDS", 30.0)
    watched = running(ledger, imported(ledger, *(change_of(str(n)) for n in range(3))))
    assert watched.poll() is not None

    deliver(ledger, limit=3)
    began = time.monotonic()
    watched.rest()

    assert time.monotonic() - began < 15
    watched.worker_context.ledger.close()


def test_a_change_that_waits_again_is_waited_for(ledger: Ledger) -> None:
    """A word behind which one has looked already must be told again, as a delivery lost its lease: it goes on."""
    mine = imported(ledger, change_of("1"), change_of("2"))
    imported(ledger, change_of("other", "OPTIN"))
    watched = running(ledger, mine)
    watched.waiting_from = {mine: 2**40}

    before = watched.snapshot()
    watched.counting._next = float("inf")
    deliver(ledger, limit=1)
    between = watched.snapshot()
    deliver(ledger, limit=1)
    after = watched.snapshot()

    assert [one.pending for one in before.reports] == [2]
    assert [one.pending for one in between.reports] == [2]  # not over, so not counted
    assert sum(after.pending.values()) == 1
    assert [one.pending for one in after.reports] == [0]
    watched.worker_context.ledger.close()


def test_a_run_does_not_wait_for_a_few_customers_alone(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two customers of three hundred are tried again and again: after two minutes the run says so and ends."""
    mine = imported(ledger, *(change_of(str(n)) for n in range(300)))
    watched = running(ledger, mine)
    deliver(ledger, limit=298)
    put_off(ledger, Retry("521", "busy", counts=True))
    assert watched.result(watched.snapshot()) is None

    monkeypatch.setattr(last_customers, "FEW_SECONDS", 0.0)
    result = watched.result(watched.snapshot())

    assert result is not None
    assert result.exit_code == 4
    [reason] = result.reasons
    assert reason.startswith("2 of the customers of connection capillary wait for another try, the next in ")
    assert reason.endswith("(the latest answer was 521: busy): run again then")
    watched.worker_context.ledger.close()


def test_a_run_waits_on_while_a_few_customers_end_one_by_one(ledger: Ledger) -> None:
    """With a timeout of 20 s each cut call waits a minute: good rows were left over though one of them ended lately."""
    mine = imported(ledger, *(change_of(str(n)) for n in range(300)))
    watched = running(ledger, mine)
    deliver(ledger, limit=298)
    put_off(ledger, Retry("521", "busy", counts=True))
    snapshot = watched.snapshot()
    [bucket] = snapshot.pending

    watched.last.since[bucket] = watched.started - 200
    assert watched.result(snapshot) is None

    watched.progress_of[str(bucket)] = watched.started - 200
    assert watched.result(snapshot) is not None
    watched.worker_context.ledger.close()


def in_doubt(ledger: Ledger) -> None:
    """Make a call for each customer that is due, and lose its answer: none of them may be called for a minute."""
    tasks, now = ledger.queue.claim(BUCKET, 100, "delivery", 60), ledger.now()
    lost = [settlement(task, Retry("cut", "it broke", counts=False), now, now + 1) for task in tasks]
    ledger.queue.settle("delivery", [replace(one, in_doubt_until=now + 60_000_000) for one in lost])


def test_a_run_waits_on_while_a_call_may_be_under_way(ledger: Ledger, clock: Clock) -> None:
    """Two calls that were cut in a row left good rows over, though a customer in doubt cannot be tried."""
    mine = imported(ledger, *(change_of(str(n)) for n in range(300)))
    watched = running(ledger, mine)
    watched.patience = 900.0
    deliver(ledger, limit=298)
    in_doubt(ledger)
    snapshot = watched.snapshot()
    [bucket] = snapshot.pending
    watched.progress_of[str(bucket)] = watched.last.since[bucket] = watched.started - 200
    assert watched.result(snapshot) is None

    clock.forward(61)
    put_off(ledger, Retry("521", "busy", counts=True))
    assert watched.result(snapshot) is None  # the doubt has just ended

    watched.last.in_doubt_at[bucket] = watched.started - 200
    assert watched.result(snapshot) is not None
    watched.worker_context.ledger.close()


def test_a_run_does_not_wait_for_ever_for_those_in_doubt(ledger: Ledger) -> None:
    """After six minutes it ends, and says why the last two are not tried."""
    mine = imported(ledger, *(change_of(str(n)) for n in range(300)))
    watched = running(ledger, mine)
    deliver(ledger, limit=298)
    in_doubt(ledger)
    snapshot = watched.snapshot()
    [bucket] = snapshot.pending

    watched.last.since[bucket] = watched.started - last_customers.LONGEST_SECONDS
    result = watched.result(snapshot)

    assert result is not None
    [reason] = result.reasons
    assert "(2 of them because a call may still be under way), the next in " in reason
    watched.worker_context.ledger.close()


def test_a_run_waits_for_a_few_customers_of_a_connection_that_is_down(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same two while the breaker is open: for that, --patience says how long."""
    monkeypatch.setattr(last_customers, "FEW_SECONDS", 0.0)
    mine = imported(ledger, *(change_of(str(n)) for n in range(3)))
    watched = running(ledger, mine)
    put_off(ledger, Retry("", "no answer", counts=False))
    before = ledger.breakers.health_of("capillary")
    ledger.breakers.open_breaker(before, Trip(Breaker.DOWN, "no answer", 0), now=ledger.now())

    assert watched.result(watched.snapshot()) is None
    watched.worker_context.ledger.close()


def test_a_ledger_that_takes_no_writes_is_no_fault_of_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk was full or it was locked, nothing could be claimed, and a run said that the provider was stuck."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.maintenance.migrate()
    watched = running(ledger, imported(ledger, *(change_of(str(n)) for n in range(300))))
    snapshot, watched.patience = watched.snapshot(), 0.0

    with ledger.database._transaction(writes=True):
        locked = watched.result(snapshot)
    free = watched.result(snapshot)
    monkeypatch.setattr("consent.ledger.maintenance.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    full = watched.result(snapshot)

    assert locked is not None
    assert free is not None
    assert full is not None
    assert locked.exit_code == 5
    assert locked.reasons[0].startswith("the ledger's database says: database is locked: see")
    assert full.exit_code == 5
    assert full.reasons[0].startswith("the disk that holds the ledger is full: see")
    assert free.exit_code == 4
    assert free.reasons[0].startswith("connection capillary has been stuck")
    watched.worker_context.ledger.close()
    ledger.close()


def test_a_worker_that_was_just_started_has_not_stalled(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose worker came up behind ten seconds of publishing killed it at once, and started another one."""
    did: list[str] = []
    starts = iter([True])

    def ensure() -> bool:
        if started := next(starts, False):
            did.append("started")
        return started

    worker: Any = SimpleNamespace(ensure=ensure, stop=lambda _: did.append("stopped"))
    one = running(ledger)
    monkeypatch.setattr("console.local.monitor.sweep", lambda _: 0)
    monkeypatch.setattr("console.local.monitor.is_busy", lambda _: False)
    one.worker_context.wakeups = SimpleNamespace(waiting=lambda _: 1)  # type: ignore[assignment]
    one.worker, one.active_at, one.swept = worker, time.monotonic() - 60, 0.0

    one.watch()
    one.swept = 0.0
    one.watch()

    assert did == ["started"]
    one.worker_context.ledger.close()
