"""What workers tell fuses and ask of them: failures are counted, and what a tripped one holds is not claimed.

Failures are counted in the transaction that writes them down: so a fuse trips with the dead letter that trips it, or
neither has happened, and however many processes count, it trips once. What a fuse holds stays pending. A claim that
meets a task with nothing else sets it aside, where no later claim meets it (`is_held`); a change of another origin
enqueues the task again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    Table,
    Text,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    update,
)

from consent.change import Action, Bucket
from consent.guards.failure_counts import Answered, FailureCounts
from consent.guards.fuse import FuseRules, FuseState
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import NEW, bulk, plain_rows
from consent.ledger.queue.enqueue import hold
from consent.ledger.queue.tasks import ClaimedChange, CustomerTask, Settlement
from consent.ledger.review.guard_checks import OPTRELAY, note_decision
from consent.ledger.schema import changes, customer_tasks, imports, metadata, targets
from consent.outcome import Applied, PermanentFailure, State, Unchanged

fuses = Table(
    "fuses",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("name", "origin")),
    *(Column(name, Text, nullable=False) for name in ("kind", "title", "state")),
    *(Column(name, Text) for name in ("import_id", "code", "reason", "alike", "failed")),
    Column("served", BigInteger, nullable=False, server_default="0"),
    Column("trips", Integer, nullable=False, server_default="0"),
    Column("touched_at", BigInteger, nullable=False),
    *(Column(name, BigInteger) for name in ("tripped_at", "read_at", "dies_to", "dies_from", "unheld_to")),
)
"""What is counted of permanent failures, by bucket (`name` is the bucket as text) and origin: an import's id,
`kind:name` of an event source, or "" for the bucket itself.

`alike` is a code with the targets that drew it in a row, `failed` counts customers by code, `served` counts others (of
a file: those found when it was last looked at). `read_at` is when a harmless read was last made for a bucket. What a
person has decided is carried out step by step: the changes behind `dies_from` up to `dies_to` still have to die, and
the tasks of targets behind `unheld_to` to be enqueued.
"""

is_held: ColumnElement[bool] = literal_column("waiting = 2")
"""That a customer task is held by a fuse, written out so that the index serves the queries that say the same."""
Index(
    "ix_customer_tasks_held",
    *(customer_tasks.c[name] for name in ("connection", "bucket", "target_id")),
    postgresql_where=is_held,
    sqlite_where=is_held,
)

IMPORT, SOURCE, BUCKET = "import", "source", "bucket"
"""Kinds of origins; that of a bucket itself has no name."""

STOPS = (FuseState.HELD, FuseState.OPTOUTS, FuseState.DYING)
IS_TRIPPED = fuses.c.state.in_([one.value for one in STOPS])
_FILE = "csv"


@dataclass(frozen=True, slots=True)
class FuseCounter:
    """Whose failures are counted in a bucket, and how many are too many."""

    bucket: Bucket
    rules: FuseRules


def count_failures(tx: Connection, counter: FuseCounter, settlements: Sequence[Settlement], now: int) -> None:
    """Count what was answered about the customers of each origin, and hold the rest of those where it is too much."""
    name, rules = str(counter.bucket), counter.rules
    if not (rules.in_a_row or rules.share_from):
        return
    failed = PermanentFailure in {type(one) for each in settlements for one in each.outcomes.values()}
    if not failed and tx.execute(_COUNTING, {"bucket": name}).first() is None:
        return
    found = _answers(settlements)
    by_origin: dict[str, list[Answered]] = defaultdict(list)
    facts = {}
    for row in _imports(tx, found):
        origin, kind = origin_of(row)
        by_origin[origin] += found[row.id]
        facts[origin] = (kind, row.name, row.id)
    for origin in sorted(by_origin):
        if any(failure is not None for _, failure in by_origin[origin]):
            kind, title, import_id = facts[origin]
            _begin(tx, name, origin, kind, title, import_id, now)
        _count(tx, counter, origin, by_origin[origin], now)


_IS_OF_BUCKET = fuses.c.name == bindparam("bucket")
_COUNTED = fuses.c.alike.is_not(None) | fuses.c.failed.is_not(None)
_OPEN = fuses.c.state.in_((FuseState.CLOSED.value, FuseState.OPTOUTS.value))
_COUNTING = select(fuses.c.origin).where(_IS_OF_BUCKET, _OPEN, _COUNTED).limit(1)


def _answers(settlements: Sequence[Settlement]) -> dict[str, list[Answered]]:
    """Return what was answered about each customer, by import, in the order of the answers."""
    found: dict[str, list[Answered]] = defaultdict(list)
    for one in settlements:
        mine: dict[str, PermanentFailure | None] = {}
        for change in one.task.changes:
            outcome = one.outcomes.get(change.id)
            if isinstance(outcome, PermanentFailure):
                mine[change.import_id] = outcome
            elif isinstance(outcome, Applied | Unchanged):
                mine.setdefault(change.import_id, None)
        for import_id, failure in mine.items():
            found[import_id].append((one.task.target_id, failure))
    return found


def _imports(tx: Connection, ids: Collection[str]) -> Sequence[Any]:
    facts = select(imports.c.id, imports.c.kind, imports.c.name, imports.c.stream)
    return tx.execute(facts.where(imports.c.id.in_(tuple(ids)))).all()


def origin_of(row: Any) -> tuple[str, str]:
    """Return the origin of an import, a row of `imports`, and the origin's kind; runs of a source share one."""
    if row.kind == _FILE or not row.stream:
        return row.id, IMPORT
    return f"{row.kind}:{row.name.rpartition(', as ')[0] or row.name}", SOURCE


