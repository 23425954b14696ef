"""Adding up what is new into the tallies, exactly once, and reading them.

One transaction takes what has not been counted, adds it to the tallies and notes how far it has come. A process that is
killed before it commits has counted nothing. Any process may do it: the sweep each minute, or a scrape.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Select,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    select,
)

from consent.change import Action
from consent.deadlines.forecast import QUARTER
from consent.deadlines.rules import HISTORIC
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.locks import lock_tallies
from consent.ledger.dialects.statements import Row, among, among_given, bulk, plain_rows
from consent.ledger.queue.outcome_log import outcome_log, stamp, uncounted_calls
from consent.ledger.schema import changes, targets
from consent.ledger.telemetry.recent import RecentQuarters
from consent.ledger.telemetry.tallies import (
    COUNTED_TO,
    HONOUR_BOUNDS,
    HONOUR_SECONDS,
    READ_TO,
    SECONDS,
    SEEN_TO,
    SETTLED_THEN,
    WAITED_THEN,
    add,
    counted_to,
    tallies,
)
from consent.outcome import State

MOST_BUCKETS = 200
"""Buckets that are told apart; what comes later is counted as OTHER."""

OTHER = "other"

_ROWS_AT_ONCE = 50
_BACKLOG, _SAMPLE_MICROS, _SAMPLES = "backlog", 600_000_000, 6
_LOOK_SECONDS = 2.0

_OWN = (COUNTED_TO, SEEN_TO, _BACKLOG, SETTLED_THEN, WAITED_THEN, READ_TO)

Tally = tuple[str, tuple[str, ...]]
"""A tally's name, and its labels."""


class Counters(LedgerPart):
    """Counters of changes and calls. Each method raises LedgerUnavailable."""

    def add_up(self, seconds: float = 60.0) -> bool:
        """Count what is new, for so many seconds at most; return whether all of it is counted."""
        stamp(self.database)
        RecentQuarters(self.core).note_waiting()
        ends = time.monotonic() + seconds
        for step in (_count_outcomes, _count_calls):
            while self.database.write(step):
                if time.monotonic() > ends:
                    return False
        return True

    def an_hour_ago(self, waiting: Mapping[str, int]) -> Mapping[str, int]:
        """Keep how many customers of each connection wait now; return how many waited an hour ago, where that is known.

        A tally is kept for each ten minutes of the last two hours, so it does not matter which process asks.
        """
        place = self.core.now() // _SAMPLE_MICROS
        rows = [(_BACKLOG, orjson.dumps([name, place]).decode(), count) for name, count in sorted(waiting.items())]
        mine = tallies.c.name == _BACKLOG
        query = select(tallies.c.labels, tallies.c.value).where(mine)

        def work(tx: Connection) -> None:
            lock_tallies(tx)
            kept = [labels for labels, _ in tx.execute(query) if orjson.loads(labels)[1] >= place - 2 * _SAMPLES]
            tx.execute(delete(tallies).where(mine, tallies.c.labels.not_in(kept)))
            renew = "ON CONFLICT (name, labels) DO NOTHING"
            bulk(tx).insert(tallies, ("name", "labels", "value"), rows, renew)

        found = {
            tuple(orjson.loads(labels)): value
            for labels, value in self.database.read(lambda tx: tx.execute(query).all())
        }
        if any((name, place) not in found for name in waiting):
            self.database.write(work)
        return {name: found[name, place - _SAMPLES] for name in waiting if (name, place - _SAMPLES) in found}

    def tallies(self) -> Mapping[str, Mapping[tuple[str, ...], int]]:
        """Return what has been counted, by name and by labels.

        `honour_seconds`: connection, rule, upper bound; `honour_milliseconds`: connection, rule.
        `changes`: connection, outcome. `calls`: connection, bucket, class. `call_seconds`: connection, bucket, upper
        bound; `call_milliseconds`: connection, bucket.
        """
        query = select(tallies.c.name, tallies.c.labels, tallies.c.value).where(tallies.c.name.not_in(_OWN))
        found: dict[str, dict[tuple[str, ...], int]] = {}
        for name, labels, value in self.database.read(lambda tx: tx.execute(query).all(), within=_LOOK_SECONDS):
            found.setdefault(name, {})[tuple(orjson.loads(labels))] = value
        return found


