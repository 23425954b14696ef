"""Counters of outcomes and calls: each counted once, by any number of processes, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import orjson
import pytest
from sqlalchemy import Connection, select

from consent.change import Bucket
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.dialects.statements import plain_rows
from consent.ledger.ledger import Ledger
from consent.ledger.queue.outcome_log import outcome_log
from consent.ledger.queue.tasks import Attempt, Settlement
from consent.ledger.telemetry import counters
from consent.ledger.telemetry.tallies import HONOUR_SECONDS
from consent.outcome import Applied, PermanentFailure, Unchanged
from tests.support.clock import Clock
from tests.support.ledgers import BUCKET, change_of, deliver, imported, settlement

NO = PermanentFailure("404", "there is no such customer")


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger."""
    one = Ledger(ledger_url)
    yield one
    one.close()


def changes_of(ledger: Ledger) -> dict[str, int]:
    """What is counted of changes, by outcome."""
    return {outcome: count for (_, outcome), count in ledger.counters.tallies().get("changes", {}).items()}


def test_each_outcome_is_counted_once_by_all_processes(ledger: Ledger, ledger_url: str) -> None:
    """Two applied, one dead that is replayed and discarded; a second process that looks adds nothing."""
    imported(ledger, change_of("1"), change_of("2"))
    deliver(ledger)
    imported(ledger, change_of("3"))
    deliver(ledger, NO)
    assert ledger.counters.add_up()
    assert changes_of(ledger) == {"applied": 2, "dead": 1}

    ledger.dead_letters.replay(ledger.dead_letters.find(DeadLetterFilter()), who="ann", why="fixed")
    deliver(ledger, NO)
    ledger.dead_letters.discard(ledger.dead_letters.find(DeadLetterFilter()), who="ann", why="gone")
    other = Ledger(ledger_url)
    assert other.counters.add_up()
    assert ledger.counters.add_up()

    assert changes_of(ledger) == {"applied": 2, "dead": 2, "discarded": 1, "sent_again": 1}
    assert changes_of(other) == changes_of(ledger)
    other.close()


def test_calls_are_counted_by_class_and_duration(ledger: Ledger) -> None:
    """One that carries three targets is one call; so is one without an answer."""
    imported(ledger, *(change_of(str(n)) for n in range(3)))
    tasks = ledger.queue.claim(BUCKET, 10, "delivery", 60)
    settlements = []
    for first, task in zip((True, False, False), tasks, strict=True):
        ids = tuple(change.id for change in task.changes)
        made = [
            Attempt(task.target_id, 1, 30, "write", 200, "200", ids, counts=first),
            Attempt(task.target_id, 2, 20_000, "write", None, "none", ids, counts=first),
            Attempt(task.target_id, 3, 700, "write", 429, "429", ids, counts=first),
            Attempt(task.target_id, 3, 50, "write", 503, "503", ids, counts=first),
        ]
        settlements.append(Settlement(task, dict.fromkeys(ids, Unchanged()), tuple(made)))
    ledger.queue.settle("delivery", settlements)
    assert ledger.counters.add_up()

    found = ledger.counters.tallies()

    assert found["calls"] == {("capillary", "", name): 1 for name in ("2xx", "none", "429", "5xx")}
    seconds = {bound: count for (*_, bound), count in found["call_seconds"].items() if count}
    assert seconds == {"0.05": 2, "1.0": 1, "30.0": 1}
    assert found["call_milliseconds"] == {("capillary", ""): 20_780}


