"""Saying it again gives no more time, and what was in time and late is counted for good, on both databases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, text

from consent.change import ConsentChange
from consent.ledger.ledger import Ledger
from consent.ledger.queue import inherited_deadlines
from consent.ledger.schema import changes, customer_tasks
from consent.outcome import Applied, PermanentFailure
from tests.support.clock import Clock
from tests.support.examples import POSTGRESQL_IN_PROOFS, examples
from tests.support.ledgers import change_of, deliver, imported

HOUR = 3_600_000_000


def new_change(ledger: Ledger, hours_ago: float, action: str = "OPTOUT", who: str = "1") -> ConsentChange:
    """What a person said so long ago."""
    return replace(change_of(who, action, slot="EMAIL"), effective_at=round(ledger.now() - hours_ago * 3_600_000_000))


def task(ledger: Ledger) -> tuple[int, str] | None:
    """The deadline of the one customer, and its rule."""
    found = ledger.database.read(
        lambda tx: tx.execute(select(customer_tasks.c.deadline, customer_tasks.c.rule)).first()
    )
    return None if found is None else (found[0], found[1])


@POSTGRESQL_IN_PROOFS
def test_a_repeated_click_gives_no_more_time(ledger: Ledger, clock: Clock) -> None:
    """Neither while the first one waits, nor after it has become a dead letter."""
    imported(ledger, new_change(ledger, 10))
    due = clock() + 38 * HOUR
    clock.forward(3600)
    imported(ledger, new_change(ledger, 0))
    assert task(ledger) == (due, "gmail-48h")
    deliver(ledger, PermanentFailure("404", "gone"))
    assert task(ledger) is None
    clock.forward(3600)
    imported(ledger, new_change(ledger, 0))

    assert task(ledger) == (due, "gmail-48h")


@POSTGRESQL_IN_PROOFS
def test_a_kept_deadline_is_not_inherited(ledger: Ledger, clock: Clock) -> None:
    """Once the provider holds it, a new opt-out has a clock of its own."""
    imported(ledger, new_change(ledger, 10))
    deliver(ledger)
    clock.forward(3600)
    imported(ledger, new_change(ledger, 0))

    assert task(ledger) == (clock() + 48 * HOUR, "gmail-48h")


def test_what_was_taken_back_is_not_inherited(ledger: Ledger, clock: Clock) -> None:
    """Out, in, out: the clock starts with the last one, whether they come one by one or in one file."""
    imported(ledger, new_change(ledger, 10))
    imported(ledger, new_change(ledger, 5, "OPTIN"))
    imported(ledger, new_change(ledger, 1))
    out = select(changes.c.due_at).where(changes.c.state == "pending")
    assert ledger.database.read(lambda tx: tx.execute(out).scalars().all()) == [clock() + 47 * HOUR]
    imported(
        ledger, *(new_change(ledger, ago, action, "2") for ago, action in ((10, "OPTOUT"), (5, "OPTIN"), (1, "OPTOUT")))
    )

    assert set(ledger.database.read(lambda tx: tx.execute(out).scalars().all())) == {clock() + 47 * HOUR}


def test_only_what_may_be_inherited_is_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file in which thousands first opt in and then out, nothing: that takes a tenth of its import."""
    read: list[int] = []
    inherit = inherited_deadlines._inherit

    def listening(tx: Connection, concerned: dict[int, int | None], *rest: Any) -> None:
        read.append(len(concerned))
        inherit(tx, concerned, *rest)

    monkeypatch.setattr(inherited_deadlines, "_inherit", listening)
    imported(ledger, *(new_change(ledger, ago, action) for ago, action in ((10, "OPTIN"), (5, "OPTOUT"))))
    imported(ledger, new_change(ledger, 3, "OPTIN"))
    assert not read

    imported(ledger, *(new_change(ledger, ago, who="2") for ago in (10, 5)))
    assert read == [1]
    imported(ledger, new_change(ledger, 3, who="2"))
    assert read == [1, 1]


