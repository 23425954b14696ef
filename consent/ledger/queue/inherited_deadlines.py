"""A repeated opt-out inherits the earliest deadline of its slot that was not kept: saying it again gives no more time.

Of the changes that are merged together and the one that the slot's register holds, the newest stands; if it is an
opt-out, it takes over the deadline of every opt-out beside it that no provider holds yet: pending or a dead letter. An
opt-in in between ends that: what was said before it, the person took back. Historic opt-outs have no clock to inherit.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Table, and_, case, func, select

from consent.change import Action, Lane
from consent.deadlines.rules import HISTORIC
from consent.ledger.dialects.statements import UpdateEach, among_given, bulk, plain_rows, portions
from consent.ledger.schema import changes
from consent.outcome import State

_UNMET = (State.PENDING.value, State.DEAD.value)
_FACTS = (changes.c[name] for name in ("id", "target_id", "action", "effective_at", "due_at", "rule", "state"))
_ASKED = select(*_FACTS).where(among_given(changes.c.id, "numbers"))


class _Member(NamedTuple):
    """One of the changes of a slot, as `_ASKED`."""

    id: int
    target_id: int
    action: str
    effective_at: int
    due_at: int | None
    rule: str | None
    state: str


def inherit_deadlines(tx: Connection, merging: Table) -> None:
    """Let the winners inherit; to be called before the others are superseded. `merging` is merge_sql's table."""
    concerned: dict[int, int | None] = dict(plain_rows(tx.execute(_concerned(merging))))
    if not concerned:
        return
    wins: dict[int, bool] = {}
    ids: dict[int, list[int]] = defaultdict(list)
    # All of the chunk is read: without an index, PostgreSQL would go through a list of thousands for each row.
    for best, number, won in plain_rows(tx.execute(_members(merging))):
        if best in concerned:
            ids[best].append(number)
            if number == best:
                wins[best] = won
    for some in portions(list(concerned)):
        _inherit(tx, {best: concerned[best] for best in some}, {best: ids[best] for best in some}, wins)


@cache
def _concerned(merging: Table) -> Select[tuple[int, int]]:
    """Find the slots with two opt-outs or more, that of the register among them: none inherits from an opt-in."""
    over = changes.alias("over")
    unmet = and_(over.c.id == merging.c.over, over.c.action == Action.OPTOUT.value, over.c.state.in_(_UNMET))
    optouts = func.count().filter(merging.c.action == Action.OPTOUT.value) + case((func.max(over.c.id) > 0, 1), else_=0)
    slot = (merging.c.best, merging.c.over)
    return select(*slot).outerjoin(over, unmet).group_by(*slot).having(optouts > 1)


@cache
def _members(merging: Table) -> Select[tuple[int, int, bool]]:
    return select(merging.c.best, merging.c.id, merging.c.wins)


def _inherit(
    tx: Connection,
    concerned: dict[int, int | None],
    ids: dict[int, list[int]],
    wins: dict[int, bool],
) -> None:
    """Let the best of some slots inherit, beside the changes that their registers hold (None: nothing)."""
    asked = [*(number for its in ids.values() for number in its), *(one for one in concerned.values() if one)]
    found = {row[0]: _Member(*row) for row in plain_rows(tx.execute(_ASKED, {"numbers": asked}))}
    heirs: list[dict[str, Any]] = []
    for best, register in concerned.items():
        members = [found[number] for number in (*ids[best], register) if number in found]
        # A register's newest may be a no-op, which has no row here, or, in a dry run, a change that was not copied.
        if winner := found.get(best if wins[best] or register is None else register):
            heirs += _heir(winner, members)
    heirs.sort(key=lambda row: (row["whose"], row["which"]))
    bulk(tx).update_each(_RENEW, heirs)
    soonest = {row["whose"]: row for row in sorted(heirs, key=lambda row: row["due"], reverse=True)}
    bulk(tx).update_each(_RENEW_TASK, [soonest[whose] for whose in sorted(soonest)])


def _heir(winner: _Member, members: list[_Member]) -> list[dict[str, Any]]:
    """Return the winner's new deadline, if it inherits one."""
    if winner.action != Action.OPTOUT.value or winner.state not in _UNMET:
        return []
    taken_back = max((one.effective_at for one in members if one.action == Action.OPTIN.value), default=None)
    mine = None if winner.rule == HISTORIC else winner.due_at
    due = [
        (one.due_at, one.rule)
        for one in members
        if one.due_at is not None
        and one.rule not in {None, HISTORIC}
        and one.action == Action.OPTOUT.value
        and one.state in _UNMET
        and (taken_back is None or one.effective_at >= taken_back)
    ]
    if not due or (mine is not None and min(due)[0] >= mine):
        return []
    return [{"which": winner.id, "whose": winner.target_id, "due": min(due)[0], "by": min(due)[1]}]


_TYPES = {"which": "bigint", "whose": "bigint", "due": "bigint", "by": "text"}
_RENEW = UpdateEach("changes", _TYPES, "due_at = {due}, rule = {by}", "id = {which} AND target_id = {whose}")
# A task that is there already for the winner, which is pending; the tasks of others are made after this.
_RENEW_TASK = UpdateEach(
    "customer_tasks",
    _TYPES,
    "deadline = {due}, rule = {by}",
    f"target_id = {{whose}} AND lane <= {int(Lane.BULK_OPTOUT)} AND deadline > {{due}}",
)
