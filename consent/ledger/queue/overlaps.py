"""Where one slot means a part of what another means: which of their changes holds, and what cannot be told.

Someone may be opted out of everything, and of one channel alone. What holds for a slot is then the newest of its own
change and of those whose slots cover it. The order is the one of `consent.ledger.merge`, in whatever order they arrive.

Recording holds a change only against its own slot's register. What wider and narrower slots say meets here, under the
target's lease and before anything is sent: an older change is superseded by the newer one of a wider slot, and an
opt-in to a part of what stays opted out becomes a dead letter, even if it was settled well before the opt-out came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, select, update

from consent.change import Action
from consent.ledger.dialects.statements import NEW, UpdateEach, among, bulk, plain_rows
from consent.ledger.merge import Register, Version, rank
from consent.ledger.queue.outcome_log import note_dead, note_state, still_pending
from consent.ledger.queue.tasks import CustomerTask
from consent.ledger.schema import changes, dead_letters, slots
from consent.outcome import PermanentFailure, State


@dataclass(frozen=True, slots=True)
class Overlap:
    """How the slots of a target overlap at a provider whose writes can touch several of them.

    `covers` says whether the first slot means all that the second means; every slot covers itself. `meets` says whether
    they have anything in common. `inexpressible` is what becomes of an opt-in to a part of what is opted out.
    """

    covers: Callable[[str, str], bool]
    meets: Callable[[str, str], bool]
    inexpressible: PermanentFailure


@dataclass(frozen=True, slots=True)
class Resolved:
    """What becomes of the newest changes of a target's slots, by slot.

    `overruled` are those that a newer change of a wider slot has overtaken, each with that change. `cut_off` are
    opt-ins to a part of what an older change opts out of: the provider cannot be told of them. `mixed` are opt-ins in
    which an opt-out stands that is newer: what the provider holds there is not one thing.
    """

    overruled: Mapping[str, Version] = field(default_factory=dict)
    cut_off: frozenset[str] = frozenset()
    mixed: frozenset[str] = frozenset()


def resolve(newest: Mapping[str, Version], overlap: Overlap) -> Resolved:
    """Hold the newest changes of a target's slots against each other."""
    overruled: dict[str, Version] = {}
    for slot, change in newest.items():
        newer = [other for wide, other in newest.items() if rank(other) > rank(change) and overlap.covers(wide, slot)]
        if newer:
            overruled[slot] = max(newer, key=rank)
    stands = {slot: change for slot, change in newest.items() if slot not in overruled}
    opted_out = {slot: change for slot, change in stands.items() if change.action is Action.OPTOUT}
    cut_off, mixed = set(), set()
    for slot, change in stands.items():
        if change.action is Action.OPTIN:
            met = [other for other_slot, other in opted_out.items() if overlap.meets(slot, other_slot)]
            if any(rank(other) < rank(change) for other in met):
                cut_off.add(slot)
            elif met:
                mixed.add(slot)
    return Resolved(overruled, frozenset(cut_off), frozenset(mixed))


def resolve_overlaps(tx: Connection, tasks: Sequence[CustomerTask], overlap: Overlap, now: int) -> list[CustomerTask]:
    """Settle what needs no call any more; return the tasks that are left, each with what its slots say."""
    held = _registers(tx, [task.target_id for task in tasks])
    sent_now = {change.id for task in tasks for change in task.changes}
    newest = {whose: {slot: one.newest for slot, one in its.items() if one.newest} for whose, its in held.items()}
    found = {whose: resolve(each, overlap) for whose, each in newest.items()}
    for whose, sent in _unheld(tx, found, held, sent_now, overlap).items():
        overruled = {slot: by for slot, by in found[whose].overruled.items() if slot not in sent}
        found[whose] = replace(found[whose], overruled=overruled)
    _supersede(tx, found, newest, now)
    _bury(tx, [newest[whose][slot].arrival for whose, one in found.items() for slot in one.cut_off], overlap, now)
    left = [_what_is_left(task, found[task.target_id], newest[task.target_id]) for task in tasks]
    return [task for task in left if task.changes]


