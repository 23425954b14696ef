"""Deliveries against a provider that misbehaves: what dies, what waits, and what never happens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consent.connection import ConnectionSettings
from consent.errors import LedgerUnavailable
from consent.ledger import dead_letters
from consent.ledger.queue.breakers import Breaker
from consent.ledger.queue.tasks import CustomerTask, Settlement
from consent.ledger.review.fuse_counts import FuseCounter
from consent.settings import load_settings
from tests.support.company import Company, company, until
from tests.support.worker import BUCKET, counts, deliveries, record, settled, wired
from worker.bootstrap import WorkerContext, time_limit
from worker.delivery import deliver
from worker.delivery.calls import ConcurrentCalls
from worker.delivery.deliver import LONGEST_SECONDS, LONGEST_WINDOWS, PATIENCE_SECONDS
from worker.delivery.permits import Permits
from worker.providers.contract import Plan


def test_one_customer_is_one_call(parts: WorkerContext, shop: Company) -> None:
    """Four changes of one customer travel in one array."""
    import_id = record(
        parts, *({"user_id": "1", "channel": c, "priority": p} for c in ("EMAIL", "MOBILE") for p in ("BULK", "TRANS"))
    )

    deliveries(parts, settled(parts, import_id))

    assert counts(parts, import_id) == {"applied": 4}
    assert shop.stats()["calls"] == 1


def test_calls_that_cannot_be_counted_now_are_counted_later(
    parts: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is away after a customer was settled: his calls are counted when it is back, and he is told once."""
    asked, count_calls = [], parts.ledger.queue.count_calls

    def away_at_first(settlements: Sequence[Settlement], counted: set[str]) -> None:
        asked.append([one.task.address for one in settlements])
        if len(asked) < 3:
            raise LedgerUnavailable("it is being restarted")
        count_calls(settlements, counted)

    monkeypatch.setattr(parts.ledger.queue, "count_calls", away_at_first)
    import_id = record(parts, {"user_id": "1"})

    deliveries(parts, settled(parts, import_id))

    assert asked == [[{"user_id": "1"}]] * 3
    assert parts.ledger.queries.report(import_id).calls == 1


def test_an_unknown_customer_harms_no_other(parts: WorkerContext) -> None:
    """The one becomes a dead letter with code 1012; the others are delivered."""
    import_id = record(parts, *({"user_id": user} for user in ("1", "2", "404123", "3")))

    deliveries(parts, settled(parts, import_id))

    assert counts(parts, import_id) == {"applied": 3, "dead": 1}
    [letter] = parts.ledger.dead_letters.find(dead_letters.DeadLetterFilter())
    assert (letter.code, letter.address) == ("1012", {"user_id": "404123"})


def test_a_row_that_is_silently_missing_is_not_believed(parts: WorkerContext, shop: Company) -> None:
    """200 is no proof: a row that the provider dropped is read back, sent again, and applied in the end."""
    shop.fault(kind="drop", next=2)
    import_id = record(parts, {"user_id": "1"}, {"user_id": "1", "channel": "MOBILE"}, {"user_id": "2"})

    deliveries(parts, settled(parts, import_id))

    assert counts(parts, import_id) == {"applied": 3}
    assert len(shop.held()) == 3


def test_a_row_with_a_warning_is_tried_alone_and_then_dies(parts: WorkerContext, shop: Company) -> None:
    """A row that the provider fails to update (91022) dies; its neighbours in the same call are applied."""
    shop.fault(kind="warn", channel="MOBILE", priority="BULK", users=["1"])
    import_id = record(parts, {"user_id": "1"}, {"user_id": "1", "channel": "MOBILE"}, {"user_id": "2"})

    deliveries(parts, settled(parts, import_id))

    assert counts(parts, import_id) == {"applied": 2, "dead": 1}
    [letter] = parts.ledger.dead_letters.find(dead_letters.DeadLetterFilter())
    assert letter.code == "91022"


def test_a_call_whose_answer_was_lost_is_repeated(parts: WorkerContext, shop: Company) -> None:
    """The provider did it and the line broke: saying the same again is harmless, and it ends as applied."""
    shop.fault(kind="commit_then_drop", next=2)
    import_id = record(parts, *({"user_id": str(n)} for n in range(1, 6)))

    deliveries(parts, settled(parts, import_id))

    assert counts(parts, import_id) == {"applied": 5}
    assert shop.stats()["calls"] == 7


