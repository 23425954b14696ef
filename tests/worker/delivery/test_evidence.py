"""Whose fault an answer is: a provider that breaks down makes no dead letters, though its slow calls still end well."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from consent.ledger import dead_letters
from tests.support.company import company
from tests.support.worker import BUCKET, counts, deliveries, record, settled, wired

SLOW_SECONDS = 2.0


@pytest.mark.parametrize(
    "trouble",
    [
        {"kind": "error", "code": 500},
        pytest.param({"kind": "html", "http_status": 502}, marks=pytest.mark.proof),
        pytest.param({"kind": "reset"}, marks=pytest.mark.proof),
    ],
    ids=lambda one: one["kind"],
)
def test_a_provider_that_breaks_down_under_slow_calls_makes_no_dead_letters(
    tmp_path: Path, trouble: dict[str, object]
) -> None:
    """Five slow calls began before the fault and are served while all who come after fail: they are no witnesses."""
    with company(tmp_path) as shop, wired(shop, tmp_path, timeout=4.0, max_attempts=2) as parts:
        shop.fault(kind="latency", users=[str(n) for n in range(1, 6)], delay=SLOW_SECONDS)
        slow = record(parts, *({"user_id": str(n)} for n in range(1, 6)))
        over = threading.Event()
        with Delivering(lambda: parts.delivery(BUCKET, lambda: not over.is_set()).run(), over):
            _until(lambda: shop.stats()["calls"] == 5)
            shop.fault(**trouble)
            failing = record(parts, *({"user_id": str(n)} for n in range(11, 41)))
            _until(settled(parts, slow))
            time.sleep(SLOW_SECONDS)  # the time in which tries would count

        assert (counts(parts, slow), counts(parts, failing)) == ({"applied": 5}, {"pending": 30})


def test_the_last_customer_dies_by_reads_that_show_another_one(tmp_path: Path) -> None:
    """Capillary says "internal error" to one customer, and no other is left: each try is followed by a read."""
    with company(tmp_path) as shop, wired(shop, tmp_path, max_attempts=3) as parts:
        deliveries(parts, settled(parts, record(parts, {"user_id": "1"})))
        shop.fault(kind="error", code=500, users=["13"])
        import_id = record(parts, {"user_id": "13"})

        deliveries(parts, settled(parts, import_id))

        assert counts(parts, import_id) == {"dead": 1}
        [letter] = parts.ledger.dead_letters.find(dead_letters.DeadLetterFilter())
        made = [one.purpose for one in parts.ledger.dead_letters.attempts_for(letter)]
        assert (letter.attempts, made) == (3, ["write", "witness"] * 3)


def test_a_single_customer_dies_by_reads_about_itself(tmp_path: Path) -> None:
    """The bucket never served anyone: that Capillary shows this customer is the only evidence there can be."""
    with company(tmp_path) as shop, wired(shop, tmp_path, max_attempts=3) as parts:
        shop.fault(kind="error", code=500, on="write")
        import_id = record(parts, {"user_id": "13"})

        deliveries(parts, settled(parts, import_id))

        assert counts(parts, import_id) == {"dead": 1}


@pytest.mark.parametrize(("customers", "on"), [(1, "any"), (3, "any"), (30, "any"), (30, "write")])
def test_internal_errors_for_everybody_make_no_dead_letters(tmp_path: Path, customers: int, on: str) -> None:
    """However few they are; and of many, none dies by reads alone, where it is the writing that is broken."""
    with company(tmp_path) as shop, wired(shop, tmp_path, max_attempts=2) as parts:
        deliveries(parts, settled(parts, record(parts, {"user_id": "1"})))
        shop.fault(kind="error", code=500, on=on)
        import_id = record(parts, *({"user_id": str(n)} for n in range(11, 11 + customers)))

        deliveries(parts, lambda: shop.stats()["calls"] > 4 * customers + 1, seconds=30)

        assert counts(parts, import_id) == {"pending": customers}


class Delivering:
    """Deliveries one after the other in three threads, as three processes make them, until the end of the block."""

    def __init__(self, deliver, over: threading.Event) -> None:
        self.over = over
        self.threads = [threading.Thread(target=self._go_on, args=(deliver,)) for _ in range(3)]

    def _go_on(self, deliver) -> None:
        while not self.over.is_set():
            if not deliver():
                time.sleep(0.02)

    def __enter__(self) -> None:
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def _until(holds, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
