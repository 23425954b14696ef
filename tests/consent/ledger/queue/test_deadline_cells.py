"""Cells hold what customer tasks say, after any interleaving, on both databases, and two settlements do not wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Barrier, Event, Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from consent.change import ConsentChange
from consent.deadlines.forecast import QUARTER
from consent.ledger.dead_letters import DeadLetterFilter
from consent.ledger.ledger import Ledger
from consent.ledger.queue.tasks import CustomerTask
from consent.outcome import Applied, Outcome, PermanentFailure, Retry
from tests.support.clock import Clock
from tests.support.examples import examples
from tests.support.ledgers import BUCKET, change_of, imported, recorded, run_of, settlement

TABLES = "noop_changes, slots, changes, customer_tasks, imports, targets, attempts, dead_letters, deadline_cells"


def new_change(
    ledger: Ledger, who: str, hours_ago: float = 1, action: str = "OPTOUT", slot: str = "EMAIL"
) -> ConsentChange:
    """What a person said so long ago."""
    return replace(change_of(who, action, slot=slot), effective_at=round(ledger.now() - hours_ago * 3_600_000_000))


def total(ledger: Ledger) -> int:
    """How many customers the cells hold."""
    return sum(cell.targets for cells in ledger.deadlines.open_cells().values() for cell in cells)


steps = st.tuples(
    st.sampled_from(["import", "import", "events", "claim", "settle", "bury", "put off", "lose", "replay", "compact"]),
    st.lists(
        st.tuples(st.sampled_from("1234"), st.sampled_from((0.5, 3, 30, 2000)), st.sampled_from(["OPTOUT", "OPTIN"])),
        min_size=1,
        max_size=3,
    ),
)


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(steps, min_size=2, max_size=14))
def test_cells_are_what_a_count_says(ledger: Ledger, clock: Clock, played: list[tuple[str, list]]) -> None:
    """Whatever is imported, claimed, settled, lost or replayed, in whatever order."""
    empty(ledger)
    play = Play(ledger, clock, run_of(ledger, f"run {clock()}"))
    for number, (step, rows) in enumerate(played):
        clock.forward(60)
        play.step(step, str(number), rows)
        assert ledger.deadlines.wrong_cells() == 0
    compact(ledger)
    assert ledger.deadlines.wrong_cells() == 0


@dataclass
class Play:
    """One interleaving, and what is under lease in it."""

    ledger: Ledger
    clock: Clock
    run: str
    claims: list[tuple[str, list[CustomerTask]]] = field(default_factory=list)

    def step(self, step: str, token: str, rows: list) -> None:
        """Do one thing."""
        ledger = self.ledger
        changes = [new_change(ledger, who, ago, action, slot) for who, ago, action in rows for slot in ("EMAIL", "SMS")]
        match step:
            case "import":
                imported(ledger, *changes)
            case "events":
                ledger.intake.accept_events(self.run, changes, [])
            case "claim":
                self.claims.append((token, ledger.queue.claim(BUCKET, 2, token, 60)))
            case "replay":
                ledger.dead_letters.replay(ledger.dead_letters.find(DeadLetterFilter()), who="ann", why="-")
            case "lose":
                self.clock.forward(120)
            case "compact":
                compact(ledger)
            case _:
                self.settle(_OUTCOMES[step])

    def settle(self, outcome: Outcome) -> None:
        """Settle what was claimed last, whether its lease is lost or not."""
        if self.claims:
            token, tasks = self.claims.pop()
            later = self.ledger.now() + 1_000_000
            self.ledger.queue.settle(token, [settlement(one, outcome, self.ledger.now(), later) for one in tasks])


_OUTCOMES = {"settle": Applied(), "bury": PermanentFailure("404", "gone"), "put off": Retry("500", "busy", counts=True)}


def empty(ledger: Ledger) -> None:
    """Remove everything."""

    def work(tx) -> None:
        for table in TABLES.split(", "):
            tx.execute(text(f"DELETE FROM {table}"))

    ledger.database.write(work)


def compact(ledger: Ledger) -> None:
    """Add up now, whenever that was done last."""
    ledger.deadlines._compacted = float("-inf")
    ledger.deadlines.compact()


def test_a_fault_is_found_and_put_right(ledger: Ledger) -> None:
    """Someone changed the counts by hand: counting anew says so and puts them right."""
    imported(ledger, new_change(ledger, "1"), new_change(ledger, "2", 5))
    ledger.database.write(lambda tx: tx.execute(text("UPDATE deadline_cells SET targets = 7 WHERE rule = 'gmail-48h'")))
    assert ledger.deadlines.wrong_cells() > 0
    ledger.deadlines.rebuild_cells()

    assert ledger.deadlines.wrong_cells() == 0
    assert total(ledger) == 2


def test_a_cell_is_a_quarter_of_an_hour_of_one_rule(ledger: Ledger) -> None:
    """Two that are due together are in one cell; an opt-in is in a lane of its own, without a rule."""
    imported(
        ledger,
        new_change(ledger, "1"),
        new_change(ledger, "2"),
        new_change(ledger, "3", 2, slot="SMS"),
        new_change(ledger, "4", 2, "OPTIN"),
    )
    cells = ledger.deadlines.open_cells()[BUCKET]
    due = (ledger.now() + 47 * 3_600_000_000) // QUARTER

    assert [(cell.lane, cell.rule, cell.targets) for cell in cells] == [
        (1, "gmail-48h", 2),
        (1, "internal-72h", 1),
        (3, "none", 1),
    ]
    assert cells[0].quarter in {due, due + 1}


def test_nothing_is_counted_before_it_is_published(ledger: Ledger) -> None:
    """A file that has not been read whole has no customer tasks."""
    recorded(ledger, new_change(ledger, "1"))
    assert total(ledger) == 0


def test_two_settle_customers_of_one_cell_at_once(ledger: Ledger) -> None:
    """Each in its own transaction, again and again: no deadlock, no lost count."""
    imported(ledger, *(new_change(ledger, str(number)) for number in range(60)))
    claims = [(f"t{n}", ledger.queue.claim(BUCKET, 10, f"t{n}", 60)) for n in range(6)]
    start, failed = Barrier(3), []

    def settle(mine: list) -> None:
        start.wait()
        try:
            for token, tasks in mine:
                for task in tasks:
                    ledger.queue.settle(token, [settlement(task, Applied(), ledger.now())])
                compact(ledger)
        except Exception as error:  # noqa: BLE001 - what a thread raises is lost
            failed.append(error)

    threads = [Thread(target=settle, args=(claims[n::3],)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert total(ledger) == 0
    assert ledger.deadlines.wrong_cells() == 0


@pytest.mark.parametrize("done", [lambda ledger: ledger.deadlines.rebuild_cells(), compact])
def test_adding_up_beside_a_writer_loses_nothing(ledger: Ledger, done: Callable[[Ledger], None]) -> None:
    """While others import and settle."""
    stop = Event()

    def add_up() -> None:
        while not stop.wait(0.005):
            done(ledger)

    thread = Thread(target=add_up)
    thread.start()
    for number in range(8):
        imported(ledger, new_change(ledger, str(number)), new_change(ledger, f"b{number}", 20))
        tasks = ledger.queue.claim(BUCKET, 1, f"t{number}", 60)
        ledger.queue.settle(f"t{number}", [settlement(task, Applied(), ledger.now()) for task in tasks])
    stop.set()
    thread.join()

    assert ledger.deadlines.wrong_cells() == 0
    assert total(ledger) == 8