def test_a_provider_that_is_down_makes_no_dead_letters(parts: WorkerContext, shop: Company) -> None:
    """While every call fails the breaker is open and everything waits; then all is delivered."""
    shop.fault(kind="down", seconds=2)
    import_id = record(parts, *({"user_id": str(n)} for n in range(1, 40)))

    deliveries(parts, lambda: parts.ledger.breakers.health_of("capillary").breaker is Breaker.DOWN)
    down_for = shop.stats()["calls"]
    deliveries(parts, settled(parts, import_id))

    assert counts(parts, import_id) == {"applied": 39}
    assert down_for < 39
    assert parts.ledger.breakers.health_of("capillary").breaker is Breaker.CLOSED


@pytest.mark.parametrize("order", [
    {"kind": "error", "code": 500, "seconds": 2},
    pytest.param({"kind": "error", "code": 503, "seconds": 2}, marks=pytest.mark.proof),
    pytest.param({"kind": "html", "seconds": 2}, marks=pytest.mark.proof),
    pytest.param({"kind": "malformed", "seconds": 1}, marks=pytest.mark.proof),
    pytest.param({"kind": "empty", "seconds": 1}, marks=pytest.mark.proof),
    {"kind": "reset", "seconds": 1},
    {"kind": "busy", "seconds": 1},
    {"kind": "throttle", "next": 1, "retry_after": 1},
])  # fmt: skip
def test_trouble_that_passes_kills_nothing(parts: WorkerContext, shop: Company, order: dict[str, object]) -> None:
    """Server errors, error pages, broken or empty answers, cut lines, throttling: all is delivered afterwards."""
    shop.fault(**order)
    import_id = record(parts, *({"user_id": str(n)} for n in range(1, 30)))

    deliveries(parts, settled(parts, import_id), seconds=15)

    assert counts(parts, import_id) == {"applied": 29}


