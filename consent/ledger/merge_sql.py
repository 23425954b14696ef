"""Holding new words against the registers of their slots: the newest-wins rule, applied to the ledger by its database.

It is `consent.ledger.merge.judge` for many words at once. The words of a slot that are weighed together are ranked, and
only the best of them is held against the slot's register. The others are superseded by it, also those that would have
been unchanged if they had been judged before it came.
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
    Select,
    Table,
    and_,
    any_,
    case,
    delete,
    false,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.schema import CreateTable

from consent.change import Action, Origin
from consent.ledger.bulk import among, look_up_by_key, portions, whole_or_nothing
from consent.ledger.intake.export_time import Stamp
from consent.ledger.queue.enqueue import make_these_due
from consent.ledger.schema import REVISION, changes, customer_tasks, repeats, slots, targets
from consent.outcome import State
from consent.reassert import Reassert, ReassertRules

_ACCEPT_LOCK = 7_301_127  # one acceptance at a time on PostgreSQL: two would wait for each other, and number one target
_FOLD_LOCK = 7_301_126  # one fold at a time on PostgreSQL; SQLite has one writer anyway

_RULE = ("id", "target_id", "slot", "action", "effective_at", "dedupe_key")
_weighed = Table(
    f"weighed_{REVISION}",  # behind a pooler, a session with the table of another version may come back
    MetaData(),
    *(Column(name, changes.c[name].type) for name in _RULE),
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
"""Words that are weighed together, of each slot the `best` at `place` 1.

