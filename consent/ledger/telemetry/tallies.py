"""Tallies: counters that stand in the ledger, so that no restart and no second process makes them wrong.

No tally is touched where changes are settled: all workers would wait for its row. A settlement adds one row that says
which calls it made, and what became of changes stands in the outcome log already. `counters.py` adds up what is new.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

import orjson
from sqlalchemy import BigInteger, Column, Connection, Table, Text, select

from consent.ledger.dialects.statements import NEW, bulk
from consent.ledger.queue.tasks import Settlement
from consent.ledger.schema import NUMBER, metadata

tallies = Table(
    "tallies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("labels", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""What has been counted: `labels` is a JSON list of texts. `counted_to` is how far the outcome log has been counted,
`event_optouts_seen_to` the newest change that was looked at for bursts of opt-outs."""

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

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the durations by which calls are counted; longer ones are counted behind the last."""

COUNTED_TO = "counted_to"
SEEN_TO = "event_optouts_seen_to"
READ_TO = "source_read_to"
"""Not counted, but kept beside: a moment for each source of events (`recent.py`)."""
SETTLED_THEN, WAITED_THEN = "settled_then", "waited_then"
"""Tallies of the last two days: the first label is the number of a quarter of an hour since 1970 (`recent.py`)."""

_BOUNDS = tuple(round(1_000 * one) for one in SECONDS)
_THROTTLED = 429


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


def add(tx: Connection, counted: Mapping[tuple[str, tuple[str, ...]], int]) -> None:
    """Add to tallies, by name and labels."""
    rows = [(name, orjson.dumps(labels).decode(), value) for (name, labels), value in sorted(counted.items())]
    renew = "ON CONFLICT (name, labels) DO UPDATE SET value = tallies.value + excluded.value"
    bulk(tx).insert(tallies, ("name", "labels", "value"), rows, renew)


def counted_to(tx: Connection) -> int:
    """Return the position in the outcome log up to which outcomes are in the tallies."""
    return tx.execute(select(tallies.c.value).where(tallies.c.name == COUNTED_TO)).scalar() or 0
