"""Deliveries whose customers all die alike: how many calls are still made, and what a harmless read decides."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.guards.fuse import FuseState, FuseWay
from consent.ledger.review.holds import Decision
from tests.support.company import Company
from tests.support.worker import BUCKET, counts, deliveries, record, settled, wired
from worker.bootstrap import WorkerContext

AT_ONCE = 20
"""Calls under way, at most."""


@pytest.fixture
def parts(shop: Company, tmp_path: Path) -> Iterator[WorkerContext]:
    """What a worker process holds."""
    with wired(shop, tmp_path) as worker_context:
        connection = worker_context.settings.connections["capillary"]
        few = connection.model_copy(update={"concurrency": AT_ONCE})
        worker_context.settings.connections["capillary"] = few
        yield worker_context


def people(first: int, count: int) -> list[dict[str, str]]:
    """So many customers."""
    return [{"user_id": str(number)} for number in range(first, first + count)]


def held(parts: WorkerContext, import_id: str) -> bool:
    """Whether a fuse holds all that is left of an import."""
    found = parts.ledger.queries.report(import_id)
    return found is not None and 0 < found.fused == found.pending


def test_no_further_customer_is_called(parts: WorkerContext, shop: Company) -> None:
    """Fifty in a row, and those who were being called: what was claimed besides is given back without a call."""
    shop.fault(kind="error", users=["51*"], code=400, http_status=400)
    wrong = record(parts, *people(51_000, 900))
    right = record(parts, *people(60_000, 30))

    deliveries(parts, lambda: held(parts, wrong) and settled(parts, right)(), 30)

    assert 50 <= counts(parts, wrong)["dead"] <= 50 + 2 * AT_ONCE
    assert counts(parts, right) == {"applied": 30}
    assert shop.stats()["calls"] == counts(parts, wrong)["dead"] + 30
    assert parts.delivery(BUCKET).run() is False

    shop.fix()
    parts.ledger.fuses.reset(wrong, FuseWay.RESUME, Decision("ann", "fixed"))
    parts.ledger.fuses.work_off()
    deliveries(parts, settled(parts, wrong), 30)
    assert counts(parts, wrong)["applied"] == 900 - counts(parts, wrong)["dead"]


def test_unknown_customers_use_a_share(parts: WorkerContext) -> None:
    """Five hundred unknown customers of a file of unknown ones: the rest is held."""
    unknown = record(parts, *people(404_000, 1_500))

    deliveries(parts, lambda: held(parts, unknown), 40)

    assert 500 <= counts(parts, unknown)["dead"] < 1_500
    [fuse] = parts.ledger.fuses.tripped()
    assert fuse.code == "1012"


def test_a_bucket_is_held_if_a_read_fails_too(parts: WorkerContext, shop: Company) -> None:
    """Customers of two files fail alike, and so does a look at one: a third file waits until it is reset."""
    shop.fault(kind="error", code=8011)
    files = [record(parts, *people(first, 120)) for first in (51_000, 52_000)]
    for file in files:
        deliveries(parts, lambda file=file: held(parts, file), 30)

    third = record(parts, *people(53_000, 30))
    deliveries(parts, lambda: held(parts, third), 30)

    assert {one.origin: one.state for one in parts.ledger.fuses.tripped()}[""] is FuseState.HELD
    assert counts(parts, third)["pending"] > 0
    shop.fix()
    parts.ledger.fuses.reset("capillary", FuseWay.RESUME, Decision("ann", "fixed"))
    parts.ledger.fuses.work_off()
    deliveries(parts, lambda: all(settled(parts, one)() for one in (*files, third)), 30)
    assert parts.ledger.fuses.tripped() == []


def test_a_bucket_goes_on_if_a_read_is_answered(parts: WorkerContext, shop: Company) -> None:
    """Two wrong files, and nothing is wrong with the provider: a third file is delivered."""
    shop.fault(kind="error", users=["51*", "52*"], on="write", code=8011)
    files = [record(parts, *people(first, 120)) for first in (51_000, 52_000)]
    for file in files:
        deliveries(parts, lambda file=file: held(parts, file), 30)

    third = record(parts, *people(53_000, 30))
    deliveries(parts, settled(parts, third), 30)

    assert {one.origin for one in parts.ledger.fuses.tripped()} == set(files)
    end = time.monotonic() + 5
    while parts.ledger.fuses.asks_for_read(BUCKET) is not None and time.monotonic() < end:
        parts.delivery(BUCKET).run()
        record(parts, {"user_id": str(time.monotonic_ns())[-8:]})
    assert parts.ledger.fuses.asks_for_read(BUCKET) is None
