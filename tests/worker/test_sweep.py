"""Waking workers bucket by bucket: no app waits because of what another app of its connection does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consent.change import Action, Bucket, ConsentChange
from consent.connection import ConnectionSettings
from consent.imports import Checkpoint, EventContent, ImportSource, RejectedRow
from consent.ledger.queue.breakers import BucketHealth
from consent.ledger.rejected_events import RejectedFilter
from consent.outcome import Applied, Unauthorized
from consent.settings import load_settings
from consent.times import to_micros
from console.local.broker import LocalBroker
from tests.support.ledgers import settlement
from worker.bootstrap import WorkerContext
from worker.delivery import breaker, throttling
from worker.delivery.breaker import Observations
from worker.heartbeat import has_sweep
from worker.sweep import Abandoned, sweep

BUSY, CALM = Bucket("gupshup", "app-1"), Bucket("gupshup", "app-2")


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[WorkerContext]:
    """What a sweep holds, and two apps with a webhook to pause each."""
    broker = LocalBroker(tmp_path / "broker")
    broker.ensure()
    connection = ConnectionSettings.model_validate({"provider": "gupshup", "token": "sk_throw-away"})
    settings = load_settings(
        ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}", connections={"gupshup": connection}, batch_customers=1
    )
    worker_context = WorkerContext(settings, broker.url)
    worker_context.ledger.maintenance.prepare()
    _record(worker_context, BUSY.name, BUSY.name, CALM.name)
    try:
        yield worker_context
    finally:
        worker_context.close()
        broker.stop()


def test_what_rejected_events_said_is_forgotten_after_its_time(parts: WorkerContext) -> None:
    """It names persons: the sweep removes it once no one is going to fix it any more, and nothing before."""
    run = parts.ledger.intake.open_import(ImportSource("http", "web", "a run", 0, None, stream=True)).import_id
    now, days = parts.ledger.now, parts.settings.keep_rejected_events
    for place, age in (("old", days + 1), ("young", days - 1)):
        parts.ledger.now = lambda age=age: int(now() - age * 86_400_000_000)
        content = EventContent(b"{oops", 5)
        parts.ledger.intake.accept_events(
            run, [], [RejectedRow(len(place), None, "bad_json", "no JSON", place, content)]
        )
    parts.ledger.now = now

    sweep(parts)

    assert [one.place for one in parts.ledger.rejected_events.find(RejectedFilter())] == ["young"]


def test_old_outcomes_are_removed_and_the_sweep_reports(parts: WorkerContext) -> None:
    """What became of changes can be followed for a time; that a sweep runs is seen at the broker."""
    _record(parts, "app-1", "app-2")
    now, days = parts.ledger.now, parts.settings.keep_outcomes
    for bucket, age in ((BUSY, days + 2), (CALM, days + 1)):
        parts.ledger.now = lambda age=age: int(now() - age * 86_400_000_000)
        [task] = parts.ledger.queue.claim(Bucket("gupshup", f"app-{1 if bucket == BUSY else 2}"), 1, str(bucket), 60)
        parts.ledger.queue.settle(str(bucket), [settlement(task, Applied(), parts.ledger.now())])
    parts.ledger.now = now
    assert not has_sweep(parts.redis)
    assert len(parts.ledger.queries.outcomes_after(None, 10).outcomes) == 2

    sweep(parts)

    assert len(parts.ledger.queries.outcomes_after(None, 10).outcomes) == 1  # the last one keeps the place
    assert has_sweep(parts.redis)


def test_what_is_old_is_looked_for_each_minute(parts: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep comes each second, and what is kept for days need not be looked at so often."""
    looked: list[int] = []
    monkeypatch.setattr(parts.ledger.rejected_events, "purge", looked.append)
    sweep(parts)
    sweep(parts)
    assert len(looked) == 1

    parts.look_at = 0.0
    sweep(parts)

    assert len(looked) == 2


