"""A pause holds back what it names and nothing else, and changes no final state."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from bench.consent.claims import fill
from consent.change import Action, Bucket, Lane
from consent.ledger.ledger import Ledger
from consent.ledger.queue.claim import open_lanes
from consent.ledger.queue.tasks import Settlement
from consent.outcome import Applied, Retry
from tests.support.clock import Clock
from tests.support.examples import POSTGRESQL_IN_PROOFS, examples
from tests.support.ledgers import BUCKET, change_of, counts, deliver, imported, settlement
from tests.support.query_plans import log_statements, plans, reads_whole

OTHER = Bucket("capillary", "other")


def pause(ledger: Ledger, *, optins: bool = False, bucket: str | None = None) -> bool:
    """Pause the connection, or a part of it; return whether that is new."""
    return ledger.pauses.pause("capillary", bucket, only_optins=optins, who="tester", why="a test")[1]


def resume(ledger: Ledger, *, optouts: bool = False, bucket: str | None = None) -> int:
    """End pauses; return how many have ended."""
    return len(ledger.pauses.resume("capillary", bucket, only_optouts=optouts, who="tester", why="tested"))


def lanes(ledger: Ledger, bucket: Bucket = BUCKET) -> tuple[Lane, ...]:
    """Return what of a bucket may be claimed."""
    return ledger.database.read(lambda tx: open_lanes(tx, bucket))


@POSTGRESQL_IN_PROOFS
def test_nothing_of_a_paused_connection_is_claimed(ledger: Ledger) -> None:
    """It stays pending, is due again at once when it is resumed, and is then delivered."""
    import_id = imported(ledger, change_of("1"), change_of("2", "OPTIN"))
    pause(ledger)

    assert ledger.queue.due(BUCKET, 10) == 0
    assert deliver(ledger) == []
    assert counts(ledger, import_id) == {"pending": 2}

    resume(ledger)

    assert ledger.queue.due(BUCKET, 10) == 2
    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT"), ("2", "EMAIL|BULK OPTIN")]


def test_opt_outs_go_on_while_opt_ins_are_paused(ledger: Ledger) -> None:
    """Of a customer with both, the opt-out is told alone, and the opt-in when it is resumed."""
    imported(ledger, change_of("1", slot="a"), change_of("1", "OPTIN", 1, slot="b"), change_of("2", "OPTIN"))
    pause(ledger, optins=True)

    assert deliver(ledger) == [("1", "a OPTOUT")]
    assert (ledger.queue.due(BUCKET, 10), deliver(ledger)) == (0, [])

    resume(ledger)

    assert sorted(deliver(ledger)) == [("1", "b OPTIN"), ("2", "EMAIL|BULK OPTIN")]


@POSTGRESQL_IN_PROOFS
def test_an_opt_out_that_is_tried_again_waits_for_its_time(ledger: Ledger, clock: Clock) -> None:
    """The opt-in that is withheld from it does not bring it up at once, again and again."""
    imported(ledger, change_of("1", slot="a"), change_of("1", "OPTIN", 1, slot="b"))
    pause(ledger, optins=True)
    [task] = ledger.queue.claim(BUCKET, 1, "token", 60)
    later = ledger.now() + 30_000_000
    ledger.queue.settle("token", [settlement(task, Retry("503", "down", counts=True), ledger.now(), later)])

    assert ledger.queue.due(BUCKET, 10) == 0

    clock.forward(31)

    assert deliver(ledger) == [("1", "a OPTOUT")]


@POSTGRESQL_IN_PROOFS
def test_an_opt_out_that_an_opt_in_has_superseded_holds_nothing_up(ledger: Ledger) -> None:
    """Its customer still stands in the lane of opt-outs: he is passed over, and who comes after him is told."""
    many = [str(number) for number in range(1, 6)]
    imported(ledger, *(change_of(who, minute=0) for who in many))
    imported(ledger, *(change_of(who, "OPTIN", 5) for who in many))
    imported(ledger, change_of("9", minute=9))
    pause(ledger, optins=True)

    assert deliver(ledger, limit=2) == [("9", "EMAIL|BULK OPTOUT")]
    assert ledger.queue.due(BUCKET, 10) == 0

    resume(ledger)

    assert sorted(deliver(ledger)) == [(who, "EMAIL|BULK OPTIN") for who in many]


@POSTGRESQL_IN_PROOFS
def test_an_older_opt_in_that_was_paused_never_overtakes(ledger: Ledger) -> None:
    """What was said meanwhile supersedes it; it is never sent."""
    first = imported(ledger, change_of("1", "OPTIN", 1))
    pause(ledger, optins=True)
    imported(ledger, change_of("1", "OPTOUT", 2))

    assert deliver(ledger) == [("1", "EMAIL|BULK OPTOUT")]

    resume(ledger)

    assert deliver(ledger) == []
    assert counts(ledger, first) == {"superseded": 1}


def test_one_bucket_is_paused_and_its_neighbours_go_on(ledger: Ledger) -> None:
    """A pause of one bucket is not the connection's; the connection's is that of each of its buckets."""
    imported(ledger, change_of("1"))
    pause(ledger, bucket="other")

    assert lanes(ledger, OTHER) == ()
    assert ledger.queue.due(BUCKET, 10) == 1

    pause(ledger)

    assert ledger.queue.due(BUCKET, 10) == 0
    assert resume(ledger, bucket="other") == 1
    assert lanes(ledger, OTHER) == ()
    assert resume(ledger) == 1
    assert ledger.queue.due(BUCKET, 10) == 1


def test_saying_it_twice_changes_nothing(ledger: Ledger) -> None:
    """Each that changes something is in the audit log once; a whole pause is not narrowed by one of opt-ins."""
    assert [pause(ledger, optins=True), pause(ledger, optins=True)] == [True, False]
    assert [pause(ledger), pause(ledger, optins=True)] == [True, False]
    assert lanes(ledger) == ()
    assert [resume(ledger, optouts=True), resume(ledger, optouts=True)] == [1, 0]
    assert [resume(ledger), resume(ledger)] == [1, 0]
    assert [one.what for one in reversed(ledger.queries.audit_page())] == [
        "paused the opt-ins of capillary",
        "paused capillary",
        "resumed opt-outs of capillary",
        "resumed the opt-ins of capillary",
    ]
    assert {(one.who, one.why) for one in ledger.queries.audit_page()} == {("tester", "a test"), ("tester", "tested")}


def test_a_probe_takes_no_opt_in_while_these_are_paused(ledger: Ledger) -> None:
    """An open breaker is probed by an opt-out, or not at all."""
    imported(ledger, change_of("1", "OPTIN"))
    pause(ledger, optins=True)

    assert ledger.queue.claim(BUCKET, 1, "token", 60, suspects=(7,)) == []

    imported(ledger, change_of("2"))
    [task] = ledger.queue.claim(BUCKET, 1, "token", 60, suspects=(7,))

    assert [change.action for change in task.changes] == [Action.OPTOUT]


def test_a_claim_reads_no_customer_that_is_paused(ledger: Ledger) -> None:
    """With twenty thousand opt-ins paused, what finds the one opt-out goes through the index."""
    imported(ledger, change_of("x"))
    ledger.database.write(lambda tx: fill(tx, 10, 20_000))
    ledger.database.write(lambda tx: tx.execute(text("UPDATE customer_tasks SET lane = 3 WHERE target_id > 9")))
    ledger.database.write(lambda tx: tx.execute(text("UPDATE changes SET action = 'OPTIN' WHERE id > 9")))
    if not ledger.database.is_sqlite:
        ledger.database.write(lambda tx: tx.execute(text("ANALYZE")))
    pause(ledger, optins=True)
    statements = log_statements(ledger.database.engine)

    assert ledger.queue.due(BUCKET, 100) == 1
    assert len(ledger.queue.claim(BUCKET, 50, "token", 60.0)) == 1
    whole = [plan for plan in plans(ledger.database.engine, list(statements), by_key=True) if reads_whole(plan)]
    assert whole == []


_persons: Iterator[int] = count(1_000)
slots, minutes = st.sampled_from("ab"), st.integers(0, 5)
steps = st.one_of(
    st.tuples(st.just("say"), slots, st.sampled_from(Action), minutes),
    st.tuples(st.sampled_from(["pause", "pause_optins", "resume", "resume_optouts", "claim", "claim", "settle"])),
)


class Pausing:
    """Does each step to the ledger, and looks at what is told to the provider."""

    def __init__(self, ledger: Ledger, *, retries: bool) -> None:
        self.ledger, self.retries, self.who = ledger, retries, str(next(_persons))
        self.newest: dict[str, tuple[int, bool]] = {}
        self.sent: dict[str, tuple[int, bool]] = {}
        self.under_way: list[Settlement] = []
        self.paused = ""

    def say(self, slot: str, action: Action, minute: int) -> None:
        """Record a change and let it be due."""
        change = change_of(self.who, action, minute, slot, number=str(next(_persons)))
        imported(self.ledger, change)
        rank = (change.effective_at, action is Action.OPTOUT)
        self.newest[slot] = max(rank, self.newest.get(slot, rank))

    def pause(self) -> None:
        """Pause all of it."""
        pause(self.ledger)
        self.paused = "all"

    def pause_optins(self) -> None:
        """Pause opt-ins, unless all is paused."""
        pause(self.ledger, optins=True)
        self.paused = self.paused or "opt-ins"

    def resume(self) -> None:
        """Resume all of it."""
        resume(self.ledger)
        self.paused = ""

    def resume_optouts(self) -> None:
        """Resume opt-outs, if these are paused."""
        resume(self.ledger, optouts=True)
        self.paused = self.paused and "opt-ins"

    def claim(self) -> None:
        """Tell the provider what is due and not paused; its answer is under way."""
        tasks = self.ledger.queue.claim(BUCKET, 10, "token", 60)
        for change in (change for task in tasks for change in task.changes):
            assert self.paused != "all"
            assert not self.paused or change.action is Action.OPTOUT
            rank = (change.effective_at, change.action is Action.OPTOUT)
            assert rank >= self.sent.get(change.slot, rank)
            self.sent[change.slot] = rank
        outcome = Retry("503", "down", counts=True) if self.retries else Applied()
        self.under_way += [settlement(task, outcome, self.ledger.now()) for task in tasks]

    def settle(self) -> None:
        """Write down the answers."""
        self.ledger.queue.settle("token", self.under_way)
        self.under_way = []

    def finish(self) -> None:
        """Resume, and deliver all that is left."""
        self.resume()
        self.settle()
        self.retries = False
        for _ in range(4):
            self.claim()
            self.settle()


@POSTGRESQL_IN_PROOFS
@pytest.mark.parametrize("retries", [False, True])
@given(st.lists(steps, max_size=14))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(40))
def test_a_pause_changes_no_final_state(ledger: Ledger, retries: bool, steps: list[tuple]) -> None:  # noqa: FBT001
    """Whatever is paused, resumed and under way when, each slot ends with its newest change, told in this order."""
    world = Pausing(ledger, retries=retries)
    for name, *more in steps:
        getattr(world, name)(*more)
    world.finish()

    assert world.sent == world.newest
    assert ledger.queue.left(BUCKET, 10) == 0
