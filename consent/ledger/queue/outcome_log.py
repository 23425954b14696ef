"""The outcome log: what became of changes, in the order in which it became visible, for those who copy it elsewhere.

A transaction that settles changes adds a row for each outcome, in the same transaction: one insert, whatever the
number of changes. The order of such rows cannot be told by a number that is given when they are written: a transaction
with a lower number may commit after one with a higher one, and a reader that has gone past it would never see it. So
rows have no position at first. A reader gives one to all that it can see, under a lock: what commits later gets a
later position. Nothing is skipped, on either database.

Beside it stands what settlements leave to be counted: one row with the calls of each (`consent/ledger/telemetry` adds
them up), and for each day how many opt-outs were delivered in time, by their rule, so that no change is kept for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    SmallInteger,
    Table,
    Text,
    TextClause,
    delete,
    func,
    select,
    text,
    update,
)

from consent.deadlines.rules import HISTORIC
from consent.ledger.database import Database, LedgerPart
from consent.ledger.dialects.locks import lock_outcome_log
from consent.ledger.dialects.statements import NEW, Row, among, bulk, portions
from consent.ledger.queue.tasks import Settlement
from consent.ledger.schema import NUMBER, changes, metadata
from consent.ledger.telemetry.tallies import HONOUR_BOUNDS, SECONDS, counted_to
from consent.outcome import State

outcome_log = Table(
    "outcome_log",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("position", BigInteger),
    Column("at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("code", Text),
    Column("reason", Text),
    Column("change_ids", Text, nullable=False),
    Column("discarded", SmallInteger),
    Column("tally", Text),
)
"""Changes that came into a state together: pending again (replayed, or to be sent once more), or an outcome.

`discarded` is 1 where dead letters were put away. `tally` is what is to be counted of changes that a worker settled, as
`counters.py` would sum it up: so no change is read again for it. `position` is empty until someone reads. The row with
the last one is never removed: positions are not used again.
"""
_is_new = outcome_log.c.position.is_(None)
Index("ix_outcome_log_position", outcome_log.c.position, unique=True)
Index("ix_outcome_log_new", outcome_log.c.id, postgresql_where=_is_new, sqlite_where=_is_new)

uncounted_calls = Table(
    "uncounted_calls",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("target_id", BigInteger, nullable=False),
    Column("calls", Text, nullable=False),
)
"""The calls of settlements that are in no tally yet: how many by class, by duration, and their milliseconds in all.

`target_id` is one of those called, and so names the bucket.
"""

deadline_days = Table(
    "deadline_days",
    metadata,
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    *(Column(name, Text, primary_key=True) for name in ("connection", "rule", "outcome")),
    Column("length", SmallInteger, primary_key=True, autoincrement=False),
    Column("entry", BigInteger, primary_key=True, autoincrement=False),
    Column("changes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""The opt-outs that were settled on each day (since 1970): in time, late, or historic, and how long it took.

`length` is the number of binary digits of the whole minutes from the start of the clock: 0 is less than a minute, n up
to 2 to the power of n.
"""

MET, LATE = "met", "late"
DAY = 86_400_000_000
"""Microseconds."""

MOST_IDS = 1_000
"""Changes in one row."""

_STAMPED_AT_ONCE = 20_000
_PURGED_AT_ONCE = 1_000
_COLUMNS = ("at", "state", "code", "reason", "change_ids", "discarded")
_SETTLED_COLUMNS = ("at", "state", "change_ids", "tally")
_BOUNDS = tuple(round(1_000 * one) for one in SECONDS)
_THROTTLED = 429
_MINUTE = 60_000_000
_LONGEST = 24

Why = tuple[str, str | None, str | None]
"""A state, and the code and reason of it, if it has any."""


def note_outcomes(tx: Connection, ids_of: Mapping[Why, Sequence[int]], now: int, *, discarded: bool = False) -> None:
    """Note which changes came into which state; to be called after they were changed in the same transaction.

    So of one change each transaction notes later than the one before it, for which it had to wait.
    """
    rows = [
        (now, *why, orjson.dumps(list(some)).decode(), int(discarded) or None)
        for why, ids in ids_of.items()
        for some in portions(ids, MOST_IDS)
    ]
    bulk(tx).insert(outcome_log, _COLUMNS, rows)


def note_state(tx: Connection, state: State, ids: Sequence[int], now: int) -> None:
    """Note changes that came into a state for which there is no code."""
    note_outcomes(tx, {(state.value, None, None): ids}, now)


