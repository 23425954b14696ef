"""One target, one delivery at a time: lost leases, late answers, and what waits for its time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from consent.ledger.ledger import Ledger
from consent.outcome import Applied, Retry
from tests.support.examples import examples
from tests.support.ledgers import BUCKET, change_of, counts, deliver, imported, settlement


def test_a_change_that_comes_while_another_is_on_its_way_is_sent_after_it(ledger: Ledger) -> None:
    """While a call is under way no one knows what the provider holds, so the newer change is always sent."""
    imported(ledger, change_of("1", "OPTOUT", 0))
    deliver(ledger)
    imported(ledger, change_of("1", "OPTIN", 5))
    [task] = ledger.queue.claim(BUCKET, 10, "first", 60)
    last = imported(ledger, change_of("1", "OPTOUT", 9))

    assert ledger.queue.claim(BUCKET, 10, "second", 60) == []

    ledger.queue.settle("first", [settlement(task, Applied(), ledger.now())])

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, last) == {"applied": 1}


def test_a_target_is_held_by_one_delivery_at_a_time(ledger: Ledger) -> None:
    """Two deliveries never hold the same customer."""
    imported(ledger, *(change_of(str(n)) for n in range(10)))

    first = ledger.queue.claim(BUCKET, 6, "first", 60)
    second = ledger.queue.claim(BUCKET, 6, "second", 60)

    assert len(first) == 6
    assert len(second) == 4
    assert not {t.target_id for t in first} & {t.target_id for t in second}


def test_opt_outs_go_first(ledger: Ledger) -> None:
    """Opt-ins wait until every opt-out has been taken."""
    imported(
        ledger, change_of("1", "OPTIN"), change_of("2", "OPTIN"), change_of("3", "OPTOUT"), change_of("4", "OPTOUT")
    )

    first = ledger.queue.claim(BUCKET, 2, "delivery", 60)

    assert sorted(task.address["user_id"] for task in first) == ["3", "4"]


def test_a_lost_lease_is_taken_over(ledger: Ledger, clock) -> None:
    """When a worker dies its customers are delivered by another."""
    imported(ledger, change_of("1"))
    ledger.queue.claim(BUCKET, 1, "dead delivery", 60)
    clock.forward(61)

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]


def test_a_late_answer_has_the_newest_change_sent_again(ledger: Ledger, clock) -> None:
    """A call that ends after its lease was lost may have overwritten a newer change; so that one is sent once more."""
    imported(ledger, change_of("1", "OPTIN", 0))
    [late] = ledger.queue.claim(BUCKET, 1, "slow delivery", 60)
    clock.forward(61)
    newer = imported(ledger, change_of("1", "OPTOUT", 5))
    deliver(ledger)

    lost = ledger.queue.settle("slow delivery", [settlement(late, Applied(), ledger.now())])

    assert lost == 1
    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]
    assert counts(ledger, newer) == {"applied": 1}


def test_a_late_answer_during_another_call_has_it_sent_again(ledger: Ledger, clock) -> None:
    """If the late answer comes while the newer change is on its way, that call does not count as proof."""
    imported(ledger, change_of("1", "OPTIN", 0))
    [late] = ledger.queue.claim(BUCKET, 1, "slow delivery", 60)
    clock.forward(61)
    imported(ledger, change_of("1", "OPTOUT", 5))
    [task] = ledger.queue.claim(BUCKET, 1, "quick delivery", 60)
    ledger.queue.settle("slow delivery", [settlement(late, Applied(), ledger.now())])

    ledger.queue.settle("quick delivery", [settlement(task, Applied(), ledger.now())])

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]
    assert deliver(ledger) == []


def test_what_is_put_off_waits_for_its_time(ledger: Ledger, clock) -> None:
    """A change to be tried later is not touched before then, and its attempt is counted."""
    import_id = imported(ledger, change_of("1"))
    [task] = ledger.queue.claim(BUCKET, 1, "delivery", 60)
    later = ledger.now() + 30_000_000
    ledger.queue.settle("delivery", [settlement(task, Retry("521", "busy", counts=True), ledger.now(), later)])

    assert ledger.queue.due(BUCKET, 5) == 0
    assert deliver(ledger) == []

    clock.forward(31)
    [task] = ledger.queue.claim(BUCKET, 1, "delivery", 60)

    assert task.tries == 1
    assert task.changes[0].attempts == 1
    assert counts(ledger, import_id) == {"pending": 1}


def test_a_fresh_change_does_not_wait_for_a_put_off_one(ledger: Ledger) -> None:
    """A customer whose call was put off and who speaks again is due at once."""
    imported(ledger, change_of("1", "OPTIN"))
    [task] = ledger.queue.claim(BUCKET, 1, "delivery", 60)
    later = ledger.now() + 30_000_000
    ledger.queue.settle("delivery", [settlement(task, Retry("521", "busy", counts=True), ledger.now(), later)])

    imported(ledger, change_of("1", "OPTOUT", 5))

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]


def side_by_side(importing: list[Callable[[], None]], delivering: Callable[[threading.Event, str], None]) -> list[str]:
    """Run importers and three deliveries at once; return what went wrong."""
    errors: list[str] = []
    over = threading.Event()

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the test tells
            errors.append(repr(error))

    importers = [threading.Thread(target=guarded, args=(work,)) for work in importing]
    deliveries = [
        threading.Thread(target=guarded, args=(partial(delivering, over, f"delivery {number}"),)) for number in range(3)
    ]
    for thread in (*importers, *deliveries):
        thread.start()
    for thread in importers:
        thread.join()
    over.set()
    for thread in deliveries:
        thread.join()
    return errors


@pytest.mark.parametrize("ledger_url", [pytest.param("sqlite", marks=pytest.mark.proof), "postgresql"], indirect=True)
def test_importing_and_settling_side_by_side(ledger: Ledger) -> None:
    """Two importers and three deliveries at work at once: no one fails, nothing is left over, everything balances."""
    people = examples(1_000, share=2)

    def bring(first: int) -> None:
        for start in range(first, first + people, 100):
            imported(
                ledger, *(change_of(str(n), slot=f"slot {s}") for n in range(start, start + 100) for s in range(2))
            )

    def strike(over: threading.Event, token: str) -> None:
        while not over.is_set() or ledger.queue.due(BUCKET, 1):
            if not deliver(ledger, token=token, limit=20):
                over.wait(0.005)

    assert side_by_side([partial(bring, 0), partial(bring, people // 2)], strike) == []

    found = [counts(ledger, import_id) for import_id in ledger.queries.recent_imports(100)]
    assert sum(one.get("applied", 0) for one in found) == people * 3 // 2 * 2
    assert sum(one.get("pending", 0) for one in found) == 0
