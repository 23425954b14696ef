"""What limits a bucket, in words and as a cause."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.connection import parse_rate
from consent.ledger.queue.breakers import Breaker, BucketHealth, Trip
from consent.ledger.queue.tasks import Attempt, Settlement
from consent.outcome import Applied, Retry
from consent.settings import Settings
from console.ui.bottleneck import Bottleneck, Cause, LimitsOverTime, bottlenecks
from tests.support.company import company
from tests.support.worker import BUCKET, record, wired
from worker.bootstrap import WorkerContext


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[WorkerContext]:
    """A company with fifty customers to deliver."""
    with company(tmp_path) as shop, wired(shop, tmp_path) as worker_context:
        record(worker_context, *({"user_id": str(n)} for n in range(1, 51)))
        yield worker_context


def limited_by(parts: WorkerContext, rate: str = "100/second", concurrency: int = 600) -> str | None:
    """What limits the bucket, by a connection of these settings."""
    own = parts.settings.connections["capillary"].model_copy(
        update={"rate": parse_rate(rate), "concurrency": concurrency}
    )
    settings: Settings = parts.settings.model_copy(update={"connections": {"capillary": own}})
    health = parts.ledger.breakers.all_health()
    found = bottlenecks(settings, parts.ledger, {BUCKET: 40}, health).get(BUCKET)
    return None if found is None else found.cause.value


def call(parts: WorkerContext, count: int, every: float, milliseconds: int = 150, failing: int = 0) -> None:
    """Settle so many calls that were made at such a distance up to now; the first ones failed."""
    now = parts.ledger.now()
    tasks = parts.ledger.queue.claim(BUCKET, count, "token", 60)
    settlements = []
    for n, task in enumerate(tasks):
        [change] = task.changes
        status = 503 if n < failing else 200
        attempt = Attempt(
            task.target_id,
            now - int((count - n) * every * 1e6),
            milliseconds,
            "write",
            status,
            str(status),
            (change.id,),
        )
        outcome = Retry("503", "busy", counts=False) if n < failing else Applied()
        settlements.append(Settlement(task, {change.id: outcome}, (attempt,)))
    parts.ledger.queue.settle("token", settlements)


def test_nothing_is_said_before_the_first_call(parts: WorkerContext) -> None:
    """A run that has just begun is limited by nothing yet."""
    assert limited_by(parts) is None


def test_the_rate_limits_where_it_is_used(parts: WorkerContext) -> None:
    """Ten a second of ten that are allowed."""
    call(parts, 20, 0.1)

    assert limited_by(parts, "10/second") == "rate"


def test_the_latency_limits_where_all_calls_are_under_way(parts: WorkerContext) -> None:
    """Fifty a second at 160 ms are eight calls under way: all that CONCURRENCY=8 allows, at half of the rate."""
    call(parts, 20, 0.02, milliseconds=160)

    assert limited_by(parts, "100/second", concurrency=8) == "latency"
    assert limited_by(parts, "100/second") == "ledger"


def test_errors_limit_where_one_call_in_ten_fails(parts: WorkerContext) -> None:
    """Calls that must be made again are what costs the time, though the rate is used."""
    call(parts, 20, 0.1, failing=4)

    assert limited_by(parts, "10/second") == "errors"


def test_a_provider_that_is_down_is_what_limits(parts: WorkerContext) -> None:
    """While the breaker is open no call is made."""
    call(parts, 20, 0.1)
    trip = Trip(Breaker.DOWN, "no answer", parts.ledger.now() + 60_000_000)
    parts.ledger.breakers.open_breaker(BucketHealth(str(BUCKET)), trip, now=parts.ledger.now())

    assert limited_by(parts) == "errors"


def test_what_limited_a_run_is_what_did_so_for_the_longest_time() -> None:
    """Eight seconds at the rate, then two of errors and two of retries; nothing is said of a bucket never limited."""
    seen = LimitsOverTime()
    for cause, elapsed in ((Cause.RATE, 5.0), (Cause.RATE, 8.0), (Cause.ERRORS, 10.0), (Cause.RETRIES, 12.0)):
        seen.note({BUCKET: Bottleneck(cause, "")}, elapsed)
    seen.note({}, 60.0)

    assert seen.as_json() == {"capillary": "rate"}
