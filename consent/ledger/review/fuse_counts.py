"""What settlements tell a fuse, and what a fuse that has tripped keeps from being claimed.

Failures are counted in the transaction that writes them down: so a fuse trips with the dead letter that trips it, or
neither has happened, and however many processes count, it trips once. What a fuse holds stays pending. A claim that
meets a task with nothing else sets it aside, where no later claim meets it (`is_held`); a change of another origin
enqueues the task again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    Row,
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
from consent.guards.fuse import FuseRules, FuseState
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
_FILE = "csv"
_WINDOW = 4
"""Of an event source, which has no end, the latest customers count: so many times `share_from`."""


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
    by_origin: dict[str, list[_Answered]] = defaultdict(list)
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

_Answered = tuple[int, PermanentFailure | None]
"""A target whose change was settled, and why if it is a dead letter."""


def _answers(settlements: Sequence[Settlement]) -> dict[str, list[_Answered]]:
    """Return what was answered about each customer, by import, in the order of the answers."""
    found: dict[str, list[_Answered]] = defaultdict(list)
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


def _count(tx: Connection, counter: FuseCounter, origin: str, answers: Sequence[_Answered], now: int) -> None:
    mine = (fuses.c.name == str(counter.bucket), fuses.c.origin == origin)
    row = tx.execute(select(fuses).where(*mine).with_for_update()).first()
    if row is None or row.state not in (FuseState.CLOSED, FuseState.OPTOUTS):
        return
    counts = _Counts.of(row)
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


@dataclass(slots=True)
class _Counts:
    """What a fuse has counted."""

    code: str
    alike: list[int]
    failed: dict[str, int]
    served: int
    latest: dict[str, PermanentFailure] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Row[Any]) -> _Counts:
        code, alike = orjson.loads(row.alike) if row.alike else ("", [])
        return cls(code, alike, orjson.loads(row.failed) if row.failed else {}, row.served)

    @property
    def total(self) -> int:
        return self.served + sum(self.failed.values())

    def add(self, answers: Sequence[_Answered], rules: FuseRules, *, windowed: bool) -> PermanentFailure | None:
        """Add answers; return the failure that enough customers drew in a row."""
        for target, failure in answers:
            if failure is None:
                self.served += windowed and bool(self.failed)
            else:
                self.latest[failure.code] = failure
                self.failed[failure.code] = self.failed.get(failure.code, 0) + 1
            if failure is None or not failure.ours:
                self.code, self.alike = "", []
            else:
                self.alike = self.alike if failure.code == self.code else []
                self.code = failure.code
                self.alike += [target] if target not in self.alike else []
                if rules.in_a_row and len(self.alike) >= rules.in_a_row:
                    return failure
            if windowed and self.total >= _WINDOW * max(1, rules.share_from):
                self.served //= 2
                self.failed = {code: count // 2 for code, count in self.failed.items() if count > 1}
        return None

    def commonest(self, rules: FuseRules) -> PermanentFailure | None:
        """Return the failure that was drawn most, if its count matters as far as it is known."""
        code = max(self.latest, key=lambda one: self.failed.get(one, 0), default=None)
        if code is None or not rules.share_from or self.failed.get(code, 0) < rules.share_from:
            return None
        return self.latest[code] if self.is_share(code, rules) else None

    def is_share(self, code: str, rules: FuseRules) -> bool:
        return self.failed.get(code, 0) >= rules.share * self.total

    def as_values(self) -> dict[str, Any]:
        alike = orjson.dumps([self.code, self.alike]).decode() if self.alike else None
        failed = orjson.dumps(self.failed).decode() if self.failed else None
        return {"alike": alike, "failed": failed, "served": self.served}


def _served(tx: Connection, counter: FuseCounter, import_id: str, counts: _Counts, code: str) -> int:
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


def _without(task: CustomerTask, left: tuple[ClaimedChange, ...]) -> CustomerTask:
    """Return a task with these of its changes alone."""
    others = {change.id for change in task.changes}.difference(change.id for change in left)
    return replace(task, changes=left, withheld=task.withheld | others)
