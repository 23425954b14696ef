"""What has become of an import, every row counted once, and which imports are not over."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, or_, select, union_all

from consent.change import Bucket
from consent.ledger.database import LedgerPart
from consent.ledger.dialects.statements import bulk, first_change
from consent.ledger.intake.imports import IMPORT
from consent.ledger.queue.tasks import IN_DOUBT
from consent.ledger.review.fuse_steps import held_by_fuses
from consent.ledger.schema import (
    changes,
    customer_tasks,
    dead_letters,
    imports,
    is_due,
    is_put_off,
    rejects,
    slots,
    targets,
)
from consent.outcome import State


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The counts of one import; `rows` and `accepted` are sums that must agree with what was counted apart.

    `discarded` counts the dead ones that someone has decided upon, `stamped` the opt-outs that are unchanged only
    because their time is taken for that of the export; `stamped_at` is that time (microseconds), None if there is none.
    `held` counts those of the pending ones that wait for a person, `fused` those of them that a fuse holds, and
    `findings` is what the guards said. `undone_at` says when it was undone last.
    `reject_reasons` and `dead_reasons` tell each code in words; where one was given for several reasons, one of them.
    """

    import_id: str
    name: str
    state: str
    rows: int
    accepted: int
    rejected: int
    duplicates: int
    applied: int
    unchanged: int
    superseded: int
    dead: int
    pending: int
    calls: int
    started_at: int
    ended_at: int
    stream: bool = False
    discarded: int = 0
    total_lines: int | None = None
    kind: str = "csv"
    stamped: int = 0
    skipped: int = 0
    stamped_at: int | None = None
    reject_codes: Mapping[str, int] = field(default_factory=dict)
    dead_codes: Mapping[str, int] = field(default_factory=dict)
    reject_reasons: Mapping[str, str] = field(default_factory=dict)
    dead_reasons: Mapping[str, str] = field(default_factory=dict)
    withdrawn: int = 0
    held: int = 0
    fused: int = 0
    feed: str | None = None
    findings: Sequence[Mapping[str, Any]] = ()
    undone_at: int | None = None

    @property
    def balanced(self) -> bool:
        """Whether every row read is in exactly one place."""
        settled = self.applied + self.unchanged + self.superseded + self.dead + self.withdrawn
        rows = self.accepted + self.rejected + self.duplicates + self.skipped
        return rows == self.rows and settled + self.pending == self.accepted

    @property
    def is_open(self) -> bool:
        """Whether more may come and what has come is due already: a listener's run, or a stream."""
        return self.stream and self.state == "reading"

    @property
    def is_settled(self) -> bool:
        """Whether it has nothing left to deliver, but what waits for a person."""
        return self.state == "withdrawn" or (self.state == "released" and self.pending == self.held)

    @property
    def sealed(self) -> bool:
        """Whether the import is over: read whole, nothing pending, and every row accounted for."""
        return self.state in {"released", "withdrawn"} and self.pending == 0 and self.balanced

    @property
    def seconds(self) -> float:
        """How long it took, from its first row to its last settled change."""
        return max(0.0, (self.ended_at - self.started_at) / 1_000_000)


@dataclass(frozen=True, slots=True)
class FeedFile:
    """One file of a feed: its import and what its rows were; `started_at` is in microseconds."""

    import_id: str
    name: str
    state: str
    started_at: int
    rows: int
    rejected: int
    skipped: int


