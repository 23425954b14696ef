"""Within a lane the customer whose opt-out is due first is called first, whenever it became due."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select

from consent.change import Action, ConsentChange
from consent.ledger.dialects.locks import MergeLock
from consent.ledger.dialects.sqlite import SQLiteBulk
from consent.ledger.dialects.statements import _upsert_of
from consent.ledger.ledger import Ledger
from consent.ledger.queue.enqueue import enqueue
from consent.ledger.schema import changes, customer_tasks, targets
from consent.outcome import Applied
from tests.support.examples import examples
from tests.support.ledgers import BUCKET, change_of, imported, settlement


def claimed(ledger: Ledger, count: int = 10) -> list[str]:
    """Claim, and return who is called, in order."""
    return [task.address["user_id"] for task in ledger.queue.claim(BUCKET, count, "token", 60)]


def new_change(ledger: Ledger, who: str, hours_ago: float, action: str = "OPTOUT") -> ConsentChange:
    """What a person said so long ago."""
    return replace(change_of(who, action), effective_at=round(ledger.now() - hours_ago * 3_600_000_000))


def test_the_earliest_deadline_goes_first(ledger: Ledger) -> None:
    """A file of today that holds what was said three days ago goes before the file of yesterday."""
    imported(ledger, new_change(ledger, "1", 1), new_change(ledger, "2", 2))
    imported(ledger, new_change(ledger, "3", 70), new_change(ledger, "4", 0.5))

    assert claimed(ledger) == ["3", "2", "1", "4"]


def test_an_opt_in_does_not_hide_when_the_opt_out_is_due(ledger: Ledger) -> None:
    """The customer stands where the opt-out stands; once that is settled, he stands in line for the opt-in."""
    imported(ledger, new_change(ledger, "1", 5), replace(new_change(ledger, "1", 900, "OPTIN"), slot="b"))
    deadlines = select(customer_tasks.c.deadline, customer_tasks.c.rule, customer_tasks.c.lane)
    [before] = ledger.database.read(lambda tx: tx.execute(deadlines).all())
    [task] = ledger.queue.claim(BUCKET, 1, "token", 60)
    done = settlement(task, Applied(), ledger.now(), 0)
    out = {one.id: Applied() for one in task.changes if one.action is Action.OPTOUT}
    ledger.queue.settle("token", [replace(done, outcomes=out)])
    [after] = ledger.database.read(lambda tx: tx.execute(deadlines).all())

    assert (before.rule, before.lane) == ("gmail-48h", 1)
    assert (after.rule, after.lane) == ("none", 3)
    assert after.deadline != before.deadline


def test_tasks_that_are_made_change_by_change_are_those_of_the_changes_together(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite makes a task of each change and renews it with the next, PostgreSQL looks for the first of each target."""
    if not ledger.database.is_sqlite:
        pytest.skip("PostgreSQL renews no row twice in one statement")
    for seed in range(examples(200)):
        made = []
        for one_by_one in (True, False):
            monkeypatch.setattr(SQLiteBulk, "upserts_parts", one_by_one)
            _upsert_of.cache_clear()
            made.append(ledger.database.write(lambda tx, seed=seed: tasks_of_any_changes(tx, random.Random(seed))))
        assert made[0] == made[1], seed
    monkeypatch.undo()
    _upsert_of.cache_clear()


def tasks_of_any_changes(tx: Connection, odds: random.Random) -> list[Any]:
    """Enqueue changes of four targets, of which some have tasks already; return the tasks."""
    for table in (changes, customer_tasks, targets):
        tx.execute(delete(table))
    for whose in range(1, 5):
        names = {"target_key": bytes([whose]), "connection": "c", "bucket": "", "address": "{}"}
        tx.execute(insert(targets).values(id=whose, **names))
        if odds.random() < 0.6:
            waiting = odds.randrange(3)
            state = {"waiting": waiting, "lease_token": odds.choice((None, "t")) if waiting != 1 else None}
            urgency = {"lane": odds.randrange(4), "deadline": odds.randrange(4), "rule": "old", "next_at": 7}
            tx.execute(insert(customer_tasks).values(target_id=whose, connection="c", bucket="", **state, **urgency))
    for number in range(1, odds.randrange(2, 16)):
        due_at = odds.choice((None, 0, 1, 2, 3))
        facts = {"target_id": odds.randrange(1, 5), "state": odds.choice(("pending", "pending", "applied"))}
        facts |= {"action": odds.choice(("OPTOUT", "OPTIN")), "origin": odds.choice(("bulk", "event"))}
        facts |= {"due_at": due_at, "rule": None if due_at is None else f"rule {number}", "recorded_at": -(10**12)}
        other = {"dedupe_key": bytes([number]), "import_id": "i", "slot": "s", "value": "", "details": "{}"}
        tx.execute(insert(changes).values(id=number, effective_at=0, **facts, **other))
    enqueue(MergeLock.acquire(tx), range(1, 16), now=9)
    return list(tx.execute(select(customer_tasks).order_by(customer_tasks.c.target_id)))
