"""`consent.ledger.merge` for many changes at once, by the database: what it decides there for one, this does in sets.

The changes of a slot that are merged together are ranked, and only the best of them is held against the slot's
register. The others are superseded by it, also those that would have been no-ops if they had been merged before it.

The terms below are said of `changes` or of `noop_changes`, each beside its slot: both are decided by the same SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    Row,
    Table,
    and_,
    case,
    delete,
    false,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.schema import CreateTable

from consent.change import Action, Origin
from consent.ledger.dialects.locks import MergeLock
from consent.ledger.dialects.statements import among, write_whole
from consent.ledger.queue.enqueue import enqueue_changes
from consent.ledger.queue.inherited_deadlines import inherit_deadlines
from consent.ledger.queue.outcome_log import note_state
from consent.ledger.schema import REVISION, changes, slots, targets
from consent.outcome import State
from consent.reassert import ExportTime, Reassert, ReassertRules

# Written out, and not as parameters, so that two windows with this order are one to the database, and one sort.
_OPTOUT: ColumnElement[str] = literal_column(f"'{Action.OPTOUT.value}'")
_ONE: ColumnElement[int] = literal_column("1")
_NOUGHT: ColumnElement[int] = literal_column("0")
_UNKNOWN = {"confirmed": None, "confirmed_at": None}

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


@dataclass(frozen=True, slots=True)
class ReassertTerms:
    """Which opt-outs of one import are delivered although the provider is confirmed to hold them.

    `rules` are those of its command or of the settings; `export_time` is the time of its export, if it has one.
    """

    rules: ReassertRules
    export_time: ExportTime | None = None

    @property
    def columns(self) -> dict[str, int | None]:
        """The columns of an import that keep its export's time, for `reassert_terms`."""
        first, last = (None, None) if self.export_time is None else self.export_time
        return {"export_time_from": first, "export_time_to": last}

    def is_fresh(self, table: Table) -> ColumnElement[bool]:
        """Say that it is fresh (`merge.is_fresh`), by a time that is not the export's."""
        return and_(self._has_fresh_time(table), ~self._is_exports(table.c.effective_at))

    def is_always_sent(self, table: Table) -> ColumnElement[bool]:
        """Say that it is an opt-out of a connection whose opt-outs are all sent."""
        return and_(table.c.action == Action.OPTOUT.value, self._is(Reassert.ALWAYS, table.c.target_id))

    def is_stamped(self, table: Table) -> ColumnElement[bool]:
        """Say that it would be fresh but for its time, which is the export's."""
        return and_(self._has_fresh_time(table), self._is_exports(table.c.effective_at))

    def _has_fresh_time(self, table: Table) -> ColumnElement[bool]:
        own = table.c.own_time == 1
        if "origin" in table.c:
            own = or_(own, table.c.origin == Origin.EVENT.value)
        later = func.coalesce(table.c.effective_at > slots.c.confirmed_at, true())
        out = table.c.action == Action.OPTOUT.value
        return and_(out, own, later, ~self._is(Reassert.NEVER, table.c.target_id))

    def _is_exports(self, moment: ColumnElement[int]) -> ColumnElement[bool]:
        return false() if self.export_time is None else moment.between(self.export_time.first, self.export_time.last)

    def _is(self, way: Reassert, target_id: ColumnElement[int]) -> ColumnElement[bool]:
        """Say that a target's connection has this way; the target is only asked where connections differ."""
        others = {name: one for name, one in self.rules.by_connection.items() if one is not self.rules.default}
        by_default = self.rules.default is way
        if not others:
            return true() if by_default else false()
        connection = select(targets.c.connection).where(targets.c.id == target_id).scalar_subquery()
        apart = [name for name, one in others.items() if (one is way) is not by_default]
        return connection.not_in(apart) if by_default else connection.in_(apart)


def reassert_terms(row: Row[tuple[object, ...]], rules: ReassertRules) -> ReassertTerms:
    """Return the terms for an import, a row of `imports`, where the settings have these rules."""
    found = None if row.export_time_from is None else ExportTime(row.export_time_from, row.export_time_to)
    return ReassertTerms(rules.overruled_by(row.reassert), found)


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
_first = _merging.c.place == 1
_sent = or_(_merging.c.fresh, _merging.c.always)


def merge_pending(lock: MergeLock, meant: Sequence[ColumnElement[bool]], *, now: int, reassert: ReassertTerms) -> int:
    """Merge the pending ones of the changes that are meant into the registers of their slots.

    Those that stay pending win and must be delivered; the others are superseded or unchanged. Returns how many opt-outs
    are unchanged only because their time is the export's. The lock is to be `MergeLock.of_changes` of these.
    """
    tx, meant = lock.tx, (*meant, changes.c.state == State.PENDING.value)
    _rank_and_compare(tx, meant, reassert)
    _spread_freshness(tx)
    inherit_deadlines(tx, _merging)
    _supersede(tx, _merging.c.id, _merging.c.best, _merging.c.place > 1, now)
    _supersede(tx, _merging.c.id, _merging.c.over, and_(_first, ~_merging.c.wins), now)
    _supersede(tx, _merging.c.over, _merging.c.id, and_(_first, _merging.c.wins), now)
    stamped = _leave_unchanged(tx, now)
    _resend(lock, now)
    _renew_registers(tx)
    return stamped


