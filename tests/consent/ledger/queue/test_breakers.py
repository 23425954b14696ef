"""How each bucket is, on SQLite and on PostgreSQL alike: deliveries that end late neither double nor undo anything."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Select, Update

from consent.change import Action, Bucket
from consent.ledger.dialects.statements import NEW, bulk
from consent.ledger.ledger import Ledger
from consent.ledger.queue.breakers import Breaker, BucketHealth, Trip
from consent.ledger.queue.leases import Lease
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask
from consent.ledger.schema import attempts
from consent.outcome import Healthy, Throttled, Unauthorized, Unavailable
from tests.support.examples import POSTGRESQL_IN_PROOFS
from worker.delivery import breaker, evidence, throttling
from worker.delivery.breaker import FAILURES_TO_OPEN, Observations

NOW = 1_800_000_000_000_000
BUSY, CALM = Bucket("gupshup", "app-1"), Bucket("gupshup", "app-2")


def found(ledger: Ledger, bucket: Bucket = BUSY) -> BucketHealth:
    """How a bucket is."""
    return ledger.breakers.health_of(str(bucket))


def watched(*seen: Unauthorized | Unavailable | Throttled | Healthy, at: int = NOW) -> Observations:
    """What a delivery has seen that got these answers: bad ones about customer 1, and customer 2 was served."""
    watch = Observations()
    for one in seen:
        watch.note(one, (1,), served=(2,) if isinstance(one, Healthy) else (), at=at)
    return watch


TASK = CustomerTask(1, {}, (ClaimedChange(1, "import", "EMAIL", Action.OPTOUT, 0, {}),))


def tried(ledger: Ledger, at: int) -> None:
    """The provider was told the task at this time."""
    call = (TASK.target_id, at, 5, "write", 200, "500", "[1]")
    columns = ("target_id", "at", "milliseconds", "purpose", "status", "code", "change_ids")
    ledger.database.write(lambda tx: bulk(tx).insert(attempts, columns, [call], NEW))


DOWN = [Unavailable("no answer")] * FAILURES_TO_OPEN


def at_once(*acts: Callable[[], object]) -> None:
    """Do these things side by side."""
    threads = [threading.Thread(target=act) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_trouble_of_one_bucket_is_its_own(ledger: Ledger) -> None:
    """A refusal and a limit of one app leave its neighbour closed, unthrottled and callable."""
    breaker.conclude(ledger, found(ledger), watched(Unauthorized("no such token")))
    throttling.throttle(ledger, BUSY, 600)

    assert not breaker.may_call(found(ledger), ledger.now())
    assert found(ledger, CALM) == BucketHealth("gupshup/app-2")
    assert breaker.may_call(found(ledger, CALM), ledger.now())


def test_proof_of_one_bucket_is_no_proof_for_another(ledger: Ledger) -> None:
    """That one app settles changes does not make the failures of another app the fault of its changes."""
    tried(ledger, NOW - 5_001)
    breaker.conclude(ledger, found(ledger), watched(Healthy()))

    assert evidence.is_proven(ledger, found(ledger), Observations(), TASK, NOW)
    assert not evidence.is_proven(ledger, found(ledger, CALM), Observations(), TASK, NOW)


@POSTGRESQL_IN_PROOFS
def test_an_outage_for_everybody_proves_nothing_however_few_they_are(ledger: Ledger) -> None:
    """A failure counts only if another one was served by a call that began since the try before it was answered."""
    breaker.conclude(ledger, found(ledger), watched(Healthy()))
    tried(ledger, NOW - 5_000)  # it was answered in the moment in which the other one's call began

    assert not evidence.is_proven(ledger, found(ledger), Observations(), TASK, NOW + 10)
    assert evidence.is_proven(ledger, found(ledger), watched(Healthy(), at=NOW + 1), TASK, NOW + 10)


@POSTGRESQL_IN_PROOFS
def test_a_first_failure_counts_only_if_a_call_that_began_later_was_served(ledger: Ledger) -> None:
    """A call that began before it may have begun before the fault; one's own other changes are no witnesses either."""
    itself = Observations()
    itself.note(Healthy(), (1,), served=(1,), at=NOW + 1)

    assert not evidence.is_proven(ledger, found(ledger), watched(Healthy(), at=NOW - 1), TASK, NOW)
    assert not evidence.is_proven(ledger, found(ledger), itself, TASK, NOW)
    assert evidence.is_proven(ledger, found(ledger), watched(Healthy(), at=NOW + 1), TASK, NOW)


def test_the_same_outage_seen_by_several_deliveries_is_one_trip(ledger: Ledger) -> None:
    """Four deliveries that began before the breaker opened and fail together count once: the first wait stays short."""
    before = found(ledger)

    at_once(*[lambda: breaker.conclude(ledger, before, watched(*DOWN))] * 4)

    assert (found(ledger).breaker, found(ledger).trips) == (Breaker.DOWN, 1)


