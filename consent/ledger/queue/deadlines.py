"""How many customers have which deadline, and how many opt-outs were in time, without a look at the backlog.

Triggers count each customer task in the transaction that writes it, by bucket, lane, rule, and the quarter of an hour
in which it is due. Settling counts each opt-out by the day on which it was delivered (`outcome_log.note_settled`).

On PostgreSQL a transaction writes rows of its own (`entry` is its number): two that settle customers of one cell do not
wait for each other. What a cell holds is the sum of its rows, which the sweep adds up now and then. SQLite has one
writer, and one row for each cell.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Select,
    SmallInteger,
    Table,
    Text,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)

from consent.change import Bucket, Lane
from consent.deadlines.forecast import QUARTER, Cell
from consent.deadlines.rules import HISTORIC, NO_RULE
from consent.ledger.database import LedgerCore, LedgerPart
from consent.ledger.dialects.locks import CountingLock, lock_table
from consent.ledger.dialects.statements import bulk, portions
from consent.ledger.queue.outcome_log import DAY, LATE, MET, deadline_days
from consent.ledger.schema import customer_tasks, metadata

deadline_cells = Table(
    "deadline_cells",
    metadata,
    *(Column(name, Text, primary_key=True) for name in ("connection", "bucket")),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("rule", Text, primary_key=True),
    *(Column(name, BigInteger, primary_key=True, autoincrement=False) for name in ("quarter", "entry")),
    Column("targets", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""The open customer tasks by their deadline, counted by triggers of migration 0020."""

_COMPACTED_SECONDS = 30.0
_COMPACTED_AT_ONCE = 500
_CELL = tuple(deadline_cells.c[name] for name in ("connection", "bucket", "lane", "rule", "quarter"))


@dataclass(frozen=True, slots=True)
class DeadlineRecord:
    """How the opt-outs of a connection by one rule fared that were settled in some days.

    `lengths` counts them by how long that took: see `deadline_days`.
    """

    connection: str
    rule: str
    met: int
    late: int
    historic: int
    lengths: Mapping[int, int]

    def minutes(self, share: float) -> int | None:
        """Return the minutes within which this share of the opt-outs was settled, at most twice too many."""
        left = share * sum(self.lengths.values())
        for length, count in sorted(self.lengths.items()):
            left -= count
            if left <= 0:
                return 1 << length
        return None