def _begin(tx: Connection, *facts: Any) -> None:
    columns = ("name", "origin", "kind", "title", "import_id", "touched_at", "state")
    bulk(tx).insert(fuses, columns, [(*facts, FuseState.CLOSED.value)], NEW)


def _count(tx: Connection, counter: FuseCounter, origin: str, answers: Sequence[Answered], now: int) -> None:
    mine = (fuses.c.name == str(counter.bucket), fuses.c.origin == origin)
    row = tx.execute(select(fuses).where(*mine).with_for_update()).first()
    if row is None or row.state not in (FuseState.CLOSED, FuseState.OPTOUTS):
        return
    counts = FailureCounts.of(row.alike, row.failed, row.served)
    failure = counts.add(answers, counter.rules, windowed=row.kind == SOURCE)
    reason = f"{len(counts.alike)} customers in a row" if failure is not None else None
    if failure is None and (failure := counts.commonest(counter.rules)) is not None:
        if row.kind == IMPORT:
            counts.served = max(counts.served, _served(tx, counter, origin, counts, failure.code))
        if counts.is_share(failure.code, counter.rules):
            reason = f"{counts.failed[failure.code]:,} of {counts.total:,} customers who were answered"
    values = counts.as_values() | {"touched_at": now}
    if failure is not None and reason is not None:
        message = f"{reason} drew {failure.code}: {failure.reason}"
        values |= {"state": FuseState.HELD.value, "code": failure.code, "reason": message}
        values |= {"tripped_at": now, "trips": row.trips + 1}
        note_decision(tx, row.import_id, OPTRELAY, "fuse tripped", message, now)
    tx.execute(update(fuses).where(*mine).values(**values))


def _served(tx: Connection, counter: FuseCounter, import_id: str, counts: FailureCounts, code: str) -> int:
    """Return how many changes of an import were taken in a bucket: counted no further than it matters.

    Twice as far as it matters now: else each further failure would have all of them counted again.
    """
    bucket = counter.bucket
    enough = max(1, int(counts.failed[code] / counter.rules.share) - sum(counts.failed.values()) + 1)
    done = changes.c.state.in_((State.APPLIED.value, State.UNCHANGED.value))
    some = (
        select(literal(1))
        .select_from(changes.join(targets, targets.c.id == changes.c.target_id))
        .where(changes.c.import_id == import_id, done, changes.c.attempts > 0)
        .where(targets.c.connection == bucket.connection, targets.c.bucket == bucket.name)
        .limit(2 * enough)
        .subquery()
    )
    return tx.execute(select(func.count()).select_from(some)).scalar_one()


@dataclass(frozen=True, slots=True)
class Stops:
    """Which origins are held in a bucket, and which have only their opt-outs sent. "" is all of them."""

    by_origin: Mapping[str, FuseState]

    def keeps(self, origin: str, action: Action) -> bool:
        """Whether a change is not to be sent."""
        states = [self.by_origin[one] for one in ("", origin) if one in self.by_origin]
        return any(one is not FuseState.OPTOUTS or action is Action.OPTIN for one in states)

    def set_aside(self, tx: Connection, tasks: Sequence[CustomerTask]) -> tuple[list[CustomerTask], list[int]]:
        """Return the tasks that may be sent, without the changes that a fuse holds, and the targets with nothing else.

        These are kept from being claimed; the rows of all must be locked.
        """
        sent: list[CustomerTask] = []
        held: list[int] = []
        ids = {change.import_id for task in tasks for change in task.changes}
        origins = {row.id: origin_of(row)[0] for row in _imports(tx, ids)}
        for task in tasks:
            left = tuple(one for one in task.changes if not self.keeps(origins.get(one.import_id, ""), one.action))
            if left:
                sent.append(task if len(left) == len(task.changes) else _without(task, left))
            else:
                held.append(task.target_id)
        hold(tx, held)
        return sent, held