`over` is the word that the slot's register held; `wins` says that this one is newer, `confirmed` that the provider is
confirmed to hold what it says. `fresh` are opt-outs with a time of their own since the confirmation, `stamped` those
that would be but for their time, which is the export's; `always` are opt-outs that are delivered whatever is confirmed.
"""


def fold(tx: Connection, meant: Sequence[ColumnElement[bool]], *, now: int, reassert: Reasserting) -> int:
    """Decide the fate of the pending ones of the changes that are meant.

    Those that stay pending stand and must be delivered; the others are superseded or unchanged. Returns how many
    opt-outs are unchanged only because their time is the export's. Locks are taken in the order folds, customer tasks,
    changes, slots.
    """
    meant = (*meant, changes.c.state == State.PENDING.value)
    look_up_by_key(tx)
    one_fold_at_a_time(tx)
    keep_out_of(tx, select(changes.c.target_id).where(*meant))
    _weigh(tx, meant, reassert)
    _spread_freshness(tx)
    _supersede(tx, _weighed.c.id, _weighed.c.best, _weighed.c.place > 1, now)
    _supersede(tx, _weighed.c.id, _weighed.c.over, and_(_first, ~_weighed.c.wins), now)
    _supersede(tx, _weighed.c.over, _weighed.c.id, and_(_first, _weighed.c.wins), now)
    stamped = _leave_unchanged(tx, now)
    _send_again(tx, now)
    _renew_registers(tx)
    return stamped


def _weigh(tx: Connection, meant: Sequence[ColumnElement[bool]], reassert: Reasserting) -> None:
    tx.execute(CreateTable(_weighed, if_not_exists=True))
    tx.execute(delete(_weighed))
    said = _rank(changes.c.effective_at, changes.c.action, changes.c.id)
    known = _rank(slots.c.newest_at, slots.c.newest_action, slots.c.newest_id)
    slot, newest_first = (changes.c.target_id, changes.c.slot), [part.desc() for part in said]
    facts = (
        func.row_number().over(partition_by=slot, order_by=newest_first),
        func.first_value(changes.c.id).over(partition_by=slot, order_by=newest_first),
        slots.c.newest_id,
        or_(slots.c.newest_id.is_(None), tuple_(*said) > tuple_(*known)),
        func.coalesce(slots.c.confirmed == changes.c.action + changes.c.value, False),
        *reassert.of_changes(),
    )
    own = and_(slots.c.target_id == changes.c.target_id, slots.c.slot == changes.c.slot)
    # The word that is a slot's newest already was weighed before another import took it over.
    new = or_(slots.c.newest_id.is_(None), slots.c.newest_id != changes.c.id)
    words = select(*(changes.c[name] for name in _RULE), *facts).outerjoin(slots, own).where(*meant, new)
    tx.execute(insert(_weighed).from_select(list(_weighed.c), words))


def _rank(
    since: ColumnElement[int], action: ColumnElement[str], number: ColumnElement[int]
) -> tuple[ColumnElement[int], ...]:
    """Return the terms by which words are ordered, as in `consent.ledger.merge.rank`."""
    return since, case((action == _OPTOUT, _ONE), else_=_NOUGHT), number


# Written out, and not as parameters, so that two windows with this order are one to the database, and one sort.
_OPTOUT: ColumnElement[str] = literal_column(f"'{Action.OPTOUT.value}'")
_ONE: ColumnElement[int] = literal_column("1")
_NOUGHT: ColumnElement[int] = literal_column("0")
_first = _weighed.c.place == 1


_OWN = (slots.c.target_id == _weighed.c.target_id, slots.c.slot == _weighed.c.slot)


def _supersede(
    tx: Connection, loser: ColumnElement[int], winner: ColumnElement[int], which: ColumnElement[bool], now: int
) -> None:
    lost = whole_or_nothing(update(changes)).where(changes.c.id == loser, which, changes.c.state == State.PENDING.value)
    tx.execute(lost.values(state=State.SUPERSEDED.value, superseded_by=winner, settled_at=now))


_sent = or_(_weighed.c.fresh, _weighed.c.always)


def _spread_freshness(tx: Connection) -> None:
    """Let the best word of a slot be sent if it beats a fresh one that says the same: which came first is chance."""
    fresh = (_weighed.c.place > 1, _weighed.c.fresh, _weighed.c.over.is_not(None))
    for some in portions(tx.execute(select(_weighed.c.best).where(*fresh).distinct()).scalars().all()):
        best = (_first, _weighed.c.action == _OPTOUT, among(tx, _weighed.c.id, some))
        tx.execute(update(_weighed).where(*best).values(fresh=True))


def _leave_unchanged(tx: Connection, now: int) -> int:
    same = (_first, _weighed.c.wins, _weighed.c.confirmed, ~_sent)
    left = whole_or_nothing(update(changes)).where(changes.c.id == _weighed.c.id, *same)
    tx.execute(left.values(state=State.UNCHANGED.value, settled_at=now))
    return tx.execute(select(func.count()).select_from(_weighed).where(*same, _weighed.c.stamped)).scalar_one()


def _send_again(tx: Connection, now: int) -> None:
    """Deliver the newest opt-outs of slots again that were confirmed before an older word which is fresh."""
    newer = select(_weighed.c.over).where(_first, ~_weighed.c.wins, _weighed.c.fresh)
    for some in portions(tx.execute(newer).scalars().all()):
        held = and_(slots.c.newest_id == changes.c.id, *(slots.c[name] == changes.c[name] for name in _SLOT))
        settled = changes.c.state.in_((State.APPLIED.value, State.UNCHANGED.value))
        out = (changes.c.action == Action.OPTOUT.value, slots.c.confirmed == changes.c.action + changes.c.value)
        query = select(changes.c.id).join(slots, held).where(among(tx, changes.c.id, some), settled, *out)
        again = tx.execute(query).scalars().all()
        revived = update(changes).where(among(tx, changes.c.id, again))
        tx.execute(revived.values(state=State.PENDING.value, settled_at=None))
        tx.execute(update(slots).where(*_OWN, among(tx, slots.c.newest_id, again)).values(**_UNKNOWN))
        make_these_due(tx, again, now=now)


_SLOT = ("target_id", "slot")
_UNKNOWN = {"confirmed": None, "confirmed_at": None}


def _renew_registers(tx: Connection) -> None:
    """Let the words that win be the newest of their slots; those of slots without a register begin one.

    What is confirmed of a slot whose opt-out is sent all the same counts as unknown from here on: a newer word that
    takes its place before it is sent must be sent instead.
    """
    facts = {name: _weighed.c[source] for name, source in _NEWEST.items()}
    sent = and_(_weighed.c.confirmed, _sent)
    kept = {name: case((sent, null()), else_=slots.c[name]) for name in _UNKNOWN}
    tx.execute(whole_or_nothing(update(slots)).where(*_OWN, _first, _weighed.c.wins).values(**facts, **kept))
    new = select(_weighed.c.target_id, _weighed.c.slot, *facts.values()).where(_first, _weighed.c.over.is_(None))
    ordered = new.order_by(_weighed.c.target_id, _weighed.c.slot)
    tx.execute(whole_or_nothing(insert(slots)).from_select(["target_id", "slot", *facts], ordered))


_NEWEST = {"newest_id": "id", "newest_at": "effective_at", "newest_action": "action", "newest_key": "dedupe_key"}


def one_at_a_time(tx: Connection) -> None:
    """Keep other acceptances out until this transaction ends; SQLite has one writer anyway."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ACCEPT_LOCK})


