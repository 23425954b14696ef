"""The effects of an import before anything of it is merged: which slots it would change, and from what to what.

The order is that of `merge_terms.rank`. Only the best change of each slot counts, and only if it is newer than what the
slot holds; all that the import would merge is looked at: its own changes, its no-ops, and what it takes over from files
that broke off. Nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal, or_, select, tuple_, union_all, update

from consent.change import Action
from consent.guards.findings import Returning
from consent.identifiers.masking import masked
from consent.ledger.dialects.statements import among, plain_numbers
from consent.ledger.intake.reassign import IS_KEPT_BACK
from consent.ledger.merge_terms import rank
from consent.ledger.schema import changes, imports, noop_changes, pending_duplicates, slots, targets
from consent.outcome import State
from consent.times import from_micros

_IN, _OUT = Action.OPTIN.value, Action.OPTOUT.value
_WAITING = changes.c.state.in_((State.PENDING.value, State.HELD.value))
_FACTS = ("target_id", "slot", "action", "effective_at", "own_time", "line")
_BEHIND = 2**61
"""No-ops have arrived after every change."""
_EXAMPLES = 3
_NEVER = "\x01"
"""An escape that no slot holds: else one with a backslash would be an error to PostgreSQL."""


def _stated(tx: Connection, import_id: str, only: Action | None = None, *, repeated_optouts: bool = True) -> Any:
    """Return all that an import would merge as a subquery, or only one action of it, numbered in order of arrival.

    Its opt-outs that are no-ops can be left out: they say what was so when they were read.
    """
    own = select(changes.c.id.label("number"), *(changes.c[name] for name in _FACTS))
    parts = [own.where(changes.c.import_id == import_id, _WAITING)]
    if _has_any(tx, noop_changes, import_id):
        number = (noop_changes.c.number + _BEHIND).label("number")
        noops = select(number, *(noop_changes.c[name] for name in _FACTS))
        noops = noops.where(noop_changes.c.import_id == import_id)
        parts.append(noops if repeated_optouts else noops.where(noop_changes.c.action == _IN))
    if _has_any(tx, pending_duplicates, import_id):
        noted = own.join(pending_duplicates, pending_duplicates.c.change_id == changes.c.id)
        noted = noted.join(imports, imports.c.id == changes.c.import_id)
        parts.append(noted.where(pending_duplicates.c.import_id == import_id, IS_KEPT_BACK))
    if only is not None:
        parts = [part.where(part.selected_columns.action == only.value) for part in parts]
    return (union_all(*parts) if len(parts) > 1 else parts[0]).subquery("import_rows")


def _has_any(tx: Connection, table: Any, import_id: str) -> bool:
    return tx.execute(select(literal(1)).where(table.c.import_id == import_id).limit(1)).first() is not None


def _own_slot(stated: Any) -> ColumnElement[bool]:
    return and_(slots.c.target_id == stated.c.target_id, slots.c.slot == stated.c.slot)


def _wins(stated: Any) -> ColumnElement[bool]:
    """Say that it is newer than what its slot holds, which must be something."""
    own = rank(stated.c.effective_at, stated.c.action, stated.c.number)
    return tuple_(*own) > tuple_(*rank(slots.c.newest_at, slots.c.newest_action, slots.c.newest_id))


def _over(stated: Any, action: str, *held: str | None) -> ColumnElement[bool]:
    """Say that it has this action, and would stand in a slot that holds one of these (None: nothing)."""
    over: list[ColumnElement[bool]] = [slots.c.newest_id.is_(None)] if None in held else []
    over += [and_(slots.c.newest_action == one, _wins(stated)) for one in held if one is not None]
    return and_(stated.c.action == action, or_(*over))


def first_look(tx: Connection, import_id: str) -> tuple[int, int]:
    """Return how many opt-outs would stand over an opt-in or nothing, and how many opt-ins over an opt-out.

    Several of one slot are counted as they are, so it is never fewer than `returning` and the other find.
    """
    stated = _stated(tx, import_id, repeated_optouts=False)
    counts = (
        func.count().filter(_over(stated, _OUT, _IN, None)),
        func.count().filter(_over(stated, _IN, _OUT)),
    )
    optouts, optins = tx.execute(select(*counts).select_from(stated).outerjoin(slots, _own_slot(stated))).one()
    return optouts, optins


def new_optouts_by_connection(tx: Connection, import_id: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Return how many slots of each connection would be opted out, with examples without names."""
    best = _best(tx, import_id, _OUT, _IN, None)
    return {name: (count, _examples(tx, best, name)) for name, count, _ in _by_connection(tx, best)}


def returning(tx: Connection, import_id: str) -> list[Returning]:
    """Return how many slots of each connection would be opted in again that stand at an opt-out."""
    best = _best(tx, import_id, _IN, _OUT)
    return [
        Returning(name, count, undated, _examples(tx, best, name)) for name, count, undated in _by_connection(tx, best)
    ]