def test_a_delivery_that_is_interrupted_gives_everything_back(
    parts: WorkerContext, shop: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a delivery ends early, what it had not sent is due again at once and nothing stays under lease."""
    shop.fault(kind="latency", delay=0.3)
    import_id = record(parts, *({"user_id": str(n)} for n in range(1, 60)))
    delivery = parts.delivery(BUCKET)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("worker.delivery.deliver.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        delivery.run()
    monkeypatch.undo()

    assert parts.ledger.queue.due(BUCKET, 100) >= 50
    shop.fix()
    deliveries(parts, settled(parts, import_id))
    assert counts(parts, import_id) == {"applied": 59}


def test_who_was_called_is_not_untried_because_the_delivery_was_interrupted_twice(
    parts: WorkerContext, shop: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits until its calls have told their ends, and is interrupted at that: the lease holds."""

    def interrupted(*_: object, **__: object) -> bool:
        until(lambda: shop.stats()["calls"] == 1)
        raise KeyboardInterrupt

    ended: Any = SimpleNamespace(set=lambda: None, wait=interrupted)
    monkeypatch.setattr(deliver, "ConcurrentCalls", lambda *given: ConcurrentCalls(*given, ended=ended))
    monkeypatch.setattr(deliver, "wait", interrupted)
    shop.fault(kind="latency", delay=2)
    record(parts, {"user_id": "1"})

    with pytest.raises(KeyboardInterrupt):
        parts.delivery(BUCKET).run()

    assert parts.ledger.queue.due(BUCKET, 1) == 0


def test_who_was_called_is_not_untried_because_the_ledger_was_away(
    parts: WorkerContext, shop: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered could not be written down: the lease holds, else a newer change could overtake that call."""
    settle = parts.ledger.queue.settle

    def away(token: str, settlements: Sequence[Settlement], *counter: FuseCounter | None) -> int:
        if any(one.attempts for one in settlements):
            raise LedgerUnavailable("it is being restarted")
        return settle(token, settlements, *counter)

    monkeypatch.setattr(deliver, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(parts.ledger.queue, "settle", away)
    record(parts, {"user_id": "1"})

    with pytest.raises(LedgerUnavailable):
        parts.delivery(BUCKET).run()

    assert shop.stats()["calls"] == 1
    assert parts.ledger.queue.due(BUCKET, 1) == 0


def test_one_delivery_claims_again_while_calls_are_under_way(shop: Company, tmp_path: Path) -> None:
    """A delivery goes on with what is due for a reservation window: thirty customers, in batches of ten."""
    with wired(shop, tmp_path, batch_customers=10, reservation_seconds=10) as parts:
        import_id = record(parts, *({"user_id": str(n)} for n in range(1, 31)))

        assert parts.delivery(BUCKET).run() is False

        assert counts(parts, import_id) == {"applied": 30}
        assert shop.stats()["calls"] == 30


def test_a_slow_process_leaves_the_slots_that_it_cannot_use(parts: WorkerContext) -> None:
    """Slots pass while all calls of a process are under way: it takes no more than it can use, others have the rest."""
    connection = parts.bucket_context(BUCKET)
    permits = Permits(connection, lambda: False)
    connection.call_seconds = 0.0001

    assert permits.reserve_for(60) == 60

    connection.call_seconds = 0.8

    assert permits.reserve_for(100) <= connection.settings.concurrency + 1


def test_an_older_change_that_lands_late_is_not_the_last(tmp_path: Path) -> None:
    """The opt-in timed out at our side and lands later; the opt-out waits for that and is the last word."""
    with company(tmp_path, busy_521=False) as shop, wired(shop, tmp_path, timeout=1.0) as parts:
        shop.fault(kind="latency", users=["1"], delay=3, next=1)
        record(parts, {"user_id": "1", "action": "OPTIN", "effective_at": "2026-11-20T08:00:00+00:00"})
        parts.delivery(BUCKET).run()
        newer = record(parts, {"user_id": "1", "action": "OPTOUT", "effective_at": "2026-11-20T09:00:00+00:00"})

        deliveries(parts, settled(parts, newer), seconds=10)

        assert set(shop.held().values()) == {"OPTOUT"}


@pytest.mark.parametrize(("timeout", "lease", "window"), [(20.0, 60.0, 1.0), (240.0, 260.0, 1.0), (300.0, 900.0, 10.0)])
def test_no_delivery_is_killed_before_its_calls_can_have_answered(timeout: float, lease: float, window: float) -> None:
    """A provider that answers after 190 s is cut off at 170 s, asked again, and the person's change stays pending."""
    settings = load_settings(lease_seconds=lease, reservation_seconds=window)

    assert time_limit(settings) - 10 > LONGEST_SECONDS + LONGEST_WINDOWS * window + timeout + 3 + PATIENCE_SECONDS
    assert time_limit(settings) >= 180


def test_a_change_that_the_worker_cannot_put_into_a_request_harms_no_other(
    parts: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row on which our own code fails kept the other 599 opt-outs of the file from being sent."""
    provider = parts.bucket_context(BUCKET).provider
    plan = provider.plan

    def failing(tasks: Sequence[CustomerTask], connection: ConnectionSettings) -> Plan:
        if any(task.address["user_id"] == "13" for task in tasks):
            raise KeyError("jane.doe@example.com")
        return plan(tasks, connection)

    monkeypatch.setattr(type(provider), "plan", staticmethod(failing))
    import_id = record(parts, *({"user_id": str(n)} for n in range(10, 30)))

    deliveries(parts, lambda: counts(parts, import_id).get("applied") == 19)

    latest = parts.ledger.breakers.latest_answer(BUCKET)
    assert latest is not None
    assert latest.startswith("unplannable: the worker could make no request of it (KeyError in test_deliver.py:")


def test_what_is_wrong_with_the_configuration_is_what_the_bucket_shows(shop: Company, tmp_path: Path) -> None:
    """It is found out before a process is asked for, and shown whole: the message is ours, and names no person."""
    with wired(shop, tmp_path, lease_seconds=5) as hasty:
        assert hasty.deliver(BUCKET, lambda: False) is False
        found = hasty.ledger.breakers.health_of(str(BUCKET))

    assert found.is_open
    assert str(found.reason).startswith("OPTRELAY_LEASE_SECONDS is 5, but connection 'capillary' needs ")


def test_a_delivery_that_fails_stops_its_bucket(parts: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of our own code is shown without what it says, and raises nothing that would be tried at once."""
    record(parts, {"user_id": "1"})
    monkeypatch.setattr(parts.ledger.queue, "due", lambda *_: {}["jane.doe@example.com"])

    assert parts.deliver(BUCKET, lambda: False) is False
    found = parts.ledger.breakers.health_of(str(BUCKET))
    assert str(found.reason).startswith("the worker failed: KeyError in test_deliver.py:")