def _record(worker_context: WorkerContext, *apps: str) -> None:
    worker_context.ledger.intake.publish(_read_whole(worker_context, *apps))


def _read_whole(worker_context: WorkerContext, *apps: str) -> str:
    since = to_micros(datetime(2026, 11, 20, 8, tzinfo=UTC))
    changes = [
        ConsentChange(
            "gupshup", {"app_id": app, "subscription_id": f"{n}"}, "active", Action.OPTOUT, since, {}, bucket=app
        )
        for n, app in enumerate(apps)
    ]
    import_id = worker_context.ledger.intake.open_import(
        ImportSource("csv", "pauses.csv", str(apps), 1, None)
    ).import_id
    worker_context.ledger.intake.accept(import_id, changes, [], Checkpoint(len(apps), len(apps) + 1, 0, len(apps)))
    worker_context.ledger.intake.finish_reading(import_id)
    return import_id


def test_a_file_is_left_to_its_importer(parts: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an importer makes a file's changes due the sweep does not meddle; once it has died, the sweep goes on."""
    _read_whole(parts, "late")
    abandoned = Abandoned()
    sweep(parts, abandoned)
    assert len(parts.ledger.intake.unpublished()) == 1

    monkeypatch.setattr("worker.sweep.ABANDONED_SECONDS", 0.05)
    time.sleep(0.1)
    sweep(parts, abandoned)

    assert parts.ledger.intake.unpublished() == {}


def test_an_import_that_comes_further_is_not_abandoned() -> None:
    """However long it takes: as long as an import moves, someone is at work on it."""
    abandoned, long_ago = Abandoned(), time.monotonic() - 3600
    abandoned.seen = {"moves": (("read", 1, 0), long_ago), "stands": (("read", 1, 0), long_ago)}

    assert abandoned.among({"moves": ("read", 5_001, 0), "stands": ("read", 1, 0), "new": ("read", 0, 0)}) == ["stands"]


def test_a_busy_app_does_not_use_up_its_neighbours_wake_ups(parts: WorkerContext) -> None:
    """Wake-ups of one app fill the connection's queue; the other app is woken all the same, and only once."""
    parts.wakeups.send(BUSY, 10)

    assert (sweep(parts), sweep(parts)) == (1, 0)
    assert parts.wakeups.waiting_by_bucket("gupshup") == {BUSY: 10, CALM: 1}


def test_as_many_are_woken_as_have_something_to_do(parts: WorkerContext) -> None:
    """Two deliveries' worth for the one app and one for the other; what is asked for already is not asked for again."""
    assert (sweep(parts), sweep(parts)) == (3, 0)
    assert parts.wakeups.waiting_by_bucket("gupshup") == {BUSY: 2, CALM: 1}


@pytest.mark.parametrize("stopped", ["throttled", "refused"])
def test_no_one_is_woken_for_an_app_that_may_not_be_called(parts: WorkerContext, stopped: str) -> None:
    """An app that must wait, or whose token is refused, costs no wake-up; its neighbour gets its own."""
    if stopped == "throttled":
        throttling.throttle(parts.ledger, BUSY, 600)
    else:
        watch = Observations()
        watch.note(Unauthorized("no such token"), (1,))
        breaker.conclude(parts.ledger, BucketHealth(str(BUSY)), watch)

    assert sweep(parts) == 1
    assert parts.wakeups.waiting_by_bucket("gupshup") == {CALM: 1}


def test_no_one_is_woken_before_there_is_a_slot(parts: WorkerContext) -> None:
    """An app whose calls of this minute are spent is woken when the next one may be made soon, not every second."""
    parts.wakeups.send(BUSY, 2)
    parts.rate_limiter(CALM).push(10)

    assert sweep(parts) == 0

    parts.redis.flushall()
    parts.rate_limiter(CALM).push(1)
    assert sweep(parts) == 3
