"""The terms of SQL by which `consent.ledger.merge` is said of many changes at once.

They are said of `changes` or of `noop_changes`, each beside its slot: both are decided by the same SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Table,
    and_,
    bindparam,
    case,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)

from consent.change import Action, Origin
from consent.ledger.schema import slots, targets
from consent.outcome import State
from consent.reassert import Reassert

if TYPE_CHECKING:
    from consent.ledger.intake.imports import ReassertTerms

# Written out, and not as parameters, so that two windows with this order are one to the database, and one sort.
_OPTOUT: ColumnElement[str] = literal_column(f"'{Action.OPTOUT.value}'")
_ONE: ColumnElement[int] = literal_column("1")
_NOUGHT: ColumnElement[int] = literal_column("0")

SETTLED_WELL = (State.APPLIED.value, State.UNCHANGED.value)


def rank(
    since: ColumnElement[int], action: ColumnElement[str], arrival: ColumnElement[int]
) -> tuple[ColumnElement[int], ...]:
    """Return the terms by which changes are ordered: `merge.rank`."""
    return since, case((action == _OPTOUT, _ONE), else_=_NOUGHT), arrival


def is_not_older(table: Table) -> ColumnElement[bool]:
    """Say that a change that arrives now is not older than its slot's newest change: a tie is the later arrival's."""
    own = rank(table.c.effective_at, table.c.action, _NOUGHT)[:2]
    return tuple_(*own) >= tuple_(*rank(slots.c.newest_at, slots.c.newest_action, _NOUGHT)[:2])


def own_slot(table: Table) -> ColumnElement[bool]:
    """Say that a slot is that of a change."""
    return and_(slots.c.target_id == table.c.target_id, slots.c.slot == table.c.slot)


def is_fresh(table: Table, terms: ReassertTerms) -> ColumnElement[bool]:
    """Say that it is fresh (`merge.is_fresh`), by a time that is not the export's."""
    return and_(_has_fresh_time(table, terms), ~_is_exports(table.c.effective_at, terms))


def is_always_sent(table: Table, terms: ReassertTerms) -> ColumnElement[bool]:
    """Say that it is an opt-out of a connection whose opt-outs are all sent."""
    return and_(table.c.action == Action.OPTOUT.value, _has_way(Reassert.ALWAYS, table.c.target_id, terms))


def is_stamped(table: Table, terms: ReassertTerms) -> ColumnElement[bool]:
    """Say that it would be fresh but for its time, which is the export's."""
    return and_(_has_fresh_time(table, terms), _is_exports(table.c.effective_at, terms))


def _has_fresh_time(table: Table, terms: ReassertTerms) -> ColumnElement[bool]:
    own = table.c.own_time == 1
    if "origin" in table.c:
        own = or_(own, table.c.origin == Origin.EVENT.value)
    later = func.coalesce(table.c.effective_at > slots.c.confirmed_at, true())
    out = table.c.action == Action.OPTOUT.value
    return and_(out, own, later, ~_has_way(Reassert.NEVER, table.c.target_id, terms))


def _is_exports(moment: ColumnElement[int], terms: ReassertTerms) -> ColumnElement[bool]:
    first, last = (bindparam(name, at, BigInteger()) for name, at in terms.given.items())
    return moment.between(first, last)


def _has_way(way: Reassert, target_id: ColumnElement[int], terms: ReassertTerms) -> ColumnElement[bool]:
    """Say that a target's connection has this way; the target is only asked where connections differ."""
    rules = terms.rules
    others = {name: one for name, one in rules.by_connection.items() if one is not rules.default}
    by_default = rules.default is way
    if not others:
        return true() if by_default else false()
    connection = select(targets.c.connection).where(targets.c.id == target_id).scalar_subquery()
    apart = [name for name, one in others.items() if (one is way) is not by_default]
    return connection.not_in(apart) if by_default else connection.in_(apart)
