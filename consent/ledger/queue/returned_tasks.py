"""What becomes of customer tasks when their changes have been settled: done, due again, or put off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, delete, select, update

from consent.change import Action, Lane
from consent.ledger.dialects.statements import UpdateEach, among, bulk, plain_rows, portions
from consent.ledger.queue.enqueue import deadline_term, lane_term, rule_term
from consent.ledger.queue.tasks import IN_DOUBT, CustomerTask, Settlement
from consent.ledger.schema import changes, customer_tasks, slots
from consent.outcome import State


def return_tasks(tx: Connection, settlements: Sequence[Settlement], settled: set[int], now: int) -> None:
    """Give back the leases: a task with nothing left is done, one with a fresh word is due, others wait."""
    left = left_of(tx, [one.task.target_id for one in settlements], settled)
    done = [one.task.target_id for one in settlements if one.task.target_id not in left]
    for some in portions(done):
        tx.execute(delete(customer_tasks).where(among(customer_tasks.c.target_id, some)))
    given_back = [_given_back(one, left[one.task.target_id], now) for one in settlements if one.task.target_id in left]
    bulk(tx).update_each(_GIVE_BACK, given_back)


def withhold_optins(tx: Connection, tasks: Sequence[CustomerTask], now: int) -> list[CustomerTask]:
    """Return the tasks that have opt-outs, with these alone; give back the others, in the lanes of their opt-ins.

    A task stays in the lane of an opt-out that a newer opt-in has superseded. One whose opt-outs a fuse holds would be
    claimed again and again, and others would never be: it is kept from it until the fuse is reset or the pause ends.
    """
    kept, others = [], []
    for task in tasks:
        outs = tuple(change for change in task.changes if change.action is Action.OPTOUT)
        withheld = frozenset(change.id for change in task.changes if change.action is Action.OPTIN)
        if outs:
            kept.append(replace(task, changes=outs, withheld=task.withheld | withheld))
        else:
            others.append(Settlement(task, {}, tried=False))
    left = left_of(tx, [one.task.target_id for one in others if one.task.withheld], set())
    stuck = {whose for whose, its in left.items() if min(lane for _, lane, *_ in its) <= Lane.BULK_OPTOUT}
    for some in portions(sorted(stuck)):
        aside = update(customer_tasks).where(among(customer_tasks.c.target_id, some))
        tx.execute(aside.values(waiting=2, lease_token=None))
    if free := [one for one in others if one.task.target_id not in stuck]:
        return_tasks(tx, free, set(), now)
    return kept


_Left = tuple[int, int, int, str]
"""A change that is still to be delivered: its number, lane, deadline, and the rule of this."""


def left_of(tx: Connection, numbers: Sequence[int], settled: set[int]) -> dict[int, list[_Left]]:
    """Return what is still to be delivered to these targets, and how urgent it is; mostly that is nothing."""
    newest = select(slots.c.newest_id)
    found = [
        number
        for some in portions(numbers)
        for (number,) in plain_rows(tx.execute(newest.where(among(slots.c.target_id, some))))
        if number not in settled
    ]
    left: dict[int, list[_Left]] = defaultdict(list)
    facts = select(changes.c.target_id, changes.c.id, lane_term, deadline_term, rule_term)
    for some in portions(found):
        query = facts.where(among(changes.c.id, some), changes.c.state == State.PENDING.value)
        for whose, *change in plain_rows(tx.execute(query)):
            left[whose].append((change[0], change[1], change[2], change[3]))
    return left


def _given_back(one: Settlement, left: Sequence[_Left], now: int) -> dict[str, Any]:
    claimed = {change.id for change in one.task.changes} | one.task.withheld
    fresh = any(change_id not in claimed for change_id, *_ in left)
    _, deadline, rule = min((lane > Lane.BULK_OPTOUT, deadline, rule) for _, lane, deadline, rule in left)
    until = max(now if fresh else max(now, one.put_off_until), one.in_doubt_until)
    return {
        "whose": one.task.target_id,
        "urgency": min(lane for _, lane, *_ in left),
        "due": deadline,
        "by": rule,
        "ready": int(until <= now),
        "until": until,
        "more": int(one.tried),
        "holder": IN_DOUBT if one.in_doubt_until > now else None,
    }


_GIVE_BACK = UpdateEach(
    table="customer_tasks",
    types={
        "whose": "bigint",
        "urgency": "smallint",
        "due": "bigint",
        "by": "text",
        "ready": "smallint",
        "until": "bigint",
        "more": "int",
        "holder": "text",
    },
    values="lane = {urgency}, deadline = {due}, rule = {by}, waiting = {ready}, next_at = {until}, "
    "tries = tries + {more}, lease_token = {holder}, resend = 0",
    where="target_id = {whose}",
)
