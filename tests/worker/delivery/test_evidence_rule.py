"""The rule of evidence in simulated time: of an outage, however it is seen, no call counts that began in it."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.change import Action
from consent.ledger.dialects.statements import NEW, bulk
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import Attempt, ClaimedChange, CustomerTask
from consent.ledger.schema import attempts
from consent.outcome import Healthy, Unavailable
from tests.support.clock import Clock
from worker.delivery import breaker, evidence
from worker.delivery.breaker import Observations

SECOND, FAULT = 1_000_000, 20_000_000
CUSTOMERS, PROCESSES = 4, 3
DOWN = Unavailable("bad gateway")
_numbers, _order = itertools.count(1, 100), itertools.count()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, Clock]]:
    """One ledger for all examples: each has its own customers and its own bucket."""
    clock = Clock()
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('evidence')}/ledger.db", clock=clock)
    ledger.maintenance.migrate()
    yield ledger, clock
    ledger.close()


@dataclass
class Process:
    """One process: what it has seen in its window, and how the bucket was when that began."""

    ledger: Ledger
    bucket: str
    seen: Observations = field(default_factory=Observations)

    def __post_init__(self) -> None:
        """Begin the first window."""
        self.before = self.ledger.breakers.health_of(self.bucket)

    def end_window(self) -> None:
        """Write down what the window has shown, and begin another one."""
        breaker.conclude(self.ledger, self.before, self.seen)
        self.before = self.ledger.breakers.health_of(self.bucket)
        self.seen.begin_window()


@dataclass
class Simulation:
    """Customers whose calls follow their plans, in simulated time; what a call counts for is noted by its target."""

    ledger: Ledger
    clock: Clock
    plans: list[list[tuple[int, int, int, bool, int]]]
    is_served: bool
    counted: Counter[int] = field(default_factory=Counter)
    in_outage: Counter[int] = field(default_factory=Counter)
    events: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take customers and a bucket that no other example has."""
        self.start, self.first = self.clock.micros + 1_000 * SECOND, next(_numbers)
        self.processes = [Process(self.ledger, f"bucket-{self.first}") for _ in range(PROCESSES)]

    def at(self, moment: int, act: Callable[[], None]) -> None:
        """Do something at this moment, after what was to be done then already."""
        heapq.heappush(self.events, (moment, next(_order), act))

    def run(self) -> None:
        """Let everybody be called until all plans are done."""
        for customer in range(CUSTOMERS):
            self.begin(customer, 0, 0)
        while self.events:
            moment, _, act = heapq.heappop(self.events)
            self.clock.micros = self.start + moment
            act()

    def begin(self, customer: int, number: int, now: int) -> None:
        """Begin a customer's next call some time after this moment."""
        if number < len(self.plans[customer]):
            wait, takes, n, lucky, late = self.plans[customer][number]
            at, ends = now + wait, now + wait + takes
            served, process = ends < FAULT or (at < FAULT and lucky), self.processes[n]
            ids = (self.first,)
            call = Attempt(self.first + customer, self.start + at, takes // 1_000, "write", None, "x", ids)
            self.at(ends, lambda: self.answered(call, process, served=served))
            self.at(ends + late, lambda: self.settled(call, process, served=served))
            self.at(ends + late, lambda: self.begin(customer, number + 1, ends + late))

    def answered(self, call: Attempt, process: Process, *, served: bool) -> None:
        """Let a process see an answer."""
        health = Healthy() if served or self.is_served else DOWN
        process.seen.note(health, (call.target_id,), served=(call.target_id,) if served else (), at=call.at)

    def settled(self, call: Attempt, process: Process, *, served: bool) -> None:
        """Find out whether a failed call counts, and write it down."""
        if served:
            return
        task = CustomerTask(call.target_id, {}, (ClaimedChange(self.first, "", "EMAIL", Action.OPTOUT, 0, {}),))
        known = (self.ledger, process.before, process.seen, task)
        counts = evidence.is_proven(*known, call.at) if self.is_served else evidence.is_its_own(*known, call, DOWN)
        self.counted[call.target_id] += counts
        self.in_outage[call.target_id] += counts and call.at >= self.start + FAULT
        _write(self.ledger, call)


calls = st.tuples(
    st.integers(0, 8 * SECOND),  # the wait before it
    st.integers(1, 30 * SECOND),  # how long it takes
    st.integers(0, PROCESSES - 1),
    st.booleans(),  # whether it is served, if it is under way when the fault begins
    st.integers(0, SECOND),  # until it is settled
)


@settings(deadline=None)
@given(
    plans=st.lists(st.lists(calls, max_size=8), min_size=CUSTOMERS, max_size=CUSTOMERS),
    windows=st.lists(st.tuples(st.integers(0, 90 * SECOND), st.integers(0, PROCESSES - 1)), max_size=30),
    is_served=st.booleans(),
)
def test_no_call_that_began_in_an_outage_counts(
    world: tuple[Ledger, Clock], plans: list[list[tuple[int, int, int, bool, int]]], windows, *, is_served: bool
) -> None:
    """Slow calls are served long after it began, three processes settle late, and windows end at any moment.

    Against a customer at most the one call counts that was under way when it began.
    """
    simulation = Simulation(*world, plans, is_served)
    for moment, n in windows:
        simulation.at(moment, simulation.processes[n].end_window)

    simulation.run()

    assert not +simulation.in_outage
    assert all(times <= 1 for times in simulation.counted.values())


def _write(ledger: Ledger, call: Attempt) -> None:
    row = (call.target_id, call.at, call.milliseconds, call.purpose, call.status, call.code, f"[{call.change_ids[0]}]")
    columns = ("target_id", "at", "milliseconds", "purpose", "status", "code", "change_ids")
    ledger.database.write(lambda tx: bulk(tx).insert(attempts, columns, [row], NEW))
