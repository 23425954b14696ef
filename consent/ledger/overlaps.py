"""Holding the newest words of a claimed target's slots against each other, where slots overlap at its provider.

Recording holds a word only against its own slot's register. What wider and narrower slots say meets here, under the
target's lease and before anything is sent: an older word is superseded by the newer one of a wider slot, and an opt-in
to a part of what stays opted out becomes a dead letter, even if it was settled well before the opt-out came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select, update

from consent.change import Action
from consent.ledger.bulk import UpdateEach, among, insert_new, plain_rows
from consent.ledger.schema import changes, dead_letters, slots
from consent.ledger.work import CustomerTask
from consent.newest import Word
from consent.outcome import Rejected, State
from consent.overlap import Overlap, Resolved, resolve


def resolve_overlaps(tx: Connection, tasks: Sequence[CustomerTask], overlap: Overlap, now: int) -> list[CustomerTask]:
    """Settle what needs no call any more; return the tasks that are left, each with what its slots say."""
    standing = _standing(tx, [task.target_id for task in tasks])
    found = {whose: resolve(words, overlap) for whose, words in standing.items()}
    _supersede(tx, found, standing, now)
    _bury(tx, [standing[whose][slot].arrival for whose, one in found.items() for slot in one.cut_off], overlap, now)
    left = [_what_is_left(task, found[task.target_id], standing[task.target_id]) for task in tasks]
    return [task for task in left if task.changes]


def _standing(tx: Connection, numbers: Sequence[int]) -> dict[int, dict[str, Word]]:
    registers = select(slots.c.target_id, slots.c.slot, slots.c.newest_at, slots.c.newest_action, slots.c.newest_id)
    found: dict[int, dict[str, Word]] = defaultdict(dict)
    for whose, slot, since, action, number in plain_rows(
        tx.execute(registers.where(among(tx, slots.c.target_id, numbers)))
    ):
        found[whose][slot] = Word(since, Action(action), number)
    return found


def _supersede(
    tx: Connection, found: Mapping[int, Resolved], standing: Mapping[int, Mapping[str, Word]], now: int
) -> None:
    lost = [
        {"which": standing[whose][slot].arrival, "winner": winner.arrival, "now": now}
        for whose, one in found.items()
        for slot, winner in one.overruled.items()
    ]
    _SUPERSEDE.run(tx, lost)


_SUPERSEDE = UpdateEach(
    table="changes",
    types={"which": "bigint", "winner": "bigint", "now": "bigint"},
    values=f"state = '{State.SUPERSEDED.value}', superseded_by = {{winner}}, settled_at = {{now}}",
    where=f"id = {{which}} AND state = '{State.PENDING.value}'",
)


def _bury(tx: Connection, ids: Sequence[int], overlap: Overlap, now: int) -> None:
    """Make dead letters of opt-ins, also of those that were told before an opt-out came that they cannot be told of."""
    if not ids:
        return
    alive = (among(tx, changes.c.id, ids), changes.c.state.in_(_ALIVE))
    dying = tx.execute(select(changes.c.id).where(*alive)).scalars().all()
    tx.execute(update(changes).where(*alive).values(**_dead(overlap.inexpressible), settled_at=now))
    insert_new(tx, dead_letters, ("change_id",), [(number,) for number in dying])


_ALIVE = (State.PENDING.value, State.APPLIED.value, State.UNCHANGED.value)


def _dead(why: Rejected) -> dict[str, Any]:
    return {"state": State.DEAD.value, "code": why.code, "reason": why.reason}


def _what_is_left(task: CustomerTask, found: Resolved, standing: Mapping[str, Word]) -> CustomerTask:
    settled = found.cut_off.union(found.overruled)
    left = tuple(
        replace(change, confirms=change.slot not in found.mixed)
        for change in task.changes
        if change.slot not in settled
    )
    return replace(task, changes=left, standing=standing)