def _rank_and_compare(tx: Connection, meant: Sequence[ColumnElement[bool]], reassert: ReassertTerms) -> None:
    tx.execute(CreateTable(_merging, if_not_exists=True))
    tx.execute(delete(_merging))
    own = rank(changes.c.effective_at, changes.c.action, changes.c.id)
    newest = rank(slots.c.newest_at, slots.c.newest_action, slots.c.newest_id)
    slot, newest_first = (changes.c.target_id, changes.c.slot), [part.desc() for part in own]
    facts = (
        func.row_number().over(partition_by=slot, order_by=newest_first),
        func.first_value(changes.c.id).over(partition_by=slot, order_by=newest_first),
        slots.c.newest_id,
        or_(slots.c.newest_id.is_(None), tuple_(*own) > tuple_(*newest)),
        func.coalesce(slots.c.confirmed == changes.c.action + changes.c.value, False),
        *(reassert.is_fresh(changes), reassert.is_always_sent(changes), reassert.is_stamped(changes)),
    )
    # The change that is a slot's newest already was merged before another import took it over.
    new = or_(slots.c.newest_id.is_(None), slots.c.newest_id != changes.c.id)
    found = select(*(changes.c[name] for name in _FACTS), *facts).outerjoin(slots, own_slot(changes))
    tx.execute(insert(_merging).from_select(list(_merging.c), found.where(*meant, new)))


_is_pending = func.coalesce(changes.c.state, "") == State.PENDING.value
"""Not by the column alone: where PostgreSQL's statistics know of no pending change (all that was there is delivered, or
held), it believes that there is one, and holds each change of the ledger against all that are merged."""


def _supersede(
    tx: Connection, loser: ColumnElement[int], winner: ColumnElement[int], which: ColumnElement[bool], now: int
) -> None:
    lost = update(changes).where(changes.c.id == loser, which, _is_pending)
    done = lost.values(state=State.SUPERSEDED.value, superseded_by=winner, settled_at=now)
    if rows := write_whole(tx, done.returning(changes.c.id)):
        note_state(tx, State.SUPERSEDED, [number for (number,) in rows], now)


def _spread_freshness(tx: Connection) -> None:
    """Let the best change of a slot be sent if it beats a fresh one that says the same: which came first is chance."""
    fresh = (_merging.c.place > 1, _merging.c.fresh, _merging.c.over.is_not(None))
    if beating := tx.execute(select(_merging.c.best).where(*fresh).distinct()).scalars().all():
        best = (_first, _merging.c.action == _OPTOUT, among(_merging.c.id, beating))
        tx.execute(update(_merging).where(*best).values(fresh=True))


def _leave_unchanged(tx: Connection, now: int) -> int:
    same = (_first, _merging.c.wins, _merging.c.confirmed, ~_sent)
    left = update(changes).where(changes.c.id == _merging.c.id, *same)
    done = left.values(state=State.UNCHANGED.value, settled_at=now)
    if rows := write_whole(tx, done.returning(changes.c.id)):
        note_state(tx, State.UNCHANGED, [number for (number,) in rows], now)
    return tx.execute(select(func.count()).select_from(_merging).where(*same, _merging.c.stamped)).scalar_one()


def _resend(lock: MergeLock, now: int) -> None:
    """Deliver the newest opt-outs of slots again that were confirmed before an older change which is fresh."""
    tx = lock.tx
    newer = select(_merging.c.over).where(_first, ~_merging.c.wins, _merging.c.fresh)
    if not (asked := tx.execute(newer).scalars().all()):
        return
    held = and_(slots.c.newest_id == changes.c.id, own_slot(changes))
    out = (changes.c.action == Action.OPTOUT.value, slots.c.confirmed == changes.c.action + changes.c.value)
    settled = (among(changes.c.id, asked), changes.c.state.in_(SETTLED_WELL))
    again = tx.execute(select(changes.c.id).join(slots, held).where(*settled, *out)).scalars().all()
    revived = update(changes).where(among(changes.c.id, again))
    tx.execute(revived.values(state=State.PENDING.value, settled_at=None))
    note_state(tx, State.PENDING, again, now)
    tx.execute(update(slots).where(own_slot(_merging), among(slots.c.newest_id, again)).values(**_UNKNOWN))
    enqueue_changes(lock, again, now=now)


def _renew_registers(tx: Connection) -> None:
    """Let the changes that win be the newest of their slots; those of slots without a register begin one.

    What is confirmed of a slot whose opt-out is sent all the same counts as unknown from here on: a newer change that
    takes its place before it is sent must be sent instead.
    """
    facts = {name: _merging.c[source] for name, source in _NEWEST.items()}
    sent = and_(_merging.c.confirmed, _sent)
    kept = {name: case((sent, null()), else_=slots.c[name]) for name in _UNKNOWN}
    renewed = update(slots).where(own_slot(_merging), _first, _merging.c.wins)
    write_whole(tx, renewed.values(**facts, **kept))
    new = select(_merging.c.target_id, _merging.c.slot, *facts.values()).where(_first, _merging.c.over.is_(None))
    ordered = new.order_by(_merging.c.target_id, _merging.c.slot)
    write_whole(tx, insert(slots).from_select(["target_id", "slot", *facts], ordered))


_NEWEST = {"newest_id": "id", "newest_at": "effective_at", "newest_action": "action", "newest_key": "dedupe_key"}