def test_an_older_one_that_comes_late_moves_the_deadline(ledger: Ledger, clock: Clock) -> None:
    """The person had asked for it before; the newer opt-out stands, and is due when the older one was."""
    imported(ledger, new_change(ledger, 1))
    imported(ledger, new_change(ledger, 20))

    assert task(ledger) == (clock() + 28 * HOUR, "gmail-48h")
    assert ledger.deadlines.wrong_cells() == 0


@dataclass
class Slot:
    """What a slot's opt-out inherits, kept by hand: effective, action and due of the newest, whether it is unmet."""

    newest: tuple[int, str, int] | None = None
    unmet: bool = False
    confirmed_at: int = 0

    def say(self, since: int, action: str, due: int) -> None:
        """A change arrives, alone."""
        if self.newest is None:
            self.newest, self.unmet = (since, action, due), True
            return
        held, held_action, held_due = self.newest
        wins = (since, action == "OPTOUT") >= (held, held_action == "OPTOUT")
        both = action == held_action == "OPTOUT" and self.unmet
        if wins and action == held_action and not self.unmet and since <= self.confirmed_at:
            self.newest = since, action, due  # the provider holds it since later than that
        elif wins:
            self.newest, self.unmet = (since, action, min(due, held_due) if both else due), True
        elif both:
            self.newest = (held, held_action, min(due, held_due))


steps = st.one_of(
    st.tuples(st.just("say"), st.sampled_from((0, 1, 5, 20, 47)), st.sampled_from(("OPTOUT", "OPTOUT", "OPTIN"))),
    st.tuples(st.sampled_from(("apply", "bury")), st.just(0), st.just("")),
)


@settings(max_examples=examples(8), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(steps, min_size=2, max_size=9))
def test_the_earliest_deadline_that_was_not_kept_counts(ledger: Ledger, clock: Clock, played: list) -> None:
    """In whatever order opt-outs and opt-ins arrive, are delivered, or die."""
    for table in ("slots", "changes", "customer_tasks", "targets", "dead_letters", "noop_changes"):
        ledger.database.write(lambda tx, table=table: tx.execute(text(f"DELETE FROM {table}")))
    slot = Slot()
    for step, ago, action in played:
        clock.forward(61)
        if step == "say":
            imported(ledger, new_change(ledger, ago, action))
            slot.say(clock() - ago * HOUR, action, clock() - ago * HOUR + 48 * HOUR)
        else:
            task_was_there = task(ledger) is not None
            deliver(ledger, Applied() if step == "apply" else PermanentFailure("404", "gone"))
            if step == "apply" and slot.unmet and task_was_there:
                slot.unmet, slot.confirmed_at = False, clock()
        standing = select(changes.c.due_at).where(
            changes.c.action == "OPTOUT", changes.c.state.in_(("pending", "dead"))
        )
        found = ledger.database.read(lambda tx, query=standing: tx.execute(query).scalars().all())
        if slot.newest is not None and slot.unmet and slot.newest[1] == "OPTOUT":
            assert slot.newest[2] in found


def test_what_was_in_time_is_counted_for_good(ledger: Ledger, clock: Clock) -> None:
    """By connection and rule, with how long it took; an opt-in and what died are not in it."""
    imported(
        ledger, new_change(ledger, 10, who="1"), new_change(ledger, 50, who="2"), new_change(ledger, 5000, who="3")
    )
    imported(ledger, new_change(ledger, 10, "OPTIN", who="4"))
    deliver(ledger)
    imported(ledger, new_change(ledger, 1, who="5"))
    deliver(ledger, PermanentFailure("404", "gone"))
    ledger.deadlines.compact()
    records = {(one.rule, one.met, one.late, one.historic): one for one in ledger.deadlines.records()}

    assert set(records) == {("gmail-48h", 1, 1, 0), ("historic", 0, 0, 1)}
    kept = records["gmail-48h", 1, 1, 0]
    assert (kept.connection, kept.minutes(0.5), kept.minutes(1.0)) == ("capillary", 1024, 4096)
    clock.forward(31 * 86_400)
    assert ledger.deadlines.records() == []