def _count_outcomes(tx: Connection) -> bool:
    """Count the next outcomes; return whether there may be more."""
    lock_tallies(tx)
    start = counted_to(tx)
    facts = (outcome_log.c[name] for name in ("position", "state", "discarded", "change_ids", "at", "tally"))
    following = select(*facts).where(outcome_log.c.position > start).order_by(outcome_log.c.position)
    rows = plain_rows(tx.execute(following.limit(_ROWS_AT_ONCE)))
    if not rows:
        return False
    came = [(_outcome(state, discarded), orjson.loads(ids), *rest) for _, state, discarded, ids, *rest in rows]
    counted: Counter[Tally] = Counter({(COUNTED_TO, ()): rows[-1][0] - start})
    for outcome, ids, at, tally in came:
        counted[SETTLED_THEN, (str(at // QUARTER), outcome)] += len(ids)
        found = orjson.loads(tally) if tally else plain_rows(tx.execute(_SUMS, {"numbers": ids, "at": at}))
        for connection, *_, count in found:
            counted["changes", (connection, outcome)] += count
        if unknown := len(ids) - sum(count for *_, count in found):
            counted["changes", (OTHER, outcome)] += unknown
        if outcome == State.APPLIED.value:
            _add_honoured(counted, found)
    add(tx, counted)
    return len(rows) == _ROWS_AT_ONCE


def _outcome(state: str, discarded: int | None) -> str:
    if state == State.PENDING.value:
        return "sent_again"
    return "discarded" if discarded else state


def _sums() -> Select[Any]:
    """Sum up changes that were settled `at` a moment: by connection, and by their opt-outs' rules and durations.

    For those of which no worker noted it when it settled them (`outcome_log.tally`).

    A duration counts from when the person said it, in milliseconds, and by the number of its bound. The rule is NULL
    where there is no deadline, or a historic one.
    """
    at = bindparam("at", type_=BigInteger)
    since = case((changes.c.effective_at < changes.c.recorded_at, changes.c.effective_at), else_=changes.c.recorded_at)
    lasted = case(
        (at > since, (at - since) // literal_column("1000", BigInteger)), else_=literal_column("0", BigInteger)
    )
    bound = case(
        *((lasted <= most, literal_column(str(number), Integer)) for number, most in enumerate(HONOUR_BOUNDS)),
        else_=literal_column(str(len(HONOUR_BOUNDS)), Integer),
    )
    rule = case(((changes.c.action == Action.OPTOUT.value) & (changes.c.rule != HISTORIC), changes.c.rule))
    each = (
        select(targets.c.connection, rule.label("rule"), bound.label("bound"), lasted.label("lasted"))
        .join(targets, targets.c.id == changes.c.target_id)
        .where(among_given(changes.c.id, "numbers"))
        .subquery()
    )
    groups = (each.c.connection, each.c.rule, each.c.bound)
    return select(*groups, cast(func.sum(each.c.lasted), BigInteger), func.count()).group_by(*groups)


_SUMS = _sums()


def _add_honoured(counted: Counter[Tally], found: Iterable[Row]) -> None:
    """Add how long opt-outs took that were applied; historic ones are left out."""
    for connection, rule, bound, milliseconds, count in found:
        if rule is not None:
            name = str(HONOUR_SECONDS[bound]) if bound < len(HONOUR_SECONDS) else "+Inf"
            counted["honour_seconds", (connection, rule, name)] += count
            counted["honour_milliseconds", (connection, rule)] += milliseconds


def _count_calls(tx: Connection) -> bool:
    """Count the next calls; return whether there may be more."""
    lock_tallies(tx)
    some = select(uncounted_calls.c.id).order_by(uncounted_calls.c.id).limit(_ROWS_AT_ONCE)
    ids = list(tx.execute(some).scalars())
    taken = delete(uncounted_calls).where(among(uncounted_calls.c.id, ids))
    rows = tx.execute(taken.returning(uncounted_calls.c.target_id, uncounted_calls.c.calls)).all() if ids else []
    if not rows:
        return False
    place = select(targets.c.id, targets.c.connection, targets.c.bucket)
    found = tx.execute(place.where(among(targets.c.id, sorted({row.target_id for row in rows}))))
    buckets = _labelled_buckets(tx, {number: (connection, bucket) for number, connection, bucket in found})
    counted: Counter[Tally] = Counter()
    for target, calls in rows:
        bucket = buckets.get(target, (OTHER, OTHER))
        classes, durations, milliseconds = orjson.loads(calls)
        for name, count in classes.items():
            counted["calls", (*bucket, name)] += count
        for bound, count in zip((*map(str, SECONDS), "+Inf"), durations, strict=True):
            counted["call_seconds", (*bucket, bound)] += count
        counted["call_milliseconds", bucket] += milliseconds
    add(tx, counted)
    return len(ids) == _ROWS_AT_ONCE


def _labelled_buckets(tx: Connection, buckets: Mapping[int, tuple[str, str]]) -> dict[int, tuple[str, str]]:
    """Return under which bucket each is counted: those that came first are told apart, so that none ever moves."""
    labels = tx.execute(select(tallies.c.labels).where(tallies.c.name == "call_milliseconds")).scalars()
    known = {tuple(orjson.loads(one)) for one in labels}
    labelled = {}
    for number, bucket in sorted(buckets.items()):
        if bucket not in known and len(known) < MOST_BUCKETS:
            known.add(bucket)
        labelled[number] = bucket if bucket in known else (bucket[0], OTHER)
    return labelled
