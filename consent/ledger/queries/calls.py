"""What calls were like: the latest ones of each bucket, and the earlier ones for the changes of a customer task."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from sqlalchemy import bindparam, select

from consent.change import Bucket
from consent.ledger.database import LedgerPart
from consent.ledger.queue.tasks import WITNESS, CustomerTask
from consent.ledger.schema import attempts, targets

MOST_ATTEMPTS = 1_000
"""The latest attempts that are looked at, of all buckets together: their ids are in order, so this is soon done."""

_WINDOW = 10_000_000  # microseconds


@dataclass(frozen=True, slots=True)
class RecentCalls:
    """The latest calls of a bucket, as far as they have been settled.

    `seconds` is what the median one took, `failed` the share that got no answer, a 429 or a 5xx, and `newest` when the
    latest one began (microseconds). `per_second` and `under_way`, how many were so at once on average, are None where
    there are too few to tell.
    """

    newest: int
    seconds: float
    failed: float
    per_second: float | None
    under_way: float | None


class Try(NamedTuple):
    """An earlier call for a task's changes: when it was made and answered (microseconds), and with which code."""

    at: int
    answered_at: int
    code: str


class CallQueries(LedgerPart):
    """What calls are like."""

    def recent_calls(self) -> Mapping[Bucket, RecentCalls]:
        """Return what the latest calls of each bucket were like; a bucket without any among the latest is missing."""
        latest = select(attempts).order_by(attempts.c.id.desc()).limit(MOST_ATTEMPTS).subquery()
        query = select(
            targets.c.connection, targets.c.bucket, latest.c.at, latest.c.milliseconds, latest.c.status
        ).join_from(latest, targets, targets.c.id == latest.c.target_id)
        found = defaultdict[Bucket, set[tuple[int, int, int | None]]](set)
        for row in self.database.read(lambda tx: tx.execute(query).all()):
            found[Bucket(row.connection, row.bucket)].add(_call(row))
        return {bucket: _recent(calls) for bucket, calls in found.items()}

    def earlier_tries(self, task: CustomerTask) -> list[Try]:
        """Return the calls that were made for a task's changes and are written down, the oldest first."""
        claimed_ids = {change.id for change in task.changes}
        made = self.database.read(lambda tx: tx.execute(_TRIES, {"whose": task.target_id}).all())
        return sorted(
            Try(at, at + milliseconds * 1_000, code)
            for at, milliseconds, code, ids in made
            if claimed_ids.intersection(orjson.loads(ids))
        )


_FACTS = (attempts.c.at, attempts.c.milliseconds, attempts.c.code, attempts.c.change_ids)
_TRIES = select(*_FACTS).where(attempts.c.target_id == bindparam("whose"), attempts.c.purpose != WITNESS)


def _call(row: Any) -> tuple[int, int, int | None]:
    """Return what tells a call from others: one that carries many targets is an attempt for each of them."""
    return row.at, row.milliseconds, row.status


def _recent(calls: Iterable[tuple[int, int, int | None]]) -> RecentCalls:
    """Sum up the calls of the last seconds before the newest one."""
    newest = max(at for at, _, _ in calls)
    lately = [one for one in calls if one[0] >= newest - _WINDOW]
    span = newest - min(at for at, _, _ in lately)
    per_second = (len(lately) - 1) / span * 1e6 if span else None
    took = [milliseconds / 1_000 for _, milliseconds, _ in lately]
    return RecentCalls(
        newest=newest,
        seconds=statistics.median(took),
        failed=sum(_has_failed(status) for _, _, status in lately) / len(lately),
        per_second=per_second,
        under_way=None if per_second is None else per_second * statistics.fmean(took),  # Little's law
    )


def _has_failed(status: int | None) -> bool:
    return status is None or status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
