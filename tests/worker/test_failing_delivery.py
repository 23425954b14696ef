"""A delivery of which our own code fails: it begins no further call, and those under way are settled."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.company import company
from tests.support.worker import BUCKET, counts, record, wired
from worker.delivery import deliver
from worker.delivery.fuse_check import FuseCheck


def failing(monkeypatch: pytest.MonkeyPatch, when: Callable[[], bool]) -> None:
    """Have the delivery's own thread fail at some moment."""

    def read_harmless(*_: object) -> None:
        if when():
            raise RuntimeError

    monkeypatch.setattr(deliver, "SETTLE_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(FuseCheck, "read_harmless", read_harmless)


def test_a_delivery_that_fails_lets_its_calls_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were cut off, and their customers waited until the provider must have been done with them."""
    with company(tmp_path) as shop, wired(shop, tmp_path, timeout=5.0) as parts:
        shop.fault(kind="latency", delay=1.0)
        import_id = record(parts, *({"user_id": str(number)} for number in range(1, 60)))
        failing(monkeypatch, lambda: shop.stats()["calls"] >= 3)

        assert parts.deliver(BUCKET, lambda: True) is False

        called = shop.stats()["calls"]
        assert 3 <= called <= 30
        assert counts(parts, import_id) == {"applied": called, "pending": 59 - called}
        assert parts.ledger.queue.due(BUCKET, 100) == 59 - called
        assert str(parts.ledger.breakers.health_of("capillary").reason).startswith("the worker failed: RuntimeError")


def test_a_delivery_that_is_given_up_late_waits_for_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery kills it in a moment: what has been answered is written down until then."""
    with company(tmp_path) as shop, wired(shop, tmp_path, timeout=20.0) as parts:
        shop.fault(kind="latency", delay=15.0)
        record(parts, {"user_id": "1"})
        failing(monkeypatch, lambda: shop.stats()["calls"] == 1)
        monkeypatch.setattr(deliver, "LONGEST_SECONDS", -parts.settings.lease_seconds)
        started = time.monotonic()

        assert parts.deliver(BUCKET, lambda: True) is False
        assert time.monotonic() - started < 10.0