class ImportQueries(LedgerPart):
    """Imports, and what is pending."""

    def report(self, import_id: str) -> ImportReport | None:
        """Return what has become of an import, or None if there is no such import."""

        def work(tx: Connection) -> ImportReport | None:
            row = tx.execute(IMPORT, {"its": import_id}).first()
            return None if row is None else _report(tx, row)

        return self.database.read(work, by_key=True)  # else PostgreSQL reads all imports to count a large one

    def recent_imports(self, limit: int = 20) -> list[str]:
        """Return the ids of the newest imports, newest first."""
        query = select(imports.c.id).order_by(imports.c.started_at.desc(), imports.c.id).limit(limit)
        return list(self.database.read(lambda tx: tx.execute(query).scalars().all()))

    def feed_files(self, feed: str, limit: int) -> list[FeedFile]:
        """Return the newest files of a feed, newest first, without looking at their changes."""
        counts = (imports.c.recorded, imports.c.rejected, imports.c.duplicates, imports.c.skipped)
        query = select(imports.c.id, imports.c.name, imports.c.state, imports.c.started_at, *counts)
        newest = query.where(imports.c.feed == feed).order_by(imports.c.started_at.desc(), imports.c.id).limit(limit)
        return [
            FeedFile(
                row.id,
                row.name,
                row.state,
                row.started_at,
                row.recorded + row.rejected + row.duplicates + row.skipped,
                row.rejected,
                row.skipped,
            )
            for row in self.database.read(lambda tx: tx.execute(newest).all())
        ]

    def imports_named(self, beginning: str, limit: int) -> list[str]:
        """Return the imports whose id begins like this, newest first."""
        query = select(imports.c.id).where(imports.c.id.startswith(beginning, autoescape=True))
        ordered = query.order_by(imports.c.started_at.desc(), imports.c.id).limit(limit)
        return list(self.database.read(lambda tx: tx.execute(ordered).scalars().all()))

    def unfinished_imports(self) -> list[str]:
        """Return the imports that still have something to deliver, oldest first.

        Of an import that has not been read whole these are only such as are published as they are read: event sources
        and streams.
        """
        # By way of the customer tasks: of the changes of an import that is over, none needs to be looked at.
        newest = select(slots.c.newest_id).where(slots.c.target_id.in_(select(customer_tasks.c.target_id)))
        waiting = select(changes.c.import_id).where(changes.c.id.in_(newest), changes.c.state == State.PENDING.value)
        published = or_(imports.c.state == "released", and_(imports.c.state == "reading", imports.c.stream == 1))
        unsent = or_(imports.c.state.in_(("read", "merged")), published & imports.c.id.in_(waiting))
        ordered = select(imports.c.id).where(unsent).order_by(imports.c.started_at, imports.c.id)
        return list(self.database.read(lambda tx: tx.execute(ordered).scalars().all()))

    def first_pending(self, import_id: str, since: int) -> int | None:
        """Return the number of an import's first pending change from the number `since` on, None if there is none."""
        pending = changes.c.state == State.PENDING.value
        return self.database.read(lambda tx: first_change(tx, import_id, since - 1, pending))

    def pending_by_bucket(self) -> dict[Bucket, int]:
        """Return how many customer tasks each bucket has left."""
        found: Counter[Bucket] = Counter()
        for connection, bucket, count in self.database.read(lambda tx: tx.execute(_LEFT).all()):
            found[Bucket(connection, bucket)] += count
        return dict(found)

    def buckets_waiting(self, import_id: str) -> dict[Bucket, int]:
        """Return how many pending changes of an import wait in each bucket."""
        place = (targets.c.connection, targets.c.bucket)
        query = (
            select(*place, func.count())
            .join(changes, changes.c.target_id == targets.c.id)
            .where(changes.c.import_id == import_id, changes.c.state == State.PENDING.value)
            .group_by(*place)
        )
        return {Bucket(row[0], row[1]): row[2] for row in self.database.read(lambda tx: tx.execute(query).all())}

    def deaths_since(self, moment: int) -> int:
        """Return how many changes of any import have died since a moment (microseconds) and are dead letters now."""
        query = (
            select(func.count())
            .select_from(dead_letters.join(changes, changes.c.id == dead_letters.c.change_id))
            .where(changes.c.state == State.DEAD.value, changes.c.settled_at >= moment)
        )
        return self.database.read(lambda tx: tx.execute(query).scalar_one())

    def next_try(self, bucket: Bucket) -> int | None:
        """Return when a bucket's next customer is tried again, in microseconds; None if one of them was never tried."""
        facts = (func.min(customer_tasks.c.tries), func.min(customer_tasks.c.next_at))
        mine = (customer_tasks.c.connection == bucket.connection, customer_tasks.c.bucket == bucket.name)
        tries, moment = self.database.read(lambda tx: tx.execute(select(*facts).where(*mine)).one())
        return moment if tries else None

    def in_doubt(self, bucket: Bucket) -> int:
        """Return of how many customers of a bucket a call may still be under way, so that none of them can be tried."""
        mine = (customer_tasks.c.connection == bucket.connection, customer_tasks.c.bucket == bucket.name)
        still = (customer_tasks.c.lease_token == IN_DOUBT, customer_tasks.c.next_at > self.core.now())
        query = select(func.count()).select_from(customer_tasks).where(is_put_off, *mine, *still)
        return self.database.read(lambda tx: tx.execute(query).scalar_one())


