"""Tallies: counters that stand in the ledger, so that no restart and no second process makes them wrong.

No tally is touched where changes are settled: all workers would wait for its row. A settlement adds one row that says
which calls it made, beside the outcome log, which says what became of changes. `counters.py` adds up what is new.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from sqlalchemy import BigInteger, Column, Connection, Table, Text, select

from consent.ledger.dialects.statements import bulk
from consent.ledger.schema import metadata

tallies = Table(
    "tallies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("labels", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""What has been counted: `labels` is a JSON list of texts. `counted_to` is how far the outcome log has been counted,
`event_optouts_seen_to` the newest change that was looked at for bursts of opt-outs."""

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the durations by which calls are counted; longer ones are counted behind the last."""

HONOUR_SECONDS = (60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 172_800.0, 432_000.0, 864_000.0)
"""Upper bounds of the durations by which honoured opt-outs are counted: a minute to ten days."""

HONOUR_BOUNDS = tuple(round(1_000 * one) for one in HONOUR_SECONDS)
"""The same in milliseconds."""

COUNTED_TO = "counted_to"
SEEN_TO = "event_optouts_seen_to"
READ_TO = "source_read_to"
"""Not counted, but kept beside: a moment for each source of events (`recent.py`)."""
SETTLED_THEN, WAITED_THEN = "settled_then", "waited_then"
"""Tallies of the last two days: the first label is the number of a quarter of an hour since 1970 (`recent.py`)."""


def add(tx: Connection, counted: Mapping[tuple[str, tuple[str, ...]], int]) -> None:
    """Add to tallies, by name and labels."""
    rows = [(name, orjson.dumps(labels).decode(), value) for (name, labels), value in sorted(counted.items())]
    renew = "ON CONFLICT (name, labels) DO UPDATE SET value = tallies.value + excluded.value"
    bulk(tx).insert(tallies, ("name", "labels", "value"), rows, renew)


def counted_to(tx: Connection) -> int:
    """Return the position in the outcome log up to which outcomes are in the tallies."""
    return tx.execute(select(tallies.c.value).where(tallies.c.name == COUNTED_TO)).scalar() or 0