def note_settled(tx: Connection, state: State, connection: str, closed: Sequence[Row], now: int) -> None:
    """Note changes of a connection that the provider holds from now on, and count their opt-outs as in time or late.

    Of each change it takes its number, when it is due (None: it has no deadline), by which rule, effective, recorded.
    """
    rows = [
        (now, state.value, orjson.dumps([number for number, *_ in some]).decode(), _tally(state, connection, some, now))
        for some in portions(closed, MOST_IDS)
    ]
    bulk(tx).insert(outcome_log, _SETTLED_COLUMNS, rows)
    lengths: defaultdict[tuple[str, str, int], int] = defaultdict(int)
    for _, due_at, rule, effective_at, recorded_at in closed:
        if due_at is None or rule is None:
            continue
        outcome = HISTORIC if rule == HISTORIC else MET if now <= due_at else LATE
        start = recorded_at if rule == HISTORIC or recorded_at < effective_at else effective_at
        length = ((now - start) // _MINUTE).bit_length() if start < now else 0
        lengths[rule, outcome, min(_LONGEST, length)] += 1
    days = [
        {"day": now // DAY, "whose": connection, "rule": rule, "outcome": outcome, "length": length, "more": more}
        for (rule, outcome, length), more in sorted(lengths.items())
    ]
    for day in days:  # one or two: executemany takes longer to begin
        tx.execute(_in_time_or_late(bulk(tx).entry), day)


def _tally(state: State, connection: str, closed: Sequence[Row], now: int) -> str:
    """Sum up changes of a connection that were settled now: see `counters.py`; only what was applied was honoured."""
    found: defaultdict[tuple[str | None, int], list[int]] = defaultdict(lambda: [0, 0])
    for _, _, rule, effective_at, recorded_at in closed:
        lasted = bound = 0
        if (honoured := state is State.APPLIED and rule not in {None, HISTORIC}) and (
            now > (since := min(effective_at, recorded_at))
        ):
            lasted = (now - since) // 1_000
            bound = bisect_left(HONOUR_BOUNDS, lasted)
        sums = found[rule if honoured else None, bound]
        sums[0] += lasted
        sums[1] += 1
    return orjson.dumps([(connection, *which, *sums) for which, sums in found.items()]).decode()


@cache
def _in_time_or_late(entry: str) -> TextClause:
    return text(
        "INSERT INTO deadline_days (day, connection, rule, outcome, length, entry, changes) "  # noqa: S608
        f"VALUES (:day, :whose, :rule, :outcome, :length, {entry}, :more) "
        "ON CONFLICT (day, connection, rule, outcome, length, entry) "
        "DO UPDATE SET changes = deadline_days.changes + excluded.changes"
    )


def note_dead(tx: Connection, ids: Sequence[int], now: int, *, discarded: bool = False) -> None:
    """Note dead letters that were written down or discarded in this transaction, each with its code and reason."""
    whys: dict[Why, list[int]] = defaultdict(list)
    for some in portions(ids):
        died = select(changes.c.id, changes.c.code, changes.c.reason).where(among(changes.c.id, some))
        for number, code, reason in tx.execute(died):
            whys[State.DEAD.value, code, reason].append(number)
    note_outcomes(tx, whys, now, discarded=discarded)


def note_calls(tx: Connection, settlements: Iterable[Settlement]) -> None:
    """Note the calls of these settlements, all of one bucket, in their transaction."""
    classes: Counter[str] = Counter()
    durations = [0] * (len(_BOUNDS) + 1)
    total = target = 0
    for one in settlements:
        for attempt in one.attempts:
            if attempt.counts:
                classes[_class(attempt.status)] += 1
                durations[bisect_left(_BOUNDS, attempt.milliseconds)] += 1
                total += attempt.milliseconds
                target = one.task.target_id
    if classes:
        calls = orjson.dumps([classes, durations, total]).decode()
        bulk(tx).insert(uncounted_calls, ("target_id", "calls"), [(target, calls)], NEW)


def _class(status: int | None) -> str:
    """Return the class of a call by its answer, the one that asks for fewer calls apart from the others."""
    if status is None:
        return "none"
    return str(status) if status == _THROTTLED else f"{status // 100}xx"


def still_pending(tx: Connection, ids: Sequence[int]) -> set[int]:
    """Return which of these changes are pending; they cannot be settled by another transaction until this one ends."""
    pending = select(changes.c.id).where(changes.c.state == State.PENDING.value)
    return {
        number
        for some in portions(ids)
        for number in tx.execute(pending.where(among(changes.c.id, some)).with_for_update()).scalars()
    }


def stamp(database: Database) -> None:
    """Give positions to all rows that have been committed and have none; raises LedgerUnavailable."""
    unseen = select(outcome_log.c.id).where(_is_new).limit(1)
    while database.read(lambda tx: tx.execute(unseen).first()) is not None:
        database.write(_stamp_some)


def _stamp_some(tx: Connection) -> None:
    lock_outcome_log(tx)
    base = tx.execute(select(func.coalesce(func.max(outcome_log.c.position), 0))).scalar_one()
    some = select(outcome_log.c.id).where(_is_new).order_by(outcome_log.c.id).limit(_STAMPED_AT_ONCE).subquery()
    places = select(some.c.id, func.row_number().over(order_by=some.c.id).label("place")).subquery()
    tx.execute(
        update(outcome_log).where(outcome_log.c.id == places.c.id, _is_new).values(position=places.c.place + base)
    )


class OutcomeLog(LedgerPart):
    """The outcome log as its keeper sees it."""

    def purge(self, before: int) -> int:
        """Remove what was noted before a moment (microseconds), but the last; return how many rows.

        What is in no tally yet stays: `Counters.add_up` comes first.
        """
        purged = 0
        while self.database.read(lambda tx: _old_ones(tx, before, 1)):
            purged += self.database.write(lambda tx: _purge_some(tx, before))
        return purged


def _purge_some(tx: Connection, before: int) -> int:
    old = _old_ones(tx, before, _PURGED_AT_ONCE)
    return tx.execute(delete(outcome_log).where(among(outcome_log.c.id, old))).rowcount if old else 0


def _old_ones(tx: Connection, before: int, most: int) -> list[int]:
    """Return the first rows, by number, if they are that old: numbers follow time closely, and need no other index."""
    last = tx.execute(select(func.max(outcome_log.c.position))).scalar()
    removable = (outcome_log.c.position <= counted_to(tx), outcome_log.c.position != last)
    oldest = select(outcome_log.c.id, outcome_log.c.at).where(*removable).order_by(outcome_log.c.id).limit(most)
    return [number for number, at in tx.execute(oldest) if at < before]