def stops_of(tx: Connection, bucket: Bucket) -> Stops | None:
    """Return what fuses hold in a bucket, None if that is nothing; no fuse is reset until this transaction ends."""
    found = {origin: FuseState(state) for origin, state in plain_rows(tx.execute(_STOPPING, {"bucket": str(bucket)}))}
    return Stops(found) if found else None


_STOPPING = select(fuses.c.origin, fuses.c.state).where(_IS_OF_BUCKET, fuses.c.state.in_(STOPS))
_STOPPING = _STOPPING.order_by(fuses.c.origin).with_for_update(read=True)  # in the order in which settlements lock them


_TRIPPED = select(fuses.c.origin, fuses.c.state).where(_IS_OF_BUCKET, IS_TRIPPED)
_OF_BUCKET = select(fuses).where(_IS_OF_BUCKET)


def _without(task: CustomerTask, left: tuple[ClaimedChange, ...]) -> CustomerTask:
    """Return a task with these of its changes alone."""
    others = {change.id for change in task.changes}.difference(change.id for change in left)
    return replace(task, changes=left, withheld=task.withheld | others)


@dataclass(frozen=True, slots=True)
class HarmlessRead:
    """That a harmless read has to show whether a bucket is at fault: the failure, and a target to ask about."""

    code: str
    reason: str
    target_id: int | None


class FusesOfWorkers(LedgerPart):
    """Fuses, as workers ask about them. Each method raises LedgerUnavailable."""

    def stops(self, bucket: Bucket, import_ids: Collection[str]) -> dict[str, FuseState]:
        """Return which of these imports have tripped a fuse of a bucket, and what that lets through."""

        def work(tx: Connection) -> dict[str, FuseState]:
            states = {origin: FuseState(state) for origin, state in tx.execute(_TRIPPED, {"bucket": str(bucket)})}
            if not states:
                return {}
            found = {row.id: states.get(origin_of(row)[0], states.get("")) for row in _imports(tx, import_ids)}
            return {one: state for one, state in found.items() if state is not None}

        return self.database.read(work)

    def asks_for_read(self, bucket: Bucket) -> HarmlessRead | None:
        """Return what a harmless read has to show: whether two origins that fail alike have a bucket at fault."""

        def work(tx: Connection) -> HarmlessRead | None:
            rows = tx.execute(_OF_BUCKET, {"bucket": str(bucket)}).all()
            own = next((row for row in rows if row.kind == BUCKET), None)
            if own is not None and own.state in (FuseState.HELD, FuseState.OPTOUTS, FuseState.OFF):
                return None
            tripped = [row for row in rows if row.kind != BUCKET and row.state == FuseState.HELD]
            last = max(tripped, key=lambda row: row.tripped_at, default=None)
            alike = [] if last is None else [row for row in tripped if row.code == last.code]
            if last is None or len(alike) == 1 or (own is not None and (own.read_at or 0) >= last.tripped_at):
                return None
            one = select(changes.c.target_id).where(changes.c.import_id == last.import_id, changes.c.code == last.code)
            return HarmlessRead(last.code, last.reason, tx.execute(one.limit(1)).scalar())

        return self.database.read(work)

    def note_read(self, bucket: Bucket, asked: HarmlessRead, *, well: bool) -> None:
        """Note what a harmless read has shown: if it failed as well, all of the bucket is held."""
        now, name = self.core.now(), str(bucket)
        values: dict[str, Any] = {"read_at": now}
        if not well:
            reason = f"two sources fail alike, and a harmless read fails too; {asked.reason}"
            values |= {"state": FuseState.HELD.value, "code": asked.code, "reason": reason, "tripped_at": now}

        def work(tx: Connection) -> None:
            _begin(tx, name, "", BUCKET, name, "", now)
            mine = (fuses.c.name == name, fuses.c.origin == "", fuses.c.state == FuseState.CLOSED.value)
            tx.execute(update(fuses).where(*mine).values(**values))

        self.database.write(work)