def test_a_process_that_is_killed_while_it_counts_has_counted_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after it has added and before it commits: the next one counts the same once."""
    imported(ledger, change_of("1"))
    deliver(ledger)
    add = counters.add

    def added_and_killed(*arguments: object) -> None:
        add(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(counters, "add", added_and_killed)
    with pytest.raises(KeyboardInterrupt):
        ledger.counters.add_up()
    monkeypatch.undo()
    assert ledger.counters.add_up()

    assert changes_of(ledger) == {"applied": 1}
    assert ledger.counters.tallies()["calls"] == {("capillary", "", "2xx"): 1}


@pytest.mark.parametrize("customers", [100, pytest.param(400, marks=pytest.mark.proof)])
def test_counts_are_exact_while_many_deliver_and_several_count(ledger: Ledger, ledger_url: str, customers: int) -> None:
    """Four deliveries settle while two processes count: the sums are those of the ledger, and none waits forever."""
    import_id = imported(ledger, *(change_of(str(n)) for n in range(customers)))

    def delivering(name: str) -> None:
        own = Ledger(ledger_url)
        while tasks := own.queue.claim(BUCKET, 7, name, 60):
            for task in tasks:
                ids = tuple(change.id for change in task.changes)
                outcome = NO if task.target_id % 5 == 0 else Applied()
                attempt = Attempt(task.target_id, own.now(), 12, "write", 200, "200", ids)
                own.queue.settle(name, [Settlement(task, dict.fromkeys(ids, outcome), (attempt,))])
        own.close()

    def counting(_: str) -> None:
        own = Ledger(ledger_url)
        for _turn in range(20):
            own.counters.add_up()
        own.close()

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(delivering, f"delivery {n}") for n in range(4)]
        jobs += [pool.submit(counting, f"counter {n}") for n in range(2)]
        for job in jobs:
            job.result(60)
    assert ledger.counters.add_up()

    report = ledger.queries.report(import_id)
    assert report is not None
    assert changes_of(ledger) == {"applied": report.applied, "dead": report.dead}
    assert report.applied + report.dead == customers
    assert ledger.counters.tallies()["calls"] == {("capillary", "", "2xx"): customers}


def test_of_many_buckets_those_that_came_first_are_told_apart(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket keeps its own counter for good, and those beyond the bound share one."""
    monkeypatch.setattr(counters, "MOST_BUCKETS", 2)
    for app in ("m", "z", "a", "m"):
        change = replace(change_of(f"{next(_number)}"), connection="gupshup", bucket=app)
        imported(ledger, change)
        tasks = ledger.queue.claim(Bucket("gupshup", app), 1, app, 60)
        ledger.queue.settle(app, [settlement(task, Applied(), ledger.now()) for task in tasks])
        assert ledger.counters.add_up()

    found = ledger.counters.tallies()["calls"]

    assert found == {("gupshup", "m", "2xx"): 2, ("gupshup", "z", "2xx"): 1, ("gupshup", "other", "2xx"): 1}


_number = count()


def test_honoured_opt_outs_are_counted_by_how_long_they_took(ledger: Ledger) -> None:
    """Each opt-out that is applied, once, from when the person said it; neither opt-ins nor what is dead."""
    imported(ledger, change_of("1"), change_of("2", "OPTIN"))
    deliver(ledger)
    imported(ledger, change_of("3"))
    deliver(ledger, NO)
    assert ledger.counters.add_up()
    assert ledger.counters.add_up()

    found = ledger.counters.tallies()

    ((labels, count),) = found["honour_seconds"].items()
    assert (labels[0], count) == ("capillary", 1)
    assert labels[2] in {*map(str, HONOUR_SECONDS), "+Inf"}
    assert found["honour_milliseconds"].keys() == {labels[:2]}


def test_what_a_worker_notes_is_what_would_be_summed_up(ledger_url: str, clock: Clock) -> None:
    """So no settled change is read again at the end of a run; and the numbers are those of the changes themselves."""
    ledger, now = Ledger(ledger_url, clock=clock), clock()
    ago = (0, -30, 59, 60, 61, 3_600, 100 * 86_400, 900 * 86_400)  # a future one, bounds, and one that is historic
    optouts = [replace(change_of(str(who)), effective_at=now - seconds * 1_000_000) for who, seconds in enumerate(ago)]
    imported(ledger, *optouts, change_of("in", "OPTIN"))
    deliver(ledger)
    imported(ledger, change_of("unchanged"))
    deliver(ledger, Unchanged())

    def work(tx: Connection) -> int:
        seen = 0
        rows = tx.execute(select(outcome_log.c.at, outcome_log.c.change_ids, outcome_log.c.state, outcome_log.c.tally))
        for at, ids, state, tally in rows.all():
            summed = plain_rows(tx.execute(counters._SUMS, {"numbers": orjson.loads(ids), "at": at}))
            if state != "applied":
                summed = [("capillary", None, 0, 0, sum(count for *_, count in summed))]
            others = [count for _, rule, *_, count in summed if rule is None]
            noted = {tuple(one[:3]): tuple(one[3:]) for one in orjson.loads(tally)}
            assert noted.pop(("capillary", None, 0), (0, 0))[1] == sum(others)
            assert noted == {tuple(one[:3]): tuple(one[3:]) for one in summed if one[1] is not None}
            seen += len(noted)
        return seen

    assert ledger.database.read(work) == 3
    ledger.close()


def test_how_many_waited_an_hour_ago_is_known_after_an_hour(ledger_url: str) -> None:
    """By whichever process looks, for as long as it is asked every ten minutes; old samples are removed."""
    clock = Clock()
    first, second = Ledger(ledger_url, clock=clock), Ledger(ledger_url, clock=clock)
    found = []
    for number in range(30):
        asked = first if number % 2 else second
        found.append(asked.counters.an_hour_ago({"capillary": number}).get("capillary"))
        asked.counters.an_hour_ago({"capillary": 7_000})
        clock.forward(600)
    assert found == [None] * 6 + list(range(24))
    assert first.counters.tallies() == {}
    assert first.counters.an_hour_ago({"infobip": 1}) == {}
    first.close()
    second.close()