def returning_by_wider(tx: Connection, import_id: str, connections: Sequence[str]) -> list[Returning]:
    """Return how many slots that stand at an opt-out an import would lift by newer opt-ins of wider slots.

    The ledger merges each slot by itself; the worker lifts what an opt-in covers. The match is by the slots' texts
    (`SuppressionRules.overlaps`), and rather finds too many than too few.
    """
    stated, held = _stated(tx, import_id, Action.OPTIN), slots.alias("held")
    all_of_it = held.c.slot.like(stated.c.slot.concat(":%"), escape=_NEVER)
    with_any = and_(
        stated.c.slot.contains('""'), held.c.slot.like(func.replace(stated.c.slot, '""', "%"), escape=_NEVER)
    )
    older = and_(held.c.newest_action == _OUT, held.c.newest_at < stated.c.effective_at, held.c.slot != stated.c.slot)
    facts = (targets.c.connection, held.c.target_id, held.c.slot, targets.c.address, held.c.newest_at.label("held_at"))
    was = literal(_OUT).label("held_action")
    more = (func.min(stated.c.own_time).label("own_time"), func.min(stated.c.line).label("line"))
    since = func.max(stated.c.effective_at).label("effective_at")
    query = select(*facts, *more, since, literal(_IN).label("action"), was).join_from(
        stated, held, stated.c.target_id == held.c.target_id
    )
    query = query.join(targets, targets.c.id == held.c.target_id)
    query = query.where(targets.c.connection.in_(connections), older, or_(all_of_it, with_any))
    lifted = query.group_by(*facts).subquery("lifted")
    undated = func.count().filter(lifted.c.own_time == 0)
    counted = select(lifted.c.connection, func.count(), undated).group_by(lifted.c.connection)
    found = []
    for name, count, without in tx.execute(counted.order_by(lifted.c.connection)):
        some = select(lifted).where(lifted.c.connection == name).order_by(lifted.c.line, lifted.c.target_id)
        examples = tuple(_example(row) for row in tx.execute(some.limit(_EXAMPLES)))
        found.append(Returning(name, count, without, examples))
    return found


def covers_by_text(wide: str, slot: str) -> bool:
    """Say whether an opt-in of a wide slot would lift what another slot holds, as `returning_by_wider` looks for it."""
    return slot.startswith(f"{wide}:") or (
        slot != wide and re.fullmatch(".*".join(map(re.escape, wide.split('""'))), slot, re.DOTALL) is not None
    )


def slots_changed(tx: Connection, import_id: str, *ways: Action | None) -> list[int]:
    """Return how many slots would be opted in that are not, or opted out, if all (None) or one action is merged.

    Most files say one thing of a slot. So those of which more is said are found first, and only these are ranked.
    """
    stated = _stated(tx, import_id)
    more = select(stated.c.target_id).group_by(stated.c.target_id, stated.c.slot).having(func.count() > 1)
    several = plain_numbers(tx.execute(more.limit(RANKED_APART + 1)))
    if len(several) > RANKED_APART:
        return [_ranked(tx, import_id, only) for only in ways]
    changed = or_(_over(stated, _IN, _OUT, None), _over(stated, _OUT, _IN, None))
    counts = [func.count().filter(stated.c.action == action, changed) for action in (_IN, _OUT)]
    query = select(*counts).select_from(stated).outerjoin(slots, _own_slot(stated))
    counted: Any = tx.execute(query.where(~among(stated.c.target_id, several)) if several else query).one()
    optins, optouts = counted
    found = {None: optins + optouts, Action.OPTIN: optins, Action.OPTOUT: optouts}
    return [found[only] + (_ranked(tx, import_id, only, several) if several else 0) for only in ways]


RANKED_APART = 50_000
"""Slots of which a file says several things: where there are more, all that it says is ranked in one sort."""


def _ranked(tx: Connection, import_id: str, only: Action | None, several: Sequence[int] | None = None) -> int:
    """Count the same, ranking all that is said of each slot, or of those of these targets."""
    found = 0
    for action, other in ((Action.OPTIN, _OUT), (Action.OPTOUT, _IN)):
        if only in (None, action):
            best = _best(tx, import_id, action.value, other, None, only=only, several=several)
            found += tx.execute(select(func.count()).select_from(best)).scalar_one()
    return found


def merged_to(tx: Connection) -> tuple[Any, ...]:
    """Return what is another value as soon as anything has been merged, or some import's changes have come to count."""
    names = ("changes", "recorded", "steps", "merged_to", "noops_merged_to")
    by_state = select(imports.c.state, func.count(), *(func.sum(imports.c[name]) for name in names))
    return tuple(tuple(row) for row in tx.execute(by_state.group_by(imports.c.state).order_by(imports.c.state)))


