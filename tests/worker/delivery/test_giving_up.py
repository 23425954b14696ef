"""Who is given up after how many attempts, who is kept, and whose fault an answer is: theirs or the provider's."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from consent.errors import LedgerUnavailable
from consent.ledger import dead_letters
from consent.ledger.queue.breakers import Breaker
from tests.support.company import Company, company
from tests.support.worker import BUCKET, ROW, as_change, counts, deliveries, record, settled, wired
from worker.bootstrap import WorkerContext
from worker.delivery.results import WITNESSED_TRIES, Retries
from worker.providers import PROVIDERS


def test_refused_credentials_stop_the_connection_and_kill_nothing(parts: WorkerContext, shop: Company) -> None:
    """One refused call opens the breaker; no one is called until someone has fixed it."""
    shop.fault(kind="refuse", code=401)
    import_id = record(parts, *({"user_id": str(n)} for n in range(1, 40)))

    for _ in range(5):
        parts.delivery(BUCKET).run()

    found = parts.ledger.breakers.health_of("capillary")
    assert found.breaker is Breaker.REFUSED
    assert counts(parts, import_id) == {"pending": 39}
    assert shop.stats()["calls"] <= 16

    shop.fix()
    parts.ledger.breakers.probe_soon()
    deliveries(parts, settled(parts, import_id))

    assert counts(parts, import_id) == {"applied": 39}


def test_what_the_latest_answer_was_is_told_before_a_breaker_opens(parts: WorkerContext, shop: Company) -> None:
    """With one customer left there are never five failures in a row: nothing said why the opt-out did not go."""
    shop.fault(kind="error", code=500)
    record(parts, {"user_id": "1"})

    parts.delivery(BUCKET).run()

    assert parts.ledger.breakers.health_of(str(BUCKET)).breaker is Breaker.CLOSED
    assert parts.ledger.breakers.latest_answer(BUCKET) == "500: Capillary failed on this request"


def test_a_ledger_that_is_away_when_a_witness_is_looked_for_ends_no_delivery(
    parts: WorkerContext, shop: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket said that the worker had failed, and calls that had begun meanwhile were cut off."""

    def away(*_: object) -> None:
        raise LedgerUnavailable("it is being restarted")

    monkeypatch.setattr(Retries, "witness", away)
    shop.fault(kind="error", code=500)
    record(parts, {"user_id": "1"})

    parts.deliver(BUCKET, lambda: False)

    assert parts.ledger.breakers.health_of(str(BUCKET)).breaker is Breaker.CLOSED
    assert parts.ledger.breakers.latest_answer(BUCKET) == "500: Capillary failed on this request"


@pytest.mark.parametrize(("status", "breaker_then"), [(403, Breaker.CLOSED), (502, Breaker.CLOSED)])
def test_the_only_customer_left_dies_once_a_read_shows_that_another_is_served(
    shop: Company, tmp_path: Path, status: int, breaker_then: Breaker
) -> None:
    """The last customer of a file that a gateway refuses kept every run from ending well, night after night."""
    with wired(shop, tmp_path, max_attempts=3, timeout=0.5) as parts:
        first = record(parts, {"user_id": "1"})
        deliveries(parts, settled(parts, first))
        shop.fault(kind="html", http_status=status, users=["2"])
        import_id = record(parts, {"user_id": "2"})

        deliveries(parts, settled(parts, import_id), seconds=30)

        assert counts(parts, import_id) == {"dead": 1}
        [letter] = parts.ledger.dead_letters.find(dead_letters.DeadLetterFilter())
        assert (letter.code, letter.attempts) == (str(status), 3)
        assert "while other customers were served" in str(letter.reason)
        assert {one.purpose for one in parts.ledger.dead_letters.attempts_for(letter)} == {"write", "witness"}
        assert parts.ledger.breakers.health_of(str(BUCKET)).breaker is breaker_then


def test_the_only_customer_is_kept_where_nothing_shows_whose_fault_it_is(parts: WorkerContext, shop: Company) -> None:
    """With a wrong password and one customer that customer must not be buried: no one else was ever served."""
    shop.fault(kind="refuse", code=401)
    import_id = record(parts, {"user_id": "1"})

    for _ in range(12):
        parts.ledger.breakers.probe_soon()
        parts.delivery(BUCKET).run()
        time.sleep(0.1)

    assert counts(parts, import_id) == {"pending": 1}
    assert parts.ledger.breakers.health_of(str(BUCKET)).breaker is Breaker.REFUSED


