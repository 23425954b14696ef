"""Where the ledger holds persons: what refused events said, and every column that may name someone.

To erase a person, or to give a ledger away, go through PERSONAL_COLUMNS.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text

from consent.ledger.intake.watched_files import watched_files
from consent.ledger.queries.suppression import suppression_checks
from consent.ledger.queue.outcome_log import outcome_log
from consent.ledger.schema import (
    audit_log,
    changes,
    circuit_breakers,
    imports,
    metadata,
    noop_changes,
    rejects,
    slots,
    targets,
)

rejected_events = Table(
    "rejected_events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("import_id", Text, nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("dedupe_key", LargeBinary),
    Column("place", Text),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("column_name", Text),
    Column("rejected_at", BigInteger, nullable=False),
    Column("published_at", BigInteger),
    Column("position", Integer, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("closed_as", Text),
    Column("closed_by", Text),
    Column("closed_why", Text),
)
"""What refused events said, for a set time: what was acknowledged is nowhere else.

One row for each change that was refused; `position` is its place in the event that it came in,
`envelope` the event's headers and key as JSON. `size` is in bytes, and
greater than that of `body` where only the beginning was kept. Why it was refused stands here too, because a row of
`rejects` belongs to one import, and the event may come again in another after this one was purged.
"""
Index("ix_rejected_events_dedupe", rejected_events.c.dedupe_key, unique=True)
Index("ix_rejected_events_at", rejected_events.c.rejected_at)

PERSONAL_COLUMNS = (
    targets.c.address,  # always
    rejected_events.c.body,  # always
    rejected_events.c.envelope,  # headers and a message's id: their publisher chooses what stands in them
    rejected_events.c.place,
    rejected_events.c.column_name,  # a field as the sender spells it
    rejected_events.c.closed_by,
    rejected_events.c.closed_why,
    rejects.c.place,
    rejects.c.column_name,
    changes.c.details,  # columns beyond address and slot, such as a free text for the reason
    changes.c.slot,  # resources and users of a webhook, at Infobip and Gupshup
    changes.c.reason,  # the provider's words
    outcome_log.c.reason,
    noop_changes.c.details,
    noop_changes.c.slot,
    slots.c.slot,
    imports.c.name,  # the path of a file
    watched_files.c.place,
    watched_files.c.name,
    watched_files.c.reason,
    circuit_breakers.c.reason,  # the provider's words
    audit_log.c.who,
    audit_log.c.why,
    suppression_checks.c.who,
    suppression_checks.c.source,  # the path of a file
)
"""Every column that may name a person: `address` and `body` do, the others can."""
