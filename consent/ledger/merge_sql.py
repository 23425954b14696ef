"""`consent.ledger.merge` for many changes at once, by the database: what it decides there for one, this does in sets.

The changes of a slot that are merged together are ranked, and only the best of them is held against the slot's
register. The others are superseded by it, also those that would have been no-ops if they had been merged before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Executable,
    Insert,
    Integer,
    MetaData,
    Table,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.schema import CreateTable

from consent.change import Action
from consent.ledger.dialects.locks import MergeLock
from consent.ledger.dialects.statements import among, among_given, as_whole, plain_rows, portions
from consent.ledger.intake.imports import ReassertTerms
from consent.ledger.merge_terms import SETTLED_WELL, is_always_sent, is_fresh, is_stamped, own_slot, rank
from consent.ledger.queue.enqueue import enqueue
from consent.ledger.queue.inherited_deadlines import inherit_deadlines
from consent.ledger.queue.outcome_log import note_state
from consent.ledger.schema import REVISION, changes, slots
from consent.outcome import State
from consent.reassert import Reassert, ReassertRules

_ONE: ColumnElement[int] = literal_column("1")
_UNKNOWN = {"confirmed": None, "confirmed_at": None}

_FACTS = ("id", "target_id", "slot", "action", "effective_at", "dedupe_key")
_merging = Table(
    f"merging_{REVISION}",  # behind a pooler, a session with the table of another version may come back
    MetaData(),
    *(Column(name, changes.c[name].type) for name in _FACTS),
    Column("place", Integer),
    Column("best", changes.c.id.type),
    Column("over", changes.c.id.type),
    Column("wins", Boolean),
    Column("confirmed", Boolean),
    Column("fresh", Boolean),
    Column("always", Boolean),
    Column("stamped", Boolean),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)
"""Changes that are merged together, of each slot the `best` at `place` 1.