def _registers(tx: Connection, numbers: Sequence[int]) -> dict[int, dict[str, Register]]:
    facts = ("newest_at", "newest_action", "newest_id", "confirmed", "confirmed_at")
    registers = select(slots.c.target_id, slots.c.slot, *(slots.c[name] for name in facts))
    found: dict[int, dict[str, Register]] = defaultdict(dict)
    for whose, slot, since, action, number, *confirmed in plain_rows(
        tx.execute(registers.where(among(slots.c.target_id, numbers)))
    ):
        found[whose][slot] = Register(Version(since, Action(action), number), *confirmed)
    return found


def _unheld(
    tx: Connection,
    found: Mapping[int, Resolved],
    held: Mapping[int, Mapping[str, Register]],
    sent_now: Collection[int],
    overlap: Overlap,
) -> dict[int, set[str]]:
    """Find opt-outs to send alone: a wider one overtook them that the provider was not told of since, nor is now.

    The wider one may have died, or have been confirmed before someone else lifted it and the person opted out again.
    An opt-out that an opt-in has overtaken as well stays superseded, also one that is no slot's newest any more.
    """
    unheld: dict[int, dict[str, Version]] = {}
    for whose, one in found.items():
        registers = held[whose].values()
        confirmed_at = {each.newest.arrival: each.confirmed_at for each in registers if each.newest and each.confirmed}
        for slot, winner in one.overruled.items():
            change, known = held[whose][slot].newest, confirmed_at.get(winner.arrival)
            if change is None or winner.arrival in sent_now or not change.action is winner.action is Action.OPTOUT:
                continue
            if known is None or change.effective_at > known:
                unheld.setdefault(whose, {})[slot] = change
    opt_ins = _opt_ins(tx, unheld, held)
    return {
        whose: {
            slot
            for slot, change in its.items()
            if not any(at > change.effective_at and overlap.covers(wide, slot) for wide, at in opt_ins[whose])
        }
        for whose, its in unheld.items()
    }


def _opt_ins(
    tx: Connection, numbers: Collection[int], held: Mapping[int, Mapping[str, Register]]
) -> Mapping[int, list[tuple[str, int]]]:
    """Return slot and moment of the opt-ins of targets, without those of files that have not been read whole."""
    opt_ins: dict[int, list[tuple[str, int]]] = defaultdict(list)
    if numbers:
        query = select(changes.c.target_id, changes.c.slot, changes.c.effective_at).where(
            among(changes.c.target_id, list(numbers)),
            changes.c.action == Action.OPTIN.value,
            changes.c.state != State.PENDING.value,  # the pending ones that count are the newest of their slots
        )
        for whose, slot, since in plain_rows(tx.execute(query)):
            opt_ins[whose].append((slot, since))
    for whose in numbers:
        newest = ((slot, one.newest) for slot, one in held[whose].items() if one.newest)
        opt_ins[whose] += [(slot, each.effective_at) for slot, each in newest if each.action is Action.OPTIN]
    return opt_ins


def _supersede(
    tx: Connection, found: Mapping[int, Resolved], newest: Mapping[int, Mapping[str, Version]], now: int
) -> None:
    lost = [
        {"which": newest[whose][slot].arrival, "winner": winner.arrival, "now": now}
        for whose, one in found.items()
        for slot, winner in one.overruled.items()
    ]
    losing = still_pending(tx, [row["which"] for row in lost])
    bulk(tx).update_each(_SUPERSEDE, lost)
    note_state(tx, State.SUPERSEDED, sorted(losing), now)


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
    alive = (among(changes.c.id, ids), changes.c.state.in_(_ALIVE))
    dying = tx.execute(select(changes.c.id).where(*alive)).scalars().all()
    tx.execute(update(changes).where(*alive).values(**_dead(overlap.inexpressible), settled_at=now))
    bulk(tx).insert(dead_letters, ("change_id",), [(number,) for number in dying], NEW)
    note_dead(tx, dying, now)


_ALIVE = (State.PENDING.value, State.APPLIED.value, State.UNCHANGED.value)


def _dead(why: PermanentFailure) -> dict[str, Any]:
    return {"state": State.DEAD.value, "code": why.code, "reason": why.reason}


def _what_is_left(task: CustomerTask, found: Resolved, newest: Mapping[str, Version]) -> CustomerTask:
    settled = found.cut_off.union(found.overruled)
    left = tuple(
        replace(change, confirms=change.slot not in found.mixed)
        for change in task.changes
        if change.slot not in settled
    )
    return replace(task, changes=left, newest_by_slot=newest)
