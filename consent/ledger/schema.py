"""The ledger's tables.

Persons are named by `targets.address`, and may be by what `personal.py` lists. A target is known again by
`target_key`, a keyed hash; everything else refers to it by its number, which follows the order of arrival: rows that
come together lie together, however large a ledger has become, where hashes would strew them over it.

All `_at` columns are microseconds since 1970-01-01 UTC: exact, and the same on every database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    literal_column,
)

NUMBER = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER numbers itself in SQLite


class Key(LargeBinary):
    """A key as bytes, which both drivers take and give as they are; SQLAlchemy would wrap and copy each."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> None:
        """Hand bytes on."""

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        """Hand bytes on."""


ROOM = {"fillfactor": 50}  # percent: room in each page for a row's next version, which then touches no index

REVISION = "0027"
"""The newest migration, which is the schema described here."""

metadata = MetaData()

info = Table(
    "ledger_info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts about this ledger, among them the key of its hashes."""

_COUNTS = (
    *("records", "line", "changes", "rejects_offset", "recorded", "duplicates", "rejected", "calls"),
    *("merged_to", "noops", "noops_merged_to", "steps", "stamped", "skipped"),
)
imports = Table(
    "imports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("sha256", Text),
    Column("size", BigInteger, nullable=False),
    Column("default_effective_at", BigInteger),
    Column("stream", SmallInteger, nullable=False),
    Column("total_lines", BigInteger),
    Column("state", Text, nullable=False),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in _COUNTS),
    Column("rejects_digest", Text),
    Column("reassert", Text),
    Column("own_times", Text),
    Column("export_time_from", BigInteger),
    Column("export_time_to", BigInteger),
    Column("started_at", BigInteger, nullable=False),
    Column("read_at", BigInteger),
    Column("released_at", BigInteger),
    *(Column(name, Text) for name in ("feed", "guards", "findings", "replaces", "importers")),
    *(Column(name, BigInteger) for name in ("checked_at", "optouts", "undone_at", "optouts_undone_at")),
)
"""One intake: a file, or a run of an event source, with its checkpoint and counts.

`changes` counts what its rows said, `merged_to` and `noops_merged_to` say how far they have been merged. `reassert` is
the way that its command told. `own_times` counts the rows' own times; those from `export_time_from` to `export_time_to`
are the export's, and `stamped` counts the opt-outs that are unchanged for no other reason. `skipped` counts rows that a
feed leaves out. `feed` names what it is compared with, `guards` are its rules, and `checked_at` says since when its
`findings` and new `optouts` are known. It `replaces` one that was undone. `undone_at` says since when its opt-ins are
looked past when another import is undone, `optouts_undone_at` the same of its opt-outs. `importers` are the names of
those whose commands have read it, a line for each.
"""
Index("ix_imports_feed", imports.c.feed, imports.c.started_at)

rejects = Table(
    "rejects",
    metadata,
    Column("import_id", Text, primary_key=True),
    Column("line", BigInteger, primary_key=True),
    Column("column_name", Text),
    *(Column(name, Text, nullable=False) for name in ("code", "message")),
    Column("place", Text),
    Column("dedupe_key", Key),
)
"""Rows and events that could not be understood: where and why, never what they said."""
Index("ix_rejects_dedupe", rejects.c.dedupe_key, unique=True)

targets = Table(
    "targets",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("target_key", Key, nullable=False, unique=True),
    *(Column(name, Text, nullable=False) for name in ("connection", "bucket", "address")),
)
"""Who or what a change is about, as its provider knows it."""