class Deadlines(LedgerPart):
    """What stands against which deadline, and what has been."""

    def __init__(self, core: LedgerCore) -> None:
        super().__init__(core)
        self._compacted = float("-inf")

    def open_cells(self) -> dict[Bucket, list[Cell]]:
        """Return the open customers of each bucket by deadline, in the order in which they are claimed."""
        rows = self.database.read(lambda tx: tx.execute(_sums(deadline_cells, _CELL)).all())
        found: dict[Bucket, list[Cell]] = defaultdict(list)
        for connection, bucket, lane, rule, quarter, targets in rows:
            if targets:
                found[Bucket(connection, bucket)].append(Cell(lane, quarter, rule, int(targets)))
        return {bucket: sorted(cells) for bucket, cells in sorted(found.items())}

    def records(self, days: int = 30) -> list[DeadlineRecord]:
        """Return how the opt-outs that were settled today and in the days before fared, by connection and rule."""
        since = self.core.now() // DAY - days + 1
        by = tuple(deadline_days.c[name] for name in ("connection", "rule", "outcome", "length"))
        query = _sums(deadline_days, by).where(deadline_days.c.day >= since)
        outcomes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        lengths: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        for connection, rule, outcome, length, count in self.database.read(lambda tx: tx.execute(query).all()):
            outcomes[connection, rule][outcome] += int(count)
            lengths[connection, rule][length] += int(count)
        return [
            DeadlineRecord(*key, found[MET], found[LATE], found[HISTORIC], dict(lengths[key]))
            for key, found in sorted(outcomes.items())
        ]

    def wrong_cells(self) -> int:
        """Count all customer tasks anew, and return how many cells hold another number: none, unless by a fault."""

        def work(tx: Connection) -> int:
            held = {tuple(key): int(count) for *key, count in tx.execute(_sums(deadline_cells, _CELL)) if count}
            true = {tuple(key): int(count) for *key, count in tx.execute(_counted_anew())}
            return sum(held.get(key) != true.get(key) for key in held.keys() | true.keys())

        return self.database.read(work)

    def rebuild_cells(self) -> None:
        """Count all customer tasks anew; no other transaction writes any meanwhile."""

        def work(tx: Connection) -> None:
            CountingLock.acquire(tx)
            lock_table(tx, customer_tasks)
            rows = [tuple(row) for row in tx.execute(_counted_anew())]
            tx.execute(delete(deadline_cells))
            _add(tx, deadline_cells, _CELL, rows)

        self.database.write(work)

    def compact(self) -> None:
        """Add up the rows of each cell if it is half a minute since the last time; for the sweep."""
        if time.monotonic() - self._compacted < _COMPACTED_SECONDS:
            return
        self._compacted = time.monotonic()
        for table in (deadline_cells, deadline_days):
            *_, entry, amount = table.c
            keys = [column for column in table.primary_key if column is not entry]
            several = or_(func.count() > 1, func.sum(amount) == 0)
            crowded = select(*keys).group_by(*keys).having(several)
            found = self.database.read(lambda tx, asked=crowded: [tuple(row) for row in tx.execute(asked)])  # type: ignore[misc]
            for some in portions(found, _COMPACTED_AT_ONCE):
                self.database.write(lambda tx, table=table, keys=keys, some=some: _compact(tx, table, keys, some))  # type: ignore[misc]


def earliest_deadline(tx: Connection, bucket: Bucket) -> int | None:
    """Return from when on the first opt-out that is open in a bucket is late, at most a quarter of an hour early."""
    mine = (deadline_cells.c.connection == bucket.connection, deadline_cells.c.bucket == bucket.name)
    rows = tx.execute(_sums(deadline_cells, _CELL).where(*mine, deadline_cells.c.lane <= int(Lane.BULK_OPTOUT)))
    return min((quarter * QUARTER for *_, rule, quarter, targets in rows if targets and rule != NO_RULE), default=None)


def _sums(table: Table, by: Sequence[Column[Any]]) -> Select[Any]:
    *_, amount = table.c
    return select(*by, func.sum(amount)).group_by(*by)


def _counted_anew() -> Select[Any]:
    task = customer_tasks.c
    by = (task.connection, task.bucket, task.lane, task.rule, task.deadline.op("/")(text(str(QUARTER))))
    return select(*by, func.count()).group_by(*by)


def _compact(tx: Connection, table: Table, keys: Sequence[Column[Any]], some: Sequence[Sequence[Any]]) -> None:
    """Replace the rows of some cells that are committed by one each; no other transaction changes those."""
    CountingLock.acquire(tx)
    *_, amount = table.c
    gone = delete(table).where(tuple_(*keys).in_(list(some))).returning(*keys, amount)
    sums: Counter[tuple[Any, ...]] = Counter()
    for row in tx.execute(gone):
        sums[tuple(row[:-1])] += row[-1]
    _add(tx, table, keys, [(*key, count) for key, count in sums.items() if count])


def _add(tx: Connection, table: Table, keys: Sequence[Column[Any]], rows: Sequence[Sequence[Any]]) -> None:
    """Insert sums as rows of this transaction."""
    *_, amount = table.c
    names = [*(column.name for column in keys), amount.name]
    if rows:
        entry: ColumnElement[int] = literal_column(bulk(tx).entry)
        tx.execute(insert(table).values(entry=entry), [dict(zip(names, row, strict=True)) for row in rows])
