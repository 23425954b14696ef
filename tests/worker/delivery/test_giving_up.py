"""Who is given up after how many attempts, who is kept, and whose fault a refusal is: theirs or ours."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from consent.ledger import dead_letters
from consent.ledger.queue.breakers import Breaker
from tests.support.company import Company, company
from tests.support.worker import BUCKET, ROW, as_change, counts, deliveries, record, settled, wired
from worker.bootstrap import WorkerContext
from worker.delivery.retry import WITNESSED_TRIES
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


def test_an_account_whose_limit_others_use_up_makes_no_dead_letters(tmp_path: Path) -> None:
    """Another program uses the same account: some calls are served, most draw a 429, and opt-outs were given up."""
    with company(tmp_path, rate="4/second", retry_after=True) as shop, wired(shop, tmp_path, max_attempts=2) as parts:
        import_id = record(parts, *({"user_id": str(number)} for number in range(1, 61)))
        until = time.monotonic() + 12
        while time.monotonic() < until and not settled(parts, import_id)():
            if not parts.delivery(BUCKET).run():
                time.sleep(0.02)

        assert "dead" not in counts(parts, import_id)
        assert counts(parts, import_id)["applied"] > 8


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