`over` is the change that the slot's register held; `wins` says that this one is newer, `confirmed` that the provider is
confirmed to hold what it says. The other three are those of ReassertTerms.
"""
_first, _several = _merging.c.place == 1, _merging.c.place > 1
_wins, _loses = and_(_first, _merging.c.wins), and_(_first, ~_merging.c.wins)
_sent = or_(_merging.c.fresh, _merging.c.always)
_now = bindparam("now", type_=BigInteger())

_KINDS = {
    "several": _several,
    "beginning": and_(_first, _merging.c.over.is_(None)),
    "overtaking": and_(_wins, _merging.c.over.is_not(None)),
    "losing": _loses,
    "unchanged": and_(_wins, _merging.c.confirmed, ~_sent),
    "stamped": and_(_wins, _merging.c.confirmed, ~_sent, _merging.c.stamped),
    "spreading": and_(_several, _merging.c.fresh, _merging.c.over.is_not(None)),
    "resending": and_(_loses, _merging.c.fresh),
}
"""What the changes that are merged may be to their slots. Mostly all are of one kind or two, and nothing is done for
the others: each statement would go through all changes, and for a single event cost as much as for thousands."""


def merge_pending(lock: MergeLock, numbers: Sequence[int], *, now: int, reassert: ReassertTerms) -> int:
    """Merge the pending ones of the changes with these numbers into the registers of their slots.

    Those that stay pending win and must be delivered; the others are superseded or unchanged. Returns how many opt-outs
    are unchanged only because their time is the export's. The lock is to be `MergeLock.of_changes` of these.
    """
    tx = lock.tx
    found = _rank_and_compare(tx, numbers, reassert)
    if found["spreading"]:
        _spread_freshness(tx)
        found = _count_kinds(tx)
    if found["several"] or found["overtaking"] or found["losing"]:
        inherit_deadlines(tx, _merging)
    for kind, statement, state in _SETTLING:
        if found[kind] and (rows := plain_rows(tx.execute(statement, {"now": now}))):
            note_state(tx, state, [number for (number,) in rows], now)
    if found["resending"]:
        _resend(lock, now)
    _renew_registers(tx, found)
    return found["stamped"]


def _rank_and_compare(tx: Connection, numbers: Sequence[int], reassert: ReassertTerms) -> Mapping[Any, int]:
    """Hold the changes against their slots, and count of which kinds they are.

    Mostly each is the only one of its slot. To rank all of them would take longer than all else that is done to them,
    so that only the changes of targets are ranked which have several of one slot.
    """
    if (database := tx.dialect.name) not in _CREATE:
        _CREATE[database] = str(CreateTable(_merging, if_not_exists=True).compile(tx))
    tx.exec_driver_sql(_CREATE[database])
    tx.execute(_CLEAR)
    rules = reassert.rules
    comparing, ranking = _comparing(rules.default, *sorted(rules.by_connection.items()))
    tx.execute(comparing, {"numbers": numbers, **reassert.given})
    found = _count_kinds(tx)
    if found["slots"] == found["changes"]:
        return found
    crowded = [whose for (whose,) in plain_rows(tx.execute(_CROWDED))]
    for some in portions(crowded):
        again = [number for (number,) in plain_rows(tx.execute(_TAKE_OUT, {"targets": some}))]
        tx.execute(ranking, {"numbers": again, **reassert.given})
    return _count_kinds(tx)


_CREATE: dict[str, str] = {}  # by database: SQLAlchemy would compile it anew each time
_CLEAR = delete(_merging)
_SLOT = (_merging.c.target_id, _merging.c.slot)
_CROWDED = select(_merging.c.target_id).group_by(*_SLOT).having(func.count() > 1).distinct()
_TAKE_OUT = delete(_merging).where(among_given(_merging.c.target_id, "targets")).returning(_merging.c.id)


@lru_cache(maxsize=16)
def _comparing(default: Reassert, *by_connection: tuple[str, Reassert]) -> tuple[Insert, Insert]:
    """Return what compares changes under these rules as if each were alone, and what ranks and compares them.

    The time of an export is given to both.
    """
    reassert = ReassertTerms(ReassertRules(default, dict(by_connection)))
    own = rank(changes.c.effective_at, changes.c.action, changes.c.id)
    newest = rank(slots.c.newest_at, slots.c.newest_action, slots.c.newest_id)
    slot, newest_first = (changes.c.target_id, changes.c.slot), [part.desc() for part in own]
    places = (
        func.row_number().over(partition_by=slot, order_by=newest_first),
        func.first_value(changes.c.id).over(partition_by=slot, order_by=newest_first),
    )
    facts = (
        slots.c.newest_id,
        or_(slots.c.newest_id.is_(None), tuple_(*own) > tuple_(*newest)),
        func.coalesce(slots.c.confirmed == changes.c.action + changes.c.value, False),
        *(is_fresh(changes, reassert), is_always_sent(changes, reassert), is_stamped(changes, reassert)),
    )
    meant = (among_given(changes.c.id, "numbers"), changes.c.state == State.PENDING.value)
    # The change that is a slot's newest already was merged before another import took it over.
    new = or_(slots.c.newest_id.is_(None), slots.c.newest_id != changes.c.id)

    def filling(*places: ColumnElement[int]) -> Insert:
        found = select(*(changes.c[name] for name in _FACTS), *places, *facts).outerjoin(slots, own_slot(changes))
        return insert(_merging).from_select(list(_merging.c), found.where(*meant, new))

    return filling(_ONE, changes.c.id), filling(*places)


def _count_kinds(tx: Connection) -> Mapping[Any, int]:
    return tx.execute(_COUNT).mappings().one()


_COUNT = select(
    *(func.count().filter(kind).label(name) for name, kind in _KINDS.items()),
    func.count().label("changes"),
    select(func.count()).select_from(select(*_SLOT).distinct().subquery()).scalar_subquery().label("slots"),
).select_from(_merging)


def _spread_freshness(tx: Connection) -> None:
    """Let the best change of a slot be sent if it beats a fresh one that says the same: which came first is chance."""
    beating = tx.execute(select(_merging.c.best).where(_KINDS["spreading"]).distinct()).scalars().all()
    best = (_first, _merging.c.action == Action.OPTOUT.value, among(_merging.c.id, beating))
    tx.execute(update(_merging).where(*best).values(fresh=True))


_is_pending = func.coalesce(changes.c.state, "") == State.PENDING.value
"""Not by the column alone: where PostgreSQL's statistics know of no pending change (all that was there is delivered, or
held), it believes that there is one, and holds each change of the ledger against all that are merged."""


def _settling(
    number: ColumnElement[int], which: ColumnElement[bool], state: State, **more: ColumnElement[int]
) -> Executable:
    settled = update(changes).where(changes.c.id == number, which)
    return as_whole(settled.values(state=state.value, settled_at=_now, **more)).returning(changes.c.id)


def _superseding(loser: ColumnElement[int], which: str, *, by: ColumnElement[int]) -> tuple[str, Executable, State]:
    lost = and_(_KINDS[which], _is_pending)
    return which, _settling(loser, lost, State.SUPERSEDED, superseded_by=by), State.SUPERSEDED


_SETTLING = (
    _superseding(_merging.c.id, "several", by=_merging.c.best),
    _superseding(_merging.c.id, "losing", by=_merging.c.over),
    _superseding(_merging.c.over, "overtaking", by=_merging.c.id),
    ("unchanged", _settling(_merging.c.id, _KINDS["unchanged"], State.UNCHANGED), State.UNCHANGED),
)


def _resend(lock: MergeLock, now: int) -> None:
    """Deliver the newest opt-outs of slots again that were confirmed before an older change which is fresh."""
    tx = lock.tx
    asked = tx.execute(select(_merging.c.over).where(_KINDS["resending"])).scalars().all()
    held = and_(slots.c.newest_id == changes.c.id, own_slot(changes))
    out = (changes.c.action == Action.OPTOUT.value, slots.c.confirmed == changes.c.action + changes.c.value)
    settled = (among(changes.c.id, asked), changes.c.state.in_(SETTLED_WELL))
    again = tx.execute(select(changes.c.id).join(slots, held).where(*settled, *out)).scalars().all()
    revived = update(changes).where(among(changes.c.id, again))
    tx.execute(revived.values(state=State.PENDING.value, settled_at=None))
    note_state(tx, State.PENDING, again, now)
    tx.execute(update(slots).where(own_slot(_merging), among(slots.c.newest_id, again)).values(**_UNKNOWN))
    enqueue(lock, again, now=now)


_NEWEST = {
    "newest_id": _merging.c.id,
    "newest_at": _merging.c.effective_at,
    "newest_action": _merging.c.action,
    "newest_key": _merging.c.dedupe_key,
}


def _renew_registers(tx: Connection, found: Mapping[Any, int]) -> None:
    for kind, statement in _RENEWING:
        if found[kind]:
            tx.execute(statement)


def _renewal() -> Update:
    """Let the changes that win be the newest of their slots.

    What is confirmed of a slot whose opt-out is sent all the same counts as unknown from here on: a newer change that
    takes its place before it is sent must be sent instead.
    """
    sent = and_(_merging.c.confirmed, _sent)
    kept = {name: case((sent, null()), else_=slots.c[name]) for name in _UNKNOWN}
    return update(slots).where(own_slot(_merging), _KINDS["overtaking"]).values(**_NEWEST, **kept)


def _beginning() -> Insert:
    """Let those of slots without a register begin one."""
    new = select(*_SLOT, *_NEWEST.values()).where(_KINDS["beginning"]).order_by(*_SLOT)
    return insert(slots).from_select(["target_id", "slot", *_NEWEST], new)


_RENEWING: tuple[tuple[str, Insert | Update], ...] = (
    ("overtaking", as_whole(_renewal())),
    ("beginning", as_whole(_beginning())),
)