def one_fold_at_a_time(tx: Connection) -> None:
    """Keep other publishers out, and those that enqueue or revive what was published before."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _FOLD_LOCK})


def keep_out(tx: Connection, meant: Sequence[ColumnElement[bool]]) -> None:
    """Keep other folds out until this transaction ends, and claims and settlements of the changes' targets."""
    look_up_by_key(tx)
    keep_out_of(tx, select(changes.c.target_id).where(*meant))


def keep_out_of(tx: Connection, numbers: Select[tuple[int]]) -> None:
    """Do the same for these targets."""
    if tx.dialect.name != "postgresql":
        return
    one_fold_at_a_time(tx)
    # An array is computed once, before anything else: as a join, the planner may begin with all customer tasks.
    ours = customer_tasks.c.target_id == any_(func.array(numbers.scalar_subquery()))
    tasks = select(customer_tasks.c.target_id).where(ours)
    tx.execute(tasks.order_by(customer_tasks.c.target_id).with_for_update())


@dataclass(frozen=True, slots=True)
class Reasserting:
    """The rules for one import: those of its command or of the settings, and its export's time if it has one."""

    rules: ReassertRules
    stamp: Stamp | None = None

    def of_changes(self) -> tuple[ColumnElement[bool], ColumnElement[bool], ColumnElement[bool]]:
        """Say of a change beside its slot whether it is fresh, sent always, and not fresh only for its stamp."""
        out = changes.c.action == Action.OPTOUT.value
        own = or_(changes.c.own_time == 1, changes.c.origin == Origin.EVENT.value)
        later = func.coalesce(changes.c.effective_at > slots.c.confirmed_at, true())
        fresh = and_(out, own, later, ~self._is(Reassert.NEVER, changes.c.target_id))
        stamped = self._stamped(changes.c.effective_at)
        return and_(fresh, ~stamped), and_(out, self._is(Reassert.ALWAYS, changes.c.target_id)), and_(fresh, stamped)

    def sends_repeat(self) -> ColumnElement[bool]:
        """Say of a repeat beside its slot that it must be delivered."""
        fresh = and_(self._fresh_repeat(), ~self._stamped(repeats.c.effective_at))
        always = and_(repeats.c.action == Action.OPTOUT.value, self._is(Reassert.ALWAYS, repeats.c.target_id))
        return or_(fresh, always)

    def stamped_repeat(self) -> ColumnElement[bool]:
        """Say of a repeat beside its slot that it would be delivered but for its stamp."""
        always = self._is(Reassert.ALWAYS, repeats.c.target_id)
        return and_(self._fresh_repeat(), self._stamped(repeats.c.effective_at), ~always)

    def _fresh_repeat(self) -> ColumnElement[bool]:
        later = func.coalesce(repeats.c.effective_at > slots.c.confirmed_at, true())
        never = self._is(Reassert.NEVER, repeats.c.target_id)
        return and_(repeats.c.action == Action.OPTOUT.value, repeats.c.own_time == 1, later, ~never)

    def _stamped(self, moment: ColumnElement[int]) -> ColumnElement[bool]:
        return false() if self.stamp is None else moment.between(self.stamp.first, self.stamp.last)

    def _is(self, way: Reassert, target_id: ColumnElement[int]) -> ColumnElement[bool]:
        """Say that a target's connection has this way; the target is only asked where connections differ."""
        others = {name: one for name, one in self.rules.by_connection.items() if one is not self.rules.default}
        by_default = self.rules.default is way
        if not others:
            return true() if by_default else false()
        connection = select(targets.c.connection).where(targets.c.id == target_id).scalar_subquery()
        apart = [name for name, one in others.items() if (one is way) is not by_default]
        return connection.not_in(apart) if by_default else connection.in_(apart)


def reasserting(row: Row[tuple[object, ...]], rules: ReassertRules) -> Reasserting:
    """Return the rules for an import, a row of `imports`, where the settings have these."""
    stamp = None if row.stamp_from is None else Stamp(row.stamp_from, row.stamp_to)
    return Reasserting(rules.overruled_by(row.reassert), stamp)
