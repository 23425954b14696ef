"""Calls that the provider may still carry out: until then nothing else is sent to their targets.

A provider may do what it was asked long after the connection broke or the worker gave up. Were a newer change sent
meanwhile, the older one could land last. Where the connection broke, here or behind a proxy (502), the same changes may
be sent again soon: whichever call lands last, the provider holds the same. So an opt-out whose call was cut does not
wait for the doubt to end. Where the worker or a proxy (504) gave up waiting, a second call beside the first would only
be one more for a provider that is slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import BigInteger, Column, Connection, Table, Text, delete, select, update

from consent.ledger.dialects.statements import UpdateEach, among, bulk, portions
from consent.ledger.queue.tasks import IN_DOUBT, WITNESS, CustomerTask, Settlement
from consent.ledger.schema import NUMBER, customer_tasks, metadata

calls_in_doubt = Table(
    "calls_in_doubt",
    metadata,
    Column("target_id", NUMBER, primary_key=True, autoincrement=False),
    Column("until", BigInteger, nullable=False),
    Column("change_ids", Text, nullable=False),
)
"""Until when a call of a target may land (microseconds), and which changes may be sent before.

A row outlives the customer task: the call may land after the same changes have been sent again and were applied.
"""


def note_in_doubt(tx: Connection, settlements: Sequence[Settlement]) -> None:
    """Write down which calls may still land, and what they were for: the last ones of these that were to write.

    Where an earlier call is in doubt that was for anything else, as one of a worker that had lost its lease, nothing
    may be repeated: of the two, the older could land last. The rows of the customer tasks are locked before these.
    """
    rows = []
    for one in settlements:
        calls = [attempt for attempt in one.attempts if attempt.purpose != WITNESS and one.may_repeat]
        ids = orjson.dumps(sorted(calls[-1].change_ids) if calls else ()).decode()
        rows.append((one.task.target_id, one.in_doubt_until, ids))
    bulk(tx).insert(calls_in_doubt, ("target_id", "until", "change_ids"), sorted(rows), _RENEWED)


_RENEWED = (
    "ON CONFLICT (target_id) DO UPDATE SET change_ids = CASE "
    "WHEN excluded.change_ids = calls_in_doubt.change_ids THEN excluded.change_ids ELSE '[]' END, until = CASE "
    "WHEN excluded.until > calls_in_doubt.until THEN excluded.until ELSE calls_in_doubt.until END"
)


Doubt = tuple[int, str]
"""Until when a call may land, and the changes that may be sent before, as JSON."""


def set_in_doubt_aside(
    tx: Connection, tasks: Sequence[CustomerTask], doubts: Mapping[int, Doubt], now: int
) -> tuple[list[CustomerTask], list[int]]:
    """Return the tasks that may be sent, and the targets of those that carry more than may be repeated.

    `doubts` are those about their targets. What may not be sent is kept from being claimed until the doubt is over; the
    rows of all must be locked.
    """
    sent: list[CustomerTask] = []
    held: list[dict[str, Any]] = []
    over: list[int] = []
    for task in tasks:
        until, ids = doubts.get(task.target_id, (0, ""))
        if until <= now:
            over += [task.target_id] if until else []
            sent.append(task)
        elif not {change.id for change in task.changes}.issubset(orjson.loads(ids)):
            held.append({"whose": task.target_id, "until": until, "holder": IN_DOUBT})
        else:
            sent.append(task)
    for some in portions(over):
        tx.execute(delete(calls_in_doubt).where(among(calls_in_doubt.c.target_id, some)))
    bulk(tx).update_each(_HOLD, held)
    return sent, [one["whose"] for one in held]


_HOLD = UpdateEach(
    table="customer_tasks",
    types={"whose": "bigint", "until": "bigint", "holder": "text"},
    values="waiting = 0, next_at = {until}, lease_token = {holder}",
    where="target_id = {whose}",
)


def mark_in_doubt(tx: Connection, numbers: Sequence[int], until: int) -> None:
    """Leave alone for a while what a delivery held that was lost: which calls it made is not known."""
    for some in portions(numbers):
        left = update(customer_tasks).where(among(customer_tasks.c.target_id, some))
        tx.execute(left.values(lease_token=IN_DOUBT, next_at=until))


def forget_doubts(tx: Connection, before: int) -> int:
    """Delete the calls that cannot be under way any more since a moment (microseconds); return how many.

    What others are about to renew is left to them: else each could wait for the other.
    """
    over = select(calls_in_doubt.c.target_id).where(calls_in_doubt.c.until < before).with_for_update(skip_locked=True)
    return tx.execute(delete(calls_in_doubt).where(calls_in_doubt.c.target_id.in_(over))).rowcount