def _report(tx: Connection, row: Row[tuple[object, ...]]) -> ImportReport:
    states, latest, letters = _counted(tx, row.id)
    states[_OF_NOOPS.get(row.state, State.PENDING).value] += row.noops
    states[State.PENDING.value] += states[State.HELD.value]
    refusals = tx.execute(_REFUSALS, {"its": row.id}).all()
    return ImportReport(
        import_id=row.id,
        name=row.name,
        state=row.state,
        rows=row.changes + row.skipped,
        accepted=row.recorded,
        rejected=row.rejected,
        duplicates=row.duplicates,
        **(states | held_by_fuses(tx, row.id, states[State.HELD.value])),
        calls=row.calls,
        started_at=row.started_at,
        ended_at=max(latest, row.released_at or 0, row.started_at),
        stream=bool(row.stream),
        discarded=sum(one[4] for one in letters),
        total_lines=row.total_lines,
        kind=row.kind,
        stamped=row.stamped,
        skipped=row.skipped,
        stamped_at=row.export_time_from,
        reject_codes={str(code): count for code, count, *_ in refusals},
        dead_codes={str(code): count for code, count, *_ in letters},
        reject_reasons={str(code): _reason(*some) for code, _, *some in refusals},
        dead_reasons={str(code): _reason(*some) for code, _, *some, _ in letters},
        **_of_guards(row),
    )


_PLACE = (customer_tasks.c.connection, customer_tasks.c.bucket)
# In two halves, each of which an index of its own serves: the table itself need not be read.
_LEFT = union_all(*(select(*_PLACE, func.count()).where(half).group_by(*_PLACE) for half in (is_due, is_put_off)))
_WHY, _MINE, _C = rejects.c.message, changes.c.import_id == bindparam("its"), changes.c
_REFUSALS = select(rejects.c.code, func.count(), func.min(_WHY), func.max(_WHY)).group_by(rejects.c.code)
_REFUSALS = _REFUSALS.where(rejects.c.import_id == bindparam("its"))
_FACTS = (func.count(), func.min(_C.reason), func.max(_C.reason), func.count(_C.discarded_at))
_BY_CODE = select(_C.state, _C.code, func.max(_C.settled_at), *_FACTS).where(_MINE).group_by(_C.state, _C.code)
_BY_STATE = (func.count().filter(_C.state == state.value) for state in State)
_STATES = select(*_BY_STATE, func.max(_C.settled_at)).where(_MINE)
_LETTERS = select(_C.code, *_FACTS).where(_MINE, _C.id.in_(select(dead_letters.c.change_id))).group_by(_C.code)
_LETTERS = _LETTERS.where(_C.state == State.DEAD.value)


def _counted(tx: Connection, import_id: str) -> tuple[dict[str, Any], int, list[Any]]:
    """Return an import's changes by state, when the last of them was settled, and its dead letters by code.

    Of the letters of a code: how many, the first and the last of their reasons, how many were discarded.
    """
    its = {"its": import_id}
    if bulk(tx).hashes_groups:
        states, latest, letters = dict.fromkeys((state.value for state in State), 0), 0, list[Any]()
        for state, code, settled_at, *found in tx.execute(_BY_CODE, its):
            states[state] += found[0]
            latest = max(latest, settled_at or 0)
            letters += [(code, *found)] if state == State.DEAD.value else []
        return states, latest, letters
    *counted, last = tx.execute(_STATES, its).one()
    states = dict(zip((state.value for state in State), counted, strict=True))
    letters = list(tx.execute(_LETTERS, its)) if states[State.DEAD.value] else []
    return states, last or 0, letters


def _of_guards(row: Row[Any]) -> dict[str, Any]:
    return {"feed": row.feed, "findings": json.loads(row.findings or "[]"), "undone_at": row.undone_at}


_OF_NOOPS = {
    "held": State.HELD,
    "withdrawn": State.WITHDRAWN,
    "merged": State.UNCHANGED,
    "released": State.UNCHANGED,
}
"""The state that the no-ops of an import count as; they are pending until it is merged."""


def _reason(first: str | None, last: str | None) -> str:
    """Return the reason that a code was given for, or one of several."""
    return first or "" if first == last else f"{first}, among other reasons"