changes = Table(
    "changes",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("dedupe_key", Key, nullable=False),
    Column("import_id", Text, nullable=False),
    Column("line", BigInteger),
    Column("target_id", BigInteger, nullable=False),
    Column("slot", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("effective_at", BigInteger, nullable=False),
    Column("details", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("superseded_by", BigInteger),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("code", Text),
    Column("reason", Text),
    Column("settled_at", BigInteger),
    Column("discarded_at", BigInteger),
    Column("own_time", SmallInteger, nullable=False, server_default="1"),
    *(Column("due_at", BigInteger), Column("rule", Text)),
    postgresql_with=ROOM,
)
"""Every change ever accepted, and what became of it.

Their numbers tell the order of arrival of chunks, and in a chunk that of each target's own; there, targets follow each
other by number, so that what is merged, claimed and settled together lies together. A no-op that turned out to be
none has its number from the moment when it was merged, and what was reassigned the one that it had.

`own_time` is 0 where a row of a file holds since the file's time. An opt-out is due at `due_at`, by this `rule`.

No index holds what becomes of it: each would have to be written again with every change that is settled.
"""
Index("ix_changes_import", changes.c.import_id, changes.c.id)
Index("ix_changes_target", changes.c.target_id, changes.c.dedupe_key, unique=True)

dead_letters = Table("dead_letters", metadata, Column("change_id", NUMBER, primary_key=True, autoincrement=False))
"""The changes that have ever become dead letters; which of them still are, their `state` says."""

noop_changes = Table(
    "noop_changes",
    metadata,
    Column("import_id", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("line", BigInteger),
    Column("dedupe_key", Key, nullable=False),
    Column("target_id", BigInteger, nullable=False),
    Column("slot", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("effective_at", BigInteger, nullable=False),
    Column("details", Text, nullable=False),
    Column("own_time", SmallInteger, nullable=False, server_default="1"),
    *(Column("due_at", BigInteger), Column("rule", Text)),
    sqlite_with_rowid=False,
)
"""Rows of files that said again what their slot's newest change says and the provider holds: no change came of them.

They are part of what the import recorded (`imports.noops`), and unchanged once it is due; `slots.newest_at` tells
since when the newest of them holds. Like the numbers of changes, `number` tells the order of chunks, and in a chunk
that of each target's own.
"""

pending_duplicates = Table(
    "pending_duplicates",
    metadata,
    Column("import_id", Text, primary_key=True),
    Column("change_id", BigInteger, primary_key=True),
    Column("line", BigInteger),
    sqlite_with_rowid=False,
)
"""Changes that an import which has not been read whole keeps back, and that another file says again.

It takes them over once it has been read whole itself, and its notes are gone then.
"""

slots = Table(
    "slots",
    metadata,
    Column("target_id", BigInteger, primary_key=True),
    Column("slot", Text, primary_key=True),
    Column("newest_id", BigInteger, nullable=False),
    Column("newest_at", BigInteger, nullable=False),
    Column("newest_action", Text, nullable=False),
    Column("confirmed", Text),
    Column("newest_key", Key),
    Column("confirmed_at", BigInteger),
    sqlite_with_rowid=False,
    postgresql_with=ROOM,
)
"""The newest change of each slot, what the provider is confirmed to hold, and since when (empty: not known).

`newest_id` is the change that said it first. A no-op moves `newest_at` and `newest_key`, the dedupe key of the newest
of all that said it, and leaves `newest_id` where it is.
"""

customer_tasks = Table(
    "customer_tasks",
    metadata,
    Column("target_id", NUMBER, primary_key=True, autoincrement=False),
    *(Column(name, Text, nullable=False) for name in ("connection", "bucket")),
    Column("lane", SmallInteger, nullable=False),
    *(Column("deadline", BigInteger, nullable=False), Column("rule", Text, nullable=False, server_default="none")),
    Column("waiting", SmallInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("enqueued_at", BigInteger, nullable=False, server_default="0"),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("resend", SmallInteger, nullable=False, server_default="0"),
    Column("lease_token", Text),
)
"""A target with changes to deliver: due (waiting = 1), put off to `next_at` or under lease (0), or held by a fuse (2).

Its `deadline` is that of its opt-out that is due first, by this `rule`; opt-ins have none, and stand in line.
"""
is_due: ColumnElement[bool] = literal_column("waiting = 1")
is_put_off: ColumnElement[bool] = literal_column("waiting = 0")
"""Written out, and not as parameters, so that the two indexes serve the queries that say the same."""
for _name, _state, _order in (("due", is_due, ("lane", "deadline")), ("later", is_put_off, ("next_at",))):
    _columns = (customer_tasks.c[each] for each in ("connection", "bucket", *_order))
    Index(f"ix_customer_tasks_{_name}", *_columns, postgresql_where=_state, sqlite_where=_state)

attempts = Table(
    "attempts",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("target_id", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("milliseconds", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("status", Integer),
    Column("code", Text, nullable=False),
    Column("change_ids", Text, nullable=False),
)
"""Every call made: when, how long, what was answered, for which changes."""
Index("ix_attempts_target", attempts.c.target_id)

circuit_breakers = Table(
    "circuit_breakers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("breaker", Text, nullable=False),
    Column("reason", Text),
    Column("opened_at", BigInteger),
    Column("probe_at", BigInteger),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("trips", Integer, nullable=False, server_default="0"),
    Column("throttled_until", BigInteger, nullable=False, server_default="0"),
    Column("healthy_at", BigInteger),
    *(Column("suspects", Text), Column("served_id", BigInteger)),  # see breakers.BucketHealth
    Column("reserved_until", BigInteger, nullable=False, server_default="0"),
    Column("reserved_by", Text),
)
"""How each bucket is (`name` is the bucket as text): its breaker, and until when its provider asked us to wait.

No call of it has a moment later than `reserved_until`, which was written before any of them could be made, by the
broker `reserved_by`: so the next broker knows when it may begin.
"""

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("holder", "token")),
    Column("until", BigInteger, nullable=False),
)
"""What only one process at a time may do (`name`): which one does (`holder`, for people) and until when it says so."""

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("who", "what", "why")),
    Column("change_id", BigInteger, nullable=False),
    Column("import_id", Text),
)
"""What people did to dead letters and imports: who, what, why. `change_id` is 0 where it was done to an import."""
Index("ix_audit_log_change", audit_log.c.change_id)
Index("ix_audit_log_import", audit_log.c.import_id)