def test_a_password_that_is_withdrawn_buries_no_one(shop: Company, tmp_path: Path) -> None:
    """Some were served a moment before, reads and writes are refused since: the others are kept, however few."""
    with wired(shop, tmp_path, max_attempts=2) as parts:
        first = record(parts, *({"user_id": str(n)} for n in range(1, 30)))
        deliveries(parts, settled(parts, first))
        shop.fault(kind="refuse", code=401)
        import_id = record(parts, *({"user_id": str(n)} for n in range(30, 33)))

        for _ in range(20):
            parts.ledger.breakers.probe_soon()
            parts.delivery(BUCKET).run()
            time.sleep(0.05)

        assert counts(parts, import_id) == {"pending": 3}


def test_probes_go_round(parts: WorkerContext, shop: Company) -> None:
    """A customer who is refused was asked again by every probe, and no one else was ever asked."""
    shop.fault(kind="refuse", code=401)
    record(parts, *({"user_id": str(n)} for n in range(1, 40)))
    parts.delivery(BUCKET).run()
    asked = []
    for _ in range(6):
        parts.ledger.breakers.probe_soon()
        parts.delivery(BUCKET).run()
        asked.append(parts.ledger.breakers.health_of(str(BUCKET)).suspects[-1])

    assert len(set(asked)) == 6


def test_customers_who_are_refused_keep_no_newcomer_waiting(parts: WorkerContext, shop: Company) -> None:
    """Two customers who a gateway refuses were all there was; who unsubscribed then waited for up to five minutes."""
    shop.fault(kind="html", http_status=403, users=["1", "2"])
    record(parts, {"user_id": "1"}, {"user_id": "2"})
    end = time.monotonic() + 12
    while parts.ledger.breakers.health_of(str(BUCKET)).trips < 3 and time.monotonic() < end:
        parts.delivery(BUCKET).run()
        time.sleep(0.05)
    parts.delivery(BUCKET).run()

    row = PROVIDERS["capillary"].row.model_validate(ROW | {"user_id": "3"})
    parts.ledger.intake.accept_events("run", [as_change(row)], [])
    arrived = time.monotonic()
    deliveries(parts, lambda: ("3", "EMAIL", "BULK") in shop.held(), seconds=5)

    assert time.monotonic() - arrived < 4
    assert parts.ledger.breakers.health_of(str(BUCKET)).breaker is Breaker.CLOSED


def test_a_change_that_always_fails_dies_after_its_attempts(shop: Company, tmp_path: Path) -> None:
    """One customer for who the provider always says "internal error" ends as a dead letter, not in an endless loop."""
    shop.fault(kind="error", code=500, users=["13"])
    with wired(shop, tmp_path, max_attempts=4) as parts:
        import_id = record(parts, *({"user_id": str(n)} for n in range(10, 30)))

        deliveries(parts, settled(parts, import_id))

        assert counts(parts, import_id) == {"applied": 19, "dead": 1}
        [letter] = parts.ledger.dead_letters.find(dead_letters.DeadLetterFilter())
        assert (letter.code, letter.attempts) == ("500", 4)
        made = [one.purpose for one in parts.ledger.dead_letters.attempts_for(letter)]
        assert made.count("write") in (4, 5)  # the first one counts if another customer's call began after it
        assert set(made) == {"write", "witness"}  # once no other customer is left, a read shows that others are served


def test_a_row_that_is_taken_and_never_kept_dies_though_it_is_the_last_one(shop: Company, tmp_path: Path) -> None:
    """Capillary answers 200 and drops the only row; asked what it holds, it answers well: five tries are enough."""
    shop.fault(kind="drop")
    with wired(shop, tmp_path) as parts:
        import_id = record(parts, {"user_id": "13"})

        deliveries(parts, settled(parts, import_id))

        assert counts(parts, import_id) == {"dead": 1}
        [letter] = parts.ledger.dead_letters.find(dead_letters.DeadLetterFilter())
        assert letter.attempts == WITNESSED_TRIES
        assert len(parts.ledger.dead_letters.attempts_for(letter)) == 2 * WITNESSED_TRIES


def test_a_row_that_is_not_kept_while_nothing_can_be_read_stays(shop: Company, tmp_path: Path) -> None:
    """The same where the read-back fails, too: that may be the provider, so the change waits."""
    shop.fault(kind="drop")
    shop.fault(kind="html", on="read")
    with wired(shop, tmp_path) as parts:
        import_id = record(parts, {"user_id": "13"})

        for _ in range(100):
            parts.delivery(BUCKET).run()
            time.sleep(0.02)

        assert counts(parts, import_id) == {"pending": 1}


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
                time.sleep(0.05)

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
        time.sleep(0.03)