def standing(tx: Connection, import_id: str) -> int:
    """Return how many changes of an import that has one of each slot are newer than what its slot holds."""
    stated = _stated(tx, import_id)
    wins = or_(slots.c.newest_id.is_(None), _wins(stated))
    query = select(func.count()).select_from(stated).outerjoin(slots, _own_slot(stated)).where(wins)
    return tx.execute(query).scalar_one()


def _best(
    tx: Connection,
    import_id: str,
    action: str,
    *held: str | None,
    only: Action | None = None,
    several: Sequence[int] | None = None,
) -> Any:
    """Return, as a subquery, the changes that are the best of their slots, have this action and would stand there.

    All are ranked, in one sort: PostgreSQL believes an import that it has not analysed to have one row, and would hold
    each of those that matter against all others in turn.
    """
    stated = _stated(tx, import_id, only)
    order = [part.desc() for part in rank(stated.c.effective_at, stated.c.action, stated.c.number)]
    place = func.row_number().over(partition_by=(stated.c.target_id, stated.c.slot), order_by=order).label("place")
    all_stated = select(*stated.c, place)
    ranked = (all_stated if several is None else all_stated.where(among(stated.c.target_id, several))).subquery(
        "ranked"
    )
    best = (
        select(*ranked.c).outerjoin(slots, _own_slot(ranked)).where(ranked.c.place == 1, _over(ranked, action, *held))
    )
    return best.subquery("best")


def _by_connection(tx: Connection, best: Any) -> list[tuple[str, int, int]]:
    undated = func.count().filter(best.c.own_time == 0)
    query = select(targets.c.connection, func.count(), undated).join(best, best.c.target_id == targets.c.id)
    rows = tx.execute(query.group_by(targets.c.connection).order_by(targets.c.connection)).all()
    return [(row[0], row[1], row[2]) for row in rows]


def _examples(tx: Connection, best: Any, connection: str) -> tuple[str, ...]:
    """Return the first few with their lines, named by the last characters only."""
    held = (slots.c.newest_at.label("held_at"), slots.c.newest_action.label("held_action"))
    query = select(best, targets.c.address, *held).join(targets, targets.c.id == best.c.target_id)
    query = query.outerjoin(slots, _own_slot(best)).where(targets.c.connection == connection)
    rows = tx.execute(query.order_by(best.c.line, best.c.number).limit(_EXAMPLES))
    return tuple(_example(row) for row in rows)


def _example(row: Any) -> str:
    who = f"line {row.line}: {masked(orjson.loads(row.address))} {row.slot}"
    before = "" if row.held_at is None else f", and is {row.held_action} since {_minute(row.held_at)}"
    return f"{who} would be {row.action} since {_minute(row.effective_at)}{before}"


def _minute(micros: int) -> str:
    return f"{from_micros(micros):%Y-%m-%d %H:%M}"


def standing_optouts(tx: Connection, connection: str, enough: int) -> int:
    """Return how many slots of a connection hold an opt-out, counted no further than `enough`."""
    return _count(tx, _slots_of(connection).where(slots.c.newest_action == _OUT), enough)


def known_slots(tx: Connection, connection: str | None, enough: int) -> int:
    """Return how many slots of a connection, or of all (None), are known, counted no further than `enough`."""
    all_slots = select(literal(1)).select_from(slots)
    return _count(tx, all_slots if connection is None else _slots_of(connection), enough)


def _slots_of(connection: str) -> Select[Any]:
    own = select(literal(1)).select_from(slots).join(targets, targets.c.id == slots.c.target_id)
    return own.where(targets.c.connection == connection)


def _count(tx: Connection, query: Select[Any], enough: int) -> int:
    return tx.execute(select(func.count()).select_from(query.limit(enough).subquery())).scalar_one()


UNDO = "undo"
"""The kind of an import that undoes another one."""


_UNDONE_AGAIN = 16
"""How often what one slot holds at one time may have been undone, each time a microsecond later."""


def date_behind_undoing(tx: Connection, import_id: str) -> None:
    """Date the changes of a corrected file that repeat the time of an undone change right behind what undid it."""
    other, undoing = changes.alias("undoing"), imports.alias("undoing_import")
    same = and_(other.c.target_id == changes.c.target_id, other.c.slot == changes.c.slot)
    since = changes.c.effective_at
    behind = other.c.effective_at.between(since + 1, since + _UNDONE_AGAIN)
    found = select(func.max(other.c.effective_at)).join_from(other, undoing, undoing.c.id == other.c.import_id)
    last = found.where(same, behind, undoing.c.kind == UNDO).correlate(changes).scalar_subquery()
    mine = update(changes).where(changes.c.import_id == import_id, last.is_not(None))
    tx.execute(mine.values(effective_at=last + 1))