@POSTGRESQL_IN_PROOFS
def test_each_failed_probe_is_a_trip(ledger: Ledger) -> None:
    """A probe begins after the breaker opened: its failure counts, so that the waits grow."""
    for trips in (1, 2, 3):
        breaker.conclude(ledger, found(ledger), watched(*DOWN))
        assert found(ledger).trips == trips


@POSTGRESQL_IN_PROOFS
def test_a_refusal_is_noted_over_an_outage(ledger: Ledger) -> None:
    """One delivery sees cut lines and another, begun at the same moment, a refusal: what a person must fix is said."""
    before = found(ledger)

    breaker.conclude(ledger, before, watched(*DOWN))
    breaker.conclude(ledger, before, watched(Unauthorized("no such token")))
    breaker.conclude(ledger, before, watched(*DOWN))

    now = found(ledger)
    assert (now.breaker, now.reason, now.trips) == (Breaker.REFUSED, "no such token", 1)


def test_a_slow_delivery_does_not_close_what_was_opened_meanwhile(ledger: Ledger) -> None:
    """Its good answers are older news than the refusal: the breaker stays open, its reason and its trips stand."""
    before = found(ledger)

    breaker.conclude(ledger, before, watched(Unauthorized("token withdrawn")))
    breaker.conclude(ledger, before, watched(Healthy()))

    now = found(ledger)
    assert (now.breaker, now.reason, now.trips) == (Breaker.REFUSED, "token withdrawn", 1)
    assert now.healthy_at == ledger.now()


def test_a_slow_probe_does_not_close_what_failed_again_meanwhile(ledger: Ledger) -> None:
    """The lease of a probe ran out, the next probe failed; then the first one's good answer comes."""
    breaker.conclude(ledger, found(ledger), watched(*DOWN))
    slow = found(ledger)

    breaker.conclude(ledger, found(ledger), watched(*DOWN))
    breaker.conclude(ledger, slow, watched(Healthy()))

    assert (found(ledger).breaker, found(ledger).trips) == (Breaker.DOWN, 2)


def test_a_good_probe_closes(ledger: Ledger) -> None:
    """Nothing happened since the probe began: the bucket is well, and the next trouble starts at a short wait."""
    breaker.conclude(ledger, found(ledger), watched(*DOWN))

    breaker.conclude(ledger, found(ledger), watched(Healthy()))

    now = found(ledger)
    assert (now.breaker, now.reason, now.trips, now.failures) == (Breaker.CLOSED, None, 0, 0)


def test_one_process_wins_the_probe_of_each_bucket(ledger: Ledger) -> None:
    """A person who runs `optrelay run` after a fix makes every bucket worth a probe, and each is won once."""
    for bucket in (BUSY, CALM):
        breaker.conclude(ledger, found(ledger, bucket), watched(Unauthorized("no such token")))
    assert not breaker.win_probe(ledger, found(ledger), 30)

    ledger.breakers.probe_soon()

    for bucket in (BUSY, CALM):
        won: list[bool] = []
        at_once(*[lambda b=bucket, w=won: w.append(breaker.win_probe(ledger, found(ledger, b), 30))] * 4)
        assert sorted(won) == [False, False, False, True]


def test_what_every_delivery_asks_of_its_bucket_is_built_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building these statements took a few times as long as running them, and each is run anew with other values."""

    def round_of(bucket: Bucket, at: int) -> BucketHealth:
        name = str(bucket)
        before = ledger.breakers.health_of(name)
        assert ledger.breakers.count_failures(name, 2) == 2
        ledger.breakers.throttle(name, until=at)
        ledger.breakers.open_breaker(before, Trip(Breaker.DOWN, f"since {at}", at), now=at)
        assert (ledger.breakers.take_probe(name, now=at - 1, until=at), before.is_open) == (False, False)
        assert ledger.breakers.take_probe(name, now=at, until=at + 1)
        assert ledger.fuses.stops(bucket, ()) == {}
        assert ledger.fuses.asks_for_read(bucket) is None
        assert ledger.leases.reserve_ahead(name, "broker", 1.0, now=at, until=at + 1) == 0.0
        assert ledger.leases.take_lease(Lease(name, "me", "token", at), now=at) is None
        found = ledger.breakers.health_of(name)
        ledger.breakers.close_breaker(found, served=(at, at))
        return found

    first = round_of(BUSY, NOW)
    built: list[type] = []
    for kind in (Select, Update):
        make = kind.__init__
        monkeypatch.setattr(kind, "__init__", lambda one, *of, make=make: built.append(type(one)) or make(one, *of))
    second = round_of(CALM, NOW + 5)

    assert built == []
    assert (first.reason, first.probe_at, first.throttled_until) == (f"since {NOW}", NOW + 1, NOW)
    assert (second.reason, second.probe_at, second.throttled_until) == (f"since {NOW + 5}", NOW + 6, NOW + 5)
    assert found(ledger, CALM) == BucketHealth(
        str(CALM), throttled_until=NOW + 5, healthy_at=NOW + 5, served_id=NOW + 5
    )
    assert (found(ledger).served_id, found(ledger).breaker) == (NOW, Breaker.CLOSED)
